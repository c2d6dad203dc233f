"""The sentences of the chapter `learning_curves` on forgetting, written from the runs (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agf_core.analysis import forgetting_laws
from agf_core.analysis.accuracy_words import listed, shown, table
from agf_core.analysis.forgetting import Recall, Reminder
from agf_core.analysis.forgetting_figures import KINDS, LANGUAGES, TEXT
from agf_core.analysis.learning_curves import Page
from agf_core.figures import Estimate
from agf_core.fitting import fsrs_to_shifted_power

CLOSE = 0.25  # of the best predictor's curve: nearer is called near


def nothing(page: Page) -> str:
    """Why no error ratio is known."""
    if not (count := _models(page)):
        return "No model of text is measured here, so nothing is known of what it recalls."
    return (
        f"The criterion asks for items that models recall, and {page.retention.remembering} of {count} models of text "
        "remember one or more: an interval over models takes two."
    )


def _models(page: Page) -> int:
    return sum(map(len, page.retention.recalls.values()))


def in_short(page: Page) -> str:
    """What models of text recall, and how it falls."""
    found = forgetting_laws.summary(page.retention.recalls)
    if found.empty:
        return nothing(page)
    items, held = int(found["items"].sum()), int(found["remembered"].sum())
    text = f"In {int(found['models'].sum())} models of text, {held} of {items} curves of words lie above noise"
    if (e := page.retention.a5) is None:
        return f"{text}: at this size they recall hardly a word, and there is no curve whose law could be asked."
    return f"{text}; on these the power law's held-out error is {shown(e)} of the exponential's."


def calibration(page: Page) -> str:
    """Whether known answers are found, and nothing where nothing was learned."""
    worst = (page.known["planted"] - page.known["found"]).abs().max()
    ratio = page.known.groupby("predictor", sort=False)["ratio"].first()
    right = ratio["planted power"] < 1 < ratio["planted exponential"]
    blank, lost = page.untrained, int(forgetting_laws.remembered(page.untrained).sum())
    return (
        f"Of predictors whose recall is known, the instrument finds it to within {worst:.0e} nats. A planted power law "
        f"is {'' if right else 'not '}told from a planted exponential. Log-odds are no probabilities, though: of the "
        "best predictor of copies that fall as a power law, the power law's error is "
        f"{ratio['best for power copies']:.2f} of the exponential's. A model that learned nothing remembers {lost} of "
        f"{len(blank.items)} words; its recall is at most {np.abs(blank.mean).max():.3f} nats at any lag."
    )


def text(page: Page) -> str:
    """A row a kind of model of text."""
    found = forgetting_laws.summary(page.retention.recalls)
    if found.empty:
        return nothing(page)
    rows = [["models of text", "error ratio [95 %]", "remembered", "upside down", "curves (models)",
             "nearest recall (nats)"]]  # fmt: skip
    for r in found.itertuples():
        near = shown(Estimate(r.nearest, r.nearest_low, r.nearest_high), ".3f")
        ratio = shown(Estimate(r.ratio, r.low, r.high))
        counts = [str(r.remembered), str(r.mirrored), f"{r.items} ({r.models})"]
        rows.append([TEXT[r.kind][1], ratio, *counts, f"{near} at {r.lag}"])
    return table(rows) + (
        "\n\n*Error ratio*: the power law's error over the exponential's. *Curves*: one a word and model. *Nearest "
        "recall*: with its 95 % interval, at the nearest lag, which follows. *Upside down*: words whose having been "
        "there *lowers* their odds by as much. A word in the place of another moves its neighbours' odds either way, "
        "remembered or not; so many of the remembered may be just that."
    )


def copies(page: Page) -> str:
    """A row a language and kind of model: which law forgetting follows there, and where it has halved."""
    rows = [["language, models (how many)", "error ratio", "of the best", "off the best (nats)", "half-life",
             "of the best"]]  # fmt: skip
    for (law, kind), models in page.copying.echoes.items():
        if not models:
            continue
        scores = [forgetting_laws.score(r) for r in models]
        e, best = forgetting_laws.ratio(scores), _best(law, models[0])
        rows.append([f"{LANGUAGES[law]}, {KINDS[kind][1]} ({len(models)})", _few(e, scores),
                     f"{forgetting_laws.score(best)['ratio'].iloc[0]:.2f}",
                     f"{np.mean([_distance(r, best) for r in models]):.2f}", _half(models), _half([best])])  # fmt: skip
    if len(rows) == 1:
        return "No model of a language of copies is measured here."
    return (
        f"{table(rows)}\n\n*Error ratio*: the power law's error over the exponential's. *The best*: the best "
        "predictor's curve; off it: root mean square over lags. Half-lives in symbols."
    )


def _few(e: Estimate | None, scores: Sequence[object]) -> str:
    """A ratio; an interval over fewer than three models would say nothing."""
    if e is None:
        return "nothing is remembered"
    return shown(e) if len(scores) > 2 else f"{e.value:.2f} (no interval)"


def _best(law: str, like: Recall) -> Recall:
    """The best predictor's curve at a model's lags."""
    curve = Reminder.best(law).recall(like.lags)
    return Recall(curve[None], np.zeros((1, len(curve))), like.lags, ("best",))


def _half(models: Sequence[Recall]) -> str:
    lags = [forgetting_laws.stability(r)[0] for r in models]
    middle = float(np.median(lags))
    if np.isnan(middle):
        return "not known"
    return f"> {models[0].lags[-1]:g}" if np.isinf(middle) else f"{middle:.1f}"


def _distance(found: Recall, best: Recall) -> float:
    """Root mean square over lags, nats."""
    return float(np.sqrt(((found.mean.mean(0) - best.mean[0]) ** 2).mean()))


def copies_in_short(page: Page) -> str:
    """How near models of languages of copies come to the best predictor's forgetting."""
    gaps = [(_distance(r, best), float(np.sqrt((best.mean[0] ** 2).mean())))
            for (law, _), part in page.copying.echoes.items() for r in part for best in [_best(law, r)]]  # fmt: skip
    if not gaps:
        return "No model of a language of copies, whose retention is known, is measured here."
    share = float(np.mean([gap / size for gap, size in gaps]))
    text = (
        f"Exploratory: in languages of copies, whose retention is known, {len(gaps)} trained models' forgetting curves "
        f"are off the best predictor's by {share:.0%} of its size (root mean squares, mean over models): "
    )
    if share > 1 - CLOSE:
        return text + "they have hardly learned to copy."
    near = share < CLOSE
    return text + ("they forget as their language lets them." if near else "they do not simply forget as it does.")


