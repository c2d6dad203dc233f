"""The sentences of the chapter `power_vs_exp` on laws, written from the runs: none is typed, and none outlives a run
that says otherwise (ours). Those on where the law comes from are in `copies_prose`, on one model in
`power_model_prose`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import copies_prose, field_copies, field_grids, law_scores, power_model_prose, power_vs_exp
from agf_core.analysis.accuracy_words import listed, shown, table
from agf_core.analysis.clusters import clustered
from agf_core.analysis.contrasts import mean
from agf_core.analysis.operating import FALSE, POWER, foretold
from agf_core.analysis.power_figures import KIND
from agf_core.analysis.power_vs_exp import FREE, Page, Results, enough, evidence, powerless
from agf_core.claims import MIN_N, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate, Number
from agf_core.sources import loaded

UNITS = ("bytes", "words")


def word(page: Page) -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(evidence(page))


def no_evidence(page: Page) -> str:
    """Why the criterion was not asked."""
    return (
        f"**A3: {TOO_SMALL}.** The criterion asks for heads of {listed(KIND[k] for k in KIND)}, and none is measured: "
        f"{whose(page)}"
    )


def whose(page: Page) -> str:
    """Which runs decide, in words."""
    if page.reference is None:
        return "No reference run of this chapter is stored in this copy of the library, so the runs here stand alone."
    if page.same:
        return "The runs here are the reference runs."
    if not page.stored:
        return "Reference runs are stored, but no measurement of their heads, so the heads of the run here stand alone."
    return "The reference runs decide; the run here stands beside them."


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    heads = 0 if page.deciding.scores is None else len(page.deciding.scores.table)
    there = page.reference.ids if page.reference else frozenset()
    ways = len(page.model.curve)
    found: dict[str, Number] = {"a3": word(page), "heads": heads, "runs": len(page.here.ids | there)}
    slope = field_copies.copied(page.part("languages").languages, "field only")
    if slope is not None and np.isfinite(slope.low):
        found["slope"] = slope
    return {**found, "specifications": ways}


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    points = ["Which law does attention follow? **A3: {a3}.** " + _a3(page.deciding), against(page.deciding)]
    if why := powerless(page.worlds):
        points[0] += f" The rule cannot decide, though: {why}."
    points += [agreed(page.part("free"))]
    points += [power_model_prose.in_short(page.model), copies_prose.in_short(page)]
    points += [power_model_prose.exponents(page.model), whose(page)]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    return "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {point}" for point in points)


def _a3(results: Results) -> str:
    if (found := results.a3) is None:
        return "No head is measured here."
    return (
        f"Of the eligible heads, a share of {shown(found['share'])} has far distances that the shifted power law "
        f"predicts better than the exponential and the stretched exponential do; {shown(found['eligible'])} of all "
        "heads are eligible."
    )


def moved(results: Results) -> str:
    """Why a free table has a gain: how far Adam could carry an entry."""
    config = field_grids.free(results.profile, FREE[0])[0]
    steps = config.train.steps(int(config.model["context"]))
    reach = sum(config.train.rate_at(step, steps) for step in range(steps))
    text = (
        f"Adam moves a number by at most about its rate a step: {reach:.1f} nat in these {steps:,} steps. With one "
        "number a distance and nothing else, a flat field could not have come further; so log g is "
        f"{field_grids.GAIN:g} times the number that is trained, and can."
    )
    if len(results.agreed):
        spans = {s: np.ptp(results.agreed[s]) for s in FREE}
        text += " From its nearest to its farthest values the mean field spans " + " and ".join(
            f"{span:.1f} nat from the {s} start" for s, span in spans.items()
        ) + f": {'further' if max(spans.values()) > reach else 'no further'} than that."  # fmt: skip
    return text


def agreed(results: Results) -> str:
    """On how many distances both starts come to the same, and what follows for A3."""
    found = results.agreed
    if found.empty:
        return "There are no runs from both starts, so nothing is known of what a free field comes to."
    if not found["known"].any():
        return (
            "With so few models a start no interval is narrow enough to say whether a free field comes to the same "
            "from a flat and from a steep start: **too small to tell**."
        )
    scored = found[found["r"] <= (len(found) + 1) // 2]
    same, far = int(found["agrees"].sum()), found["difference"].abs().iloc[-1]
    text = f"A free field comes to the same from a flat and from a steep start at {same} of {len(found)} distances"
    ranges = _ranges(found.loc[found["agrees"], "r"].tolist())
    text += f" ({ranges})" if ranges else ""
    text += f"; at the farthest the starts are {far:.1f} nat apart. "
    if enough(scored["agrees"].to_numpy()):
        return text + f"A3 scores free heads on the {int(scored['agrees'].sum())} of them that lie in its range."
    return text + (
        "That is too few for A3, which fits on near distances and scores on far ones: **free fields have no say in "
        "it**, what they look like far away still depends on where they started"
    ) + "."  # fmt: skip


def _ranges(r: list[int]) -> str:
    """1–4, 7, 9–12."""
    parts: list[list[int]] = []
    for value in r:
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(f"{a}–{b}" if b > a else f"{a}" for a, b in parts)


def kinds(results: Results) -> str:
    """A row a kind of model: heads, eligible, the share of the power law, the winners, the exponent."""
    rows = [["heads of", "models", "heads", "eligible", "power law wins [95 %]", "exponential (ties too)",
             "stretched", "undecided", "does not fall", "local exponent"]]  # fmt: skip
    for scores, note in ((results.scores, ""), (results.shown, " (all distances, not counted)")):
        counted = set() if results.scores is None else set(results.scores.table["kind"])
        if scores is None or (note and set(scores.table["kind"]) <= counted):
            continue
        for row in power_vs_exp.by_kind(scores).itertuples():
            shares = [f"{getattr(row, w):.0%}" for w in ("exponential", "stretched_exponential", "undecided", "none")]
            rows.append([KIND[row.kind] + note, str(row.models), str(row.heads), f"{row.eligible:.0%}",
                         shown(Estimate(row.share, row.low, row.high)) if row.eligible else "–", *shares,
                         f"{row.exponent:.2f}" if np.isfinite(row.exponent) else "–"])  # fmt: skip
    if len(rows) == 1:
        return "No head is measured here."
    return (
        "Shares are of eligible heads; the exponent is the median local one, in the middle of the fitted half. "
        f"{power_model_prose.TIES}\n\n{table(rows)}"
    )


def against(results: Results) -> str:
    """How the exponential fares, head by head, whether or not a head counts for A3. Exploratory."""
    tables = [x.table for x in (results.scores, results.shown) if x is not None]
    every = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    able = every[every["eligible"]].drop_duplicates(["kind", "model", "layer", "head"]) if len(every) else every
    if not len(able):
        return "There is no eligible head to say how well the laws are told apart."
    over = np.log(able["error_exponential"] / able["error_shifted_power"])
    worse = (over > -np.log(1 - law_scores.MARGIN)).groupby([able["kind"], able["model"]]).agg(["sum", "size"])
    share = clustered(worse["sum"].to_numpy(), worse["size"].to_numpy())
    stretched = able["error_stretched_exponential"] / able["error_shifted_power"]
    near = stretched.between(1 - law_scores.MARGIN, 1 / (1 - law_scores.MARGIN))
    off = np.sqrt(able["error_shifted_power"].median())
    return (
        f"Of {len(able)} eligible heads, free fields on all distances included, {shown(share, '.0%')} are predicted "
        f"worse by the exponential, by more than the margin; its held-out error is {np.exp(over.median()):.1f} times "
        f"the shifted power law's (median). The stretched exponential, a power law by another name where its shape is "
        f"near 0, comes within the margin of {law_scores.MARGIN:.0%} in {near.mean():.0%}. No law is close: the "
        f"shifted power law misses far distances by {off:.1f} nat (root mean square, median head). Exploratory: no "
        "criterion was fixed for this."
    )


def operating(worlds: pd.DataFrame, measured: Estimate | None = None) -> str:
    """False positives and power of A3's rule, what it says where all heads are power laws, and the share there."""
    by_world = worlds.set_index("world")
    false = by_world[SUPPORTED].drop("power")
    worst, most = false.idxmax(), false.max()
    power, denied = by_world[SUPPORTED]["power"], by_world.get(NOT_SUPPORTED, 0.0 * by_world[SUPPORTED])["power"]
    judged = (
        "keeps both promises: at most 5 %, at least 80 %" if most <= FALSE and power >= POWER
        else "says *supported* too easily, and so decides nothing here" if most > FALSE
        else "has too little power with noise of this size, and so decides nothing here"
    )  # fmt: skip
    text = (
        f"Where every head follows a shifted power law, **A3** is called *{SUPPORTED}* in {power:.1%} of the worlds "
        f"and *{NOT_SUPPORTED}* in {denied:.1%}; in any other world it is called *{SUPPORTED}* in at most {most:.1%}"
        f"{f' ({worst})' if most else ''}. The rule {judged}."
    )
    if "share" in by_world:
        there = by_world["share"]["power"]
        text += f" Of eligible heads that *are* power laws, {there:.0%} are called so in such a world (median)"
        text += "." if measured is None else f"; of the measured ones, {shown(measured, '.0%')}."
    return text


