"""Where a corpus lies, and whether it is still the same: standard library only, so that the book's driver can ask.

NLTK's search order (`nltk.data.path`) is repeated here because importing NLTK costs most of a second; a test
compares the two. A fingerprint is size and modification time (cheap) and SHA-256 (sure); a folder's is that of its
files taken together in the order of their names.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

# Corpora this package reads: name -> the NLTK packages it takes. The universal tags of Brown and Treebank come from
# NLTK's own mapping, which is a package too.
PACKAGES: dict[str, tuple[str, ...]] = {
    "brown": ("corpora/brown", "taggers/universal_tagset"),
    "treebank": ("corpora/treebank", "taggers/universal_tagset"),
    "inaugural": ("corpora/inaugural",),
    "state_union": ("corpora/state_union",),
    "shakespeare": ("corpora/shakespeare",),
    "genesis": ("corpora/genesis",),
    "webtext": ("corpora/webtext",),
    "dependency_treebank": ("corpora/dependency_treebank",),
}


def search_path() -> list[Path]:
    """The folders NLTK looks in: NLTK_DATA, what the process added to `nltk.data.path`, home, sys.prefix, system."""
    folders = [d for d in os.environ.get("NLTK_DATA", "").split(os.pathsep) if d]
    folders += getattr(sys.modules.get("nltk.data"), "path", [])
    folders.append(os.path.expanduser("~/nltk_data"))  # noqa: PTH111  (as NLTK spells it)
    folders += [str(Path(sys.prefix, *parts, "nltk_data")) for parts in ((), ("share",), ("lib",))]
    if sys.platform.startswith("win"):
        folders += [str(Path(os.environ.get("APPDATA", "C:\\"), "nltk_data"))]
        folders += [r"C:\nltk_data", r"D:\nltk_data", r"E:\nltk_data"]
    else:
        folders += [f"/usr/{d}/nltk_data" for d in ("share", "local/share", "lib", "local/lib")]
    return [Path(d) for d in dict.fromkeys(folders)]


def find_package(package: str) -> Path | None:
    """The folder or zip file of an NLTK package such as "corpora/brown", or None."""
    for folder in search_path():
        unpacked, packed = folder / package, folder / f"{package}.zip"
        if unpacked.is_dir():
            return unpacked
        if packed.is_file():
            return packed
    return None


def locate(name: str) -> Path | None:
    """Where the corpus `name` lies (folder or zip), or None when it, or a package it takes, is not there.

    A name outside `PACKAGES` is taken for the path of a file.
    """
    if name not in PACKAGES:
        path = Path(name)
        return path if path.is_file() else None
    found = [find_package(package) for package in PACKAGES[name]]
    return found[0] if all(found) else None


def stamp(path: Path) -> dict[str, int]:
    """The cheap half of a fingerprint: {"size": bytes, "mtime_ns": newest modification}."""
    stats = [f.stat() for f in _files(path)]
    return {"size": sum(s.st_size for s in stats), "mtime_ns": max((s.st_mtime_ns for s in stats), default=0)}


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's file names and contents in order."""
    digest = hashlib.sha256()
    for file in _files(path):
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """{"size", "mtime_ns", "sha256"} of a file or folder."""
    return {**stamp(path), "sha256": sha256(path)}


def stale(origin: dict[str, Any]) -> str:
    """Why a text loaded as `origin` (see `Text.origin`) would be another one today; "" when it would be the same.

    Reads no file whose size and modification time are unchanged.
    """
    name, path = origin["name"], origin.get("path")
    if origin.get("asked"):  # a corpus was asked for and the generated language stood in
        return f"{origin['asked']} can be had now" if locate(origin["asked"]) else ""
    if path is None:  # the generated language depends on nothing outside the code
        return ""
    here = locate(name) if name in PACKAGES else locate(path)
    if here is None:
        return f"{name} is no longer at {path}"
    now = stamp(here)
    if (now["size"], now["mtime_ns"]) == (origin["size"], origin["mtime_ns"]):
        return ""
    return "" if sha256(here) == origin["sha256"] else f"{name} has changed at {here}"


def store() -> Path:
    """The folder for what this machine makes: AGF_STORE, else `.agf` in a checkout, else the user's cache."""
    if named := os.environ.get("AGF_STORE"):
        return Path(named).expanduser()
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file() and (root / "agf_core").is_dir():
        return root / ".agf"
    if sys.platform.startswith("win"):
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "agf_core"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/agf_core"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agf_core"


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
