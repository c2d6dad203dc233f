"""The pictures of the chapter `parts_of_speech`. Each function returns a figure and the table of what it draws, for
`figures.publish` (ours).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from agf_core.analysis import class_worlds, grids, power_figures
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.accuracy_words import called
from agf_core.analysis.class_map import SHARES, ClassMap
from agf_core.analysis.class_terms import ENOUGH
from agf_core.analysis.parts_of_speech import (
    BINS,
    FIRST,
    SECOND,
    Page,
    accuracy,
    best_runs,
    of_heads,
    share,
)  # fmt: skip
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.windows import Array
from agf_core.claims import CLAIMS, Part
from agf_core.figures import COLOURS, WIDTH, Estimate
from agf_core.sources.datasets import UNIVERSAL_TAGS

CLASSES = dict(zip(UNIVERSAL_TAGS, ("punctuation", "adjective", "preposition", "adverb", "conjunction", "determiner",
                                    "noun", "number", "pronoun", "particle", "verb", "other")))  # fmt: skip
PLANTED = {"classes": ("power", "class pairs"), "weak": ("exponential", "class pairs, too small to count"),
           "frequency": ("third", "distance × frequency"), "masses": ("fourth", "masses of word types")}  # fmt: skip
KINDS = {"flat": "free field, flat start", "steep": "free field, steep start", "rotary": "rotary"}
ENCODINGS = dict(zip((*grids.SIX, "commonest tag"), (("sinusoidal", "^", "fourth"), ("learned", "v", "fourth"),
                 ("rotary", "D", "fourth"), ("ALiBi", "s", "third"), ("T5", "P", "third"), ("AGF", "o", "power"),
                 ("commonest tag of the word", "x", "limit"))))  # fmt: skip
CONTROLS = dict(zip(INPUTS[1:], ("tokens in no order", "untrained")))
MOST = 6  # layers that are drawn apart


def asked() -> float:
    """The share of heads that A7 asks for."""
    part = CLAIMS["A7"].criterion.parts[FIRST]
    assert isinstance(part, Part)
    return part.threshold


def planted(page: Page) -> Drawn:
    """What class pairs explain in planted heads, against what is found."""
    table = page.planted
    fig, ax = subplots(figsize=(WIDTH, 3.6), layout="constrained")
    ax.axline((0, 0), slope=1, color=COLOURS["chance"], lw=1)
    ax.axhline(100 * ENOUGH, color=COLOURS["limit"], lw=1, ls="--")
    for i, (kind, (tone, label)) in enumerate(PLANTED.items()):
        part = table[table["kind"] == kind]
        x = 100 * part["planted"] + (0.12 * (i - 2) + np.linspace(-0.04, 0.04, len(part)) if kind in class_worlds.KINDS
                                     and part["planted"].max() == 0 else 0)  # fmt: skip
        half = 100 * np.nan_to_num(np.stack([part["excess"] - part["low"], part["high"] - part["excess"]]))
        ax.errorbar(x, 100 * part["excess"], half, fmt="o", ms=4, lw=1, color=COLOURS[tone], label=label)
    ax.set(xlabel="planted: % of the variance within queries", ylabel="found, %")
    fig.legend(loc="outside lower center", ncols=2)
    return fig, table


def operating(page: Page) -> Drawn:
    """Shares of verdicts of A7's rule by what is true of the heads."""
    fig, table = power_figures.operating(page.worlds)
    fig.axes[0].set_ylabel("what is true of the heads")
    return fig, table


