"""The sentences of the chapter `decomposition`, written from the runs: none is typed, and none outlives a run that says
otherwise (ours).
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import accuracy, accuracy_prose
from agf_core.analysis.accuracy_words import known, table
from agf_core.analysis.decomposition import (
    ABSOLUTE,
    FREE,
    KINDS,
    RANDOM,
    UNIFORM,
    UNTRAINED,
    Page,
    by_part,
    parts,
    shares,
)
from agf_core.analysis.decomposition_figures import PART_NAMES, panels, titled, trained
from agf_core.analysis.decomposition_words import counted, difference, having, percent, shown, turn
from agf_core.analysis.heads import Heads
from agf_core.analysis.split import ELIGIBLE, PARTS
from agf_core.analysis.terms import TERMS
from agf_core.claims import DELTA
from agf_core.figures import Number
from agf_core.sources import loaded

FIELDS = ("t5", "agf", *FREE)


def no_evidence(page: Page) -> str:
    """Why the criterion of A1 was not asked."""
    return accuracy_prose.no_evidence(page.pairs, "A1")


def whose(page: Page) -> str:
    """Whose heads are shown, in words."""
    if page.reference is None:
        return "No head of a reference run is stored in this copy of the library: all heads are those of the run here."
    if page.same:
        return "The heads here are those of the reference runs."
    return (
        f"Heads are those of the reference runs ({page.reference.seeds} of them with learned positions); controls, "
        "untrained models, the pretrained one and the head that is taken apart are measured here."
    )


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    first = {kind: shares(page.of(kind), 0)["cross"] for kind in ABSOLUTE}
    there = page.reference.ids if page.reference else frozenset()
    return {
        "a1": accuracy_prose.word(page.pairs, "A1"), "models": len(page.here.ids | there),
        **{f"cross_{kind}": e for kind, e in first.items() if known(e)},
    }  # fmt: skip


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    points = ["Does decoupling lower the loss? **A1: {a1}.** " + _pairs(page)]
    for kind in ABSOLUTE:
        if models := page.of(kind):
            found = shares(models, 0)
            points.append(
                f"**{titled(kind)} positions**, first layer: {shown(found['where·where'])} of how a head's scores vary "
                f"is place with place, {shown(found['cross'])} the two cross terms that adding makes, the rest meaning "
                "with meaning."
            )
    if "text" in page.elsewhere:
        points.append(_elsewhere(page))
    points += [_distance(page), whose(page)]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    text = "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {point}" for point in points)
    return text if not page.missing else f"{text}\n- {page.missing}."


def _pairs(page: Page) -> str:
    saved = accuracy.a1(page.pairs.deciding)
    return "; ".join(f"{pair} saves {shown(e)}" for pair, e in saved.items()) + " of the held-out loss."


def _elsewhere(page: Page) -> str:
    found = shares([page.elsewhere["text"]])
    return (
        f"**{page.name}** ({page.source}), mean of all heads: {shown(found['where·where'])} is place with place, "
        f"{shown(found['cross'])} the cross terms."
    )


def _distance(page: Page) -> str:
    """Between which kinds of models distance explains most and least."""
    found = {kind: parts(page.of(kind))["distance"] for kind in KINDS if page.of(kind)}
    most, least = (pick(found, key=lambda k: found[k].value) for pick in (max, min))
    return (
        f"Distance alone explains most of what enters the softmax in models with {having(most)} "
        f"({shown(found[most])}), least in those with {having(least)} ({shown(found[least])})."
    )


def calibration(page: Page) -> str:
    """How near the mean by position comes to the exact split."""
    out = []
    for kind in ABSOLUTE:
        pairs = [(m.terms.shares[0], m.exact.shares[0]) for m in page.of(kind) if m.exact is not None]
        if pairs:
            out.append(f"{titled(kind)} positions: {_apart(pairs)}")
    one = page.elsewhere.get("text")
    if one and one.exact is not None:
        out.append(f"{page.name}: {_apart([(one.terms.shares[0], one.exact.shares[0])])}")
    lines = "\n".join(f"- {line}." for line in out)
    return f"How far the share by mean position lies from the exact one, at the first layer:\n\n{lines}"


def _apart(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    distance = np.abs(np.concatenate([a - b for a, b in pairs]))
    distance = distance[np.isfinite(distance).all(-1)]
    worst = TERMS[int(distance.max(0).argmax())]
    return (
        f"{distance.mean():.3f} in the mean of the terms, at most {distance.max():.3f} ({worst}), over {len(distance)} "
        "heads"
    )


def terms(page: Page) -> str:
    """A row for each kind of model and layer: the four terms."""
    rows = [["positions", "layer", *TERMS, "models"]]
    models = {**{titled(kind): page.of(kind) for kind in KINDS}, titled(UNTRAINED): page.untrained}
    models |= {titled(k): v for k, v in page.controls.items()}
    for name, found in models.items():
        for layer in range(found[0].terms.shares.shape[0] if found else 0):
            e = shares(found, layer)
            if np.isfinite(e[TERMS[0]].value):
                rows.append([name, str(layer + 1), *(shown(e[t]) for t in TERMS), str(len(found))])
            else:
                rows.append([name, str(layer + 1), *["no score varies"] * 4, str(len(found))])
    if "text" in page.elsewhere:
        for layer in range(page.elsewhere["text"].terms.shares.shape[0]):
            e = shares([page.elsewhere["text"]], layer)
            rows.append([page.name, str(layer + 1), *(shown(e[t]) for t in TERMS), "1 (interval: its heads)"])
    return table(rows)


def mixed(page: Page) -> str:
    """What the first layers of the two absolute encodings mix, and whether the second does it differently."""
    out = []
    for kind in ABSOLUTE:
        models = page.of(kind)
        if not models:
            continue
        first, last = (shares(models, layer) for layer in (0, models[0].terms.shares.shape[0] - 1))
        bigger = max(TERMS, key=lambda t: np.nan_to_num(first[t].value))
        change = difference(last["where·where"], first["where·where"])
        out.append(
            f"With {titled(kind)} positions the largest term at the first layer is {bigger} ({shown(first[bigger])}). "
            f"The cross terms have {shown(first['cross'])} there and {shown(last['cross'])} at the last layer, "
            f"where place with place is {change} ({shown(last['where·where'])})."
        )
    return " ".join(out)


def training(page: Page) -> str:
    """What becomes of the terms through training."""
    stops = page.stopped
    last = max(stops)
    if last == 0:
        return "No model that was stopped on its way is here."
    found = {tokens: shares(models) for tokens, models in stops.items()}
    before, after = found[0], found[last]
    moves = {t: after[t].value - before[t].value for t in TERMS}
    grown, shrunk = (pick(moves, key=lambda t: moves[t]) for pick in (max, min))
    turns = {t: turn({tokens: e[t] for tokens, e in found.items()}) for t in (TERMS[0], TERMS[3])}
    way = [f"{t} {to[0]} to {shown(found[to[1]][t])} (at {to[1]:,} bytes)" for t, to in turns.items() if to]
    between = f"In between, {' and '.join(way) or 'neither goes clearly beyond its two ends'}. "
    return (
        f"Before training, {TERMS[0]} has {shown(before[TERMS[0]])} and {TERMS[3]} {shown(before[TERMS[3]])} (mean of "
        f"heads and layers, {counted(stops[0], stops[last])}). {between if len(stops) > 2 else ''}At the end, after "
        f"{last:,} bytes, they have {shown(after[TERMS[0]])} and {shown(after[TERMS[3]])}. From the first look to the "
        f"last, {grown} has grown most, {shrunk} has shrunk most."
    )


def split(page: Page) -> str:
    """A row for each kind of model and control: the parts, and how many heads are positional."""
    rows = [["model", *(PART_NAMES[p] for p in PARTS), "positional heads", "models"]]
    for name, models in panels(page).items():
        if not _varies(models):
            rows.append([name, *["no score varies"] * 4, "none", str(len(models))])
            continue
        found = parts(models)
        eligible = np.concatenate([m.split.eligible.ravel() for m in models])
        rows.append([name, *(shown(found[p]) for p in PARTS), f"{eligible.mean():.0%}", str(len(models))])
    return (
        "Shares of the variance of what enters the softmax, within queries; a head is *positional* if distance "
        f"explains {ELIGIBLE:.0%} of it or more. *{PART_NAMES['shared'].capitalize()}*: what distance and type "
        "share, for either would explain it without the other; below zero, one hides the other. An interval over one "
        f"model is one over its heads.\n\n{table(rows)}"
    )


def _varies(models: list[Heads]) -> bool:
    return any((m.split.variance > 0).any() for m in models)


def controls(page: Page) -> str:
    """Whether the controls came out as they must."""
    uniform, drawn = page.controls[UNIFORM], page.controls[RANDOM]
    trained = parts(page.of(ABSOLUTE[0]))
    flat = "has no score that varies, so there is nothing to split, as it must be" if not _varies(uniform) else (
        "**has scores that vary, which it must not**"
    )  # fmt: skip
    fresh, random = parts(page.untrained)["distance"], parts(drawn)
    text = (
        f"Uniform attention {flat}. Before training, distance explains {shown(fresh)} of a head with learned "
        f"positions, after it {shown(trained['distance'])}. On tokens in no order, distance explains "
        f"{shown(random['distance'])} of a trained one, the key's type {shown(random['type'])}"
    )
    if {"text", RANDOM, UNTRAINED} <= set(page.elsewhere):
        each = {k: parts([page.elsewhere[k]])["distance"] for k in ("text", UNTRAINED, RANDOM)}
        text += (
            f". In {page.name} distance explains {shown(each['text'])}; with weights drawn anew, "
            f"{shown(each[UNTRAINED])}; on tokens in no order, {shown(each[RANDOM])}"
        )
    return text + "."


def apart(page: Page) -> str:
    """Which head is taken apart, and what each part is worth in it."""
    one = page.apart
    worth = ", ".join(f"{PART_NAMES[p]} {percent(one.shares[p])}" for p in PARTS)
    return (
        f"The head: number {one.head + 1} of layer {one.layer + 1} of a model with {having(one.kind)}, in which the "
        f"smaller of field and association is largest. Over held-out text, the variance of what enters its softmax is "
        f"divided so: {worth}. The passage is from *{one.source}*."
    )


def extremes(page: Page) -> str:
    """How differently heads of one model use distance: of a model that is no control."""
    found = {name: np.concatenate([by_part(m)[:, 0] for m in models]) for name, models in trained(page).items()
             if _varies(models)}  # fmt: skip
    name = max(found, key=lambda n: float(np.nanmax(found[n]) - np.nanmin(found[n])))
    return (
        f"Heads of one kind of model differ. The widest range, controls apart, is that of *{name}*: distance alone "
        f"explains from {percent(np.nanmin(found[name]))} to {percent(np.nanmax(found[name]))}."
    )


def twins(page: Page) -> str:
    """What the band of the A/A pair says, where it has one."""
    e = accuracy.a2(page.pairs.deciding)["A/A"]
    if not known(e):
        return "The A/A pair has too few seeds for a band."
    zero = "leaves out zero: training $r_0$ may be worth that much" if e.low > 0 or e.high < 0 else "holds zero"
    inside = "lies" if e.low >= -DELTA and e.high <= DELTA else "does not lie"
    return (
        "The A/A pair is AGF and its twin, KERPLE-log, one family with and without a trained $r_0$: AGF saves "
        f"{shown(e)}. This interval {zero}. It {inside} within ± δ = {DELTA:g} %."
    )


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    if page.reference is None and page.here.profile == "smoke":
        return "Nothing, yet: these models are too small, and the pictures show only that they can be made."
    points = []
    for kind in filter(page.of, ABSOLUTE):
        models, cross = page.of(kind), shares(page.of(kind), 0)["cross"]
        side = int(np.sign(cross.value)) if known(cross) and cross.low * cross.high > 0 else 0
        does = {1: "mixes", -1: "lets the cross terms work against the rest:", 0: "cannot be said to mix"}[side]
        points.append(f"Adding {titled(kind)} positions {does} place with meaning, at the first layer: {shown(cross)}.")
        placed, distance = shares(models)[TERMS[3]], parts(models)["distance"]
        more = known(placed) and known(distance) and placed.low > distance.high
        points.append(
            f"With {having(kind)}, place with place has {shown(placed)} over all layers, distance alone "
            f"{shown(distance)}: " + ("place is more than a field of distance." if more else "no clear difference.")
        )
    fields = {k: shares(page.of(k))[TERMS[0]] for k in FIELDS if page.of(k)}
    each = "; ".join(f"{shown(e)} with {having(k)}" for k, e in fields.items())
    if fields:
        whole = all(e.value > 0.995 for e in fields.values())
        points.append(
            "Where a field carries position, the scores themselves, before it is added, are "
            + (f"all {TERMS[0]}: {each}." if whole else f"{TERMS[0]} to this share: {each}.")
        )
    word = accuracy_prose.word(page.pairs, "A1")
    points.append(f"Whether taking position out of the embeddings *helps* is another question, and A1's: {word}.")
    if page.here.failed:
        points.append("Runs that diverged: " + "; ".join(page.here.failed) + ".")
    return "\n".join(f"- {point}" for point in points)
