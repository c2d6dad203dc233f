"""The pictures of the chapter `newton`. Each function returns a figure and the table of what it draws, for
`figures.publish` (ours).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import figure, subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import calibration_figures, newton_worlds, power_figures
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.gravity_sums import Gravity
from agf_core.analysis.newton import NEWTON, Page, by_window, estimates
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.claims import CLAIMS, Band
from agf_core.figures import COLOURS, WIDTH, Estimate

KINDS = {"flat": "trained here: free field, flat start", "steep": "trained here: free field, steep start",
         "rotary": "trained here: rotary", "nope": "trained here: no position",
         "learned": "trained here: learned positions"}  # fmt: skip
FORMS = {"gravity": ("power", "mass · r⁻ᵏ"), "product": ("third", "product form: mass · any field"),
         "interaction": ("data", "type × distance")}  # fmt: skip
PROPERTIES = {"frequency": "log frequency (nat)", "surprisal": "surprisal after the token before (nat)",
              "norm": "mean length of the key"}  # fmt: skip
NAMED = dict(zip(INPUTS, ("text", "tokens in no order", "untrained")))  # as they are written
FARTHEST = 8.0  # exponents beyond are drawn there


def kepler(page: Page) -> Drawn:
    """Periods of the planets against their axes, and the law that the fitter finds."""
    fig, table = calibration_figures.draw_kepler(page.planets[0])
    fig.axes[0].set_title(
        f"slope {page.planets[1].value:.4f}, so the force falls as r to the −{page.planets[2].value:.3f}"
    )
    return fig, table


def planted(page: Page) -> Drawn:
    """Exponents of planted heads against those found, and how well their masses are found."""
    table = page.planted
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=[1.2, 1], layout="constrained")
    tones = dict(zip(newton_worlds.WORLDS, ("power", "exponential", "third", "fourth", "chance")))
    left.axline((1, 1), slope=1, color=COLOURS["chance"], lw=1)
    for i, (world, tone) in enumerate(tones.items()):
        part = table[table["world"] == world]
        x = part["planted"] + 0.05 * (i - 2)
        half = np.stack([part["exponent"] - part["low"], part["high"] - part["exponent"]])
        left.errorbar(x, part["exponent"], half, fmt="o", ms=4, lw=1, color=COLOURS[tone], label=world)
        right.scatter(
            part["mass"], np.full(len(part), i) + np.linspace(-0.2, 0.2, len(part)), s=12, color=COLOURS[tone]
        )
    left.set(xlabel="exponent planted (worlds moved apart)", ylabel="exponent found")
    right.set(xlabel="correlation of masses,\nplanted with found", xlim=(min(0.0, table["mass"].min()) - 0.05, 1.05))
    right.set_yticks([])
    right.invert_yaxis()
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, table


def operating(page: Page) -> Drawn:
    """Shares of verdicts of A6's rule by what is true of the heads."""
    fig, table = power_figures.operating(page.worlds)
    fig.axes[0].set_ylabel("what is true of the heads")
    return fig, table


