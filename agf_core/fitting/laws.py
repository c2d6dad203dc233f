"""The seven decay laws for curves: what they say, and the coordinates they are fitted in.

| law                   | y(x)                                                | parameters besides `amplitude` |
|-----------------------|-----------------------------------------------------|--------------------------------|
| power                 | A x^-k                                              | exponent k                     |
| shifted_power         | A (1 + x/x0)^-k                                     | exponent k, scale x0           |
| exponential           | A e^(-m x)                                          | rate m                         |
| stretched_exponential | A e^(-(x/s)^p)                                      | scale s, shape p               |
| lognormal             | (A/x) e^(-(ln x - mu)^2 / (2 sigma^2))              | mu, sigma                      |
| power_cutoff          | A x^-k e^(-x/c)                                     | exponent k, cutoff c           |
| two_regime            | A x^-k up to b, then A b^(k2-k) x^-k2               | exponent k, exponent2 k2, break_ b |

Every law can be written log y = a + sum_i b_i h_i(u; psi), with u = x / (geometric mean of x), h_i(1) = 0 and at most
one nonlinear coordinate psi. A shifted power becomes an exponential as x0 grows and a power as it shrinks, a stretched
exponential becomes a power as p shrinks; in the written parameters these limits are ridges on which an optimiser
creeps, in (a, b, psi) they are ordinary points. Hence: fit in (a, b, psi), report the written parameters.
Source: the laws are standard (Clauset et al. 2009, table 2.1); the coordinates are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
INF = float("inf")
# How far beyond the data the nonlinear coordinate may go; past this the law is its limiting law to 1 part in 1,000.
REACH = np.log(1e3)


@dataclass(frozen=True)
class Readout:
    """One written parameter as a function of the fitted coordinates.

    value(theta, log_mean): the parameter on the scale it is profiled on; theta (p, T) may be complex (for derivatives).
    natural(h, log_mean): from that scale to the written one. `open`: the written values at the two ends of the h axis.
    """

    name: str
    value: Callable[[Array, float], Array]
    natural: Callable[[Array, float], Array]
    open: tuple[float, float] = (-INF, INF)


@dataclass(frozen=True)
class CurveLaw:
    """A law in both forms. `basis` and `slope` (its derivative by psi): (u (n,), psi (T,)) -> (T or 1, q, n)."""

    name: str
    formula: str
    basis: Callable[[Array, Array], Array]
    evaluate: Callable[..., Array]
    readouts: tuple[Readout, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    slope: Callable[[Array, Array], Array] | None = None
    psi_range: Callable[[Array], tuple[float, float]] | None = None
    needs_positive_x: bool = True

    @property
    def size(self) -> int:
        """Number of fitted coordinates: level, coefficients, psi."""
        return 1 + len(self.lower) + (self.slope is not None)

    def read(self, theta: Array, log_mean: float) -> tuple[Array, Array]:
        """theta (T, p) -> the written parameters on their profiling scale (T, P), and derivatives (T, P, p)."""
        step = 1e-30  # a complex step: derivatives without rounding
        columns = theta.T.astype(complex)
        values = np.empty((len(theta), len(self.readouts)))
        grad = np.zeros((*values.shape, theta.shape[1]))
        for k in range(theta.shape[1]):
            columns[k] += 1j * step
            for j, readout in enumerate(self.readouts):
                h = readout.value(columns, log_mean)
                grad[:, j, k], values[:, j] = h.imag / step, h.real
            columns[k] -= 1j * step
        return values, grad


def _exp(h: Array, log_mean: float) -> Array:
    # A limiting law's amplitude may be beyond any float: it is then infinite (or zero), and flagged as at an edge.
    with np.errstate(over="ignore", under="ignore"):
        value: Array = np.exp(h)
    return value


def _same(h: Array, log_mean: float) -> Array:
    return h


def _times_mean(h: Array, log_mean: float) -> Array:
    return _exp(h + log_mean, log_mean)


def _per_mean(h: Array, log_mean: float) -> Array:
    return h * np.exp(-log_mean)


def _inverse(h: Array, log_mean: float) -> Array:
    with np.errstate(over="ignore", divide="ignore"):
        return np.where(h > 0, np.exp(log_mean) / np.maximum(h, 0.0), INF)


def _amplitude(value: Callable[[Array, float], Array]) -> Readout:
    return Readout("amplitude", value, _exp, (0.0, INF))


def _log(u: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(u)


def _rows(*parts: Array) -> Array:
    """Stack (…, n) arrays into (T, q, n)."""
    return np.stack([np.atleast_2d(p) for p in np.broadcast_arrays(*parts)], axis=1)


def _shift_range(u: Array) -> tuple[float, float]:
    return float(np.log(u[u > 0].min()) - REACH), float(np.log(u.max()) + REACH)


def _shift_basis(u: Array, w: Array) -> Array:
    q = 1 + np.exp(w)[:, None]
    return _rows(-q * np.log1p((u - 1) / q))


def _shift_slope(u: Array, w: Array) -> Array:
    q = 1 + np.exp(w)[:, None]
    z = (u - 1) / q
    return _rows((q - 1) * (z / (1 + z) - np.log1p(z)))


def _stretch_basis(u: Array, v: Array) -> Array:
    p = np.exp(v)[:, None]
    return _rows(-(np.exp(p * _log(u)) - 1) / p)


def _stretch_slope(u: Array, v: Array) -> Array:
    p, t = np.exp(v)[:, None], _log(u)
    power = np.exp(p * t)
    return _rows((power - 1) / p - power * np.where(u > 0, t, 0.0))


def _break_range(u: Array) -> tuple[float, float]:
    # Two points on either side: a regime of one point has no slope.
    t = np.log(np.unique(u))
    return float(t[min(1, len(t) - 1)]), float(t[max(-2, -len(t))])


def _break_basis(u: Array, w: Array) -> Array:
    t, b = np.log(u), w[:, None]
    return _rows(-np.minimum(t, b), -np.maximum(t - b, 0.0))


def _break_slope(u: Array, w: Array) -> Array:
    above = (np.log(u) > w[:, None]).astype(float)
    return _rows(-above, above)


def _stretched(x: Array, amplitude: float, scale: float, shape: float) -> Array:
    return np.exp(np.log(amplitude) - (x / scale) ** shape)


def _lognormal(x: Array, amplitude: float, mu: float, sigma: float) -> Array:
    # One exponent: far from the data's bulk the amplitude alone can overflow while the curve does not.
    return np.exp(np.log(amplitude) - np.log(x) - (np.log(x) - mu) ** 2 / (2 * sigma**2))


def _two_regime(x: Array, amplitude: float, exponent: float, exponent2: float, break_: float) -> Array:
    return amplitude * np.minimum(x, break_) ** -exponent * np.maximum(x / break_, 1.0) ** -exponent2


def _variance(th: Array) -> Array:
    return -0.5 / th[2]


_EXPONENT = Readout("exponent", lambda th, m: th[1], _same)

LAWS: dict[str, CurveLaw] = {
    law.name: law
    for law in (
        CurveLaw(
            "power", "A x^-k",
            basis=lambda u, psi: _rows(-np.log(u)),
            evaluate=lambda x, amplitude, exponent: amplitude * x**-exponent,
            readouts=(_amplitude(lambda th, m: th[0] + th[1] * m), _EXPONENT),
            lower=(-INF,), upper=(INF,),
        ),
        CurveLaw(
            "shifted_power", "A (1 + x/x0)^-k",
            basis=_shift_basis, slope=_shift_slope, psi_range=_shift_range,
            evaluate=lambda x, amplitude, exponent, scale: amplitude * (1 + x / scale) ** -exponent,
            readouts=(
                _amplitude(lambda th, m: th[0] + th[1] * (1 + np.exp(th[2])) * np.log1p(np.exp(-th[2]))),
                Readout("exponent", lambda th, m: th[1] * (1 + np.exp(th[2])), _same),
                Readout("scale", lambda th, m: th[2], _times_mean, (0.0, INF)),
            ),
            lower=(-INF,), upper=(INF,), needs_positive_x=False,
        ),
        CurveLaw(
            "exponential", "A e^(-m x)",
            basis=lambda u, psi: _rows(1 - u),
            evaluate=lambda x, amplitude, rate: amplitude * np.exp(-rate * x),
            readouts=(
                _amplitude(lambda th, m: th[0] + th[1]),
                Readout("rate", lambda th, m: th[1], _per_mean),
            ),
            lower=(-INF,), upper=(INF,), needs_positive_x=False,
        ),
        CurveLaw(
            "stretched_exponential", "A e^(-(x/s)^p)",
            basis=_stretch_basis, slope=_stretch_slope,
            psi_range=lambda u: (float(np.log(0.02)), float(np.log(6.0))),
            evaluate=_stretched,
            readouts=(
                _amplitude(lambda th, m: th[0] + th[1] * np.exp(-th[2])),
                Readout("scale", lambda th, m: (th[2] - np.log(th[1])) * np.exp(-th[2]), _times_mean, (0.0, INF)),
                Readout("shape", lambda th, m: th[2], _exp, (0.0, INF)),
            ),
            lower=(1e-8,), upper=(INF,), needs_positive_x=False,
        ),
        CurveLaw(
            "lognormal", "(A/x) e^(-(ln x - mu)^2 / (2 sigma^2))",
            basis=lambda u, psi: _rows(np.log(u), np.log(u) ** 2),
            evaluate=_lognormal,
            readouts=(
                _amplitude(lambda th, m: th[0] + m + (th[1] + 1) ** 2 * _variance(th) / 2),
                Readout("mu", lambda th, m: m + (th[1] + 1) * _variance(th), _same),
                Readout("sigma", lambda th, m: th[2], lambda h, m: np.sqrt(-0.5 / h), (0.0, INF)),
            ),
            lower=(-INF, -INF), upper=(INF, -1e-5),
        ),
        CurveLaw(
            "power_cutoff", "A x^-k e^(-x/c)",
            basis=lambda u, psi: _rows(-np.log(u), 1 - u),
            evaluate=lambda x, amplitude, exponent, cutoff: amplitude * x**-exponent * np.exp(-x / cutoff),
            readouts=(
                _amplitude(lambda th, m: th[0] + th[1] * m + th[2]),
                _EXPONENT,
                Readout("cutoff", lambda th, m: th[2], _inverse, (INF, 0.0)),
            ),
            lower=(-INF, 0.0), upper=(INF, INF),
        ),
        CurveLaw(
            "two_regime", "A x^-k up to b, then A b^(k2-k) x^-k2",
            basis=_break_basis, slope=_break_slope, psi_range=_break_range,
            evaluate=_two_regime,
            readouts=(
                _amplitude(lambda th, m: th[0] + th[1] * m),
                _EXPONENT,
                Readout("exponent2", lambda th, m: th[2], _same),
                Readout("break_", lambda th, m: th[3], _times_mean, (0.0, INF)),
            ),
            lower=(-INF, -INF), upper=(INF, INF),
        ),
    )
}
