"""Where does the power law begin? xmin by the smallest Kolmogorov-Smirnov distance (Clauset et al. 2009, section 3.3).

All candidates are fitted at once: the exponents by Newton steps on a vector, the distances on a grid of candidates ×
values. With more than `LIMIT` distinct values both are thinned for a first look and everything around the best
candidate is searched again in full, so that a million samples cost about as much as sorting them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from agf_core.fitting.histogram import Histogram
from agf_core.fitting.laws import INF, Array
from agf_core.fitting.sums import log_between_power

LIMIT = 1500


def find_xmin(data: Histogram, xmax: float, discrete: bool) -> float:
    """The value of `data` (at most xmax) from which a power law fits best; never the largest value."""
    data = data.tail(0.0, xmax)
    if len(data.values) < 3:
        raise ValueError(
            f"xmin cannot be searched among {len(data.values)} distinct values; give xmin, or more varied samples"
        )
    candidates = np.arange(len(data.values) - 1)
    if len(candidates) <= LIMIT:
        return float(data.values[candidates[_distances(data, candidates, xmax, discrete, LIMIT).argmin()]])
    coarse = np.unique(np.geomspace(1, len(candidates), 250).astype(int)) - 1
    best = int(_distances(data, coarse, xmax, discrete, LIMIT).argmin())
    low, high = coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)]
    fine = np.unique(np.linspace(low, high, 120).astype(int))
    return float(data.values[fine[_distances(data, fine, xmax, discrete, 10 * LIMIT).argmin()]])


def _distances(data: Histogram, candidates: NDArray[np.int64], xmax: float, discrete: bool, points: int) -> Array:
    """KS distance of the best power law from each candidate (indices into the values) on at most ~`points` values."""
    x, w = data.values, data.weight
    after = np.cumsum(w[::-1])[::-1]
    log_after = np.cumsum((w * np.log(x))[::-1])[::-1]
    n, mean_log = after[candidates], log_after[candidates] / after[candidates]
    exponents = tail_exponents(x[candidates], mean_log, xmax, discrete)
    distance = np.empty(len(candidates))
    for k, (start, exponent) in enumerate(zip(candidates, exponents, strict=True)):
        # Values spaced evenly in rank beyond the first ones: the distance peaks near the candidate.
        size = len(x) - start
        at = np.arange(start, len(x))
        if size > points:
            at = np.unique(np.concatenate([at[: points // 2], at[:: -(size // (points // 2))]]))
        total = log_between_power(x[start], xmax, exponent, discrete)
        model = np.exp(log_between_power(x[at], xmax, exponent, discrete) - total)
        distance[k] = np.abs(model - after[at] / n[k]).max()
    return distance


def tail_exponents(xmin: Array, mean_log: Array, xmax: float, discrete: bool) -> Array:
    """Maximum-likelihood exponents of power laws from each xmin (C,), given the mean log of the values above it.

    Solves d/dk log(normaliser) = -mean_log by bisection-guarded Newton on the vector.
    """
    low = np.full(len(xmin), 1.0 + 1e-7 if xmax == INF else -20.0)
    high = np.full(len(xmin), 60.0)
    gap = np.maximum(mean_log - np.log(np.maximum(xmin - 0.5, 0.5) if discrete else xmin), 1e-6)
    k = np.clip(1 + 1 / gap, low + 1e-3, high - 1.0)
    step = 1e-4
    for _ in range(40):
        values = [_totals(xmin, xmax, k + d, discrete) for d in (-step, 0.0, step)]
        score = (values[2] - values[0]) / (2 * step) + mean_log  # increasing in k
        curvature = (values[2] - 2 * values[1] + values[0]) / step**2
        high, low = np.where(score > 0, k, high), np.where(score > 0, low, k)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = k - score / curvature
        inside = (new > low + 2 * step) & (new < high)
        new = np.where(inside, new, (low + high) / 2)
        done = np.abs(new - k) < 1e-9
        k = new
        if done.all():
            break
    return k


def _totals(xmin: Array, xmax: float, exponents: Array, discrete: bool) -> Array:
    if discrete and xmax == INF:
        scaled = special.zeta(exponents, xmin)
        if (scaled > 0).all():
            return np.log(scaled)
    return np.array([log_between_power(a, xmax, s, discrete) for a, s in zip(xmin, exponents, strict=True)])
