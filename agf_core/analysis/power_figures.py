"""The pictures of the chapter `power_vs_exp` on laws: free fields from two starts, who predicts far distances, single
heads with their fits, the rule on worlds of known truth, pooled heads. Each function returns a figure and the table of
what it draws, for `figures.publish` (ours). The power law is blue, the exponential orange, the stretched one green.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import law_scores
from agf_core.analysis.accuracy_figures import WORDS, Drawn
from agf_core.analysis.field_copies import Array
from agf_core.analysis.law_scores import Scores
from agf_core.analysis.power_pretrained import INPUTS, Observed
from agf_core.analysis.power_vs_exp import FREE, WITHOUT, Page, Results
from agf_core.claims import VERDICTS
from agf_core.figures import COLOURS, WIDTH

LAWS = {"shifted_power": ("power", "shifted power"), "exponential": ("exponential", "exponential"),
        "stretched_exponential": ("third", "stretched exponential")}  # fmt: skip
WINNERS = {**LAWS, "undecided": ("chance", "undecided"), "none": ("data", "does not fall")}
STARTS = {"flat": "data", "steep": "fourth"}  # no law has these colours
PANELS = {"free field": FREE, "rotary": WITHOUT[:1], "no position": WITHOUT[1:]}
KIND = {"flat": "free field, flat start", "steep": "free field, steep start", "rotary": "rotary",
        "nope": "no position"}  # fmt: skip
DASHES = {"stretched_exponential": "--"}  # drawn last: a near copy of the power law would hide it
EDGE = 1e3  # ratios of errors beyond are drawn there


def free_fields(results: Results) -> Drawn:
    """Both starts, mean over heads and models, and their difference; shaded where they agree."""
    table = results.agreed
    fig, (above, below) = subplots(2, 1, figsize=(WIDTH, 5.4), sharex=True, height_ratios=[1.7, 1],
                                   layout="constrained")  # fmt: skip
    for start, tone in STARTS.items():
        above.plot(table["r"], table[start], color=COLOURS[tone], label=f"{start} start")
        band = table[f"{start}_low"], table[f"{start}_high"]
        above.fill_between(table["r"], *band, color=COLOURS[tone], alpha=0.2, lw=0)
    below.axhline(0, color=COLOURS["chance"], lw=1)
    below.plot(table["r"], table["difference"], color=COLOURS["data"])
    below.fill_between(table["r"], table["low"], table["high"], color=COLOURS["data"], alpha=0.15, lw=0)
    for ax in (above, below):
        for r in table.loc[table["agrees"], "r"]:
            ax.axvspan(r - 0.5, r + 0.5, color=COLOURS["chance"], alpha=0.2, lw=0)
    above.plot([], [], color=COLOURS["chance"], alpha=0.3, lw=8, label="both agree")
    above.set(ylabel="log g (nat)", xscale="log", xlim=(0.9, 1.1 * table["r"].max()))
    below.set(xlabel="distance r (tokens)", ylabel="flat − steep (nat)")
    _tokens(below, int(table["r"].max()))
    fig.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, table


def _tokens(ax: Axes, most: int) -> None:
    ax.xaxis.set_major_locator(FixedLocator([2**i for i in range(int(np.log2(most)) + 1)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")


def contest(results: Results) -> Drawn:
    """One dot a head: the rivals' held-out errors over the shifted power law's, by kind of model."""
    parts = []
    if results.scores is not None:
        parts.append(results.scores.table.assign(counts=True))
    if results.shown is not None and not (len(parts) and parts[0]["kind"].isin(FREE).any()):
        parts.append(results.shown.table.assign(counts=False))
    table = pd.concat(parts, ignore_index=True)
    table["panel"] = table["kind"].map({kind: name for name, kinds in PANELS.items() for kind in kinds})
    return _dots(table, list(PANELS))


def elsewhere(model: Observed) -> Drawn:
    """The same for the model that was trained elsewhere and its two controls."""
    tables = [model.scores[given].table.assign(panel=given, counts=True) for given in INPUTS]
    return _dots(pd.concat(tables, ignore_index=True), list(INPUTS))


def _dots(table: pd.DataFrame, panels: Sequence[str]) -> Drawn:
    shown = [p for p in panels if (table["panel"] == p).any()]
    fig, axes = subplots(1, len(shown), figsize=(WIDTH, 3.9), sharex=True, sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    for rival, short in (("exponential", "over_exponential"), ("stretched_exponential", "over_stretched")):
        table[short] = (table[f"error_{rival}"] / table["error_shifted_power"]).clip(1 / EDGE, EDGE)
    over = table[["over_exponential", "over_stretched"]]
    top = np.maximum(1.5 * over.max().to_numpy(), 3.0)
    for ax, name in zip(axes[0], shown):
        part = table[table["panel"] == name]
        ax.fill_between([1, top[0]], 1, top[1], color=COLOURS["power"], alpha=0.06, lw=0)
        for at in (ax.axhline, ax.axvline):
            at(1, color=COLOURS["chance"], lw=1)
        for winner, (tone, _) in WINNERS.items():
            for able in (True, False):
                dots = part[(part["winner"] == winner) & (part["eligible"] == able)]
                ax.scatter(dots["over_exponential"], dots["over_stretched"], s=18, lw=0.8, edgecolors=COLOURS[tone],
                           facecolors=COLOURS[tone] if able else "none", zorder=3)  # fmt: skip
        counts = "" if part["counts"].all() else "\n(not counted)"
        ax.set(title=f"{name}{counts}", xscale="log", yscale="log")
    axes[0][0].set_ylabel("stretched exponential's error /\nshifted power law's")
    axes[0][len(shown) // 2].set_xlabel("exponential's error / shifted power law's, held-out distances")
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[tone], label=name) for tone, name in WINNERS.values()]
    handles.append(Line2D([], [], marker="o", ls="", color=COLOURS["data"], mfc="none", label="not eligible"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    columns = ["panel", "counts", "kind", "seed", "layer", "head", "eligible", "winner", "error_shifted_power",
               "error_exponential", "error_stretched_exponential", "exponent", "scale", "over_exponential",
               "over_stretched"]  # fmt: skip
    return fig, table[[c for c in columns if c in table]]


def examples(scores: Scores, profiles: Array) -> Drawn:
    """Up to six heads, one or two for each winner, over the range of steepness, with three fits each.

    Panels count layers and heads from one; the table, like every table of heads, from zero.
    """
    able = scores.table[scores.table["eligible"]].sort_values("steepness")
    able = able if len(able) else scores.table.sort_values("steepness")
    ends: list[list[int]] = [part.index[[0, -1][: len(part)]].tolist() for _, part in able.groupby("winner")]
    rows = sorted(([pair[0] for pair in ends] + [pair[1] for pair in ends if pair[1:]])[:6])
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    fig, axes = subplots(down, across, figsize=(WIDTH, 0.9 + 2.4 * down), sharex=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    r, drawn = np.arange(1.0, profiles.shape[1] + 1), []
    near = np.isin(r, scores.fitted)
    for ax, row in zip(axes.flat, rows):
        values = profiles[[row]] - profiles[row].mean()
        ax.plot(r, values[0], ".", ms=3, color=COLOURS["data"])
        about = scores.table.loc[row]
        table = {"kind": about.get("kind", ""), "layer": about["layer"], "head": about["head"],
                 "seed": about.get("seed", 0), "winner": about["winner"], "r": r, "log_g": values[0]}  # fmt: skip
        for law, (tone, _) in LAWS.items():
            curve = law_scores.predict(law_scores.fit(values, near, law), r)[0]
            ax.plot(r, curve, color=COLOURS[tone], lw=1.4, ls=DASHES.get(law, "-"))
            table[law] = curve
        ax.axvspan(r[near].max(), r.max(), color=COLOURS["chance"], alpha=0.15, lw=0)
        span = np.ptp(values)
        ax.set_ylim(values.min() - 0.4 * span - 0.01, values.max() + 0.15 * span + 0.01)
        kind, winner = KIND.get(table["kind"], table["kind"]), WINNERS[about["winner"]][1]
        ax.set_title(f"{kind}\nlayer {about['layer'] + 1}, head {about['head'] + 1}:\n{winner}".strip(), fontsize=8)
        ax.set_xscale("log")
        _tokens(ax, int(r.max()))
        drawn.append(pd.DataFrame(table))
    for ax in list(axes.flat)[len(rows) :]:
        ax.set_visible(False)
    axes[-1][0].set_xlabel("distance r (tokens); grey: held out", loc="left")
    axes[0][0].set_ylabel("log g (nat)")
    handles = [Line2D([], [], color=COLOURS[tone], ls=DASHES.get(law, "-"), label=name)
               for law, (tone, name) in LAWS.items()]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, pd.concat(drawn, ignore_index=True)


def of_whom(table: pd.DataFrame, counted: bool) -> str:
    """The caption of `examples`: which models' heads its table holds."""
    heads = table.groupby(["kind", "seed", "layer", "head"]).ngroups
    kinds = "; ".join(KIND[kind] for kind in dict.fromkeys(table["kind"]))
    on = "at the distances that A3 looks at" if counted else "at all distances, counted for A3 or not"
    return (
        f"Fields of {heads} heads of models trained here ({kinds}), {on}; at most two for each winner, which stands "
        "above the panel. The measured log field (dots), and three laws fitted to the near half and drawn on through "
        "the far half (grey)."
    )


