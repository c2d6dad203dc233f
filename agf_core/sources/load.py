"""load_text: a corpus by name, a file by path, the generated language by its specification, or any of them shuffled."""

from __future__ import annotations

import difflib
import zipfile
from pathlib import Path
from typing import Any

from .cache import cached_text
from .corpora import CORPORA, read_corpus
from .download import download
from .generated import generate, parse_spec
from .locate import locate
from .plain import read_file
from .shuffled import HOW, load_shuffled
from .text import Text

NAMES: tuple[str, ...] = (*CORPORA, "generated")
_loaded: list[dict[str, Any]] = []


def load_text(name_or_path: str | Path) -> Text:
    """A text by the name of a corpus (`NAMES`), a "generated…" or "shuffled…" specification, or a UTF-8 file's path.

    A corpus comes from the local cache, from NLTK's search path, from NLTK's own download (ten seconds; not when
    AGF_OFFLINE=1), or else the generated language stands in, and `text.note` and `text.origin` say so.
    Specifications: "generated", "generated:exponential:rate=0.3:seed=1"; options are those of `generate`.
    "shuffled:words:brown", "shuffled:order:seed=1:generated:power" and so on: see `shuffled`.

    Raises ValueError for an unknown name (with the choices), a wrong specification or an unreadable file, and
    FileNotFoundError for a missing file.
    """
    text = _read(name_or_path)
    remember(text.origin)
    return text


def _read(name_or_path: str | Path) -> Text:
    name = str(name_or_path)
    kind = name.split(":", 1)[0] if isinstance(name_or_path, str) else ""
    if kind == "generated":
        return generate(**parse_spec(name))
    if kind == "shuffled":
        return load_shuffled(name, _read)
    if isinstance(name_or_path, str) and name in CORPORA:
        return _corpus(name)
    if isinstance(name_or_path, Path) or _looks_like_path(name):
        return read_file(Path(name).expanduser())
    choices = f"one of {', '.join(NAMES)}, shuffled:<{'|'.join(HOW)}>:<text>, or the path of a UTF-8 file"
    raise ValueError(f"unknown text {name!r}{_near(name)}; expected {choices}")


def loaded() -> list[dict[str, Any]]:
    """The origins of the texts loaded in this process, each once, in order: the figures' provenance carries them."""
    return [dict(origin) for origin in _loaded]


def remember(origin: dict[str, Any]) -> None:
    """Add an origin to `loaded()`."""
    if origin not in _loaded:
        _loaded.append(dict(origin))


def obtain(name: str) -> tuple[Path | None, str]:
    """(where the corpus's NLTK package lies, "") after a download if need be, or (None, why it cannot be had)."""
    path = locate(name)
    if path is None:
        reason = download(name)
        path = locate(name)
        if path is None:
            return None, f"not on NLTK's search path, {reason}"
    return path, ""


def _corpus(name: str) -> Text:
    path, reason = obtain(name)
    if path is not None:
        try:
            return cached_text(name, path, read_corpus)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and it will be downloaded again") from error
    note = f"{name} could not be had here ({reason}); this is the generated language instead"
    return generate(note=note, asked=name)


def _looks_like_path(name: str) -> bool:
    return Path(name).expanduser().exists() or "/" in name or "\\" in name or Path(name).suffix != ""


def _near(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=2, cutoff=0.5)
    return f" (near: {', '.join(near)})" if near else ""
