"""The sentences and tables of the chapter `accuracy` on single encodings: costs, the plane, lengths, positions, tasks.
Exploratory, and written from the runs (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import accuracy, grids, throughput
from agf_core.analysis.accuracy import Page, Results
from agf_core.analysis.accuracy_field_figures import LAWS
from agf_core.analysis.accuracy_words import called, count, known, listed, shown, table
from agf_core.analysis.contrasts import against, mean
from agf_core.claims import CLAIMS, DELTA, SUPPORTED
from agf_core.encodings import ENCODINGS
from agf_core.figures import Estimate

FARTHEST = grids.LENGTHS[-1]
HOLDS = 1.0  # percent: a loss that rises by no more holds
SETTLED = 3.0  # percent: a loss so near to its last value has settled; single bins scatter by one


def ranking(results: Results) -> list[str]:
    """Encodings by their mean loss on bytes, the lowest first; without those that diverged, and the field alone."""
    loss = results.contest("bytes").groupby("name")["loss"].mean()
    return [n for n in loss[np.isfinite(loss)].sort_values().index if n != grids.FIELD_ONLY]


def against_agf(results: Results) -> pd.DataFrame:
    """Every encoding against AGF on bytes, each from its chosen start, corrected by Holm's rule."""
    runs = results.contest("bytes")
    return against(runs[runs["name"] != grids.FIELD_ONLY], "agf").sort_values("saved", ascending=False)


def exploratory(results: Results) -> str:
    """The table of `against_agf`, and which differences survive the correction."""
    found = against_agf(results)
    rows = [["compared with", "AGF saves, % of loss [95 %]", "seeds", "p", "p, Holm"]]
    for row in found.itertuples():
        p = [f"{v:.2g}" if np.isfinite(v) else "–" for v in (row.p, row.p_holm)]
        rows.append([called(row.name), shown(Estimate(row.saved, row.low, row.high)), str(row.n), *p])
    clear = found[found["p_holm"] < 0.05]
    better, worse = (clear.loc[sign * clear["saved"] > 0, "name"] for sign in (1, -1))
    small = clear.loc[clear["saved"].abs() < DELTA, "name"]
    only = _passed(results, set(clear["name"]))
    why = f": what passes there may not pass here ({listed(only)})" if only else ""
    return (
        f"After correction for {found['p'].notna().sum()} comparisons, AGF's loss is lower than that of "
        f"{listed(better)}, and higher than that of {listed(worse)}; by less than δ = {DELTA:g} %: {listed(small)}. "
        "A2 asks all its parts at once (intersection–union), so its rule needs no correction; this table explores, so "
        f"it corrects{why}.\n\n{table(rows)}"
    )


def _passed(results: Results, clear: set[str]) -> list[str]:
    """Rivals on bytes that meet A2's criterion, but are not among those that are clear after correction."""
    asked, found = CLAIMS["A2"].criterion.parts, accuracy.a2(results)
    parts = {n: f"bytes: {n}" for n in grids.PREVAILING if n not in clear}
    return [n for n, p in parts.items() if known(e := found[p])
            and asked[p].verdict(e.value, (e.low, e.high)) == SUPPORTED]  # fmt: skip


def costs(results: Results) -> str:
    """What each encoding is, what it costs and what it reaches: one row each, the best first."""
    runs, speeds = results.contest("bytes"), accuracy.speeds()
    rows = [["encoding", "family", "what it does", "own parameters", "bits a byte [95 %]", "training speed"]]
    for name in (*ranking(results), grids.FIELD_ONLY):
        part = runs[runs["name"] == name]
        if part.empty:
            continue
        what = ENCODINGS[name].description if name in ENCODINGS else "AGF's field without association"
        speed = f"{speeds[name]:.2f}" if name in speeds else "–"
        own = f"{part['own'].iloc[0]:,.0f}"
        rows.append([called(name), accuracy.family(name), what, own, shown(mean(part["loss"]), ".3f"), speed])
    total = runs["parameters"].dropna()
    spread = f"{total.min():,.0f} to {total.max():,.0f}" if len(total) else "an unknown number of"
    note = (
        "training speed is tokens a second of one thread over those of `learned`, from the stored benchmark "
        f"({throughput.SIZES[0]})"
        if speeds
        else "`make bench` has not stored a training speed yet"
    )
    return f"The models have {spread} parameters in all; {note}.\n\n{table(rows)}"


def plane_size(page: Page) -> str:
    """How the cells of the plane were trained: seeds, bytes, and the one rate that all of them have."""
    size = grids.SIZES[(page.deciding if len(page.deciding.plane) else page.here).profile]
    return (
        f"{count(size.plane, 'seed')} a cell, {size.tokens['plane'] / 1e6:.3g} M bytes a run, and one learning rate, "
        f"{grids.RATE:g}, for all cells"
    )


