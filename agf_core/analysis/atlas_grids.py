"""The model of the atlas (ours): AGF on the words of a text that may be shipped, three layers, one seed.

Weights are not stored, so the atlas always shows a model trained where its page was made: the same in `cpu` and `full`.
"""

from __future__ import annotations

from collections.abc import Callable

from agf_core.analysis import grids
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

CORPUS = "genesis"  # public domain, and few words often repeated: what so small a model can learn
VOCABULARY = 2048
LAYERS = 3
TOKENS = {"smoke": 4_096, "cpu": 600_000, "full": 600_000}
HELDOUT = {"smoke": 1_024, "cpu": 4_096, "full": 4_096}


def configuration(profile: str, corpus: str = CORPUS, seed: int = 0) -> RunConfig:
    """The one model that the atlas walks through."""
    task, start = grids.TASKS["words"], grids.chosen_start("agf", "words")
    model = {**grids.BODY, "layers": LAYERS, "context": task.context, "encoding": "agf",
             "encoding_options": {"start": start}}  # fmt: skip
    train = TrainConfig(TOKENS[profile], task.batch, grids.tuned_rate("agf", "words"), seed=seed)
    return RunConfig(model, DataConfig("words", corpus, VOCABULARY), train, heldout=HELDOUT[profile])


GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {"atlas": lambda profile: [configuration(profile)]}
