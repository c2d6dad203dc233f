"""A share of things that come in clusters, such as heads of models, with its interval (ours).

The heads of one model are alike, so a share of heads is not one of independent draws. The number of hits in a cluster
is taken to be beta-binomial; the interval is the posterior's of its mean, the likeness of members integrated out. It
does not collapse where all agree, as a resampling of clusters does. By simulation it covers 90 to 99 % from four
clusters on, whatever the likeness.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from agf_core.figures import Estimate


def clustered(hits: ArrayLike, of: ArrayLike) -> Estimate:
    """A share from clusters: hits (M,) of (M,) each, with a 95 % interval that allows for likeness within clusters.

    Beta-binomial: share p, likeness ρ (the correlation of two members of a cluster), both uniform beforehand; the
    interval is p's, ρ integrated out, taken to 0 or 1 where no member, or every one, is a hit.
    """
    k, n = np.asarray(hits, dtype=int), np.asarray(of, dtype=int)
    if k.shape != n.shape or k.ndim != 1 or (k > n).any() or (k < 0).any():
        raise ValueError(f"hits and of must be counts of shape (M,), hits ≤ of; got shapes {k.shape} and {n.shape}")
    if not n.sum():
        return Estimate(0.5, 0.0, 1.0)
    low, high = _posterior(tuple(sorted((a, b) for a, b in zip(k.tolist(), n.tolist()) if b)))
    value = float(k.sum() / n.sum())
    return Estimate(value, 0.0 if value == 0 else min(low, value), 1.0 if value == 1 else max(high, value))


@cache  # operating characteristics ask for the same few tables thousands of times
def _posterior(counts: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    k, n = np.array(counts, dtype=float).T
    p, likeness = ((np.arange(size) + 0.5) / size for size in (150, 30))
    size = (1 / likeness - 1)[:, None]
    a, b = p[:, None, None] * size, (1 - p)[:, None, None] * size
    log_likelihood = (special.betaln(k + a, n - k + b) - special.betaln(a, b)).sum(axis=-1)  # (150, 30)
    weight = np.exp(log_likelihood - log_likelihood.max()).sum(axis=1)
    below = np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])
    low, high = np.interp([0.025, 0.975], below, np.linspace(0, 1, len(below)))
    return float(low), float(high)
