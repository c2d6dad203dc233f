"""Fit decay laws to distributions by maximum likelihood: samples, weighted values, or a histogram.

Source: Clauset, Shalizi & Newman 2009 (SIAM Review 51, 661): the likelihoods, xmin by Kolmogorov-Smirnov distance and
the bootstrap; `powerlaw` (Alstott et al. 2014) is the oracle in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agf_core.fitting.count_fit import Setting, maximise
from agf_core.fitting.count_laws import COUNT_LAWS
from agf_core.fitting.histogram import Histogram, histogram
from agf_core.fitting.laws import INF, Array
from agf_core.fitting.results import Result, draw, number
from agf_core.fitting.validate import check_laws
from agf_core.fitting.xmin import find_xmin


@dataclass(frozen=True, repr=False)
class CountFit(Result):
    """A distribution fitted from xmin on. n_tail: weight (number of samples) in the tail, of n in all.

    ks: Kolmogorov-Smirnov distance; loglik: natural log likelihood of the tail; ci: by profile likelihood, given xmin.
    For discrete data a break_ belongs to the first regime.
    """

    kind = "counts"
    xmin: float
    xmax: float
    ks: float
    loglik: float
    n_tail: float
    n: float
    discrete: bool
    setting: Setting = field(compare=False)

    @property
    def _vector(self) -> Array:
        return np.array([self.params[name] for name in COUNT_LAWS[self.law].parameters])

    @property
    def aicc(self) -> float:
        """Corrected Akaike criterion of the tail: compare only fits with the same xmin and xmax."""
        k = len(self.params)
        return float(2 * k - 2 * self.loglik + 2 * k * (k + 1) / max(self.n_tail - k - 1, 1e-9))

    def log_mass(self, x: ArrayLike) -> Array:
        """Log probability (density, if continuous) at x >= xmin, given x >= xmin."""
        return self.setting.log_mass(self._vector, np.asarray(x, dtype=float))

    def predict(self, x: ArrayLike) -> Array:
        """Expected weight at each x (per unit of x, if continuous): n_tail times the mass."""
        return self.n_tail * np.exp(self.log_mass(x))

    def survival(self, x: ArrayLike) -> Array:
        """P(X >= x), given X >= xmin."""
        return self.setting.survival(self._vector, np.asarray(x, dtype=float))

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """`size` draws from the fitted tail, by bisection of its survival function: (size,)."""
        target = rng.random(size)  # P(X >= x) just above this
        low = np.full(size, self.xmin)
        high = np.full(size, min(self.xmax, 2 * self.xmin + 1))
        while np.any(short := (self.survival(high) > target) & (high < min(self.xmax, 1e15))):
            high = np.where(short, np.minimum(2 * high, self.xmax), high)
        for _ in range(60):
            middle = np.floor((low + high + 1) / 2) if self.discrete else (low + high) / 2
            above = self.survival(middle) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle - self.discrete)
            if np.all(high - low <= (0 if self.discrete else 1e-12 * low)):
                break
        return low

    def plot(self, ax: Any = None) -> Any:
        """Share of values >= x and the fitted law with its band (from the first parameter's interval); the axes."""
        tail, first = self.setting.tail, COUNT_LAWS[self.law].parameters[0]
        grid = np.geomspace(self.xmin, tail.values[-1], 100)
        grid = np.unique(np.round(grid)) if self.discrete else grid
        band = None
        if np.isfinite(self.ci[first]).all():
            low, high = (self.setting.survival(np.array([end, *self._vector[1:]]), grid) for end in self.ci[first])
            band = low, high
        label = f"{self.law}, KS {self.ks:.3g}"
        return draw(ax, (tail.values, 1 - tail.below()), grid, self.survival(grid), label, band, f"95 % of {first}")

    def _heading(self) -> str:
        end = "" if np.isinf(self.xmax) else f" to {number(self.xmax)}"
        return (
            f"{self.law} from {number(self.xmin)}{end}, {'discrete' if self.discrete else 'continuous'}; "
            f"{self.n_tail:g} of {self.n:g} values, KS = {number(self.ks)}, log likelihood = {self.loglik:.6g}"
        )


def fit_counts(
    samples: ArrayLike, law: str = "power", xmin: float | None = None, *, weights: ArrayLike | None = None,
    xmax: float | None = None, discrete: bool = True, intervals: bool = True,
) -> CountFit:
    """Fit one law to the tail xmin <= x <= xmax; exponent > 0 is decay.

    Args:
        samples: (n,) values > 0, whole numbers if discrete; with `weights` (n,) a histogram: value i counts weights[i]
            times. Intervals take the weights as numbers of independent observations.
        law: one of `COUNT_LAWS`.
        xmin: where the law begins. None: for "power" the value of smallest Kolmogorov-Smirnov distance, for other laws
            the smallest sample.
        xmax: a known maximum of the *possible* values (not just of the sample): the law ends there. Values above it are
            left out. None: the law goes on for ever.
        discrete: whole numbers (sums) or real ones (integrals).
        intervals: False skips the profile-likelihood intervals (they become nan).

    Raises ValueError on unknown laws, values that are not positive or not whole, an xmin beyond the data, too few
    values. An optimum that was not reached or lies at the edge of its range is flagged.
    """
    check_laws(law, COUNT_LAWS)
    data = histogram(samples, weights, discrete)
    return fit_histogram(data, law, xmin, xmax=xmax, discrete=discrete, intervals=intervals)


def fit_histogram(
    data: Histogram, law: str, xmin: float | None, *, xmax: float | None, discrete: bool, intervals: bool = True,
) -> CountFit:
    """`fit_counts` on a histogram that has been checked."""
    setting = settle(data, law, xmin, xmax, discrete)
    found = maximise(setting, intervals=intervals)
    names = setting.law.parameters
    flags = []
    if found.edge:
        flags.append("estimate at the edge of its range: the data prefer a limiting law (parameters not separate)")
    elif not found.converged:
        flags.append("the optimum was not reached; do not use these numbers")
    if setting.tail.total < 50:
        flags.append(f"only {setting.tail.total:g} values in the tail: too few to tell laws apart")
    return CountFit(
        law=law,
        params=dict(zip(names, map(float, found.params), strict=True)),
        ci=dict(zip(names, found.bounds, strict=True)),
        xmin=setting.xmin, xmax=setting.xmax, ks=setting.ks(found.params), loglik=found.loglik,
        n_tail=setting.tail.total, n=data.total, discrete=discrete, flags=tuple(flags), setting=setting,
    )


def settle(data: Histogram, law: str, xmin: float | None, xmax: float | None, discrete: bool) -> Setting:
    """Fix the support: check xmin and xmax against the data, search xmin if it is None and the law is a power."""
    end = INF if xmax is None else float(xmax)
    largest, smallest = data.values[-1], data.values[0]
    if not end > smallest:
        raise ValueError(f"xmax = {end:g} is not above the smallest sample {smallest:g}; give a larger xmax or None")
    if xmin is None:
        start = find_xmin(data, end, discrete) if law == "power" else float(smallest)
    else:
        start = float(xmin)
        if not 0 < start < np.inf:
            raise ValueError(f"xmin must be a positive number or None, got {xmin}")
        if discrete and start != np.floor(start):
            raise ValueError(f"xmin must be a whole number for discrete data, got {xmin}")
        if start >= min(largest, end):
            raise ValueError(
                f"xmin = {start:g} is beyond the data: the largest sample (up to xmax) is {min(largest, end):g}; "
                f"give a smaller xmin, or None to search it"
            )
    tail = data.tail(start, end)
    chosen = COUNT_LAWS[law]
    need = len(chosen.parameters) + 1
    if len(tail.values) < need:
        raise ValueError(
            f"too few distinct values: law {law!r} needs at least {need} between xmin = {start:g} and xmax, "
            f"got {len(tail.values)}; give a smaller xmin or more data"
        )
    return Setting(chosen, tail, start, end, discrete)