def exponents(page: Page) -> Drawn:
    """Every eligible head's exponent with its interval, sorted; below, the pooled ones."""
    shown = {given: page.found[given] for given in INPUTS}
    rows = [(page.name if g == "text" else f"{page.name}, {NAMED[g]}", *_pooled(one)) for g, one in shown.items()]
    rows += [(KINDS[r.kind], r.heads, r.exponent, r.low, r.high) for r in page.trained.itertuples()]
    fig = figure(figsize=(WIDTH, 4.3 + 0.27 * len(rows)), layout="constrained")
    parts: Any = fig.subfigures(2, 1, height_ratios=[3.2, 0.9 + 0.27 * len(rows)])
    top, bottom = parts
    axes, below, tables = top.subplots(1, 2, sharey=True), bottom.subplots(), []
    for ax, given in zip(axes, INPUTS):
        one = shown[given]
        table = _heads(one).sort_values("exponent", ignore_index=True).assign(input=given)
        tables.append(table)
        _, value, low, high = _pooled(one)
        if np.isfinite([low, high]).all():
            ax.axhspan(low, high, color=COLOURS["power"], alpha=0.15, lw=0)
        ax.axhline(value, color=COLOURS["power"], lw=1)
        ax.axhline(NEWTON, color=COLOURS["limit"], lw=1, ls="--")
        inside = (table["low"] <= NEWTON) & (table["high"] >= NEWTON)
        for hit, tone in ((True, "limit"), (False, "data")):
            part = table[inside == hit]
            y = part["exponent"].clip(upper=FARTHEST)
            half = np.stack([part["exponent"] - part["low"], part["high"] - part["exponent"]])
            ax.errorbar(part.index, y, np.nan_to_num(half), fmt="o", ms=3.5, lw=1, color=COLOURS[tone])
        ax.set(title=NAMED[given], xlabel="eligible heads, sorted")
        ax.set_xticks([])
    axes[0].set_ylabel("exponent k")
    for y, (_, _, value, low, high) in enumerate(rows):
        _whisker(below, y, Estimate(value, low, high), COLOURS["power" if y < len(shown) else "data"])
    below.axvline(NEWTON, color=COLOURS["limit"], lw=1, ls="--")
    below.set_yticks(range(len(rows)), [f"{name} ({count:g} heads)" for name, count, *_ in rows])
    below.invert_yaxis()
    below.set_xlabel("exponent, mean of eligible heads")
    handles = [Line2D([], [], color=COLOURS["limit"], ls="--", label="2: Newton"),
               Line2D([], [], color=COLOURS["power"], label="pooled, 95 %"),
               Line2D([], [], color=COLOURS["limit"], marker="o", ls="", ms=4, label="2 inside")]  # fmt: skip
    top.legend(handles=handles, loc="outside upper center", ncols=3)
    pooled = pd.DataFrame(rows, columns=["model", "heads", "exponent", "low", "high"])
    return fig, pd.concat([*tables, pooled], ignore_index=True)


def _pooled(one: Gravity) -> tuple[float, float, float, float]:
    e = estimates(one)["exponent"]
    return float(one.eligible.sum()), e.value, e.low, e.high


def _heads(one: Gravity) -> pd.DataFrame:
    layer, head = np.nonzero(one.eligible)
    at = layer, head
    return pd.DataFrame({"layer": layer, "head": head, "exponent": one.exponent[at], "low": one.low[at],
                         "high": one.high[at]})  # fmt: skip


def _whisker(ax: Axes, y: float, e: Estimate, colour: str, **style: object) -> None:
    if np.isfinite([e.low, e.high]).all():
        ax.plot([e.low, e.high], [y, y], color=colour, lw=1.4)
    ax.plot([e.value], [y], **{"marker": "o", "ms": 5, "ls": "", "color": colour, **style})  # type: ignore[arg-type]


def choices(page: Page) -> Drawn:
    """The same heads' exponents from windows of other sizes, and from the other estimator."""
    table = by_window(page.text)
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.5), layout="constrained")
    for _, line in table.groupby(["layer", "head"]):
        left.plot(line["window"], line["exponent"].clip(upper=FARTHEST), color=COLOURS["chance"], lw=0.6)
    pooled = table.groupby("window")["exponent"].mean()
    left.plot(pooled.index, pooled, "o-", color=COLOURS["power"], label="mean of the heads")
    left.set(xscale="log", xlabel="largest distance fitted (tokens)", ylabel="exponent k", ylim=(None, FARTHEST * 1.02))
    left.xaxis.set_major_locator(FixedLocator(list(pooled.index)))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter("{x:g}")
    p = page.poisson
    at, tall = p["exponent"].clip(upper=FARTHEST), p["poisson"].clip(upper=FARTHEST)
    half = np.stack([p["poisson"] - p["low"], p["high"] - p["poisson"]])
    right.errorbar(at, tall, half, fmt="o", ms=3.5, lw=0.8, color=COLOURS["data"])
    right.axline((1, 1), slope=1, color=COLOURS["chance"], lw=1)
    right.set(
        xlabel="by least squares of logits", ylabel="by Poisson likelihood of weights", ylim=(-0.2, FARTHEST * 1.02)
    )
    for ax in (left, right):
        ax.axhline(NEWTON, color=COLOURS["limit"], lw=1, ls="--")
    left.legend(loc="upper left")
    return fig, pd.concat([table.assign(by="window"), p.assign(by="estimator")], ignore_index=True)


