"""What the start of a field is worth in the chapter `accuracy`: rivals from the start that was not chosen, and what a
field is worth without AGF's start. Sentences written from the runs (ours).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from agf_core.analysis import accuracy, grids
from agf_core.analysis.accuracy import Page, Results
from agf_core.analysis.accuracy_field_figures import LAWS, cells
from agf_core.analysis.accuracy_words import called, count, known, listed, shown
from agf_core.analysis.contrasts import against, contrast, mean
from agf_core.figures import Estimate


def published(results: Results, names: Iterable[str]) -> pd.DataFrame:
    """The runs on bytes that a claim compares, but these encodings from their published starts."""
    names, runs = list(names), results.contest("bytes")
    other = results.published[results.published["name"].isin(names)]
    return pd.concat([runs[~runs["name"].isin(names)], other], ignore_index=True)


def matched_only(results: Results) -> list[str]:
    """Prevailing encodings that are compared from the matched start, and have a higher loss from the published one."""
    found = []
    for name in grids.PREVAILING:
        if not grids.has_start(name) or grids.chosen_start(name, "bytes") != "matched":
            continue
        losses = [runs[runs["name"] == name].set_index("seed")["loss"] for runs in
                  (results.tasks["bytes"], results.published)]  # fmt: skip
        one, other = losses[0].align(losses[1], join="inner")
        if len(one) and np.isfinite([one, other]).all() and other.mean() > one.mean():
            found.append(name)
    return found


def turned(results: Results, name: str) -> dict[str, tuple[Estimate, Estimate]]:
    """Parts of A1 that an encoding is in → the saving from its chosen and from its published start."""
    chosen, other = results.contest("bytes"), published(results, [name])
    return {p: (contrast(chosen, *pair), contrast(other, *pair)) for p, pair in accuracy.PAIRS.items() if name in pair}


def sign(e: Estimate) -> int:
    """1 or -1 where the interval excludes zero, or else 0."""
    return int(np.sign(e.value)) if known(e) and e.low * e.high > 0 else 0


def of_the_start(results: Results) -> list[str]:
    """For each of `matched_only`: its loss from the published start, and what A2 and A1 would find then."""
    out = []
    for name in matched_only(results):
        runs, who = published(results, [name]), called(name)
        seeds = set(runs.loc[runs["name"] == name, "seed"])
        same = runs[runs["seed"].isin(seeds)]
        loss = {n: shown(mean(same.loc[same["name"] == n, "loss"]), ".3f") for n in (name, "agf", "rotary")}
        text = (
            f"**The start decides on {who}.** It is compared from its *matched* start, the nearest to AGF's field, "
            f"which was the better one in tuning. From its *published* start its loss on bytes is {loss[name]} bits a "
            f"byte ({count(len(seeds), 'seed')}); on the same seeds AGF's is {loss['agf']}, rotary's {loss['rotary']}. "
            f"AGF then saves {shown(contrast(runs, 'agf', name))} over {who}"
        )
        for part, (chosen, other) in turned(results, name).items():
            text += f", and *{part}* of A1, where the {part.split()[-1]} is {who}, saves {shown(other)}, not "
            text += f"{shown(chosen)}: {_compared(chosen, other)}"
        out.append(text + ".")
    return out


def _compared(chosen: Estimate, other: Estimate) -> str:
    if not np.isfinite([chosen.value, other.value]).all():
        return "whether its sign is another is not known"
    if chosen.value * other.value > 0:
        return "the sign is the same"
    does = "raises" if other.value < 0 else "lowers"
    if sign(other):
        return f"it {does} the loss, the other sign"
    return f"in the mean it {does} the loss, the other sign" + (", though the interval includes 0" * known(other))


def lost(results: Results) -> str:
    """Which parts of A1 would not lower the loss from the other start, as a sentence; or nothing."""
    parts = [(p, n) for n in matched_only(results) for p, (one, other) in turned(results, n).items()
             if one.value > 0 and other.value <= 0]  # fmt: skip
    return "".join(
        f" But {part} does so only with {called(n)} from AGF's start, which {part.split()[0]} cannot have: see the "
        "short answer."
        for part, n in parts
    )


def fields(results: Results) -> list[str]:
    """The encodings that are a field of another law than AGF's."""
    names = dict.fromkeys(results.contest("bytes")["name"])
    other = {"untied", accuracy.TWIN, grids.FIELD_ONLY}
    return [n for n in names if not n.startswith("agf") and n not in other and accuracy.family(n) == "decoupled"]


