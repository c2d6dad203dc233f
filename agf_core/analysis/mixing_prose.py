"""The sentences of the chapter `encoding_walk`, on redundancy, written from the runs: none is typed, and none outlives
a run that says otherwise (ours). Those on replaced attention, on Jacobians and on speed are in `filtering_prose`.
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import encoding_walk
from agf_core.analysis import mixing_results as of
from agf_core.analysis.accuracy_words import known, listed, shown, table
from agf_core.analysis.contrasts import mean
from agf_core.analysis.encoding_walk import Page
from agf_core.analysis.filtering_figures import NETS, UNASSIGNED
from agf_core.analysis.filtering_prose import left_over
from agf_core.analysis.mixing_checks import HALF, PLANTED6, SCATTER, TRUE, allowed
from agf_core.analysis.mixing_figures import NAMES
from agf_core.analysis.mixing_grids import FIELD, FREE_FULL, FULL, MIXINGS
from agf_core.analysis.mixing_results import DIM, QUERIES, RECALL, REST, VALUES, Results
from agf_core.analysis.operating import FALSE, POWER, foretold
from agf_core.claims import BY_CONSTRUCTION, CLAIMS, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate, Number
from agf_core.sources import loaded

KEYS = {RECALL: "recall", REST: "rest", QUERIES: "queries"}
ON = {RECALL: "recall tokens", REST: "the rest", QUERIES: "multi-query recall"}  # after "on"


def word(page: Page, id: str = "M5") -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(encoding_walk.evidence(page) if id == "M5" else encoding_walk.evidence6(page))


def no_evidence(page: Page, id: str = "M5") -> str:
    """Why the criterion was not asked."""
    if id == "M5":
        lacking = [part for part, e in of.estimates(page.deciding).items() if not known(e)]
        return f"**M5: {TOO_SMALL}.** The criterion asks for intervals over seeds; none is known of {listed(lacking)}."
    return f"**M6: {TOO_SMALL}.** The criterion asks for an interval over seeds of three nets; too few are measured."


def whose(page: Page) -> str:
    """Which runs decide, in words."""
    if page.reference is None:
        return "No reference run of this chapter is stored in this copy of the library, so the runs here stand alone."
    if page.same:
        return "The runs here are the reference runs."
    if not page.stored:
        return "Of the reference runs a part is not stored, so the runs here stand alone."
    return "The reference runs decide; the run here stands beside them."


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: the verdicts and the number of runs always, the rest where it is known."""
    there = page.reference.ids if page.reference else frozenset()
    found: dict[str, Number] = {"m5": word(page), "m6": word(page, "M6"), "runs": len(page.here.ids | there)}
    found |= {KEYS[part]: e for part, e in of.estimates(page.deciding).items() if known(e)}
    return found


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    results = page.deciding
    m5 = f"Is association redundant? **M5: {{m5}}.** {lost(results)}"
    if why := encoding_walk.vacuous(results) or encoding_walk.powerless(page.worlds):
        m5 += f" The rule cannot decide: {why}."
    m6 = f"Filtering and aggregation: **M6: {{m6}}.** {left_over(page.part('jacobians'))}"
    points = [m5, free_field(results), worth(results), bigger(results), m6, whose(page)]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    return "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {point}" for point in points)


def lost(results: Results) -> str:
    """What the field alone costs, part by part."""
    e = of.estimates(results)
    if not np.isfinite([x.value for x in e.values()]).any():
        return "No pair of models is measured."
    above = mean(of.above_chance(results, FIELD))
    return (
        f"A power-law field without association, retrained, has {shown(e[RECALL])} % more loss than full attention on "
        f"recall tokens and {shown(e[REST])} % on the rest; on multi-query recall it has {shown(e[QUERIES])} of full "
        f"attention's accuracy, chance taken off {shown(above)}."
    )


def free_field(results: Results) -> str:
    """What association adds to a free field, and whether that field alone beats full attention with a power law."""
    pair = {part: mean(of.excess(results, "free", value, than=FREE_FULL)) for part, value in VALUES.items()}
    own = {part: mean(of.excess(results, "free", value)) for part, value in VALUES.items()}
    if not np.isfinite([e.value for e in own.values()]).all():
        return "A free field (one number a distance) without association is not measured here."
    text = (
        f"The loss of a *free* field alone (one number a distance) lies {_beside(own[RECALL])} that of AGF with "
        f"association on recall tokens, and {_beside(own[REST])} it on the rest"
    )
    if all(e.high < 0 for e in own.values()):
        text += ": it beats full attention whose field is a power law"
    if np.isfinite([e.value for e in pair.values()]).all():
        both = " and ".join(f"{_beside(e)}" for e in pair.values())
        text += f". Beside a free field *with* association it lies {both}"
        inside = [known(e) and e.high <= allowed(part) for part, e in pair.items()]
        above = [known(e) and e.low > allowed(part) for part, e in pair.items()]
        text += ", within what M5 allows" if all(inside) else ", more than M5 allows" if all(above) else ""
    return text + ". Exploratory: no criterion was fixed for this pair."


