"""The models of `decomposition` and `power_vs_exp`, by profile: what `grids` lacks for them (ours).

Free fields (one number a distance, from a flat and a steep start), models without a field, models stopped on the way,
free fields on languages with a planted law, and free fields on texts whole and broken. Seeds as in `grids`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agf_core.analysis import grids
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

FREE = ("flat", "steep")  # where a free field starts; what both come to is the data's doing
WITHOUT = ("rotary", "nope")  # no field of their own: whatever falls with distance was learned
ABSOLUTE = ("learned", "sinusoidal")  # position added to meaning: the four terms
DECOUPLED = ("agf", "t5", "untied")
OTHERS = 3  # seeds of what is only shown
PLANTED = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # exponents of the planted languages
RATES = (0.1, 0.3)  # of the exponential controls
READERS: dict[str, dict[str, Any]] = {  # who reads a planted language
    "field only": {"layers": 1, "heads": 1, "association": False},
    "full": {"layers": 2, "heads": 4},
}
TEXTS = ("brown", "inaugural", "state_union", "shakespeare", "genesis")
BREAKS = ("", "shuffled:order:", "shuffled:sentences:", "shuffled:words:")  # from whole to least whole
GAIN = 10.0  # of a free table: at gain 1, Adam's steps could not carry it from a flat start to where it belongs
STOPS = (8, 4, 2, 1)  # shares of the budget at which a model is looked at: 1/8 … 1


@dataclass(frozen=True)
class Size:
    """Tokens a run and seeds: of heads' models, planted languages (by reader), texts, words, models on the way."""

    heads: tuple[int, int]
    planted: dict[str, tuple[int, int]]
    texts: tuple[int, int]
    words: tuple[int, int]
    stopped: tuple[int, int]


SIZES = {
    "smoke": Size((16_384, 2), {"field only": (16_384, 1), "full": (8_192, 1)}, (8_192, 1), (4_096, 1), (8_192, 1)),
    "cpu": Size(
        (400_000, 2), {"field only": (200_000, 2), "full": (300_000, 1)}, (300_000, 1), (100_000, 1), (400_000, 1)
    ),
    "full": Size(
        (1_200_000, 8), {"field only": (600_000, 8), "full": (900_000, 8)}, (900_000, 2), (300_000, 4), (1_200_000, 3)
    ),
}


def free(profile: str, start: str, corpus: str = grids.CORPUS, seed: int = 0, task: str = "bytes") -> list[RunConfig]:
    """Two-layer models with a free field from one start, one a seed."""
    tokens, seeds = SIZES[profile].heads if task == "bytes" else SIZES[profile].words
    heldout = grids.SIZES[profile].heldout
    return [
        grids.configuration("field", task, tokens, s, rate=grids.RATE, corpus=corpus, heldout=heldout,
                            law="distances", placement="logit", start=start, gain=GAIN)
        for s in range(seed, seed + seeds)
    ]  # fmt: skip


