"""The sentences of the chapter `following_words`, written from its numbers: none is typed, and none outlives a run
that says otherwise (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import collocation as co
from agf_core.analysis.following_words import PUBLIC_BREAK, Dependencies, Page, Pooled
from agf_core.figures import Estimate, Number

LAWS = {
    "exponential": "one geometric law", "power": "a truncated power law", "two_geometric": "two geometric regimes",
}  # fmt: skip
CLASSES = {
    "NOUN": "a noun", "VERB": "a verb", "ADJ": "an adjective", "ADV": "an adverb", "PRON": "a pronoun",
    "DET": "a determiner", "ADP": "a preposition", "NUM": "a numeral", "CONJ": "a conjunction", "PRT": "a particle",
    "X": "something unclassified", ".": "a punctuation mark",
}  # fmt: skip
HUNDRED = 100  # occurrences: the unit of excess


def nearest(laws: co.Laws, index: int = 0) -> Estimate:
    """Excess partners per hundred occurrences at distance one."""
    value, low, high = (float(HUNDRED * a[index, 0]) for a in (laws.y, laws.low, laws.high))
    return Estimate(value, low, high)


def in_window(laws: co.Laws, index: int = 0) -> Estimate:
    """Excess partners per hundred occurrences in the whole window."""
    value = float(HUNDRED * laws.y[index].sum())
    error = float(HUNDRED * np.sqrt((laws.sigma[index] ** 2).sum()))
    return Estimate(value, value - 1.96 * error, value + 1.96 * error)


def exponent(laws: co.Laws, index: int = 0) -> Estimate:
    """The power law's exponent of one word."""
    low, high = laws.interval()[index]
    return Estimate(float(laws.exponent[index, 0]), float(low), float(high))


def numbers(page: Page) -> dict[str, Number]:
    """What the short answer says, by name, for other pages to quote."""
    found: dict[str, Number] = {
        "corpus_name": page.text.name, "word_name": page.word, "occurrences": page.count, "usable": page.used,
        "rank_exponent": page.next_word.exponent, "chance_rank_exponent": page.next_word.chance_exponent,
        "nearest": nearest(page.distance), "call": page.distance.calls()[0],
    }  # fmt: skip
    if page.pooled is not None:
        p = page.pooled
        found |= {
            "adjectives": p.words, "eligible": p.eligible, "exponent": p.exponent, "power_leads": p.power_leads,
            "held_out": p.held_out,
            "called_power": p.calls["power"], "called_exponential": p.calls["exponential"],
            "called_undecided": p.calls["undecided"], "first_call": p.first.calls()[0],
            "pooled_first": exponent(p.first),
        }  # fmt: skip
    if page.dependencies is not None:
        found["break_"] = page.dependencies.break_
    return found


def in_short(page: Page) -> str:
    """The short answer: a template for `numbers`."""
    parts = [
        "“{word_name}” occurs **{occurrences:,}** times in {corpus_name}.",
        ("By **rank**, its followers fall otherwise than" if page.next_word.differs
         else "By **rank**, its followers cannot be told from")
        + " tokens at random places: exponent {rank_exponent:.2f}, by chance {chance_rank_exponent:.2f}.",
    ]
    if page.classes is not None:
        tag, ratio = _most_enriched(page)
        parts.append(
            f"By **class**, the next token is {CLASSES[tag]} {ratio:.1f} times as often as chance has it."
            if ratio.low > 1
            else "By **class**, none stands next to it clearly oftener than chance has it."
        )
    parts.append(
        ("By **distance**, " if page.distance.eligible[0]
         else "By **distance**, **no company beyond chance could be shown** in the window: ")
        + "it has {nearest:.1f} partners more than chance per hundred occurrences at the next token; "
        + {
            "undecided": "its {usable:,} usable occurrences **cannot tell** a power law from an exponential.",
            "power": "a **power law** is called.",
            "exponential": "an **exponential** is called.",
        }[page.distance.calls()[0]]
    )
    if page.pooled is not None:
        parts.append(
            "Of {adjectives} frequent **adjectives**, asked one by one, {eligible} have company that can be told from "
            "chance. Median exponent: {exponent:.2f}; the power law leads in {power_leads:.0%} of them, and predicts "
            "held-out distances better in {held_out:.0%}. Called: "
            "power {called_power}, exponential {called_exponential}, undecided {called_undecided}. Added up first, "
            "they would have been called *{first_call}*, with exponent {pooled_first:.2f}."
        )
    if page.dependencies is not None:
        best = _best(page.dependencies)
        parts.append(
            f"**Dependency distances**, in a treebank, are fitted best, of three laws, by {LAWS[best]}; the break is "
            "at {break_:.0f}."
        )
    notes = [f"{page.text.note}." if page.text.note else "", page.left_out.get("documents", "")]
    head = "".join(f"*{note}*\n\n" for note in notes if note)
    return head + "\n".join(f"- {part}" for part in parts)


