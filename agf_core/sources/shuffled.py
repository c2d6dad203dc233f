"""Texts whose order is broken at one scale and kept at the others: what does a measurement owe to word order? (Ours.)

| specification | what is shuffled | what is kept |
|---|---|---|
| shuffled:words:brown | the tokens within every 16 of a document | which 16 stand together, and where |
| shuffled:sentences:brown | the tokens within each sentence, its full stop too | the sentences' content and order |
| shuffled:order:brown | whole sentences, across the corpus | the inside of sentences |

After the first part an option may stand, `shuffled:words:seed=1:brown`; the rest is any name or path `load_text` takes.
Every token is kept, with its tag, and each document's number of sentences (for `words` and `sentences`, of tokens too),
so the split in train, valid and test works as ever. Sentence starts are those of the lengths: the words that stand
there have moved. In `order` documents are of one length but no longer of one subject: a held-out one shares its
subjects with the training text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .text import Offsets, Text

WINDOW = 16  # words
HOW = {
    "words": f"words shuffled within every {WINDOW}",
    "sentences": "words shuffled within each sentence",
    "order": "sentences shuffled",
}


class Spec(NamedTuple):
    """What `parse` finds: how to shuffle (a key of `HOW`), the seed, and the name of the text."""

    how: str
    seed: int
    text: str


def parse(spec: str) -> Spec:
    """ "shuffled:words:seed=1:brown" to its parts; ValueError says what is wrong, with the choices."""
    _, how, rest, *_ = [*spec.split(":", 2), "", ""]
    if how not in HOW:
        raise ValueError(f"{spec!r}: unknown way to shuffle {how!r}; expected one of {', '.join(HOW)}")
    seed = "0"
    if rest.startswith("seed="):
        option, _, rest = rest.partition(":")
        seed = option.removeprefix("seed=")
    if not (seed.isascii() and seed.isdecimal()):
        raise ValueError(f"{spec!r}: seed takes a whole number of at least 0, got {seed!r}")
    if not rest:
        raise ValueError(f"{spec!r} names no text; expected shuffled:{how}:brown, or shuffled:{how}:seed=1:brown")
    return Spec(how, int(seed), rest)


def load_shuffled(spec: str, read: Callable[[str], Text]) -> Text:
    """The text of a specification, shuffled; `read` gets the text from its name. Errors as `parse` and `read`.

    `source` says how it was shuffled. `origin` is that of the text itself with "shuffled" added, so `locate.stale` asks
    whether the corpus is still the same one. What was planted in the generated language (`truth`) is no longer there.
    """
    how, seed, name = parse(spec)
    text = read(name)
    order, sentences = _order(text, how, np.random.default_rng(seed))
    first = np.searchsorted(text.sentences, text.documents)  # number of the sentence each document starts with
    names = [f"shuffled-{i + 1}" for i in range(len(first))] if how == "order" else text.document_names
    return replace(
        text, tokens=_take(text.tokens, order), tags=None if text.tags is None else _take(text.tags, order),
        sentences=sentences, documents=sentences[first], document_names=names, name=f"shuffled {text.name}",
        source=f"{text.source}; {HOW[how]} (seed {seed})", truth=None,
        origin={**text.origin, "shuffled": f"{how}:seed={seed}"},
    )  # fmt: skip


def _order(text: Text, how: str, rng: np.random.Generator) -> tuple[np.ndarray, Offsets]:
    """Which token comes to each place, (N,), and where the sentences start then."""
    places, starts = np.arange(len(text)), text.sentences
    lengths = np.diff(np.append(starts, len(text)))
    if how == "order":
        moved = np.argsort(rng.random(len(starts)), kind="stable")
        ends = np.cumsum(lengths[moved])
        new = ends - lengths[moved]
        return places + np.repeat(starts[moved] - new, lengths[moved]), new
    if how == "sentences":
        block = np.repeat(np.arange(len(starts)), lengths)
    else:  # blocks are numbered on through the text, and begin anew with each document
        within = (places - text.documents[text.document_of]) // WINDOW
        block = np.cumsum(np.diff(within, prepend=0) != 0) + text.document_of
    return np.lexsort((rng.random(len(text)), block)), starts


def _take(values: list[str], order: np.ndarray) -> list[str]:
    return list(np.array(values, dtype=object)[order])
