"""Maximum likelihood of one law on one histogram with a fixed xmin: the engine under `fit_counts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agf_core.fitting.count_laws import Centre, CountLaw
from agf_core.fitting.histogram import Histogram
from agf_core.fitting.laws import INF, Array
from agf_core.fitting.likelihood import Optimum, minimise_cost, profile_bounds
from agf_core.fitting.results import Interval

POSITIVE = ("scale", "shape", "sigma", "cutoff")
_NO_BOUNDS: list[Interval] = [(np.nan, np.nan)] * 3
RISE = 1.920729410347062  # half the 95 % point of chi-squared with one degree of freedom


@dataclass(frozen=True)
class Setting:
    """What is being fitted: the tail's histogram, its support, and the law."""

    law: CountLaw
    tail: Histogram
    xmin: float
    xmax: float
    discrete: bool

    @property
    def centre(self) -> Centre:
        """Mean log of the tail, and its mean excess over xmin: what the coordinates are measured from."""
        mean, log_mean = self.tail.moments()
        return log_mean, mean - self.xmin

    def log_total(self, params: Array) -> Array:
        """Logarithm of the normaliser."""
        return self.law.log_between(np.array(self.xmin), self.xmax, params, self.discrete)

    def log_mass(self, params: Array, x: Array | None = None) -> Array:
        """Normalised log mass (density) at x, by default at the histogram's values: (U,)."""
        at = self.tail.values if x is None else x
        return self.law.log_mass(at, params, self.discrete) - self.log_total(params)

    def survival(self, params: Array, x: Array) -> Array:
        """P(X >= x)."""
        return np.exp(self.law.log_between(x, self.xmax, params, self.discrete) - self.log_total(params))

    def ks(self, params: Array) -> float:
        """Largest |P(X < x) - share below x| over the values: Clauset's distance as `powerlaw` computes it."""
        return float(np.abs(1 - self.survival(params, self.tail.values) - self.tail.below()).max())

    def mean_cost(self, params: Array) -> float:
        """Mean negative log likelihood per observation."""
        with np.errstate(all="ignore"):
            return -float(self.tail.weight @ self.log_mass(params)) / self.tail.total


@dataclass(frozen=True)
class Likelihood:
    """The best parameters, the interval of each (low, high), the log likelihood, and whether to trust them."""

    params: Array
    bounds: list[Interval]
    loglik: float
    converged: bool
    edge: bool


def maximise(setting: Setting, *, intervals: bool = True) -> Likelihood:
    """The law's maximum-likelihood parameters, with profile intervals unless `intervals` is False."""
    if setting.law.broken:
        return _maximise_broken(setting, intervals)
    best = _optimum(setting, None, None)
    params = setting.law.natural(best.theta, setting.centre)
    low, high = _box(setting)
    edge = best.flat or bool(((best.theta - low < 0.05) | (high - best.theta < 0.05)).any())
    bounds = _bounds(setting, params, best.cost, RISE / setting.tail.total) if intervals else _NO_BOUNDS[: len(params)]
    return Likelihood(params, bounds, -best.cost * setting.tail.total, best.converged, edge)


def _maximise_broken(setting: Setting, intervals: bool) -> Likelihood:
    """Two regimes: the break runs over the values, each break has its own optimum; intervals are their union."""
    breaks = _candidate_breaks(setting)
    found: list[Optimum] = []
    for edge in breaks:
        found.append(_optimum(setting, float(edge), found[-1].theta if found else None))
    costs = np.array([best.cost for best in found])
    top = int(costs.argmin())
    ceiling = costs[top] + RISE / setting.tail.total

    def params(k: Any) -> Array:
        return np.append(setting.law.natural(found[k].theta, setting.centre), breaks[k])

    bounds = list(_NO_BOUNDS)
    if intervals:
        allowed = np.flatnonzero(costs < ceiling)
        each = [_bounds(setting, params(k), costs[k], ceiling - costs[k]) for k in allowed]
        bounds = [(min(e[i][0] for e in each), max(e[i][1] for e in each)) for i in range(2)]
        bounds.append((float(breaks[allowed[0]]), float(breaks[allowed[-1]])))
    edge = top in (0, len(breaks) - 1)
    return Likelihood(params(top), bounds, -costs[top] * setting.tail.total, found[top].converged, edge)


def _candidate_breaks(setting: Setting) -> Array:
    """Up to 60 values that leave at least two distinct values on either side."""
    inner = setting.tail.values[1:-2]
    if len(inner) <= 60:
        return inner
    picks = np.unique(np.round(np.geomspace(1, len(inner), 60)).astype(int)) - 1
    return inner[picks]


def _optimum(setting: Setting, edge: float | None, warm: Array | None) -> Optimum:
    def cost(theta: Array) -> float:
        params = setting.law.natural(theta, setting.centre)
        return setting.mean_cost(params if edge is None else np.append(params, edge))

    guesses = [np.array(g) for g in setting.law.grid] if warm is None else [warm]
    return minimise_cost(cost, guesses, *_box(setting))


def _box(setting: Setting) -> tuple[Array, Array]:
    law = setting.law
    low, high = np.array(law.box if setting.xmax == INF else law.finite_box or law.box).T
    return low, high


def _bounds(setting: Setting, params: Array, least: float, rise: float) -> list[Interval]:
    """Profile intervals of the continuous parameters, in the written parameters (positive ones as logarithms).

    Rates are measured per mean excess, so that the coordinates are of order one.
    """
    law = setting.law
    names = law.parameters[: law.free]
    positive = np.array([name in POSITIVE for name in names])
    unit = np.array([1 / setting.centre[1] if name.startswith("rate") else 1.0 for name in names])
    rest = params[law.free :]

    def written(v: Array) -> Array:
        return np.append(np.where(positive, np.exp(np.clip(v, -300, 300)), v * unit), rest)

    at = np.where(positive, np.log(np.maximum(params[: law.free], 1e-300)), params[: law.free] / unit)
    low = np.minimum([_floor(setting, name) for name in names], at - 1e-9)
    high = np.where(positive, 200.0 + np.abs(at), 1e7)
    def cost(v: Array) -> float:
        return setting.mean_cost(written(v))

    ends = [profile_bounds(cost, at, least, i, rise, low, high) for i in range(law.free)]
    scale = [(np.exp if positive[i] else lambda v, u=unit[i]: v * u) for i in range(law.free)]
    return [(float(to(a)), float(to(b))) for to, (a, b) in zip(scale, ends, strict=True)]


def _floor(setting: Setting, name: str) -> float:
    """Lower end of a written parameter's range: what an endless law needs to have a finite total."""
    law = setting.law.name
    if name in POSITIVE:
        return -200.0
    if setting.xmax == INF and (name == "exponent2" or (name == "exponent" and law in ("power", "shifted_power"))):
        return 1.0 + 1e-9
    if setting.xmax == INF and (name == "rate2" or (name == "rate" and law == "exponential")):
        return 1e-12
    return -1e4