def _most_enriched(page: Page) -> tuple[str, Estimate]:
    """The class at the next place whose ratio to chance is surest to be large."""
    assert page.classes is not None
    first = page.classes[page.classes["r"] == 1]
    row = first.loc[first["low"].idxmax()]
    ratio, low, high = (float(2.0 ** row[c]) for c in ("log2", "low", "high"))
    return str(row["tag"]), Estimate(ratio, low, high)


def what_it_can_show(page: Page) -> str:
    """What the word's number of occurrences can and cannot show, from the planted trials."""
    table = page.operating
    few, many = table[table["occurrences"] == page.used], table[table["occurrences"] > page.used]
    told = (
        f"The rule, fixed in code: a law is called when its AICc leads by {co.MARGIN:g} or more and {co.AGREE:.0%} of "
        f"the resamples agree; company is told from chance when the window's excess is {co.ELIGIBLE:g} standard errors "
        f"above none. {few['trials'].iloc[0]:,} planted words a row, so shares are known to about "
        f"±{98 / np.sqrt(few['trials'].iloc[0]):.0f} points.\n\n"
        f"With **{page.used:,} occurrences** company is told from chance in {few['told'].mean():.0%} of the trials"
    )
    if few["fitted"].mean() < 0.5:
        return f"{told}, and most give nothing to fit: so few occurrences show nothing about a law of distance."
    power = few[few["law"] == "power"]
    parts = [
        f"{told}. {_called(few)}",
        f"The exponent of a planted power law is known to about ±{power['half_width'].median():.1f}; its 95 % interval "
        f"holds the truth in {_coverage(power)}.",
        "So this many occurrences can often name the law."
        if few["right"].mean() >= 0.5
        else "So this many occurrences **cannot name the law**.",
    ]
    if len(many):
        told = _called(many)
        parts.append(f"Of words with {many['occurrences'].iloc[0]:,} occurrences: {told[0].lower()}{told[1:]}")
        if _share(many, "exponential") > _share(many, "power") + 0.1:
            parts.append("So the rule finds exponentials more easily than power laws.")
    return " ".join(parts)


def _coverage(table: pd.DataFrame) -> str:
    """In how many trials the interval holds the truth, and whether so many can be had from one that keeps its promise:
    by the exact binomial interval of that share.
    """
    fitted = table["trials"] * table["fitted"]
    tried, held = float(fitted.sum()), float((fitted * table["covered"]).sum())
    n, k = round(tried), round(held)
    about = "" if max(abs(tried - n), abs(held - k)) < 1e-6 else "about "  # means over texts, not fitted alike
    low, high = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    judged = (
        "less than it promises" if high < 0.95 else "more than it promises" if low > 0.95 else
        "compatible with its promise"
    )  # fmt: skip
    return f"{about}{k:,} of {n:,} trials, {judged}"


def _share(table: pd.DataFrame, law: str) -> float:
    return float(table.loc[table["law"] == law, "right"].mean())


def _called(table: pd.DataFrame) -> str:
    """How often the rule is right, by the family that was planted, and wrong."""
    return (
        f"A power law is called in {_share(table, 'power'):.0%} of the words that follow one, an exponential in "
        f"{_share(table, 'exponential'):.0%}, a wrong law in {table['wrong'].mean():.0%}."
    )


def rank(page: Page) -> str:
    """Whether the followers' rank law differs from chance, next token and window."""
    out = []
    for found, where in ((page.next_word, "The next token"), (page.in_window, "The whole window")):
        says = "told from random places" if found.differs else "not told from random places"
        p = f"p = {found.p:.2f}" if found.p >= 0.01 else "p < 0.01"
        out.append(
            f"{where}: exponent {found.exponent:.2f}, by chance {found.chance_exponent:.2f} ({p}); {found.kinds:,} "
            f"different followers, by chance {found.chance_kinds:,.0f}: **{says}**."
        )
    words = [f"{w} ({n})" for w, n in page.next_word.top if any(c.isalnum() for c in w)][:5]
    return " ".join([*out, f"Its commonest next words, punctuation apart: {', '.join(words) or 'none'}."])


