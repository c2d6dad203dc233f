"""Texts, training data, dependency distances and reference tables. Importing this imports the standard library only.

The book's driver asks where texts lie (`agf_core.sources.locate`) and must not wait for numpy, so names are
resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets import IGNORE, KINDS, SPLITS, Data, DataConfig, best_loss, load_data, repeated_bigrams
    from .dependencies import DependencyDistances, dependency_distances
    from .generated import gap_law, generate
    from .load import NAMES, load_text, loaded
    from .tables import data_path, read_table, table_notes
    from .tagging import GuessedTags, guess_tags
    from .text import Text

_HOME = {
    "load_text": "load", "loaded": "load", "NAMES": "load", "Text": "text", "generate": "generated",
    "gap_law": "generated", "read_table": "tables", "data_path": "tables", "table_notes": "tables",
    "dependency_distances": "dependencies", "DependencyDistances": "dependencies", "guess_tags": "tagging",
    "GuessedTags": "tagging", "IGNORE": "datasets", "KINDS": "datasets", "SPLITS": "datasets", "Data": "datasets",
    "DataConfig": "datasets", "best_loss": "datasets", "load_data": "datasets", "repeated_bigrams": "datasets",
}  # fmt: skip

__all__ = [
    "IGNORE", "KINDS", "NAMES", "SPLITS", "Data", "DataConfig", "DependencyDistances", "GuessedTags", "Text",
    "best_loss", "data_path", "dependency_distances", "gap_law", "generate", "guess_tags", "load_data", "load_text",
    "loaded", "read_table", "repeated_bigrams", "table_notes",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
