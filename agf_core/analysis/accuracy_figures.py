"""The pictures of the chapter `accuracy` that compare encodings: tuning, verdicts by true effect, contrasts, losses,
tasks. Each function returns a figure and the table of what it draws, for `figures.publish` (ours).

Reference runs are filled, runs made here hollow; a run that diverged has no place on an axis and is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots
from matplotlib.ticker import FixedLocator, NullLocator

from agf_core.analysis import accuracy, grids
from agf_core.analysis.accuracy import Page, Results
from agf_core.analysis.accuracy_words import called, known
from agf_core.analysis.contrasts import mean
from agf_core.claims import DELTA, VERDICTS
from agf_core.figures import COLOURS, WIDTH

Drawn = tuple[Figure, pd.DataFrame]
FAMILIES = {"decoupled": "third", "entangled": "fourth", "none": "chance"}
HERE, STORED = "this run", "reference runs"
RATES = dict(zip(grids.RATES, (("v", "power"), ("s", "third"), ("o", "exponential"), ("^", "limit"))))
WORDS = {"supported": "third", "mixed": "exponential", "inconclusive": "chance", "not supported": "limit"}


def sides(page: Page) -> list[tuple[str, Results]]:
    """What stands beside each other: the reference runs, and the run here where it is another one."""
    if page.reference is None:
        return [(HERE, page.here)]
    return [(STORED, page.reference)] + ([] if page.same else [(HERE, page.here)])


def colour(name: str) -> str:
    """By family."""
    return COLOURS[FAMILIES[accuracy.family(name)]]


def means(runs: pd.DataFrame, value: str = "loss") -> pd.DataFrame:
    """name, value, low, high, seeds: the mean over seeds with its interval."""
    rows = [
        (name, e.value, e.low, e.high, len(part))
        for name, part in runs.groupby("name", sort=False)
        for e in [mean(part[value])]
    ]
    return pd.DataFrame(rows, columns=["name", value, "low", "high", "seeds"])


def dots(ax: Axes, table: pd.DataFrame, value: str, y: np.ndarray, *, filled: bool = True, **style: Any) -> None:
    """Points with horizontal intervals, from the columns value, low, high; an unknown interval is not drawn."""
    keep = np.isfinite(table[value].to_numpy(float))
    x, low, high = table.loc[keep, [value, "low", "high"]].to_numpy(float).T
    face = {} if filled else {"mfc": "white"}
    ax.errorbar(x, y[keep], xerr=np.array([x - low, high - x]), **{"fmt": "o", "ms": 5, "lw": 1.3, **face, **style})


def tuning(table: pd.DataFrame) -> Drawn:
    """Every encoding's loss at each rate, in percent above its best one."""
    rows = table.groupby(["task", "name", "start", "rate"], sort=False)["loss"].mean().reset_index()
    best = rows.groupby(["task", "name"])["loss"].transform("min")
    rows["above"] = 100 * (rows["loss"] / best - 1)
    least = rows.groupby(["task", "name", "start"])["loss"].transform("min")
    rows["chosen"] = rows["loss"] == least
    rows["row"] = [called(n) + (", published" if s == "published" else "") for n, s in zip(rows["name"], rows["start"])]
    tasks = list(dict.fromkeys(rows["task"]))
    labels = [row for name in dict.fromkeys(rows["name"]) for row in dict.fromkeys(rows[rows["name"] == name]["row"])]
    fig, axes = subplots(1, len(tasks), figsize=(WIDTH, 1.3 + 0.27 * len(labels)), sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    for ax, task in zip(axes[0], tasks):
        here = rows[rows["task"] == task]
        for rate, (marker, tone) in RATES.items():
            at = here[here["rate"] == rate]
            y = at["row"].map(labels.index)
            ax.scatter(at["above"], y, s=26, marker=marker, color=COLOURS[tone], label=f"{rate:g}", zorder=3)
        at = here[here["chosen"]]
        ax.scatter(at["above"], at["row"].map(labels.index), s=110, facecolors="none", edgecolors=COLOURS["data"],
                   lw=1, label="best of its row", zorder=4)  # fmt: skip
        ax.set(title=task, xlabel="% above its best loss")
        ax.set_xscale("symlog", linthresh=1, linscale=0.6)
        _ticks(ax, (0, 1, 3, 10, 30))
        ax.set_xlim(-0.2, 1.2 * max(1.0, float(np.nanmax(here["above"].replace(np.inf, np.nan)))))
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    axes[0][0].set_yticks(range(len(labels)), labels)
    axes[0][0].invert_yaxis()
    handles, names = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, [f"rate {n}" if n[0].isdigit() else n for n in names], loc="outside lower center", ncols=3)
    return fig, rows


