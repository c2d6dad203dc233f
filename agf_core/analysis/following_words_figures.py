"""The pictures of the chapter `following_words`: each function takes the page's measurements, and returns a figure and
the table of what it draws, for `figures.publish` (ours).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots
from matplotlib.ticker import MaxNLocator

from agf_core.analysis import collocation as co
from agf_core.analysis.followers import Ranks
from agf_core.analysis.following_words import Dependencies, Page, Pooled
from agf_core.figures import COLOURS, WIDTH

Drawn = tuple[Figure, pd.DataFrame]
HUNDRED = 100  # excess is drawn per hundred occurrences
DISTANCE = "distance r after the word (tokens)"


def by_rank(page: Page) -> Drawn:
    """Frequency by rank of the followers, next word and whole window, with chance beside each."""
    fig, axes = subplots(2, 1, figsize=(WIDTH, 6.4), layout="constrained")
    for ax, found in zip(axes, (page.next_word, page.in_window)):
        _ranks(ax, found)
        ax.set_title("the next token" if found.span == 1 else f"all tokens within {found.span}")
    axes[0].legend(loc="upper right")
    parts = [found.table.assign(within=found.span) for found in (page.next_word, page.in_window)]
    return fig, pd.concat(parts, ignore_index=True).drop(columns="word")


def _ranks(ax: Axes, found: Ranks) -> None:
    t = found.table
    for low, high, colour, label in (
        ("chance_low", "chance_high", "chance", "as many random places, 95 %"),
        ("low", "high", "power", "each follower's count, documents resampled, 95 %"),
    ):  # a logarithmic axis has no place for zero: there a band goes on to the lower edge, or ends
        ax.fill_between(t["rank"], t[low].clip(lower=0.7), t[high].where(t[high] >= 1), color=COLOURS[colour],
                        alpha=0.35, lw=0, label=label)  # fmt: skip
    ax.plot(t["rank"], t["count"], "o", ms=3.5, color=COLOURS["data"], label="followers")
    ax.set(xscale="log", yscale="log", xlabel="rank of the follower", ylabel="count")
    ax.set_ylim(bottom=0.7)


def by_distance(page: Page) -> Drawn:
    """The word's excess of partners by distance, with intervals and both laws."""
    fig, ax = subplots(figsize=(WIDTH, 3.8), layout="constrained")
    table = _curve(ax, page.distance)
    ax.set(xlabel=DISTANCE, ylabel="partners beyond chance\nper 100 occurrences")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return fig, table


def _curve(ax: Axes, laws: co.Laws, index: int = 0) -> pd.DataFrame:
    r = np.arange(1, laws.y.shape[1] + 1)
    y, low, high = (HUNDRED * a[index] for a in (laws.y, laws.low, laws.high))
    ax.axhline(0, color=COLOURS["chance"], lw=1, label="chance")
    error = np.abs(np.stack([np.minimum(low, y), np.maximum(high, y)]) - y)
    ax.errorbar(r, y, error, fmt="o", ms=4, lw=1, color=COLOURS["data"], label="measured, 95 %")
    table = {"distance": r, "excess": y, "low": low, "high": high}
    for law, style in (("power", "-"), ("exponential", "--")):
        table[law] = HUNDRED * laws.curves[law][index]
        if np.isfinite(table[law]).all():
            ax.plot(r, table[law], style, color=COLOURS[law], label=f"{law} law")
    return pd.DataFrame(table)


def by_class(table: pd.DataFrame) -> Drawn:
    """Word classes at r = 1, 2, 3 against their share in the same documents."""
    tags = sorted(table["tag"].unique(), key=lambda t: -table[(table["tag"] == t) & (table["r"] == 1)]["log2"].item())
    fig, ax = subplots(figsize=(WIDTH, 1.4 + 0.42 * len(tags)), layout="constrained")
    ax.axvline(0, color=COLOURS["chance"], lw=1)
    for shift, r, colour in ((-0.25, 1, "power"), (0.0, 2, "exponential"), (0.25, 3, "third")):
        at = table[table["r"] == r].set_index("tag").loc[tags]
        error = np.abs(at[["low", "high"]].to_numpy().T - at["log2"].to_numpy())
        ax.errorbar(at["log2"], np.arange(len(tags)) + shift, xerr=error, fmt="o", ms=4, lw=1.2,
                    color=COLOURS[colour], label=f"r = {r}")  # fmt: skip
    ax.set_yticks(range(len(tags)), [{".": "punctuation"}.get(t, t) for t in tags])
    ax.invert_yaxis()
    ax.set_xlabel("log2(share after the word / share in the same documents), 95 %")
    fig.legend(title="distance", loc="outside lower center", ncols=3)
    return fig, table


