"""Samples as a histogram: distinct values and their weights. Everything after this costs the number of bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agf_core.fitting.laws import INF, Array


@dataclass(frozen=True)
class Histogram:
    """values (U,) ascending and distinct, weight (U,) > 0: how often (or with what weight) each occurs."""

    values: Array
    weight: Array

    @property
    def total(self) -> float:
        return float(self.weight.sum())

    def tail(self, xmin: float, xmax: float = INF) -> Histogram:
        """The part with xmin <= x <= xmax."""
        first, last = np.searchsorted(self.values, [xmin, xmax], side="left")
        last += int(last < len(self.values) and self.values[last] == xmax)
        return Histogram(self.values[first:last], self.weight[first:last])

    def below(self) -> Array:
        """Share of the weight at values < x, at each value x: (U,)."""
        shifted = np.concatenate([[0.0], np.cumsum(self.weight)[:-1]])
        return shifted / self.total

    def moments(self) -> tuple[float, float]:
        """Weighted mean, and weighted mean of the logarithms."""
        mean = float(self.weight @ self.values) / self.total
        return mean, float(self.weight @ np.log(self.values)) / self.total


def histogram(samples: ArrayLike, weights: ArrayLike | None, discrete: bool) -> Histogram:
    """Check samples (n,) > 0 (whole numbers if discrete) with weights (n,) >= 0, and gather equal values."""
    x: NDArray[Any] = np.asarray(samples)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"samples must be a non-empty array of shape (n,), got shape {x.shape}")
    if x.dtype.kind not in "iuf":
        raise ValueError(f"samples must be numbers, got dtype {x.dtype}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(f"samples has {int((~np.isfinite(x)).sum())} nan or infinite values; leave them out")
    if x.min() <= 0:
        raise ValueError(f"samples must be > 0: {int((x <= 0).sum())} of {x.size} are not, the smallest is {x.min():g}")
    if discrete and x.dtype.kind == "f" and (x != np.floor(x)).any():
        raise ValueError("samples are not whole numbers; pass discrete=False for continuous data")
    w = None
    if weights is not None:
        w = np.asarray(weights, dtype=float)
        if w.shape != x.shape:
            raise ValueError(f"weights must have the samples' shape {x.shape}, got {w.shape}")
        if not (np.isfinite(w) & (w >= 0)).all() or w.sum() <= 0:
            raise ValueError("weights must be finite and >= 0, with a positive sum")
    if x.dtype.kind in "iu" and x.max() <= 8 * x.size + 1024:
        # Counting beats sorting while the values are dense.
        weight = np.bincount(x, weights=w).astype(float)
        values = np.flatnonzero(weight)
        return Histogram(values.astype(float), weight[values])
    distinct, inverse = np.unique(x.astype(float), return_inverse=True)
    weight = np.bincount(inverse, weights=w).astype(float)
    keep = weight > 0
    return Histogram(distinct[keep], weight[keep])
