"""What a gravity fit hands back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.fitting.flows import Flows
from agf_core.fitting.laws import Array
from agf_core.fitting.results import Interval, Result, number


@dataclass(frozen=True, repr=False)
class GravityFit(Result):
    """flow = origin effect · mass[destination] · g(distance).

    params, ci: as everywhere, cluster-robust at 95 %; for steps, log g of a step relative to the first one. masses:
    one per destination label, geometric mean 1 (0 where nothing ever flowed; only ratios mean anything).
    deviance_explained: of the deviance of equal flows. shares: part ("distance", "origin", "destination") -> deviance
    lost, relative to the same, when it is dropped and the rest refitted. residual_share: of the distance's variance,
    left over by the effects; small means weakly identified.
    """

    law: str
    params: Mapping[str, float]
    ci: Mapping[str, Interval]
    masses: pd.Series
    deviance_explained: float
    shares: Mapping[str, float]
    residual_share: float
    deviance: float
    null_deviance: float
    pairs: int
    clusters: int
    covariance: Array = field(compare=False)
    flags: tuple[str, ...] = ()
    flows: Flows | None = field(default=None, compare=False)
    edges: Array | None = field(default=None, compare=False)

    @property
    def exponent(self) -> float:
        """The exponent; nan for laws that have none."""
        return self.params.get("exponent", math.nan)

    def log_field(self, distance: ArrayLike) -> Array:
        """log g at the distances (any shape); g is 1 at distance 1 (power), 0 (shifted, exponential), in step one."""
        r = np.asarray(distance, dtype=float)
        if self.law == "power":
            return -self.params["exponent"] * np.log(r)
        if self.law == "exponential":
            return -self.params["rate"] * r
        if self.law == "shifted_power":
            return -self.params["exponent"] * np.log1p(r / self.params["scale"])
        table = np.array([0.0, *self.params.values()])
        step = np.digitize(r, self.edges) - 1 if self.edges is not None else np.zeros(r.shape, dtype=int)
        return np.where((step >= 0) & (step < len(table)), table[np.clip(step, 0, len(table) - 1)], np.nan)

    def plot(self, ax: Any = None) -> Any:
        """Mean flow by distance, the fitted field through its level with its band, on logarithmic axes; the axes.

        The dots are the raw means: masses and effects are *not* divided out, so they may well lie off the field.
        """
        import matplotlib.pyplot as plt

        if self.flows is None:
            raise ValueError("this fit carries no flows to plot (it was read back)")
        ax = ax if ax is not None else plt.subplots()[1]
        r = self.flows.distances
        ones = self.flows.spread(np.ones(len(r)))
        pairs = self.flows.to_distance(ones, np.ones(self.flows.origins), np.ones(self.flows.destinations))
        mean = self.flows.by_distance() / pairs
        ax.plot(r[mean > 0], mean[mean > 0], ".", color="0.3", label="mean flow")
        log_g = self.log_field(r)
        level = np.log(mean.sum() / np.exp(log_g).sum())
        (line,) = ax.plot(r, np.exp(level + log_g), label=f"{self.law}")
        half = 1.96 * np.sqrt(np.maximum(self._variance(r), 0.0))
        ax.fill_between(
            r, np.exp(level + log_g - half), np.exp(level + log_g + half), alpha=0.2, color=line.get_color(),
            label="95 % band",
        )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.legend()
        return ax

    def _variance(self, r: Array) -> Array:
        """Variance of log g at r about its value at the geometric mean distance, where the level is pinned."""
        if self.law == "steps":
            return np.zeros(len(r))
        centre = np.exp(np.log(r).mean())
        step = 1e-5
        slopes = []
        for name, value in self.params.items():
            up = {**self.params, name: value * np.exp(step) if name == "scale" else value + step}
            moved = replace(self, params=up)
            change = moved.log_field(np.append(r, centre)) - self.log_field(np.append(r, centre))
            slopes.append((change[:-1] - change[-1]) / step)
        jac = np.array(slopes)
        variance: Array = np.einsum("pr,pq,qr->r", jac, self.covariance, jac)
        return variance

    def _heading(self) -> str:
        parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return (
            f"gravity, {self.law}: {self.pairs} pairs, {len(self.masses)} masses, {self.clusters} clusters; deviance "
            f"explained {100 * self.deviance_explained:.1f} %" + (f" (lost without: {parts})" if parts else "")
            + f"; {number(100 * self.residual_share)} % of the distance left over by the effects"
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "kind": "gravity", "law": self.law, "pairs": self.pairs, "clusters": self.clusters,
            "deviance_explained": self.deviance_explained, "shares": dict(self.shares),
            "residual_share": self.residual_share, "deviance": self.deviance,
            "masses": {str(k): float(v) for k, v in self.masses.items()},
        }

    __repr__ = Result.__str__
