"""The instrument on a known answer: gap laws planted in the generated language, recovered by the same code (ours).

`calibrate` plants at the size of the text at hand; `operate` plants as many occurrences as the word has, and says what
so many can show: how often the right law is called, how wide the interval is, how often it covers the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from agf_core.analysis import collocation as co
from agf_core.sources import Text, generate

# A shallow and a steep law of each family; 2.5 and 1.0 fall about as fast as company does after English adjectives.
PLANTED: tuple[tuple[str, float], ...] = (("power", 1.0), ("power", 2.5), ("exponential", 0.3), ("exponential", 1.0))
WORDS = 20  # trigger words of a planted text: each is one trial
TRAP = (0.15, 0.3, 0.6, 1.2, 2.4)  # rates that, added up, pass for a power law
MANY = 1000  # occurrences of the second column of `operate`: what a frequent word could show
TOKENS_PER_DOCUMENT = 2000


def plant(law: str, value: float, window: int, seed: int, **options: float) -> Text:
    """A generated text with `law` at exponent or rate `value`, its gaps reaching twice the window."""
    shape = {"exponent": value} if law == "power" else {"rate": value}
    return generate(law, max_gap=2 * window, triggers=WORDS, seed=seed, **shape, **options)  # type: ignore[arg-type]


def planted_words(text: Text, window: int, seed: int) -> list[co.Collocation]:
    """The collocation counts of all trigger words of a planted text."""
    assert text.truth is not None
    return [co.collocation(text, word, window, seed) for word in text.truth["partners"]]


@dataclass(frozen=True)
class Calibration:
    """table: what was recovered of each planted law; trap: exponentials of different rates, added up.

    Columns of table: law ("none": no partners planted), planted, recovered (median of the words; low, high: documents
    and words resampled), lead (mean AICc lead of the power law; lead_low, lead_high), words, eligible, right, wrong,
    undecided (shares).
    """

    table: pd.DataFrame
    trap: co.Laws


def calibrate(tokens: int, documents: int, window: int, resamples: int, seed: int) -> Calibration:
    """Plant each law, and none, at the size of a text of `tokens` and `documents`, and recover it."""
    size = {"tokens": max(20_000, tokens), "documents": max(2, min(documents, tokens // 20))}
    rows = []
    for law, value in (*PLANTED, ("none", np.nan)):
        kind, chance = ("power", 0.0) if law == "none" else (law, 0.5)
        text = plant(kind, 1.0 if law == "none" else value, window, seed, chance=chance, **size)
        items = planted_words(text, window, seed)
        fitted = co.laws(items, co.document_weights(len(text.documents), resamples, seed))
        found = fitted.rate if law == "exponential" else fitted.exponent
        draws = np.random.default_rng(seed).integers(0, len(found), (resamples, len(found)))
        column = np.arange(1, resamples + 1)[:, None]
        low, high = co.quantile(co.quantile(found[draws, column], 0.5, axis=1), co.INTERVAL)
        lead = np.nan_to_num(fitted.lead)  # a word without anything to fit leads nowhere
        lead_low, lead_high = np.quantile(lead[draws, column].mean(axis=1), co.INTERVAL)
        rows.append({
            "law": law, "planted": value, "recovered": float(co.quantile(found[:, 0], 0.5)), "low": low, "high": high,
            "lead": float(lead[:, 0].mean()), "lead_low": lead_low, "lead_high": lead_high,
            "words": len(found), "eligible": float(fitted.eligible.mean()), **_shares(fitted, law),
        })  # fmt: skip
    return Calibration(pd.DataFrame(rows), trap(window, resamples, seed))


def trap(window: int, resamples: int, seed: int) -> co.Laws:
    """Words that each follow an exponential, of different rates, added up and fitted as one."""
    texts = [plant("exponential", rate, window, seed, tokens=200_000, documents=100) for rate in TRAP]
    parts = [co.combine(planted_words(text, window, seed), text.source) for text in texts]
    together = co.concatenate(parts, "exponentials, added up")
    return co.laws([together], co.document_weights(len(together.chance), resamples, seed))


def operate(occurrences: int, window: int, strength: float, resamples: int, texts: int, seed: int) -> pd.DataFrame:
    """What `occurrences` (and `MANY`) of one word can show; `strength` partners per occurrence are planted.

    Columns law, planted, occurrences, trials, and of the trials: right, wrong, undecided (shares), told (share whose
    company is told from chance), fitted (share with anything to fit) and of these half_width (median half width of the
    95 % interval of the planted parameter) and covered (share of intervals that hold it).
    """
    rows = []
    for number in sorted({occurrences, MANY}):
        for law, value in PLANTED:
            parts = []
            for k in range(texts):
                tokens = int(max(60_000, WORDS * number / 0.02))
                text = plant(
                    law, value, window, seed + 1000 + k, tokens=tokens, documents=tokens // TOKENS_PER_DOCUMENT,
                    trigger_share=WORDS * number / tokens, chance=strength, even=True,
                )  # fmt: skip
                weights = co.document_weights(len(text.documents), resamples, seed + k)
                parts.append(_trial(co.laws(planted_words(text, window, seed + k), weights), law, value))
            rows.append({
                "law": law, "planted": value, "occurrences": number, "trials": WORDS * texts,
                **pd.DataFrame(parts).mean().to_dict(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _trial(fitted: co.Laws, law: str, value: float) -> dict[str, float]:
    low, high = fitted.interval("exponent" if law == "power" else "rate").T
    return {
        **_shares(fitted, law),
        "told": float(fitted.eligible.mean()),
        "fitted": float(np.isfinite(low).mean()),
        "half_width": float(co.quantile((high - low) / 2, 0.5)),
        "covered": float(((low <= value) & (value <= high))[np.isfinite(low)].mean())
        if np.isfinite(low).any()
        else 0.0,
    }


def _shares(fitted: co.Laws, law: str) -> dict[str, float]:
    calls = np.array(fitted.calls())
    right, undecided = calls == law, calls == "undecided"
    shares = {"right": right, "wrong": ~right & ~undecided, "undecided": undecided}
    return {name: float(is_so.mean()) for name, is_so in shares.items()}
