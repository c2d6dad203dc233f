"""The sentences of the chapter `newton`, written from the runs: none is typed, and none outlives a run that says
otherwise (ours).
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import newton_worlds
from agf_core.analysis.accuracy_words import known, listed, shown, table
from agf_core.analysis.newton import NEWTON, Page, by_window, estimates, evidence, powerless
from agf_core.analysis.newton_figures import KINDS, NAMED, typical
from agf_core.analysis.operating import foretold
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.split import ELIGIBLE
from agf_core.claims import CLAIMS, NOT_SUPPORTED, SUPPORTED, TOO_SMALL, Band
from agf_core.figures import Number
from agf_core.sources import loaded

PARTS = {"exponent": "the pooled exponent", "heads with 2 inside": "the share of heads that may have 2",
         "mass ICC": "the masses' reliability", "product form": "the product form"}  # fmt: skip


def word(page: Page) -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(evidence(page))


def no_evidence(page: Page) -> str:
    """Why the criterion was not asked."""
    return (
        f"**A6: {TOO_SMALL}.** The criterion asks for eligible heads in two layers or more, for the interval, and for "
        f"several groups of documents; here {int(page.text.eligible.sum())} heads are eligible, in "
        f"{int(page.text.eligible.any(1).sum())} layers, and the text has {page.text.groups} groups."
    )


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    found: dict[str, Number] = {"a6": word(page), "heads": int(page.text.eligible.sum())}
    names = dict(zip(PARTS, ("exponent", "inside", "icc", "product")))
    return found | {names[part]: e for part, e in estimates(page.text).items() if known(e)}


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    found, one = estimates(page.text), page.text
    points = [
        "Is it gravity? **A6: {a6}.** " + parts(page),
        f"In {page.name} ({page.source}) distance alone explains {ELIGIBLE:.0%} or more of what enters the softmax in "
        f"{int(one.eligible.sum())} of {one.eligible.size} heads. Their exponents have a mean of "
        f"{shown(found['exponent'])}, but run from {_range(page)}.",
        f"A mass for each type of key, times a field of distance: held out, this has {shown(found['product form'])} of "
        f"what *type × distance* explains. With $r^{{-k}}$ for the field {_gravity_share(page)}.",
        construction(page),
    ]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    text = "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {point}" for point in points)
    text = text.replace("{", "{{").replace("}", "}}").replace("{{a6}}", "{a6}")
    return text if not page.missing else f"{text}\n- {page.missing}."


def _range(page: Page) -> str:
    k = page.text.exponent[page.text.eligible]
    return f"{k.min():.2f} to {k.max():.2f} (median {np.median(k):.2f})" if len(k) else "nowhere"


def _gravity_share(page: Page) -> str:
    share = page.text.share("gravity").mean(0)[page.text.eligible]
    if not len(share):
        return "that is not known"
    return f"it has {share.mean():.2f} in the mean of the heads, {np.median(share):.2f} in the median"


def parts(page: Page) -> str:
    """Which parts hold and which do not, by the criterion's own words."""
    if not (found := evidence(page)):
        return "Too few heads are eligible for an interval."
    each = CLAIMS["A6"].criterion.verdict(found["effect"], found["ci"])[1]
    said = {verdict: [PARTS[p] for p in each if each[p] == verdict] for verdict in dict.fromkeys(each.values())}
    return "By part: " + "; ".join(f"{verdict}, {listed(names)}" for verdict, names in said.items()) + "."


def kepler(page: Page) -> str:
    """The exponent of the force that the fitter finds for the planets."""
    return (
        f"The slope is {page.planets[1]:.4f}. On a circle the force goes as axis over period squared, so it falls with "
        f"distance to the power {page.planets[2]:.3f}."
    )


