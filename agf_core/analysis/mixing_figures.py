"""The pictures of the chapter `encoding_walk`. Each function returns a figure and the table of what it draws, for
`figures.publish` (ours). Recall tokens are orange, the rest is blue, multi-query recall green.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import NullLocator

from agf_core.analysis import accuracy_figures, mixing_grids, power_figures
from agf_core.analysis import mixing_results as of
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.contrasts import mean
from agf_core.analysis.encoding_walk import Page
from agf_core.analysis.mixing_checks import allowed
from agf_core.analysis.mixing_grids import FIELD, FREE_FULL, FULL, MIXINGS
from agf_core.analysis.mixing_results import QUERIES, RECALL, REST, VALUES, Results
from agf_core.figures import COLOURS, WIDTH, Estimate

TONES = {RECALL: "exponential", REST: "power", QUERIES: "third"}
NAMES = {FULL: "full attention, power law", FREE_FULL: "full attention, free field",
         FIELD: "field alone, power law", "exponential": "field alone, exponential",
         "free": "field alone, free", "pairs": "constant per position", "uniform": "uniform",
         "none": "no mixing"}  # fmt: skip


def operating(page: Page) -> Drawn:
    """Shares of verdicts of M5's rule by what is true."""
    fig, table = power_figures.operating(page.worlds)
    fig.axes[0].set_ylabel("")
    return fig, table


def put(ax: Axes, e: Estimate, y: float, tone: str, filled: bool = True, vertical: bool = False) -> None:
    """A mean with its interval, where there is one."""
    if not np.isfinite(e.value):
        return
    half = [[e.value - e.low], [e.high - e.value]] if np.isfinite([e.low, e.high]).all() else None
    at: dict[str, Any] = {"x": [e.value], "y": [y], "xerr": half}
    if vertical:
        at = {"x": [y], "y": [e.value], "yerr": half}
    ax.errorbar(**at, fmt="o", ms=5, lw=1.3, color=COLOURS[tone], mfc=COLOURS[tone] if filled else "white")


def mixings(page: Page) -> Drawn:
    """Percent of loss that each retrained mixing adds to full attention's, on recall tokens and on the rest."""
    rows = []
    for side, results in accuracy_figures.sides(page):  # type: ignore[arg-type]
        for name in (n for n in NAMES if n != FULL):
            for part, value in VALUES.items():
                values = of.excess(results, name, value)  # type: ignore[arg-type]
                if len(values):
                    e = mean(values)
                    rows.append((side, name, part, e.value, e.low, e.high, len(values)))
    table = pd.DataFrame(rows, columns=["runs", "name", "on", "excess", "low", "high", "seeds"])
    names = [n for n in NAMES if n in set(table["name"])]
    fig, ax = subplots(figsize=(WIDTH, 1.6 + 0.44 * max(1, len(names))), layout="constrained")
    for row in table.itertuples():
        first = row.runs == table["runs"].iloc[0]
        y = names.index(row.name) + (-0.16 if row.on == RECALL else 0.16) + (0.0 if first else 0.1)
        put(ax, Estimate(row.excess, row.low, row.high), y, TONES[row.on], bool(first))
    ax.axvline(0, color=COLOURS["chance"], lw=1)
    ax.axvline(allowed(REST), color=COLOURS["limit"], lw=1, ls="--")
    ax.set_yticks(range(len(names)), [NAMES[n] for n in names])
    ax.invert_yaxis()
    ax.set_xscale("symlog", linthresh=10, linscale=1.0)
    ticks = [t for t in (-20, -10, -5, 0, 5, 10, 20, 50, 100, 200) if table["excess"].min() - 3 <= t]
    ticks = [t for t in ticks if t <= max(6.0, 1.3 * table["excess"].max())]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("loss above full attention's (%)")
    _legend(fig, [RECALL, REST], "M5 allows", len(set(table["runs"])) > 1)
    return fig, table


def _legend(fig: object, parts: list[str], line: str, hollow: bool = False) -> None:
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[TONES[p]], label=p) for p in parts]
    if hollow:
        handles.append(Line2D([], [], marker="o", ls="", color=COLOURS["data"], mfc="white", label="this run"))
    if line:
        handles.append(Line2D([], [], color=COLOURS["limit"], ls="--", label=line))
    fig.legend(handles=handles, loc="outside lower center", ncols=4)  # type: ignore[attr-defined]


def queries(results: Results) -> Drawn:
    """Multi-query recall of every model of the width that decides, by mixing, and chance."""
    table = results.recall[results.recall["dim"] == mixing_grids.WIDTH]
    names = [n for n in MIXINGS if n in set(table["name"])]
    fig, ax = subplots(figsize=(WIDTH, 1.4 + 0.36 * max(1, len(names))), layout="constrained")
    for y, name in enumerate(names):
        values = of.by_seed(table, name, "accuracy")
        shift = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
        ax.scatter(values, y + shift, s=16, color=COLOURS[TONES[QUERIES]], lw=0, alpha=0.8)
    full, chance = of.by_seed(table, FULL, "accuracy"), table["chance"]
    if len(chance):
        ax.axvline(chance.iloc[0], color=COLOURS["chance"], lw=1)
    if len(full):
        ax.axvline(allowed(QUERIES) * full.mean(), color=COLOURS["limit"], lw=1, ls="--")
    ax.set_yticks(range(len(names)), [NAMES[n] for n in names])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.03), ylim=(len(names) - 0.5, -0.5), xlabel="multi-query recall, share of answers right")
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[TONES[QUERIES]], label="a model"),
               Line2D([], [], color=COLOURS["chance"], label="chance"),
               Line2D([], [], color=COLOURS["limit"], ls="--", label="M5 asks of the field alone")]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, table.assign(above_chance=[_above(results, r) for r in table.itertuples()])


