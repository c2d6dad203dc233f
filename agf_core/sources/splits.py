"""Train, valid and test: whole documents, 90/5/5 of a text's tokens, always the same for the same text. (Ours.)

Documents are put in a fixed order and dealt, one by one, to the emptier of valid and test while that brings it nearer
to its 5 % of the tokens, and else to train. Each split keeps that order, so that its start is already a sample of the
whole text (Brown's own order is by genre). The split depends on the documents' lengths alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from .text import Text

SPLITS = ("train", "valid", "test")
HELD_OUT = 0.05  # of the tokens, for valid and for test
FEW, BLOCKS = 20, 100  # a text with fewer documents is cut into about so many blocks
Spans = Mapping[str, list[slice]]


def split_documents(text: Text) -> tuple[Spans, str]:
    """(split -> where its documents lie among the tokens, a note).

    A text of fewer than 20 documents is cut into blocks of consecutive sentences that stand for documents, and the
    note says so; else the note is "". Raises ValueError when a split would be empty.
    """
    starts, note = _documents(text)
    ends = np.append(starts[1:], len(text))
    dealt = _deal(ends - starts)
    if empty := [name for name, numbers in dealt.items() if not numbers]:
        have = f"{len(text)} tokens in {len(text.sentences)} sentences"
        raise ValueError(f"{text.name} is too short to split: of {have}, nothing falls to {' and '.join(empty)}")
    return {name: [slice(starts[i], ends[i]) for i in numbers] for name, numbers in dealt.items()}, note


def _documents(text: Text) -> tuple[np.ndarray, str]:
    """Start offsets (D,) of what is dealt out as a document, and a note when those are not the text's documents."""
    if len(text.documents) >= FEW:
        return text.documents, ""
    wanted = np.arange(BLOCKS) * len(text) // BLOCKS
    blocks = text.sentences[np.searchsorted(text.sentences, wanted, side="right") - 1]
    starts = np.unique(np.concatenate([text.documents, blocks]))
    have = "1 document is" if len(text.documents) == 1 else f"{len(text.documents)} documents are"
    return starts, f"{have} too few to split: {len(starts)} blocks of consecutive sentences stand for documents"


def _deal(lengths: np.ndarray) -> dict[str, list[int]]:
    """Document numbers of each split, by the rule above."""
    # Ordered by hash, not by numpy's permutation, which may differ between versions: the split must never move.
    order = sorted(range(len(lengths)), key=lambda i: hashlib.sha256(f"split:{i}".encode()).digest())
    dealt: dict[str, list[int]] = {name: [] for name in SPLITS}
    held = {"valid": 0, "test": 0}
    for i in order:
        name = min(held, key=lambda s: held[s])
        if held[name] + lengths[i] / 2 <= HELD_OUT * lengths.sum():
            held[name] += int(lengths[i])
        else:
            name = "train"
        dealt[name].append(i)
    return dealt
