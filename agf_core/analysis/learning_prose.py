"""The sentences of the chapter `learning_curves` on learning, and its short answer, written from the runs: none is
typed, and none outlives a run that says otherwise (ours). Those on forgetting are in `forgetting_prose`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from agf_core.analysis import curve_laws, forgetting_laws, forgetting_prose
from agf_core.analysis.accuracy_words import known, shown, table
from agf_core.analysis.contrasts import mean
from agf_core.analysis.curve_laws import LAWS
from agf_core.analysis.learning_curves import Page, Results, evidence, powerless
from agf_core.analysis.learning_figures import KINDS, seeds
from agf_core.analysis.operating import foretold
from agf_core.claims import CLAIMS, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate, Number
from agf_core.sources import loaded

CALLED = {"power": "the power law", "exponential": "the exponential"}


def word(page: Page, claim: str) -> str:
    """The verdict that `claims.report` will print for this page."""
    return foretold(evidence(page, claim))


def no_evidence(page: Page, claim: str) -> str:
    """Why the criterion was not asked."""
    if claim == "A5":
        return f"**A5: {TOO_SMALL}.** {forgetting_prose.nothing(page)}"
    failed = f" {len(page.here.failed)} diverged." if page.here.failed else ""
    return f"**A4: {TOO_SMALL}.** The criterion asks for learning curves, and no run that was watched is here.{failed}"


def numbers(page: Page) -> dict[str, Number]:
    """What other pages may quote: recorded in every profile."""
    found: dict[str, Number] = {"a4": word(page, "A4"), "a5": word(page, "A5"),
                                "remembering": page.retention.remembering,
                                "models": sum(map(len, page.retention.recalls.values()))}  # fmt: skip
    if e := page.learning.a4:
        found["share"] = e
    return found


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    points = [
        "Do learning curves follow a power law? **A4: {a4}.** " + share(page.learning) + _no(page, "A4"),
        pooling(page.learning),
        "Does forgetting? **A5: {a5}.** " + forgetting_prose.in_short(page) + _no(page, "A5"),
        forgetting_prose.copies_in_short(page),
        forgetting_prose.human_in_short(page),
        whose(page),
    ]
    notes = dict.fromkeys(note for origin in loaded() if (note := origin.get("note")))
    return "".join(f"*{note}.*\n\n" for note in notes) + "\n".join(f"- {point}" for point in points if point)


def _no(page: Page, claim: str) -> str:
    found = evidence(page, claim)
    why = found["too_small"] if found else ""
    return f" That decides nothing, though: {why}." if why else ""


def whose(page: Page) -> str:
    """Which runs decide, in words."""
    if page.reference is None:
        return "No reference run of this chapter is stored in this copy of the library, so the runs here stand alone."
    if page.same:
        return "The runs here are the reference runs."
    parts = {"learning curves": page.learning, "forgetting": page.retention}
    stored = [name for name, results in parts.items() if results is page.reference]
    alone = [name for name in parts if name not in stored]
    said = [f"Of {' and '.join(stored)} the reference runs decide; the run here stands beside them."] if stored else []
    if alone:
        said.append(f"Of {' and '.join(alone)} no reference run is stored, so the run here stands alone.")
    return " ".join(said)


def share(results: Results) -> str:
    """Of how many curves which law predicts the end better."""
    e = results.a4
    if e is None:
        return "No learning curve is here."
    falls = results.scores["falls"].mean()
    text = (
        f"Of {len(results.scores):,} curves, one for each common byte of each run, the power law predicts the last "
        f"two doublings of training better, by {curve_laws.MARGIN:.0%} or more, in a share of {shown(e)}"
    )
    return text + ("." if falls == 1 else f"; {1 - falls:.0%} of them do not fall where the laws are fitted.")


def pooling(results: Results) -> str:
    """What pooling does to the same curves."""
    found, e = results.pooled, results.a4
    if found is None or e is None:
        return ""
    who, alike = found.winner(), found.winner("exponentials")
    text = (
        f"Pooled into one, the same curves are won by {CALLED[who]}: its error is {found.error('seen', who):.3f} "
        f"nats, that of {CALLED[_other(who)]} {found.error('seen', _other(who)):.3f}. "
    )
    if who == "power" and alike == "power":
        return text + (
            "Were every curve exactly the exponential that fits it best, their pool would be won by the power law too: "
            "**the pooled curve says nothing of its parts**."
        )
    if who == "power":
        return text + (
            "Were every curve exactly the exponential that fits it best, their pool would be won by the "
            "exponential: here pooling alone does not explain it."
        )
    return text + "So pooling did not flatter the power law here" + (
        ", though pooled exponentials would have." if alike == "power" else "."
    )


def _other(law: str) -> str:
    return LAWS[1 - LAWS.index(law)]


def points(results: Results) -> str:
    """What an even spacing in log tokens means."""
    c = results.curves
    if not len(c.loss):
        return "No run was watched on its way, so there is no learning curve to show."
    t, k = c.tokens, c.fitted
    return (
        f"Here: {len(t)} points, evenly in log tokens from {t[0]:,.0f} to {t[-1]:,.0f} bytes. The laws are fitted "
        f"to the first {k}, up to {t[k - 1]:,.0f} bytes, and predict the others, so the first "
        f"{t[k - 1] / t[-1]:.0%} of the training predict the rest. {c.about['model'].nunique()} runs, "
        f"{c.about.groupby('model').size().median():.0f} kinds of byte in each, the rarest with "
        f"{c.about['targets'].min():,} held-out targets."
    )


def calibration(page: Page) -> str:
    """What the rules say of worlds whose truth is known."""
    out = []
    for claim, worlds in page.worlds.items():
        each = worlds.set_index("world")[SUPPORTED]
        why = powerless(worlds)
        out.append(
            f"- **{claim}**: where the power law is true of all, the rule says *{SUPPORTED}* in "
            f"{each['power']:.0%} of the worlds; in the others in at most {each.drop('power').max():.0%}. "
            + ("**So it cannot decide with noise of this size**, and does not." if why else
               "So the rule can decide where words are recalled; here that is not shown (see below)."
               if claim == "A5" and forgetting_laws.by_chance(page.retention.recalls) else "So it can decide.")
        )  # fmt: skip
    return "\n".join(out)


def curves(results: Results) -> str:
    """Shares by kind of model, and how sure the winners are."""
    if not len(results.scores):
        return points(results)
    rows = [["models", "power law ahead [95 %]", "exponential ahead", "undecided", "does not fall",
             "median errors", "curves (runs)"]]  # fmt: skip
    for kind, part in results.scores.groupby("kind", sort=False):
        own = curve_laws.share(part)
        errors = ", ".join(f"{part[f'error_{law}'].median():.3f}" for law in LAWS)
        rows.append([KINDS[str(kind)][1], f"{own:.2f}",
                     *(f"{(part['winner'] == w).mean():.2f}" for w in curve_laws.WINNERS[1:]),
                     errors, f"{len(part)} ({part['model'].nunique()})"])  # fmt: skip
    return (
        f"{table(rows)}\n\nErrors are root mean squares on the held-out points, in nats: the power law's, then the "
        f"exponential's. *Ahead* is a law whose error is smaller by {curve_laws.MARGIN:.0%} or more."
        + _averaged(results)
    )


def _averaged(results: Results) -> str:
    """What is left of the undecided when runs are averaged first."""
    if results.scores.groupby("kind")["model"].nunique().max() < 2:
        return ""
    found = curve_laws.over_runs(results.curves)["winner"]
    return (
        " Averaged over runs first, byte by byte, which takes most of the noise away (and pools, though only over "
        f"seeds), the power law is ahead in {(found == 'power').sum()} of {len(found)} mean curves, the exponential in "
        f"{(found == 'exponential').sum()}."
    )


def cosine(page: Page) -> str:
    """What the schedule does to the curve."""
    parts = page.schedules.groupby("schedule")[["slope", "low", "high", "seeds"]].first()
    if len(parts) < 2:
        return "Reference runs at both schedules are not stored in this copy of the library: nothing to compare."
    slopes = {str(r.Index): Estimate(r.slope, r.low, r.high) for r in parts.itertuples()}
    falls, stays = slopes["cosine"], slopes["constant"]
    text = (
        f"Over its last two doublings the training loss falls as tokens to the power {shown(stays, '.3f')} at a "
        f"constant rate, and to the power {shown(falls, '.3f')} with the cosine, means over "
        f"{' and '.join(dict.fromkeys(map(str, parts['seeds'])))} seeds: "
    )
    if falls.high < stays.low:
        return text + (
            "the end is steeper with the cosine. Budgets and peak rates differ as well: schedule, budget or peak rate "
            "steepens the end, and these runs cannot separate them."
        )
    return text + "that the end is steeper with the cosine is not shown."


def exponents(page: Page) -> str:
    """How AGF's exponents form, and whether seeds agree."""
    t = page.forming
    if t.empty:
        return "No reference runs of AGF are stored in this copy of the library."
    head = t.assign(head=t["layer"] * 100 + t["head"])
    wide = head.pivot_table(index=["tokens", "seed"], columns="head", values="exponent")
    first, last = (wide.loc[at] for at in (t["tokens"].min(), t["tokens"].max()))
    moved, alike, change = (last - first).abs().to_numpy(), curve_laws.likeness(last), curve_laws.likeness(last - first)
    return (
        f"{t['seed'].nunique()} seeds of AGF on bytes, from one start. A head's exponent moves by "
        f"{np.median(moved):.2f} "
        f"in the median and {moved.max():.2f} at most; heads end at {last.mean().min():.2f} to "
        f"{last.mean().max():.2f}.{_rising(wide)} "
        f"Seeds agree on where a head ends (ICC {alike['icc']:.2f}, SD over seeds {alike['sd']:.2f}), but they started "
        f"alike; on how far a head moved, the ICC is {change['icc']:.2f}."
    )