def calibration(page: Page) -> str:
    """Whether planted heads are recovered, and what the rule says of them."""
    p = page.planted
    right = p[p["world"].isin((newton_worlds.TRUE, newton_worlds.ONE, newton_worlds.SPREAD))]
    covered = ((right["low"] <= right["planted"]) & (right["planted"] <= right["high"])).mean()
    why, mixed = powerless(page.worlds), p.loc[p["world"] == newton_worlds.MIXED_UP, "product"].mean()
    return (
        f"In the worlds in which the gravity model is true, {covered:.0%} of the heads' 95 % intervals hold the "
        f"planted exponent, and found masses correlate with planted ones at {right['mass'].mean():.2f} in the mean. "
        f"Where types have fields of their own, the product form's share is {mixed:.2f} (where it is true, "
        f"{right['product'].mean():.2f}). {page.occurrence:.0%} of the noise belongs to single occurrences of a key, "
        "as measured in the median head. "
        + (f"**The rule cannot decide here**: {why}." if why else "The rule can decide: of worlds of gravity it calls "
           f"{_supported(page, True):.0%} *{SUPPORTED}*, of the others at most {_supported(page, False):.0%}.")
    )  # fmt: skip


def _supported(page: Page, true: bool) -> float:
    share = page.worlds.set_index("world")[SUPPORTED]
    return float(share[newton_worlds.TRUE] if true else share.drop(newton_worlds.TRUE).max())


def exponents(page: Page) -> str:
    """How many heads are near 2, on the text and on the controls."""
    out = []
    for given in INPUTS:
        one = page.found[given]
        count = int(one.eligible.sum())
        if not count:
            out.append(f"- *{NAMED[given]}*: no head is eligible, of {one.eligible.size}.")
            continue
        k, low, high = (a[one.eligible] for a in (one.exponent, one.low, one.high))
        inside, band = int(((low <= NEWTON) & (high >= NEWTON)).sum()), CLAIMS["A6"].criterion.parts["exponent"]
        assert isinstance(band, Band)
        near = int(((band.low <= k) & (k <= band.high)).sum())
        half = f"{np.median(high - low) / 2:.3f}" if np.isfinite(low).any() else "not known"
        out.append(
            f"- *{NAMED[given]}*: {count} of {one.eligible.size} heads are eligible; {inside} of their intervals "
            f"hold{'s' * (inside == 1)} 2 (median half width {half}), {near} exponent{'s' * (near != 1)} "
            f"lie{'s' * (near == 1)} from {band.low:g} to {band.high:g}; pooled "
            f"{shown(estimates(one)['exponent'])}."
        )
    return "\n".join(out)


def trained(page: Page) -> str:
    """What models trained here show, in which nobody imposed a law."""
    if page.trained.empty:
        return "No heads of models trained here are stored in this copy of the library."
    rows = [["model", "exponent, mean of eligible heads, then of models", "models", "eligible heads"]]
    for r in page.trained.itertuples():
        rows.append([KINDS[r.kind], f"{r.exponent:.2f} [{r.low:.2f}, {r.high:.2f}]", str(r.models), str(r.heads)])
    starts = page.trained.set_index("kind").reindex(["flat", "steep"])
    apart = (
        " Free fields that started flat and steep do not agree: their exponents are in part where they started."
        if starts["high"].iloc[0] < starts["low"].iloc[1] or starts["high"].iloc[1] < starts["low"].iloc[0] else ""
    )  # fmt: skip
    return (
        "Reference models trained here on bytes, nobody's law imposed, from the field that the same least squares "
        f"finds in their logits. They carry no part of the verdict.{apart}\n\n{table(rows)}"
    )


def choices(page: Page) -> str:
    """How far the window and the estimator move the pooled exponent."""
    means = by_window(page.text).groupby("window")["exponent"].mean()
    if means.empty:
        return "No head is eligible, so there is no exponent to choose a window for."
    walk = ", ".join(f"{k:.2f} within {w}" for w, k in means.items())
    p = page.poisson
    return (
        f"One and the same field gives a mean exponent of {walk} tokens. Poisson likelihood, which counts weight and "
        f"so looks at near keys above all, gives {p['poisson'].mean():.2f} on {int(p['exponent'].size)} heads where "
        f"least squares, which counts every distance alike, gives {p['exponent'].mean():.2f} (rank correlation "
        f"{p[['poisson', 'exponent']].corr('spearman').iloc[0, 1]:.2f}). Of a true power law, with "
        "noise alike at all distances, both give the same."
    )


