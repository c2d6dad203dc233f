"""Is a model's power law an average of exponentials? Pooled heads against the Gamma mixture of their rates (ours).

∫ e^(−m r) Gamma(m; k, θ) dm = (1 + θ r)^−k: heads that are exponentials with Gamma-distributed rates pool *exactly* to
a shifted power law (the Laplace transform of the Gamma distribution; on averaging: Heathcote, Brown & Mewhort 2000). So
a pooled power law says nothing of any head. Two questions, in this order: are single heads power laws already (then
pooling is not needed), and if they are exponentials, does the Gamma distribution of their own rates, with nothing
fitted to the pooled curve, predict it at distances that nobody fitted?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.analysis.clusters import clustered
from agf_core.analysis.law_scores import fit, predict, score
from agf_core.figures import Estimate
from agf_core.fitting import GammaMixture, fit_gamma_mixture
from agf_core.fitting.laws import Array

CURVES = ("single exponential", "heads' exponentials", "gamma mixture", "fitted shifted power")


@dataclass(frozen=True)
class Mixture:
    """What pooling explains, in tables and in numbers for sentences.

    heads: model, head, rate (1/token, fitted on the near half), pooled (bool: the rate is positive), winner (as in
    `law_scores.score`). pooled: distance, observed, then a column for each of `CURVES`; all are 1 at distance 0, but
    for a fitted amplitude. errors: curve, error (mean square of log g on the far half), train (on the near half),
    fitted (bool: to the pooled curve). gamma: the heads' Gamma distribution, or None if their rates have no spread.
    exponential, power: share of heads, of all, whose single field is called that. verdict: "pooling explains it",
    "pooling not needed", "no power law to explain" or "pooling does not explain it".
    """

    heads: pd.DataFrame
    pooled: pd.DataFrame
    errors: pd.DataFrame
    gamma: GammaMixture | None
    exponential: Estimate
    power: Estimate
    verdict: str

    def error(self, curve: str) -> float:
        """The held-out mean square of one of `CURVES`; nan where there is none."""
        return float(self.errors.set_index("curve")["error"][curve])


def mixture(profiles: ArrayLike, models: ArrayLike | None = None, *, usable: ArrayLike | None = None) -> Mixture:
    """Pool heads' fields and ask what explains the pooled curve.

    profiles (S, W) log field (nat) at r = 1 … W; models (S,); usable (W,) bool: as in `law_scores.score`. Every head is
    brought to 1 at distance 0 by its own exponential's amplitude (the identity holds for fields so normalised), fitted
    on r ≤ W/2. Heads that do not fall, or have a nan, are counted and not pooled. Raises ValueError if fewer than three
    heads fall.
    """
    scores = score(profiles, models, usable=usable)
    table = scores.table[["model", "head", "rate", "winner"]].copy()
    values = np.asarray(profiles, dtype=float)
    use = np.ones(values.shape[1], dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    table.insert(3, "pooled", (table["rate"] > 0) & np.isfinite(values[:, use]).all(axis=1))
    falls = table["pooled"].to_numpy()
    if falls.sum() < 3:
        raise ValueError(f"needs ≥ 3 heads whose field falls with distance, got {falls.sum()} of {len(table)}")
    every = np.arange(1.0, len(use) + 1)
    r, near = every[use], use & (every <= len(use) / 2)
    kept = values[falls]
    kept = kept - kept[:, use].mean(axis=1, keepdims=True)
    own = fit(kept, near, "exponential")
    level, rates = predict(own, np.zeros(1)), own.params["rate"]
    observed = np.full((1, len(use)), np.nan)
    observed[0, use] = _log_mean(kept[:, use] - level)
    fitted = {
        "single exponential": predict(fit(observed, near, "exponential"), r)[0],
        "fitted shifted power": predict(fit(observed, near, "shifted_power"), r)[0],
        "heads' exponentials": _log_mean(-rates[:, None] * r),
    }
    gamma = fit_gamma_mixture(rates) if np.ptp(rates) > 1e-4 * rates.mean() else None
    fitted["gamma mixture"] = np.full(len(r), np.nan) if gamma is None else np.log(gamma.pooled(r))
    seen = observed[0, use]
    pooled = pd.DataFrame({"distance": r, "observed": np.exp(seen), **{c: np.exp(fitted[c]) for c in CURVES}})
    square = {c: (fitted[c] - seen) ** 2 for c in CURVES}
    far = ~near[use]
    errors = pd.DataFrame({
        "curve": CURVES, "error": [square[c][far].mean() for c in CURVES],
        "train": [square[c][~far].mean() for c in CURVES],
        "fitted": [c in ("single exponential", "fitted shifted power") for c in CURVES],
    })  # fmt: skip
    exponential, power = (_share(table, table["winner"] == law) for law in ("exponential", "shifted_power"))
    return Mixture(table, pooled, errors, gamma, exponential, power, _verdict(errors, exponential, power, gamma))


def _log_mean(rows: Array) -> Array:
    """log of the mean over heads of e^rows (S, n): (n,)."""
    top = rows.max(axis=0)
    total: Array = top + np.log(np.exp(rows - top).mean(axis=0))
    return total


def _share(table: pd.DataFrame, hit: pd.Series) -> Estimate:
    each = hit.groupby(table["model"]).agg(["sum", "size"])
    return clustered(each["sum"].to_numpy(), each["size"].to_numpy())


def _verdict(errors: pd.DataFrame, exponential: Estimate, power: Estimate, gamma: GammaMixture | None) -> str:
    """Single heads first; then the pooled curve must bend, and the heads' own rates must predict how.

    There is a bend if the single exponential errs by more than 0.03 nat and a shifted power law halves its square; a
    mixture explains it if it leaves less than a quarter.
    """
    error = errors.set_index("curve")["error"]
    if power.value > 0.5:
        return "pooling not needed"
    if error["single exponential"] < 1e-3 or error["fitted shifted power"] > 0.5 * error["single exponential"]:
        return "no power law to explain"
    explained = gamma is not None and error["gamma mixture"] < 0.25 * error["single exponential"]
    return "pooling explains it" if explained and exponential.value > 0.5 else "pooling does not explain it"
