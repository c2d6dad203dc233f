"""Every head of a trained model, measured once: its field × association split and its four terms (ours).

    python -m agf_core.analysis.heads field-free field-without --profile full --out data/runs/heads.json

Own runs are measured from their weights. Reference runs keep none: what was measured from them is stored in
data/runs/heads.json, by the run's id, with the commit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agf_core.analysis.split import Split, SplitResult
from agf_core.analysis.terms import Terms, four_terms
from agf_core.model import Transformer
from agf_core.provenance import commit
from agf_core.runs import RunConfig, Store
from agf_core.sources.datasets import load_data
from agf_core.sources.tables import read_stored

TYPES = 128  # symbols with a mass of their own
GROUPS = 20  # consecutive stretches of the held-out documents, which intervals resample
LEAST = 2048  # tokens
RESAMPLES = 100
STORED = "heads.json"


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


def of(configs: Sequence[RunConfig], say: Callable[[str], object] | None = None) -> dict[str, Heads]:
    """Run id → its heads: from the weights where they are here, else as stored; absent where neither is."""
    found, store = {}, Store()
    for number, config in enumerate(configs, 1):
        try:
            found[config.id] = measured(store.model(config), config)
        except FileNotFoundError:
            if config.id in stored():
                found[config.id] = stored()[config.id]
        if say:
            say(f"{number} of {len(configs)} models' heads measured")
    return found


@lru_cache(maxsize=1)
def stored() -> dict[str, Heads]:
    """The heads of the reference runs, by id."""
    packed = read_stored("runs", STORED)
    return {id: Heads.from_dict(one) for id, one in packed["heads"].items()} if packed else {}


def main() -> int:
    """Measure the own runs of some grids and add them to a file."""
    from agf_core.analysis.field_grids import GRIDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="+", choices=sorted(GRIDS))
    parser.add_argument("--profile", default="full", choices=("smoke", "cpu", "full"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    packed: dict[str, Any] = {"kind": "heads", "heads": {}}
    if given.out.is_file():
        packed = json.loads(given.out.read_text("utf-8"))
    configs = [c for name in given.grid for c in GRIDS[name](given.profile)]
    packed["commit"] = commit()
    for number, config in enumerate(configs, 1):
        packed["heads"][config.id] = measured(Store().model(config), config).to_dict()
        print(f"  {number} of {len(configs)}", flush=True)
    lines = ",\n".join(f'"{id}":{json.dumps(one, separators=(",", ":"))}' for id, one in packed["heads"].items())
    given.out.write_text(f'{{"kind":"heads","commit":"{packed["commit"]}","heads":{{\n{lines}\n}}}}\n', "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
