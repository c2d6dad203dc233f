"""Decay laws as distributions: how often does x occur, x >= xmin (and <= xmax)?

| law                   | mass or density, up to its normaliser    | parameters                          |
|-----------------------|------------------------------------------|-------------------------------------|
| power                 | x^-k (zeta; Pareto)                      | exponent                            |
| shifted_power         | (1 + x/x0)^-k (Zipf-Mandelbrot; Lomax)   | exponent, scale                     |
| exponential           | e^(-m x) (geometric)                     | rate                                |
| stretched_exponential | Weibull, survival e^(-(x/s)^p)           | scale, shape                        |
| lognormal             | lognormal                                | mu, sigma                           |
| power_cutoff          | x^-k e^(-x/c)                            | exponent, cutoff                    |
| two_regime            | x^-k up to b, then x^-k2, continuous     | exponent, exponent2, break_         |
| two_geometric         | e^(-m x) up to b, then e^(-m2 x), cont.  | rate, rate2, break_                 |

The Weibull and the lognormal are made discrete by rounding, P(x) = S(x - 1/2) - S(x + 1/2), as Clauset et al. 2009 and
`powerlaw` do; the others by their own sums. `two_geometric` is the two-regime model of dependency distances, Petrini &
Ferrer-i-Cancho 2022 (arXiv 2211.14620): p(d) = c1 (1-q1)^(d-1) for d <= b, c2 (1-q2)^(d-1) above, c2 such that the two
agree at b; rate = -log(1-q1), rate2 = -log(1-q2). Sources: Clauset, Shalizi & Newman 2009, tables 2.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from agf_core.fitting.laws import INF, Array
from agf_core.fitting.sums import log_between_power, log_between_power_cutoff

Centre = tuple[float, float]
Params = Array  # (p,) in the order of `CountLaw.parameters`


@dataclass(frozen=True)
class CountLaw:
    """log_between(a, b, params, discrete): log of the unnormalised total over a <= x <= b (a may be an array).

    log_mass(x, params, discrete): log of the unnormalised mass or density. broken: the last parameter is a break among
    the values. The others are found in coordinates of order one, in which the law's limits (to a power law, to an
    exponential) are ordinary points: natural(theta, centre) gives the parameters, grid the starting points. centre:
    the tail's mean log and its mean excess over xmin.
    """

    name: str
    parameters: tuple[str, ...]
    log_mass: Callable[[Array, Params, bool], Array]
    log_between: Callable[[Array, float, Params, bool], Array]
    natural: Callable[[Array, Centre], Array]
    grid: tuple[tuple[float, ...], ...]
    box: tuple[tuple[float, float], ...]  # of theta, where the support is endless
    finite_box: tuple[tuple[float, float], ...] | None = None  # where xmax is known, if other
    broken: bool = False

    @property
    def free(self) -> int:
        """Parameters found by continuous optimisation (the break is searched among the values)."""
        return len(self.parameters) - self.broken


def log_minus(a: Array, b: Array) -> Array:
    """log(e^a - e^b) for a >= b."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b == -INF, a, a + np.log(-np.expm1(np.minimum(b - a, 0.0))))


def _log_survival_weibull(x: Array, p: Params) -> Array:
    return -((np.maximum(x, 0.0) / p[0]) ** p[1])


def _log_survival_lognormal(x: Array, p: Params) -> Array:
    with np.errstate(divide="ignore"):
        survival: Array = special.log_ndtr(-(np.log(np.maximum(x, 0.0)) - p[0]) / p[1])
    return survival


def _rounded(
    survival: Callable[[Array, Params], Array], log_density: Callable[[Array, Params], Array],
) -> tuple[Callable[[Array, Params, bool], Array], Callable[[Array, float, Params, bool], Array]]:
    """Mass and totals of a law known by its survival function, made discrete by rounding."""

    def mass(x: Array, p: Params, discrete: bool) -> Array:
        if not discrete:
            return log_density(x, p)
        # Far out the difference is lost to rounding, and the density is the same to 1 part in x².
        return np.where(x > 1e6, log_density(x, p), log_minus(survival(x - 0.5, p), survival(x + 0.5, p)))

    def between(a: Array, b: float, p: Params, discrete: bool) -> Array:
        half = 0.5 if discrete else 0.0
        end = survival(np.array(b + half), p) if b < INF else np.array(-INF)
        return log_minus(survival(a - half, p), end)

    return mass, between


def _log_density_weibull(x: Array, p: Params) -> Array:
    return np.log(p[1] / p[0]) + (p[1] - 1) * np.log(x / p[0]) - (x / p[0]) ** p[1]


def _log_density_lognormal(x: Array, p: Params) -> Array:
    z = (np.log(x) - p[0]) / p[1]
    return -np.log(x) - np.log(p[1]) - 0.5 * np.log(2 * np.pi) - 0.5 * z**2


def _between_exponential(a: Array, b: float, rate: float, discrete: bool) -> Array:
    """Total of e^(-rate x) over [a, b]; any rate if b is finite."""
    size = b - a + 1 if discrete else b - a
    if b == INF:
        return -rate * a - np.log(-np.expm1(-rate) if discrete else rate)
    unit = -np.expm1(-rate) if discrete else rate
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        total = np.where(np.abs(rate * size) < 1e-12, size, -np.expm1(-rate * size) / (unit or 1.0))
        return -rate * a + np.log(np.maximum(total, 0.0))


