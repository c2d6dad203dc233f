"""What word classes add in the heads of the word models trained here (ours).

    python -m agf_core.analysis.measured class_models --profile full --out data/runs/class_models.json

They are measured on documents that they were not trained on, distances up to half their context. A rare word is one
symbol for all rare words of its class there: the class is *written* in the input, which a pretrained model never sees.
So these models carry no verdict.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from agf_core.analysis import class_grids, grids, word_classes
from agf_core.analysis.class_terms import ClassTerms, Design
from agf_core.analysis.observe import observe
from agf_core.analysis.word_classes import Read
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig

PERMUTATIONS = 6  # of labels
TOKENS = 16_384  # of each split, at most


def configs(profile: str) -> list[RunConfig]:
    """The runs whose heads are measured."""
    return [*grids.flat(class_grids.words(profile)), *grids.flat(class_grids.second_words(profile))]


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """JSON-ready, of every head (L, H): base, excess, low, high (95 %), added, null (mean of permuted labels), alone
    (punctuation against the rest); and queries, the number that counted."""
    read, design = seen(config)
    terms = ClassTerms(design)
    observe(model, read.tokens, [terms], groups=read.groups, keep=read.keep)
    found = terms.result()
    value, low, high = found.interval()
    parts = {"base": found.base.mean(0), "excess": value, "low": low, "high": high, "added": found.added[0].mean(0),
             "null": found.null.mean(0), "alone": found.added[1].mean(0)}  # fmt: skip
    return {name: np.round(a, 5).tolist() for name, a in parts.items()} | {"queries": found.queries}


def seen(config: RunConfig) -> tuple[Read, Design]:
    """What a run's model reads here, and the design of the measurement; the same for all models of a text."""
    return _seen(config.data, int(config.model["context"]), min(TOKENS, config.heldout))


@lru_cache(maxsize=2)
def _seen(data: DataConfig, context: int, heldout: int) -> tuple[Read, Design]:
    read = word_classes.of_data(data, context, heldout)
    text, tag, names, _ = word_classes.tags(data.corpus)
    about = word_classes.classes(read, text, tag, names, PERMUTATIONS, 0)
    return read, Design(about, read.keep, read.groups, context // 2, causal=True)