def _rising(wide: pd.DataFrame) -> str:
    """How many heads still rise between the last two times looked at, seeds (at least two) agreeing; rows as above."""
    times = wide.index.unique("tokens").sort_values()
    if len(times) < 2 or wide.index.unique("seed").size < 2:
        return ""
    step = wide.loc[times[-1]] - wide.loc[times[-2]]
    up = sum(mean(step[head].to_numpy()).low > 0 for head in step)
    return (
        f" From {times[-2]:,.0f} to {times[-1]:,.0f} bytes, the last stretch, {up} of {step.shape[1]} heads still rise "
        "(interval over seeds above 0)."
    )


def likeness(results: Results) -> str:
    """Spread over seeds of losses, in all and by kind of byte."""
    if not len(results.curves.loss):
        return points(results)
    rows = [["models", "seeds", "SD over seeds of a byte's final loss (nats)", "SD between bytes", "ICC",
             "SD over seeds of the mean loss"]]  # fmt: skip
    c = results.curves
    for r in seeds(c).itertuples():
        own = c.about["kind"] == r.kind
        totals = [np.average(c.loss[m, -1], weights=c.about["targets"][m]) for m in
                  (own & (c.about["model"] == i) for i in c.about.loc[own, "model"].unique())]  # fmt: skip
        sd = f"{np.std(totals, ddof=1):.4f}" if len(totals) > 1 else "not known"
        rows.append([KINDS[r.kind][1], str(r.seeds), *("not known" if np.isnan(v) else f"{v:.3f}" for v in
                     (r.sd, r.between, r.icc)), sd])  # fmt: skip
    return table(rows)