def human_in_short(page: Page) -> str:
    """Who wins among the four learners."""
    fits = page.human.fits.drop_duplicates("series").set_index("series")["winner"]
    by = {law: [s for s in fits.index if fits[s] == law] for law in forgetting_laws.LAWS}
    names = {"power": "the power law", "exponential": "the exponential"}
    parts = [f"{names[law]} wins for {listed(who)}" for law, who in by.items() if who]
    return f"Human savings, four learners: {'; '.join(parts)}."


def human(page: Page) -> str:
    """The fits to human savings, and what FSRS's stability would be."""
    rows = [["learner", "exponent [95 %]", "R², power", "R², exponential", "AICc lead of the power law"]]
    for series, part in page.human.fits.groupby("series", sort=False):
        by = part.set_index("law")
        p, e = by.loc["power"], by.loc["exponential"]
        exponent = Estimate(p["value"], p["low"], p["high"])
        rows.append([str(series), f"{exponent:.3f}", f"{p['r2']:.2f}", f"{e['r2']:.2f}", f"{p['aicc_lead']:.1f}"])
    known = page.human.stability.dropna()
    stable = "; ".join(f"{r.series} {r.stability:.0f} minutes" for r in known.itertuples())
    scale = fsrs_to_shifted_power(1.0)["scale"]
    return (
        f"{table(rows)}\n\nFSRS's curve is a shifted power law, and its stability the time at which recall is 90 "
        f"%: with its decay of one half the scale is {scale:.2f} stabilities. A shifted power law fitted to the "
        "savings has a scale of its own, and so a stability, "
        + (f"only here: {stable}. The other series are pure powers of time over all that was measured." if stable else
           "in none of the series: they are pure powers of time over all that was measured.")
    )  # fmt: skip


def meaning(page: Page) -> str:
    """What follows for A5."""
    if not _models(page):
        return nothing(page)
    if (e := page.retention.a5) is None:
        return (
            "Retention: models of this size, trained on this much text, have next to none, so text cannot say by which "
            f"law they would lose it. {copies_in_short(page)}"
        )
    if why := forgetting_laws.by_chance(page.retention.recalls):
        return (
            f"Retention: {why}. So text does not say by which law models of this size lose a word. "
            f"{copies_in_short(page)}"
        )
    return f"Retention: where models of text recall words, the power law's error is {e.value:.2f} of the exponential's."
