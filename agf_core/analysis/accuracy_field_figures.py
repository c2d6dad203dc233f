"""The pictures of the chapter `accuracy` that look into the field: the plane of law and placement, loss past the
training length, loss by position. Each function returns a figure and the table of what it draws (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from agf_core.analysis import grids
from agf_core.analysis.accuracy import Results
from agf_core.analysis.accuracy_figures import COLOURS, FAMILIES, WIDTH, Drawn, colour
from agf_core.analysis.accuracy_words import called
from agf_core.analysis.contrasts import contrast
from agf_core.attention import PLACEMENTS

AGF_CELL = ("power", "logit", True)
PUBLISHED = {
    AGF_CELL: "AGF", ("exponential", "logit", False): "ALiBi",
    ("stretched_exponential", "logit", True): "KERPLE-\npower",
    ("table", "logit", True): "T5", ("mlp", "logit", True): "FIRE",
}  # fmt: skip
LAWS = {"power": "power", "exponential": "exponential", "stretched_exponential": "stretched\nexponential",
        "table": "free table", "mlp": "MLP"}  # fmt: skip
HAIR = {"arrowstyle": "-", "lw": 0.4, "color": COLOURS["chance"]}
REACH = 10.0  # percent: the plane's colours end there
FARTHEST = grids.LENGTHS[-1]
# Lines that are told apart in the pictures by position and by length; the others are drawn in grey.
SHOWN = {
    "agf": ("power", "-"), "alibi": ("exponential", "-"), "t5": ("third", "-"), "rotary": ("limit", "-"),
    "sinusoidal": ("fourth", "-"), "learned": ("fourth", "--"), "nope": ("data", ":"),
    grids.FIELD_ONLY: ("power", "--"),
}  # fmt: skip


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """law, placement, trainable, published (the encoding's name, or ""), loss (bits a byte), more (percent of loss more
    than AGF's cell, paired by seed), low, high, seeds."""
    rows = []
    for cell, part in runs.groupby("name", sort=False):
        e = contrast(runs, AGF_CELL, cell)
        # `contrast` is relative to the other cell's loss; here AGF's is the unit.
        more = [100 * s / (100 - s) for s in (e.value, e.low, e.high)]
        rows.append((*cell, PUBLISHED.get(cell, ""), part["loss"].mean(), *more, len(part)))
    columns = ["law", "placement", "trainable", "published", "loss", "more", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def plane(runs: pd.DataFrame) -> Drawn:
    """Laws by placements, trainable and frozen: percent of loss more than AGF's cell."""
    table = cells(runs)
    fig, axes = subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True, layout="constrained")
    for ax, trainable in zip(axes, (True, False)):
        here = table[table["trainable"] == trainable].set_index(["law", "placement"])
        grid = np.array([[here["more"].get((law, p), np.nan) for p in PLACEMENTS] for law in LAWS])
        shade = np.where(np.isfinite(grid), grid, np.nan)
        image = ax.imshow(shade, cmap="PuOr_r", vmin=-REACH, vmax=REACH, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            name = PUBLISHED.get((list(LAWS)[y], PLACEMENTS[x], trainable), "")
            number = f"{value:+.1f}" if np.isfinite(value) else "diverged" if np.isinf(value) else "–"
            bright = np.isfinite(value) and abs(value) > 0.7 * REACH
            ax.text(x, y, "\n".join(filter(None, (number, name))), ha="center", va="center", fontsize=9,
                    color="white" if bright else "black", weight="bold" if name else "normal")  # fmt: skip
            if name:
                ax.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, lw=2.2, edgecolor="black"))
        ax.set(title="trainable" if trainable else "frozen at its start", xlabel="placement")
        ax.set_xticks(range(len(PLACEMENTS)), PLACEMENTS)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_yticks(range(len(LAWS)), LAWS.values())
    bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, extend="both", ticks=range(-10, 11, 5))
    bar.set_label("% of held-out loss more than AGF's cell (outlined: published)")
    return fig, table


