"""What a gravity fit hands back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.fitting.flows import Flows
from agf_core.fitting.laws import Array
from agf_core.fitting.results import Result, draw, number


@dataclass(frozen=True, repr=False)
class GravityFit(Result):
    """flow = origin effect · mass[destination] · g(distance).

    ci: cluster-robust. For steps, params are log g of a step relative to the first one. masses: one per destination
    label, geometric mean 1 (0 where nothing ever flowed; only ratios mean anything). deviance_explained: of the
    deviance of equal flows. shares: part ("distance", "origin", "destination") -> deviance lost, relative to the same,
    when it is dropped and the rest refitted. residual_share: of the distance's variance, left over by the effects;
    small means weakly identified.
    """

    kind = "gravity"
    masses: pd.Series
    deviance_explained: float
    shares: Mapping[str, float]
    residual_share: float
    deviance: float
    null_deviance: float
    pairs: int
    clusters: int
    covariance: Array = field(compare=False)  # of the parameters, a scale as its logarithm
    deviation: Array = field(compare=False)  # standard error of log g at the flows' distances, its level given
    flows: Flows = field(compare=False)
    edges: Array = field(compare=False)

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
        step = np.digitize(r, self.edges) - 1
        return np.where((step >= 0) & (step < len(table)), table[np.clip(step, 0, len(table) - 1)], np.nan)

    def plot(self, ax: Any = None) -> Any:
        """Mean flow by distance, the fitted field through its level with its band, on logarithmic axes; the axes.

        The dots are the raw means: masses and effects are *not* divided out, so they may well lie off the field.
        """
        r = self.flows.distances
        ones = self.flows.spread(np.ones(len(r)))
        pairs = self.flows.to_distance(ones, np.ones(self.flows.origins), np.ones(self.flows.destinations))
        mean = self.flows.by_distance() / pairs
        log_g = self.log_field(r)
        log_g = log_g + np.log(mean.sum() / np.exp(log_g).sum())
        band = np.exp(log_g - 1.96 * self.deviation), np.exp(log_g + 1.96 * self.deviation)
        return draw(ax, (r[mean > 0], mean[mean > 0]), r, np.exp(log_g), self.law, band, "95 % band")

    def _heading(self) -> str:
        parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.items())
        return (
            f"gravity, {self.law}: {self.pairs} pairs, {len(self.masses)} masses, {self.clusters} clusters; deviance "
            f"explained {100 * self.deviance_explained:.1f} %" + (f" (lost without: {parts})" if parts else "")
            + f"; {number(100 * self.residual_share)} % of the distance left over by the effects"
        )
