"""The sentences of the chapter `parts_of_speech`, written from the runs: none is typed, and none outlives a run that
says otherwise (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from agf_core.analysis import class_worlds
from agf_core.analysis.accuracy_words import known, listed, shown, table
from agf_core.analysis.class_map import SHARES
from agf_core.analysis.class_terms import ENOUGH
from agf_core.analysis.operating import foretold
from agf_core.analysis.parts_of_speech import (
    BINS,
    FIRST,
    SECOND,
    Page,
    accuracy,
    best_runs,
    estimates,
    evidence,
    of_heads,
    powerless,
)  # fmt: skip
from agf_core.analysis.parts_of_speech_figures import CLASSES, asked, named, rows_of, used
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.tagger import CLEAR
from agf_core.analysis.windows import Array
from agf_core.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate, Number
from agf_core.sources import loaded


def word(page: Page) -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(evidence(page))


def no_evidence(page: Page) -> str:
    """Why the criterion was not asked."""
    return (
        f"**A7: {TOO_SMALL}.** The model that carries the verdict is not here: {page.missing}. A word model trained "
        "here reads rare words as symbols of their classes, and has few heads; it is only shown."
    )


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    found = estimates(page)
    return {"a7": word(page), "first": found[FIRST], "second": found[SECOND], "heads": int(page.text().enough.size),
            "median_excess": 100 * _median(page, FIRST)}  # fmt: skip


def _median(page: Page, part: str) -> float:
    return float(np.median(page.text(part).excess().mean(0)))


def _count(page: Page, part: str) -> str:
    enough = page.text(part).enough
    return f"{int(enough.sum())} of {enough.size} heads on {page.texts[part]}"


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    if page.missing:
        head = f"Which classes attract attention? **A7: {{a7}}**: {page.missing}. What follows is {page.name}."
    else:
        head = f"Which classes attract attention? **A7: {{a7}}** for {page.name} ({page.source})."
    points = [
        head,
        "Beyond distance, frequency and place in the sentence, and beyond what the same labels explain when word types "
        f"swap them, pairs of classes explain {ENOUGH:.0%} or more of what enters the softmax in "
        f"{_count(page, FIRST)} and {_count(page, SECOND)}: {shown(of_heads(page.text(FIRST)))} and "
        f"{shown(of_heads(page.text(SECOND)))} of the heads. The criterion asks for {asked():g}, interval included.",
        f"The median head: distance, frequency and place {_base(page, FIRST):.0%}, classes {_median(page, FIRST):.1%} "
        "(less what permuted labels add); the most that classes add in any is "
        f"{page.text().excess().mean(0).max():.0%}.",
        f"{_attracting(page)} (mean over {_which(page)}).",
        _order(page),
    ]
    notes = dict.fromkeys([*page.notes, *(note for origin in loaded() if (note := origin.get("note")))])
    text = "".join(f"*{note[0].upper()}{note[1:]}.*\n\n" for note in notes) + "\n".join(f"- {p}" for p in points if p)
    return text.replace("{", "{{").replace("}", "}}").replace("{{a7}}", "{a7}")


def _base(page: Page, part: str) -> float:
    return float(np.median(page.text(part).base.mean(0)))


def _which(page: Page) -> str:
    return "all heads" if page.layer < 0 else f"the heads of layer {page.layer + 1}"


def _attracting(page: Page) -> str:
    """Which classes have mass on both texts, and which turn round."""
    (up, down), (up2, down2) = _masses(page), _masses(page, SECOND)
    first, second = (page.texts[p] for p in (FIRST, SECOND))
    both, neither = [n for n in up if n in up2], [n for n in down if n in down2]
    text = f"On both texts, intervals apart from 1, more attention than expected goes to {listed(both)}, less to "
    text += listed(neither)
    turned = {(first, second): [n for n in up if n in down2], (second, first): [n for n in down if n in up2]}
    return text + "".join(
        f"; {listed(names)}: more on {more}, less on {less}" for (more, less), names in turned.items() if names
    )


def _masses(page: Page, part: str = FIRST) -> tuple[list[str], list[str]]:
    """Classes whose mass lies above what is expected, and below, intervals apart from 1."""
    one = page.maps[part]
    value, low, high = one.mass(page.layer)
    order = np.argsort(-np.nan_to_num(value))
    drawn = set(used(one))
    name = [{".": "punctuation", "X": "other words"}.get(n, f"{CLASSES.get(n, n)}s") for n in one.names]
    return ([name[i] for i in order if low[i] > 0 and i in drawn],
            [name[i] for i in order[::-1] if high[i] < 0 and i in drawn])  # fmt: skip


def _order(page: Page) -> str:
    """What is left on tokens in no order."""
    text, drawn = (float(np.median(page.terms[FIRST, given].excess().mean(0))) for given in INPUTS[:2])
    fresh = float(np.median(page.terms[FIRST, INPUTS[2]].excess().mean(0)))
    return (
        f"On the same tokens in no order classes add {drawn:.1%} in the median head (in order {text:.1%}, untrained "
        f"{round(fresh, 3) + 0.0:.1%}): so far as both agree, it belongs to the words themselves, not to sentences."
    )


def calibration(page: Page) -> str:
    """Whether planted heads are recovered, and what the rule says of them."""
    p = page.planted
    pairs = p[p["kind"].isin(("classes", "weak"))]
    covered = ((pairs["low"] <= pairs["planted"]) & (pairs["planted"] <= pairs["high"])).mean()
    most = p[p["kind"].isin(("frequency", "masses"))]["excess"].max()
    why, (power, false) = powerless(page.worlds), class_worlds.told(page.worlds)
    verdict = page.worlds.set_index("world").reindex(columns=[SUPPORTED, INCONCLUSIVE], fill_value=0.0)
    near = [f"where {class_worlds.SHARE[w]:.0%} of the heads have class pairs, *{SUPPORTED}* in "
            f"{verdict[SUPPORTED][w]:.0%} of the worlds and *{INCONCLUSIVE}* in {verdict[INCONCLUSIVE][w]:.0%}"
            for w in class_worlds.NEAR]  # fmt: skip
    return (
        f"Of the heads with class pairs, {covered:.0%} of the 95 % intervals hold what was planted (mean planted "
        f"{pairs['planted'].mean():.1%}, found {pairs['excess'].mean():.1%}). Where distance and frequency make a "
        f"head, or a mass for every word type, classes seem to add at most {most:.1%}. "
        + (f"**The rule cannot decide here**: {why}." if why else "The rule can decide: it calls at least "
           f"{power:.0%} of the worlds in which it should be *{SUPPORTED}* so, and at most {false:.0%} of the others.")
        + f" Nearer to the share it asks for, {asked():g}, it says: {'; '.join(near)}."
    )  # fmt: skip


def heads(page: Page) -> str:
    """How many heads pass, by layer, and what permuted labels and punctuation alone explain."""
    rows = [["", *(page.texts[p] for p in (FIRST, SECOND))]]
    each = [page.text(p) for p in (FIRST, SECOND)]
    rows.append([f"share of heads with {ENOUGH:.0%} or more", *(shown(of_heads(t)) for t in each)])
    rows.append(["by layer", *(", ".join(f"{x:.0%}" for x in t.enough.mean(1)) for t in each)])
    labels = {"distance × frequency and place, median head": lambda t: t.base.mean(0),
              "classes add": lambda t: t.added[0].mean(0),
              "permuted labels add": lambda t: t.null.mean(0),
              "punctuation against all other words adds": lambda t: t.added[1].mean(0),
              "classes, beyond permuted labels": lambda t: t.excess().mean(0)}  # fmt: skip
    rows += [[label, *(f"{np.median(of(t)):.1%}" for t in each)] for label, of in labels.items()]
    rows.append(["queries that count", *(f"{t.queries:,}" for t in each)])
    return (f"{table(rows)}\n\nAll shares are of the variance of what enters the softmax within a query's row, on "
            "documents that the fit has not seen.")  # fmt: skip


def controls(page: Page) -> str:
    """What the rows beside the model say."""
    text = [f"{label}: {shown(e)} of {number} heads" for label, how, number, e in rows_of(page) if how in ("control",)]
    out = f"Controls, on every third window: {'; '.join(text)}. {_order(page)}"
    if page.words.empty:
        return f"{out} No heads of word models are measured here, and none are stored in this copy of the library."
    best = best_runs(page.words)
    first = best[best["part"] == FIRST]
    many = (first if len(first) else best)["excess"]
    stored = best["runs"].iloc[0] == "reference"
    source = f"Reference runs ({page.made})" if stored else "Word models trained for this page"
    return (f"{out} {source} read rare words as the symbol of their class: classes add {many.median():.1%} in their "
            f"median head, {(many >= ENOUGH).mean():.0%} of {len(many)} heads reach {ENOUGH:.0%}. They carry no part "
            "of the verdict.")  # fmt: skip


def map_(page: Page) -> str:
    """The strongest cells of the map."""
    one = page.maps[FIRST]
    value, low, high = one.of(page.layer)
    enough = np.isfinite(value) & (one.pairs >= 0.001 * one.pairs.sum())
    clear = enough & ((low > 0) | (high < 0))
    strongest = listed(_cell(page, value, *i) for i in _extreme(np.where(clear, value, np.nan), 3, -1))
    weakest = listed(_cell(page, value, *i) for i in _extreme(np.where(clear, value, np.nan), 3, 1))
    return (f"{int(clear.sum())} of {int(enough.sum())} cells with a thousandth of the pairs or more differ from what "
            f"is expected. Strongest: {strongest}. Weakest: {weakest}.")  # fmt: skip


def _extreme(value: Array, count: int, sign: int) -> list[tuple[int, int]]:
    """Where the largest (sign −1) finite values above 0 are, or the smallest below."""
    order = np.argsort(np.nan_to_num(sign * value, nan=np.inf), axis=None)[:count]
    cells = [(int(i) // value.shape[1], int(i) % value.shape[1]) for i in order]
    return [c for c in cells if np.isfinite(value[c]) and sign * value[c] < 0]


def _cell(page: Page, value: Array, query: int, key: int) -> str:
    names = [CLASSES.get(n, n) for n in page.maps[FIRST].names]
    return f"{names[query]} → {names[key]} (× {np.exp(value[query, key]):.2f})"


def masses(page: Page) -> str:
    """Which classes have mass on both texts."""
    shares = page.maps[FIRST].shares.mean((0, 1))
    elsewhere = ", ".join(f"{name} {s:.0%}" for name, s in zip(SHARES, shares))
    return (f"{_attracting(page)}. "
            f"Special tokens and the first keys are apart from all of this: of the attention of the queries that count "
            f"goes, in the mean of all heads, to {elsewhere} (classes are compared in the window).")  # fmt: skip


def tagging(page: Page) -> str:
    """Taggers by class and by distance, against the floor."""
    found = best_runs(accuracy(page, "distance"))
    if found.empty:
        return "No tagger is measured here, and none is stored in this copy of the library."
    alone = ("no place", "one tag")
    rows = [["", *(b if b in alone else f"{b} away" for b in BINS)]]
    for encoding, part in found.groupby("encoding", sort=False):
        at = {r.what: Estimate(r.accuracy, r.low, r.high) for r in part.itertuples()}
        rows.append([named(str(encoding)), *(shown(at[b], ".3f") if b in at and known(at[b]) else
                                             f"{at[b].value:.3f}" if b in at else "–" for b in BINS)])  # fmt: skip
    number = found.groupby("what")["number"].max()
    where = "a reference run" if found["runs"].iloc[0] == "reference" else "a run made for this page"
    counts = "; ".join(f"{b}: {number[b]:,.0f}" for b in BINS if b in number)
    better = _better(found, [b for b in BINS if b not in alone and b in number])
    return f"Words of {where}, by places to the deciding word: {counts}. {better}{_here(page)}\n\n{table(rows)}"


def _better(found: pd.DataFrame, bins: list[str]) -> str:
    """Which taggers' intervals lie above the word's commonest tag, by places to the deciding word."""
    floor = found[found["encoding"] == "commonest tag"].set_index("what")["accuracy"]
    above = found[found["low"] > found["what"].map(floor)].sort_values("accuracy", ascending=False)
    of = {b: [named(str(e)) for e in above.loc[above["what"] == b, "encoding"]] for b in bins}
    last = max((i for i, b in enumerate(bins) if of[b]), default=-1)
    said = [f"at {b}: {listed(of[b]) if of[b] else 'none'}" for b in bins[: last + 1]]
    text, floor_ = "", "the word's commonest tag"
    if said:
        text, floor_ = f"Taggers whose interval lies above {floor_}, highest first: {'; '.join(said)}. ", "that tag"
    if rest := bins[last + 1 :]:
        start = rest[0].split("–")[0]
        text += f"From {start} place{'s' * (start != '1')} on no tagger is shown to do better than {floor_}."
    return text.strip()


def runs_drawn(page: Page) -> str:
    """Whose taggers the pictures draw, for their captions."""
    stored = best_runs(page.tagged)["runs"].iloc[0] == "reference"
    return f"Drawn: {'reference runs' if stored else 'runs made for this page'}."


def _here(page: Page) -> str:
    """How the taggers made here compare with the reference runs, where there are both."""
    words = page.tagged[(page.tagged["by"] == "distance") & (page.tagged["what"] != CLEAR)]
    if words["runs"].nunique() < 2:
        return ""
    sums = words.groupby(["runs", "encoding"])[["right", "number"]].sum()
    right = sums["right"] / sums["number"]
    first = {runs: (named(str(part.idxmax()[1])), part.max()) for runs, part in right.groupby("runs")}
    return (
        f" On words with several tags the taggers made here are at most {first['here'][1]:.1%} right "
        f"({first['here'][0]}), those of the reference runs {first['reference'][1]:.1%} ({first['reference'][0]})."
    )


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    if page.profile == "smoke":
        return "Nothing, yet: this text is too short, and the pictures show only that they can be made."
    if page.missing:
        return no_evidence(page)
    verdict = word(page)
    said = {
        SUPPORTED: "Classes are more than distance, frequency and place here: most heads tell them apart.",
        NOT_SUPPORTED: "In most heads classes are distance, frequency and place: what is left is too little.",
        INCONCLUSIVE: "Whether most heads tell classes apart is not settled: heads of a layer are alike, so the "
        f"share's interval is wide ({shown(estimates(page)[FIRST])} and {shown(estimates(page)[SECOND])}).",
        TOO_SMALL: "The rule says nothing here.",
    }[verdict]  # fmt: skip
    base, classes = _base(page, FIRST), _median(page, FIRST)
    points = [
        said,
        f"Either way classes are the smaller part: in the median head {classes:.1%} of the variance, against "
        f"{base:.0%} for distance, frequency and place; what remains is not taken apart here."
        if classes < base else
        f"In the median head classes explain {classes:.1%} of the variance, distance, frequency and place {base:.0%}.",
        f"Punctuation against all other words adds {_alone(page):.1%} in the median head, all "
        f"classes {float(np.median(page.text().added[0].mean(0))):.1%}, what permuted labels add not yet taken off.",
    ]  # fmt: skip
    return "\n".join(f"- {point}" for point in points)


def _alone(page: Page) -> float:
    return float(np.median(page.text().added[1].mean(0)))
