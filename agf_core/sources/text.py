"""A text with its boundaries, its source and its licence: what every measurement on language starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Text:
    """Tokens in reading order.

    tokens     list of str, length N ≥ 1
    tags       list of N universal part-of-speech tags (ADJ, NOUN, … "." for punctuation), or None
    sentences  int64 start offsets of the sentences, first one 0, strictly rising
    documents  int64 start offsets of the documents, each also the start of a sentence
    source     where the text comes from, in words;  licence: on which terms
    note       one line when the text is not what was asked for, else ""
    origin     name, path, size, mtime_ns, sha256, note: the record for provenance (see `locate.stale`)
    truth      what was planted, for the generated language; else None
    """

    tokens: list[str]
    tags: list[str] | None
    sentences: Offsets
    documents: Offsets
    source: str
    licence: str
    name: str = "text"
    document_names: Sequence[str] = ()
    note: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    truth: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        size = len(self.tokens)
        if size == 0:
            raise ValueError(f"{self.name}: a text needs at least one token")
        if self.tags is not None and len(self.tags) != size:
            raise ValueError(f"{self.name}: {size} tokens but {len(self.tags)} tags")
        for what in ("sentences", "documents"):
            starts = np.asarray(getattr(self, what), dtype=np.int64)
            object.__setattr__(self, what, starts)
            rising = starts.ndim == 1 and len(starts) > 0 and bool((np.diff(starts) > 0).all())
            if not rising or starts[0] != 0 or starts[-1] >= size:
                raise ValueError(f"{self.name}: {what} must be strictly rising start offsets from 0 to below {size}")
        if not np.isin(self.documents, self.sentences).all():
            raise ValueError(f"{self.name}: every document must start with a sentence")

    def __len__(self) -> int:
        return len(self.tokens)

    def bytes(self) -> bytes:
        """The tokens joined by single spaces, as UTF-8."""
        return " ".join(self.tokens).encode("utf-8")

    @cached_property
    def vocabulary(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Lower-cased types by falling count (then by first appearance), and the type number of each token, (N,)."""
        index: dict[str, int] = {}
        lower = {token: token.lower() for token in set(self.tokens)}  # lower each type once, not each token
        codes = np.fromiter((index.setdefault(lower[t], len(index)) for t in self.tokens), np.int64, len(self.tokens))
        order = np.argsort(-np.bincount(codes), kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        types = list(index)
        return [types[i] for i in order], rank[codes]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each type of `vocabulary` occurs, falling, (V,)."""
        return np.bincount(self.vocabulary[1])

    @cached_property
    def tag_codes(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The tags in use, sorted, and the tag number of each token, (N,); ValueError for an untagged text."""
        if self.tags is None:
            raise ValueError(f"{self.name} has no tags; `guess_tags` can guess them")
        names = sorted(set(self.tags))
        number = {tag: i for i, tag in enumerate(names)}
        return names, np.fromiter((number[t] for t in self.tags), np.int64, len(self.tags))

    @cached_property
    def document_of(self) -> npt.NDArray[np.int64]:
        """The document number of each token, (N,)."""
        return np.repeat(np.arange(len(self.documents)), self.document_lengths)

    @property
    def document_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens in each document, (D,)."""
        return np.diff(np.append(self.documents, len(self.tokens)))

    def summary(self) -> str:
        """Name, size, source, licence and note in one line."""
        size = (
            f"{len(self.tokens):,} tokens, {len(self.vocabulary[0]):,} types, {len(self.sentences):,} sentences, "
            f"{len(self.documents):,} documents, {'tagged' if self.tags else 'untagged'}"
        )
        line = f"{self.name}: {size}. Source: {self.source}. Licence: {self.licence}."
        return f"{line} Note: {self.note}" if self.note else line

    def __repr__(self) -> str:
        return f"<Text {self.summary()}>"

    def _repr_html_(self) -> str:
        head, rest = self.summary().split(": ", 1)
        return f"<p><b>{escape(head, quote=False)}</b>: {escape(rest, quote=False)}</p>"
