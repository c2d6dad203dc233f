"""The sentences of the chapter `following_words`, written from its numbers: none is typed, and none outlives a run
that says otherwise (ours).
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import collocation as co
from agf_core.analysis.followers import estimate
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


def nearest(laws: co.Laws, index: int = 0) -> Estimate:
    """Excess partners per hundred occurrences at distance one."""
    value, low, high = (float(100 * a[index, 0]) for a in (laws.y, laws.low, laws.high))
    return Estimate(value, low, high)


def exponent(laws: co.Laws, index: int = 0) -> Estimate:
    """The power law's exponent of one word."""
    low, high = laws.interval()[index]
    return Estimate(float(laws.exponent[index, 0]), float(low), float(high))


def numbers(page: Page) -> dict[str, Number]:
    """What the short answer says, by name, for other pages to quote."""
    found: dict[str, Number] = {
        "corpus_name": page.text.name, "word_name": page.word, "occurrences": page.count, "usable": page.used,
        "window_tokens": page.in_window.span, "rank_exponent": page.next_word.exponent,
        "chance_rank_exponent": page.next_word.chance_exponent, "nearest": nearest(page.distance),
        "call": page.distance.calls()[0],
    }  # fmt: skip
    if page.pooled is not None:
        p = page.pooled
        found |= {
            "adjectives": p.words, "eligible": p.eligible, "exponent": p.exponent, "power_leads": p.power_leads,
            "called_power": p.calls["power"], "called_exponential": p.calls["exponential"],
            "pooled_first": exponent(p.first),
        }  # fmt: skip
    if page.dependencies is not None:
        found["break_"] = page.dependencies.break_
    return found


def in_short(page: Page) -> str:
    """The first paragraph: a template for `numbers`."""
    parts = ["“{word_name}” occurs **{occurrences:,}** times in {corpus_name}."]
    if page.text.note:
        parts.insert(0, f"*{page.text.note}.*\n\n")
    same = "more steeply or less than" if page.next_word.differs else "as"
    parts.append(
        f"By **rank**, its followers fall {same} tokens at random places do: exponent {{rank_exponent:.2f}}, "
        f"against "
        "{chance_rank_exponent:.2f} by chance."
    )
    if page.classes is not None:
        tag, ratio = _most_enriched(page)
        parts.append(f"By **class**, the next token is {CLASSES[tag]} {ratio:.1f} times as often as chance has it.")
    parts.append(
        "By **distance**, it has {nearest:.1f} more partners than chance per hundred occurrences at the next "
        "token, and "
        + {
            "undecided": "its {usable:,} usable occurrences **cannot tell** a power law from an exponential.",
            "power": "a **power law** is called.",
            "exponential": "an **exponential** is called.",
        }[page.distance.calls()[0]]
    )
    if page.pooled is not None:
        parts.append(
            "Of the {adjectives} frequent **adjectives**, each asked on its own, {eligible} have company that "
            "can be "
            "told from chance; the median exponent is {exponent:.2f}, the power law leads in {power_leads:.0%} "
            "of them, "
            "but only {called_power} are called power and {called_exponential} exponential. Added up first, "
            "they would "
            "have claimed a law with exponent {pooled_first:.2f}."
        )
    if page.dependencies is not None:
        best = min(page.dependencies.aic, key=page.dependencies.aic.__getitem__)
        parts.append(f"**Dependency distances** follow {LAWS[best]}, with a break at {{break_:.0f}}.")
    return " ".join(parts)


def _most_enriched(page: Page) -> tuple[str, Estimate]:
    assert page.classes is not None
    first = page.classes[page.classes["r"] == 1]
    row = first.loc[first["low"].idxmax()]
    ratio, low, high = (float(2.0 ** row[c]) for c in ("log2", "low", "high"))
    return str(row["tag"]), Estimate(ratio, low, high)


def what_it_can_show(page: Page) -> str:
    """What the word's number of occurrences can and cannot show, from the planted trials."""
    few = page.operating[page.operating["occurrences"] == page.used]
    many = page.operating[page.operating["occurrences"] == page.operating["occurrences"].max()]
    power = few[few["law"] == "power"]
    says = "can show company and roughly how near it stays, but **cannot name its law**"
    if few["right"].mean() >= 0.5:
        says = "can often name the law, and show when they cannot"
    return (
        f"With **{page.used:,} occurrences** the right law is called in {few['right'].mean():.0%} of the "
        f"trials, a wrong "
        f"one in {few['wrong'].mean():.0%}; the exponent of a planted power law is known to within about "
        f"±{power['half_width'].median():.1f}, and its interval holds the truth in "
        f"{power['covered'].mean():.0%}. So this "
        f"many occurrences {says}. With "
        f"{many['occurrences'].iloc[0]:,.0f} occurrences the right law is called in {many['right'].mean():.0%}, "
        f"a wrong one "
        f"in {many['wrong'].mean():.0%}."
    )


