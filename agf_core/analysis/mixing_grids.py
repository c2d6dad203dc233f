"""The models of `encoding_walk`: full attention, and mixing that does not look at the data, retrained (ours).

Bytes: AGF with association and without at three sizes (2 layers of 64 are `grids`' own runs), and at 2 x 64 four other
ways of mixing without association, and none at all; free fields with association are `field_grids`' own.
Multi-query recall: the same ways at the width that decides, AGF with association and without at the other two.
Random tokens: symbols drawn independently, of which no mixing can make anything.
Seeds as in `grids`. Every model of a size has the same parameters but for its field's own (`pairs`: one number for each
pair of positions); without association those of queries and keys stay, unused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agf_core.analysis import field_grids, grids
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

FULL, FIELD = "agf", grids.FIELD_ONLY
DIMS = (32, 64, 128)
MIXINGS: dict[str, dict[str, Any]] = {  # name → encoding and options; all but the first without association
    FULL: {"encoding": "agf", "encoding_options": {"start": "matched"}},
    FIELD: {"encoding": "agf", "encoding_options": {"start": "matched"}},
    "exponential": {"encoding": "field", "encoding_options": {"law": "exponential", "placement": "logit"}},
    "free": {"encoding": "field", "encoding_options": {"law": "distances", "placement": "logit", "start": "steep",
                                                       "gain": field_grids.GAIN}},
    "pairs": {"encoding": "field", "encoding_options": {"law": "pairs", "placement": "logit", "start": "steep",
                                                        "gain": field_grids.GAIN}},
    "uniform": {"encoding": "nope", "encoding_options": {}},
    # log g = -50 at distance 1: a position is left with itself.
    "none": {"encoding": "field", "encoding_options": {"law": "exponential", "placement": "logit", "rate": 50.0,
                                                       "trainable": False}},
}  # fmt: skip
OTHERS = tuple(MIXINGS)[2:]
FREE_FULL = "free, full"  # a free field with association, of `field_grids`: what "free" lacks, beside what AGF's lacks
TASK = DataConfig("recall", "", pairs=3, symbols=8)  # four pairs of sixteen symbols are not learned in 4 M tokens
# Multi-query recall: at this rate all pilots of width 64 or more learned it, of 32 one in three; at twice it few (log).
CONTEXT, BATCH, RATE = 32, 16, 5e-4
RANDOM = ("hmm:states=1:concentration=0.2", 64)  # a source with one state has no memory; and its symbols
RANDOM_TOKENS, RANDOM_NAMES = 300_000, (FULL, FIELD, "uniform")
WIDTH = 128  # of the models that decide on multi-query recall; the other widths of DIMS stand beside them


@dataclass(frozen=True)
class Size:
    """Seeds of recall (on bytes, where a verdict is carried: `grids`' own), of the other sizes on bytes, of the other
    mixings, of free fields; tokens of recall; widths on bytes; mixings."""

    recalls: int
    sizes: int
    others: int
    free: int
    recall: int
    dims: tuple[int, ...] = DIMS
    mixings: tuple[str, ...] = OTHERS


SIZES = {
    "smoke": Size(1, 1, 1, 1, 8_192, (32, 64), ("free", "uniform", "none")),
    "cpu": Size(1, 1, 1, 1, 400_000, (16, 32, 64), ("exponential", "uniform", "none")),
    "full": Size(8, 4, 3, 8, 600_000),
}


def on_bytes(profile: str, dim: int, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Mixing → one run a seed at 2 x `dim`: full and field alone at every size, the others at 2 x 64 only."""
    size, body = SIZES[profile], dim == grids.BODY["dim"]
    if body:
        shared = grids.bytes_runs(profile, corpus, seed)
        found = {name: shared[name] for name in (FULL, FIELD)}
        if profile == "full":  # in the others, free fields are trained for less long
            found[FREE_FULL] = field_grids.free(profile, "steep", corpus, seed)[: size.free]
        count = dict.fromkeys(size.mixings, size.others) | ({"free": size.free} if "free" in size.mixings else {})
        return found | {n: [_bytes(profile, n, dim, s, corpus) for s in range(seed, seed + c)]
                        for n, c in count.items()}  # fmt: skip
    seeds = range(seed, seed + size.sizes)
    return {n: [_bytes(profile, n, dim, s, corpus) for s in seeds] for n in (FULL, FIELD)}


def _bytes(profile: str, name: str, dim: int, seed: int, corpus: str) -> RunConfig:
    task, size = grids.TASKS["bytes"], grids.SIZES[profile]
    train = TrainConfig(size.tokens["bytes"], task.batch, grids.tuned_rate("agf", "bytes"), seed=seed)
    return RunConfig(_model(name, task.context, dim), DataConfig(corpus=corpus), train, heldout=size.heldout)


def _model(name: str, context: int, dim: int) -> dict[str, Any]:
    alone = {} if name == FULL else {"association": False}
    return {**grids.BODY, "dim": dim, "context": context, **MIXINGS[name], **alone}


def on_recall(profile: str, dim: int = WIDTH, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Mixing → runs of multi-query recall at 2 x `dim`: full and field alone at every width, the others at WIDTH."""
    size = SIZES[profile]
    seeds = dict.fromkeys((FULL, FIELD), size.recalls)
    if profile == "full" and dim == WIDTH:  # the other ways are shown by the reference runs alone
        seeds |= dict.fromkeys(size.mixings, size.others)
    return {
        name: [
            RunConfig(_model(name, CONTEXT, dim), TASK, TrainConfig(size.recall, BATCH, RATE, seed=s),
                      heldout=min(32_768, grids.SIZES[profile].heldout))
            for s in range(seed, seed + count)
        ]
        for name, count in seeds.items()
    }  # fmt: skip


def sizes(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[int, dict[str, list[RunConfig]]]:
    """Width → mixing → runs on bytes."""
    return {dim: on_bytes(profile, dim, corpus, seed) for dim in SIZES[profile].dims}


def on_random(profile: str, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Mixing → runs on random tokens, every seed another source; a control that the reference runs alone show."""
    if profile != "full":
        return {}
    (spec, symbols), task, rate = RANDOM, grids.TASKS["bytes"], grids.tuned_rate("agf", "bytes")
    return {
        name: [
            RunConfig(_model(name, task.context, grids.BODY["dim"]),
                      DataConfig("hidden", f"{spec}:seed={s}", symbols=symbols),
                      TrainConfig(RANDOM_TOKENS, task.batch, rate, seed=s), heldout=grids.SIZES[profile].heldout)
            for s in range(seed, seed + SIZES[profile].others)
        ]
        for name in RANDOM_NAMES
    }  # fmt: skip


def recalls(profile: str, seed: int = 0) -> list[RunConfig]:
    """Every run of multi-query recall."""
    return [c for dim in DIMS for c in grids.flat(on_recall(profile, dim, seed))]


def encoding_walk(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter measures, but for the model with rotary positions, which `accuracy` has."""
    return [*(c for grid in sizes(profile, corpus, seed).values() for c in grids.flat(grid)),
            *recalls(profile, seed), *grids.flat(on_random(profile, seed)), *rotary(profile, corpus, seed)]  # fmt: skip


def rotary(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """Models without a field, of `accuracy`, whose attention is replaced beside AGF's."""
    return grids.bytes_runs(profile, corpus, seed)["rotary"][: 3 if profile == "full" else 1]


def _others(profile: str) -> list[RunConfig]:
    return [c for n, configs in on_bytes(profile, grids.BODY["dim"]).items() if n in OTHERS for c in configs]


def _measured(profile: str) -> list[RunConfig]:
    """Models of `accuracy` whose weights are needed where something is measured from them."""
    return [*on_bytes(profile, grids.BODY["dim"])[FULL], *rotary(profile)]


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "encoding_walk": encoding_walk,
    "encoding_walk-weights": _measured,
    # Its parts, for reference runs made one after the other; those at 2 x 64 of accuracy-bytes belong to it, too.
    "walk-sizes": lambda profile: [c for d in SIZES[profile].dims if d != grids.BODY["dim"]
                                   for c in grids.flat(on_bytes(profile, d))],
    "walk-mixings": _others,
    "walk-recall": recalls,
    "walk-random": lambda profile: grids.flat(on_random(profile)),
}  # fmt: skip