def distance(page: Page) -> str:
    """The word's excess, its laws and the call."""
    laws = page.distance
    told = "can" if laws.eligible[0] else "cannot"
    parts = [
        f"{page.used:,} occurrences have the whole window in their document. Per hundred of them there are "
        f"{in_window(laws):.1f} partners more than chance in the window, {nearest(laws):.1f} at the next token: "
        f"this company {told} be told from chance, by the rule that the adjectives must meet, too."
    ]
    if np.isfinite(laws.exponent[0, 0]):
        k = exponent(laws)
        known = "" if co.REACH[0] < k.low and k.high < co.REACH[1] else ", in effect not determined"
        parts.append(
            f"Exponent of the power law: {k:.2f}{known}; it leads in {laws.support()[0]:.0%} of the resamples."
        )
    parts.append(f"Call: **{laws.calls()[0]}**.")
    if page.partners:
        parts.append(f"Commonest partners: {', '.join(page.partners[:6])}.")
    return " ".join(parts)


def pooled(found: Pooled) -> str:
    """The adjectives, per word first."""
    c = found.calls
    edge = int((found.laws.interval()[found.laws.eligible, 1] >= co.REACH[1]).sum())
    return (
        f"{found.eligible} of {found.words} adjectives have company that can be told from chance. Median exponent: "
        f"**{found.exponent:.2f}**. The power law has the better criterion in {found.power_leads:.0%} of them, and "
        f"predicts the distances held out better in {found.held_out:.0%}; its mean lead, each word with parameters of "
        f"its own, is {found.lead:.1f}. Called: power {c['power']}, exponential {c['exponential']}, undecided "
        f"{c['undecided']}. {edge} of the intervals reach {co.REACH[1]:g}, the limit of the search: there the data set "
        f"no upper bound. {_ahead(found)}"
    )


def _ahead(found: Pooled) -> str:
    law = (
        "the **power law**"
        if found.lead.low > 0
        else "the **exponential**"
        if found.lead.high < 0
        else "**neither law**"
    )
    held = (
        "held-out distances favour the power law"
        if found.held_out.low > 0.5
        else "held-out distances favour the exponential"
        if found.held_out.high < 0.5
        else "held-out distances favour neither"
    )
    return f"Over all words, asked one by one, {law} is ahead by the mean lead in AICc; {held}."


def trap(page: Page) -> str:
    """What pooling first would have said, of planted exponentials and of this text."""
    planted, own = page.calibration.trap, page.pooled
    assert own is not None
    return (
        f"Generated words that each follow an exponential law, added up, are called **{planted.calls()[0]}**, with "
        f"exponent {exponent(planted):.2f}: a narrow interval around a wrong conclusion. The adjectives of this text, "
        f"added up, are called **{own.first.calls()[0]}**, with exponent {exponent(own.first):.2f}. That is why the "
        "lower curve carries no weight here."
    )


def _best(found: Dependencies) -> str:
    return min(found.aic, key=found.aic.__getitem__)


def dependency(found: Dependencies) -> str:
    """Which law the dependency distances follow, and the break."""
    best = _best(found)
    agrees = "as the public finding has it" if best == "two_geometric" else "unlike the public finding"
    rest = "; ".join(f"{LAWS[law]} +{found.aic[law] - found.aic[best]:,.0f}" for law in found.aic if law != best)
    return (
        f"{found.number:,} dependencies in {found.sentences:,} sentences, mean distance {found.mean:.2f}. Best of "
        f"three: **{LAWS[best]}**, {agrees} (corrected Akaike criterion of the others, above it: {rest}). The break is "
        f"at **{found.break_:.0f}**; the public finding is {PUBLIC_BREAK[0]} to {PUBLIC_BREAK[1]} words. Treatment: "
        f"{found.treatment}. Sentences of all lengths are pooled, and the dependencies of one sentence are not "
        "independent, so the differences in the criterion overstate the evidence."
    )


def meaning(page: Page) -> str:
    """The conclusions that this run supports, and their limits."""
    call = page.distance.calls()[0]
    points = [
        "The followers of this word are spread otherwise than chance; but ranks know nothing of distance."
        if page.next_word.differs
        else "The rank plot of this word's followers is no evidence for a law: it cannot be told from random places.",
        "Whether this word's company falls as a power or as an exponential, its occurrences cannot tell."
        if call == "undecided"
        else f"For this word the {call} law is called, by a rule whose error rates stand above.",
    ]
    if page.pooled is not None:
        share = page.pooled.calls["undecided"] / page.pooled.eligible
        points.append(
            f"{_ahead(page.pooled)} {share:.0%} of the adjectives are undecided, while the curve of all together would "
            f"have said “{page.pooled.first.calls()[0]}”."
        )
    if page.dependencies is not None and _best(page.dependencies) == "two_geometric":
        points.append("Grammar's distances have a scale, a break after a few words, which a pure power law has not.")
    points.append(
        "Scope: one text, one window, partners chosen by co-occurrence. Whether attention copies what language offers "
        "is another chapter's question, where we set the gap law of the training text."
    )
    return "\n".join(f"- {point}" for point in points)
