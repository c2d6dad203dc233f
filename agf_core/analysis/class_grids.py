"""The models of `parts_of_speech`, by profile: what `grids` and `field_grids` lack for it (ours).

Word models of three kinds, two with a free field and one with rotary positions, on the chapter's text, where `accuracy`
and `power_vs_exp` train them too, and on a second one; and the taggers of `accuracy`. None of them carries a verdict.
"""

from __future__ import annotations

from collections.abc import Callable

from agf_core.analysis import field_grids, grids
from agf_core.runs import RunConfig

KINDS = (*field_grids.FREE, "rotary")  # a free field from two starts, and positions that are no field
SECOND = {"treebank": "brown"}  # of every other text it is the Treebank
SEEDS = {"smoke": 1, "cpu": 1, "full": 3}  # at most, of each kind, on the second text


def second(corpus: str) -> str:
    """The second text beside `corpus`."""
    return SECOND.get(corpus, "treebank")


def words(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Kind → the chapter's word models on `corpus`, one a seed."""
    free = {start: field_grids.free(profile, start, corpus, seed, "words") for start in field_grids.FREE}
    return {**free, "rotary": grids.task_runs("words", profile, corpus, seed)["rotary"]}


def second_words(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """The same on the text that stands second beside `corpus`."""
    return {kind: configs[: SEEDS[profile]] for kind, configs in words(profile, second(corpus), seed).items()}


def tagged(corpus: str) -> str:
    """The text whose taggers are looked at: `corpus` itself where it has tags of its own, else the second."""
    return corpus if corpus.partition(":")[0] in grids.TAGGED else second(corpus)


def tags(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Encoding → taggers, those of `accuracy`, one a seed."""
    return grids.task_runs("tags", profile, tagged(corpus), seed)


def parts_of_speech(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """All that the chapter measures."""
    return [c for part in (words, second_words, tags) for c in grids.flat(part(profile, corpus, seed))]


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {
    "parts_of_speech": parts_of_speech,
    # Its parts, for reference runs made one after the other; the first and the last are in other grids too.
    "parts_of_speech-words": lambda profile: grids.flat(words(profile)),
    "parts_of_speech-second": lambda profile: grids.flat(second_words(profile)),
    "parts_of_speech-tags": lambda profile: grids.flat(tags(profile)),
}
