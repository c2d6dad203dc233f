"""The pictures of the chapter `paths`. Each function returns a figure and the table of what it draws, for
`figures.publish` (ours).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import in_context, power_figures, word_space
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.contrasts import mean
from agf_core.analysis.paths import Page
from agf_core.analysis.walks import WORDS
from agf_core.figures import COLOURS, WIDTH, Estimate

KINDS = {"hmm": "hidden Markov", "brackets": "nested brackets", WORDS: "words", "markov": "first-order Markov"}
STEPS = 8  # tokens of a path that are drawn
TONES = {"hmm": "power", "brackets": "exponential"}
READERS = {"model": ("data", "o-", "model"), "mixture": ("limit", "--", "Bayes mixture over its own tasks"),
           "prior": ("power", ":", "Bayes over the prior: learns in context"),
           "tempered": ("exponential", "-.", "best tempered mixture")}  # fmt: skip


def paths(page: Page) -> Drawn:
    """Context vectors of a model of words, through the layers and along generation."""
    walk = (page.here if page.here.walk else page.deciding("M1")).walk
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.7), layout="constrained")
    if walk is None:
        for ax in (left, right):
            ax.text(0.5, 0.5, "no weights here, and no walk stored", ha="center", transform=ax.transAxes, fontsize=9)
        return fig, pd.DataFrame({"panel": ["none"], "x": [np.nan], "y": [np.nan]})
    layers, steps, read = np.array(walk["layers"]), np.array(walk["steps"]), walk["read"]
    rows, at, count = [], np.linspace(0, layers.shape[2] - 1, 5).astype(int), layers.shape[1]
    shades = [COLOURS[c] for c in ("chance", "power", "third", "limit")] * count
    for passage in layers:
        for place in at:
            left.plot(*passage[:, place].T, color=COLOURS["chance"], lw=0.7, zorder=1)
    for layer in range(count):
        x = layers[:, layer][:, at].reshape(-1, 2)
        name = "embedding" if layer == 0 else "context vector" if layer == count - 1 else f"after layer {layer}"
        left.scatter(*x.T, s=22, color=shades[layer] if layer < count - 1 else COLOURS["limit"], label=name, zorder=2)
        rows += [("layers", name, i, *p) for i, p in enumerate(x)]
    right.plot(*steps[0, read - STEPS : read].T, "o-", ms=3, lw=0.9, color=COLOURS["chance"], label="read (the prompt)")
    for tone, path in zip(("power", "exponential", "third"), steps):
        drawn = path[read - 1 : read + STEPS]
        right.plot(*drawn.T, "o-", ms=2.5, lw=0.9, color=COLOURS[tone])
        right.text(*drawn[-1], " end", color=COLOURS[tone], fontsize=9)
    for i, path in enumerate(steps):
        rows += [("generation", f"walk {i}", t, *p) for t, p in enumerate(path)]
    right.plot(*steps[0, read - 1], "*", ms=13, ls="", color=COLOURS["data"], label="where they part")
    right.plot([], [], "o-", ms=2.5, lw=0.9, color=COLOURS["power"], label="drawn from the model, thrice")
    share = walk["explained"]
    for ax, two, title in ((left, share[:2], "through the layers"), (right, share[2:], "along generation")):
        ax.set(title=title, xlabel=f"component 1 ({two[0]:.0%} of variance)", ylabel=f"component 2 ({two[1]:.0%})")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)
    return fig, _table(rows, ["panel", "what", "step", "x", "y"])


def memory(page: Page) -> Drawn:
    """R² of the next context vector from the token alone, with the current vector, and with the history."""
    table = page.deciding("M1").walks
    looks = {"token": ("chance", "next token alone"), "now": ("power", "and the current vector"),
             "history": ("limit", "and the history")}  # fmt: skip
    kinds = list(dict.fromkeys(table["kind"]))
    fig, ax = subplots(figsize=(WIDTH, 1.5 + 0.55 * max(1, len(kinds))), layout="constrained")
    rows = []
    for y, kind in enumerate(kinds):
        for i, (look, (tone, _)) in enumerate(looks.items()):
            e = mean(table.loc[table["kind"] == kind, look])
            _dot(ax, e, y + 0.22 * (i - 1), COLOURS[tone])
            rows.append((kind, look, e.value, e.low, e.high))
    lowest = min((r[2] for r in rows), default=0.0)
    ax.set(xlabel="held-out R² of the next context vector, points", xlim=(max(-10.0, min(75.0, lowest - 5)), 101))
    ax.set_yticks(range(len(kinds)), [KINDS[k] for k in kinds])
    ax.invert_yaxis()
    ax.axvline(100, color=COLOURS["data"], lw=0.8)
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[c], label=name) for c, name in looks.values()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, _table(rows, ["kind", "predictor", "r2", "low", "high"])


def known(page: Page) -> Drawn:
    """Log probability of held-out paths, true and the model's; and KL to the truth while a model learns."""
    results = page.deciding("M2")
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.6), layout="constrained")
    rows, ends = [], []
    for kind, pairs in results.paths.items():
        marker = "o" if kind == "hmm" else "^"
        left.scatter(*pairs.T, s=14, marker=marker, color=COLOURS[TONES[kind]], alpha=0.7, lw=0, label=KINDS[kind])
        rows += [(kind, "path", *pair) for pair in pairs]
        ends += [pairs.min(), pairs.max()]
    if ends:
        left.plot([min(ends), max(ends)], [min(ends), max(ends)], color=COLOURS["data"], lw=0.8, label="equal")
    left.set(xlabel="log p of a path, the source (nat)", ylabel="log p, the model (nat)")
    for kind, part in results.through.groupby("kind", sort=False):
        tone, points = COLOURS[TONES[str(kind)]], part.groupby("tokens")["kl"].agg(list)
        each = [mean(v) for v in points]
        right.plot(points.index, [e.value for e in each], "o-", ms=4, color=tone)
        right.fill_between(points.index, [e.low for e in each], [e.high for e in each], color=tone, alpha=0.2, lw=0)
        rows += [(kind, "training", t, e.value) for t, e in zip(points.index, each)]
        models = results.known[results.known["kind"] == kind]
        for reader, style in (("unigram", "--"), ("bigram", ":")):
            if len(models):
                right.axhline(models[reader].mean(), color=tone, lw=1, ls=style)
    right.set(xlabel="tokens of training", ylabel="KL(source ‖ model), nat per token")
    if len(results.through):
        right.set(xscale="log", yscale="log")
        times = sorted(set(results.through["tokens"]))
        _ticks(right.xaxis, [times[0], times[len(times) // 2], times[-1]])
        _ticks(right.yaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
    looks = {"the model": "-", "unigram": "--", "best reader of two symbols": ":"}
    handles = left.get_legend_handles_labels()[0]
    handles += [Line2D([], [], color=COLOURS["data"], ls=style, label=name) for name, style in looks.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, _table(rows, ["kind", "what", "x", "y"])


def tasks(page: Page) -> Drawn:
    """Error on unseen tasks by the diversity of pre-training; and by place, at the diversity of the peak."""
    results = page.deciding("M3")
    table = results.tasks[results.tasks["tasks"] > 0]
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.9), layout="constrained")
    rows = []
    for reader, (tone, style, label) in READERS.items():
        points = table.groupby("tasks")[reader].agg(list)
        each = [mean(v) for v in points]
        left.plot(points.index, [e.value for e in each], style, ms=4, color=COLOURS[tone], label=label)
        left.fill_between(points.index, [e.low for e in each], [e.high for e in each], color=COLOURS[tone], alpha=0.18,
                          lw=0)  # fmt: skip
        rows += [("diversity", reader, t, e.value, e.low, e.high) for t, e in zip(points.index, each)]
    left.set(xlabel="tasks in pre-training", ylabel="error on unseen tasks\n(KL, nat per token)", title="by diversity")
    if len(table):
        left.set(xscale="log", yscale="log")
        _ticks(left.xaxis, sorted(set(table["tasks"])))
        _ticks(left.yaxis, [0.05, 0.1, 0.2, 0.5, 1, 2])
    peak = in_context.peak(results.tasks)
    for reader, curve in results.places.get(peak if peak is not None else -1, {}).items():
        tone, style, _ = READERS[reader]
        right.plot(np.arange(1, len(curve) + 1), curve, style.replace("o", ""), color=COLOURS[tone])
        rows += [("place", reader, i, v, np.nan, np.nan) for i, v in enumerate(curve, 1)]
    right.set(
        xlabel="symbols read so far", ylabel="error (nat)", title=f"by place, {peak} tasks" if peak else "by place"
    )
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig, _table(rows, ["panel", "reader", "x", "error", "low", "high"])


def nearness(page: Page) -> Drawn:
    """Cosine of a context vector with token vectors against the corpus; partial correlations by kind."""
    results = page.deciding("M4")
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.9), width_ratios=[1, 1.15], layout="constrained")
    rows = []
    for embeddings, tone in (("tied", "power"), ("untied", "third")):
        if embeddings in results.example:
            log_p, cosine, _ = results.example[embeddings].T
            left.scatter(log_p, cosine, s=12, color=COLOURS[tone], alpha=0.7, lw=0, label=embeddings)
            rows += [("example", embeddings, "", x, y, np.nan, np.nan) for x, y in zip(log_p, cosine)]
    left.set(xlabel="log p(word | context), corpus (nat)", ylabel="cosine, context and token vector")
    names = {"trained": "trained", "input": "input vectors", "shuffled": "shuffled", "untrained": "untrained",
             "product": "product (the logit)", "resampled": "resampled counts"}  # fmt: skip
    for i, (embeddings, tone) in enumerate((("tied", "power"), ("untied", "third"))):
        for words, face in ((1, COLOURS[tone]), (2, "white")):
            one = results.near[(results.near["embeddings"] == embeddings) & (results.near["words"] == words)]
            for y, kind in enumerate(names):
                e = mean(one.loc[one["kind"] == kind, "rho"])
                at = y + 0.36 * (i - 0.5) + 0.14 * (words - 1.5)
                _dot(right, e, at, COLOURS[tone], mfc=face)
                rows.append((f"{words} words", embeddings, kind, e.value, np.nan, e.low, e.high))
    right.axvline(0.3, color=COLOURS["limit"], lw=1, ls="--")
    right.axvline(0, color=COLOURS["data"], lw=0.8)
    right.set_yticks(range(len(names)), list(names.values()))
    right.invert_yaxis()
    right.set_xlabel("partial ρ given frequency")
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[t], label=n) for n, t in
               (("tied", "power"), ("untied", "third"))]  # fmt: skip
    handles += [Line2D([], [], marker="o", ls="", color=COLOURS["data"], mfc="white", label="two words of context"),
                Line2D([], [], color=COLOURS["limit"], ls="--", label="M4 asks 0.30")]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig, _table(rows, ["panel", "embeddings", "kind", "x", "y", "low", "high"])


