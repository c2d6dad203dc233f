"""Tags for untagged texts: each word's commonest universal tag in Brown (NLTK's UnigramTagger), lower-cased.

Crude, and therefore measured: the accuracy is that on every tenth Brown document, with the tagger trained on the
rest; the tagger that is used is trained on all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cache import code_hash, pack_words, read_entry, unpack_words, write_entry
from .load import load_text, obtain
from .locate import store
from .text import Text

UNKNOWN = "NOUN"  # the commonest open class


@dataclass(frozen=True)
class GuessedTags:
    """tags: one per token; accuracy: share of tokens of held-out Brown documents tagged right, in [0, 1]."""

    tags: list[str]
    accuracy: float
    note: str


def guess_tags(text: Text) -> GuessedTags | None:
    """Guessed universal tags of `text`, or None where Brown cannot be had."""
    if obtain("brown")[0] is None:
        return None
    tag_of, accuracy = _tagger(load_text("brown"))
    types, codes = text.vocabulary
    by_type = np.array([tag_of.get(word, UNKNOWN) for word in types], dtype=object)
    note = f"tags are guessed: each word's commonest tag in Brown, right for {accuracy:.1%} of held-out Brown tokens"
    return GuessedTags(by_type[codes].tolist(), accuracy, note)


def _tagger(brown: Text) -> tuple[dict[str, str], float]:
    entry = store() / "texts" / "unigram_tags.npz"
    mark = {"code": code_hash("tagging", "corpora"), "sha256": brown.origin["sha256"]}
    kept = read_entry(entry)
    if kept and mark.items() <= kept[1].items():
        return dict(zip(unpack_words(kept[0]["words"]), unpack_words(kept[0]["tags"]))), kept[1]["accuracy"]
    held_out = brown.document_of[brown.sentences] % 10 == 0
    model = _train(brown, ~held_out)
    types, codes = brown.vocabulary
    guess = np.array([model.get(word, UNKNOWN) for word in types], dtype=object)[codes]
    test = brown.document_of % 10 == 0
    accuracy = float((guess[test] == np.array(brown.tags, dtype=object)[test]).mean())
    model = _train(brown, np.ones_like(held_out))
    arrays = {"words": pack_words(list(model)), "tags": pack_words(list(model.values()))}
    write_entry(entry, arrays, {**mark, "accuracy": accuracy})
    return model, accuracy


def _train(brown: Text, use: np.ndarray) -> dict[str, str]:
    """NLTK's UnigramTagger on the sentences in `use`, as a dictionary over Brown's types."""
    from nltk.tag import UnigramTagger

    types, codes = brown.vocabulary
    ends = np.append(brown.sentences, len(brown))[1:]
    words = np.array(types, dtype=object)[codes].tolist()
    tags = brown.tags or []
    train = [list(zip(words[a:b], tags[a:b])) for a, b in zip(brown.sentences[use], ends[use])]
    tagged = UnigramTagger(train).tag(types)
    return {word: tag for word, tag in tagged if tag is not None}
