"""Which law? Information criteria on all points, and errors on points that were held out.

AICc and R² are compared only within one space, as DESIGN's contract says: a fit in log space explains another
variable than one in linear space. Held-out scores are the stronger evidence: they need no parameter count.
Source: Burnham & Anderson 2002 (Akaike weights); the hold-out protocol is ours (rules of evidence, 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.fitting.curves import fit_curve, fit_curves
from agf_core.fitting.laws import LAWS, Array
from agf_core.fitting.validate import check_laws


def akaike_weights(aicc: ArrayLike, axis: int = -1) -> Array:
    """Relative likelihoods exp(-delta / 2), normalised along `axis`; nan where all criteria are nan or infinite."""
    values = np.asarray(aicc, dtype=float)
    usable = np.where(np.isfinite(values), values, np.inf)
    best = usable.min(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        weights: Array = np.exp(-(usable - best) / 2)
        return weights / weights.sum(axis=axis, keepdims=True)


def compare_curves(
    x: ArrayLike, y: ArrayLike, laws: Iterable[str] | None = None, sigma: ArrayLike | None = None, *,
    space: str = "log", asymptote: bool = False, absolute_sigma: bool = False,
) -> pd.DataFrame:
    """Fit several laws (all seven if None) to one series; one row per law, best AICc first.

    Columns: law, aicc, delta (to the best), weight (Akaike), r2, n, parameters (their number), flags, then one column
    per parameter, nan where the law has none. Errors as in `fit_curve`.
    """
    options: dict[str, Any] = {"space": space, "asymptote": asymptote, "absolute_sigma": absolute_sigma}
    rows = []
    for law in check_laws(laws, LAWS):
        fit = fit_curve(x, y, law, sigma, intervals=False, **options)
        head = {"law": law, "aicc": fit.aicc, "r2": fit.r2, "n": fit.n, "parameters": len(fit.params)}
        rows.append({**head, "flags": "; ".join(fit.flags), **fit.params})
    return ranked(rows)


def ranked(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per law, best `aicc` first, with the difference to the best (`delta`) and the Akaike `weight`."""
    table = pd.DataFrame(rows).sort_values("aicc", kind="stable", ignore_index=True)
    table.insert(2, "delta", table["aicc"] - table["aicc"].min())
    table.insert(3, "weight", akaike_weights(table["aicc"]))
    return table


def compare_series(
    x: ArrayLike, y: ArrayLike, laws: Iterable[str] | None = None, sigma: ArrayLike | None = None, *,
    space: str = "log", asymptote: bool = False,
) -> pd.DataFrame:
    """`compare_curves` for S series y (S, n), batched: one row per series and law.

    Columns: series, law, aicc, delta, weight, r2, best (bool), flags. Series that cannot be fitted have nan and a flag.
    """
    names = check_laws(laws, LAWS)
    fits = [fit_curves(x, y, law, sigma, space=space, asymptote=asymptote, intervals=False) for law in names]
    aicc = np.stack([f.aicc for f in fits], axis=1)  # (S, laws)
    usable = np.where(np.isfinite(aicc), aicc, np.inf)
    least = usable.min(axis=1, keepdims=True)
    return pd.DataFrame({
        "series": np.repeat(np.arange(len(aicc)), len(names)), "law": names * len(aicc), "aicc": aicc.ravel(),
        "delta": (aicc - np.where(np.isfinite(least), least, np.nan)).ravel(), "weight": akaike_weights(aicc).ravel(),
        "r2": np.stack([f.r2 for f in fits], axis=1).ravel(), "best": ((usable == least) & np.isfinite(least)).ravel(),
        "flags": ["; ".join(f.flags[s]) for s in range(len(aicc)) for f in fits],
    })  # fmt: skip


def score_holdout(
    x: ArrayLike, y: ArrayLike, laws: Iterable[str] | None = None, *, train: ArrayLike, sigma: ArrayLike | None = None,
    space: str = "log", asymptote: bool = False,
) -> pd.DataFrame:
    """Fit on the points where `train` is True, score on the rest: the error of laws on what they have not seen.

    Args:
        x (n,), y (n,) or (S, n), sigma as y; train (n,) bool with at least one point on each side.

    Returns one row per law (per series and law, with a column `series`, if y has two dimensions), best first within a
    series. Columns: law, rmse (held-out, in the fitted space), mean_error (signed: > 0, the law lies above the data),
    log_score (mean Gaussian log density, with the training residuals' spread), train_rmse, n_train, n_test, flags.
    """
    points, values, mask = np.asarray(x, dtype=float), np.asarray(y, dtype=float), np.asarray(train)
    if mask.dtype != bool or mask.shape != points.shape:
        raise ValueError(f"train must be a bool mask of x's shape {points.shape}, got {mask.dtype} {mask.shape}")
    if mask.all() or not mask.any():
        raise ValueError(f"train must leave points on both sides, got {int(mask.sum())} of {len(mask)} to train on")
    single = values.ndim == 1
    if single:
        values = values[None]
    names = check_laws(laws, LAWS)
    errors = None if sigma is None else np.broadcast_to(np.asarray(sigma, dtype=float), values.shape)[:, mask]
    if single:  # the strict checks of one series, on the points to be fitted
        fit_curve(points[mask], values[0, mask], names[0], None, space=space, asymptote=asymptote, intervals=False)
    seen = values[:, ~mask]
    if space == "log" and single and not (np.isfinite(seen) & (seen > 0)).all():
        raise ValueError("the held-out y must be finite and > 0 in log space; leave those points out")
    tables = []
    for law in names:
        fits = fit_curves(points[mask], values[:, mask], law, errors, space=space, asymptote=asymptote, intervals=False)
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = _residual(fits.predict(points[~mask]), seen, space)
            inner = _residual(fits.predict(points[mask]), values[:, mask], space)
        spread = np.maximum(np.sqrt((inner**2).sum(1) / max(mask.sum() - len(fits.params), 1)), 1e-12)
        rmse = np.sqrt((residual**2).mean(1))
        tables.append(pd.DataFrame({
            "series": np.arange(len(values)), "law": law, "rmse": rmse, "mean_error": residual.mean(1),
            "log_score": -0.5 * (rmse / spread) ** 2 - np.log(spread) - 0.5 * np.log(2 * np.pi),
            "train_rmse": np.sqrt((inner**2).mean(1)), "n_train": int(mask.sum()), "n_test": int((~mask).sum()),
            "flags": ["; ".join(f) for f in fits.flags],
        }))  # fmt: skip
    table = pd.concat(tables).sort_values(["series", "rmse"], kind="stable", ignore_index=True)
    return table.drop(columns="series") if single else table


def _residual(predicted: Array, observed: Array, space: str) -> Array:
    return np.log(predicted) - np.log(observed) if space == "log" else predicted - observed
