"""Normalisers of power laws: sums over integers and integrals, finite or not, to rounding.

A sum is its first terms plus the Euler-Maclaurin formula for the rest, so that it costs the same for a million terms
as for ten, and works where the Hurwitz zeta function does not (exponent <= 1 up to a known maximum). The cut-off power
law's integral is Gauss-Legendre quadrature in log x. Source: Euler-Maclaurin (DLMF 2.10.1); the arrangement is ours.
"""

from __future__ import annotations

from collections.abc import Callable

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
            return _log_integral(start, b, exponent)
        if b == INF:
            # Scaled: zeta(s, a) underflows for large a and s long before its logarithm does.
            large = start * exponent > 200
            exact = np.log(special.zeta(exponent, np.where(large, 1.0, start)))
            return np.where(large, _euler(start, b, exponent), exact)
        return _euler(start, b, exponent)


def _log_integral(a: Array, b: float, exponent: float) -> Array:
    """log of the integral of x^-exponent over [a, b], stable at exponent = 1."""
    s = 1.0 - exponent
    if b == INF:
        return s * np.log(a) - np.log(-s) if s < 0 else np.full(np.shape(a), np.nan)
    span = np.log(b) - np.log(a)
    inner = np.where(np.abs(s * span) < 1e-12, span, np.expm1(s * span) / (s if s else 1.0))
    return s * np.log(a) + np.log(inner)


def _euler(a: Array, b: float, s: float) -> Array:
    """log sum over a, a+1, ..., b of x^-s."""
    total = np.full(np.shape(a), -INF)
    count = b - a + 1
    for i in range(TERMS):
        total = np.where(i < count, np.logaddexp(total, -s * np.log(a + i)), total)
    c = a + TERMS
    rest = _log_integral(c, b, s)

    def ends(x: Array, sign: float) -> Array:
        relative: Array = np.exp(-s * np.log(x) - rest) * _end_share(x, sign, s, INF)
        return relative

    correction = ends(c, 1.0) + (ends(np.array(b), -1.0) if b < INF else 0.0)
    more = np.logaddexp(total, rest + np.log1p(correction))
    return np.where(b > c, more, np.where(b == c, np.logaddexp(total, -s * np.log(c)), total))


def log_between_power_cutoff(a: Array, b: float, exponent: float, cutoff: float, discrete: bool) -> Array:
    """log of the sum (or integral) of x^-exponent e^(-x/cutoff) over a <= x <= b; a any shape, b may be inf."""
    start = np.asarray(a, dtype=float)

    def log_f(x: Array) -> Array:
        return -exponent * np.log(x) - x / cutoff

    if not discrete:
        return _quadrature(log_f, start, b, cutoff)
    total = np.full(start.shape, -INF)
    for i in range(TERMS):
        total = np.where(start + i <= b, np.logaddexp(total, log_f(start + i)), total)
    c = start + TERMS
    ok = c < b
    rest = _quadrature(log_f, np.where(ok, c, start), b, cutoff)
    rest = np.logaddexp(rest, log_f(c) + np.log(_end_share(c, 1.0, exponent, cutoff)))
    if b < INF:
        end = np.array(b)
        rest = np.logaddexp(rest, log_f(end) + np.log(np.maximum(_end_share(end, -1.0, exponent, cutoff), 1e-300)))
    rest = np.where(ok, rest, np.where(c == b, log_f(c), -INF))
    return np.logaddexp(total, rest)


def _end_share(x: Array, sign: float, s: float, cutoff: float) -> Array:
    """f/2 and the corrections by the first and third derivative at one end of a sum, over f there."""
    h = s / x + 1 / cutoff
    return 0.5 + sign * (h / 12 - (h**3 + 3 * h * s / x**2 + 2 * s / x**3) / 720)


def _quadrature(log_f: Callable[[Array], Array], a: Array, b: float, cutoff: float) -> Array:
    """log of the integral of f over [a, b], in t = log x; beyond 40 cutoffs nothing is left."""
    low = np.log(a)[..., None]
    high = np.log(np.minimum(b, a + 40 * cutoff))[..., None]
    t = low + (high - low) * (NODES + 1) / 2
    values = log_f(np.exp(t)) + t
    top = values.max(axis=-1, keepdims=True)
    inner = (np.exp(values - top) * NODE_WEIGHTS).sum(-1) * ((high - low)[..., 0] / 2)
    with np.errstate(divide="ignore"):
        return top[..., 0] + np.log(inner)