def words(page: Page) -> str:
    """What the unit and the start make of the exponent: by start, with intervals over models."""
    found = page.part("exponents").exponents
    each = {key: part.groupby("seed")["exponent"].median() for key, part in found.groupby(["task", "start"])}
    if not each:
        return "There are no runs with free fields."
    tasks = [t for t in UNITS if any(task == t for task, _ in each)]
    said = [
        f"from the {start} start " + ", ".join(
            f"on {task} {shown(mean(each[task, start]))} ({len(each[task, start])} models)"
            for task in tasks if (task, start) in each
        ) for start in FREE if any(s == start for _, s in each)
    ]  # fmt: skip
    text = f"Median exponent of a model's heads over the near distances, mean over models: {'; '.join(said)}."
    moved = {t: _apart(each[t, FREE[1]], each[t, FREE[0]]) for t in tasks if all((t, s) in each for s in FREE)}
    unit = {s: _apart(each[UNITS[0], s], each[UNITS[1], s]) for s in FREE if all((t, s) in each for t in UNITS)}
    if moved:
        text += f" **The start** moves it: {FREE[1]} less {FREE[0]} is " + listed(
            f"{shown(e)} on {task}{'' if _clear(e) else ' (which may be nothing)'}" for task, e in moved.items()
        ) + "."  # fmt: skip
        if any(_clear(e) for e in moved.values()):
            text += " So no such exponent is the text's alone, and starts are not averaged."
    if unit:
        text += " **The unit**: " + "; ".join(
            f"from the {start} start bytes are {_steeper(e)} than words (by {shown(e)})" if _clear(e) else
            f"from the {start} start whether bytes are steeper than words cannot be told (by {shown(e)})"
            for start, e in unit.items()
        ) + f". {_unit(list(unit.values()))}"  # fmt: skip
    if few := sorted({len(e) for e in each.values() if len(e) < MIN_N}):
        text += f" With {listed(map(str, few))} models a start, fewer than {MIN_N}, this is a picture and no verdict."
    return text


