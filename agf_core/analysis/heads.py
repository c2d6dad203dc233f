"""Every head of a trained model, measured once: its field × association split and its four terms (ours).

    python -m agf_core.analysis.measured heads --profile full --out data/runs/heads.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from agf_core.analysis import field_grids
from agf_core.analysis import measured as storage
from agf_core.analysis.split import Split, SplitResult
from agf_core.analysis.terms import Terms, four_terms
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import load_data

TYPES = 128  # symbols with a mass of their own
GROUPS = 20  # consecutive stretches of the held-out documents, which intervals resample
LEAST = 2048  # tokens
RESAMPLES = 100


@dataclass(frozen=True)
class Heads:
    """split: see `SplitResult`, window half the context; terms: mean by position; exact: at the first layer or None."""

    split: SplitResult
    terms: Terms
    exact: Terms | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {n: None if (v := getattr(self, n)) is None else v.to_dict() for n in ("split", "terms", "exact")}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Heads:
        """The inverse of `to_dict`."""
        exact = stored["exact"] and Terms.from_dict(stored["exact"])
        return cls(SplitResult.from_dict(stored["split"]), Terms.from_dict(stored["terms"]), exact)


def heldout(config: RunConfig, tokens: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Held-out windows (S, N) of a run's own split, and the stretch (S,) of the documents that each lies in."""
    context = int(config.model["context"])
    inputs, _ = load_data(config.data).heldout(config.split, context, tokens or config.heldout)
    return torch.from_numpy(inputs), torch.from_numpy(np.arange(len(inputs)) * GROUPS // len(inputs))


def measured(model: Transformer, config: RunConfig, tokens: int | None = None) -> Heads:
    """The heads of a model on a run's held-out documents; ValueError for fewer than two windows of them."""
    windows, groups = heldout(config, tokens or max(LEAST, config.heldout // 2))
    window = int(config.model["context"]) // 2
    split = Split(window, TYPES)
    terms = four_terms(model, windows, window, beside=[split], groups=groups)
    return Heads(split.result(RESAMPLES), *terms)


def of(configs: Sequence[RunConfig]) -> dict[str, Heads]:
    """Run id → its heads: from the weights where they are here, else as stored; absent where neither is."""
    return storage.of("heads", configs, measured, read=Heads.from_dict)


@lru_cache(maxsize=1)
def stored() -> dict[str, Heads]:
    """The heads of the reference runs, by id."""
    return {id: Heads.from_dict(one) for id, one in storage.stored("heads").items()}


def configs(profile: str) -> list[RunConfig]:
    """The models whose heads are stored."""
    return field_grids.decomposition(profile)


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """What is stored of a model."""
    return measured(model, config).to_dict()