def masses(page: Page) -> str:
    """What a key's mass goes with."""
    if page.relations.empty:
        return "No head is eligible, so there are no masses to compare."
    layer, head = typical(page)
    rows = [["of log mass with", "median head", "middle half of the heads"]]
    names = {"frequency": "log frequency", "surprisal": "surprisal after the token before",
             "norm": "mean length of the key vector", "kind": "word class (share of variance, adjusted)"}  # fmt: skip
    for name, label in names.items():
        known_ = page.relations[name].dropna()
        if known_.empty:
            rows.append([label, "not known: no tags" if name == "kind" else "not known: no two types differ", ""])
            continue
        low, middle, high = known_.quantile([0.25, 0.5, 0.75])
        rows.append([label, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    return (
        f"The head drawn is number {head + 1} of layer {layer + 1}, whose reliability is the median one. Rank "
        f"correlations over {len(page.types)} types, {len(page.relations)} eligible heads; described, not tested:\n\n"
        f"{table(rows)}"
    )


def product(page: Page) -> str:
    """What each form explains, held out."""
    one = page.text
    mean = {f: float(v.mean(0)[one.eligible].mean()) for f, v in one.r2.items() if one.eligible.any()}
    if not mean:
        return "No head is eligible, so there is nothing to hold out."
    added = (mean["product"] - mean["distance"]) / max(mean["interaction"] - mean["distance"], 1e-12)
    return (
        f"Held out, in the mean of the eligible heads: distance alone {mean['distance']:.2f}, type alone "
        f"{mean['type']:.2f}, mass · r⁻ᵏ {mean['gravity']:.2f}, the product form {mean['product']:.2f}, type × "
        f"distance {mean['interaction']:.2f}. The criterion's share is mostly distance's; of what types add to "
        f"distance, the product form has {added:.2f}. What is left, {1 - mean['interaction']:.2f}, belongs to single "
        "keys, to pairs of query and key, and to distances within an octave; it is not taken apart here."
    )


def construction(page: Page) -> str:
    """What no outcome could contradict."""
    p = page.pulls
    adds = (
        f"{(p['together'] / p['apart']).median():.2f} of their sum in the median" if len(p) else "less than their sum"
    )
    return (
        f"*True by construction*: a query's mass cancels (multiplied by e⁵, no weight moves by more than "
        f"{page.shift:.0e}), and two keys together attract less than the sum of what each does without the other "
        f"({adds})."
    )


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    if page.profile == "smoke":
        return "Nothing, yet: this text is too short, and the pictures show only that they can be made."
    if not (found := evidence(page)):
        return no_evidence(page)
    each = CLAIMS["A6"].criterion.verdict(found["effect"], found["ci"])[1]
    fails = [PARTS[p] for p in each if each[p] == NOT_SUPPORTED]
    holds = [PARTS[p] for p in each if each[p] == SUPPORTED]
    random = estimates(page.found[INPUTS[1]])["exponent"]
    points = [
        f"What the analogy gets right here: {listed(holds)}. What breaks it: {listed(fails)}.",
        f"An average near or far from 2 is not a law: heads differ by far more than their intervals, and the window "
        f"and the estimator move the average ({_moves(page)}).",
        f"On tokens in no order the exponent is {shown(random)}: so far as both agree, it is the model's own way with "
        "positions, not the text's.",
        "Newton's second mass, and masses that add up, are out of reach for any softmax.",
    ]
    return "\n".join(f"- {point}" for point in points)


def _moves(page: Page) -> str:
    means = by_window(page.text).groupby("window")["exponent"].mean()
    by_poisson = f"{page.poisson['poisson'].mean():.2f} by Poisson likelihood"
    return f"from {means.min():.2f} to {means.max():.2f} by window; {by_poisson}"
