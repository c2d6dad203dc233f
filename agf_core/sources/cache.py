"""Parsed corpora kept as .npz files in the store: nothing in them is unpickled.

An entry is good for a source of the same size and modification time, or else of the same SHA-256, read by the same
code. A damaged entry is set aside with a warning and built again. Writes are atomic, so two notebooks may race.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .locate import sha256, stamp, store
from .text import Text

Arrays = dict[str, np.ndarray]


def cached_text(name: str, path: Path, build: Callable[[str, Path], Text]) -> Text:
    """`build(name, path)` through the cache; the text's origin carries the source's fingerprint."""
    entry = store() / "texts" / f"{name}.npz"
    code = code_hash("corpora", "plain", "text")
    now = stamp(path)
    kept = read_entry(entry)
    if kept and kept[1]["code"] == code:
        meta = kept[1]
        same = all(meta[key] == now[key] for key in ("size", "mtime_ns"))
        if not same and sha256(path) == meta["sha256"]:
            same = True
            write_entry(entry, kept[0], {**meta, **now})  # touched, not changed: remember the new time
        if same:
            return _unpack(kept[0], meta, _origin(name, path, {**now, "sha256": meta["sha256"]}))
    text = build(name, path)
    meta = {"code": code, **now, "sha256": sha256(path), "source": text.source, "licence": text.licence}
    arrays = _pack(text)
    write_entry(entry, arrays, meta)
    return _unpack(arrays, {**meta, "name": name}, _origin(name, path, meta))


def code_hash(*modules: str) -> str:
    """Hash of the source of modules of this package: an entry made by other code is not used."""
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / f"{m}.py").read_bytes() for m in modules)).hexdigest()[:16]


def read_entry(entry: Path) -> tuple[Arrays, dict[str, Any]] | None:
    """(arrays, meta) of an entry, or None when there is none; a damaged one is renamed to *.damaged with a warning."""
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(arrays.pop("meta").tobytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        aside = entry.with_suffix(".npz.damaged")
        warnings.warn(f"damaged cache entry set aside as {aside.name} and built again ({error})", stacklevel=2)
        if entry.exists():
            entry.replace(aside)
        return None
    return arrays, meta


def write_entry(entry: Path, arrays: Arrays, meta: dict[str, Any]) -> None:
    """Write an entry atomically; a store that cannot be written costs time, not the result, so it only warns."""
    part = entry.with_name(f".{entry.stem}.{os.getpid()}.part")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        part.replace(entry)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        warnings.warn(f"{entry} cannot be written ({error.strerror}); texts are parsed anew each time", stacklevel=2)


def pack_words(words: list[str]) -> np.ndarray:
    """Words (none holds a line break) as UTF-8 bytes: np.load refuses object arrays without pickle, rightly."""
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def unpack_words(packed: np.ndarray) -> list[str]:
    """Inverse of `pack_words`."""
    return packed.tobytes().decode().split("\n")


def _pack(text: Text) -> Arrays:
    arrays = {"sentences": text.sentences, "documents": text.documents, "names": pack_words(list(text.document_names))}
    for key, values in (("tokens", text.tokens), ("tags", text.tags)):
        if values is not None:
            index: dict[str, int] = {}
            codes = np.fromiter((index.setdefault(v, len(index)) for v in values), np.int32, len(values))
            arrays[key], arrays[f"{key}_types"] = codes, pack_words(list(index))
    return arrays


def _unpack(arrays: Arrays, meta: dict[str, Any], origin: dict[str, Any]) -> Text:
    columns: dict[str, list[str] | None] = {"tokens": None, "tags": None}
    for key in columns:
        if key in arrays:
            columns[key] = np.array(unpack_words(arrays[f"{key}_types"]), dtype=object)[arrays[key]].tolist()
    return Text(
        columns["tokens"] or [], columns["tags"], arrays["sentences"], arrays["documents"], meta["source"],
        meta["licence"], name=origin["name"], document_names=unpack_words(arrays["names"]), origin=origin,
    )  # fmt: skip


def _origin(name: str, path: Path, mark: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "path": str(path), **{k: mark[k] for k in ("size", "mtime_ns", "sha256")}, "note": ""}
