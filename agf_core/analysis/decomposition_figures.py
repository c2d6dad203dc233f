"""The pictures of the chapter `decomposition`. Each function returns a figure and the table of what it draws, for
`figures.publish` (ours).

Heads are thin bars, sorted: heads of different models have no common order. Bars are stacked from zero, what is
negative below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.pyplot import subplots

from agf_core.analysis.accuracy_figures import COLOURS, WIDTH, Drawn
from agf_core.analysis.accuracy_words import called
from agf_core.analysis.decomposition import (
    ABSOLUTE,
    ELSEWHERE,
    KINDS,
    RANDOM,
    UNIFORM,
    UNTRAINED,
    Page,
    by_part,
    shares,
)
from agf_core.analysis.heads import Heads
from agf_core.analysis.split import PARTS
from agf_core.analysis.terms import TERMS

TERM_COLOURS = dict(zip(TERMS, (COLOURS["power"], COLOURS["third"], COLOURS["fourth"], COLOURS["exponential"])))
PART_COLOURS = dict(zip(PARTS, (COLOURS["exponential"], COLOURS["third"], COLOURS["chance"], COLOURS["power"])))
PART_NAMES = {
    "distance": "distance alone",
    "type": "key's type alone",
    "shared": "shared by both",
    "rest": "association",
}
NAMES = {"flat": "free field, flat start", "steep": "free field, steep start", UNTRAINED: "learned, untrained",
         RANDOM: "learned, random tokens", UNIFORM: "uniform attention"}  # fmt: skip


def titled(kind: str) -> str:
    """A kind of model as it is written."""
    return NAMES.get(kind, called(kind))


def stacked(ax: Axes, values: np.ndarray, colours: Sequence[str], at: np.ndarray | None = None) -> None:
    """Bars of values (heads, parts): what is positive upwards from zero, what is negative downwards."""
    at = np.arange(len(values)) if at is None else at
    up, down = np.zeros(len(values)), np.zeros(len(values))
    for column, colour in zip(values.T, colours):
        ax.bar(at, column, 0.9 if len(values) < 25 else 1.0, bottom=np.where(column >= 0, up, down), color=colour, lw=0)
        up, down = up + np.maximum(column, 0), down + np.minimum(column, 0)
    ax.axhline(0, color=COLOURS["data"], lw=0.6)


def calibration(page: Page) -> Drawn:
    """The share of every term at the first layer, exact and by mean position, a dot a head."""
    kinds = {**{kind: page.of(kind) for kind in ABSOLUTE}, page.name: [h for h in [page.elsewhere.get("text")] if h]}
    kinds = {k: [m for m in models if m.exact is not None] for k, models in kinds.items()}
    kinds = {k: models for k, models in kinds.items() if models}
    fig, axes = subplots(1, len(kinds), figsize=(WIDTH, 1.1 + 2.4 * 2 / max(2, len(kinds))), sharex=True, sharey=True,
                         squeeze=False, layout="constrained")  # fmt: skip
    rows = []
    for ax, (kind, models) in zip(axes[0], kinds.items()):
        exact = np.concatenate([m.exact.shares[0] for m in models if m.exact is not None])
        by_mean = np.concatenate([m.terms.shares[0] for m in models])
        ax.axline((0, 0), slope=1, color=COLOURS["chance"], lw=1)
        for i, term in enumerate(TERMS):
            ax.scatter(exact[:, i], by_mean[:, i], s=12, color=TERM_COLOURS[term], label=term, lw=0, alpha=0.8)
            rows += [(kind, head, term, *pair) for head, pair in enumerate(zip(exact[:, i], by_mean[:, i]))]
        ax.set(title=titled(kind), xlabel="exact share")
    axes[0][0].set_ylabel("share by mean position")
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig, pd.DataFrame(rows, columns=["model", "head", "term", "exact", "by_mean"])


def four_terms(page: Page) -> Drawn:
    """The four terms of every head, by layer, sorted by where·where: absolute positions, and a model from elsewhere."""
    kinds = {**{kind: page.of(kind) for kind in ABSOLUTE}, page.name: [h for h in [page.elsewhere.get("text")] if h]}
    kinds = {k: models for k, models in kinds.items() if models}
    fig, axes = subplots(len(kinds), 1, figsize=(WIDTH, 0.8 + 1.55 * len(kinds)), sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    rows = []
    for ax, (kind, models) in zip(axes[:, 0], kinds.items()):
        end, places = 0.0, []
        for layer in range(models[0].terms.shares.shape[0]):
            values = np.concatenate([m.terms.shares[layer] for m in models])
            values = values[np.isfinite(values).all(-1)]
            values = values[np.argsort(values[:, 3])]
            at = end + np.arange(len(values))
            stacked(ax, values, list(TERM_COLOURS.values()), at)
            rows += [(kind, layer + 1, n, *v) for n, v in enumerate(values.tolist())]
            places.append((end + (len(values) - 1) / 2, layer + 1))
            end += len(values) * 1.06 + 1
        ax.set_xticks([p for p, _ in places], [f"layer {n}" if len(places) < 4 else str(n) for _, n in places])
        ax.tick_params(axis="x", length=0)
        ax.margins(x=0.01)
        ax.set(title=titled(kind), ylabel="share")
    if len(places) >= 4:
        axes[-1][0].set_xlabel("layer")
    handles = [Patch(color=c, label=t) for t, c in TERM_COLOURS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, title="query's part · key's part")
    return fig, pd.DataFrame(rows, columns=["model", "layer", "rank", *TERMS])


def through_training(page: Page) -> Drawn:
    """The mean share of each term against the bytes that a model with learned positions has read, by layer."""
    stops = page.stopped
    layers = next(iter(stops.values()))[0].terms.shares.shape[0]
    fig, axes = subplots(1, layers, figsize=(WIDTH, 3.4), sharey=True, squeeze=False, layout="constrained")
    rows = [(layer + 1, tokens, term, e.value, e.low, e.high, len(models)) for layer in range(layers)
            for tokens, models in stops.items() for term, e in shares(models, layer).items()]  # fmt: skip
    table = pd.DataFrame(rows, columns=["layer", "bytes", "term", "share", "low", "high", "models"])
    step = min((t for t in stops if t), default=1)
    for ax, layer in zip(axes[0], range(layers)):
        for term, colour in TERM_COLOURS.items():
            line = table[(table["layer"] == layer + 1) & (table["term"] == term)]
            x = np.log2(line["bytes"] / step + 0.5)  # the untrained model a step to the left
            ax.plot(x, line["share"], color=colour, marker="o", ms=4, label=term)
            known = line["low"].notna()
            ax.fill_between(x[known], line["low"][known], line["high"][known], color=colour, alpha=0.15, lw=0)
        labels = ["0" if not t else f"{t / 1e3:.0f}k" for t in stops]
        ax.set_xticks(np.log2(np.array(list(stops)) / step + 0.5), labels)
        ax.axhline(0, color=COLOURS["chance"], lw=0.6)
        ax.set(title=f"layer {layer + 1}", xlabel="bytes read")
    axes[0][0].set_ylabel("share, mean of heads")
    values = table["share"]
    axes[0][0].set_ylim(min(-0.1, values.min() - 0.1), max(1.1, values.max() + 0.1))  # a few seeds have wide intervals
    fig.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig, table


def trained(page: Page) -> dict[str, list[Heads]]:
    """Title → heads: every kind of model, and the one from elsewhere; no control."""
    found = {titled(kind): page.of(kind) for kind in KINDS}
    if "text" in page.elsewhere:
        found[page.name] = [page.elsewhere["text"]]
    return {k: v for k, v in found.items() if v}


def panels(page: Page) -> dict[str, list[Heads]]:
    """Title → heads: every kind of model, then the controls."""
    found = trained(page)
    found |= {titled(UNTRAINED): page.untrained} | {titled(k): v for k, v in page.controls.items()}
    found |= {k.replace("pretrained", page.name): [page.elsewhere[i]] for i, k in ELSEWHERE.items()
              if i != "text" and i in page.elsewhere}  # fmt: skip
    return {k: v for k, v in found.items() if v}


def field_and_association(page: Page) -> Drawn:
    """Field × association of every head, sorted by what distance alone explains, with the interval of that part."""
    found = panels(page)
    columns = 3
    count = -(-len(found) // columns)
    fig, axes = subplots(count, columns, figsize=(WIDTH, 0.6 + 1.35 * count), sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    tables = []
    for ax, (name, models) in zip(axes.flat, found.items()):
        values, low, high = (np.concatenate([by_part(m, c) for m in models]) for c in ("share", "low", "high"))
        moves = np.concatenate([m.split.variance.ravel() for m in models]) > 0
        order = np.argsort(values[:, 0], kind="stable")
        table = pd.DataFrame(values, columns=list(PARTS)).assign(low=low[:, 0], high=high[:, 0], varies=moves)
        tables.append(table.iloc[order].assign(model=name, rank=np.arange(len(order))))
        ax.set_title(name if len(name) < 28 else name.replace(", ", ",\n"), fontsize=8.5)
        ax.set_xticks([])
        if not moves.any():
            ax.text(0.5, 0.5, "no score varies:\nnothing to explain", ha="center", va="center", fontsize=8.5,
                    transform=ax.transAxes)  # fmt: skip
            continue
        stacked(ax, values[order], list(PART_COLOURS.values()))
        known = np.isfinite(low[order, 0])
        at = np.arange(len(order))[known]
        ax.vlines(at, low[order, 0][known], high[order, 0][known], color=COLOURS["data"], lw=0.7)
        ax.margins(x=0.01)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    low_end = min(t[list(PARTS)].clip(upper=0).sum(axis=1).min() for t in tables)
    axes[0][0].set_ylim(max(-0.5, min(-0.02, low_end)), 1.02 - max(-0.5, min(0.0, low_end)))
    axes[count // 2][0].set_ylabel("share of the variance of what enters the softmax")
    handles = [
        *(Patch(color=c, label=PART_NAMES[p]) for p, c in PART_COLOURS.items()),
        Line2D([], [], color=COLOURS["data"], lw=0.7, label="95 % (distance)"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, pd.concat(tables, ignore_index=True)


MAPS = {
    "logit": "what enters the softmax", "effect": "= effect of the query", "field": "+ field(r)",
    "mass": "+ mass(type of the key)", "rest": "+ rest: association", "attention": "attention it makes",
}  # fmt: skip


def head_apart(page: Page) -> Drawn:
    """One head on a passage: its logits, the four things that they are the sum of, and the attention they make."""
    one = page.apart
    fig, axes = subplots(3, 2, figsize=(WIDTH, 9.2), sharex=True, sharey=True, layout="constrained")
    limit = max(float(np.nanmax(np.abs(getattr(one, name)))) for name in MAPS if name != "attention")
    n, labels, tables = len(one.labels), ["␣" if c == " " else c for c in one.labels], {}
    for ax, (name, title) in zip(axes.flat, MAPS.items()):
        shown = getattr(one, name)
        tables[name] = np.round(shown, 4)
        if name == "attention":
            attention = ax.imshow(np.where(np.tri(n) > 0, shown, np.nan), cmap="Greys", vmin=0)
        else:
            scale = ax.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_title(title)
        ax.set_xticks(range(n), labels, fontsize=8, family="monospace")
        ax.set_yticks(range(n), labels, fontsize=8, family="monospace")
        ax.tick_params(length=0, pad=2, labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("query")
    for ax in axes[-1]:
        ax.set_xlabel("key")
    fig.colorbar(scale, ax=axes[-1][0], location="bottom", label="all but the last: natural-log units")
    fig.colorbar(attention, ax=axes[-1][1], location="bottom", label="the last: weight")
    query, key = (a.ravel() for a in np.indices((n, n)))
    named = {"query_token": np.array(one.labels)[query], "key_token": np.array(one.labels)[key]}
    table = pd.DataFrame({"query": query, "key": key, **named, **{k: v.ravel() for k, v in tables.items()}})
    return fig, table[table["key"] <= table["query"]]