def apart(values: Sequence[float], gap: float) -> np.ndarray:
    """Places for labels along an axis from 0 to 1: the nearest values (least squares) that keep the order and lie at
    least `gap` apart, pushed back where they would leave the axis.

    Isotonic regression by its min-max formula, of the values less their place in the order.
    """
    order = np.argsort(values, kind="stable")
    n = len(order)
    v = np.asarray(values, float)[order] - gap * np.arange(n)
    fitted = [max(min(v[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    out = np.empty(n)
    places = np.array(fitted) + gap * np.arange(n)
    places = np.minimum(places, 0.98 - gap * np.arange(n)[::-1])
    out[order] = np.maximum(places, 0.02 + gap * np.arange(n))
    return out


def lengths(results: Results) -> Drawn:
    """Above: loss against length; below: what is lost at the farthest against the share of the field out there."""
    table = results.lengths
    fig = subplots(figsize=(WIDTH, 8.2), layout="constrained")[0]
    fig.clear()
    grid = fig.add_gridspec(2, 2, width_ratios=[1.1, 3], height_ratios=[1.1, 1])
    above = fig.add_subplot(grid[0, :])
    beside = fig.add_subplot(grid[1, 0])
    below = fig.add_subplot(grid[1, 1], sharey=beside)
    _by_length(above, table)
    far = table[(table["multiple"] == FARTHEST) & np.isfinite(table["excess"])]
    least, most = far["excess"].min(), far["excess"].max()
    for ax in (beside, below):
        ax.axhline(0, color=COLOURS["chance"], lw=1)
        ax.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        ax.set_ylim(min(-0.09, 4 * least), max(0.1, 1.5 * most))  # with room below for names
        ax.yaxis.set_major_locator(FixedLocator([-1, -0.3, -0.1, 0, 0.05, 0.1, 0.3, 1, 3, 10]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:g}")
    without = far["beyond"].isna()
    reach = np.nanmax([0.02, far["beyond"].max()])
    beside.set_xlim(-0.3, 2.2)
    below.set_xlim(-0.04 * reach, 1.35 * reach)
    parts = {beside: far[without].assign(beyond=0.0), below: far[~without]}
    for ax, part in parts.items():
        _scatter(ax, part)
    beside.set(ylabel=f"bits a byte more at {FARTHEST} × the training length", title="no field")
    beside.set_xticks([])
    below.set(title="a field", xlabel="share of the field past the training length")
    below.tick_params(labelleft=False)
    fig.draw_without_rendering()  # lays the axes out, so that labels know where the points are
    for ax, part in parts.items():
        _labels(ax, part)
    return fig, table


def _by_length(ax: Axes, table: pd.DataFrame) -> None:
    last = []
    for name, part in table.groupby("name", sort=False):
        tone, style = SHOWN.get(name, ("chance", "-"))
        front = 3 if name in SHOWN else 1
        ax.plot(part["multiple"], part["loss"], style, marker="o", ms=3, color=COLOURS[tone], zorder=front)
        if np.isfinite(part[["low", "high"]].to_numpy()).all() and name in SHOWN:
            ax.fill_between(part["multiple"], part["low"], part["high"], color=COLOURS[tone], alpha=0.1, lw=0)
        last.append((name, part["multiple"].iloc[-1], part["loss"].iloc[-1], tone))
    low, high = table["loss"].min(), table["loss"].max()
    ax.set(xscale="log", yscale="log", xlabel="length / training length", ylabel="bits a byte, held out")
    ax.set_ylim(low / 1.02, high * 1.02)
    ax.xaxis.set_major_locator(FixedLocator(grids.LENGTHS))
    ax.xaxis.set_major_formatter("{x:g} ×")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(FixedLocator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    place = ax.transData + ax.transAxes.inverted()
    heights = [place.transform((m, v))[1] for _, m, v, _ in last]
    for (name, multiple, loss, tone), y in zip(last, apart(heights, 0.062)):
        text = called(name) + (f" ends at {multiple:g} ×" if multiple < FARTHEST else "")
        ax.annotate(text, (multiple, loss), (1.03, y), textcoords="axes fraction", fontsize=9, va="center",
                    color=COLOURS["data"] if tone == "chance" else COLOURS[tone],
                    arrowprops=None if multiple < FARTHEST else {**HAIR, "shrinkB": 2})  # fmt: skip


def _scatter(ax: Axes, far: pd.DataFrame) -> None:
    """One point with its interval for each encoding, square where the field fades the association, not the weight."""
    for row in far.itertuples():
        error = np.array([[row.excess - row.excess_low], [row.excess_high - row.excess]])
        ax.errorbar([row.beyond], [row.excess], yerr=error, fmt="s" if row.name == "agf_score" else "o", ms=5, lw=1,
                    color=colour(row.name))  # fmt: skip


def _labels(ax: Axes, far: pd.DataFrame) -> None:
    """A name for each point with a line to it, at the nearest place that covers no point, interval or other name, and
    lies nearer to its own point than to another."""
    far = far.sort_values("excess", ascending=False)
    unit = ax.figure.dpi / 72  # pixels a point
    at, low, high = (ax.transData.transform(far[["beyond", c]].to_numpy(float)) / unit
                     for c in ("excess", "excess_low", "excess_high"))  # fmt: skip
    frame = np.array(ax.get_window_extent().extents) / unit + [0, 0, 30, 0]
    taken = [np.array([x - 4, np.nanmin([y - 4, down]), x + 4, np.nanmax([y + 4, up])])
             for (x, y), down, up in zip(at, low[:, 1], high[:, 1])]  # fmt: skip
    sides = ((1, 0), (0.8, 0.6), (0.8, -0.6), (0.4, 0.9), (0.4, -0.9), (-1, 0), (-0.8, 0.6), (-0.8, -0.6), (-0.4, 0.9),
             (-0.4, -0.9))  # fmt: skip
    for i, (row, (x, y)) in enumerate(zip(far.itertuples(), at)):
        width, places = 6.0 * len(called(row.name)) + 4, []
        for reach in (9, 14, 20, 28, 38, 52, 70):
            for across, up in sides:
                left, middle = x + reach * across - (width if across < 0 else 0), y + reach * up
                box = np.array([left, middle - 6, left + width, middle + 6])
                hits = sum((box[:2] < t[2:]).all() and (t[:2] < box[2:]).all() for t in taken)
                outside = (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any()
                away = np.hypot(*(at - np.clip(at, box[:2], box[2:])).T)
                wrong = int(np.delete(away, i).min(initial=np.inf) < away[i])
                places.append((3 * hits + wrong + 9 * outside, reach, left, middle, box))
        *_, left, middle, box = min(places, key=lambda place: place[:2])
        taken.append(box)
        ax.annotate(called(row.name), (row.beyond, row.excess), (left - x, middle - y), textcoords="offset points",
                    fontsize=9, va="center", arrowprops={**HAIR, "shrinkA": 0, "shrinkB": 2})  # fmt: skip


def positions(results: Results) -> Drawn:
    """Loss by position within the training length."""
    table = results.positions
    fig, ax = subplots(figsize=(WIDTH, 4.2), layout="constrained")
    for name, part in table.groupby("name", sort=False):
        tone, style = SHOWN.get(name, ("chance", "-"))
        shown = name in SHOWN
        ax.plot(part["position"] + 1, part["loss"], style, color=COLOURS[tone], lw=1.8 if shown else 0.7,
                zorder=3 if shown else 1, label=called(name) if shown else None)  # fmt: skip
    ax.plot([], [], color=COLOURS["chance"], lw=0.7, label="the others")
    ax.set(xscale="log", xlabel="tokens read (first of each bin)", ylabel="bits a byte, held out")
    ax.xaxis.set_major_locator(FixedLocator([2**i for i in range(12)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    fig.legend(loc="outside lower center", ncols=4)
    return fig, table


__all__ = ["FAMILIES", "apart", "cells", "lengths", "plane", "positions"]
