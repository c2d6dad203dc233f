"""The pictures of the appendix `calibration`: each takes the tables of `calibration` and returns a figure and the
table of what it draws, for `figures.publish` (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots

from agf_core.analysis.calibration import PLANTED
from agf_core.figures import COLOURS, WIDTH
from agf_core.fitting import CurveFit, fit_curve
from agf_core.sources.tables import read_table

Drawn = tuple[Figure, pd.DataFrame]
SHORT = {
    "power": "power", "shifted_power": "shifted power", "exponential": "exponential",
    "stretched_exponential": "stretched exp.", "lognormal": "lognormal", "power_cutoff": "cut-off power",
    "two_regime": "two regimes",
}  # fmt: skip


def draw_kepler(table: pd.DataFrame) -> Drawn:
    """Periods against axes with the fitted law."""
    fig, ax = subplots(figsize=(WIDTH, 3.4), layout="constrained")
    ax.plot(table["axis"], table["fitted"], color=COLOURS["power"], label="power law")
    ax.plot(table["axis"], table["years"], "o", color=COLOURS["data"], label="planets")
    ax.set(xscale="log", yscale="log", xlabel="semi-major axis (AU)", ylabel="period (years)")
    ax.legend()
    return fig, table


def draw_savings(table: pd.DataFrame) -> Drawn:
    """The four series with both laws; the better one drawn solid."""
    data = read_table("savings")
    fig, axes = subplots(2, 2, figsize=(WIDTH, 5.2), layout="constrained", sharex=True)
    t = np.geomspace(data["minutes"].min(), data["minutes"].max(), 100)
    for ax, series in zip(axes.ravel(), data.columns[1:]):
        ax.plot(data["minutes"], data[series], "o", ms=4, color=COLOURS["data"])
        for row in table[table["series"] == series].itertuples():
            curve = fit_curve(data["minutes"], data[series], row.law).predict(t)
            ax.plot(t, curve, "-" if row.best else ":", color=COLOURS[row.law], label=f"{row.law}, R² {row.r2:.2f}")
        ax.set(xscale="log", yscale="log", title=series)
        ax.legend()
    fig.supxlabel("minutes since learning", fontsize=10)
    fig.supylabel("share of the work saved", fontsize=10)
    return fig, table


def draw_mixture(table: pd.DataFrame) -> Drawn:
    """The mean of a Gamma population of exponentials on the shifted power law it must be."""
    fig, ax = subplots(figsize=(WIDTH, 3.4), layout="constrained")
    ax.plot(table["time"], table["exact"], color=COLOURS["power"], label="shifted power law (exact)")
    ax.plot(table["time"], table["predicted"], ":", color=COLOURS["third"], label="predicted from the rates")
    ax.plot(table["time"], table["mean"], "o", ms=3.5, color=COLOURS["data"], label="mean of the exponentials")
    ax.set(xscale="log", yscale="log", xlabel="time (one over the unit of the rates)", ylabel="share retained")
    ax.legend()
    return fig, table


def _promise(ax: Axes) -> None:
    ax.axvspan(0.92, 0.98, color=COLOURS["chance"], alpha=0.2, lw=0, label="0.92 to 0.98")
    ax.axvline(0.95, color=COLOURS["chance"], lw=1)
    ax.set_xlabel("share of intervals that contain the planted value")


def draw_coverage(table: pd.DataFrame, full: pd.DataFrame | None = None) -> Drawn:
    """Coverage of every parameter, with its own interval, beside the promised 95 % and the stored run's."""
    rows = table.iloc[::-1].reset_index(drop=True)
    fig, ax = subplots(figsize=(WIDTH, 1.1 + 0.24 * len(rows)), layout="constrained")
    _promise(ax)
    for law, colour in zip(PLANTED, ("power", "third", "exponential", "fourth")):
        part = rows[rows["law"] == law]
        error = [part["coverage"] - part["low"], part["high"] - part["coverage"]]
        ax.errorbar(part["coverage"], part.index, xerr=error, fmt="o", ms=4, lw=1, color=COLOURS[colour])
    drawn = table.assign(run="this")
    if full is not None:
        keys = ["space", "law", "points", "parameter"]
        stored = rows[keys].merge(full, on=keys, how="left")
        ax.plot(stored["coverage"], stored.index, "D", ms=6, mfc="none", mec=COLOURS["data"], label="stored run")
        drawn = pd.concat([drawn, stored.iloc[::-1].assign(run="stored")], ignore_index=True)
    names = [f"{SHORT[row.law]}, {row.points} points: {row.parameter}" for row in rows.itertuples()]
    ax.set_yticks(range(len(rows)), names)
    fig.legend(loc="outside upper right", ncols=2)
    return fig, drawn