def widths(results: Results) -> Drawn:
    """Multi-query recall with association and without, by width, and chance."""
    table = results.recall[results.recall["name"].isin((FULL, FIELD))].reset_index(drop=True)
    fig, ax = subplots(figsize=(WIDTH, 3.2), layout="constrained")
    dims = sorted(set(table["dim"]))
    for name, tone, shift in ((FULL, "data", -0.12), (FIELD, TONES[QUERIES], 0.12)):
        for x, dim in enumerate(dims):
            values = of.by_seed(table, name, "accuracy", dim)
            aside = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(1)
            ax.scatter(x + shift + aside, values, s=16, color=COLOURS[tone], lw=0, alpha=0.8)
            ax.plot([x + shift - 0.1, x + shift + 0.1], [values.mean()] * 2, color=COLOURS[tone], lw=2)
    for x, dim in enumerate(dims):
        least = allowed(QUERIES) * of.by_seed(table, FULL, "accuracy", dim).mean()
        ax.plot([x - 0.35, x + 0.35], [least] * 2, color=COLOURS["limit"], lw=1, ls="--")
    ax.axhline(table["chance"].iloc[0], color=COLOURS["chance"], lw=1)
    ax.set_xticks(range(len(dims)), [str(d) for d in dims])
    ax.set(ylim=(0, 1.05), xlabel="width of two-layer models", ylabel="multi-query recall,\nshare of answers right")
    handles = [Line2D([], [], marker="o", ls="-", lw=2, color=COLOURS[t], label=NAMES[n])
               for n, t in ((FULL, "data"), (FIELD, TONES[QUERIES]))]  # fmt: skip
    handles.append(Line2D([], [], color=COLOURS["chance"], label="chance"))
    least = f"{allowed(QUERIES):.0%} of full attention's mean"
    handles.append(Line2D([], [], color=COLOURS["limit"], ls="--", label=least))
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig, table


def _above(results: Results, row: object) -> float:
    found = of.above_chance(results, row.name)  # type: ignore[attr-defined]
    return float(found.get(row.seed, np.nan))  # type: ignore[attr-defined]


def gap(results: Results) -> Drawn:
    """How much of the way from uniform mixing to full attention each mixing goes, on three kinds of task."""
    table = of.recovered(results)
    names = [n for n in MIXINGS if n in set(table["name"])]
    fig, ax = subplots(figsize=(WIDTH, 1.5 + 0.5 * max(1, len(names))), layout="constrained")
    for row in table.itertuples():
        y = names.index(row.name) + 0.22 * (list(TONES).index(row.on) - 1)
        put(ax, Estimate(row.value, row.low, row.high), y, TONES[row.on])
    for x, ls in ((0, "-"), (1, "-")):
        ax.axvline(x, color=COLOURS["chance"], lw=1, ls=ls)
    ax.set_yticks(range(len(names)), [NAMES[n] for n in names])
    ax.invert_yaxis()
    low, high = table["value"].min(), table["value"].max()
    ax.set(xlim=(max(-1.0, min(-0.1, low - 0.1)), max(1.1, min(2.0, high + 0.1))),
           xlabel="share of the way from uniform mixing (0) to full attention (1)")  # fmt: skip
    _legend(fig, list(TONES), "")
    return fig, table


def sizes(results: Results) -> Drawn:
    """Excess loss of the field alone against full attention's own loss, a colour a kind of token, a panel each."""
    rows, dims = [], sorted(set(results.losses["dim"]))
    for part, value in VALUES.items():
        for dim in dims:
            full = of.by_seed(results.losses, FULL, value, dim)
            for seed, x in of.excess(results, FIELD, value, dim).items():
                rows.append((part, dim, seed, float(full[seed]), float(x)))
    table = pd.DataFrame(rows, columns=["on", "dim", "seed", "full", "excess"])
    fig, axes = subplots(1, 2, figsize=(WIDTH, 3.5), sharey=True, layout="constrained")
    found = of.slopes(results)
    for ax, part in zip(axes, (RECALL, REST)):
        own = table[table["on"] == part]
        ax.scatter(own["full"], own["excess"], s=14, lw=0, alpha=0.5, color=COLOURS[TONES[part]])
        middle = own.groupby("dim")[["full", "excess"]].mean()
        ax.plot(middle["full"], middle["excess"], "-", lw=1, color=COLOURS[TONES[part]])
        for dim, row in middle.iterrows():
            put(ax, mean(own.loc[own["dim"] == dim, "excess"]), row["full"], TONES[part], vertical=True)
            ax.annotate(f"{dim}", (row["full"], row["excess"]), xytext=(7, 7), textcoords="offset points", fontsize=9)
        ax.axhline(allowed(REST), color=COLOURS["limit"], lw=1, ls="--")
        ax.axhline(0, color=COLOURS["chance"], lw=1)
        ax.invert_xaxis()
        ax.margins(x=0.12, y=0.15)
        slope = found[part].value
        ax.set(title=part + (f": {slope:+.1f} a doubling" if np.isfinite(slope) else ""),
               xlabel="full attention's loss (bits a byte)\nbetter to the right")  # fmt: skip
    axes[0].set_ylabel("the field alone: loss above\nfull attention's (%)")
    _legend(fig, [RECALL, REST], "M5 allows")
    return fig, table


