"""The pictures of the chapter `encoding_walk` on attention that is replaced, on filtering and aggregation, and on the
convolution's time. Each function returns a figure and the table of what it draws, for `figures.publish` (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core import claims
from agf_core.analysis import jacobian, mixing_checks, replaced
from agf_core.analysis import mixing_results as of
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.contrasts import mean
from agf_core.analysis.encoding_walk import Page
from agf_core.analysis.kernel_runs import BY_FFT, BY_SCORES
from agf_core.analysis.mixing_checks import PLAIN
from agf_core.analysis.mixing_figures import put
from agf_core.analysis.mixing_results import RECALL, REST, Results
from agf_core.figures import COLOURS, WIDTH

WAYS = {"field": "its field alone", "mean": "its mean over texts", "shuffled": "scores shuffled"}
NETS = dict(zip(jacobian.NETS, ("Transformer", "recurrent net (GRU)", "convolution (TCN)")))
SHORT = dict(zip(jacobian.NETS, ("Transformer", "GRU", "TCN")))
UNASSIGNED = claims.CLAIMS["M6"].criterion.parts["unassigned"].threshold  # type: ignore[union-attr]
KINDS = {"filtering": "power", "aggregation": "third", "unassigned": "limit"}


def known(page: Page) -> Drawn:
    """Splits of sub-layers whose split is known."""
    table = page.known
    fig, ax = subplots(figsize=(WIDTH, 1.2 + 0.36 * len(table)), layout="constrained")
    _stacked(ax, table, table["sub"])
    ax.set_xlabel("share of the Jacobian's squared norm")
    _kinds(fig)
    return fig, table


def _stacked(ax: Axes, table: pd.DataFrame, names: pd.Series) -> None:
    """A bar for each row, divided by class; what `cross` takes away or adds is a line at the sum of the three."""
    left, y = np.zeros(len(table)), np.arange(len(table))
    for kind, tone in KINDS.items():
        width = table[kind].to_numpy(float).clip(min=0)
        ax.barh(y, width, left=left, color=COLOURS[tone], height=0.7)
        left += width
    ax.axvline(1, color=COLOURS["data"], lw=0.8)
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    ax.set_xlim(0, max(1.02, 1.02 * left.max(initial=1)))


def _kinds(fig: object) -> None:
    handles = [Line2D([], [], marker="s", ls="", ms=8, color=COLOURS[t], label=k) for k, t in KINDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)  # type: ignore[attr-defined]


def replacements(results: Results) -> Drawn:
    """Loss added when attention is replaced, in one layer or in all: a row a model and way, a panel a kind of token."""
    table = results.replaced
    mean_of = table.groupby(["encoding", "dim", "way", "layer"], sort=False)[["recall", "rest"]].mean().reset_index()
    rows = [(e, d, w) for e, d, w in dict.fromkeys(zip(mean_of["encoding"], mean_of["dim"], mean_of["way"]))]
    layers = [*sorted(set(mean_of["layer"]) - {replaced.EVERY}), replaced.EVERY]
    fig, axes = subplots(1, 2, figsize=(WIDTH, 1.3 + 0.33 * max(1, len(rows))), sharey=True, layout="constrained")
    grids = []
    for value in ("recall", "rest"):
        at = mean_of.set_index(["encoding", "dim", "way", "layer"])[value]
        grids.append(np.array([[at.get((*row, layer), np.nan) for layer in layers] for row in rows], float))
    top = max(1.0, float(np.nanmax([np.nanmax(g) for g in grids]))) if rows else 1.0
    for ax, grid, part in zip(axes, grids, (RECALL, REST)):
        ax.imshow(np.sqrt(np.clip(grid, 0, None)), cmap="Blues", vmin=0, vmax=1.15 * np.sqrt(top), aspect="auto")
        for (y, x), v in np.ndenumerate(grid):
            if np.isfinite(v):
                dark = np.sqrt(max(v, 0)) > 0.6 * np.sqrt(top)
                text = f"{v:.0f}" if abs(v) >= 9.95 else f"{round(v, 1) + 0:.1f}"
                ax.text(x, y, text, ha="center", va="center", fontsize=9, color="white" if dark else COLOURS["data"])
        ax.set_xticks(range(len(layers)), [n if n == replaced.EVERY else f"layer {n}" for n in layers])
        ax.set_title(f"{part}, % added")
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    called = {"agf": "AGF", "rotary": "rotary"}
    axes[0].set_yticks(range(len(rows)), [f"{called.get(e, e)} {d}: {WAYS[w]}" for e, d, w in rows])
    return fig, table


def jacobians(results: Results) -> Drawn:
    """Shares of each sub-layer's Jacobian, three nets; beside it, what stays unassigned, in percent of the norm."""
    table = results.jacobians.astype(dict.fromkeys(KINDS, float))
    means = table.groupby(["net", "sub"], sort=False)[[*KINDS, "cross"]].mean().reset_index()
    means = pd.concat([means[means["net"] == net] for net in NETS], ignore_index=True)
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 1.5 + 0.36 * len(means)), width_ratios=[1.5, 1], sharey=True,
                                  layout="constrained")  # fmt: skip
    _stacked(left, means, means["net"].map(SHORT) + ", " + means["sub"])
    left.set_xlabel("share of the squared norm")
    overall, y = of.unassigned(results), 0
    for net in (n for n in NETS if n in overall):
        part = means[means["net"] == net]
        for sub in part["sub"]:
            own = table[(table["net"] == net) & (table["sub"] == sub)]
            put(right, mean(100 * np.sqrt(own["unassigned"].clip(lower=0))), y, "limit")
            y += 1
        edge = y - len(part) - 0.45, y - 0.55
        right.plot([overall[net].value] * 2, edge, color=COLOURS["data"], lw=2)
        left.axhline(edge[1] + 0.05, color=COLOURS["chance"], lw=0.6)
    right.axvline(UNASSIGNED, color=COLOURS["limit"], lw=1, ls="--")
    right.set(xlim=(0, 100), xlabel="unassigned (% of the norm)")
    handles = [Line2D([], [], marker="s", ls="", ms=8, color=COLOURS[t], label=k) for k, t in KINDS.items()]
    handles += [Line2D([], [], color=COLOURS["data"], lw=2, label="mean of a net"),
                Line2D([], [], color=COLOURS["limit"], ls="--", label="M6 allows")]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, table


def speed(page: Page) -> Drawn:
    """Time against length, forwards and in training."""
    table = page.speed
    fig, axes = subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True, layout="constrained")
    tones = {PLAIN: "data", BY_SCORES: "power", BY_FFT: "exponential"}
    for ax, what in zip(axes, ("forward", "training")):
        part = table[table["pass"] == what]
        for name, tone in tones.items():
            own = part[part["name"] == name]
            ax.plot(own["length"], 1e3 * own["seconds"], "o-", ms=4, color=COLOURS[tone], label=name)
        cross = mixing_checks.crossover(table, what)
        if cross:
            ax.axvline(cross, color=COLOURS["chance"], lw=1, ls="--")
        ax.set(xscale="log", yscale="log", title="forwards" if what == "forward" else "forwards and backwards",
               xlabel="length N (tokens)")  # fmt: skip
        lengths = sorted(set(part["length"]))
        ax.xaxis.set_major_locator(FixedLocator(lengths[:: 1 + len(lengths) // 5]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("milliseconds")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, table