def _beside(e: Estimate) -> str:
    """ "2.91 [2.47, 3.35] % below", or above."""
    if e.value < 0:
        return f"{shown(Estimate(-e.value, -e.high, -e.low), '.2f')} % below"
    return f"{shown(e, '.2f')} % above"


def worth(results: Results) -> str:
    """What recovering the gap from uniform mixing on text is worth on recall."""
    found = of.recovered(results).set_index(["name", "on"])
    part = {on: found.loc[(FIELD, on)] for on in KEYS if (FIELD, on) in found.index}
    if RECALL not in part or REST not in part:
        return "How much of the way from uniform mixing to full attention the field goes is not measured here."
    said = ", ".join(f"{shown(Estimate(p['value'], p['low'], p['high']))} on {ON[on]}" for on, p in part.items())
    text = f"Of the way from uniform mixing to full attention the field alone goes {said}."
    if QUERIES in part:
        most, query = min(part[RECALL]["value"], part[REST]["value"]), part[QUERIES]["value"]
        text += (
            " So what is recovered on text is worth little where an answer must be looked up." if query < 0.5 < most
            else " What is recovered on text is recovered where an answer must be looked up, too." if query > 0.5 < most
            else ""
        )  # fmt: skip
    return text


def bigger(results: Results) -> str:
    """Whether better models lose more."""
    dims, found = sorted(set(results.losses["dim"])), of.slopes(results)
    at = {d: (of.excess(results, FIELD, "recall", d).mean(), of.excess(results, FIELD, "rest", d).mean()) for d in dims}
    if not dims:
        return "No size is measured."
    text = "By width: " + "; ".join(f"{d}, {a:.1f} % on recall tokens and {b:.1f} % on the rest"
                                    for d, (a, b) in at.items()) + "."  # fmt: skip
    if not all(np.isfinite(e.value) for e in found.values()):
        return text + " Too few sizes for a slope."
    text += f" A doubling of the parameters adds {shown(found[RECALL])} and {shown(found[REST])} points."
    if not all(map(known, found.values())):
        return text
    if len(dims) > 2:  # a line through all sizes does not tell where they differ
        last = {v: mean(of.excess(results, FIELD, v, dims[-1])) for v in VALUES.values()}
        before = {v: mean(of.excess(results, FIELD, v, dims[-2])) for v in VALUES.values()}
        if all(known(e) and known(before[v]) and e.low <= before[v].high and before[v].low <= e.high
               for v, e in last.items()):  # fmt: skip
            text += f" Between {dims[-2]} and {dims[-1]} no difference is seen."
    more = [part for part, e in found.items() if e.low > 0]
    fewer = [part for part, e in found.items() if e.high < 0]
    if len(more) == 2:
        return text + " As in published work, better models lose more."
    if more or fewer:
        said = [f"lose {how} on {listed(ON[p] for p in on)}" for how, on in (("more", more), ("less", fewer)) if on]
        return text + f" Better models {' and '.join(said)}."
    return text + " Whether better models lose more, as in published work, cannot be told from these sizes."


def operating(page: Page) -> str:
    """False positives and power of both rules."""
    share, results = page.worlds.set_index("world")[SUPPORTED], page.deciding
    few = min(map(len, of.differences(results).values()))
    assumed = "" if few > 2 else (
        f" Where fewer than three seeds say how they scatter, {SCATTER[RECALL]:g} % of loss and {SCATTER[QUERIES]:g} "
        "of the share are assumed."
    )  # fmt: skip
    worst = share.drop([TRUE, HALF])
    why = encoding_walk.powerless(page.worlds)
    m6 = page.worlds6.set_index("world")
    held = m6.get(BY_CONSTRUCTION, m6[SUPPORTED] * 0) + m6[SUPPORTED]
    true, *false = PLANTED6
    return (
        f"**M5** is called *supported* in {share[TRUE]:.1%} of the worlds in which nothing is lost, and at most in "
        f"{worst.max():.1%} of those in which too much is ({worst.idxmax()}).{assumed} "
        + (f"**The rule cannot decide here**: {why}." if why else
           f"It promises ≥ {POWER:.0%} and ≤ {FALSE:.0%}, and keeps it.")
        + f" **M6** holds in {held[true]:.1%} of the worlds in which each net leaves 1 %, and in at most "
        f"{held[false].max():.1%} of those in which one leaves 5 % or more."
    )  # fmt: skip


def control(results: Results) -> str:
    """Whether there was anything that could have been redundant."""
    if why := encoding_walk.vacuous(results):
        return f"**The question is empty here**: {why}."
    gain = {part: of.excess(results, "uniform", value).mean() for part, value in ((RECALL, "recall"), (REST, "rest"))}
    return (
        f"There is something to lose: with uniform mixing the same model has {gain[RECALL]:.0f} % more loss on recall "
        f"tokens and {gain[REST]:.0f} % on the rest, and full attention learned multi-query recall in every model."
        f"{random(results)}"
    )


