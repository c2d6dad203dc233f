"""The models of the chapter `paths`, by profile: of known sources, of finitely many tasks, and of words (ours).

Every seed of a known source, or of a pool of tasks, is another source or pool of its kind: what a verdict rests on is
not one lucky draw. Seeds as in `grids`. The tied models of words are those of `accuracy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agf_core.analysis import atlas_grids, grids
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

SOURCES = {"hmm": ("hmm:states=16:concentration=0.05", 8), "brackets": ("brackets:depth=4", 6)}  # and symbols
CONTEXT, BATCH = 64, 8
KNOWN_BODY = {**grids.BODY, "context": CONTEXT, "encoding": "agf", "encoding_options": {"start": "matched"}}
THROUGH = 8  # times at which the loss of a known source is noted while a model learns it
POOLS = (2, 8, 32, 128, 512)  # tasks in the pool
ENDLESS = 0  # a new task for every sequence
TASK_SYMBOLS, TASK_BATCH = 8, 16
TASK_BODY = {**KNOWN_BODY, "dim": 32, "layers": 1}
MARKOV = "chain:tasks=1"  # a first-order source: the walk of its model should need no memory
OTHERS = 3  # seeds of what is only shown


@dataclass(frozen=True)
class Size:
    """Tokens a run of a known source and of a pool of tasks, seeds of all, pools, held-out tokens."""

    known: int
    tasks: int
    seeds: int
    pools: tuple[int, ...] = POOLS
    heldout: int = 16_384


SIZES = {
    "smoke": Size(8_192, 8_192, 1, (2, 32), 4_096),
    "cpu": Size(300_000, 300_000, 1),
    "full": Size(800_000, 400_000, 8),
}


def known(profile: str, kind: str, seed: int = 0) -> list[RunConfig]:
    """Models of a known source of `SOURCES`, one source a seed."""
    size, (spec, symbols) = SIZES[profile], SOURCES[kind]
    return [
        RunConfig(KNOWN_BODY, DataConfig("hidden", f"{spec}:seed={s}", symbols=symbols),
                  TrainConfig(size.known, BATCH, grids.RATE, seed=s), heldout=size.heldout, through=THROUGH)
        for s in range(seed, seed + size.seeds)
    ]  # fmt: skip


def pool(profile: str, tasks: int, seed: int = 0) -> list[RunConfig]:
    """Models pre-trained on so many tasks, one pool a seed; `ENDLESS` has fewer seeds, for it is only shown."""
    size = SIZES[profile]
    count = min(size.seeds, OTHERS) if tasks == ENDLESS else size.seeds
    return [
        RunConfig(TASK_BODY, DataConfig("tasks", f"urn:tasks={tasks}:seed={s}", symbols=TASK_SYMBOLS),
                  TrainConfig(size.tasks, TASK_BATCH, grids.RATE, seed=s), heldout=size.heldout)
        for s in range(seed, seed + count)
    ]  # fmt: skip


def pools(profile: str, seed: int = 0) -> dict[int, list[RunConfig]]:
    """Tasks in the pool → models; `ENDLESS` last."""
    return {tasks: pool(profile, tasks, seed) for tasks in (*SIZES[profile].pools, ENDLESS)}


def markov(profile: str, seed: int = 0) -> list[RunConfig]:
    """Models of a first-order Markov source, one source a seed."""
    size = SIZES[profile]
    return [
        RunConfig(KNOWN_BODY, DataConfig("tasks", f"{MARKOV}:seed={s}", symbols=TASK_SYMBOLS),
                  TrainConfig(size.tasks, BATCH, grids.RATE, seed=s), split="valid", heldout=size.heldout)
        for s in range(seed, seed + min(size.seeds, OTHERS))
    ]  # fmt: skip


def tied(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """Models of words whose context vectors meet the embeddings: those of `accuracy`, the first of them in `cpu`."""
    return grids.task_runs("words", profile, corpus, seed)["agf"][: SIZES[profile].seeds]


def untied(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """The same with output vectors of their own."""
    return [replace(c, model={**c.model, "tied": False}) for c in tied(profile, corpus, seed)]


def words(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Both kinds of models of words."""
    return {"tied": tied(profile, corpus, seed), "untied": untied(profile, corpus, seed)}


def paths(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter reads."""
    sources = [c for kind in SOURCES for c in known(profile, kind, seed)]
    return [*sources, *grids.flat(pools(profile, seed)), *markov(profile, seed),
            *grids.flat(words(profile, corpus, seed))]  # fmt: skip


def profile_of(config: RunConfig) -> str:
    """The profile that asks for so long a run; `full` for one of another length."""
    for profile, size in SIZES.items():
        tokens = {"words": grids.SIZES[profile].tokens["words"], "hidden": size.known, "tasks": size.tasks}
        if tokens.get(config.data.kind) == config.train.tokens:
            return profile
    return "full"


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "paths": lambda profile: [*paths(profile), atlas_grids.configuration(profile)],
    # Its parts, for reference runs made one after the other; the tied models of words are stored with accuracy-words.
    "paths-known": lambda profile: [c for kind in SOURCES for c in known(profile, kind)],
    "paths-tasks": lambda profile: [*grids.flat(pools(profile)), *markov(profile)],
    "paths-untied": untied,
}