def placed(runs: pd.DataFrame, names: list[str]) -> dict[str, list[str]]:
    """ahead, level, behind: which of these are so of AGF, corrected by Holm's rule for every encoding there is."""
    found = against(runs[runs["name"] != grids.FIELD_ONLY], "agf")
    found = found[found["name"].isin(names)]
    clear = found["p_holm"] < 0.05
    ahead, behind = (clear & (side * found["saved"] > 0) for side in (-1, 1))
    sides = {"ahead": ahead, "level": found["p_holm"] >= 0.05, "behind": behind}
    return {side: found.loc[rows, "name"].tolist() for side, rows in sides.items()}


def of_the_field(page: Page, gains: list[str]) -> list[str]:
    """Whether what AGF gains over entangled encodings (`gains`) comes from its law, from a field, or from its start."""
    results, names = page.deciding, fields(page.deciding)
    chosen = placed(results.contest("bytes"), names)
    starting = [n for n in names if n in set(results.published["name"])]
    own = published(results, starting)
    there = placed(own, starting)
    points = [
        f"Fields of another law, each from its chosen start, ahead of AGF on bytes: {listed(chosen['ahead'])}; not to "
        f"be told from it: {listed(chosen['level'])}; behind it: {listed(chosen['behind'])}. From their published "
        f"starts, ahead: {listed(there['ahead'])}; not to be told from it: {_seeded(own, there['level'])}; behind: "
        f"{listed(there['behind'])}."
    ]
    if not gains:
        return points
    said = []
    if reach := there["ahead"] + there["level"]:
        said.append(
            f"What AGF gains over {listed(gains)} need not come from its power law, nor from its start: "
            f"{listed(reach)} {'are' if reach[1:] else 'is'} not clearly behind it with neither."
        )
    if behind := there["behind"]:
        rest = "; ".join(f"{called(n)} {shown(contrast(own, n, 'rotary'))}" for n in behind)
        said.append(
            f"Having a field is not enough: from {'their published starts' if behind[1:] else 'its published start'}, "
            f"{listed(behind)} {'are' if behind[1:] else 'is'} behind AGF. Saved over rotary from there: {rest}."
        )
    said.append(_law(page))
    said.append(
        "A field from a matched start begins at AGF's power law, or as near as its own law comes: such runs can't tell "
        "what a field is worth from what that start is worth."
    )
    return [*points, " ".join(filter(None, said))]


def _seeded(runs: pd.DataFrame, names: list[str]) -> str:
    """These names, with the fewest seeds behind one of them."""
    if not names:
        return "none"
    fewest = min(runs.loc[runs["name"] == n, "seed"].nunique() for n in names)
    return f"{listed(names)} (as far as {count(fewest, 'seed')} can tell)"


def _law(page: Page) -> str:
    """Laws that are clearly behind AGF's in the plane, placed, trained and started alike."""
    table = cells(page.plane)
    table = table[(table["placement"] == "logit") & table["trainable"] & (table["law"] != "power")]
    found = [
        f"the loss of the trained {LAWS[row.law].replace(chr(10), ' ')} is {row.more:+.1f} % [{row.low:.1f}, "
        f"{row.high:.1f}] against AGF's ({count(row.seeds, 'seed')})"
        for row in table.itertuples()
        if np.isfinite(row.low) and row.low > 0
    ]
    return f"Nor is the law nothing: in the plane, started alike, {'; '.join(found)}." if found else ""