def _joined(
    first: Callable[[Array, float, float, bool], Array], second: Callable[[Array, float, float, bool], Array],
    drop: Callable[[float, float], float],
) -> Callable[[Array, float, Params, bool], Array]:
    """Totals of a law of two regimes that agree at the break: the second is scaled by e^drop."""

    def between(a: Array, b: float, p: Params, discrete: bool) -> Array:
        edge, log_drop = p[2], drop(p[0] - p[1], p[2])
        start = np.asarray(a, dtype=float)
        # Discrete: the break belongs to the first regime. Continuous: it has no mass.
        after = np.maximum(start, np.floor(edge) + 1 if discrete else edge)
        last = min(b, np.floor(edge) if discrete else edge)
        high = second(after, b, p[1], discrete) - log_drop
        inside = start <= last
        low = np.where(inside, first(np.where(inside, start, last), last, p[0], discrete), -INF)
        high = np.where(after <= b, high, -INF)
        return np.logaddexp(low, high)

    return between


_WEIBULL = _rounded(_log_survival_weibull, _log_density_weibull)
_LOGNORMAL = _rounded(_log_survival_lognormal, _log_density_lognormal)


# Exponents of an endless power law must exceed 1; a known end lifts that, and lets a law grow.
_ENDLESS, _FINITE = (1.0 + 1e-7, 60.0), (-20.0, 60.0)
_RATE, _RATE_FINITE = (1e-7, 60.0), (-60.0, 60.0)  # per mean excess
_LOG_SCALE = (-12.0, 45.0)  # about the tail's mean log
_EXPONENTS = ((1.2,), (2.0,), (4.0,))


def _shifted(theta: Array, centre: Centre) -> Array:
    # theta: the local exponent at the mean log, and log scale about it; a large scale is an exponential.
    w = np.exp(theta[1])
    return np.array([theta[0] * (1 + w), w * np.exp(centre[0])])


def _weibull(theta: Array, centre: Centre) -> Array:
    # theta: the log of the survival's local exponent at the mean log, and log shape; a small shape is a power law.
    return np.array([np.exp(centre[0] - (theta[0] - theta[1]) * np.exp(-theta[1])), np.exp(theta[1])])


def _normal(theta: Array, centre: Centre) -> Array:
    # theta: the density's local exponent at the mean log, and log sigma; a large sigma is a power law.
    sigma = np.exp(theta[1])
    return np.array([centre[0] - (theta[0] - 1) * sigma**2, sigma])


_SHAPES = (-3.5, float(np.log(20.0)))
_SIGMAS = (-6.0, 3.5)

COUNT_LAWS: dict[str, CountLaw] = {
    law.name: law
    for law in (
        CountLaw(
            "power", ("exponent",),
            log_mass=lambda x, p, d: -p[0] * np.log(x),
            log_between=lambda a, b, p, d: log_between_power(a, b, p[0], d),
            natural=lambda theta, centre: theta, grid=_EXPONENTS, box=(_ENDLESS,), finite_box=(_FINITE,),
        ),
        CountLaw(
            "shifted_power", ("exponent", "scale"),
            log_mass=lambda x, p, d: -p[0] * np.log(x + p[1]),
            log_between=lambda a, b, p, d: log_between_power(a + p[1], b + p[1], p[0], d),
            natural=_shifted, grid=((1.5, -2.0), (1.5, 1.0)),
            box=((0.01, 60.0), (-12.0, 7.0)), finite_box=(_FINITE, (-12.0, 7.0)),
        ),
        CountLaw(
            "exponential", ("rate",),
            log_mass=lambda x, p, d: -p[0] * x,
            log_between=lambda a, b, p, d: _between_exponential(a, b, p[0], d),
            natural=lambda theta, centre: theta / centre[1], grid=((1.0,),), box=(_RATE,), finite_box=(_RATE_FINITE,),
        ),
        CountLaw(
            "stretched_exponential", ("scale", "shape"), *_WEIBULL,
            natural=_weibull, grid=((0.0, -1.0), (0.0, 0.3)), box=((-8.0, 6.0), _SHAPES),
        ),
        CountLaw(
            "lognormal", ("mu", "sigma"), *_LOGNORMAL,
            natural=_normal, grid=((1.0, 0.0), (2.0, 1.0)), box=((-60.0, 60.0), _SIGMAS),
        ),
        CountLaw(
            "power_cutoff", ("exponent", "cutoff"),
            log_mass=lambda x, p, d: -p[0] * np.log(x) - x / p[1],
            log_between=lambda a, b, p, d: log_between_power_cutoff(a, b, p[0], p[1], d),
            natural=lambda theta, centre: np.array([theta[0], np.exp(theta[1] + centre[0])]),
            grid=((1.0, 2.0), (2.0, 5.0)), box=(_FINITE, _LOG_SCALE),
        ),
        CountLaw(
            "two_regime", ("exponent", "exponent2", "break_"),
            log_mass=lambda x, p, d: -p[0] * np.log(np.minimum(x, p[2])) - p[1] * np.log(np.maximum(x / p[2], 1.0)),
            log_between=_joined(log_between_power, log_between_power, lambda change, edge: change * np.log(edge)),
            natural=lambda theta, centre: theta, grid=((1.5, 2.5),),
            box=(_FINITE, _ENDLESS), finite_box=(_FINITE, _FINITE), broken=True,
        ),
        CountLaw(
            "two_geometric", ("rate", "rate2", "break_"),
            log_mass=lambda x, p, d: -p[0] * np.minimum(x, p[2]) - p[1] * np.maximum(x - p[2], 0.0),
            log_between=_joined(_between_exponential, _between_exponential, lambda change, edge: change * edge),
            natural=lambda theta, centre: theta / centre[1], grid=((1.0, 1.0),),
            box=(_RATE_FINITE, _RATE), finite_box=(_RATE_FINITE, _RATE_FINITE), broken=True,
        ),
    )
}