def draw_full_coverage(table: pd.DataFrame) -> Drawn:
    """Coverage of every parameter of all laws, in either space: a dot for each, coloured by the number of points."""
    laws, sizes = list(dict.fromkeys(table["law"])), sorted(table["points"].unique())
    fig, axes = subplots(2, 1, figsize=(WIDTH, 6.4), layout="constrained", sharex=True)
    for ax, space in zip(axes, ("log", "linear")):
        _promise(ax)
        for k, (points, colour) in enumerate(zip(sizes, ("limit", "exponential", "third", "power"))):
            part = table[(table["space"] == space) & (table["points"] == points)]
            height = part["law"].map(laws.index) + 0.17 * (k - 1.5)
            ax.plot(part["coverage"], height, "o", ms=4, alpha=0.8, color=COLOURS[colour], label=f"{points} points")
        ax.set_yticks(range(len(laws)), [SHORT[law] for law in laws])
        ax.invert_yaxis()
        ax.set_title(f"{space} space")
    axes[0].set_xlabel("")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return fig, table


def draw_choice(table: pd.DataFrame) -> Drawn:
    """Planted law against chosen law, one square of shares for each noise."""
    noises, laws = sorted(table["noise"].unique()), list(dict.fromkeys(table["planted"]))
    height = 0.9 + 0.42 * len(laws)
    fig, axes = subplots(len(noises), 1, figsize=(WIDTH, height * len(noises)), layout="constrained", sharex=True)
    axes = np.atleast_1d(axes)
    names = [SHORT[law] for law in laws]
    for ax, noise in zip(axes, noises):
        wide = table[table["noise"] == noise].pivot_table(index="planted", columns="chosen", values="share")
        square = wide.loc[laws, laws].to_numpy()
        ax.imshow(square, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(square.shape):
            shade = "white" if square[i, j] > 0.6 else "black"
            ax.text(j, i, f"{square[i, j]:.2f}", ha="center", va="center", color=shade, fontsize=9)
        many = {"rotation": 30, "ha": "right"} if len(laws) > 4 else {}
        ax.set_xticks(range(len(names)), names, **many)
        ax.set_yticks(range(len(names)), names)
        ax.set(ylabel="planted", title=f"error of {noise:g} in the logarithm")
    axes[-1].set_xlabel("chosen by AICc")
    return fig, table


def draw_averaging(curves: pd.DataFrame) -> Drawn:
    """The mean of exponentials with both laws, and some of the series that were averaged."""
    fig, ax = subplots(figsize=(WIDTH, 3.8), layout="constrained")
    for i, name in enumerate(c for c in curves.columns if c.startswith("series_")):
        ax.plot(curves["x"], curves[name], color=COLOURS["chance"], lw=0.8, label=None if i else "single series")
    ax.plot(curves["x"], curves["mean"], "o", ms=3, color=COLOURS["data"], label="their mean")
    for law, style in (("power", "-"), ("exponential", "--")):
        ax.plot(curves["x"], curves[law], style, color=COLOURS[law], label=f"{law} law fitted to the mean")
    ax.set(xscale="log", yscale="log", xlabel="x (no unit)", ylabel="y (share of the start)")
    ax.set_ylim(curves["mean"].min() / 20, 2)
    ax.legend(loc="lower left")
    return fig, curves


def draw_gravity(table: pd.DataFrame) -> Drawn:
    """Deviance that each law leaves over the better one, by planted field."""
    fig, ax = subplots(figsize=(WIDTH, 2.8), layout="constrained")
    shown = table[table["error"] != "softmax"]
    planted = list(dict.fromkeys(shown["planted"]))
    for shift, law in ((-0.18, "power"), (0.18, "exponential")):
        part = shown[shown["law"] == law].set_index("planted").loc[planted]
        ax.barh(np.arange(len(planted)) + shift, 100 * part["excess"], 0.34, color=COLOURS[law], label=f"fitted: {law}")
    ax.set_yticks(range(len(planted)), [f"planted: {p}" for p in planted])
    ax.invert_yaxis()
    ax.set_xlabel("deviance left by the worse law, % of what\nequal weights for all keys would leave")
    ax.legend(loc="lower right")
    return fig, table


def draw_careless(table: pd.DataFrame, fit: CurveFit) -> Drawn:
    """Uniform causal attention by distance: averaged over all queries, and over those with the whole window behind."""
    fig, ax = subplots(figsize=(WIDTH, 3.4), layout="constrained")
    for column, colour, label in (
        ("all_queries", "limit", "all queries that have this distance"),
        ("whole_window", "power", "the same queries at every distance"),
    ):
        ax.plot(table["distance"], table[column], "o", ms=3, color=COLOURS[colour], label=label)
    r = np.array([table["distance"].min(), table["distance"].max()])
    ax.plot(r, fit.predict(r), color=COLOURS["limit"], lw=1, label="power law fitted to it")
    ax.set(xscale="log", yscale="log", xlabel="distance r (tokens)", ylabel="mean weight")
    ax.legend()
    return fig, table