def _ticks(ax: Axes, at: tuple[float, ...]) -> None:
    ax.xaxis.set_major_locator(FixedLocator(list(at)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")


def operating(worlds: dict[str, pd.DataFrame]) -> Drawn:
    """Shares of verdicts by what is true, a panel for each claim."""
    rows = max(len(w) for w in worlds.values())
    fig, axes = subplots(1, len(worlds), figsize=(WIDTH, 1.4 + 0.3 * rows), squeeze=False, layout="constrained")
    for ax, (id, table) in zip(axes[0], worlds.items()):
        left = np.zeros(len(table))
        for word in (v for v in VERDICTS if v in table):
            ax.barh(np.arange(len(table)), table[word], left=left, color=COLOURS[WORDS[word]], height=0.75)
            left += table[word].to_numpy()
        names = [f"{w} %" if w[0].isdigit() else w for w in table["world"]]
        ax.set_yticks(range(len(table)), names)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel="share of worlds", title=id)
    axes[0][0].set_ylabel("true saving in every part")
    handles = [Line2D([], [], marker="s", ls="", ms=8, color=COLOURS[c], label=w) for w, c in WORDS.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig, pd.concat([t.assign(claim=id) for id, t in worlds.items()], ignore_index=True).fillna(0.0)


def contrasts(page: Page, id: str) -> Drawn:
    """Percent of held-out loss saved, part by part, on an axis that is linear within ± 1 and logarithmic beyond."""
    rows = []
    for runs, results in sides(page):
        for part, e in accuracy.ESTIMATES[id](results).items():
            unit, _, name = part.rpartition(": ")
            rows.append((id, unit or "bytes", name, runs, e.value, e.low, e.high))
    table = pd.DataFrame(rows, columns=["claim", "unit", "part", "runs", "saved", "low", "high"])
    drawn = table[table["part"] != "A/A"]
    labels, units = list(dict.fromkeys(drawn["part"])), list(dict.fromkeys(drawn["unit"]))
    fig, axes = subplots(1, len(units), figsize=(WIDTH, 1.9 + 0.38 * len(labels)), sharey=True, sharex=True,
                         squeeze=False, layout="constrained")  # fmt: skip
    for ax, unit in zip(axes[0], units):
        twins = accuracy.a2(page.deciding)["A/A"]
        if unit == "bytes" and known(twins):
            ax.axvspan(twins.low, twins.high, color=COLOURS["power"], alpha=0.2, lw=0, label="A/A pair, 95 %")
        ax.axvline(0, color=COLOURS["chance"], lw=1)
        ax.axvline(DELTA, color=COLOURS["limit"], lw=1.2, ls="--", label=f"δ = {DELTA:g} %")
        for shift, runs in ((-0.13, STORED), (0.13, HERE)):
            at = drawn[(drawn["unit"] == unit) & (drawn["runs"] == runs)]
            if len(at):
                y = at["part"].map(labels.index).to_numpy() + (shift if len(sides(page)) > 1 else 0.0)
                dots(ax, at, "saved", y, filled=runs == STORED, color=COLOURS["data"], label=f"{runs}, 95 %")
                for height in y[~np.isfinite(at["saved"])]:
                    ax.annotate("not known", (0, height), fontsize=9, va="center", ha="center", color=COLOURS["data"])
        ax.set(title=f"on {unit}", xscale="symlog", ylim=(len(labels) - 0.5, -0.5))
        ax.set_xscale("symlog", linthresh=1, linscale=1)
    _ticks(axes[0][0], (-30, -10, -3, -1, 0, 1, 3, 10, 30))
    for ax in axes[0]:
        ax.set_xlabel("% of held-out loss saved")
    axes[0][0].set_yticks(range(len(labels)), [called(n) for n in labels])
    handles, names = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=2)
    return fig, table


def encodings(page: Page) -> Drawn:
    """Bits a byte of every encoding, matched and published starts, in order of the deciding runs' losses."""
    order = means(page.deciding.tasks["bytes"]).sort_values("loss", na_position="last")["name"].tolist()
    panels = sides(page)
    fig, axes = subplots(1, len(panels), figsize=(WIDTH, 1.6 + 0.3 * len(order)), sharey=True, squeeze=False,
                         layout="constrained")  # fmt: skip
    tables = []
    for ax, (runs, results) in zip(axes[0], panels):
        for start, data, shift in (("matched", results.tasks["bytes"], -0.12), ("published", results.published, 0.18)):
            table = means(data)
            tables.append(table.assign(start=start, runs=runs))
            for row in table.itertuples():
                at = table.loc[[row.Index]]
                y = np.array([order.index(row.name) + shift])
                dots(ax, at, "loss", y, filled=start == "matched", color=colour(row.name),
                     fmt="o" if start == "matched" else "D")  # fmt: skip
        ax.set(title=runs, xlabel="bits a byte, held out")
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    axes[0][0].set_yticks(range(len(order)), [called(n) for n in order])
    axes[0][0].set_ylim(len(order) - 0.5, -0.5)
    handles = [
        *(Line2D([], [], marker="o", color=COLOURS[c], label=f) for f, c in FAMILIES.items()),
        Line2D([], [], marker="o", color=COLOURS["data"], ls="", label="matched start"),
        Line2D([], [], marker="D", color=COLOURS["data"], ls="", mfc="white", label="published start"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, pd.concat(tables, ignore_index=True)


TASKS = {"tags": "word classes", "recall": "recall", "copy": "copying"}


def tasks(page: Page) -> Drawn:
    """Accuracy on tags, recall and copying: a dot a seed, and chance."""
    panels = [t for t in TASKS if len(page.task(t))]
    fig, axes = subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True, squeeze=False, layout="constrained")
    tables = []
    for ax, task in zip(axes[0], panels):
        for (runs, results), shift in zip(sides(page), (-0.12, 0.16) if len(sides(page)) > 1 else (0.0,)):
            table = results.tasks[task][lambda t: np.isfinite(t["loss"])]
            if table.empty:
                continue
            y = table["name"].map(grids.SIX.index).to_numpy(float) + shift
            tables.append(table[["name", "seed", "accuracy", "chance", "targets"]].assign(task=task, runs=runs))
            for name in dict.fromkeys(table["name"]):
                at = (table["name"] == name).to_numpy()
                face = colour(name) if runs == STORED else "white"
                ax.scatter(table["accuracy"][at], y[at], s=24, color=face, edgecolors=colour(name), zorder=3)
        chance = page.task(task)["chance"].mean()
        ax.axvline(chance, color=COLOURS["chance"], ls="--", lw=1.2)
        ax.set(title=TASKS[task], xlabel="accuracy")
        ax.set_xlim(0, 1.03)
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    axes[0][0].set_yticks(range(len(grids.SIX)), [called(n) for n in grids.SIX])
    axes[0][0].set_ylim(len(grids.SIX) - 0.5, -0.5)
    handles = [Line2D([], [], color=COLOURS["chance"], ls="--", label="chance")]
    for runs, _ in sides(page):
        face = COLOURS["data"] if runs == STORED else "white"
        handles.append(Line2D([], [], marker="o", ls="", color=COLOURS["data"], mfc=face, label=f"{runs}, one a seed"))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig, pd.concat(tables, ignore_index=True)