def random(results: Results) -> str:
    """What mixings differ by where there is nothing to mix; "" where that is not measured."""
    found = {name: mean(of.at_random(results, name)) for name in (FIELD, "uniform")}
    if not all(map(known, found.values())):
        return ""
    field, uniform = (shown(found[name], "+.4f") for name in (FIELD, "uniform"))
    holds = all(-allowed(REST) / 4 <= e.low and e.high <= allowed(REST) / 4 for e in found.values())
    return (
        " And there is nothing to lose where nothing can be gained: on random tokens, drawn independently, the field "
        f"alone has {field} % more loss, uniform mixing {uniform} %." if holds else
        f" On random tokens, where nothing can be gained, the field alone has {field} % more loss, uniform mixing "
        f"{uniform} %: trained alike, these models are not alike, and M5's thresholds should be read with that in mind."
    )  # fmt: skip


def used(results: Results) -> str:
    """A row a mixing: parameters, those used, losses, seeds."""
    rows = [["mixing", "seeds", "parameters", "used", "loss, recall tokens (bits)", "loss, rest (bits)"]]
    for name in (n for n in NAMES if n in set(results.losses["name"])):
        part = results.losses[(results.losses["name"] == name) & (results.losses["dim"] == DIM)]
        if len(part):
            both = [shown(mean(part[c]), ".3f") for c in ("recall", "rest")]
            counts = [f"{part[c].iloc[0]:,.0f}" for c in ("parameters", "used")]
            rows.append([NAMES[name], str(len(part)), *counts, *both])
    if len(rows) == 1:
        return "No model is measured here."
    return (
        "*Used* leaves out the maps to queries and keys where nothing reads them: equal parameters are not equal "
        f"parameters at work.\n\n{table(rows)}"
    )


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    if word(page) == TOO_SMALL and word(page, "M6") == TOO_SMALL:
        return "Nothing, yet: these runs are too small for a verdict, and the pictures show only what they can."
    points = []
    if (found := encoding_walk.evidence(page)) and word(page) != TOO_SMALL:
        each = CLAIMS["M5"].criterion.verdict(found["effect"], found["ci"])[1]
        fails, holds = ([p for p in each if each[p] == v] for v in (NOT_SUPPORTED, SUPPORTED))
        said = [f"it is {what} on {listed(ON[p] for p in on)}" for what, on in
                (("redundant", holds), ("not redundant", fails)) if on]  # fmt: skip
        points.append(f"Association, by our thresholds: {', '.join(said) or 'nothing can be told'}.")
        if REST in fails and RECALL in fails:
            near = abs(found["effect"][RECALL] - found["effect"][REST]) < allowed(REST)
            if near:
                points.append("The loss is about as large on the rest as on recall tokens: a repeated bigram of bytes "
                              "is mostly spelling, and asks for less looking up than its name says.")  # fmt: skip
        points.append(free_field(page.deciding))
        pair = [mean(of.excess(page.deciding, "free", v, than=FREE_FULL)) for v in VALUES.values()]
        if REST in fails and all(known(e) and e.high <= allowed(REST) for e in pair):
            points.append(
                "So on text association mostly stands in for a shape that the power law cannot have: given a free "
                f"field, {'the model is better without it' if all(e.high < 0 for e in pair) else 'it adds little'}."
                + (" Looking up is another matter." if QUERIES in fails else "")
            )
    if word(page, "M6") == NOT_SUPPORTED:
        above = [NETS[n] for n, e in of.unassigned(page.part("jacobians")).items() if e.low > UNASSIGNED]
        points.append(
            "Filtering and aggregation do not exhaust what these nets do, once filtering means that the Jacobian does "
            f"not depend on the data: pointwise functions bend. More than M6 allows is left in {listed(above)}. Read "
            "as *a fixed function filters*, nothing could be left over, and nothing would have been said."
        )
    elif word(page, "M6") == BY_CONSTRUCTION:
        points.append("Filtering and aggregation exhaust what these nets do, up to what M6 allows.")
    return "\n".join(f"- {point}" for point in points or ["No part of either claim is decided by these runs."])


def beside(page: Page) -> str:
    """How the run here compares with the reference runs."""
    if page.reference is None or page.same or not page.stored:
        return whose(page)
    return f"The run here: {lost(page.here)}"


def diverged(results: Results) -> str:
    """The runs that failed, or that none did."""
    if not results.failed:
        return "No run diverged."
    return "Runs that diverged:\n\n" + "\n".join(f"- {line}" for line in results.failed)


def attained(results: Results) -> str:
    """The best data-independent mixing here, exploratory."""
    best = {}
    for part, value in VALUES.items():
        each = {n: x.mean() for n in MIXINGS if n != FULL and len(x := of.excess(results, n, value))}
        if each:
            name = min(each, key=lambda n: each[n])
            best[part] = f"on {ON[part]}, {NAMES[name]} ({each[name]:+.1f} % beside full attention)"
    if not best:
        return "No mixing is measured beside full attention."
    return (
        f"Of all mixings that ignore the data the best is, {'; '.join(best.values())}. Exploratory: mixings other than "
        "the field's power law have few seeds, and their learning rate is AGF's."
    )
