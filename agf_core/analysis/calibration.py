"""Can the instruments be trusted? The fitting library on answers known beforehand (ours; appendix `calibration`).

Published answers (Kepler, savings), exact ones (the Gamma mixture), planted ones (coverage, choice of law, gravity on
causal attention), and the two ways to fool oneself that this book guards against: averaging before fitting, and
averaging attention over queries that do not have the whole window behind them. Every function takes a profile and a
seed and returns tables; the pictures are in `calibration_figures`, the sentences in `calibration_prose`. The full
tables of coverage and choice are a stored run: `python -m agf_core.analysis.calibration` makes them again, in minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from agf_core.analysis.calibration_series import PLANTED as PLANTED
from agf_core.analysis.calibration_series import (
    STORED,
    STORED_SEED,
    Stored,
    choice,
    coverage,
    measure_all,
    share_of,
    size_of,
    stored,
    write,
)
from agf_core.figures import Estimate
from agf_core.fitting import (
    CurveFit,
    GammaMixture,
    compare_curves,
    compare_gravity,
    compare_series,
    fit_counts,
    fit_curve,
    fit_gamma_mixture,
    fit_gravity,
)
from agf_core.sources.tables import read_table

WINDOW = 100  # distances of the careless average; the known figure is for 256 tokens
CARELESS_LENGTH = 256


def kepler() -> tuple[pd.DataFrame, Estimate, Estimate]:
    """Periods against axes (planet, axis, years, fitted), the slope of their logarithms, and the force's exponent.

    Circular orbits: force ~ axis / period², so it falls as the axis to the power 2 · slope - 1.
    """
    table = read_table("kepler")
    years = table["period"] / np.where(table["unit"] == "day", 365.25, 1.0)
    fit = fit_curve(table["axis_au"], years, "power")
    low, high = fit.ci["exponent"]
    slope = Estimate(-fit.params["exponent"], -high, -low)
    out = pd.DataFrame(
        {"planet": table["planet"], "axis": table["axis_au"], "years": years, "fitted": fit.predict(table["axis_au"])}
    )
    return out, slope, Estimate(2 * slope.value - 1, 2 * slope.low - 1, 2 * slope.high - 1)


def savings() -> pd.DataFrame:
    """Four series of savings, both laws in log space, beside the reference.

    Columns: series, law, exponent (or rate) with low and high, r2, aicc, best (bool), reference_exponent, reference_r2.
    """
    table, known, rows = read_table("savings"), read_table("savings_fits").set_index("series"), []
    for series in table.columns[1:]:
        for law, name in (("power", "exponent"), ("exponential", "rate")):
            fit = fit_curve(table["minutes"], table[series], law)
            rows.append({
                "series": series, "law": law, "decay": fit.params[name], "low": fit.ci[name][0],
                "high": fit.ci[name][1], "r2": fit.r2, "aicc": fit.aicc,
                "reference_decay": known.loc[series, "exponent"] if law == "power" else np.nan,
                "reference_r2": known.loc[series, f"r2_{law}"],
            })  # fmt: skip
    out = pd.DataFrame(rows)
    out["best"] = out["aicc"] == out.groupby("series")["aicc"].transform("min")
    return out


def mixture(profile: str, seed: int) -> tuple[pd.DataFrame, CurveFit, dict[str, float]]:
    """A Gamma population of exponentials: time, mean of the curves, exact shifted power law, prediction from the rates.

    With the fit to the exact curve, and the exponent and scale it must have.
    """
    truth, t = GammaMixture(0.8, 0.2), np.geomspace(1, 100, 40)
    rates = truth.rates(10 * size_of(profile).sets, np.random.default_rng(seed))
    population, fit = fit_gamma_mixture(rates), fit_curve(t, truth.pooled(t), "shifted_power")
    pooled = np.array([np.exp(-rates * s).mean() for s in t])
    out = pd.DataFrame({"time": t, "mean": pooled, "exact": truth.pooled(t), "predicted": population.pooled(t)})
    return out, fit, truth.as_shifted_power()


def counts(profile: str, seed: int) -> pd.DataFrame:
    """Discrete power laws of known exponent: exponent, mean error, and the share of intervals that contain it.

    Columns: exponent, sets, mean (of the estimates), spread (their standard deviation), coverage with low and high.
    """
    sets, rng, rows = size_of(profile).count_sets, np.random.default_rng(seed), []
    for exponent in (1.5, 2.0, 2.5, 3.0, 3.5):
        fits = [fit_counts(rng.zipf(exponent, 2000), "power", 1) for _ in range(sets)]
        values = np.array([f.params["exponent"] for f in fits])
        hits = sum(f.ci["exponent"][0] <= exponent <= f.ci["exponent"][1] for f in fits)
        share = share_of(hits, sets)
        rows.append({
            "exponent": exponent, "sets": sets, "mean": values.mean(), "spread": values.std(ddof=1),
            "coverage": share.value, "low": share.low, "high": share.high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def averaging(profile: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exponentials of spread rates, averaged and not.

    Returns the curves (x, mean, power, exponential fitted to the mean, and five single series) and the verdicts: one
    row for the mean and one for the single series, with the share called power, exponential.
    """
    sets, rng = max(50, size_of(profile).sets // 5), np.random.default_rng(seed)
    x = np.arange(1.0, 101.0)
    series = np.exp(-rng.gamma(0.8, 0.5, sets)[:, None] * x + 0.1 * rng.standard_normal((sets, len(x))))
    mean, laws = series.mean(axis=0), ("power", "exponential")
    curves = pd.DataFrame({"x": x, "mean": mean} | {law: fit_curve(x, mean, law).predict(x) for law in laws})
    for i in range(5):
        curves[f"series_{i}"] = series[i]
    pooled = compare_curves(x, mean, laws)["law"][0]
    single = compare_series(x, series, laws)
    chosen = single[single["best"]]["law"].value_counts(normalize=True)
    rows = [{"fitted": "the mean curve", **{law: float(law == pooled) for law in laws}, "curves": 1}]
    rows.append({"fitted": "each series", **{law: chosen.get(law, 0.0) for law in laws}, "curves": sets})
    return curves, pd.DataFrame(rows)


def planted_attention(
    law: str, value: float, texts: int, length: int, seed: int, inside: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Causal attention to random token types with known masses and field: weights (texts, n, n), labels (texts, n).

    Each weight has an error of 0.3 in its logarithm, of mean one: on the weights, or `inside` the softmax, where a
    large error takes weight from all other keys of its query.
    """
    rng = np.random.default_rng(seed)
    labels, mass = rng.zipf(1.4, (texts, length)).clip(max=500), rng.normal(0, 0.7, 501)
    r = distances(length)
    near = np.maximum(r, 0.5)
    log_g = {"power": -value * np.log(near), "exponential": -value * near, "uniform": np.zeros_like(near)}[law]
    uniform = law == "uniform"
    error = 0.0 if uniform else np.exp(0.3 * rng.standard_normal((texts, length, length)) - 0.045)
    weights = np.where(r >= 0, np.exp(log_g + (0.0 if uniform else 1.0) * mass[labels][:, None]), 0.0)
    weights = weights * error if inside else weights
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights if inside or uniform else weights * error, labels


def distances(length: int) -> np.ndarray:
    """r = i - j of causal attention: (length, length), not positive where there is nothing to fit."""
    return np.subtract.outer(np.arange(length), np.arange(length)).astype(float)


def gravity(profile: str, seed: int) -> pd.DataFrame:
    """Planted fields on causal attention, fitted as a power law and as an exponential.

    Columns: planted, error (where it sits), value, law, estimate, low, high, excess (deviance over the better law's,
    relative to that of equal flows), best (bool), residual_share.
    """
    size, rows = size_of(profile), []
    r, origin = distances(size.length), np.arange(size.texts * size.length).reshape(size.texts, size.length)
    worlds = [(p, v, e) for p, v in (("power", 1.0), ("exponential", 0.05)) for e in ("weights", "softmax")]
    for planted, value, error in [*worlds, ("uniform", 0.0, "none")]:
        flow, labels = planted_attention(planted, value, size.texts, size.length, seed, inside=error == "softmax")
        excess = compare_gravity(flow, origin, labels, r, ("power", "exponential")).set_index("law")["excess"]
        for law, name in (("power", "exponent"), ("exponential", "rate")):
            fit = fit_gravity(flow, origin, labels, r, law, parts=False)
            rows.append({
                "planted": planted, "error": error, "value": value, "law": law, "estimate": fit.params[name],
                "low": fit.ci[name][0], "high": fit.ci[name][1], "excess": excess[law], "best": excess[law] == 0,
                "residual_share": fit.residual_share,
            })  # fmt: skip
    return pd.DataFrame(rows)


def careless(length: int = CARELESS_LENGTH, window: int = WINDOW) -> tuple[pd.DataFrame, CurveFit, CurveFit]:
    """Uniform causal attention by distance: distance, all_queries (careless), whole_window (the same queries).

    With the power law fitted to either; the truth is exponent 0.
    """
    weight = 1 / (np.arange(length) + 1.0)  # of query i, on each of its i + 1 keys
    r = np.arange(1, window + 1)
    out = pd.DataFrame(
        {"distance": r, "all_queries": [weight[d:].mean() for d in r], "whole_window": weight[window:].mean()}
    )
    return out, fit_curve(r, out["all_queries"], "power"), fit_curve(r, out["whole_window"], "power")


def trap(profile: str, seed: int) -> str:
    """What `fit_gravity` says to an exponential field with one effect per key position."""
    size = size_of(profile)
    flow, labels = planted_attention("exponential", 0.05, size.texts, size.length, seed)
    origin = np.arange(labels.size).reshape(labels.shape)
    positions = np.broadcast_to(np.arange(size.length), labels.shape)
    try:
        fit_gravity(flow, origin, positions, distances(size.length), "exponential")
    except ValueError as refusal:
        return str(refusal)
    raise AssertionError("a distance that the effects span was fitted")


@dataclass(frozen=True)
class Page:
    """Everything the page shows, as measured in this run; `full` is the stored run, if there is one."""

    profile: str
    kepler: tuple[pd.DataFrame, Estimate, Estimate]
    savings: pd.DataFrame
    mixture: tuple[pd.DataFrame, CurveFit, dict[str, float]]
    coverage: pd.DataFrame
    full: Stored | None
    counts: pd.DataFrame
    choice: pd.DataFrame
    averaging: tuple[pd.DataFrame, pd.DataFrame]
    careless: tuple[pd.DataFrame, CurveFit, CurveFit]
    gravity: pd.DataFrame
    refusal: str


def measure(profile: str, seed: int) -> Page:
    """All of it; ValueError with the choices for an unknown profile."""
    return Page(
        profile, kepler(), savings(), mixture(profile, seed), coverage(profile, seed), stored(), counts(profile, seed),
        choice(profile, seed), averaging(profile, seed), careless(), gravity(profile, seed), trap(profile, seed),
    )


def main(arguments: list[str] | None = None) -> None:
    """Make the stored run again."""
    parser = argparse.ArgumentParser(description="Coverage and choice of law for all seven laws: minutes on one core.")
    parser.add_argument("--sets", type=int, default=20_000, help="data sets per law, size and space")
    parser.add_argument("--choices", type=int, default=4000, help="series per law and error, for the choice of law")
    parser.add_argument("--seed", type=int, default=STORED_SEED)
    parser.add_argument("--out", type=Path, default=STORED)
    options = parser.parse_args(arguments)
    result = measure_all(options.sets, options.choices, options.seed)
    write(result, options.out)
    found = [row["coverage"] for row in result["coverage"]]
    seconds = result["provenance"]["seconds"]
    print(f"coverage {min(found):.3f} to {max(found):.3f} in {len(found)} cells; {seconds} s; {options.out}")


if __name__ == "__main__":
    main()
