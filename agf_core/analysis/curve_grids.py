"""The models of `learning_curves`, by profile: what `grids` and `field_grids` lack for it (ours).

The same model and text as everywhere, but at a constant rate (a schedule shapes the curve) after a warm-up so short
that it is over at the first point, with the held-out loss of every byte measured on the way. Models whose forgetting is
measured are those of other chapters. Seeds as in `grids`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agf_core.analysis import field_grids, grids
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

KINDS = ("free", "rotary")  # nobody imposes a law on their positions
RATE = 2e-3  # constant: half of the rate that `grids` tunes for a cosine, whose mean is about half of its peak
WARMUP = 0.01  # of the budget; the first point of a curve lies at 1/64
WORDS = {"smoke": 0, "cpu": 1, "full": 4}  # seeds of models of words whose forgetting is measured
LANGUAGES = ("power:exponent=0", "power:exponent=1", "exponential:rate=0.1")  # of copies; the first: even to 64 back


@dataclass(frozen=True)
class Size:
    """Tokens a run, seeds of each kind, points of a curve, held-out tokens at each."""

    tokens: int
    seeds: int
    points: int
    heldout: int


SIZES = {
    "smoke": Size(16_384, 2, 12, 4_096),
    "cpu": Size(250_000, 2, 24, 16_384),
    "full": Size(800_000, 8, 36, 32_768),
}


def learning(
    profile: str, corpus: str = grids.CORPUS, seed: int = 0, *, rate: float = RATE, split: str = "test"
) -> dict[str, list[RunConfig]]:
    """Kind → runs at a constant rate, one a seed, their held-out losses measured on the way."""
    size, task = SIZES[profile], grids.TASKS["bytes"]
    options: dict[str, dict[str, Any]] = {
        "free": {"encoding": "field", "encoding_options": {"law": "distances", "placement": "logit", "start": "flat",
                                                           "gain": field_grids.GAIN}},
        "rotary": {"encoding": "rotary", "encoding_options": {}},
    }  # fmt: skip
    return {
        kind: [
            RunConfig(
                {**grids.BODY, "context": task.context, **options[kind]}, DataConfig(corpus=corpus),
                TrainConfig(size.tokens, task.batch, rate, seed=s, schedule="constant", warmup=WARMUP),
                split=split, heldout=size.heldout, through=size.points,
            )
            for s in range(seed, seed + size.seeds)
        ]
        for kind in KINDS
    }  # fmt: skip


def forgetting(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Kind → models of text whose forgetting is measured: those of `power_vs_exp` and `accuracy`."""
    few = {"smoke": 1, "cpu": 2}.get(profile)
    return {
        "free, bytes": field_grids.free(profile, "flat", corpus, seed)[:few],
        "rotary, bytes": field_grids.named(profile, "rotary", corpus, seed)[:few],
        "free, words": field_grids.free(profile, "flat", corpus, seed, "words")[: WORDS[profile]],
        "rotary, words": grids.task_runs("words", profile, corpus, seed)["rotary"][: WORDS[profile]],
    }


def echoes(profile: str, seed: int = 0) -> dict[tuple[str, str], list[RunConfig]]:
    """(language, kind) → models of a language of copies, whose retention is known; two of them `power_vs_exp` has."""
    own = "smoke" if profile == "smoke" else "cpu"  # three hundred thousand symbols teach what there is to learn
    like = field_grids.planted(own, "full", seed)["power", 1.0, "flat"][0]
    rotary = {**grids.BODY, "context": like.model["context"], "encoding": "rotary", "encoding_options": {}}
    return {
        (law, kind): [
            replace(like, data=DataConfig("echo", law), model=model, train=replace(like.train, seed=s))
            for s in range(seed, seed + (2 if profile == "full" else 1))
        ]
        for law in LANGUAGES
        for kind, model in (("free", like.model), ("rotary", rotary))
    }  # fmt: skip


def learning_curves(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter trains."""
    return [*grids.flat(learning(profile, corpus, seed)), *grids.flat(forgetting(profile, corpus, seed)),
            *grids.flat(echoes(profile, seed))]  # fmt: skip


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "learning_curves": learning_curves,
    # Its parts, for reference runs made one after the other; the rest are other chapters'.
    "learning_curves-learning": lambda profile: grids.flat(learning(profile)),
    "learning_curves-echoes": lambda profile: grids.flat(echoes(profile)),
}
