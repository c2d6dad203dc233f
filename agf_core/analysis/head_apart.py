"""One head taken apart on a sentence, and put together again: effect(query) + field(r) + mass(type) + rest (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agf_core.analysis import heads
from agf_core.analysis.field_grids import FREE
from agf_core.analysis.heads import Heads
from agf_core.analysis.observe import Seen, observe
from agf_core.analysis.split import SplitResult
from agf_core.analysis.windows import kinds
from agf_core.runs import RunConfig, Store, run_grid
from agf_core.sources import Text, load_text

APART = ("rotary", "t5", "agf", *FREE)  # whose head is taken apart: position is relative, so that r is all of it
PASSAGE, PHRASE, SHOWN = "inaugural", b"fear is fear itself", 19  # public domain; characters that are shown


@dataclass(frozen=True)
class Apart:
    """One head on one passage: logit = effect + field + mass + rest, (n, n) each, queries by keys.

    NaN at the query itself and behind it: the split is of r ≥ 1.  attention: what the head makes of all of it.
    """

    kind: str
    layer: int
    head: int
    labels: list[str]
    logit: np.ndarray
    effect: np.ndarray
    field: np.ndarray
    mass: np.ndarray
    rest: np.ndarray
    attention: np.ndarray
    shares: dict[str, float]
    source: str


def take_apart(found: Mapping[str, Heads], wanted: Mapping[str, list[RunConfig]]) -> Apart:
    """The head in which the smaller of field and rest is largest, on a passage of a public-domain text.

    found: heads by run id; wanted: the runs of each kind of model, the first that is found standing for its kind. The
    chosen one is trained where its weights are not here.
    """
    first = {k: next((c for c in wanted[k] if c.id in found), None) for k in APART}
    known = {k: c for k, c in first.items() if c is not None}
    kind, config = max(known.items(), key=lambda item: balance(found[item[1].id].split)[0])
    run_grid([config], own=True)
    model, text, length = Store().model(config), load_text(PASSAGE), int(config.model["context"])
    split, tokens = heads.measured(model, config).split, passage(text, length)
    _, layer, head = balance(split)
    watch = _Watch(layer, head)
    observe(model, tokens, [watch])
    cut = put_together(split, layer, head, watch.logit, tokens[0])
    shown = slice(length - SHOWN, length)
    return Apart(
        kind, layer, head, [chr(b) for b in tokens[0, shown].tolist()],
        **{name: values[shown, shown] for name, values in cut.items()}, attention=watch.weights[shown, shown],
        shares=_shares(split, layer, head), source=text.name,
    )  # fmt: skip


def put_together(split: SplitResult, layer: int, head: int, logit: np.ndarray, tokens: Tensor) -> dict[str, np.ndarray]:
    """logit, effect, field, mass, rest of one head, (N, N) each, from its logits and tokens (N,).

    NaN outside r = 1 … W. A query's effect is the mean over its window of what field and mass leave.
    """
    n, width = len(tokens), split.profile.shape[-1]
    distance = np.arange(n)[:, None] - np.arange(n)
    inside = (distance >= 1) & (distance <= width)
    log_g = split.profile[layer, head][np.clip(distance - 1, 0, width - 1)]
    mass = np.broadcast_to(split.masses[layer, head][kinds(torch.from_numpy(split.types), tokens).numpy()], (n, n))
    left = np.where(inside, logit - log_g - mass, 0.0)
    effect = np.broadcast_to(left.sum(1, keepdims=True) / np.maximum(inside.sum(1, keepdims=True), 1), (n, n))
    cut = {"logit": logit, "effect": effect, "field": log_g, "mass": mass, "rest": left - effect}
    return {name: np.where(inside, values, np.nan) for name, values in cut.items()}


def balance(split: SplitResult) -> tuple[float, int, int]:
    """(min(distance, rest), layer, head) of the head where it is largest: positional, and yet not by position alone."""
    table = split.shares.pivot_table(index=["layer", "head"], columns="part", values="share")
    least = np.minimum(table["distance"], table["rest"])
    layer, head = divmod(int(np.argmax(least.to_numpy())), split.profile.shape[1])
    return float(least.max()), layer, head


def _shares(split: SplitResult, layer: int, head: int) -> dict[str, float]:
    table = split.shares[(split.shares["layer"] == layer) & (split.shares["head"] == head)]
    return {str(part): float(share) for part, share in zip(table["part"], table["share"])}


def passage(text: Text, length: int) -> Tensor:
    """(1, length) bytes that end with the phrase, or, in a text without it, at the middle of the text.

    ValueError for a text of fewer than twice `length` bytes.
    """
    raw = text.bytes()
    end = raw.find(PHRASE, length) + len(PHRASE) if PHRASE in raw[length:] else len(raw) // 2
    if end < length:
        raise ValueError(f"{text.name} has {len(raw)} bytes: too few for a passage of {length}")
    return torch.tensor([list(raw[end - length : end])])


class _Watch:
    """Keeps the maps of one head of one sequence, (N, N)."""

    def __init__(self, layer: int, head: int) -> None:
        self.layer, self.head = layer, head
        self.logit = self.weights = np.empty((0, 0))

    def update(self, seen: Seen) -> None:
        if seen.layer == self.layer:
            self.logit = seen.logits[0, self.head].double().numpy()
            self.weights = seen.weights[0, self.head].double().numpy()
