"""The pictures of the chapter `power_vs_exp` on one model: its exponent measured in every way, sorted, with the choices
below, how much of the spread each choice makes, and its heads pooled. A figure and the table of what it draws (ours;
the curve after Simonsohn, Simmons & Nelson 2020, Nature Human Behaviour 4, 1208-1214).
"""

from __future__ import annotations

import numpy as np
from matplotlib.pyplot import subplots

from agf_core.analysis import specifications
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.power_pretrained import Observed
from agf_core.figures import COLOURS, WIDTH

PUBLISHED = (0.25, 1.5)  # exponents in print for one model, GPT-2: Umphrey 2026 and Marín 2026, see `claims`


def curve(model: Observed) -> Drawn:
    """Above: the sorted exponents; below: a row for each option, a mark where it was taken."""
    table = model.curve[np.isfinite(model.curve["exponent"])].sort_values("exponent", ignore_index=True)
    choices = [c for c in model.curve.columns if c in specifications.FACTORS]
    rows = [(choice, option) for choice in choices for option in dict.fromkeys(model.curve[choice])]
    fig, (above, below) = subplots(2, 1, figsize=(WIDTH, 3.0 + 0.2 * len(rows)), sharex=True, layout="constrained",
                                   height_ratios=[2.4, 0.2 * len(rows) + 0.3])  # fmt: skip
    above.axhspan(*PUBLISHED, color=COLOURS["exponential"], alpha=0.2, lw=0, label="published for one model")
    above.axhline(0, color=COLOURS["chance"], lw=1)
    above.plot(table.index, table["exponent"], ".", ms=3, color=COLOURS["power"])
    low, high = np.nanquantile(table["exponent"], [0.01, 0.99]) if len(table) else (0, 1)
    above.set(ylabel="exponent", ylim=(min(-0.1, low - 0.2), max(PUBLISHED[1] + 0.2, high + 0.2)))
    above.legend(loc="upper left")
    for y, (choice, option) in enumerate(rows):
        at = table.index[table[choice] == option]
        tone = COLOURS["data"] if choices.index(choice) % 2 else COLOURS["power"]
        below.plot(at, np.full(len(at), y), "|", ms=4, mew=0.5, color=tone)
    below.set_yticks(range(len(rows)), [f"{choice}: {option}" for choice, option in rows], fontsize=7)
    below.set(ylim=(len(rows) - 0.5, -0.5), xlabel="ways of measuring it, sorted by the exponent they give")
    return fig, table


def attributed(model: Observed) -> Drawn:
    """A bar for each choice: the share of the exponents' variance that it makes."""
    table = model.shares.sort_values("share", ascending=False, ignore_index=True)
    fig, ax = subplots(figsize=(WIDTH, 1.0 + 0.33 * len(table)), layout="constrained")
    ax.barh(range(len(table)), table["share"], color=COLOURS["power"], height=0.7)
    for y, share in enumerate(table["share"]):
        ax.text(share + 0.01, y, f"{share:.0%}", va="center", fontsize=9)
    ax.set_yticks(range(len(table)), table["factor"])
    ax.invert_yaxis()
    ax.set(xlabel="share of the variance of the exponent", xlim=(0, 1.15 * table["share"].max()))
    return fig, table



POOLED = {"single exponential": "exponential", "heads' exponentials": "third", "gamma mixture": "fourth",
          "fitted shifted power": "power"}  # fmt: skip


def pooled(model: Observed) -> Drawn:
    """Left: the pooled field of the eligible heads and its accounts; right: their errors at far distances."""
    assert model.pooled is not None
    curves, errors = model.pooled.pooled, model.pooled.errors
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=[1.3, 1], layout="constrained")
    left.plot(curves["distance"], curves["observed"], ".", ms=3, color=COLOURS["data"], label="heads, pooled")
    left.axvspan(model.scores["text"].fitted.max(), curves["distance"].max(), color=COLOURS["chance"], alpha=0.15, lw=0)
    for name, tone in POOLED.items():
        left.plot(curves["distance"], curves[name], color=COLOURS[tone], lw=1.4, label=name)
    low, high = curves["observed"].min(), curves["observed"].max()
    left.set(xscale="log", yscale="log", xlabel="distance r (tokens); grey: held out", ylabel="mean field",
             ylim=(low / 3, high * 1.5))  # fmt: skip
    table = errors.set_index("curve").loc[list(POOLED)].reset_index()
    right.barh(range(len(table)), table["error"], color=[COLOURS[t] for t in POOLED.values()], height=0.7)
    right.set_yticks(range(len(table)), [name.replace(" ", "\n", 1) for name in POOLED])
    right.invert_yaxis()
    right.set_xlabel("median square error of log g")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, curves.melt("distance", var_name="curve", value_name="field").merge(table, on="curve", how="left")
