"""How steep is a field? Its exponent and its rate, each by two estimators (ours).

A field's exponent is read by likelihood: with p(r) ∝ g(r) on r = 1 … W, the k of the truncated power law r^−k nearest
to p in Kullback–Leibler divergence, which is the one with p's own mean of log r (the moment condition of an exponential
family). It weighs distances by the attention they get; the least-squares line of log g on log r, beside it, weighs all
alike. The exponential's rate likewise, with the mean of r.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from agf_core.fitting.laws import Array

LIMIT = 50.0  # of an exponent or rate: beyond it all the weight is on one distance


@dataclass(frozen=True)
class Exponents:
    """Arrays (…,), positive for decay: power and rate by likelihood, …_ols by least squares on log g."""

    power: Array
    power_ols: Array
    rate: Array
    rate_ols: Array


def exponent(log_field: ArrayLike, r: ArrayLike | None = None) -> Exponents:
    """The steepness of fields as a power law and as an exponential, by both estimators.

    log_field (…, W): nat, any constant added; r (W,): distances (default 1 … W). Rows with a nan give nan.
    """
    g = np.asarray(log_field, dtype=float)
    at = np.arange(1.0, g.shape[-1] + 1) if r is None else np.asarray(r, dtype=float)
    if at.ndim != 1 or g.ndim < 1 or g.shape[-1] != len(at) or len(at) < 3 or (at <= 0).any():
        raise ValueError(f"log_field (…, W) needs r (W,) > 0, W ≥ 3; got {g.shape} and {at.shape}")
    return Exponents(_likeliest(g, np.log(at)), _line(g, np.log(at)), _likeliest(g, at), _line(g, at))


def _line(g: Array, t: Array) -> Array:
    centred = t - t.mean()
    slope: Array = -(g @ centred) / (centred @ centred)
    return slope


def _likeliest(g: Array, t: Array) -> Array:
    """k (…,) with E[t] under p ∝ e^(−k t) equal to E[t] under p ∝ e^g: Newton's method, kept inside a bracket."""
    flat = g.reshape(-1, g.shape[-1])
    p = np.exp(flat - flat.max(axis=-1, keepdims=True))
    wanted = (p @ t) / p.sum(axis=-1)
    low, high = np.full(len(flat), -LIMIT), np.full(len(flat), LIMIT)
    k = np.zeros(len(flat))
    for _ in range(100):
        log_q = -k[:, None] * t
        q = np.exp(log_q - log_q.max(axis=-1, keepdims=True))
        q /= q.sum(axis=-1, keepdims=True)
        average = q @ t
        gap = average - wanted  # > 0: k too small, the mean falls with k
        low, high = np.where(gap > 0, k, low), np.where(gap <= 0, k, high)
        variance = np.maximum((q * (t - average[:, None]) ** 2).sum(axis=-1), 1e-300)
        step = k + gap / variance
        step = np.where((step > low) & (step < high), step, (low + high) / 2)
        done = np.abs(step - k) <= 1e-12 * (1 + np.abs(k))
        k = np.where(np.isnan(wanted), np.nan, step)
        if (done | np.isnan(k)).all():
            break
    return k.reshape(g.shape[:-1])
