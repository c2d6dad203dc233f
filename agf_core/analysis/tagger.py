"""Taggers by word class and by the distance to the word that decides (ours).

    python -m agf_core.analysis.measured tagger --profile full --out data/runs/tagger.json

Which word decides is counted in the train split, without any model. An *ambiguous* type has several tags there. For
each of its occurrences held out, and each place d from −8 to 8 within the model's window, two estimates of the right
tag's odds are compared: given the type alone, and given the type and what stands d places on, its word or its class.
The place that raises them most is the deciding one, if it doubles them; else the occurrence is undecided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from agf_core.analysis import class_grids, grids
from agf_core.analysis.windows import Array
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import UNIVERSAL_TAGS, DataConfig, load_data

REACH = 8  # places on either side
OFTEN, SECOND = 20, 0.05  # an ambiguous type: how often it occurs at least, and its other tags' share at least
STRENGTH = 10.0  # occurrences that the coarser estimate is worth in the finer one
LEAST = float(np.log(2))  # by which the right tag's log odds must rise
CLEAR, UNDECIDED = 0, -1  # in place of a distance: a type with one tag; an ambiguous one that no place decides
KINDS = (*range(1, REACH + 1), UNDECIDED, CLEAR)


@dataclass(frozen=True)
class Task:
    """Held-out windows (S, N) of a tagging text: tokens, tags; kind: |distance| to the deciding word, `UNDECIDED` or
    `CLEAR`; offset: its signed distance, 0 where there is none; guess: the type's commonest tag in the train split."""

    tokens: Array
    tags: Array
    kind: Array
    offset: Array
    guess: Array


def configs(profile: str) -> list[RunConfig]:
    """The runs that are measured."""
    return grids.flat(class_grids.tags(profile))


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """JSON-ready: classes, a list for each tag, and kinds, one for each of `KINDS`: [right, by the commonest tag of the
    type, occurrences]."""
    task = load_task(config.data, int(config.model["context"]), config.heldout, config.split)
    right = np.concatenate([(model(t).argmax(-1) == g).numpy() for t, g in _batches(task)])
    floor = task.guess == task.tags

    def counts(where: Array) -> list[int]:
        return [int(right[where].sum()), int(floor[where].sum()), int(where.sum())]

    return {"classes": [counts(task.tags == i) for i in range(len(UNIVERSAL_TAGS))],
            "kinds": [counts(task.kind == k) for k in KINDS]}  # fmt: skip


def _batches(task: Task) -> Any:
    with torch.no_grad():
        for lo in range(0, len(task.tokens), 128):
            of = slice(lo, lo + 128)
            yield torch.from_numpy(task.tokens[of]), torch.from_numpy(task.tags[of])


@lru_cache(maxsize=2)
def load_task(data: DataConfig, context: int, heldout: int, split: str) -> Task:
    """The held-out windows of a tagging text, and which word decides. ValueError for another kind of data."""
    if data.kind != "tags":
        raise ValueError(f"deciding words are known for kind 'tags', not for {data.kind!r}")
    found = load_data(data)
    tokens, tags = found.heldout(split, context, heldout)
    train = found.heldout("train", context, found.size("train"))
    number = np.zeros((found.vocab_size, len(UNIVERSAL_TAGS)))
    np.add.at(number, (train[0].ravel(), train[1].ravel()), 1)
    offset = deciding(train[0].ravel(), train[1].ravel(), number, tokens, tags)
    kind = np.where(ambiguous(number)[tokens], np.where(offset == 0, UNDECIDED, np.abs(offset)), CLEAR)
    commonest = np.where(number.sum(1) > 0, number.argmax(1), number.sum(0).argmax())
    return Task(tokens, tags, kind, offset, commonest[tokens])


def ambiguous(number: Array) -> Array:
    """(V,) bool, from how often each type has each tag, (V, T)."""
    total = number.sum(1)
    found: Array = (total >= OFTEN) & (total - number.max(1) >= SECOND * total)
    return found


def deciding(train: Array, train_tags: Array, number: Array, tokens: Array, tags: Array) -> Array:
    """(S, N) the signed distance to the deciding word of each held-out token, 0 where there is none.

    train, train_tags (T,) in reading order;  number (V, tags) as for `ambiguous`;  tokens, tags (S, N) held out.
    """
    asked, size, vocab = ambiguous(number), number.shape[1], len(number)
    prior = (number + 0.5) / (number + 0.5).sum(1, keepdims=True)  # (V, tags)
    places, (row, at) = np.flatnonzero(asked[train]), np.nonzero(asked[tokens])
    own, right = tokens[row, at], tags[row, at]
    best, offset = np.full(len(own), LEAST), np.zeros(len(own), dtype=np.int64)
    for d in (d for r in range(1, REACH + 1) for d in (-r, r)):  # the nearer one where two raise the odds alike
        near = places[(places + d >= 0) & (places + d < len(train))]
        there = (at + d >= 0) & (at + d < tokens.shape[1])
        r, a = row[there], at[there]
        p = prior[own[there], right[there]]
        for context, other, kinds in ((train_tags, tags, size), (train, tokens, vocab)):  # its class, then its word
            seen = train[near] * kinds + context[near + d]
            asks = own[there] * kinds + other[r, a + d]
            p = _shrunk(seen, seen * size + train_tags[near], asks, asks * size + right[there], p)
        before = prior[own[there], right[there]]
        gain = np.log(p / (1 - p)) - np.log(before / (1 - before))
        better = np.flatnonzero(there)[gain > best[there]]
        best[better], offset[better] = gain[gain > best[there]], d
    out = np.zeros(tokens.shape, dtype=np.int64)
    out[row, at] = offset
    return out


def _shrunk(seen: Array, seen_tagged: Array, asks: Array, asks_tagged: Array, p: Array) -> Array:
    """Share of the contexts `asks` that have the tag in `asks_tagged`, drawn to p by `STRENGTH` occurrences."""
    (of, hits), pull = (_counts(a, b) for a, b in ((seen, asks), (seen_tagged, asks_tagged))), STRENGTH
    found: Array = (hits + pull * p) / (of + pull)
    return found


def _counts(values: Array, asks: Array) -> Array:
    """How often each of `asks` is among `values`."""
    kinds, count = np.unique(values, return_counts=True)
    at = np.searchsorted(kinds, asks).clip(max=len(kinds) - 1)
    return np.where(kinds[at] == asks, count[at], 0)
