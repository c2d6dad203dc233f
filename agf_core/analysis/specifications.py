"""One model's attention, hundreds of exponents: which choice of the analyst makes the number? (ours)

Published exponents of attention against distance run from .25 to 1.5 for one model. Here the same measurement is read
under every combination of six choices (`FACTORS`), after Simonsohn, Simmons & Nelson 2020 (specification curve), and
the variance of the exponents is shared out among the choices: Lindeman, Merenda & Gold's average over orders of entry,
which is the analysis of variance where every combination gave a number, and stays defined where some did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from agf_core.analysis.steepness import exponent
from agf_core.fitting import fit_curves
from agf_core.fitting.laws import Array

FACTORS = ("window", "heads", "averaging", "input", "queries", "estimator")
HEADS = ("all", "R² > 0.9", "eligible")  # the second: of the log–log line, as Umphrey 2026 selects
AVERAGING = ("head by head, then median", "mean weight, then fit", "mean log weight, then fit")
ESTIMATORS = ("log–log line", "likelihood", "shifted law, local")
STRAIGHT = 0.9

Mask = NDArray[np.bool_]
Measured = tuple[ArrayLike, ArrayLike | None]


def windows(largest: int) -> list[tuple[int, int]]:
    """Windows (first, last distance) that fit: from 1 and from 3 (Umphrey) to W, W/2 and W/4."""
    return [(first, last) for first in (1, 3) for last in (largest, largest // 2, largest // 4) if last - first >= 7]


def curve(
    measured: Mapping[tuple[str, str], Measured], eligible: ArrayLike, *,
    window: Sequence[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """The exponent under every specification, lowest first: a column for each of `FACTORS`, exponent, used.

    Args:
        measured: (input, queries) → mean weight (L, H, W + 1) and mean log weight, or None: then the log of the mean.
            E.g. ("text", "whole window"), ("text", "careless"), ("random tokens", …). Distance 0 is not used.
        eligible: (L, H) bool.
        window: (first, last) distances, both inside (default: `windows`).

    exponent > 0 is decay; nan where no head meets the selection. used: number of heads behind it. Estimators: the line
    of log weight on log distance; the truncated power law nearest in likelihood to the weights as a distribution; the
    local exponent of a shifted power law, fitted to log weights, at the geometric middle of the window.
    """
    if not measured:
        raise ValueError("measured is empty: give at least one (input, queries) → (mean weight, mean log weight)")
    able = np.asarray(eligible, dtype=bool).ravel()
    data = {key: _flat(key, value, len(able)) for key, value in measured.items()}
    largest = min(weight.shape[1] for weight, _ in data.values()) - 1
    spans = windows(largest) if window is None else list(window)
    for first, last in spans:
        if not (first >= 1 and first + 4 <= last <= largest):
            raise ValueError(f"window ({first}, {last}) must lie in 1 … {largest} and hold at least 5 distances")
    rows = []
    for first, last in spans:
        span = slice(first, last + 1)
        parts = {key: _series(w[:, span], logs[:, span], able, first) for key, (w, logs) in data.items()}
        found = _exponents(np.concatenate([series for series, _, _ in parts.values()]), first)
        start = 0
        for key, (series, kept, pooled) in parts.items():
            mine = found[:, start : start + len(series)]
            start += len(series)
            for i, (name, keep) in enumerate(zip(HEADS, kept)):
                for e, estimator in enumerate(ESTIMATORS):
                    values = [np.nan] * 3
                    if keep.any():
                        values = [float(np.median(mine[e, : len(able)][keep])), *mine[e, pooled + 2 * i :][:2].tolist()]
                    rows += [
                        (f"{first}–{last}", name, way, *key, estimator, value, int(keep.sum()))
                        for way, value in zip(AVERAGING, values)
                    ]
    table = pd.DataFrame(rows, columns=[*FACTORS, "exponent", "used"])
    return table.sort_values("exponent", kind="stable", ignore_index=True)


def _flat(key: tuple[str, str], value: Measured, heads: int) -> tuple[Array, Array]:
    weight = np.asarray(value[0], dtype=float)
    if weight.ndim != 3 or weight.shape[0] * weight.shape[1] != heads:
        raise ValueError(f"{key}: mean weight must be (L, H, W + 1) with L · H = {heads} heads, got {weight.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(weight) if value[1] is None else np.asarray(value[1], dtype=float)
    if logs.shape != weight.shape:
        raise ValueError(f"{key}: mean log weight has shape {logs.shape}, mean weight {weight.shape}")
    return weight.reshape(heads, -1), logs.reshape(heads, -1)


def _series(weight: Array, logs: Array, able: Mask, first: int) -> tuple[Array, list[Mask], int]:
    """Log-weight series (S, n): the heads one by one, then per selection the mean weight and the mean log weight; the
    selections (heads,) bool; where the pooled series start. A head that never looks so far has no log: left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        single = np.log(weight)
    whole = np.asarray(np.isfinite(single).all(axis=1) & np.isfinite(logs).all(axis=1))
    t = np.log(np.arange(first, first + weight.shape[1]))
    t = (t - t.mean()) / t.std()
    with np.errstate(divide="ignore", invalid="ignore"):
        centred = single - single.mean(axis=1, keepdims=True)
        r2 = (centred * t).mean(axis=1) ** 2 / (centred**2).mean(axis=1)
    kept = [whole, whole & (r2 > STRAIGHT), whole & able]
    pooled = []
    for keep in kept:
        pooled += [np.log(weight[keep].mean(axis=0)), logs[keep].mean(axis=0)] if keep.any() else [0 * t, 0 * t]
    single = np.where(whole[:, None], single, np.nan)
    return np.concatenate([single, pooled]), kept, len(single)


