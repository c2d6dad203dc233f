"""Does the field copy the language? Learned steepness against planted, dose and response (ours).

Runs of one seed may share their text's draws and their start, so runs are not independent, but seeds are: every seed is
the whole experiment once, with its own slope over the planted values; the interval is Student's over these slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from agf_core.analysis.clusters import clustered
from agf_core.analysis.contrasts import mean
from agf_core.analysis.law_scores import MARGIN, score
from agf_core.analysis.steepness import Exponents, exponent
from agf_core.figures import Estimate
from agf_core.fitting.laws import Array


@dataclass(frozen=True)
class Dose:
    """slope: of learned on planted, with its interval over seeds; intercept likewise; correlation: of the means.

    means: planted, learned, low, high (Student's, over seeds), n. seeds: seed, slope, intercept. bend: the quadratic
    coefficient over seeds: an interval that holds 0 means that a line will do.
    """

    slope: Estimate
    intercept: Estimate
    bend: Estimate
    correlation: float
    means: pd.DataFrame
    seeds: pd.DataFrame


def slope(planted: ArrayLike, learned: ArrayLike, seed: ArrayLike) -> Dose:
    """Regress learned on planted values (n,), a slope a seed (n,); several rows of one run (heads) are averaged first.

    Intervals are nan with one seed. Rows that are not finite are left out, and seeds with fewer than two planted values
    have no slope. Raises ValueError on unequal shapes, or if no seed has a slope.
    """
    x, y, s = np.asarray(planted, dtype=float), np.asarray(learned, dtype=float), np.asarray(seed)
    if not x.shape == y.shape == s.shape or x.ndim != 1:
        raise ValueError(f"planted, learned and seed must share a shape (n,), got {x.shape}, {y.shape} and {s.shape}")
    runs = pd.DataFrame({"seed": s, "planted": x, "learned": y})[np.isfinite(x) & np.isfinite(y)]
    runs = runs.groupby(["seed", "planted"], as_index=False)["learned"].mean()
    rows, bends = [], []
    for name, one in runs.groupby("seed"):
        if len(one) >= 2:
            b, a = np.polyfit(one["planted"], one["learned"], 1)
            rows.append((name, float(b), float(a)))
        if len(one) >= 3:
            bends.append(float(np.polyfit(one["planted"], one["learned"], 2)[0]))
    if not rows:
        raise ValueError(f"no seed has two planted values: got {sorted(set(x.tolist()))}, {len(set(s.tolist()))} seeds")
    seeds = pd.DataFrame(rows, columns=["seed", "slope", "intercept"])
    means = []
    for value, one in runs.groupby("planted"):
        e = mean(one["learned"])
        means.append((value, e.value, e.low, e.high, len(one)))
    table = pd.DataFrame(means, columns=["planted", "learned", "low", "high", "n"])
    return Dose(mean(seeds["slope"]), mean(seeds["intercept"]), mean(bends),
                correlation(table["planted"], table["learned"]), table, seeds)  # fmt: skip


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's; nan with fewer than three pairs or without spread."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


@dataclass(frozen=True)
class Control:
    """table, one row a model: model, planted (law), shifted_power and exponential (held-out mean squares, heads
    averaged), better (law, or "undecided" within the margin), right. right: planted law → share of models."""

    table: pd.DataFrame
    right: dict[str, Estimate]


def control(
    profiles: ArrayLike, models: ArrayLike, planted: ArrayLike, *, usable: ArrayLike | None = None,
    margin: float = MARGIN,
) -> Control:
    """Does each model's field follow the law of its language, at distances held out?

    profiles (S, W) as in `law_scores.score`; models (S,); planted (S,): "power" or "exponential", the language's law.
    """
    law = np.asarray(planted)
    if unknown := sorted(set(law.tolist()) - {"power", "exponential"}):
        raise ValueError(f"unknown planted law {unknown[0]!r}; choose one of: power, exponential")
    scored = score(profiles, models, usable=usable).table.assign(planted=law)
    # A shifted power law that ended as an exponential is one: it cannot beat it.
    same = scored["limit"] == "exponential"
    scored.loc[same, "error_shifted_power"] = scored.loc[same, ["error_shifted_power", "error_exponential"]].max(axis=1)
    columns = {"error_shifted_power": "shifted_power", "error_exponential": "exponential"}
    table = scored.groupby(["model", "planted"], as_index=False)[list(columns)].mean().rename(columns=columns)
    power, other = table["shifted_power"], table["exponential"]
    won, kept = power < (1 - margin) * other, power >= other
    table["better"] = np.select([won, kept], ["power", "exponential"], "undecided")
    table["right"] = table["better"] == table["planted"]
    each = table.groupby("planted")["right"]
    return Control(table, {str(k): clustered(v.astype(int), np.ones(len(v), int)) for k, v in each})


@dataclass(frozen=True)
class Prediction:
    """Learned fields against those that the text's own dependence predicts.

    table: text, corpus, shuffled, slope and correlation (of learned log g on predicted, over usable distances),
    predicted_exponent, learned_exponent. slope, correlation: of the exponents across texts. contrasts: corpus, text,
    predicted, learned (shuffled minus intact exponent); contrast: learned change per predicted change. Intervals
    resample corpora.
    """

    table: pd.DataFrame
    slope: Estimate
    correlation: Estimate
    contrasts: pd.DataFrame
    contrast: Estimate


def predicted(
    predicted: ArrayLike, learned: ArrayLike, text: ArrayLike, corpus: ArrayLike, shuffled: ArrayLike, *,
    usable: ArrayLike | None = None, resamples: int = 2000, seed: int = 0,
) -> Prediction:
    """Compare predicted with learned log fields (T, W), nat, r = 1 … W, text by text and across texts.

    text (T,) names; corpus (T,): which corpus it comes from; shuffled (T,) bool: broken or intact; usable (W,) or
    (T, W). Exponents are the likelihood's over each text's usable distances; with fewer than three: nan.
    """
    p, g = np.asarray(predicted, dtype=float), np.asarray(learned, dtype=float)
    names, of, broken = np.asarray(text), np.asarray(corpus), np.asarray(shuffled, dtype=bool)
    if p.ndim != 2 or p.shape != g.shape or not names.shape == of.shape == broken.shape == p.shape[:1]:
        raise ValueError(
            "predicted and learned must share a shape (T, W), text, corpus and shuffled be (T,); got "
            f"{p.shape}, {g.shape}, {names.shape}, {of.shape}, {broken.shape}"
        )
    use = np.broadcast_to(True if usable is None else np.asarray(usable, dtype=bool), p.shape)
    rows = []
    for i, on in enumerate(use & np.isfinite(p) & np.isfinite(g)):
        both, r = np.stack([p[i, on], g[i, on]]), np.flatnonzero(on) + 1.0
        k = exponent(both, r).power if len(r) >= 3 else np.full(2, np.nan)
        rows.append((names[i], of[i], bool(broken[i]), _through(*both), correlation(*both), *k.tolist()))
    columns = ["text", "corpus", "shuffled", "slope", "correlation", "predicted_exponent", "learned_exponent"]
    table = pd.DataFrame(rows, columns=columns)
    intact = table[~table["shuffled"]].groupby("corpus")[columns[-2:]].mean()
    pairs = table[table["shuffled"] & table["corpus"].isin(intact.index)]
    base = intact.loc[pairs["corpus"]].to_numpy()
    contrasts = pairs[["corpus", "text"]].assign(
        predicted=pairs["predicted_exponent"] - base[:, 0], learned=pairs["learned_exponent"] - base[:, 1]
    )
    x, y = (table[c].to_numpy() for c in columns[-2:])
    dx, dy = (contrasts[c].to_numpy() for c in ("predicted", "learned"))
    known, moved = np.isfinite(x) & np.isfinite(y), np.isfinite(dx) & np.isfinite(dy)
    options = {"resamples": resamples, "seed": seed}
    return Prediction(
        table,
        _resampled(lambda i: _through(x[i], y[i]), known, of, **options),
        _resampled(lambda i: correlation(x[i], y[i]), known, of, **options),
        contrasts.reset_index(drop=True),
        _resampled(lambda i: _ratio(dx[i], dy[i]), moved, contrasts["corpus"].to_numpy(), **options),
    )


def _ratio(x: Array, y: Array) -> float:
    """The slope of y on x through the origin; nan if x is zero."""
    square = float(x @ x)
    return float(x @ y) / square if square else float("nan")


def _through(x: Array, y: Array) -> float:
    """The slope of y on x; nan without spread."""
    if len(x) < 3 or np.ptp(x) == 0:
        return float("nan")
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def _resampled(
    statistic: Callable[[NDArray[np.int64]], float], finite: Array, group: NDArray[Any], resamples: int, seed: int
) -> Estimate:
    """`statistic` of row numbers, with the 95 % interval of whole groups resampled; nan with fewer than four groups.

    The quantiles are moved out as far as Student's differ from the normal's for so few groups, and by √(G/(G−1)):
    Hesterberg 2015, the expanded percentile interval.
    """
    rows = np.flatnonzero(finite)
    names, code = np.unique(group[rows], return_inverse=True)
    value, count = statistic(rows), len(names)
    if count < 4 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan)
    members = [rows[code == g] for g in range(count)]
    picks = np.random.default_rng(seed).integers(count, size=(resamples, count))
    draws = np.array([statistic(np.concatenate([members[g] for g in pick])) for pick in picks])
    tail = float(stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1)))
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


__all__ = ["Control", "Dose", "Exponents", "Prediction", "control", "correlation", "exponent", "predicted", "slope"]