def plane(cells: pd.DataFrame, page: Page | None = None) -> str:
    """Which cells are lowest, and what training the law, and its place, are worth."""
    found = cells[np.isfinite(cells["more"])].sort_values("more")
    if found.empty:
        return "AGF's cell has no finite loss here, so nothing can be compared with it."
    text = [f"Of {len(found)} cells the lowest mean is that of {_cell(found.iloc[0])}."]
    if len(new := found[found["published"] == ""]) and found["published"].iloc[0]:
        text.append(f"Of those without a published name, that of {_cell(new.iloc[0])}.")
    if page is not None:
        text.append(f"These are {plane_size(page)}.")
        if order := ranking(page.deciding):
            size = grids.SIZES[page.deciding.profile]
            text.append(f"The table of encodings, with a tuned rate for each, {size.tokens['bytes'] / 1e6:.3g} M bytes "
                        f"and up to {count(size.confirmatory, 'seed')}, has {called(order[0])} lowest.")  # fmt: skip
    pairs = found.pivot_table(index=["law", "placement"], columns="trainable", values="loss").dropna()
    if {True, False} <= set(pairs):
        worth = 100 * (1 - pairs[True] / pairs[False])
        text.append(f"Training the law rather than freezing it at its start saves {worth.median():.1f} % (median).")
    placed = found.groupby("placement")["more"].median().sort_values()
    text.append("Median by placement: " + ", ".join(f"`{p}` {v:+.1f} %" for p, v in placed.items()) + ".")
    half = ((found["high"] - found["low"]) / 2).median()
    text.append(f"Intervals reach {half:.1f} points to either side (median)." if np.isfinite(half)
                else "With one seed a cell there are no intervals.")  # fmt: skip
    return " ".join(text)


def _cell(row: pd.Series) -> str:
    law, name = LAWS[row["law"]].replace("\n", " "), str(row["published"]).replace("\n", "")
    frozen = "" if row["trainable"] else ", frozen"
    interval = f" [{row['low']:.1f}, {row['high']:.1f}]" if np.isfinite([row["low"], row["high"]]).all() else ""
    named = f" ({name})" if name else ""
    return f"{law} as `{row['placement']}`{frozen}{named}, with {row['more']:+.1f} %{interval} against AGF's"


def lengths(results: Results) -> str:
    """Who still reads well at the farthest length, and whether the field's share out there goes with it."""
    found = results.lengths[np.isfinite(results.lengths["excess"])]
    far = found[found["multiple"] == FARTHEST]
    base = far["name"].map(found[found["multiple"] == 1].set_index("name")["loss"])
    holds = far["excess"] <= HOLDS / 100 * base
    whom = "every encoding that is defined there" if holds.all() else listed(far.loc[holds, "name"])
    text = f"At **{FARTHEST} times the training length** the loss holds (rises by at most {HOLDS:g} %) for {whom}"
    text += "" if holds.all() else f"; it rises for {listed(far[~holds].sort_values('excess')['name'])}"
    ends = [n for n in dict.fromkeys(found["name"]) if n not in set(far["name"])]
    text += f"; {listed(ends)} {'are' if ends[1:] else 'is'} not defined there" if ends else ""
    field = far.dropna(subset=["beyond"])
    if len(field) > 3 and np.ptp(field["beyond"]) > 0:
        rho = stats.spearmanr(field["beyond"], field["excess"]).statistic
        text += (
            f". Over the {len(field)} encodings with a field, the rise and the share of the field past the training "
            f"length have a rank correlation of {rho:.2f}"
        )
    return text + "."


def positions(results: Results) -> str:
    """After how many tokens read more context is worth nothing, by encoding."""
    settled: dict[int, list[str]] = {}
    for name, part in results.positions.groupby("name", sort=False):
        away = (part["loss"] / part["loss"].iloc[-1] - 1).abs() > SETTLED / 100
        settled.setdefault(int(part["position"][away].max() if away.any() else 0), []).append(str(name))
    said = "; ".join(f"{after} for {listed(names)}" for after, names in sorted(settled.items()))
    return (
        f"How many tokens are read before the loss stays within {SETTLED:g} % of its last value: {said or 'unknown'}. "
        "What these models get from more context than that is little, at whatever length they read."
    )


TASKS = {"tags": "Word classes", "recall": "Recall", "copy": "Copying"}


def tasks(page: Page) -> str:
    """Who is above chance where."""
    out = []
    for task, what in TASKS.items():
        runs = page.task(task)
        runs = runs[np.isfinite(runs["loss"])]
        if runs.empty:
            out.append(f"{what}: not run. The text {page.corpus} comes without word classes." if task == "tags"
                       else f"{what}: no run here.")  # fmt: skip
            continue
        score, chance = runs.groupby("name")["accuracy"].mean().sort_values(), runs["chance"].mean()
        above = [n for n in grids.SIX if score.get(n, 0) > chance + 0.05]
        if not above:
            out.append(f"{what}: nobody is more than 5 points above chance ({chance:.1%}). Not learned at this size: "
                       "**too small to tell**.")  # fmt: skip
            continue
        out.append(
            f"{what}: best is {called(score.index[-1])} with {score.iloc[-1]:.1%}; AGF {score.get('agf', np.nan):.1%}; "
            f"chance {chance:.1%}. More than 5 points above chance: {listed(above)}.{_luck(runs, above, chance)}"
        )
    return "\n".join(f"- {line}" for line in out)


def _luck(runs: pd.DataFrame, names: list[str], chance: float) -> str:
    """Where some seeds learn a task and others don't, a mean says little: how many did."""
    counts = {n: (part["accuracy"] > (1 + chance) / 2) for n, part in runs.groupby("name") if n in names}
    split = [f"{called(n)} {hit.sum()} of {len(hit)}" for n, hit in counts.items() if 0 < hit.sum() < len(hit)]
    return f" Learned by some seeds only, so the mean says little: {', '.join(split)}." if split else ""
