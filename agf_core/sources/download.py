"""NLTK's own download, with a short time limit and nothing left half done.

It runs in a child process, because a stalled connection cannot be interrupted from a thread; it fetches into a
temporary folder and moves the finished zip into place, because NLTK writes in place and a cut download would be
found later as a damaged corpus.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .locate import PACKAGES, find_package

SECONDS = 10.0  # for one package, starting NLTK included; AGF_DOWNLOAD_SECONDS overrides it
_failed: dict[str, str] = {}  # one failure is enough: a page that asks for three corpora waits once

_CHILD = """
import socket, sys
socket.setdefaulttimeout(float(sys.argv[3]))
import nltk
nltk.data.path.insert(0, sys.argv[2])
nltk.download(sys.argv[1], download_dir=sys.argv[2], quiet=True, raise_on_error=True)
"""


def download(name: str) -> str:
    """Fetch the packages the corpus `name` takes into the user's NLTK folder; returns why it failed, or ""."""
    if os.environ.get("AGF_OFFLINE", "0") not in ("", "0"):
        return "not downloaded because AGF_OFFLINE is set"
    for package in PACKAGES[name]:
        if find_package(package) is None and (reason := _failed.get("any") or _fetch(package)):
            _failed["any"] = reason
            return f"download failed: {reason}"
    return ""


def _fetch(package: str) -> str:
    seconds = float(os.environ.get("AGF_DOWNLOAD_SECONDS", SECONDS))
    target = Path.home() / "nltk_data" / package
    with tempfile.TemporaryDirectory(prefix="agf-nltk-") as folder:
        command = [sys.executable, "-c", _CHILD, target.name, folder, str(seconds)]
        try:
            done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            return f"not finished in {seconds:g} s (AGF_DOWNLOAD_SECONDS sets the limit)"
        fetched = Path(folder) / f"{package}.zip"
        if done.returncode != 0 or not zipfile.is_zipfile(fetched):
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            return lines[-1][:200] if lines else "NLTK gave no reason"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.{os.getpid()}.part")
            shutil.copyfile(fetched, part)
            part.replace(target.with_suffix(".zip"))
        except OSError as error:
            return f"{target.parent} cannot be written ({error.strerror})"
    return ""
