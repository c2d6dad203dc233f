"""The sentences of the chapter `paths`, written from the runs: none is typed (ours)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from agf_core.analysis import in_context, path_calibration, space_prose, walks
from agf_core.analysis.accuracy_words import known, listed, shown, table
from agf_core.analysis.contrasts import mean
from agf_core.analysis.operating import FALSE, POWER
from agf_core.analysis.paths import CLAIMED, Page, why_not, word
from agf_core.analysis.paths_figures import KINDS
from agf_core.claims import CLAIMS, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate, Number
from agf_core.sources import loaded

NAMES = {"M1": "a walk without memory", "M2": "the probabilities of paths", "M3": "no learning in context",
         "M4": "nearness as probability", "M7": "a space of concepts"}  # fmt: skip


def whose(page: Page) -> str:
    """Which runs decide, in words."""
    if page.reference is None:
        return "No reference run of this chapter is measured in this copy of the library, so the runs here stand alone."
    if page.same:
        return "The runs here are the reference runs."
    missing = [id for id in CLAIMED if page.deciding(id) is page.here]
    rest = f" For {listed(missing)} none is stored, and the runs here stand alone." if missing else ""
    return f"The reference runs decide; the runs here stand beside them.{rest}"


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote; verdicts are recorded in every profile."""
    found: dict[str, Number] = {id.lower(): word(page, id) for id in CLAIMED}
    names = {"M1": {"added R²": "added"}, "M2": {"KL removed": "removed", "slope": "slope"},
             "M3": {"beats mixture by": "beats"}, "M4": {"tied ρ": "tied", "untied ρ": "untied"},
             "M7": {"probe selectivity": "selectivity", "retrieval closes": "closes",
                    "lead on TF-IDF": "lead"}}  # fmt: skip
    for id, parts in names.items():
        estimates = page.deciding(id).estimates.get(id, {})
        found |= {name: estimates[part] for part, name in parts.items() if part in estimates and known(estimates[part])}
    return {**found, "runs": len(page.here.ids | (page.reference.ids if page.reference else frozenset()))}


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    says = {"M1": walk, "M2": probabilities, "M3": context, "M4": space_prose.near, "M7": space_prose.concepts}
    points = [f"{NAMES[id].capitalize()}? **{id}: {{{id.lower()}}}.** {_plain(say(page))}" for id, say in says.items()]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    head = "".join(f"*{_plain(note)}.*\n\n" for note in notes)
    return head + "\n".join(f"- {point}" for point in [*points, _plain(whose(page))])


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def walk(page: Page) -> str:
    """M1 in a sentence."""
    models = page.deciding("M1").walks
    if not (models["kind"] == walks.WORDS).any():
        return "No model of words is measured."
    e = {k: walks.estimate(models, value=k) for k in ("token", "now", "added", "room")}
    return (
        f"The next token alone tells {shown(e['token'], '.1f')} of R² of the next context vector, with the current "
        f"vector {shown(e['now'], '.1f')}; what went before adds {shown(e['added'])}, and could not add more than "
        f"{shown(e['room'], '.1f')}."
    )


def probabilities(page: Page) -> str:
    """M2 in a sentence."""
    results = page.deciding("M2")
    parts = []
    for kind, one in results.known.groupby("kind", sort=False):
        parts.append(f"{KINDS[str(kind)]}: {shown(mean(one['removed']))} of the unigram's KL is gone, slope "
                     f"{shown(mean(one['slope']))}")  # fmt: skip
    return "; ".join(parts) + "." if parts else "No model of a known source is measured."


def context(page: Page) -> str:
    """M3 in a sentence."""
    models = page.deciding("M3").tasks
    peak = in_context.peak(models)
    if peak is None:
        return "No model of finitely many tasks is measured."
    at = models[models["tasks"] == peak]
    e = in_context.estimate(models)
    beats = shown(Estimate(e.value, e.low, e.high, "%"), ".1f") if known(e) else f"{at['beats'].mean():.1f} %"
    return (
        f"On tasks never seen, models beat the Bayes mixture over their own tasks by {beats} where they beat it most "
        f"({peak} tasks); a mixture that is only made less sure (tempered) beats the plain one by "
        f"{at['blurred'].mean():.1f} % there."
    )


def answers(page: Page) -> str:
    """Every instrument on a case whose answer is known, as a table."""
    rows = [["claim", "a case whose answer is known", "should be", "is"]]
    rows += [[r.claim, r.what, f"{r.planted:.3g}", f"{r.found:.3g}"] for r in page.answers.itertuples()]
    return table(rows)


