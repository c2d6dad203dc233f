"""The generated language: tagged templates plus partner words at a gap drawn from a known law. (Ours.)

1. Sentences are drawn independently from `TEMPLATES`, rows of universal tags; each tag's slots are filled from its
   own Zipfian vocabulary (closed classes by English words, open ones by made-up words).
2. Some adjective slots hold a *trigger*: "beautiful" and the others of `TRIGGERS`, drawn with Zipfian weights.
3. Each trigger word has its own few *partner* nouns, taken from the middle of the noun vocabulary, so that partners
   also occur by chance. An occurrence has a partner with probability `chance`; the gap r is drawn from
       power:        P(r) ∝ r^-exponent,  r = 1..max_gap
       exponential:  P(r) ∝ e^(-rate r),  r = 1..max_gap
   and the partner overwrites whatever token stands r places after the trigger (full stops included), tagged NOUN.
   Gaps count tokens and cross sentences, never documents.

A place that is already a trigger's or another partner's is left alone. Triggers lie independently of one another
from sentence to sentence, so such losses hardly depend on r; `truth["gaps"]` holds the counts that were realised.
What an instrument should recover, per occurrence with max_gap tokens of its document behind it, is therefore an
excess of partners of chance · P(r) at r = 1..max_gap over the chance rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .text import Text

TEMPLATES = [
    "DET ADJ NOUN VERB ADP DET NOUN .",
    "PRON VERB DET NOUN .",
    "DET NOUN ADP DET ADJ NOUN VERB ADV .",
    "PRON VERB ADJ CONJ ADJ .",
    "DET NOUN VERB DET ADJ NOUN ADP DET NOUN .",
    "NOUN VERB PRT VERB DET ADJ NOUN .",
    "ADP DET NOUN . PRON ADV VERB DET NOUN .",
    "NUM ADJ NOUN VERB ADV CONJ VERB DET NOUN ADP NOUN .",
]
TRIGGERS = [
    "beautiful", "great", "young", "small", "strong", "early", "dark", "full", "open", "hard", "warm", "deep", "free",
    "clear", "short", "long", "white", "simple", "certain", "local", "final", "wide", "quick", "heavy", "quiet",
    "bright", "narrow", "empty", "gentle", "rough",
]  # fmt: skip
CLOSED = {
    "DET": ["the", "a", "this", "every", "some", "no"],
    "ADP": ["of", "in", "to", "with", "on", "at", "from", "under"],
    "PRON": ["he", "it", "she", "they", "we", "you"],
    "CONJ": ["and", "or", "but"],
    "PRT": ["to", "up", "out"],
    "NUM": ["two", "three", "one", "four", "ten"],
    ".": ["."],
}
OPEN_SHARE = {"NOUN": 0.5, "VERB": 0.25, "ADJ": 0.15, "ADV": 0.1}  # of the made-up vocabulary
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
LAWS = ("power", "exponential")


def generate(
    law: str = "power",
    *,
    exponent: float = 1.0,
    rate: float | None = None,
    max_gap: int = 64,
    tokens: int = 400_000,
    documents: int | None = None,
    chance: float = 0.5,
    partners: int = 8,
    triggers: int = 20,
    trigger_share: float = 0.02,
    vocabulary: int = 4000,
    even: bool = False,
    seed: int = 0,
    note: str = "",
    asked: str = "",
) -> Text:
    """A tagged text whose gap law is known exactly (see the module's docstring).

    law            "power" (uses exponent) or "exponential" (uses rate; None means 0.3)
    max_gap        longest gap in tokens;  tokens, documents: size (documents None: one per 2,000 tokens)
    chance         probability that an occurrence of a trigger has a partner
    partners       partner nouns of each trigger word;  triggers: number of trigger words (≤ 30)
    trigger_share  triggers among all tokens, at most half of the adjectives
    vocabulary     number of made-up types;  even: all triggers equally frequent, instead of Zipfian
    note, asked: what the text stands in for, if anything

    `text.truth` holds all options, "gap_law" (P(r), r = 1..max_gap), "partners" (trigger -> words) and "gaps"
    (trigger -> realised counts by gap). Raises ValueError for an option out of its range.
    """
    options: dict[str, Any] = {
        "law": law, "exponent": exponent, "rate": 0.3 if rate is None else rate, "max_gap": max_gap, "tokens": tokens,
        "documents": max(1, tokens // 2000) if documents is None else documents, "chance": chance,
        "partners": partners, "triggers": triggers, "trigger_share": trigger_share, "vocabulary": vocabulary,
        "even": even, "seed": seed,
    }  # fmt: skip
    _check(options)
    rng = np.random.default_rng(seed)
    words, tags, starts, sentences = _sentences(rng, tokens, vocabulary)
    noun_first = starts["NOUN"]
    count = len(words)
    doc_starts = _document_starts(sentences, count, options["documents"])

    slots = np.flatnonzero(tags == TAG_NAMES.index("ADJ"))
    chosen = slots[rng.random(len(slots)) < trigger_share * count / len(slots)]
    which = rng.integers(0, triggers, len(chosen)) if even else _zipf(rng, len(chosen), triggers)
    types = _types(vocabulary)
    words[chosen] = len(types) + which

    # Partners start at the 200th noun: common enough to occur by chance, too rare to drown the planted ones.
    partner_of = noun_first + 200 + np.arange(triggers * partners).reshape(triggers, partners)
    law_p = gap_law(law, max_gap, exponent=exponent, rate=options["rate"])
    gap = rng.choice(max_gap, size=len(chosen), p=law_p) + 1
    target = chosen + gap
    has = rng.random(len(chosen)) < chance
    doc_end = np.append(doc_starts, count)[np.searchsorted(doc_starts, chosen, side="right")]
    inside = has & (target < doc_end)
    taken = np.zeros(count, bool)
    taken[chosen] = True
    free = np.flatnonzero(inside)
    free = free[~taken[target[free]]]
    free = rng.permutation(free)  # who comes first to a place that two want must not depend on the gap
    free = free[np.unique(target[free], return_index=True)[1]]
    words[target[free]] = partner_of[which[free], rng.integers(0, partners, len(free))]
    tags[target[free]] = TAG_NAMES.index("NOUN")

    names = TRIGGERS[:triggers]
    every = np.array(types + names, dtype=object)
    truth = {
        **options,
        "gap_law": law_p,
        "partners": {w: every[partner_of[i]].tolist() for i, w in enumerate(names)},
        "gaps": {w: np.bincount(gap[free[which[free] == i]], minlength=max_gap + 1)[1:] for i, w in enumerate(names)},
    }
    shape = f"exponent {exponent:g}" if law == "power" else f"rate {options['rate']:g}"
    return Text(
        every[words].tolist(), np.array(TAG_NAMES, dtype=object)[tags].tolist(), sentences, doc_starts,
        source=f"generated language, gap law {law} with {shape}, seed {seed}", licence="MIT, as this package",
        name="generated", document_names=[f"generated-{i + 1}" for i in range(len(doc_starts))], note=note,
        origin={"name": "generated", "path": None, "size": None, "mtime_ns": None, "sha256": None, "note": note,
                "asked": asked, "options": options},
        truth=truth,
    )  # fmt: skip


def gap_law(law: str, max_gap: int, *, exponent: float = 1.0, rate: float = 0.3) -> np.ndarray:
    """P(r) for r = 1..max_gap, float64: r^-exponent or e^(-rate r), normalised."""
    r = np.arange(1, max_gap + 1)
    weight = r**-exponent if law == "power" else np.exp(-rate * r)
    return weight / weight.sum()


def parse_spec(spec: str) -> dict[str, Any]:
    """ "generated:exponential:rate=0.3" to the keyword arguments of `generate`; ValueError names what is wrong."""
    kinds: dict[str, type] = {
        "exponent": float, "rate": float, "max_gap": int, "tokens": int, "documents": int, "chance": float,
        "partners": int, "triggers": int, "trigger_share": float, "vocabulary": int, "seed": int,
    }  # fmt: skip
    options: dict[str, Any] = {}
    for part in spec.split(":")[1:]:
        key, equals, value = part.partition("=")
        if not equals and key in LAWS:
            options["law"] = key
        elif key not in kinds or not equals:
            choices = f"a law ({', '.join(LAWS)}) nor one of {', '.join(kinds)} with =value"
            raise ValueError(f"{spec!r}: {part!r} is neither {choices}")
        else:
            try:
                options[key] = kinds[key](value)
            except ValueError:
                raise ValueError(f"{spec!r}: {key} takes {kinds[key].__name__}, got {value!r}") from None
    return options


TAG_NAMES = ["NOUN", "VERB", "ADJ", "ADV", *CLOSED]


def _types(vocabulary: int) -> list[str]:
    """All types but the triggers: made-up ones first, class after class, then the closed classes. Distinct."""
    closed = [word for words in CLOSED.values() for word in words]
    made: list[str] = []
    number = len(SYLLABLES)  # two syllables at least
    while len(made) < sum(_class_sizes(vocabulary).values()):
        i, word = number, ""
        while i:
            i, k = divmod(i, len(SYLLABLES))
            word = SYLLABLES[k] + word
        if word not in closed:
            made.append(word)
        number += 1
    return made + closed


def _class_sizes(vocabulary: int) -> dict[str, int]:
    return {tag: int(vocabulary * share) for tag, share in OPEN_SHARE.items()}


def _sentences(
    rng: np.random.Generator, tokens: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray, dict[str, int], np.ndarray]:
    """(type numbers, tag numbers, first type number of each tag, sentence starts), cut to `tokens` tokens."""
    rows = [np.array([TAG_NAMES.index(t) for t in row.split()], np.int8) for row in TEMPLATES]
    width = max(map(len, rows))
    table = np.stack([np.pad(row, (0, width - len(row)), constant_values=-1) for row in rows])
    drawn = table[rng.integers(0, len(rows), tokens // min(map(len, rows)) + 1)]
    lengths = (drawn >= 0).sum(axis=1)
    tags = drawn[drawn >= 0][:tokens]
    sentences = np.concatenate([[0], np.cumsum(lengths)])
    sentences = sentences[sentences < tokens].astype(np.int64)
    sizes = {**_class_sizes(vocabulary), **{tag: len(words) for tag, words in CLOSED.items()}}
    firsts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist()))
    words = np.empty(len(tags), np.int64)
    for number, tag in enumerate(TAG_NAMES):
        here = np.flatnonzero(tags == number)
        words[here] = firsts[tag] + _zipf(rng, len(here), sizes[tag])
    return words, tags, firsts, sentences


def _zipf(rng: np.random.Generator, size: int, kinds: int) -> np.ndarray:
    """`size` draws from 0..kinds-1 with P ∝ 1/(rank + 2): Zipf's law, its head flattened as Mandelbrot's is."""
    weight = np.cumsum(1.0 / (np.arange(kinds) + 3.0))
    return np.searchsorted(weight, rng.random(size) * weight[-1], side="right").clip(max=kinds - 1)


def _document_starts(sentences: np.ndarray, count: int, documents: int) -> np.ndarray:
    """Starts of about equal documents, each at a sentence."""
    wanted = np.arange(documents) * count / documents
    return np.unique(sentences[np.searchsorted(sentences, wanted, side="right") - 1])


def _check(options: dict[str, Any]) -> None:
    ranges = {
        "exponent": (0.0, 10.0), "rate": (0.0, 10.0), "max_gap": (1, 1000), "tokens": (1000, 20_000_000),
        "documents": (1, options["tokens"] // 20), "chance": (0.0, 1.0), "partners": (1, 20),
        "triggers": (1, len(TRIGGERS)), "trigger_share": (0.0, 0.05), "vocabulary": (2000, 100_000), "seed": (0, 2**32),
    }  # fmt: skip
    if options["law"] not in LAWS:
        raise ValueError(f"unknown law {options['law']!r}; expected one of {', '.join(LAWS)}")
    for name, (low, high) in ranges.items():
        if not low <= options[name] <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, got {options[name]}")