def rank(page: Page) -> str:
    """Whether the followers' rank law differs from chance, next token and window."""
    out = []
    for found, where in ((page.next_word, "The next token"), (page.in_window, "The whole window")):
        says = "another law than chance" if found.differs else "no other law than chance"
        out.append(
            f"{where}: exponent {found.exponent:.2f}, by chance {found.chance_exponent:.2f} (p = {found.p:.2f}); "
            f"{found.kinds:,} different followers, by chance {found.chance_kinds:.0f}: **{says}**."
        )
    words = [f"{w} ({n})" for w, n in page.next_word.top if any(c.isalnum() for c in w)][:5]
    return " ".join([*out, f"Its commonest next words: {', '.join(words) or 'none'}."])


def distance(page: Page) -> str:
    """The word's excess, its laws and the call."""
    laws = page.distance
    total = estimate(
        100 * laws.y[0].sum(), 100 * (laws.y[0].sum() + 1.96 * np.sqrt((laws.sigma[0] ** 2).sum()) * _ENDS)
    )
    told = "can" if laws.eligible[0] else "cannot"
    text = (
        f"Per hundred of the {page.used:,} occurrences with the whole window in their document there are "
        f"{total:.1f} "
        f"partners more than chance in the window, {nearest(laws):.1f} of them at the next token: this company "
        f"{told} be "
        "told from chance by the rule used for the adjectives. "
    )
    if np.isfinite(laws.exponent[0, 0]):
        text += (
            f"The power law's exponent is {exponent(laws):.2f}; it leads in {laws.support()[0]:.0%} of the resamples. "
        )
    names = ", ".join(page.partners[:6])
    return text + f"Call: **{laws.calls()[0]}**." + (f" Strongest partners: {names}." if names else "")


_ENDS = np.array([-1.0, 1.0])


def pooled(found: Pooled) -> str:
    """The adjectives, per word first."""
    c = found.calls
    return (
        f"{found.eligible} of {found.words} adjectives have company that can be told from chance. Median exponent: "
        f"**{found.exponent:.2f}**. The power law has the better criterion in {found.power_leads:.0%} of them and "
        f"predicts the distances held out better in {found.held_out:.0%}; its mean lead, each word with "
        f"parameters of its "
        f"own, is {found.lead:.1f}. Called: power {c['power']}, exponential {c['exponential']}, undecided "
        f"{c['undecided']}. " + _together(found)
    )


def _together(found: Pooled) -> str:
    if found.lead.low > 0:
        return "Over all words, one at a time, the **power law** is ahead."
    if found.lead.high < 0:
        return "Over all words, one at a time, the **exponential** is ahead."
    return "Over all words, one at a time, **neither law is ahead**."


def trap(page: Page) -> str:
    """What pooling first would have said, of planted exponentials and of this text."""
    planted, own = page.calibration.trap, page.pooled
    assert own is not None
    return (
        f"Generated words that each follow an exponential law, added up, are called **{planted.calls()[0]}**, "
        f"with an "
        f"exponent of {exponent(planted):.2f}. The adjectives of this text, added up, are called "
        f"**{own.first.calls()[0]}**, with {exponent(own.first):.2f}. The interval is narrow and the fit is "
        f"good; for the "
        "generated words the conclusion is nevertheless known to be wrong. That is why this curve carries no "
        "weight here."
    )


def dependency(found: Dependencies) -> str:
    """Which law the dependency distances follow, and the break."""
    best = min(found.aic, key=found.aic.__getitem__)
    agrees = "as the public finding has it" if best == "two_geometric" else "unlike the public finding"
    rest = "; ".join(f"{LAWS[law]} +{found.aic[law] - found.aic[best]:,.0f}" for law in found.aic if law != best)
    return (
        f"{found.number:,} dependencies in {found.sentences:,} sentences, mean distance {found.mean:.2f}. Best: "
        f"**{LAWS[best]}**, {agrees} (Akaike criterion of the others, above it: {rest}). The break is at "
        f"**{found.break_:.0f}**; the public finding is {PUBLIC_BREAK[0]} to {PUBLIC_BREAK[1]} words. "
        f"Treatment: {found.treatment}."
    )


def meaning(page: Page) -> str:
    """The conclusions that this run supports, and their limits."""
    points = []
    if not page.next_word.differs:
        points.append(
            "The rank plot of the followers of this one word is no evidence for a law: chance draws the same."
        )
    else:
        points.append(
            "The followers of this word are spread otherwise than chance; ranks know nothing of distance, though."
        )
    if page.distance.calls()[0] == "undecided":
        points.append("Whether this word's company falls as a power or as an exponential, its occurrences cannot tell.")
    else:
        points.append(
            f"For this word the {page.distance.calls()[0]} law is called, by a rule whose error rates stand above."
        )
    if page.pooled is not None:
        share = page.pooled.calls["undecided"] / page.pooled.eligible
        points.append(
            f"{_together(page.pooled)} {share:.0%} of the adjectives are undecided, while the curve of all "
            f"together would "
            f"have answered “{page.pooled.first.calls()[0]}”."
        )
    if page.dependencies is not None:
        points.append(
            "Grammar's own distances have a scale, a break after a few words, which a pure power law has not."
        )
    points.append(
        "Scope: one text, one window, partners chosen by co-occurrence. Whether attention copies what language "
        "offers is "
        "another chapter's question, where we set the gap law of the training text."
    )
    return "\n".join(f"- {point}" for point in points)