def operating(worlds: pd.DataFrame) -> Drawn:
    """Shares of verdicts of A3's rule by what is true of the heads."""
    fig, ax = subplots(figsize=(WIDTH, 1.3 + 0.32 * len(worlds)), layout="constrained")
    left = np.zeros(len(worlds))
    for word in (v for v in VERDICTS if v in worlds):
        ax.barh(np.arange(len(worlds)), worlds[word], left=left, color=COLOURS[WORDS[word]], height=0.75)
        left += worlds[word].to_numpy()
    ax.set_yticks(range(len(worlds)), worlds["world"])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of worlds", ylabel="law of the heads")
    handles = [Line2D([], [], marker="s", ls="", ms=8, color=COLOURS[c], label=w) for w, c in WORDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig, worlds


def bytes_and_words(page: Page) -> Drawn:
    """Exponents of free fields on bytes and on words, one dot a head."""
    table = page.part("exponents").exponents
    tasks = list(dict.fromkeys(table["task"]))
    fig, ax = subplots(figsize=(WIDTH, 1.2 + 0.9 * len(tasks)), layout="constrained")
    rng = np.random.default_rng(0)  # jitter alone
    for y, task in enumerate(tasks):
        for start, shift in zip(FREE, (-0.15, 0.15)):
            part = table[(table["task"] == task) & (table["start"] == start)]
            jitter = rng.uniform(-0.1, 0.1, len(part))
            ax.scatter(part["exponent"], y + shift + jitter, s=12, lw=0, alpha=0.6, color=COLOURS[STARTS[start]])
            if len(part):
                ax.vlines(part["exponent"].median(), y + shift - 0.13, y + shift + 0.13, color=COLOURS["data"], lw=2)
    ax.set_yticks(range(len(tasks)), [f"on {task}" for task in tasks])
    ax.set(xlabel="exponent of the field by likelihood, near distances", ylim=(len(tasks) - 0.5, -0.5))
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[c], label=f"{s} start") for s, c in STARTS.items()]
    handles.append(Line2D([], [], color=COLOURS["data"], lw=2, label="median"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, table
