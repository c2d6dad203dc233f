"""Which models each profile trains: one table, shared by every chapter that needs trained models (ours).

A chapter names its runs here and finds their records through `runs.Store`; two chapters that ask for the same
configuration share the run. Seeds: 0 … are confirmatory and measured on the test documents; 1000 … tune the learning
rate and 2000 … are pilots, both measured on the valid documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agf_core.attention import PLACEMENTS
from agf_core.encodings import ENCODINGS, options
from agf_core.runs import Record, RunConfig, reference_runs
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

CORPUS = "brown"
BODY = {"dim": 64, "layers": 2, "heads": 4}
PREVAILING = ("sinusoidal", "learned", "rotary", "alibi", "t5")  # what A2 compares with
SIX = (*PREVAILING, "agf")  # also on words, tags and the synthetic tasks
CONFIRMATORY = (*SIX, "kerple_log", "untied")  # whatever carries a verdict of A1 or A2
FIELD_ONLY = "field only"  # AGF's field without association: what full attention must beat
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
RATE = 4e-3  # where nothing was tuned: the cells of the plane, and whatever has no tuning run stored
TUNING = {"bytes": (800_000, (1000, 1001)), "words": (250_000, (1000,))}  # tokens a run, seeds
PLANE_LAWS = ("power", "exponential", "stretched_exponential", "table", "mlp")
LENGTHS = (1, 2, 4, 8, 16)  # multiples of the training length
TAGGED = ("brown", "treebank", "generated")  # texts that come with word classes


@dataclass(frozen=True)
class Task:
    """One kind of data with the model and the batch that suit it; `words` and `tags` share a tuned rate.

    rate: one for all encodings, where those tuned on a text do not carry over.
    """

    data: dict[str, Any]
    context: int
    batch: int
    tuned_on: str
    rate: float | None = None


TASKS = {
    "bytes": Task({"kind": "bytes"}, 128, 4, "bytes"),
    "words": Task({"kind": "words"}, 64, 8, "words"),
    "tags": Task({"kind": "tags"}, 64, 8, "words"),
    # At the rates that suit bytes nobody learns it in 0.8 M tokens, at a quarter of them some seeds do (see the log).
    "recall": Task({"kind": "recall", "corpus": "", "pairs": 3, "symbols": 8}, 32, 16, "bytes", rate=1e-3),
    "copy": Task({"kind": "copy", "corpus": "", "symbols": 4}, 64, 16, "bytes"),
}


@dataclass(frozen=True)
class Size:
    """What a profile trains: tokens a run on each task, seeds of what carries a verdict, of the rest, of the plane."""

    tokens: dict[str, int]
    confirmatory: int
    others: int
    plane: int
    heldout: int = 65_536


SIZES = {
    "smoke": Size(
        {"bytes": 16_384, "words": 4_096, "tags": 4_096, "recall": 8_192, "copy": 8_192, "plane": 8_192},
        confirmatory=2, others=1, plane=1, heldout=4_096,
    ),
    "cpu": Size(
        {"bytes": 800_000, "words": 200_000, "tags": 150_000, "recall": 200_000, "copy": 200_000, "plane": 150_000},
        confirmatory=3, others=1, plane=1, heldout=32_768,
    ),
    "full": Size(
        {"bytes": 1_200_000, "words": 300_000, "tags": 200_000, "recall": 800_000, "copy": 600_000,
         "plane": 500_000},
        confirmatory=8, others=3, plane=2,
    ),
}  # fmt: skip


def configuration(
    encoding: str,
    task: str,
    tokens: int,
    seed: int,
    *,
    rate: float | None = None,
    start: str = "matched",
    corpus: str = CORPUS,
    heldout: int = 65_536,
    split: str = "test",
    lengths: tuple[int, ...] = (1,),
    **encoding_options: Any,
) -> RunConfig:
    """One run of the chapter: a named encoding (or `FIELD_ONLY`) on a task; `rate` None: the tuned one."""
    about = TASKS[task]
    name = "agf" if encoding == FIELD_ONLY else encoding
    own = options(name, encoding_options.get("law", ""))
    given = {**({"start": start} if "start" in own else {}), **encoding_options}
    if task == "tags" and "directional" in own:
        given["directional"] = True  # an encoder looks both ways
    model = {**BODY, "context": about.context, "encoding": name, "encoding_options": given}
    if encoding == FIELD_ONLY:
        model["association"] = False
    data = DataConfig(**{**about.data, **({"corpus": corpus} if "corpus" not in about.data else {})})
    if rate is None:
        rate = about.rate or tuned_rate(name, task, start)
    train = TrainConfig(tokens, about.batch, rate, seed=seed)
    return RunConfig(model, data, train, split=split, heldout=heldout, lengths=lengths)


def has_start(encoding: str) -> bool:
    """Whether an encoding's published start is another than the matched one."""
    return encoding in ENCODINGS and "start" in options(encoding) and not encoding.startswith("agf")


def tuning(task: str) -> dict[tuple[str, str, float], list[RunConfig]]:
    """(encoding, start, rate) → the runs that tune it: the same rates, seeds and budget for all.

    A prevailing encoding that can start otherwise than AGF is tuned from both starts, and has its better one.
    """
    tokens, seeds = TUNING[task]
    names = tuple(ENCODINGS) if task == "bytes" else SIX
    both = [(n, "matched") for n in names] + [(n, "published") for n in names if n in PREVAILING and has_start(n)]
    return {
        (name, start, rate): [
            configuration(name, task, tokens, seed, rate=rate, start=start, split="valid") for seed in seeds
        ]
        for name, start in both
        for rate in RATES
    }


