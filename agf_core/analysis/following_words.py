"""How do words follow a word? By rank, by class, by distance; every adjective; dependency distances. (Ours.)

This measures *language*, not attention: it is evidence for a mechanism that attention could copy, and decides no
claim of the ledger. The instrument for distance is `collocation`, ranks and classes are `followers`, known answers
`planted`; here are the adjectives' pool, the dependency distances, and `measure`, which makes one page's worth.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from agf_core.analysis import collocation as co
from agf_core.analysis import planted
from agf_core.analysis.followers import Ranks, classes, estimate, ranks
from agf_core.figures import Estimate
from agf_core.fitting import fit_counts
from agf_core.sources import Text, dependency_distances, guess_tags

FEWEST = 5  # occurrences below which nothing at all can be said
PUBLIC_BREAK = (4, 5)  # words, in 20 languages: Petrini & Ferrer-i-Cancho, arXiv 2211.14620
FEW_DOCUMENTS = 30  # below this, blocks of the text stand for documents
BLOCK = 1000  # tokens
ADJECTIVE_MINIMUM = 100  # occurrences for a word of its own in the section on all adjectives


@dataclass(frozen=True)
class Size:
    """What a profile changes: numbers of resamples, of words and of planted texts, and nothing else."""

    resamples: int  # of documents, for distances and classes
    trials: int  # resamples of each planted word and of each rank law
    breaks: int  # resamples of the break in the dependency distances
    adjectives: int  # at most; the commonest
    texts: int  # planted texts of each kind
    tokens: int  # at most, of a planted text that stands for the text at hand


SIZES = {
    "smoke": Size(40, 20, 8, 12, 1, 300_000),
    "cpu": Size(200, 100, 40, 150, 1, 2_000_000),
    "full": Size(1000, 400, 400, 1000, 10, 2_000_000),
}


def require(text: Text, word: str) -> int:
    """How often the lower-cased `word` occurs; ValueError with its count and near words below `FEWEST`."""
    types, counts = text.vocabulary[0], text.counts
    number = int(counts[types.index(word)]) if word in types else 0
    if number >= FEWEST:
        return number
    usable = [t for t, c in zip(types, counts) if c >= FEWEST and t[0].isalpha()]
    near = difflib.get_close_matches(word, usable, n=4, cutoff=0.6)
    common = [t for t in usable if len(t) >= 5][:4]
    times = {0: "does not occur", 1: "occurs once"}.get(number, f"occurs {number} times")
    raise ValueError(
        f"{word!r} {times} in {text.name}; at least {FEWEST} occurrences are needed. "
        f"Near words: {', '.join(near) or 'none'}. Frequent words: {', '.join(common) or 'none'}."
    )


def in_blocks(text: Text) -> Text:
    """The text cut at sentences into blocks of about `BLOCK` tokens, which then stand for its documents.

    Resampling and cross-fitting need many documents; a book or a play is one.
    """
    inner = [
        np.arange(start, start + length - BLOCK // 2, BLOCK)
        for start, length in zip(text.documents, text.document_lengths)
    ]
    wanted = np.union1d(text.documents, np.concatenate([np.asarray(b, dtype=np.int64) for b in inner]))
    cuts = text.sentences[np.searchsorted(text.sentences, wanted, side="right") - 1]
    return replace(text, documents=np.unique(cuts), document_names=())


def adjectives(text: Text, most: int) -> list[str]:
    """Types with `ADJECTIVE_MINIMUM` occurrences, most of them tagged ADJ; the `most` commonest."""
    types, codes = text.vocabulary
    names, tags = text.tag_codes
    tagged = np.bincount(codes, np.array(names)[tags] == "ADJ", minlength=len(types))
    return [types[i] for i in np.flatnonzero((tagged >= ADJECTIVE_MINIMUM) & (tagged > 0.5 * text.counts))[:most]]


@dataclass(frozen=True)
class Pooled:
    """Fitted per word, then pooled over the eligible words (those whose excess can be told from none).

    exponent: their median; lead: mean AICc lead of the power law, each word with parameters of its own; power_leads:
    share of words where it leads (null 50 %); held_out: share whose even distances it predicts better. All with
    documents and words resampled. calls: call -> number of words. first: what pooling the counts first would say.
    """

    laws: co.Laws
    words: int
    eligible: int
    exponent: Estimate
    lead: Estimate
    power_leads: Estimate
    held_out: Estimate
    calls: dict[str, int]
    first: co.Laws


def pool(text: Text, words: list[str], window: int, resamples: int, seed: int) -> Pooled | None:
    """Collocation laws of `words`, then their pool; None where fewer than three words are eligible."""
    if len(words) < 3:
        return None
    weights = co.document_weights(len(text.documents), resamples, seed)
    items = [co.collocation(text, word, window, seed) for word in words]
    fitted = co.laws(items, weights)
    keep = np.flatnonzero(fitted.eligible)
    if len(keep) < 3:
        return None
    rng = np.random.default_rng(seed)
    draws = keep[rng.integers(0, len(keep), (resamples, len(keep)))]
    column = np.arange(1, resamples + 1)[:, None]
    better = (fitted.held_out[:, 0] < fitted.held_out[:, 1]).astype(float)
    calls = [fitted.calls()[i] for i in keep]
    together = co.combine([items[i] for i in keep], f"all {len(keep)} together")
    return Pooled(
        fitted, len(words), len(keep),
        estimate(float(np.median(fitted.exponent[keep, 0])), co.quantile(fitted.exponent[draws, column], 0.5, axis=1)),
        estimate(fitted.lead[keep, 0].mean(), np.nan_to_num(fitted.lead[draws, column]).mean(axis=1)),
        estimate((fitted.lead[keep, 0] > 0).mean(), (fitted.lead[draws, column] > 0).mean(axis=1)),
        estimate(better[keep].mean(), better[draws].mean(axis=1)),
        {call: calls.count(call) for call in co.CALLS}, co.laws([together], weights),
    )  # fmt: skip


@dataclass(frozen=True)
class Dependencies:
    """Dependency distances: histogram (distance, count, and each law's expected count), AIC per law, the break."""

    table: pd.DataFrame
    aic: dict[str, float]
    break_: Estimate
    mean: Estimate
    number: int
    sentences: int
    treatment: str
    source: str


def dependencies(resamples: int, seed: int) -> Dependencies | None:
    """Geometric, truncated zeta and two geometric regimes on NLTK's dependency treebank; None where it can't be had.

    The two-regime law and its break: Petrini & Ferrer-i-Cancho 2022, arXiv 2211.14620 (two_geometric of `fitting`).
    """
    found = dependency_distances()
    if found is None:
        return None
    longest, documents = int(found.distance.max()), int(found.document.max()) + 1
    cells = np.bincount(found.document * longest + found.distance - 1, minlength=documents * longest)
    values, histogram = np.arange(1, longest + 1), cells.reshape(documents, longest)
    laws = {"exponential": None, "power": longest, "two_geometric": None}
    total = histogram.sum(axis=0)
    seen = total > 0
    fits = {law: fit_counts(values[seen], law, 1, weights=total[seen], xmax=end) for law, end in laws.items()}
    weights = co.document_weights(documents, resamples, seed)[1:]
    breaks, means = [], []
    for counts in weights @ histogram:
        some = counts > 0
        fit = fit_counts(values[some], "two_geometric", 1, weights=counts[some], intervals=False)
        breaks.append(fit.params["break_"])
        means.append((counts * values).sum() / counts.sum())
    return Dependencies(
        pd.DataFrame({"distance": values, "count": total, **{law: fit.predict(values) for law, fit in fits.items()}}),
        {law: fit.aicc for law, fit in fits.items()},
        estimate(fits["two_geometric"].params["break_"], breaks, "words"),
        estimate(float(found.distance.mean()), means, "words"),
        len(found.distance), len(np.unique(found.sentence)), found.treatment, found.source,
    )  # fmt: skip


@dataclass(frozen=True)
class Page:
    """Everything one run of the chapter shows; a part that this text cannot give is None, and `left_out` says why."""

    text: Text
    word: str
    count: int
    next_word: Ranks
    in_window: Ranks
    distance: co.Laws
    partners: list[str]
    used: int
    classes: pd.DataFrame | None
    pooled: Pooled | None
    dependencies: Dependencies | None
    calibration: planted.Calibration
    operating: pd.DataFrame
    size: Size
    left_out: dict[str, str]


def measure(text: Text, word: str, window: int, profile: str, seed: int) -> Page:
    """All measurements of the chapter, calibration first. ValueError for an absent word or an unknown profile."""
    if profile not in SIZES:
        raise ValueError(f"unknown profile {profile!r}; expected one of {', '.join(SIZES)}")
    size, word, left_out = SIZES[profile], word.lower(), {}
    count = require(text, word)
    if text.tags is None and (guess := guess_tags(text)) is not None:
        text = replace(text, tags=guess.tags)
        left_out["tags"] = f"This text has no tags; {guess.note}."
    if len(text.documents) < FEW_DOCUMENTS:
        left_out["documents"] = (
            f"This text has {len(text.documents)} document(s), too few to resample: blocks of about {BLOCK:,} tokens "
            "stand for documents."
        )
        text = in_blocks(text)
    calibration = planted.calibrate(min(len(text), size.tokens), len(text.documents), window, size.trials, seed)
    item = co.collocation(text, word, window, seed)
    distance = co.laws([item], co.document_weights(len(text.documents), size.resamples, seed))
    table, pooled = None, None
    if text.tags is None:
        left_out["classes"] = "Left out: this text has no tags, and Brown, from which to guess them, cannot be had."
        left_out["pooled"] = left_out["classes"]
    else:
        table = classes(text, word, size.resamples, seed)
        words = adjectives(text, size.adjectives)
        pooled = pool(text, words, window, size.resamples, seed)
        if pooled is None:
            left_out["pooled"] = (
                f"Left out: {len(words)} adjectives occur {ADJECTIVE_MINIMUM} times or more in this text, and too few "
                "of them have company that can be told from chance."
            )
    tree = dependencies(size.breaks, seed)
    if tree is None:
        left_out["dependencies"] = "Left out: NLTK's dependency treebank cannot be had here."
    operating = planted.operate(item.used, window, _strength(pooled), size.trials, size.texts, seed)
    return Page(
        text, word, count, ranks(text, word, 1, size.trials, seed), ranks(text, word, window, size.trials, seed),
        distance, item.partners, item.used, table, pooled, tree, calibration, operating, size, left_out,
    )  # fmt: skip


def _strength(pooled: Pooled | None) -> float:
    """Partners per occurrence to plant: the eligible adjectives' median excess, or a half where there are none."""
    if pooled is None:
        return 0.5
    laws = pooled.laws
    return float(np.clip(np.median(laws.y[laws.eligible].sum(axis=1)), 0.05, 1.0))
