"""The pictures of forgetting in the chapter `learning_curves`. Each function returns a figure and the table of what it
draws, for `figures.publish` (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import forgetting_laws
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.contrasts import mean
from agf_core.analysis.forgetting import Recall, Reminder
from agf_core.analysis.learning_curves import Page
from agf_core.figures import COLOURS, WIDTH
from agf_core.fitting import fit_curve, fsrs_retention

TEXT = {"free, bytes": ("third", "free field, bytes"), "rotary, bytes": ("fourth", "rotary, bytes"),
        "free, words": ("power", "free field, words"), "rotary, words": ("exponential", "rotary, words")}  # fmt: skip
SMALL = 0.05  # nats: what an axis spans at least
KINDS = {"free": ("third", "free field"), "rotary": ("fourth", "rotary")}
LANGUAGES = {"power:exponent=0": "copies even to 64 back", "power:exponent=1": "copies fall as a power law",
             "exponential:rate=0.1": "copies fall exponentially"}  # fmt: skip


def known(page: Page) -> Drawn:
    """What the instrument finds of predictors whose recall is known, and of a model that learned nothing."""
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=[1.5, 1], layout="constrained")
    tones = ("power", "exponential", "third", "fourth")
    for (name, part), tone in zip(page.known.groupby("predictor", sort=False), tones):
        left.plot(part["lag"], part["planted"], color=COLOURS[tone], lw=1.2)
        left.plot(part["lag"], part["found"], "o", ms=4, color=COLOURS[tone], label=name)
    _lags(left, page.known["lag"], "symbols")
    left.set(ylabel="recall (nats of log-odds)", title="known answers", ylim=(None, 1.6 * page.known["planted"].max()))
    left.legend()
    _items(right, page.untrained)
    _lags(right, page.untrained.lags.tolist(), "bytes")
    right.set_title("nothing learned")
    blank = pd.DataFrame({"predictor": "untrained", "lag": page.untrained.lags, "found": page.untrained.mean.mean(0)})
    return fig, pd.concat([page.known, blank], ignore_index=True)


def _lags(ax: Axes, lags: Sequence[float] | pd.Series, unit: str) -> None:
    """Lags on a logarithmic axis, marked at powers of two."""
    ax.set(xscale="log", xlabel=f"lag ({unit})")
    ax.xaxis.set_major_locator(FixedLocator([2**i for i in range(8) if min(lags) <= 2**i <= max(lags)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")


def _items(ax: Axes, found: Recall) -> None:
    ax.axhline(0, color=COLOURS["chance"], lw=1)
    ax.plot(found.lags, found.mean.T, color=COLOURS["chance"], lw=0.6)
    ax.plot(found.lags, found.mean.mean(0), color=COLOURS["data"])
    top = max(SMALL, float(np.abs(found.mean).max()) * 1.2)
    ax.set_ylim(-top, top)


def _band(ax: Axes, models: Sequence[Recall], tone: str, label: str) -> pd.DataFrame:
    """The mean curve of models, each the mean of its items, with Student's interval over models."""
    rows = np.array([r.mean.mean(0) for r in models])
    each = [mean(rows[:, j]) for j in range(rows.shape[1])]
    table = pd.DataFrame({"lag": models[0].lags, "recall": [e.value for e in each], "low": [e.low for e in each],
                          "high": [e.high for e in each], "models": len(models)})  # fmt: skip
    ax.plot(table["lag"], table["recall"], "o-", ms=4, color=COLOURS[tone], label=label)
    if len(models) > 2:  # an interval over two says nothing, and takes all the room
        ax.fill_between(table["lag"], table["low"], table["high"], color=COLOURS[tone], alpha=0.2, lw=0)
    return table


def in_text(page: Page) -> Drawn:
    """Recall against lag in models of text, by kind."""
    there = {k: v for k, v in page.retention.recalls.items() if v}
    units = list(dict.fromkeys(kind.split(", ")[1] for kind in there))
    fig, axes = subplots(1, len(units), figsize=(WIDTH, 3.5), squeeze=False, sharey=True, layout="constrained")
    tables = []
    for ax, what in zip(axes.flat, units):
        ax.axhline(0, color=COLOURS["chance"], lw=1)
        ax.axhline(forgetting_laws.LEAST, color=COLOURS["limit"], lw=1, ls="--")
        for kind, models in there.items():
            if kind.endswith(what):
                tables.append(_band(ax, models, *TEXT[kind]).assign(kind=kind))
        _lags(ax, tables[-1]["lag"], what)
        ax.set_title(f"models of {what}")
        ax.legend()
    axes.flat[0].set_ylabel("recall (nats of log-odds)")
    return fig, pd.concat(tables, ignore_index=True)


def in_copies(page: Page) -> Drawn:
    """Recall against lag in models of languages of copies, beside the best predictor's."""
    found = page.copying.echoes
    fig, axes = subplots(1, 3, figsize=(WIDTH, 3.4), sharey=True, layout="constrained")
    tables = []
    for ax, (law, title) in zip(axes, LANGUAGES.items()):
        lags = np.arange(2.0, 65.0)
        best = Reminder.best(law).recall(lags)
        ax.plot(lags, best, color=COLOURS["data"], lw=1.2, label="best predictor")
        tables.append(pd.DataFrame({"lag": lags, "recall": best, "language": law, "kind": "best predictor"}))
        for kind, (tone, label) in KINDS.items():
            if models := found.get((law, kind)):
                tables.append(_band(ax, models, tone, label).assign(language=law, kind=kind))
        _lags(ax, lags.tolist(), "symbols")
        ax.set_title(title.replace(" fall", "\nfall").replace(" to ", "\nto "))
    axes[0].set_ylabel("recall (nats of log-odds)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, pd.concat(tables, ignore_index=True)


def human(page: Page) -> Drawn:
    """Savings of four learners with both laws, and FSRS's curve."""
    data = page.human.data
    minutes = data["minutes"].to_numpy(float)
    grid = np.geomspace(minutes[0], minutes[-1], 80)
    fig, axes = subplots(2, 2, figsize=(WIDTH, 5.2), sharex=True, sharey=True, layout="constrained")
    tables = []
    for ax, series in zip(axes.flat, forgetting_laws.SERIES):
        kept = data[series].to_numpy(float)
        ax.plot(minutes, kept, "o", ms=4, color=COLOURS["data"])
        row = {}
        for law in forgetting_laws.LAWS:
            fit = fit_curve(minutes, kept, law, intervals=False)
            ax.plot(grid, fit.predict(grid), color=COLOURS[law])
            row[law] = fit.predict(minutes)
        winner = page.human.fits.set_index("series")["winner"][series].iloc[0]
        ax.set_title(f"{series}: {winner}")
        tables.append(pd.DataFrame({"series": series, "minutes": minutes, "saved": kept, **row}))
    ax = axes.flat[0]
    day = 1440.0
    ax.plot(grid, fsrs_retention(grid, day), color=COLOURS["limit"], ls=":")
    for ax in axes[1]:
        ax.set_xlabel("minutes")
    for ax in axes[:, 0]:
        ax.set_ylabel("share saved")
    axes[0][0].set(xscale="log", yscale="log", ylim=(0.03, 1.1))
    handles = [Line2D([], [], marker="o", ls="", ms=4, color=COLOURS["data"], label="saved"),
               *(Line2D([], [], color=COLOURS[law], label=law) for law in forgetting_laws.LAWS),
               Line2D([], [], color=COLOURS["limit"], ls=":", label="FSRS, stability a day")]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig, pd.concat(tables, ignore_index=True)
