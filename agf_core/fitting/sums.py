"""Normalisers of power laws, cut off or not: sums over integers and integrals, finite or not, to rounding.

A sum is its first terms plus the Euler-Maclaurin formula for the rest, so that it costs the same for a million terms
as for ten, and works where the Hurwitz zeta function does not (exponent <= 1 up to a known maximum). The cut-off power
law's integral is Gauss-Legendre quadrature in log x. Source: Euler-Maclaurin (DLMF 2.10.1); the arrangement is ours.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from agf_core.fitting.laws import INF, Array

TERMS = 20  # summed one by one before the formula takes over; its error is then below 1e-10
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(120)


def log_between_power(a: Array, b: float, exponent: float, discrete: bool) -> Array:
    """log of the sum (or integral) of x^-exponent over a <= x <= b; a any shape, b may be inf if exponent > 1."""
    start = np.asarray(a, dtype=float)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if not discrete:
            return _integral(start, b, exponent, INF)
        if b < INF:
            return _sum(start, b, exponent, INF)
        # Scaled: zeta(s, a) underflows for large a and s long before its logarithm does.
        large = start * exponent > 200
        exact = np.log(special.zeta(exponent, np.where(large, 1.0, start)))
        return np.where(large, _sum(start, b, exponent, INF), exact)


def log_between_power_cutoff(a: Array, b: float, exponent: float, cutoff: float, discrete: bool) -> Array:
    """log of the sum (or integral) of x^-exponent e^(-x/cutoff) over a <= x <= b; a any shape, b may be inf."""
    return (_sum if discrete else _integral)(np.asarray(a, dtype=float), b, exponent, cutoff)


def _log_f(x: Array, s: float, cutoff: float) -> Array:
    return -s * np.log(x) - x / cutoff


def _sum(a: Array, b: float, s: float, cutoff: float) -> Array:
    """log sum over a, a+1, ..., b of f."""
    total = np.full(np.shape(a), -INF)
    for i in range(TERMS):
        total = np.where(a + i <= b, np.logaddexp(total, _log_f(a + i, s, cutoff)), total)
    c = a + TERMS
    inside = c < b
    safe = np.where(inside, c, a)
    rest = np.logaddexp(_integral(safe, b, s, cutoff), _log_f(c, s, cutoff) + np.log(_end_share(c, 1.0, s, cutoff)))
    if b < INF:
        end = np.array(b)
        rest = np.logaddexp(rest, _log_f(end, s, cutoff) + np.log(np.maximum(_end_share(end, -1.0, s, cutoff), 1e-300)))
    last = np.where(c == b, _log_f(c, s, cutoff), -INF)
    return np.logaddexp(total, np.where(inside, rest, last))


def _end_share(x: Array, sign: float, s: float, cutoff: float) -> Array:
    """f/2 and the corrections by the first and third derivative at one end of a sum, over f there."""
    h = s / x + 1 / cutoff
    return 0.5 + sign * (h / 12 - (h**3 + 3 * h * s / x**2 + 2 * s / x**3) / 720)


def _integral(a: Array, b: float, s: float, cutoff: float) -> Array:
    """log of the integral of f over [a, b]: exact for a plain power law (stable at s = 1), else in t = log x."""
    if cutoff < INF:
        low = np.log(a)[..., None]
        high = np.log(np.minimum(b, a + 40 * cutoff))[..., None]  # beyond 40 cutoffs nothing is left
        t = low + (high - low) * (NODES + 1) / 2
        values = _log_f(np.exp(t), s, cutoff) + t
        top = values.max(axis=-1, keepdims=True)
        inner = (np.exp(values - top) * NODE_WEIGHTS).sum(-1) * ((high - low)[..., 0] / 2)
        with np.errstate(divide="ignore"):
            return top[..., 0] + np.log(inner)
    k = 1.0 - s
    if b == INF:
        return k * np.log(a) - np.log(-k) if k < 0 else np.full(np.shape(a), np.nan)
    span = np.log(b) - np.log(a)
    return k * np.log(a) + np.log(np.where(np.abs(k * span) < 1e-12, span, np.expm1(k * span) / (k or 1.0)))
