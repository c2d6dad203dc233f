"""What a fit to a distribution hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agf_core.fitting.count_fit import Setting
from agf_core.fitting.count_laws import COUNT_LAWS
from agf_core.fitting.laws import Array
from agf_core.fitting.results import Interval, Result, number


@dataclass(frozen=True, repr=False)
class CountFit(Result):
    """A distribution fitted from xmin on. n_tail: weight (number of samples) in the tail, of n in all.

    ks: Kolmogorov-Smirnov distance; loglik: natural log likelihood of the tail; ci: 95 % profile likelihood, given
    xmin. For discrete data a break_ belongs to the first regime.
    """

    law: str
    params: Mapping[str, float]
    ci: Mapping[str, Interval]
    xmin: float
    xmax: float
    ks: float
    loglik: float
    n_tail: float
    n: float
    discrete: bool
    flags: tuple[str, ...] = ()
    setting: Setting = field(compare=False, default=None)  # type: ignore[assignment]

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
        import matplotlib.pyplot as plt

        ax = ax if ax is not None else plt.subplots()[1]
        tail = self.setting.tail
        ax.plot(tail.values, 1 - tail.below(), ".", color="0.3", label="data")
        grid = np.geomspace(self.xmin, tail.values[-1], 100)
        grid = np.unique(np.round(grid)) if self.discrete else grid
        (line,) = ax.plot(grid, self.survival(grid), label=f"{self.law}, KS {self.ks:.3g}")
        first = COUNT_LAWS[self.law].parameters[0]
        if np.isfinite(self.ci[first]).all():
            ends = [self.setting.survival(np.array([end, *self._vector[1:]]), grid) for end in self.ci[first]]
            ax.fill_between(grid, *ends, alpha=0.2, color=line.get_color(), label=f"95 % of {first}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.legend()
        return ax

    def _heading(self) -> str:
        end = "" if np.isinf(self.xmax) else f" to {number(self.xmax)}"
        return (
            f"{self.law} from {number(self.xmin)}{end}, {'discrete' if self.discrete else 'continuous'}; "
            f"{self.n_tail:g} of {self.n:g} values, KS = {number(self.ks)}, log likelihood = {self.loglik:.6g}"
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "kind": "counts", "law": self.law, "xmin": self.xmin, "xmax": self.xmax, "ks": self.ks,
            "loglik": self.loglik, "n_tail": self.n_tail, "n": self.n, "discrete": self.discrete,
        }

    __repr__ = Result.__str__
