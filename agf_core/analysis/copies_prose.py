"""The sentences of the chapter `power_vs_exp` on where a field's law comes from: planted languages, texts whole and
broken. Exploratory, and written from the runs (ours).
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import field_grids
from agf_core.analysis.accuracy_words import known, listed, shown, table
from agf_core.analysis.contrasts import mean
from agf_core.analysis.copies_figures import BROKEN
from agf_core.analysis.field_copies import USED, Texts, copied
from agf_core.analysis.power_vs_exp import Page
from agf_core.claims import MIN_N, TOO_SMALL
from agf_core.figures import Estimate

COPIES = 0.5  # halfway between a law of its own (0) and a copy (1)


def _told(slope: Estimate | None, profile: str, what: str = "language") -> str:
    """A slope in words, and what it says; smoke runs say nothing."""
    if slope is None or profile == "smoke" or not known(slope):
        return TOO_SMALL
    return f"{shown(slope)}: {judged(slope, what)}"


def judged(slope: Estimate | None, what: str = "language") -> str:
    """What a slope of learned on planted (or predicted) exponents says."""
    if slope is None or not known(slope):
        return "no slope is known"
    one, none = slope.low <= 1 <= slope.high, slope.low <= 0 <= slope.high
    if one and none:
        return "nothing can be told: the interval holds 0 and 1"
    if one and slope.low > COPIES:
        return f"the field copies the {what}, as far as can be told"
    if slope.high < COPIES and (none or slope.value < 0):
        return f"the field does not follow the {what}"
    if none or slope.value < 0:
        return f"whether the field follows the {what} cannot be told: the interval holds 0, and is wide"
    if one:
        return f"the field follows the {what}; how closely cannot be told"
    side = "less steeply" if slope.value < 1 else "more steeply"
    near = abs(slope.value - 1) < COPIES
    nearer = f"nearer to the {what}'s law than to a law of its own" if near else "far from a copy"
    return f"the field follows the {what}, but {side} than a copy would; {nearer}"


def in_short(page: Page) -> str:
    """The headline: the slopes on planted languages and on real texts."""
    results = page.part("languages")
    said = [f"read by {_reader(r)} {_told(copied(results.languages, r), results.profile)}" for r in field_grids.READERS]
    text = "**Does the field copy the language?** Slope of learned on planted exponents: " + "; ".join(said) + "."
    found = page.part("texts")
    if (about := found.texts.across) is None:
        return f"{text} Of real texts there are too few for a slope."
    return f"{text} On real texts, of learned on predicted exponents: {_told(about.slope, found.profile, 'text')}."


def _reader(reader: str) -> str:
    return "a field alone" if reader == "field only" else "a full model"


def languages(page: Page) -> str:
    """Slopes by reader and start, and how near the readers came to the best possible loss."""
    results = page.part("languages")
    found = results.languages
    power = found[found["law"] == "power"]
    if power.empty:
        return "There are no runs on planted languages."
    rows = [["reader", "start", "slope of learned on planted [95 %]", "models", "heads that carry", "way to the best"]]
    seeds = power.groupby("reader")["seed"].nunique()
    for reader in dict.fromkeys(power["reader"]):
        for start in ("", *field_grids.FREE):
            part = power[(power["reader"] == reader) & (power["start"].isin([start] if start else field_grids.FREE))]
            slope = copied(part, reader)
            kept = f"{part['heads'].sum()} of {part['of'].sum()}"
            rows.append([reader, start or "both", shown(slope) if slope else "not known", str(len(part)), kept,
                         f"{part['reached'].median():.0%}" if len(part) else "–"])  # fmt: skip
    few = [f"{_reader(r)} {n}" for r, n in seeds.items() if n < MIN_N]
    note = f"\n\nSeeds are few ({listed(few)}): a picture, and no verdict." if few else ""
    return (
        "The way to the best loss goes from guessing (0 %) to the predictor that knows the law and sees the same "
        f"window (100 %); median over models.\n\n{table(rows)}{note}"
    )


def control(page: Page) -> str:
    """What wins where an exponential was planted, and where a power law was."""
    found = page.part("languages").languages
    if found.empty:
        return "Without such runs there is nothing to control."
    rows = [["reader", "planted", "models", "told", "power law better", "exponential better", "learned rate [95 %]"]]
    for (reader, law, value), part in found.groupby(["reader", "law", "planted"]):
        told = part[part["winner"] != "unknown"]
        shares = [f"{(told['winner'] == w).mean():.0%}" if len(told) else "–" for w in ("power", "exponential")]
        rate = shown(mean(part["rate"])) if law == "exponential" else "–"
        name = f"{'θ' if law == 'power' else 'rate'} {value:g}"
        rows.append([reader, name, str(len(part)), str(len(told)), *shares, rate])
    told = found[found["winner"] != "unknown"]
    said = [
        f"{(part['winner'] == law).mean():.0%} of {len(part)} where {_article(law)} was planted ({_reader(reader)})"
        for (reader, law), part in told.groupby(["reader", "law"])
    ]
    head = f"The planted law predicts better in {listed(said)}." if said else "No model tells the two laws apart."
    return (
        f"{head} Told are models of languages on which both starts agree at enough distances; looked at are distances "
        f"at which a language makes at least one copy in {1 / USED:,.0f}.\n\n{table(rows)}"
    )


def _article(law: str) -> str:
    return "a power law" if law == "power" else "an exponential"


def texts(page: Page) -> str:
    """How well a text's own dependence predicts the field learned on it."""
    results = page.part("texts")
    found = results.texts.texts
    if found.empty:
        return "There are no runs on texts, or their corpora are not here."
    rows = [["text", "bits at lag 2", "predicted exponent", "models", "learned exponent [95 %]",
             "correlation of log g"]]  # fmt: skip
    for row in found.itertuples():
        learned = shown(Estimate(row.learned, row.learned_low, row.learned_high))
        rows.append([f"{row.text}, {BROKEN[row.broken]}", f"{row.bits:.3f}", _number(row.predicted), str(row.models),
                     learned, _number(row.correlation)])  # fmt: skip
    return f"{_across(results.texts, results.profile)}\n\n{table(rows)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


def _across(texts: Texts, profile: str) -> str:
    about = texts.across
    if about is None or not np.isfinite(about.slope.value):
        return "Too few texts have both exponents for a slope."
    both = int(np.isfinite(about.table[["predicted_exponent", "learned_exponent"]]).all(axis=1).sum())
    text = (
        f"Over {both} texts, whole and broken, the slope of learned on predicted exponents is {shown(about.slope)}, "
        f"their correlation {shown(about.correlation)}; of the change that breaking a text makes, whole corpora "
        f"resampled, the learned exponent shows {shown(about.contrast)}"
    )
    if profile == "smoke":
        return f"{text}. Smoke runs are hardly trained: **{TOO_SMALL}**."
    return f"{text}. By that slope, {judged(about.slope, 'text')}."


def meaning(page: Page) -> list[str]:
    """Points for the end of the page."""
    results = page.part("languages")
    points = [
        f"On languages whose law we chose, read by {_reader(reader)}, the slope is "
        f"{_told(copied(results.languages, reader), results.profile)}." for reader in field_grids.READERS
    ]  # fmt: skip
    found = page.part("texts")
    if found.profile != "smoke" and found.texts.across is not None:
        points.append("On real texts: " + _across(found.texts, found.profile))
    return points