def operating(page: Page) -> str:
    """Which rules can decide."""
    if not page.worlds:
        return "The runs here are too few for intervals, so no rule can be tried on their scatter."
    able = [id for id in page.worlds if not why_not(page, id)]
    each = {id: path_calibration.power(page.worlds[id]) for id in able}
    said = "; ".join(f"{id} {right:.0%} and {wrong:.0%}" for id, (right, wrong) in each.items())
    points = [f"Rules that can decide with the scatter measured: {listed(able)}."]
    if said:
        points.append(f"They say *{SUPPORTED}* in at least so many of the worlds in which they should, and in at most "
                      f"so many of the others (promised: {POWER:.0%} and {FALSE:.0%}): {said}.")  # fmt: skip
    points += [f"**{id} cannot**: {why}." for id in page.worlds if (why := why_not(page, id))]
    if left := [id for id in CLAIMED if id not in page.worlds]:
        points.append(f"Without an interval, and so not tried: {listed(left)}.")
    return " ".join(points)


def drawn(page: Page) -> str:
    """What the picture of the paths shows, and how fast walks part."""
    one = page.here if page.here.walk else page.deciding("M1")
    if one.walk is None:
        return "No model of words is here, and no walk is stored."
    spread = one.walk["spread"]
    return (
        "Continuations of one prompt share their context vector where they part. One token later they are "
        f"{spread[1]:.0%} as far apart (squared distance) as unrelated vectors are, and {np.mean(spread[2:]):.0%} from "
        f"then on. A plane holds {sum(one.walk['explained'][:2]):.0%} of the "
        f"streams' variance (left) and {sum(one.walk['explained'][2:]):.0%} of the context vectors' (right): what lies "
        "near in the picture need not lie near."
    )


def memory(page: Page) -> str:
    """What the predictors say beside words."""
    models = page.deciding("M1").walks
    rows = [["model of", "next token alone", "and current vector", "and history", "history adds"]]
    for kind in dict.fromkeys(models["kind"]):
        rows.append([KINDS[kind], *(shown(Estimate(e.value, e.low, e.high), ".1f") for e in
                     (walks.estimate(models, kind, k) for k in ("token", "now", "history", "added")))])  # fmt: skip
    if len(rows) == 1:
        return "No walk is measured."
    return (
        f"R² in points. The first column is what the second has to be read against{_forgetful(models)}. Sources "
        "with a memory stand beside it: a model of nested brackets has to carry its stack, and carries it in the "
        f"current vector so far as the last column is small.\n\n{table(rows)}"
    )


def _forgetful(models: pd.DataFrame) -> str:
    """Whether a walk of words that forgot all but its last token would be predicted nearly as well."""
    token, now = (walks.estimate(models, value=k).value for k in ("token", "now"))
    said = ": of words, a walk that forgot all but the token just read would be predicted nearly as well"
    return said if token > 0.9 * now else ""


def sources(page: Page) -> str:
    """What the models of known sources give, and to what cannot be."""
    results = page.deciding("M2")
    rows = [["source", "KL of the model", "of two symbols", "of the unigram", "removed", "slope", "to the impossible"]]
    for kind, one in results.known.groupby("kind", sort=False):
        kl = [shown(mean(one[k]), ".3f") for k in ("kl", "bigram", "unigram")]
        never = shown(mean(100 * one["never"]), ".2f") + " %" if one["never"].notna().all() else "all is possible"
        rows.append([KINDS[str(kind)], *kl, shown(mean(one["removed"])), shown(mean(one["slope"])), never])
    if len(rows) == 1:
        return "No model of a known source is measured."
    return (
        "Nats per token, over seeds, each another source; last, the probability that a model gives to symbols that "
        f"cannot follow:\n\n{table(rows)}"
    )