def heads(page: Page) -> Drawn:
    """What class pairs add in every head of the model, on both texts, and what permuted labels add."""
    fig, axes = subplots(1, 2, figsize=(WIDTH, 3.7), sharey=True, layout="constrained")
    tables = []
    for ax, part in zip(axes, (FIRST, SECOND)):
        terms = page.text(part)
        value, low, high = terms.interval()
        layer, head = (a.ravel() for a in np.indices(value.shape))
        table = pd.DataFrame({"text": page.texts[part], "layer": layer, "head": head, "excess": value.ravel(),
                              "low": low.ravel(), "high": high.ravel(), "permuted": terms.null.mean(0).ravel(),
                              "base": terms.base.mean(0).ravel()})  # fmt: skip
        table = table.sort_values("excess", ignore_index=True)
        tables.append(table)
        half = 100 * np.nan_to_num(np.stack([table["excess"] - table["low"], table["high"] - table["excess"]]))
        ax.scatter(table.index, 100 * table["permuted"], s=9, lw=0, color=COLOURS["chance"], label="permuted labels")
        ax.errorbar(table.index, 100 * table["excess"], half, fmt="o", ms=3, lw=0.9, color=COLOURS["power"],
                    label="classes, beyond these")  # fmt: skip
        ax.axhline(100 * ENOUGH, color=COLOURS["limit"], lw=1, ls="--", label="A7 asks")
        ax.set(title=page.texts[part], xlabel="heads, sorted")
        ax.set_xticks([])
    axes[0].set_ylabel("% of the variance within queries")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, pd.concat(tables, ignore_index=True)


def rows_of(page: Page) -> list[tuple[str, str, int, Estimate]]:
    """(what, how it is drawn, heads, share of heads in which classes count) of everything that was measured."""
    rows = [(f"{page.name} on {page.texts[p]}", "decides", p, INPUTS[0]) for p in (FIRST, SECOND)]
    rows += [(f"{page.name}, {CONTROLS[given]}", "control", FIRST, given) for given in INPUTS[1:]]
    found = [(label, how, int(page.terms[part, given].enough.size), of_heads(page.terms[part, given]))
             for label, how, part, given in rows]  # fmt: skip
    for (runs, part, kind), table in page.words.groupby(["runs", "part", "kind"], sort=False):
        clusters = table.groupby("model").ngroup().to_numpy()
        e = share((table["excess"] >= ENOUGH).to_numpy(), clusters)
        found.append((f"words, {KINDS[kind]}, {page.texts[part]}", runs, len(table), e))
    return found


def shares(page: Page) -> Drawn:
    """Shares of heads in which classes add what A7 asks for: the model, its controls, and word models trained here."""
    rows = rows_of(page)
    fig, ax = subplots(figsize=(WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
    tones = {"decides": "power", "control": "chance", "reference": "data", "here": "data"}
    for y, (_, how, _, e) in enumerate(rows):
        face = "white" if how == "here" else COLOURS[tones[how]]
        ax.plot([e.low, e.high], [y, y], color=COLOURS[tones[how]], lw=1.4)
        ax.plot([e.value], [y], "o", ms=5.5, color=COLOURS[tones[how]], mfc=face)
    ax.axvline(asked(), color=COLOURS["limit"], lw=1, ls="--")
    ax.set_yticks(range(len(rows)), [f"{name} ({number} heads)" for name, _, number, _ in rows])
    ax.invert_yaxis()
    ax.set(xlim=(-0.03, 1.03), xlabel=f"share of heads in which classes add {ENOUGH:.0%} or more")
    drawn = {how: how for _, how, *_ in rows}
    names = {"decides": "carries the verdict", "control": "control", "reference": "reference runs", "here": "this run"}
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[tones[h]], mfc="white" if h == "here" else None,
                      label=names[h]) for h in drawn]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    table = [(n, how, k, e.value, e.low, e.high) for n, how, k, e in rows]
    return fig, pd.DataFrame(table, columns=["model", "role", "heads", "share", "low", "high"])


