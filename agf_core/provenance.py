"""Where a result comes from: code, parameters, texts, machine and time (ours).

A notebook must be able to say this anywhere (checkout, wheel, Colab), so nothing here needs the book, and torch is
only asked about its device when somebody else has imported it already.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import agf_core

_started = time.perf_counter()
_parameters: dict[str, Any] = {}


def begin(parameters: dict[str, Any]) -> None:
    """Note the parameters of the run that starts now; `params.check` calls it."""
    global _started
    _started = time.perf_counter()
    _parameters.clear()
    _parameters.update(parameters)


def parameters() -> dict[str, Any]:
    """The parameters of this run, as checked; empty outside a notebook."""
    return dict(_parameters)


@functools.cache
def commit() -> str:
    """The checkout's commit, with `+` if the library or a notebook was changed since; else the release, `v0.1.0`."""
    root = Path(agf_core.__file__).parents[1]
    release = f"v{agf_core.__version__}"
    if not (root / "pyproject.toml").is_file():
        return release

    def git(*args: str) -> str:
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        head = git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if git("status", "--porcelain", "--", "agf_core", "book", "data") else "")
    except (OSError, subprocess.SubprocessError):
        return release


def device() -> str:
    """What computes here: the GPU's name if torch is loaded and sees one, else the processor and its threads."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    return f"{platform.machine()} CPU, {threads} thread{'' if str(threads) == '1' else 's'}"


def texts() -> list[dict[str, Any]]:
    """The texts that this process has loaded, each with the fingerprint of its file."""
    sources = sys.modules.get("agf_core.sources")
    return [dict(origin) for origin in sources.loaded()] if sources is not None else []


def provenance() -> dict[str, Any]:
    """Everything needed to make a figure again: JSON-ready, written into the notebook beside each result."""
    return {
        "commit": commit(),
        "version": agf_core.__version__,
        "python": platform.python_version(),
        "device": device(),
        "parameters": parameters(),
        "texts": texts(),
        "seconds": round(time.perf_counter() - _started, 1),
    }
