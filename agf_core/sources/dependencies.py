"""Dependency distances |head − dependent| in NLTK's dependency treebank (Wall Street Journal sample).

Treatment: tokens are numbered as they stand, punctuation keeping its place, but a punctuation token counts neither
as a dependent nor as a head (its attachment is a convention); the root has no head and gives no distance. This is
the treatment of Ferrer-i-Cancho and colleagues, except that they renumber after removing punctuation;
`renumber=True` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cache import code_hash, read_entry, write_entry
from .corpora import CORPORA, reader
from .load import obtain, remember
from .locate import fingerprint, store

PUNCTUATION = {",", ".", ":", "``", "''", "-LRB-", "-RRB-", "(", ")"}  # Penn tags; $ and # are words read aloud


@dataclass(frozen=True)
class DependencyDistances:
    """distance, sentence, document: int64, one entry per dependency; length: int64, words of its sentence."""

    distance: np.ndarray
    sentence: np.ndarray
    document: np.ndarray
    length: np.ndarray
    source: str
    licence: str
    treatment: str


def dependency_distances(*, renumber: bool = True) -> DependencyDistances | None:
    """Every dependency of the treebank, or None when the treebank cannot be had (`load.obtain` says why)."""
    path, _ = obtain("dependency_treebank")
    if path is None:
        return None
    mark = fingerprint(path)
    rows = _rows(path, mark["sha256"])
    remember({"name": "dependency_treebank", "path": str(path), **mark, "note": ""})
    token, head, sentence, document, dot = (rows[k] for k in ("token", "head", "sentence", "document", "punctuation"))

    # Sentence starts in the flat arrays; NLTK numbers tokens from 1 and the root's head is 0.
    starts = np.flatnonzero(np.diff(sentence, prepend=-1))
    start = starts[sentence]
    words_before = np.cumsum(~dot) - 1
    has_head = head > 0
    head_at = np.where(has_head, start + head - 1, start)
    keep = has_head & ~dot & ~dot[head_at]
    here = np.arange(len(token))
    raw = words_before - words_before[head_at] if renumber else here - head_at
    length = np.bincount(sentence, weights=~dot if renumber else None).astype(np.int64)[sentence]
    about = CORPORA["treebank"]
    return DependencyDistances(
        np.abs(raw)[keep], sentence[keep], document[keep], length[keep], f"dependency version of the {about.source}",
        about.licence,
        "punctuation is neither dependent nor head"
        + (" and does not count in distances" if renumber else " but counts in distances")
        + "; the root gives no distance",
    )  # fmt: skip


def _rows(path: Path, digest: str) -> dict[str, np.ndarray]:
    """One row per token, through the cache: number from 1, head's number, sentence, document, is punctuation."""
    entry = store() / "texts" / "dependency_treebank.npz"
    code = code_hash("dependencies")
    kept = read_entry(entry)
    if kept and kept[1] == {"code": code, "sha256": digest}:
        return kept[0]
    columns: dict[str, list[Any]] = {k: [] for k in ("token", "head", "sentence", "document", "punctuation")}
    corpus = reader(path, "DependencyCorpusReader", r".*\.dp", encoding="ascii")
    number = 0
    for document, file in enumerate(corpus.fileids()):
        for graph in corpus.parsed_sents(file):
            nodes = [graph.nodes[i] for i in sorted(graph.nodes) if i > 0]
            columns["token"] += [node["address"] for node in nodes]
            columns["head"] += [node["head"] for node in nodes]
            columns["sentence"] += [number] * len(nodes)
            columns["document"] += [document] * len(nodes)
            columns["punctuation"] += [node["tag"] in PUNCTUATION for node in nodes]
            number += 1
    arrays = {k: np.array(v, dtype=bool if k == "punctuation" else np.int64) for k, v in columns.items()}
    write_entry(entry, arrays, {"code": code, "sha256": digest})
    return arrays
