"""The sentences of the chapter `accuracy` on its claims, written from the runs: none is typed, and none outlives a run
that says otherwise (ours). Those on single encodings are in `accuracy_field_prose`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import accuracy, grids
from agf_core.analysis.accuracy import LEARNED_BITS, Page, Results
from agf_core.analysis.accuracy_field_prose import lengths, ranking
from agf_core.analysis.accuracy_starts import lost, of_the_field, of_the_start
from agf_core.analysis.accuracy_words import called, known, listed, rivals, shown
from agf_core.analysis.operating import POWER, foretold
from agf_core.claims import CLAIMS, DELTA, MIN_N, SUPPORTED, TOO_SMALL
from agf_core.encodings import ENCODINGS
from agf_core.figures import Number
from agf_core.sources import loaded


def word(page: Page, id: str) -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(accuracy.evidence(page, id))


def no_evidence(page: Page, id: str) -> str:
    """Why the criterion of a claim was not asked."""
    missing = [_part(part) for part, e in accuracy.ESTIMATES[id](page.deciding).items() if not known(e)]
    return (
        f"**{id}: {TOO_SMALL}.** The criterion asks for an interval on every part, and there is none on "
        f"{listed(missing)}: fewer than two seeds have both runs of the pair, or one of them diverged."
    )


def whose(page: Page) -> str:
    """Which runs decide, in words."""
    if page.reference is None:
        return "No reference run is stored in this copy of the library, so the runs here stand alone."
    return (
        "The runs here are the reference runs."
        if page.same
        else "The reference runs decide; the run here stands beside them."
    )


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    there = page.reference.ids if page.reference else frozenset()
    return {
        "a1": word(page, "A1"), "a2": word(page, "A2"), "encodings": len(ENCODINGS), "runs": len(page.here.ids | there),
    }  # fmt: skip


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    deciding, parts = page.deciding, []
    for id, what in (("A1", "Does decoupling win?"), ("A2", "Does AGF beat the prevailing encodings?")):
        found = {p: e for p, e in accuracy.ESTIMATES[id](deciding).items() if p != "A/A"}
        asked = CLAIMS[id].criterion.parts
        met = [p for p, e in found.items() if asked[p].verdict(e.value, (e.low, e.high)) == SUPPORTED]
        said = f"{what} **{id}: {{{id.lower()}}}.** {len(met)} of {len(found)} comparisons meet the criterion"
        told = found if id == "A1" else {p: e for p, e in found.items() if p not in met}
        said += ("; not met: " if id == "A2" and told else ": ") if told else ""
        said += "; ".join(f"{_part(p)} saves {shown(e)}" for p, e in told.items()) + "."
        parts.append(said)
    parts += of_the_start(deciding)
    best = ranking(deciding)
    at = f"AGF is number {best.index('agf') + 1} of {len(best)}" if "agf" in best else "AGF diverged"
    parts += [f"Lowest loss on **bytes**: {listed(best[:3])}, in this order; {at}.", lengths(deciding), whose(page)]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    return "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {part}" for part in parts)


def _part(part: str) -> str:
    """A part of A2 in words: "AGF over T5 on bytes"; one of A1 as it is."""
    unit, _, rival = part.partition(": ")
    return f"AGF over {called(rival)} on {unit}" if rival else f"{part} (on bytes)"


def gate(page: Page) -> str:
    """Whether association was learned, and how far apart the twins are."""
    lines = []
    for results, whom in ((page.reference, "reference runs"), (None if page.same else page.here, "run here")):
        if results is None:
            continue
        passed = "passes" if results.learned else f"**not passed: {TOO_SMALL}**"
        twins = accuracy.a2(results)["A/A"]
        if not known(twins):
            said = "too few seeds to judge"
        elif twins.low >= -DELTA and twins.high <= DELTA:
            said = f"within ± δ = {DELTA:g} %, as it must be"
        else:
            said = f"**not within ± δ = {DELTA:g} %**: scatter between seeds, or training r₀, may be worth more than δ"
        lines.append(
            f"- *The {whom}.* Full attention is {shown(results.gate)} bits a byte better than its field alone, where "
            f"{LEARNED_BITS} are asked for: {passed}. Over KERPLE-log, its twin, AGF saves {shown(twins)} of the loss: "
            f"{said}."
        )
    return "\n".join(lines)


def operating(worlds: dict[str, pd.DataFrame], seeds: int, results: Results | None = None) -> str:
    """False positives and power of both rules, in worlds drawn from so many seeds; beside them what was measured."""
    out = []
    for id, found in worlds.items():
        if found.empty:
            out.append(f"**{id}**: no scatter between seeds to draw worlds from (one seed, or a run that diverged).")
            continue
        share = found.set_index("world")[SUPPORTED]
        false, power = max(share["0"], share["one fails"]), share[f"{2 * DELTA:g}"]
        judged = (
            f"was given {seeds} seeds where it asks for {MIN_N}, and draws from so few repeat themselves: no judgement"
            if seeds < MIN_N
            else "keeps both promises: at most 5 %, at least 80 %"
            if false <= 0.05 and power >= 0.8
            else "says *supported* too easily"
            if false > 0.05
            else f"has too little power there, with these seeds and this scatter{_enough(id, share, results)}"
        )
        out.append(
            f"**{id}** is called *supported* in {share['0']:.1%} of the worlds in which nothing is saved, in "
            f"{share['one fails']:.1%} where a single part is nothing, and in {power:.1%} where every part saves "
            f"{2 * DELTA:g} %, that is 2 δ. The rule {judged}."
        )
    return "\n\n".join(out)


def _enough(id: str, share: pd.Series, results: Results | None) -> str:
    """From which planted saving on a rule has its power, and which measured savings lie below that."""
    enough = [float(w) for w, s in share.items() if s >= POWER and str(w).replace(".", "").isdigit()]
    said = f"; it has {100 * POWER:g} % for savings from {min(enough):g} % on" if enough else "; no saving is enough"
    if results is None:
        return said
    measured = {p: e for p, e in accuracy.ESTIMATES[id](results).items() if p != "A/A"}
    below = {p: e for p, e in measured.items() if not enough or not e.value >= min(enough)}
    if not below:
        return f"{said}, and every measured saving lies there"
    said += f". Measured savings below that: {'; '.join(f'{_part(p)} {shown(e)}' for p, e in below.items())}. "
    said += f"Low power makes a miss likely there, not a false *{SUPPORTED}*, whose shares are given first"
    missed = [p for p, e in below.items() if known(e) and e.high < DELTA]
    return said + (f". No saving of δ was missed over {rivals(missed)}: the interval ends below δ" if missed else "")


def tuning(found: pd.DataFrame) -> str:
    """How much tuning mattered, whether the range of rates was wide enough, and which start was chosen."""
    if found.empty:
        return f"No tuning run is stored in this copy of the library: every encoding takes the rate {grids.RATE:g}."
    each = found[np.isfinite(found["loss"])].groupby(["task", "name", "start", "rate"])["loss"].mean()
    cost = 100 * (each.groupby(level=[0, 1, 2]).max() / each.groupby(level=[0, 1, 2]).min() - 1)
    edge = found[found["chosen"] & found["rate"].isin([min(grids.RATES), max(grids.RATES)])]
    at_edge = [f"{listed(sorted(set(part['name'])))} on {task}" for task, part in edge.groupby("task")]
    published = found[found["chosen"] & (found["start"] == "published")]
    from_there = [f"{listed(sorted(set(part['name'])))} on {task}" for task, part in published.groupby("task")]
    return " ".join([
        f"{len(found)} runs tune the rate, on seeds and documents that no verdict uses. The worst of the "
        f"{len(grids.RATES)} rates costs {cost.median():.1f} % of the loss (median), at most {cost.max():.1f} %.",
        f"The rate taken lies at an end of the range for {'; '.join(at_edge)}: one beyond it might do better there."
        if at_edge else "No rate that is taken lies at an end of the range.",
        f"Better from the published start than from the matched one, and compared from there: {'; '.join(from_there)}."
        if from_there else "No prevailing encoding was better from its published start than from the matched one.",
    ])  # fmt: skip


def beside(page: Page) -> str:
    """How the run here orders the encodings, and the cells of the plane, compared with the reference runs."""
    if page.reference is None or page.same:
        return whose(page)
    out = []
    for what, one, other in (
        ("encodings by loss on bytes", page.here.tasks["bytes"], page.reference.tasks["bytes"]),
        ("cells of the plane", page.here.plane, page.reference.plane),
    ):
        losses = [{n: p["loss"].mean() for n, p in runs.groupby("name")} for runs in (one, other)]
        both = [n for n in losses[0] if n in losses[1] and np.isfinite([found[n] for found in losses]).all()]
        if len(both) > 3:
            rho = stats.spearmanr(*([found[n] for n in both] for found in losses)).statistic
            out.append(f"{rho:.2f} over {len(both)} {what}")
    said = "; ".join(out) or "not known"
    return f"Rank correlation between the run here and the reference runs: {said}."


def diverged(results: Results) -> str:
    """The runs that failed, or that none did."""
    if not results.failed:
        return "No run diverged."
    return "Runs that diverged:\n\n" + "\n".join(f"- {line}" for line in results.failed)


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    deciding = page.deciding
    if word(page, "A1") == word(page, "A2") == TOO_SMALL:
        return "Nothing, yet: these runs are too small for a verdict, and the pictures show only that they can be made."
    saved = {**accuracy.a1(deciding), **accuracy.a2(deciding)}
    clear = {p: int(np.sign(e.value)) if e.low * e.high > 0 else 0 for p, e in saved.items()}
    sides = {1: "lowers the loss in {}", -1: "raises it in {}", 0: "makes no clear difference in {}"}
    pairs = [(text, [p for p in accuracy.PAIRS if clear[p] == s]) for s, text in sides.items()]
    points = ["Decoupling " + "; ".join(text.format(listed(of)) for text, of in pairs if of) + "."]
    points[0] += lost(deciding)
    behind, open_ = ([p for p in saved if p not in accuracy.PAIRS and p != "A/A" and clear[p] == s] for s in (-1, 0))
    points.append(f"AGF is clearly behind {rivals(behind)}" + (
        f"; neither clearly ahead of nor behind {rivals(open_)}." if open_ else "."
    ))  # fmt: skip
    gains = [e for e in grids.PREVAILING if accuracy.family(e) == "entangled" and clear[f"bytes: {e}"] > 0]
    points += of_the_field(page, gains)
    return "\n".join(f"- {point}" for point in points)