def class_map(page: Page) -> Drawn:
    """Attention from each class to each, over what distance, frequency and place predict."""
    one = page.maps[FIRST]
    value, low, high = one.of(page.layer)
    there = used(one)
    fig, ax = subplots(figsize=(WIDTH, 5.2), layout="constrained")
    norm = _norm(value)
    image = _image(ax, value, low, high, there, norm)
    names = [CLASSES.get(one.names[i], one.names[i]) for i in there]
    ax.set_xticks(range(len(there)), names, rotation=50, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(there)), names)
    ax.set(xlabel="class of the key", ylabel="class of the query")
    _ticks(fig.colorbar(image, ax=ax, shrink=0.85, label="attention over what was expected"), norm)
    return fig, _table(one, page.layer, there, value, low, high)


def layers(page: Page) -> Drawn:
    """The same map for every layer, or for six of them."""
    one = page.maps[FIRST]
    count = one.received.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(MOST, count)).round().astype(int))
    found = [one.of(int(layer)) for layer in chosen]
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    fig, axes = subplots(rows, columns, figsize=(WIDTH, 0.9 + 2.5 * rows), sharex=True, sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    there, norm, tables = used(one), _norm(np.concatenate([v for v, *_ in found])), []
    for ax, layer, (value, low, high) in zip(axes.flat, chosen, found):
        image = _image(ax, value, low, high, there, norm)
        ax.set_title(f"layer {layer + 1}")
        ax.set_xticks(range(len(there)), [one.names[i] for i in there], rotation=90)
        ax.set_yticks(range(len(there)), [one.names[i] for i in there])
        ax.tick_params(labelsize=9, length=2)
        tables.append(_table(one, int(layer), there, value, low, high))
    for ax in axes.flat[len(chosen) :]:
        ax.axis("off")
    _ticks(fig.colorbar(image, ax=axes, shrink=0.7, label="attention over what was expected"), norm)
    return fig, pd.concat(tables, ignore_index=True)


def used(one: ClassMap) -> Array:
    """Classes that are keys of enough pairs to be drawn, the commonest first."""
    number = one.pairs.sum(0)
    order = np.argsort(-number, kind="stable")
    found: Array = order[number[order] >= 0.002 * number.sum()]
    return found


def _norm(value: Array) -> TwoSlopeNorm:
    most = max(0.1, float(np.nanquantile(np.abs(value), 0.98))) if np.isfinite(value).any() else 1.0
    return TwoSlopeNorm(0.0, -most, most)


def _image(ax: Axes, value: Array, low: Array, high: Array, there: Array, norm: TwoSlopeNorm) -> Any:
    square = np.ix_(there, there)
    shown, clear = value[square], (low[square] > 0) | (high[square] < 0)
    ax.set_facecolor("#dddddd")
    return ax.imshow(shown, cmap="RdBu_r", norm=norm, alpha=np.where(clear | ~np.isfinite(low[square]), 1.0, 0.35),
                     aspect="auto")  # fmt: skip


def _ticks(bar: Any, norm: TwoSlopeNorm) -> None:
    """Factors in place of their logarithms."""
    factors = [f for f in (1 / 8, 1 / 4, 1 / 2, 2 / 3, 0.8, 1, 1.25, 1.5, 2, 4, 8) if abs(np.log(f)) <= norm.vmax]
    bar.set_ticks([float(np.log(f)) for f in factors], labels=[f"× {f:.2g}" for f in factors])


def _table(one: ClassMap, layer: int, there: Array, value: Array, low: Array, high: Array) -> pd.DataFrame:
    rows = [(layer, one.names[q], one.names[k], value[q, k], low[q, k], high[q, k], int(one.pairs[q, k]))
            for q in there for k in there]  # fmt: skip
    return pd.DataFrame(rows, columns=["layer", "query", "key", "log_ratio", "low", "high", "pairs"])


def mass(page: Page) -> Drawn:
    """The mass of every class of keys, on both texts, mean over all heads."""
    fig, ax = subplots(figsize=(WIDTH, 3.9), layout="constrained")
    order = [page.maps[FIRST].names[i] for i in used(page.maps[FIRST])]
    found = {p: dict(zip(page.maps[p].names, zip(*page.maps[p].mass(page.layer)))) for p in (FIRST, SECOND)}
    order.sort(key=lambda name: -found[FIRST][name][0])
    rows = []
    for part, tone, shift in ((FIRST, "power", -0.13), (SECOND, "exponential", 0.13)):
        for y, name in enumerate(order):
            if name in found[part] and np.isfinite(found[part][name][0]):
                value, low, high = np.exp(found[part][name])
                rows.append((page.texts[part], name, value, low, high))
                if np.isfinite([low, high]).all():
                    ax.plot([low, high], [y + shift] * 2, color=COLOURS[tone], lw=1.4)
                ax.plot([value], [y + shift], "o", ms=5, color=COLOURS[tone])
    ax.axvline(1, color=COLOURS["chance"], lw=1)
    often = page.spread[page.spread["part"] == FIRST].set_index("class")["share"]
    ax.set_yticks(range(len(order)), [f"{CLASSES.get(name, name)} ({often[name]:.0%})" for name in order])
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="attention received over what distance, frequency and place predict")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.tick_params(which="minor", labelsize=9)
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[t], label=page.texts[p])
               for p, t in ((FIRST, "power"), (SECOND, "exponential"))]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig, pd.DataFrame(rows, columns=["text", "class", "ratio", "low", "high"])


