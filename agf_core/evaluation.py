"""The held-out loss of a model: in all, by position, by symbol, on repeated bigrams and on the rest (ours)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from agf_core.model import Transformer
from agf_core.sources.datasets import IGNORE, Data, repeated_bigrams

AT_ONCE = 2**13  # tokens of one forward pass


@torch.no_grad()
def beyond_training(model: Transformer, length: int) -> float | None:
    """Share of the fields' weight g, seen from the last of `length` positions, that lies past the training length.

    The mean over layers and heads; None for a model without fields. It says how much of attention a field would spend
    where it was never trained, if association did not care.
    """
    shares = []
    for layer in range(model.config.layers):
        if (law := model.encoding.field(layer)) is not None:
            r = torch.arange(length, device=next(model.parameters()).device)
            g = law.log_weight(r, torch.full_like(r, length - 1) if law.needs_query(length) else None).softmax(-1)
            shares.append(g[:, model.config.context :].sum(-1).mean().item())
    return _round(float(np.mean(shares))) if shares else None


@torch.no_grad()
def evaluate(
    model: Transformer, data: Data, split: str, length: int, tokens: int, *, by_symbol: bool = False
) -> dict[str, Any]:
    """Metrics on consecutive windows of `length` from the start of a split, JSON-ready; losses in nats a target.

    loss, accuracy, targets (how many); positions: the mean loss by position, edges doubling every two bins; beyond: see
    `beyond_training`; where the next symbol is predicted, recall and rest: [loss, targets] of repeated bigrams and of
    all others; `by_symbol`: [loss sum, targets] of every symbol that occurs as a target.
    """
    device = next(model.parameters()).device
    inputs, targets = data.heldout(split, length, tokens)
    rows = max(1, AT_ONCE // length)
    losses, hits = np.zeros(targets.shape), np.zeros(targets.shape, bool)
    for lo in range(0, len(inputs), rows):
        here = torch.from_numpy(targets[lo : lo + rows]).to(device)
        logits = model(torch.from_numpy(inputs[lo : lo + rows]).to(device)).float()
        loss = F.cross_entropy(logits.flatten(0, 1), here.flatten(), ignore_index=IGNORE, reduction="none")
        losses[lo : lo + rows] = loss.view(here.shape).cpu().numpy()
        hits[lo : lo + rows] = (logits.argmax(-1) == here).cpu().numpy()
    counts = targets != IGNORE
    found: dict[str, Any] = {
        "loss": _round(losses[counts].mean()),
        "accuracy": _round(hits[counts].mean()),
        "targets": int(counts.sum()),
        "positions": _by_position(losses, counts),
        "beyond": beyond_training(model, length),
    }
    if data.config.kind in ("bytes", "words"):
        repeated = repeated_bigrams(inputs, targets)
        for name, where in (("recall", repeated), ("rest", ~repeated)):
            found[name] = [_round(losses[where].mean()) if where.any() else None, int(where.sum())]
    if by_symbol:
        sums = np.bincount(targets[counts], losses[counts])
        number = np.bincount(targets[counts])
        found["symbols"] = {str(i): [_round(sums[i]), int(number[i])] for i in np.flatnonzero(number)}
    return found


def _by_position(losses: np.ndarray, counts: np.ndarray) -> list[list[float]]:
    """[first position, mean loss] of every bin that has a target."""
    length = losses.shape[1]
    edges = sorted({0, length, *(round(2 ** (i / 2)) for i in range(2 * math.ceil(math.log2(max(2, length)))))})
    edges = [e for e in edges if e <= length]
    bins = []
    for lo, hi in pairwise(edges):
        where = counts[:, lo:hi]
        if where.any():
            bins.append([lo, _round(losses[:, lo:hi][where].mean())])
    return bins


def _round(value: float) -> float:
    return float(f"{value:.6g}")
