"""Is a model's power law an average of exponentials? Pooled heads against the Gamma mixture of their rates (ours).

∫ e^(−m r) Gamma(m; k, θ) dm = (1 + θ r)^−k: heads that are exponentials with Gamma-distributed rates pool *exactly* to
a shifted power law (the Laplace transform of the Gamma distribution; on averaging: Heathcote, Brown & Mewhort 2000). So
a pooled power law says nothing of any head. Two questions, in this order: are single heads power laws already (then
pooling is not needed), and if they are exponentials, does the Gamma distribution of their own rates, with nothing
fitted to the pooled curve, predict it at distances that nobody fitted?

The pool must be a mean: the median of log g over exponential heads is an exponential, whatever their rates. But one
head that looks at one distance can rule a mean there. So errors are medians over distances, and the answer is one only
where resampled heads give the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from agf_core.analysis.clusters import clustered
from agf_core.analysis.law_scores import fit, predict, score
from agf_core.figures import Estimate
from agf_core.fitting import GammaMixture, fit_gamma_mixture
from agf_core.fitting.laws import Array

CURVES = ("single exponential", "heads' exponentials", "gamma mixture", "fitted shifted power")
BEND = 1e-3  # nat²: a single exponential that errs by less leaves nothing to explain
BENT = 0.5  # of the single exponential's error: a shifted power law must leave at most this
EXPLAINED = 0.25  # of the same: the Gamma distribution of the heads' rates must leave less
AGREE = 0.95  # of the resamples of heads that must give the verdict of all heads
RESAMPLES = 200
UNDECIDED = "undecided"
VERDICTS = ("pooling explains it", "pooling not needed", "no power law to explain", "pooling does not explain it")


@dataclass(frozen=True)
class Mixture:
    """What pooling explains, in tables and in numbers for sentences.

    heads: model, head, rate (1/token, fitted on the near half), pooled (bool: the rate is positive), winner and tie (as
    in `law_scores.score`). pooled: distance, observed, then a column for each of `CURVES`; all are 1 at distance 0, but
    for a fitted amplitude. errors: curve, error (median square of log g over the far half), train (over the near half),
    fitted (bool: to the pooled curve). gamma: the heads' Gamma distribution, or None if their rates have no spread.
    exponential, power: share of heads, of all, whose single field is called that. agreed: share of resamples of the
    heads with each of `VERDICTS`. verdict: that of all heads, or `UNDECIDED` where fewer than `AGREE` give it.
    """

    heads: pd.DataFrame
    pooled: pd.DataFrame
    errors: pd.DataFrame
    gamma: GammaMixture | None
    exponential: Estimate
    power: Estimate
    agreed: Mapping[str, float]
    verdict: str

    def error(self, curve: str) -> float:
        """The held-out median square of one of `CURVES`; nan where there is none."""
        return float(self.errors.set_index("curve")["error"][curve])


def mixture(
    profiles: ArrayLike, models: ArrayLike | None = None, *, usable: ArrayLike | None = None,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Mixture:  # fmt: skip
    """Pool heads' fields and ask what explains the pooled curve.

    profiles (S, W) log field (nat) at r = 1 … W; models (S,); usable (W,) bool: as in `law_scores.score`. Every head is
    brought to 1 at distance 0 by its own exponential's amplitude (the identity holds for fields so normalised), fitted
    on r ≤ W/2. Heads that do not fall, or have a nan, are counted and not pooled. Heads, not models, are resampled.
    Raises ValueError if fewer than three heads fall.
    """
    scores = score(profiles, models, usable=usable)
    table = scores.table[["model", "head", "rate", "winner", "tie"]].copy()
    values = np.asarray(profiles, dtype=float)
    use = np.ones(values.shape[1], dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    table.insert(3, "pooled", (table["rate"] > 0) & np.isfinite(values[:, use]).all(axis=1))
    falls = table["pooled"].to_numpy()
    if falls.sum() < 3:
        raise ValueError(f"needs ≥ 3 heads whose field falls with distance, got {falls.sum()} of {len(table)}")
    every = np.arange(1.0, len(use) + 1)
    near = use & (every <= len(use) / 2)
    kept = values[falls]
    kept = kept - kept[:, use].mean(axis=1, keepdims=True)
    own = fit(kept, near, "exponential")
    lines, rates = np.full(values.shape, np.nan), np.full(len(values), np.nan)
    lines[falls], rates[falls] = kept - predict(own, np.zeros(1)), own.params["rate"]
    rng = np.random.default_rng(seed)
    drawn = [np.arange(len(values)), *rng.integers(len(values), size=(resamples, len(values)))]
    drawn = [rows for rows in drawn if falls[rows].sum() >= 3]
    observed, fitted, gammas = _accounts(lines, rates, [rows[falls[rows]] for rows in drawn], use, near)
    square = {c: (fitted[c] - observed) ** 2 for c in CURVES}  # (B, n)
    far = ~near[use]
    error = {c: np.median(square[c][:, far], axis=1) for c in CURVES}
    hits = {law: (table["winner"] == law).to_numpy() for law in ("exponential", "shifted_power")}
    words = [
        _verdict({c: error[c][i] for c in CURVES}, *(float(hit[rows].mean()) for hit in hits.values()))
        for i, rows in enumerate(drawn)
    ]
    count = Counter(words[1:])
    agreed = {word: count[word] / max(len(words) - 1, 1) for word in VERDICTS}
    pooled = pd.DataFrame({"distance": every[use], "observed": np.exp(observed[0]),
                           **{c: np.exp(fitted[c][0]) for c in CURVES}})  # fmt: skip
    errors = pd.DataFrame({
        "curve": CURVES, "error": [error[c][0] for c in CURVES],
        "train": [np.median(square[c][0, ~far]) for c in CURVES],
        "fitted": [c in ("single exponential", "fitted shifted power") for c in CURVES],
    })  # fmt: skip
    exponential, power = (_share(table, hit) for hit in hits.values())
    verdict = words[0] if agreed[words[0]] >= AGREE else UNDECIDED
    return Mixture(table, pooled, errors, gammas[0], exponential, power, agreed, verdict)


def _accounts(
    lines: Array, rates: Array, drawn: Sequence[NDArray[np.int64]], use: NDArray[np.bool_], near: NDArray[np.bool_]
) -> tuple[Array, dict[str, Array], list[GammaMixture | None]]:
    """Log of each sample's pooled curve (B, n), what each of `CURVES` says of it, and the Gamma distributions."""
    r: Array = np.flatnonzero(use).astype(np.float64) + 1.0
    observed = np.full((len(drawn), len(use)), np.nan)
    observed[:, use] = [_log_mean(lines[rows][:, use]) for rows in drawn]
    gammas = [fit_gamma_mixture(m) if np.ptp(m := rates[rows]) > 1e-4 * m.mean() else None for rows in drawn]
    fitted = {
        "single exponential": predict(fit(observed, near, "exponential"), r),
        "fitted shifted power": predict(fit(observed, near, "shifted_power"), r),
        "heads' exponentials": np.array([_log_mean(-rates[rows][:, None] * r) for rows in drawn]),
        "gamma mixture": np.array([np.full(len(r), np.nan) if g is None else np.log(g.pooled(r)) for g in gammas]),
    }
    return observed[:, use], fitted, gammas


def _log_mean(rows: Array) -> Array:
    """log of the mean over heads of e^rows (S, n): (n,)."""
    top = rows.max(axis=0)
    total: Array = top + np.log(np.exp(rows - top).mean(axis=0))
    return total


def _share(table: pd.DataFrame, hit: Array) -> Estimate:
    each = pd.Series(hit).groupby(table["model"]).agg(["sum", "size"])
    return clustered(each["sum"].to_numpy(), each["size"].to_numpy())


def _verdict(error: Mapping[str, float], exponential: float, power: float) -> str:
    """Single heads first; then the pooled curve must bend, and the heads' own rates must predict how."""
    single = error["single exponential"]
    if power > 0.5:
        return "pooling not needed"
    if single < BEND or error["fitted shifted power"] > BENT * single:
        return "no power law to explain"
    explained = error["gamma mixture"] < EXPLAINED * single  # nan, where rates have no spread: False
    return "pooling explains it" if explained and exponential > 0.5 else "pooling does not explain it"
