"""The pictures of the chapter `power_vs_exp` on where a field's law comes from: learned against planted exponents, the
exponential controls, and texts whole and broken. Each function returns a figure and the table of what it draws (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import field_grids
from agf_core.analysis.accuracy_field_figures import HAIR
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.field_copies import Texts, copied
from agf_core.analysis.power_figures import STARTS
from agf_core.figures import COLOURS, WIDTH

READERS = {"field only": ("data", "o", -1), "full": ("fourth", "D", 1)}  # colour, marker, side of the planted value
BAND = 3  # models from which on an interval is drawn: of two it is as wide as the picture
BROKEN = {"": "whole", "shuffled:order:": "sentences shuffled", "shuffled:sentences:": "words shuffled in sentences",
          "shuffled:words:": "words shuffled in 16"}  # fmt: skip
BREAK_TONES = dict(zip(BROKEN, ("data", "fourth", "chance", "limit")))
MARKERS = dict(zip(field_grids.TEXTS, "os^Dv"))


def planted(languages: pd.DataFrame) -> Drawn:
    """Left: learned against planted exponents. Right: which law predicts far distances, planted exponential beside."""
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 4.2), width_ratios=[1.6, 1], layout="constrained")
    power = languages[languages["law"] == "power"]
    top = 1.15 * max(field_grids.PLANTED)
    left.plot([0, top], [0, top], color=COLOURS["chance"], lw=1, ls="--")
    slopes = []
    for reader, (tone, marker, side) in READERS.items():
        part = power[(power["reader"] == reader) & np.isfinite(power["exponent"])]
        for start, shift in zip(STARTS, (0.012, 0.04)):
            dots = part[part["start"] == start]
            face = COLOURS[tone] if start == "flat" else "white"
            left.scatter(dots["planted"] + side * shift, dots["exponent"], s=20, marker=marker, lw=0.9, zorder=3,
                         edgecolors=COLOURS[tone], facecolors=face)  # fmt: skip
        if found := copied(power, reader):
            x = np.array([part["planted"].min(), part["planted"].max()])
            centre = (part["planted"].mean(), part["exponent"].mean())
            left.plot(x, centre[1] + found.value * (x - centre[0]), color=COLOURS[tone], lw=1.4)
            slopes.append({"reader": reader, "slope": found.value, "low": found.low, "high": found.high})
    left.set(xlabel="planted exponent θ", ylabel="exponent of the learned field", xlim=(0, top))
    tones = {"power": "power", "exponential": "exponential", "undecided": "chance", "unknown": ""}
    _winners(right, languages, tones)
    handles: list[Artist] = [
        Line2D([], [], marker=m, color=COLOURS[c], label=r) for r, (c, m, _) in READERS.items()
    ]
    handles += [Line2D([], [], marker="o", ls="", color=COLOURS["data"], label="flat start"),
                Line2D([], [], marker="o", ls="", color=COLOURS["data"], mfc="white", label="steep start"),
                Line2D([], [], ls="--", color=COLOURS["chance"], label="copied exactly")]  # fmt: skip
    words = {"power": "power law better", "exponential": "exponential better"}
    handles += [Patch(facecolor=COLOURS[tone] if tone else "white", hatch="" if tone else "//", label=words.get(w, w),
                      edgecolor="white" if tone else COLOURS["chance"]) for w, tone in tones.items()]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    fits = pd.DataFrame(slopes, columns=["reader", "slope", "low", "high"])
    return fig, languages.drop(columns="id").merge(fits, on="reader", how="left")


def _winners(ax: Axes, languages: pd.DataFrame, tones: dict[str, str]) -> None:
    """A bar a planted law: share of the models of each winner."""
    there = set(zip(languages["reader"], languages["law"], languages["planted"]))
    rows = sorted(there, key=lambda row: (row[1] != "power", list(READERS).index(row[0]), row[2]))
    for y, (reader, law, value) in enumerate(rows):
        part = languages[(languages["reader"] == reader) & (languages["law"] == law) & (languages["planted"] == value)]
        at = 0.0
        for winner, tone in tones.items():
            share = (part["winner"] == winner).mean()
            face, edge = (COLOURS[tone], "white") if tone else ("white", COLOURS["chance"])
            ax.barh(y, share, left=at, height=0.8, color=face, edgecolor=edge, lw=0.4, hatch="" if tone else "//")
            at += share
    names = [f"{'θ' if law == 'power' else 'rate'} {value:g}, {reader}" for reader, law, value in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=7)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of models")


def small_multiples(texts: Texts) -> Drawn:
    """Learned and predicted log fields of every text, whole and broken."""
    table = texts.fields
    names = [t for t in field_grids.TEXTS if (table["text"] == t).any()]
    ways = [b for b in BROKEN if (table["broken"] == b).any()]
    fig, axes = subplots(len(names), len(ways), figsize=(WIDTH, 0.8 + 1.25 * len(names)), sharex=True, sharey=True,
                         squeeze=False, layout="constrained")  # fmt: skip
    models = texts.texts.set_index(["text", "broken"])["models"]
    for line, text in zip(axes, names):
        for ax, broken in zip(line, ways):
            part = table[(table["text"] == text) & (table["broken"] == broken)]
            level = part.loc[part["told"] & part["agrees"], ["learned", "predicted"]]
            level = level if len(level) else part.loc[part["told"], ["learned", "predicted"]]
            shift = (level["learned"] - level["predicted"]).mean()  # a field is known up to a factor
            ax.plot(part["r"], part["learned"], color=COLOURS["fourth"], lw=1.2)
            if (models.get((text, broken), 0)) >= BAND:
                ax.fill_between(part["r"], part["low"], part["high"], color=COLOURS["fourth"], alpha=0.3, lw=0)
            told = part[part["told"]]
            ax.plot(told["r"], told["predicted"] + shift, ".", ms=3, color=COLOURS["data"])
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(FixedLocator([1, 4, 16, 64]))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
    low, high = table["learned"].min(), table["learned"].max()
    axes[0][0].set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
    for ax, broken in zip(axes[0], ways):
        ax.set_title(BROKEN[broken].replace(" in ", "\nin "), fontsize=8)
    for line, text in zip(axes, names):
        line[0].set_ylabel(text.replace("_", "\n"), fontsize=8)
    axes[-1][0].set_xlabel("distance r (bytes); up: log g (nat)", loc="left")
    handles = [
        Line2D([], [], color=COLOURS["fourth"], label="learned, 95 % over models"),
        Line2D([], [], ls="", marker=".", color=COLOURS["data"], label="predicted from the text, shifted"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig, table


def text_exponents(texts: Texts) -> Drawn:
    """Learned against predicted exponents, one dot a text; a hairline joins a text with its broken versions."""
    table = texts.texts[np.isfinite(texts.texts[["learned", "predicted"]]).all(axis=1)]
    fig, ax = subplots(figsize=(WIDTH, 4.4), layout="constrained")
    for _, part in table.groupby("text", sort=False):
        ax.plot(part["predicted"], part["learned"], color=HAIR["color"], lw=HAIR["lw"], zorder=1)
    for row in table.itertuples():
        spread = np.array([[row.learned - row.learned_low], [row.learned_high - row.learned]])
        ax.errorbar([row.predicted], [row.learned], yerr=spread, fmt=MARKERS[row.text], ms=5, lw=1,
                    color=COLOURS[BREAK_TONES[row.broken]])  # fmt: skip
    if len(table):
        ends = [table[["predicted", "learned"]].to_numpy().min(), table[["predicted", "learned"]].to_numpy().max()]
        ax.plot(ends, ends, ls="--", lw=1, color=COLOURS["chance"])
    ax.set(xlabel="exponent predicted from the text's own dependence", ylabel="exponent of the learned field")
    handles: list[Artist] = [Patch(color=COLOURS[BREAK_TONES[b]], label=n) for b, n in BROKEN.items()]
    handles += [Line2D([], [], marker=m, ls="", color=COLOURS["data"], mfc="none", label=t) for t, m in MARKERS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, table