def _exponents(series: Array, first: int) -> Array:
    """(estimators, S): the exponents of log-weight series (S, n) at distances first, first + 1, …"""
    r = np.arange(first, first + series.shape[1], dtype=float)
    series = series - series.mean(axis=1, keepdims=True)
    simple = exponent(series, r)
    fits = fit_curves(r, np.exp(series), "shifted_power", intervals=False)
    middle = np.exp(np.log(r).mean())
    k, scale = fits.params["exponent"], fits.params["scale"]
    with np.errstate(invalid="ignore"):
        local = np.where(k == 0, 0.0, k * middle / (middle + scale))  # a constant series has no scale
    return np.stack([simple.power_ols, simple.power, local])


def attributed(table: pd.DataFrame) -> pd.DataFrame:
    """Share of the exponents' variance due to each choice: factor, share, levels; sums to 1.

    Main effects, then "interactions": what no sum of main effects explains. Rows without an exponent are left out; a
    choice with one level has share 0. Raises ValueError if fewer than two exponents differ.
    """
    known = table[np.isfinite(table["exponent"])]
    y = known["exponent"].to_numpy(dtype=float)
    y = y - y.mean() if len(y) else y
    total = float(y @ y)
    if not total > 0:
        raise ValueError(f"the exponents have no variance to attribute ({len(y)} of {len(table)} rows have one)")
    codes = {f: pd.get_dummies(known[f]).to_numpy(dtype=float)[:, 1:] for f in FACTORS}
    count = len(FACTORS)
    explained = {}
    for size in range(count + 1):
        for some in combinations(range(count), size):
            design = np.concatenate([np.ones((len(y), 1)), *(codes[FACTORS[i]] for i in some)], axis=1)
            fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
            explained[frozenset(some)] = float(fitted @ fitted) / total
    rows = []
    for i, factor in enumerate(FACTORS):
        share = sum(
            (explained[s | {i}] - value) / (count * comb(count - 1, len(s)))
            for s, value in explained.items() if i not in s
        )  # fmt: skip
        rows.append((factor, max(share, 0.0), int(known[factor].nunique())))
    main = sum(share for _, share, _ in rows)
    return pd.DataFrame([*rows, ("interactions", max(1 - main, 0.0), 0)], columns=["factor", "share", "levels"])
