"""The words that follow a word, by rank and by class, beside what chance would give (ours).

Any hundred words look Zipfian, so a rank curve says nothing alone: it is set beside as many words from random places
of the same documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from agf_core.analysis.collocation import INTERVAL, document_weights, quantile
from agf_core.figures import Estimate
from agf_core.fitting import fit_counts
from agf_core.sources import Text

Array = npt.NDArray[Any]
REACH = 5  # distances of the section on classes


def estimate(value: float, draws: npt.ArrayLike, unit: str = "") -> Estimate:
    """A value with the middle 95 % of its resamples."""
    low, high = quantile(draws, INTERVAL)
    return Estimate(float(value), float(low), float(high), unit)


@dataclass(frozen=True)
class Ranks:
    """Frequency by rank of the words within `span` after the word. table: rank, count, low, high, chance(_low, _high).

    exponent: of P(rank) ∝ rank^-k by maximum likelihood; chance_exponent and chance_kinds: the same from as many
    random positions of the same documents; p: two-sided, from the spread of the chance draws.
    """

    span: int
    table: pd.DataFrame
    exponent: Estimate
    chance_exponent: Estimate
    kinds: int
    chance_kinds: Estimate
    p: float
    top: list[tuple[str, int]]

    @property
    def differs(self) -> bool:
        """Whether the followers' law is another than that of words at random places of the same documents."""
        return self.p < 0.05


def ranks(text: Text, word: str, span: int, resamples: int, seed: int) -> Ranks:
    """Ranks of the words at r = 1..span after `word`, with document resamples and chance draws."""
    types, codes = text.vocabulary
    at = _occurrences(text, word, span)
    document = text.document_of[at]
    steps = np.arange(1, span + 1)
    follow = codes[at[:, None] + steps]
    kinds, kind = np.unique(follow, return_inverse=True)
    kind = kind.reshape(follow.shape)
    counts = np.bincount(kind.ravel())
    weights = document_weights(len(text.documents), resamples, seed)[1:]
    drawn = [np.bincount(kind.ravel(), np.repeat(w[document], span), minlength=len(kinds)) for w in weights]
    rng = np.random.default_rng(seed + 1)
    room = text.document_lengths[document] - span  # as for the occurrences: the whole span inside the document
    spots = text.documents[document] + (rng.random((resamples, len(at))) * room).astype(np.int64)
    chance = [np.unique(codes[s[:, None] + steps], return_counts=True)[1] for s in spots]
    width = len(kinds)
    chance_band = np.quantile(_stack(chance, width), INTERVAL, axis=0)
    observed, chance_k = rank_exponent(counts), np.array([rank_exponent(c) for c in chance])
    spread = max(float(np.nanstd(chance_k, ddof=1)), 1e-6)
    # One more value from the chance draws, taken as normal: with few draws their mean and spread are uncertain, too.
    far = abs(observed - np.nanmean(chance_k)) / (spread * np.sqrt(1 + 1 / resamples))
    p = 2 * stats.t.sf(far, max(resamples - 1, 1))
    order = np.argsort(-counts, kind="stable")
    # Each word keeps its rank: sorting every resample anew would lift the counts, since resampling repeats documents.
    band = np.quantile(np.stack(drawn)[:, order], INTERVAL, axis=0)
    table = pd.DataFrame({
        "rank": np.arange(1, width + 1), "word": [types[kinds[i]] for i in order], "count": counts[order],
        "low": band[0], "high": band[1], "chance": np.median(_stack(chance, width), axis=0),
        "chance_low": chance_band[0], "chance_high": chance_band[1],
    })  # fmt: skip
    return Ranks(
        span, table, estimate(observed, [rank_exponent(d[d > 0]) for d in drawn]),
        estimate(float(np.median(chance_k)), chance_k), width,
        estimate(float(np.median([len(c) for c in chance])), [len(c) for c in chance]),
        float(p), list(zip(table["word"][:8], table["count"][:8].astype(int))),
    )  # fmt: skip


def rank_exponent(counts: Array) -> float:
    """Exponent of P(rank) ∝ rank^-k on 1..number of kinds; nan for fewer than three kinds."""
    counts = np.sort(counts)[::-1]
    if len(counts) < 3:
        return float("nan")
    rank = np.arange(1, len(counts) + 1)
    fit = fit_counts(rank, "power", xmin=1, xmax=len(counts), weights=counts, intervals=False)
    return max(0.0, fit.params["exponent"])


def _stack(samples: list[Array], width: int) -> Array:
    return np.stack([np.pad(np.sort(s)[::-1][:width], (0, max(0, width - len(s)))) for s in samples]).astype(float)


def _occurrences(text: Text, word: str, span: int) -> Array:
    types, codes = text.vocabulary
    at = np.flatnonzero(codes == types.index(word))
    return at[at + span < np.append(text.documents, len(text))[1:][text.document_of[at]]]


def classes(text: Text, word: str, resamples: int, seed: int) -> pd.DataFrame:
    """Universal tags at r = 1..REACH after `word`, against their shares in the same documents; needs text.tags.

    Columns r, tag, count, chance (expected count), log2 (of the ratio, half a count added to each), low, high: the
    wider of the resamples' interval and the exact Poisson one, since a count of none does not vary when resampled.
    """
    names, tags = text.tag_codes
    at = _occurrences(text, word, REACH)
    document, size = text.document_of, (len(text.documents), len(names))
    share = np.bincount(document * size[1] + tags, minlength=size[0] * size[1]).reshape(size)
    expected = share / share.sum(axis=1, keepdims=True) * np.bincount(document[at], minlength=size[0])[:, None]
    weights = document_weights(size[0], resamples, seed)
    rows = []
    for r in range(1, REACH + 1):
        seen = np.bincount(document[at] * size[1] + tags[at + r], minlength=size[0] * size[1]).reshape(size)
        ratio = np.log2((weights @ seen + 0.5) / (weights @ expected + 0.5))
        low, high = np.quantile(ratio[1:], INTERVAL, axis=0)
        count, by_chance = seen.sum(axis=0), expected.sum(axis=0) + 0.5
        least, most = stats.chi2.ppf(0.025, 2 * count), stats.chi2.ppf(0.975, 2 * count + 2)
        low = np.minimum(low, np.log2((np.nan_to_num(least) / 2 + 0.5) / by_chance))
        high = np.maximum(high, np.log2((most / 2 + 0.5) / by_chance))
        rows.append(pd.DataFrame({
            "r": r, "tag": names, "count": seen.sum(axis=0), "chance": expected.sum(axis=0), "log2": ratio[0],
            "low": low, "high": high,
        }))  # fmt: skip
    table = pd.concat(rows, ignore_index=True)
    return table[table.groupby("tag")["chance"].transform("max") >= 1].reset_index(drop=True)