def exponents(pooled: Pooled) -> Drawn:
    """The exponent of each eligible adjective, sorted, with its interval and call; their median."""
    laws, keep = pooled.laws, np.flatnonzero(pooled.laws.eligible)
    value, interval = laws.exponent[keep, 0], laws.interval()[keep]
    calls, names = np.array(laws.calls())[keep], np.array(laws.words)[keep]
    order = np.argsort(value)
    table = pd.DataFrame({
        "word": names[order], "exponent": value[order], "low": interval[order, 0], "high": interval[order, 1],
        "call": calls[order], "lead": laws.lead[keep, 0][order],
    })  # fmt: skip
    fig, ax = subplots(figsize=(WIDTH, 5.6), layout="constrained")
    e = pooled.exponent
    ax.axvspan(e.low, e.high, color=COLOURS["third"], alpha=0.25, lw=0, label="median, 95 %")
    ax.axvline(e.value, color=COLOURS["third"])
    for call, colour in zip(co.CALLS, ("power", "exponential", "chance")):
        here = table["call"] == call
        if here.any():
            part = table[here]
            error = np.clip([part["exponent"] - part["low"], part["high"] - part["exponent"]], 0, None)
            ax.errorbar(part["exponent"], part.index, xerr=error, fmt="o", ms=3, lw=0.9, color=COLOURS[colour],
                        label=f"{call} ({here.sum()})")  # fmt: skip
    left = -0.5
    named = sorted({0, len(table) // 2, len(table) - 1})  # their names beside the axis, where no dot is
    ax.hlines(named, left, table["exponent"][named], color=COLOURS["data"], lw=0.5, ls=":", zorder=0)
    ax.set(xlim=(left, co.REACH[1] + 0.2), xlabel="exponent of the power law", ylabel="adjectives, sorted")
    ax.set_yticks(named, table["word"][named])
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.11), ncols=2)
    return fig, table


def exponents_caption() -> str:
    """The caption of `exponents`: which words are named, and where the search ends."""
    return (
        "The exponent of the power law for each adjective whose company can be told from chance, with 95 % intervals; "
        "colour: the law that is called. Green: the median, documents and words resampled. Named on the left: the "
        "first, the middle and the last adjective in the order of exponents. The search ends at "
        f"{co.REACH[1]:g}: a dot there is no estimate, an interval up to there has no upper bound. Intervals that "
        "reach left of the axis are cut off."
    )


def pooled_first(page: Page, pooled: Pooled) -> Drawn:
    """What adding up the words first would show: planted exponentials, and this text's adjectives."""
    fig, axes = subplots(2, 1, figsize=(WIDTH, 6.0), layout="constrained", sharex=True)
    tables = []
    titles = ("planted: exponential laws, added up", f"{page.text.name}: {pooled.eligible} adjectives, added up")
    for ax, laws, title in zip(axes, (page.calibration.trap, pooled.first), titles):
        table = _curve(ax, laws)
        positive = table["excess"] > 0
        ax.set(xscale="log", yscale="log", title=title, ylabel="partners beyond chance\nper 100 occurrences")
        ax.set_ylim(0.5 * table["excess"][positive].min(), 2 * table["excess"].max())
        tables.append(table.assign(what=title))
    axes[0].legend(loc="lower left")
    axes[1].set_xlabel(DISTANCE)
    return fig, pd.concat(tables, ignore_index=True)


def _label(row: Any) -> str:
    return f"power, k = {row.planted:g}" if row.law == "power" else f"exponential, m = {row.planted:g}"


def calibration(page: Page) -> Drawn:
    """Recovered over planted parameter, one row per planted law."""
    table = page.calibration.table
    rows = table[table["law"] != "none"].reset_index(drop=True)
    fig, ax = subplots(figsize=(WIDTH, 2.6), layout="constrained")
    ax.axvline(1, color=COLOURS["chance"], lw=1, label="what was planted")
    ratio = rows[["recovered", "low", "high"]].div(rows["planted"], axis=0)
    for law in co.CALLS[:2]:
        at = np.flatnonzero(rows["law"] == law)
        middle = ratio["recovered"][at]
        error = np.clip([middle - ratio["low"][at], ratio["high"][at] - middle], 0, None)
        ax.errorbar(middle, at, xerr=error, fmt="o", color=COLOURS[law], label=f"{law} law, 95 %")
    ax.set_yticks(rows.index, [_label(row) for row in rows.itertuples()])
    ax.invert_yaxis()
    ax.set_xlabel("recovered / planted")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.3), ncols=3)
    return fig, table


def operating(page: Page) -> Drawn:
    """How often each planted law is called right, wrong or not at all, with as few occurrences and with many."""
    table = page.operating
    fig, ax = subplots(figsize=(WIDTH, 0.9 + 0.36 * len(table)), layout="constrained")
    left = np.zeros(len(table))
    for name, colour in (("right", "third"), ("undecided", "chance"), ("wrong", "limit")):
        ax.barh(np.arange(len(table)), table[name], left=left, color=COLOURS[colour], label=name, height=0.75)
        left += table[name].to_numpy()
    ax.set_yticks(range(len(table)), [f"{_label(row)}\n{row.occurrences:,} occurrences" for row in table.itertuples()])
    ax.tick_params(axis="y", labelsize=8.5)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of planted words")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    return fig, table


def dependency_distances(found: Dependencies) -> Drawn:
    """Dependency distances with the three laws and the break."""
    fig, ax = subplots(figsize=(WIDTH, 4.2), layout="constrained")
    seen = found.table[found.table["count"] > 0]
    ax.axvspan(found.break_.low, found.break_.high, color=COLOURS["third"], alpha=0.25, lw=0)
    ax.axvline(found.break_.value, color=COLOURS["third"], lw=1, label="break, 95 %")
    ax.plot(seen["distance"], seen["count"], "o", ms=3.5, color=COLOURS["data"], label="dependencies")
    for law, colour, style, name in (
        ("two_geometric", "third", "-", "two geometric regimes"),
        ("exponential", "exponential", "--", "one geometric law"),
        ("power", "power", ":", "truncated power law"),
    ):
        ax.plot(found.table["distance"], found.table[law], style, color=COLOURS[colour], label=name)
    ax.set(xscale="log", yscale="log", ylim=(0.5, 2 * seen["count"].max()),
           xlabel="dependency distance (words)", ylabel="dependencies")  # fmt: skip
    ax.legend(loc="lower left")
    return fig, found.table
