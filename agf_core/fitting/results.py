"""What a fit hands back: prints itself, draws itself, serialises to JSON. One type per kind of fit.

Nothing here computes a fit. `ok` is False and `flags` say why whenever a number must not be taken at its face value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.fitting.laws import LAWS, Array
from agf_core.fitting.leastsquares import Problem

Interval = tuple[float, float]


def number(value: float) -> str:
    """Four significant digits; infinities as words that survive a table."""
    return "∞" if value == math.inf else "−∞" if value == -math.inf else f"{value:.4g}"


def plain(value: Any) -> Any:
    """A JSON-safe copy: JSON has no nan and no infinity, they become null and strings."""
    if isinstance(value, (Mapping, pd.Series)):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


@dataclass(frozen=True, repr=False)
class Result:
    """What all results share: the law, params: name -> value; ci: name -> (low, high), 95 %; flags: what is wrong.

    Fields that take no part in comparisons (`compare=False`) are what the numbers were read from: not serialised.
    """

    kind: ClassVar[str]
    law: str
    params: Mapping[str, float]
    ci: Mapping[str, Interval]
    flags: tuple[str, ...]

    def _heading(self) -> str:
        raise NotImplementedError

    @property
    def ok(self) -> bool:
        """False if anything about this fit was flagged."""
        return not self.flags

    def to_dict(self) -> dict[str, Any]:
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        clean: dict[str, Any] = plain({"kind": self.kind, **shown})
        return clean

    def to_json(self) -> str:
        """One JSON object; nan becomes null, infinities the strings "inf" and "-inf"."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def __str__(self) -> str:
        lines = [self._heading()]
        for name, value in self.params.items():
            low, high = self.ci.get(name, (math.nan, math.nan))
            lines.append(f"  {name:10s} {number(value):>10s}  [{number(low)}, {number(high)}]")
        return "\n".join([*lines, *(f"  flagged: {flag}" for flag in self.flags)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{number(value)}</td><td>{number(self.ci[name][0])} to "
            f"{number(self.ci[name][1])}</td></tr>"
            for name, value in self.params.items()
        )
        flags = "".join(f"<p><em>Flagged: {escape(flag)}</em></p>" for flag in self.flags)
        head = "<tr><th>parameter</th><th>estimate</th><th>95 % interval</th></tr>"
        return f"<p>{escape(self._heading())}</p><table>{head}{rows}</table>{flags}"


def draw(
    ax: Any, data: tuple[Array, Array], x: Array, y: Array, label: str, band: tuple[Array, Array] | None,
    band_label: str, log: bool = True,
) -> Any:
    """Dots, line and band of any result on a matplotlib axes (made if None), which is returned."""
    import matplotlib.pyplot as plt

    ax = ax if ax is not None else plt.subplots()[1]
    ax.plot(*data, "o", color="0.3", markersize=3.5, label="data")
    (line,) = ax.plot(x, y, label=label)
    if band is not None:
        ax.fill_between(x, *band, alpha=0.2, color=line.get_color(), label=band_label)
    if log:
        ax.set(xscale="log", yscale="log")
    ax.legend()
    return ax


@dataclass(frozen=True, repr=False)
class CurveFit(Result):
    """One series fitted by one law. r2 and aicc are in the space of the fit: compare them only within it.

    ci: by profile likelihood; n: points; rss: weighted residual sum.
    """

    kind = "curve"
    r2: float
    aicc: float
    n: int
    space: str
    rss: float
    # The data, the fitted coordinates (p,), their covariance (p, p), and the quantile of the intervals.
    problem: Problem = field(compare=False)
    theta: Array = field(compare=False)
    covariance: Array = field(compare=False)
    quantile: float = field(compare=False)

    def predict(self, x: ArrayLike) -> Array:
        """The fitted curve at x (any shape), in units of y."""
        points = np.asarray(x, dtype=float)
        return self.problem.curve(points.ravel(), self.theta[None])[0].reshape(points.shape)

    def band(self, x: ArrayLike) -> tuple[Array, Array]:
        """95 % band of the fitted *curve* (not of new points) at x (m,), by linearisation in the fitted space."""
        points = np.asarray(x, dtype=float)
        at = replace(self.problem, u=points / np.exp(self.problem.log_mean))
        fitted, jac = at.model(self.theta[None])
        half = self.quantile * np.sqrt(np.einsum("an,ab,bn->n", jac[0], self.covariance, jac[0]))
        low, high = fitted[0] - half, fitted[0] + half
        return (np.exp(low), np.exp(high)) if self.space == "log" else (low, high)

    def plot(self, ax: Any = None) -> Any:
        """Points, curve and band on a matplotlib axes (made if None), logarithmic where the fit was; the axes."""
        x = self.problem.u * np.exp(self.problem.log_mean)
        y = np.exp(self.problem.y[0]) if self.space == "log" else self.problem.y[0]
        grid = np.geomspace(x[x > 0].min(), x.max(), 200)
        label = f"{self.law}, R² {self.r2:.3f}"
        return draw(ax, (x, y), grid, self.predict(grid), label, self.band(grid), "95 % band", self.space == "log")

    def _heading(self) -> str:
        law = LAWS[self.law]
        tail = " + asymptote" if "asymptote" in self.params else ""
        return (
            f"{self.law}: {law.formula}{tail}; {self.space} space, n = {self.n}, "
            f"R² = {number(self.r2)}, AICc = {number(self.aicc)}"
        )


@dataclass(frozen=True)
class CurveFits:
    """S series fitted by one law. params, low, high: name -> (S,); r2, aicc, rss: (S,); flags: per series."""

    law: str
    params: dict[str, Array]
    low: dict[str, Array]
    high: dict[str, Array]
    r2: Array
    aicc: Array
    n: int
    space: str
    rss: Array
    flags: tuple[tuple[str, ...], ...]
    problem: Problem = field(repr=False, compare=False)
    theta: Array = field(repr=False, compare=False)  # (S, p)
    covariance: Array = field(repr=False, compare=False)  # (S, p, p)
    quantile: float = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.r2)

    def __getitem__(self, index: int) -> CurveFit:
        """Series number `index` as a CurveFit of its own."""
        place = range(len(self))[index]
        return CurveFit(
            law=self.law,
            params={k: float(v[index]) for k, v in self.params.items()},
            ci={k: (float(self.low[k][index]), float(self.high[k][index])) for k in self.params},
            r2=float(self.r2[index]), aicc=float(self.aicc[index]), n=self.n, space=self.space,
            rss=float(self.rss[index]), flags=self.flags[index],
            problem=self.problem.take(np.array([place])),
            theta=self.theta[index], covariance=self.covariance[index], quantile=self.quantile,
        )

    def predict(self, x: ArrayLike) -> Array:
        """The fitted curves at x (m,): (S, m), in units of y."""
        return self.problem.curve(np.asarray(x, dtype=float), self.theta)

    def to_frame(self) -> pd.DataFrame:
        """One row per series: each parameter with its interval, r2, aicc, flags joined by '; '."""
        columns: dict[str, object] = {}
        for name in self.params:
            columns |= {name: self.params[name], f"{name}_low": self.low[name], f"{name}_high": self.high[name]}
        flags = ["; ".join(f) for f in self.flags]
        return pd.DataFrame({**columns, "r2": self.r2, "aicc": self.aicc, "n": self.n, "flags": flags})