def _single(page: Page, e: Estimate) -> str:
    """What the share of single curves says, and what it does not."""
    asked = CLAIMS["A4"].criterion.parts["share"].threshold  # type: ignore[union-attr]
    text = f"Single learning curves: the power law has {e.value:.0%} of them; A4 asks for {asked:.0%}"
    if not known(e):
        text += "; one run has no interval"
    elif e.low <= asked <= e.high:
        text += f"; the interval, {e.low:.0%} to {e.high:.0%}, holds that"
    if (found := evidence(page, "A4")) and found["too_small"]:
        return f"{text}, and the rule may not decide here." if known(e) else f"{text}."
    lessons = {NOT_SUPPORTED: " Whoever looks at one kind of token at a time has no law to report.",
               SUPPORTED: " It is ahead of an exponential; that is not yet a law."}  # fmt: skip
    return f"{text}.{lessons.get(word(page, 'A4'), '')}"


def meaning(page: Page) -> str:
    """What the runs support, in a few points."""
    if page.here.profile == "smoke" and page.reference is None:
        return "Nothing, yet: these runs are too short, and the pictures show only that they can be made."
    results, lines = page.learning, []
    if e := results.a4:
        lines.append(_single(page, e))
    if text := pooling(results):
        lines.append(text)
    lines.append(forgetting_prose.meaning(page))
    return "\n".join(f"- {line}" for line in lines)
