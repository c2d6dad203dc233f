"""The still picture of the atlas, and the table of all that its live form draws (ours)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.atlas import COMMON, SWITCHES, Atlas, nearest, rank
from agf_core.figures import COLOURS, WIDTH

TONES = dict(zip(SWITCHES, (("power", "o"), ("third", "s"), ("limit", "^"))))


def draw(page: Atlas) -> Drawn:
    """The first sentence's middle word on its three ways through the model, and what the live figure shows of all."""
    fig, ax = plt.subplots(figsize=(WIDTH, 5.6), layout="constrained")
    sentence, walks = page.sentences[0], page.walks[0]
    place = len(sentence.words) // 2
    tokens = page.plane.of(page.vectors[:COMMON])
    ax.scatter(tokens[:, 0], tokens[:, 1], s=5, color=COLOURS["chance"], lw=0)
    paths = {s: page.plane.of(w.states[:, place]) for s, w in zip(SWITCHES, walks)}
    for switch, path in paths.items():
        tone, mark = TONES[switch]
        ax.plot(*path.T, color=COLOURS[tone], marker=mark, ms=5, lw=1.6, label=switch)
    taken = list(np.concatenate(list(paths.values())))
    start, wide = paths[SWITCHES[0]][0], np.ptp(np.concatenate([tokens, taken]), axis=0) + 1e-9
    for symbol, (x, y) in enumerate(tokens):
        gap = np.abs(np.array(taken) - (x, y)) / wide
        if not ((gap[:, 0] < 0.11) & (gap[:, 1] < 0.05)).any():
            taken.append(np.array([x, y]))
            name = page.data.symbols[symbol]
            ax.annotate(name, (x, y), (3, 2), textcoords="offset points", fontsize=9, color="#555555")
    word = sentence.words[place]
    ax.annotate(word, start, (7, 5), textcoords="offset points", fontweight="bold", color=COLOURS["data"])
    first, second = page.plane.shares
    ax.set(xlabel=f"first axis ({first:.0%} of the variance)", ylabel=f"second axis ({second:.0%})", aspect="equal")
    ax.set_title(f"the path of “{word}” in “{' '.join(sentence.words)}”", fontsize=10)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, table(page)


def table(page: Atlas) -> pd.DataFrame:
    """Every sentence, switch, word and step: the place on the plane, the nearest tokens, how near the next word is."""
    rows = []
    for number, (sentence, walks) in enumerate(zip(page.sentences, page.walks), 1):
        for switch, walk in zip(SWITCHES, walks):
            xy, ranks = page.plane.of(walk.states).round(3), rank(walk.states, page.vectors, sentence.targets)
            found, cosine = nearest(walk.states, page.vectors)
            chance = walk.logits.softmax(-1).gather(1, sentence.targets[:, None])[:, 0]
            for i, word in enumerate(sentence.words):
                for s, step in enumerate(page.steps):
                    near = zip(found[s, i].tolist(), cosine[s, i].tolist())
                    names = " | ".join(f"{page.data.symbols[t]} {c:.2f}" for t, c in near)
                    rows.append((number, switch, i + 1, word, step, *map(float, xy[s, i]), names, int(ranks[s, i]),
                                 round(float(chance[i]), 4)))  # fmt: skip
    columns = ["sentence", "switch", "position", "word", "step", "x", "y", "nearest by cosine", "rank of next word",
               "final probability of next word"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).round({"x": 3, "y": 3})