def concepts(page: Page) -> Drawn:
    """Probes beside their controls, trained and untrained; retrieval by four ways."""
    results = page.deciding("M7")
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 4.4), width_ratios=[1.2, 1], layout="constrained")
    rows: list[tuple[str, str, str, float, float, float]] = []
    labels: list[str] = []
    for name in dict.fromkeys(results.probes["property"]):
        for model in ("trained", "untrained"):
            one = results.probes[(results.probes["property"] == name) & (results.probes["model"] == model)]
            for what, tone in (("control", "chance"), ("accuracy", "power")):
                e = mean(one[what])
                _dot(left, e, len(labels), COLOURS[tone])
                rows.append(("probe", f"{name}, {model}", what, e.value, e.low, e.high))
            labels.append(f"{name},\n{model}")
    left.set_yticks(range(len(labels)), labels)
    left.set(xlabel="accuracy on words never probed, %", title="probes", xlim=(0, 100))
    left.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[t], label=n) for n, t in
               (("true classes", "power"), ("classes drawn at random", "chance"))]  # fmt: skip
    left.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.3, -0.2), ncols=1)
    names = {"pooled": "pooled context\nvectors", "dot": "the same, by\ndot product", "model": "the model's\nlog p",
             "tfidf": "TF-IDF"}  # fmt: skip
    found = word_space.retrieval(results.hits) if results.hits["items"].sum() else {}
    for y, way in enumerate(names):
        e = found.get(way, Estimate(np.nan, np.nan, np.nan))
        _dot(right, Estimate(100 * e.value, 100 * e.low, 100 * e.high), y, COLOURS["power" if y < 2 else "data"])
        rows.append(("retrieval", way, "", 100 * e.value, 100 * e.low, 100 * e.high))
    right.axvline(25, color=COLOURS["chance"], lw=1, ls="--", label="chance")
    right.set_yticks(range(len(names)), list(names.values()))
    right.set(xlabel="right of four, %", title="retrieval", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return fig, _table(rows, ["panel", "what", "kind", "value", "low", "high"])


def operating(page: Page) -> Drawn:
    """Shares of verdicts of every rule by what is true."""
    parts = [t.assign(world=[f"{id}: {w}" for w in t["world"]]) for id, t in page.worlds.items()]
    table = pd.concat(parts, ignore_index=True).fillna(0.0)
    fig, drawn = power_figures.operating(table.drop(columns="true"))
    fig.set_size_inches(WIDTH, 1.2 + 0.27 * len(table))
    fig.axes[0].set_ylabel("what is true")
    return fig, drawn


def _table(rows: Sequence[tuple[object, ...]], columns: list[str]) -> pd.DataFrame:
    """What was drawn; a row that says "nothing" where nothing was."""
    return pd.DataFrame(rows or [("nothing", *[np.nan] * (len(columns) - 1))], columns=columns)


def _ticks(axis: Axis, at: list[float]) -> None:
    """These ticks and no others, as plain numbers."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(FixedLocator([t for t in at if low <= t <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1000 else f"{x:g}")


def _dot(ax: Axes, e: Estimate, y: float, colour: str, **style: object) -> None:
    """A value with its interval, if it has one; nothing for what is not known."""
    if np.isfinite([e.low, e.high]).all():
        ax.plot([e.low, e.high], [y, y], color=colour, lw=1.4)
    look: dict[str, object] = {"marker": "o", "ms": 5, "ls": "", "color": colour, **style}
    ax.plot([e.value], [y], **look)  # type: ignore[arg-type]