def apart(page: Page) -> Drawn:
    """Where the attention of the queries that count goes, by layer."""
    found = page.maps[FIRST].shares.mean(1)  # (L, 5)
    fig, ax = subplots(figsize=(WIDTH, 1.3 + 0.3 * len(found)), layout="constrained")
    left, tones = np.zeros(len(found)), ("limit", "exponential", "fourth", "power", "chance")
    for i, (name, tone) in enumerate(zip(SHARES, tones)):
        ax.barh(np.arange(len(found)), found[:, i], left=left, height=0.75, color=COLOURS[tone], label=name)
        left = left + found[:, i]
    ax.set_yticks(range(len(found)), [f"layer {i + 1}" for i in range(len(found))])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of attention, mean over heads")
    fig.legend(loc="outside lower center", ncols=5, handlelength=1, columnspacing=1)
    return fig, pd.DataFrame(found, columns=list(SHARES)).assign(layer=range(len(found)))


def tagging(page: Page, by: str) -> Drawn:
    """Accuracy of taggers by "class" or by "distance" to the deciding word, encodings side by side."""
    table = best_runs(accuracy(page, by))
    order = [w for w in (BINS if by == "distance" else UNIVERSAL_TAGS) if (table["what"] == w).any()]
    fig, ax = subplots(figsize=(WIDTH, 1.7 + 0.36 * len(order)), layout="constrained")
    for i, (name, (label, marker, tone)) in enumerate(ENCODINGS.items()):
        part = table[table["encoding"] == name].set_index("what").reindex(order)
        y = np.arange(len(order)) + 0.1 * (i - 3)
        half = np.nan_to_num(np.stack([part["accuracy"] - part["low"], part["high"] - part["accuracy"]]))
        ax.errorbar(part["accuracy"], y, xerr=half, fmt=marker, ms=4.5, lw=0.9, color=COLOURS[tone], label=label)
    numbers = table.groupby("what")["number"].max()
    labels = [CLASSES[w] if by == "class" else w for w in order]
    ax.set_yticks(range(len(order)), [f"{label} ({numbers[w]:,.0f})" for label, w in zip(labels, order)])
    ax.set(xlabel="accuracy", ylim=(len(order) - 0.45, -0.55))
    if by == "distance":
        ax.set_ylabel("places to the deciding word")
    fig.legend(loc="outside lower center", ncols=4, handlelength=1, columnspacing=1)
    return fig, table


def named(encoding: str) -> str:
    """An encoding as it is written, or the floor."""
    return ENCODINGS[encoding][0] if encoding in ENCODINGS else called(encoding)