def diversity(page: Page) -> str:
    """Error on unseen tasks by diversity, as a table, and what it says."""
    results = page.deciding("M3")
    if results.tasks.empty:
        return "No model of finitely many tasks is measured."
    rows = [["tasks", "model", "mixture", "best tempered mixture", "prior", "beats mixture by, %", "second half, %"]]
    for tasks, one in results.tasks.groupby("tasks"):
        name = "endless" if tasks == 0 else str(tasks)
        rows.append([name, *(shown(mean(one[k]), ".3f") for k in ("model", "mixture")),
                     "" if tasks == 0 else f"{one['tempered'].mean():.3f}", f"{one['prior'].mean():.3f}",
                     shown(mean(one["beats"]), ".1f"), shown(mean(one["late"]), ".1f")])  # fmt: skip
    seen = results.tasks[results.tasks["tasks"] > 0].groupby("tasks")[["seen_model", "seen_mixture"]].mean()
    kept = ", ".join(f"{t} tasks {r.seen_model:.3f} ({r.seen_mixture:.3f})" for t, r in seen.iterrows())
    nothing = in_context.shows_nothing(results.tasks)
    return (
        "Nats per token on unseen tasks, over seeds, each another pool. A reader to whom all symbols are alike has "
        f"{results.tasks['even'].mean():.3f}. On tasks of the pool, in brackets the mixture, which is the best there: "
        f"{kept}.{f' Here {nothing}.' if nothing else ''} *Endless*: a new task for every sequence, so there is no "
        f"mixture over a pool. *Second half*: the later half of the symbols.\n\n{table(rows)}"
    )


def no_evidence(page: Page, id: str) -> str:
    """Why a criterion was not asked."""
    results, lacks = page.deciding(id), "what it asks about could not be measured here"
    if id in results.estimates:
        lacks = f"{results.seeds(id)} seed{'s are' if results.seeds(id) != 1 else ' is'} too few for one of its parts"
    return f"**{id}: {TOO_SMALL}.** The criterion asks for intervals over seeds, and {lacks}."


def here(page: Page) -> str:
    """The runs here beside the reference runs."""
    if page.reference is None or page.same:
        return whose(page)
    rows = [["claim", "part", "reference runs", "runs here"]]
    for id in CLAIMED:
        ours, theirs = page.here.estimates.get(id, {}), page.reference.estimates.get(id, {})
        for part in CLAIMS[id].criterion.parts:
            if part in theirs:
                own = shown(ours[part], ".3f") if part in ours else "not measured"
                own = "needs several seeds" if own == "not known" else own
                rows.append([id, part, shown(theirs[part], ".3f"), own])
    failed = "".join(f"\n\nDiverged: {line}." for line in page.here.failed)
    return f"{whose(page)}\n\n{table(rows)}{failed}"


def pools(page: Page) -> str:
    """At which diversities the gain over the mixture is within what M3 allows, above it, or neither."""
    limit = CLAIMS["M3"].criterion.parts["beats mixture by"].threshold  # type: ignore[union-attr]
    models = page.deciding("M3").tasks
    each = {int(t): mean(one["beats"]) for t, one in models[models["tasks"] > 0].groupby("tasks")}
    kinds = {"more than M3 allows": lambda e: e.low > limit, "within it": lambda e: e.high <= limit,
             "not clear": lambda e: e.low <= limit < e.high}  # fmt: skip
    said = []
    for what, is_so in kinds.items():
        if at := [f"{t} ({shown(e, '.1f')} %)" for t, e in each.items() if known(e) and is_so(e)]:
            said.append(f"{what} at {listed(at)} tasks")
    return f"The gain is {'; '.join(said)}." if said else "At which diversity, one seed cannot tell."


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    said: dict[str, list[str]] = {}
    for id in CLAIMED:
        said.setdefault(word(page, id), []).append(f"{id} ({NAMES[id]})")
    verdicts = "; ".join(f"*{verdict}*: {listed(ids)}" for verdict, ids in said.items())
    verdicts = verdicts[:1] + verdicts[1:2].upper() + verdicts[2:]
    if set(said) == {TOO_SMALL}:
        return f"{verdicts}. These runs show how the claims are measured, and decide none of them."
    points = [f"{verdicts}."]
    if word(page, "M1") == SUPPORTED:
        points.append(
            "That the walk needs no memory is less than it sounds: beside it stands how much of the next vector "
            "the next token tells alone."
        )
    if word(page, "M3") == NOT_SUPPORTED:
        points.append("With weights frozen a model can do what no narrowing of its training tasks can. By what comes "
                      f"out, that is learning. {pools(page)}")  # fmt: skip
    if word(page, "M7") not in (SUPPORTED, TOO_SMALL):
        points.append("A direction for word class is not yet a space of concepts: what a probe reads off single "
                      "vectors need not help when they are pooled to find what a passage is about.")  # fmt: skip
    return "\n".join(f"- {point}" for point in points)