@lru_cache(maxsize=4)
def tuned(task: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(encoding, start) → (mean held-out loss, rate) of its best rate, where all tuning runs are stored."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for (name, start, rate), configs in tuning(task).items():
        records = [r for c in configs if (r := reference_runs().get(c.id))]
        loss = sum(map(_loss, records)) / max(1, len(records))
        if len(records) == len(configs) and loss < float("inf"):
            best[name, start] = min(best.get((name, start), (float("inf"), RATE)), (loss, rate))
    return best


def tuned_rate(encoding: str, task: str, start: str = "matched") -> float:
    """The best rate of the stored tuning runs; an encoding not tuned from this start takes that of the matched one."""
    found = tuned(TASKS[task].tuned_on)
    return found.get((encoding, start), found.get((encoding, "matched"), (0.0, RATE)))[1]


def chosen_start(encoding: str, task: str) -> str:
    """ "matched" or "published": whichever was better in the tuning runs; the one that enters claim A2."""
    found = tuned(TASKS[task].tuned_on)
    return min(
        ((loss, start) for (name, start), (loss, _) in found.items() if name == encoding), default=(0, "matched")
    )[1]


def _loss(record: Record) -> float:
    if record["status"] != "ok":
        return float("inf")
    return float(record["measured"][str(record["config"]["model"]["context"])]["loss"])


def bytes_runs(profile: str, corpus: str = CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Every encoding on bytes from matched starts, and AGF's field alone: name → one run a seed.

    Whatever enters a claim has all seeds; the rest, and a start that was not chosen, fewer.
    """
    found = {}
    for name in (*CONFIRMATORY, FIELD_ONLY, *(e for e in ENCODINGS if e not in CONFIRMATORY)):
        first = name in (*CONFIRMATORY, FIELD_ONLY) and chosen_start(name, "bytes") == "matched"
        found[name] = _runs(profile, name, "bytes", seed, corpus, first, lengths=LENGTHS)
    return found


def published_runs(profile: str, corpus: str = CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Encodings on bytes from their published starts, where these are others than the matched ones."""
    found = {}
    for name in filter(has_start, ENCODINGS):
        first = name in PREVAILING and chosen_start(name, "bytes") == "published"
        found[name] = _runs(profile, name, "bytes", seed, corpus, first, start="published", lengths=LENGTHS)
    return found


def task_runs(task: str, profile: str, corpus: str = CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """The six on words, tags, recall or copy, each from its chosen start: name → one run a seed.

    Nothing on tags for a text that has none.
    """
    if task == "tags" and corpus.partition(":")[0] not in TAGGED:
        return {}
    return {n: _runs(profile, n, task, seed, corpus, task == "words", start=chosen_start(n, task)) for n in SIX}


def _runs(
    profile: str, encoding: str, task: str, seed: int, corpus: str, confirmatory: bool, **options: Any
) -> list[RunConfig]:
    size = SIZES[profile]
    seeds = range(seed, seed + (size.confirmatory if confirmatory else size.others))
    tokens, heldout = size.tokens[task], size.heldout
    return [configuration(encoding, task, tokens, s, corpus=corpus, heldout=heldout, **options) for s in seeds]


def plane_runs(profile: str, corpus: str = CORPUS, seed: int = 0) -> dict[tuple[str, str, bool], list[RunConfig]]:
    """(law, placement, trainable) → runs on bytes, all from matched starts and at one learning rate."""
    size, cells = SIZES[profile], {}
    for law in PLANE_LAWS:
        for placement in PLACEMENTS:
            for trainable in (True, False):
                cell: dict[str, Any] = {"law": law, "placement": placement, "trainable": trainable}
                cells[law, placement, trainable] = [
                    configuration("field", "bytes", size.tokens["plane"], s, rate=RATE, corpus=corpus,
                                  heldout=size.heldout, **cell)
                    for s in range(seed, seed + size.plane)
                ]  # fmt: skip
    return cells


def flat(grid: Mapping[Any, list[RunConfig]]) -> list[RunConfig]:
    return [config for configs in grid.values() for config in configs]


def accuracy(profile: str, corpus: str = CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter reads, but for the tuning."""
    tasks = [c for task in TASKS if task != "bytes" for c in flat(task_runs(task, profile, corpus, seed))]
    rest = [*flat(published_runs(profile, corpus, seed)), *flat(plane_runs(profile, corpus, seed))]
    return [*flat(bytes_runs(profile, corpus, seed)), *tasks, *rest]


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "accuracy": accuracy,
    # Its parts, for reference runs made one after the other.
    "accuracy-tuning-bytes": lambda profile: flat(tuning("bytes")),
    "accuracy-tuning-words": lambda profile: flat(tuning("words")),
    "accuracy-bytes": lambda profile: flat(bytes_runs(profile)),
    "accuracy-words": lambda profile: flat(task_runs("words", profile)),
    "accuracy-tasks": lambda profile: [c for t in ("tags", "recall", "copy") for c in flat(task_runs(t, profile))],
    "accuracy-published": lambda profile: flat(published_runs(profile)),
    "accuracy-plane": lambda profile: flat(plane_runs(profile)),
}