def _apart(one: pd.Series, other: pd.Series) -> Estimate:
    """Mean of one less that of the other, with Welch's interval over models."""
    gap = float(one.mean() - other.mean())
    if min(len(one), len(other)) < 2:
        return Estimate(gap, np.nan, np.nan)
    low, high = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    return Estimate(gap, float(low), float(high))


def _clear(e: Estimate) -> bool:
    return e.low > 0 or e.high < 0  # nan: False


def _steeper(e: Estimate) -> str:
    return "steeper" if e.value > 0 else "less steep"


def _unit(each: list[Estimate]) -> str:
    """The answer to the section's question, from the differences within starts."""
    sides = {_steeper(e) if _clear(e) else "" for e in each}
    if len(each) == len(FREE) and len(sides) == 1 and "" not in sides:
        return f"So within each start the exponent does care for the unit: bytes are {sides.pop()}."
    return "So it cannot be said for each start that the exponent cares for the unit."


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    return "\n".join(f"- {point}" for point in [_law(page), *copies_prose.meaning(page)])


def _law(page: Page) -> str:
    if word(page) != TOO_SMALL:
        return _a3(page.deciding)
    found, why = evidence(page), powerless(page.worlds)
    if why and found is not None and found["profile"] != "smoke" and found["n"] >= MIN_N:
        return f"No verdict on the law itself, and not for want of models: {why}."
    return "No verdict yet on the law itself: these runs are too small for one."


def beside(page: Page) -> str:
    """How the run here compares with the reference runs."""
    if page.reference is None or page.same:
        return whose(page)
    there, here = (r.a3 for r in (page.reference, page.here))
    if there is None or here is None:
        return whose(page)
    both = f"reference runs {shown(there['share'])}, run here {shown(here['share'])}"
    return f"Share of power laws among eligible heads: {both}."


def diverged(results: Results) -> str:
    """The runs that failed, or that none did."""
    if not results.failed:
        return "No run diverged."
    return "Runs that diverged:\n\n" + "\n".join(f"- {line}" for line in results.failed)
