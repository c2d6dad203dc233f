"""Word classes of what a model reads: pieces aligned with words, types, frequency bins, places, permuted labels (ours).

The class of a token is the universal tag that its word has where it stands. Labels are permuted over *word types within
frequency bins*: every type of a bin takes over the tags of another type of that bin, all of them, each of its
occurrences one of them at random. What permuted labels explain is what any division of the words into such classes
would explain, the masses of single common types included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agf_core.analysis import pretrained
from agf_core.analysis.pretrained import GROUPS, Pretrained
from agf_core.analysis.windows import Array
from agf_core.sources import Text, load_text
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.sources.splits import split_documents
from agf_core.sources.tagging import guess_tags

# A frequency bin spans no more than a factor, unless it would hold less than a share of the tokens. Where frequency is
# divided out, bins are narrow; where word types swap tags, there must be some of like frequency to swap with.
NARROW, WIDE = (2.0, 0.02), (4.0, 0.04)
PLACES = ("first", "2nd or 3rd", "4th to 7th", "8th to 15th", "later", "last")  # of a word in its sentence
RELATIONS = ("same word", "same sentence", "an earlier sentence", "a later sentence")  # of a key to its query
PUNCTUATION = "."


@dataclass(frozen=True)
class Read:
    """A text as a model reads it: S sequences of N tokens, all int64 but for keep and first.

    tokens  (S, N);  keep (S, N) bool: no special token;  groups (S,) of documents
    word    (S, N) which of the text's words a token belongs to, -1 for special ones
    first   (S, N) bool: the token begins its word
    types   (S, N) the word's type, -1 for special ones;  counts (V,) how often each type occurs in the text
    """

    tokens: Tensor
    keep: Tensor
    groups: Tensor
    word: Array
    first: Array
    types: Array
    counts: Array


def aligned(one: Pretrained, text: Text, length: int, count: int, groups: int = GROUPS) -> Read:
    """The windows of `pretrained.tokens`, and whose word each token is; types are lower-case words.

    ValueError where no document fills a window, or for a tokenizer that does not say where its tokens come from.
    """
    if not getattr(one.tokenizer, "is_fast", False):
        raise ValueError(f"the tokenizer of {one.name} does not say which word a token belongs to; it takes a fast one")
    tokens, keep, group = pretrained.tokens(one, text, length, count, groups)
    before = int(keep[0].int().argmax())  # special tokens before the text
    inner = int(keep[0].sum())
    ends = np.append(text.documents[1:], len(text))
    wanted, word, number = tokens.numpy()[:, before : before + inner], np.full(tokens.shape, -1), 0
    # The documents that `pretrained.tokens` reads: all of Brown would take seconds.
    step = max(1, min(len(text) // (2 * count * inner), len(text.documents) // GROUPS))
    for start, end in list(zip(text.documents, ends))[::step]:
        if number == len(wanted):
            break
        found = one.tokenizer(" ".join(text.tokens[start:end]), add_special_tokens=False, verbose=False,
                              return_offsets_mapping=True)  # fmt: skip
        ids = np.array(found["input_ids"])
        last = np.array(found["offset_mapping"]).reshape(-1, 2)[:, 1] - 1  # a token's last letter is its word's
        starts = np.cumsum([0, *(len(w) + 1 for w in text.tokens[start:end])])
        of = start + np.searchsorted(starts, last, side="right") - 1
        for at in range(0, len(ids) - inner + 1, inner):  # the chosen windows come in the text's order
            if number < len(wanted) and np.array_equal(ids[at : at + inner], wanted[number]):
                word[number, before : before + inner] = of[at : at + inner]
                number += 1
    if number < len(wanted):
        raise ValueError(f"{len(wanted) - number} windows of {text.name} were not found again in its words")
    return _read(tokens, keep, group, word, text.vocabulary[1], text.counts)


def of_data(config: DataConfig, context: int, heldout: int, splits: Sequence[str] = ("valid", "test")) -> Read:
    """What a word model trained here reads of these splits, at most `heldout` tokens of each, in windows of `context`.

    Types are its symbols, so that the rare words of a class are one type.
    """
    data, text = load_data(config), load_text(config.corpus)
    spans = split_documents(text)[0]
    tokens, word = [], []
    for split in splits:
        windows = data.heldout(split, context, heldout)[0]
        places = np.concatenate([np.arange(s.start, s.stop) for s in spans[split]])
        tokens.append(windows)
        word.append(places[: windows.size].reshape(windows.shape))
    ids, where = np.concatenate(tokens), np.concatenate(word)
    counts = np.bincount(data.heldout("train", context, data.size("train"))[0].ravel(), minlength=data.vocab_size)
    groups = torch.arange(len(ids)) * min(GROUPS, len(ids)) // len(ids)
    types = np.zeros(len(text), dtype=np.int64)
    types[where] = ids
    keep = torch.ones(ids.shape, dtype=torch.bool)
    return _read(torch.from_numpy(ids), keep, groups, where, types, np.maximum(counts, 1))


def _read(tokens: Tensor, keep: Tensor, groups: Tensor, word: Array, types: Array, counts: Array) -> Read:
    known = word >= 0
    first = known.copy()
    first[:, 1:] &= word[:, 1:] != word[:, :-1]
    return Read(tokens, keep, groups, word, first, np.where(known, types[word], -1), counts)


@lru_cache(maxsize=4)
def tags(corpus: str) -> tuple[Text, Array, tuple[str, ...], str]:
    """The text, the class of every word (N,), the classes' names, and a note where tags are guessed.

    ValueError for a text without tags where none can be guessed.
    """
    text = load_text(corpus)
    if text.tags is None:
        guessed = guess_tags(text)
        if guessed is None:
            raise ValueError(f"{corpus} has no tags, and without Brown none can be guessed; choose brown, treebank "
                             "or generated")  # fmt: skip
        text, note = replace(text, tags=guessed.tags), guessed.note
    else:
        note = ""
    names, codes = text.tag_codes
    return text, codes, tuple(names), note


@dataclass(frozen=True)
class Classes:
    """Everything about the tokens that the measurements need, (S, N) int64 where not said otherwise.

    names   of the classes;  labels (P, S, N) int8, -1 for special tokens: first the true ones, then all punctuation
            against all other words, then the permuted ones
    bins    the frequency bin of the word, continuations of a word in a bin of their own, the last;  count: of bins
    place   of the word in its sentence (`PLACES`);  sentence: its number;  word: its place in the text
    """

    names: tuple[str, ...]
    labels: Array
    bins: Array
    count: int
    place: Array
    sentence: Array
    word: Array

    @property
    def permutations(self) -> int:
        """How many labellings are permuted ones."""
        return len(self.labels) - 2


def classes(read: Read, text: Text, tag: Array, names: tuple[str, ...], permutations: int, seed: int) -> Classes:
    """The classes of what is read, with `permutations` permuted labellings; tag (N,): the class of each word."""
    rng, known = np.random.default_rng(seed), read.word >= 0
    narrow, wide = (frequency_bins(read.counts, *size) for size in (NARROW, WIDE))
    bins = np.where(known, narrow[read.types], 0)
    mark = names.index(PUNCTUATION) if PUNCTUATION in names else 0
    true = tag[read.word]
    labels = [true, np.where(true == mark, mark, (mark + 1) % len(names))]
    labels += [permuted(read, true, wide, rng) for _ in range(permutations)]
    starts = text.sentences
    sentence = np.searchsorted(starts, np.maximum(read.word, 0), side="right") - 1
    after = np.append(starts[1:], len(text))[sentence]
    place = np.searchsorted([1, 3, 7, 15], read.word - starts[sentence], side="right")
    place = np.where(read.word == after - 1, len(PLACES) - 1, place)
    top = int(narrow.max()) + 1
    return Classes(names, np.where(known, np.stack(labels), -1).astype(np.int8), np.where(read.first, bins, top),
                   top + 1, place, sentence, read.word)  # fmt: skip


def frequency_bins(counts: Array, factor: float, least: float) -> Array:
    """(V,) the bin of each type, from the commonest: none spans more than `factor`, but each holds `least` of the
    tokens or more."""
    level = np.floor(np.log(counts.max() / np.maximum(counts, 1)) / np.log(factor) + 1e-9).astype(int)
    mass = np.bincount(level, counts) / counts.sum()
    number, held, of_level = 0, 0.0, np.zeros(len(mass), dtype=np.int64)
    for i, share in enumerate(mass):
        of_level[i] = number
        held += share
        if held >= least:
            number, held = number + 1, 0.0
    if held:  # what is left at the rare end goes to the bin before it
        of_level[of_level == number] = max(0, number - 1)
    found: Array = of_level[level]
    return found


def permuted(read: Read, true: Array, of_type: Array, rng: np.random.Generator) -> Array:
    """(S, N) labels after a permutation of the types that are read, within their bins (see the module)."""
    known = read.word >= 0
    flat, label = read.types[known], true[known]
    order = np.argsort(flat, kind="stable")
    types, start, count = np.unique(flat[order], return_index=True, return_counts=True)
    partner = np.arange(len(types))
    for one in np.unique(of_type[types]):
        inside = np.flatnonzero(of_type[types] == one)
        partner[inside] = rng.permutation(inside)
    other = partner[np.searchsorted(types, flat)]
    draw = rng.random(int(read.word.max()) + 1)[read.word[known]]  # the pieces of a word stay of one class
    out = np.full(true.shape, -1)
    out[known] = label[order[start[other] + (draw * count[other]).astype(int)]]
    return out


def without_order(read: Read, about: Classes, seed: int) -> tuple[Tensor, Classes]:
    """(tokens, classes) with every kept token anywhere in any window: class and frequency go with the token, sentences
    and places stay where they were."""
    where = read.keep.numpy()
    order = np.random.default_rng(seed).permutation(int(where.sum()))

    def moved(values: Array) -> Array:
        out: Array = values.copy()
        out[..., where] = values[..., where][..., order]
        return out

    tokens = torch.from_numpy(moved(read.tokens.numpy()))
    return tokens, replace(about, labels=moved(about.labels), bins=moved(about.bins))


def shares(read: Read, about: Classes) -> dict[str, Any]:
    """How the tokens that are read are spread over the classes: name → share of the kept ones."""
    label = about.labels[0][read.keep.numpy()]
    return {name: float((label == i).mean()) for i, name in enumerate(about.names)}