def named(profile: str, encoding: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """Models with an encoding of `ENCODINGS`, those of `accuracy` first: they are trained already."""
    shared = grids.bytes_runs(profile, corpus, seed)[encoding]
    wanted = SIZES[profile].heads[1] if encoding in (*WITHOUT, *ABSOLUTE[:1]) else min(OTHERS, len(shared))
    more = range(seed + len(shared), seed + wanted)
    return [*shared[:wanted], *(replace(shared[0], train=replace(shared[0].train, seed=s)) for s in more)]


def stopped(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[int, list[RunConfig]]:
    """`learned` at a constant rate, stopped at 1/8 … 1 of the budget: the same training, looked at on its way."""
    tokens, seeds = SIZES[profile].stopped
    rate = grids.tuned_rate("learned", "bytes")
    task = grids.TASKS["bytes"]
    model = {**grids.BODY, "context": task.context, "encoding": "learned", "encoding_options": {}}
    return {
        tokens // part: [
            RunConfig(model, DataConfig(corpus=corpus),
                      TrainConfig(tokens // part, task.batch, rate, seed=s, schedule="constant"),
                      heldout=grids.SIZES[profile].heldout)
            for s in range(seed, seed + seeds)
        ]
        for part in STOPS
    }  # fmt: skip


def _reader(reader: str, start: str) -> dict[str, Any]:
    options = {"law": "distances", "placement": "logit", "start": start, "gain": GAIN}
    return {**grids.BODY, "context": grids.TASKS["bytes"].context, "encoding": "field",
            "encoding_options": options, **READERS[reader]}  # fmt: skip


def planted(profile: str, reader: str, seed: int = 0) -> dict[tuple[str, float, str], list[RunConfig]]:
    """(law, exponent or rate, start) → free-field models of a language with that law; few seeds from a steep start."""
    tokens, count = SIZES[profile].planted[reader]
    laws = [("power", "exponent", v) for v in PLANTED] + [("exponential", "rate", v) for v in RATES]
    return {
        (law, value, start): [
            RunConfig(_reader(reader, start), DataConfig("echo", f"{law}:{name}={value:g}"),
                      TrainConfig(tokens, 8, grids.RATE, seed=s), heldout=grids.SIZES[profile].heldout)
            for s in range(seed, seed + seeds)
        ]
        for law, name, value in laws
        for start, seeds in ((FREE[0], count), (FREE[1], -(-count // 4) if count > 1 else 0))
        if seeds
    }  # fmt: skip


def texts(profile: str, seed: int = 0) -> dict[tuple[str, str, str], list[RunConfig]]:
    """(text, how it is broken, start) → one-layer field-only models of it; from a steep start only of whole texts."""
    tokens, seeds = SIZES[profile].texts
    return {
        (text, broken, start): [
            RunConfig(_reader("field only", start), DataConfig("bytes", f"{broken}{text}"),
                      TrainConfig(tokens, grids.TASKS["bytes"].batch, grids.RATE, seed=s),
                      heldout=grids.SIZES[profile].heldout)
            for s in range(seed, seed + seeds)
        ]
        for text in (TEXTS[:2] if profile == "smoke" else TEXTS)
        for broken in BREAKS
        for start in (FREE if not broken else FREE[:1])
    }  # fmt: skip


def _of(encodings: tuple[str, ...]) -> Callable[[str], list[RunConfig]]:
    return lambda profile: [c for e in encodings for c in named(profile, e)]


def _free(profile: str) -> list[RunConfig]:
    return [c for start in FREE for c in free(profile, start)]


def _words(profile: str) -> list[RunConfig]:
    return [c for start in FREE for c in free(profile, start, task="words")]


def decomposition(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter measures."""
    return [*(c for e in (*ABSOLUTE, *WITHOUT, *DECOUPLED) for c in named(profile, e, corpus, seed)),
            *(c for start in FREE for c in free(profile, start, corpus, seed)),
            *grids.flat(stopped(profile, corpus, seed))]  # fmt: skip


def power_vs_exp(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter measures."""
    heads = [*(c for e in WITHOUT for c in named(profile, e, corpus, seed)),
             *(c for start in FREE for c in free(profile, start, corpus, seed))]  # fmt: skip
    on_words = [c for start in FREE for c in free(profile, start, corpus, seed, "words")]
    languages = [c for reader in READERS for c in grids.flat(planted(profile, reader, seed))]
    return [*heads, *on_words, *languages, *grids.flat(texts(profile, seed))]


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "decomposition": decomposition,
    "power_vs_exp": power_vs_exp,
    # Their parts, for reference runs made one after the other.
    "field-free": _free,
    "field-words": _words,
    "field-without": _of(WITHOUT),
    "field-absolute": _of(ABSOLUTE),
    "field-decoupled": _of(DECOUPLED),
    "field-stopped": lambda profile: grids.flat(stopped(profile)),
    "field-planted": lambda profile: grids.flat(planted(profile, "field only")),
    "field-planted-full": lambda profile: grids.flat(planted(profile, "full")),
    "field-texts": lambda profile: grids.flat(texts(profile)),
}