def typical(page: Page) -> tuple[int, int]:
    """The eligible head (layer, head) whose reliability is the median one; any head where none is eligible."""
    one = page.text
    able = np.argwhere(one.eligible) if one.eligible.any() else np.argwhere(~one.eligible)
    icc = one.icc.mean(0) if len(one.icc) else np.zeros_like(one.exponent)
    order = np.argsort([icc[layer, head] for layer, head in able])
    layer, head = able[order[len(order) // 2]]
    return int(layer), int(head)


def masses(page: Page) -> Drawn:
    """A typical head's masses: twice, from halves of the documents, and against what is known of the types."""
    one, (layer, head) = page.text, typical(page)
    first, second = one.halves[:, layer, head, :-1]
    table = page.types.assign(mass=one.masses[layer, head, :-1], first_half=first - first.mean(),
                              second_half=second - second.mean(), norm=one.norm[layer, head, :-1])  # fmt: skip
    fig, axes = subplots(2, 2, figsize=(WIDTH, 5.8), layout="constrained")
    ax = axes[0][0]
    ax.axline((0, 0), slope=1, color=COLOURS["chance"], lw=1)
    ax.scatter(table["first_half"], table["second_half"], s=12, color=COLOURS["power"], lw=0)
    icc = one.icc[:, layer, head].mean() if len(one.icc) else np.nan
    ax.set(
        xlabel="log mass, half of the documents", ylabel="log mass, the other half", title=f"reliability: ICC {icc:.2f}"
    )
    for ax, (name, label) in zip(axes.flat[1:], PROPERTIES.items()):
        ax.scatter(table[name], table["mass"], s=12, color=COLOURS["data"], lw=0)
        middle = page.relations[name].median()
        ax.set(xlabel=label, ylabel="log mass", title=f"rank correlation, median head: {middle:.2f}")
    return fig, table


def product(page: Page) -> Drawn:
    """Held-out shares of every eligible head's variance by three forms, and the product form's over the largest."""
    one = page.text
    layer, head = np.nonzero(one.eligible)
    table = pd.DataFrame({"layer": layer, "head": head, **{f: one.r2[f].mean(0)[layer, head] for f in FORMS},
                          "share": one.share().mean(0)[layer, head]})  # fmt: skip
    table = table.sort_values("interaction", ignore_index=True)
    fig, (above, below) = subplots(2, 1, figsize=(WIDTH, 4.8), height_ratios=[2, 1], sharex=True, layout="constrained")
    for form, (tone, label) in FORMS.items():
        size = 34 if form == "interaction" else 16
        face = "none" if form == "interaction" else COLOURS[tone]
        above.scatter(table.index, table[form], s=size, edgecolors=COLOURS[tone], facecolors=face, lw=0.9, label=label)
    above.set(
        ylabel="held-out share\nof the variance", ylim=(min(0.0, table["gravity"].min() - 0.05) if len(table) else 0, 1)
    )
    above.legend(loc="upper left")
    below.scatter(table.index, table["share"], s=16, color=COLOURS["third"], label="product form")
    below.scatter(
        table.index, table["gravity"] / table["interaction"], s=16, color=COLOURS["power"], label="mass · r⁻ᵏ"
    )
    below.axhline(0.9, color=COLOURS["limit"], lw=1, ls="--")
    below.set(ylabel="over that of\ntype × distance", xlabel="eligible heads, sorted")
    below.set_ylim(min(0.0, (table["gravity"] / table["interaction"]).min() - 0.05) if len(table) else 0, 1.05)
    below.set_xticks([])
    return fig, table


def pulls(page: Page) -> Drawn:
    """Two keys at once against the sum of what each has without the other."""
    table = page.pulls
    fig, ax = subplots(figsize=(WIDTH, 3.8), layout="constrained")
    ax.axline((0, 0), slope=1, color=COLOURS["limit"], lw=1, ls="--", label="masses that add up")
    ax.scatter(
        table["apart"], table["together"], s=10, color=COLOURS["data"], lw=0, alpha=0.6, label="two keys of a query"
    )
    ax.set(xlabel="weight of one without the other + of the other without the one", ylabel="weight of both")
    ax.set(xlim=(0, 2.05), ylim=(0, 1.05))
    ax.legend(loc="lower right")
    return fig, table


def summary(page: Page) -> Drawn:
    """What Newton's law would show is 1: where attention comes near it, and where it does not."""
    found = estimates(page.text)
    share = page.text.share("gravity").mean(0)[page.text.eligible]
    adds = page.pulls["together"] / page.pulls["apart"]

    def middle(values: pd.Series) -> Estimate:
        low, value, high = np.nanquantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
        return Estimate(float(value), float(low), float(high))

    k, parts = found["exponent"], CLAIMS["A6"].criterion.parts
    band = parts["exponent"]
    assert isinstance(band, Band)
    rows: list[tuple[str, Estimate, float, str]] = [
        ("key masses are the same in other documents (ICC)", found["mass ICC"], 0.8, "tested"),
        ("mass and distance multiply (share of type × distance)", found["product form"], 0.9, "tested"),
        ("exponent, pooled, over 2", Estimate(k.value / 2, k.low / 2, k.high / 2), band.low / 2, "tested"),
        ("heads whose exponent may be 2", found["heads with 2 inside"], 0.5, "tested"),
        ("the field is a power of r (share of type × distance)", middle(pd.Series(share)), np.nan, "described"),
        ("masses add up (both keys over the sum of each)", middle(adds), np.nan, "by construction"),
        ("the query's mass counts (weight's elasticity)", Estimate(0.0, 0.0, 0.0), np.nan, "by construction"),
    ]
    fig, ax = subplots(figsize=(WIDTH, 3.9), layout="constrained")
    tones = {"tested": "power", "described": "data", "by construction": "chance"}
    for y, (_, e, asks, how) in enumerate(rows):
        _whisker(ax, y, e, COLOURS[tones[how]])
        ax.plot([asks], [y], marker="|", ms=14, mew=1.6, color=COLOURS["limit"], ls="")
    ax.plot([band.high / 2], [2], marker="|", ms=14, mew=1.6, color=COLOURS["limit"], ls="")  # the exponent's other end
    ax.axvline(1, color=COLOURS["limit"], lw=1, ls="--")
    ax.set_yticks(range(len(rows)), [name.replace(" (", "\n(") for name, *_ in rows])
    ax.invert_yaxis()
    ax.set(
        xlabel="1: as under Newton's law",
        xlim=(min(-0.05, *(e.low for _, e, *_ in rows if np.isfinite(e.low))) - 0.02, None),
    )
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[c], label=how) for how, c in tones.items()]
    handles.append(Line2D([], [], marker="|", ls="", ms=10, mew=1.6, color=COLOURS["limit"], label="A6 asks"))
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig, pd.DataFrame([(n, e.value, e.low, e.high, asks, how) for n, e, asks, how in rows],
                             columns=["what", "value", "low", "high", "asks", "how"])  # fmt: skip
