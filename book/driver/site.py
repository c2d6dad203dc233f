"""Render the staged sources with Jupyter Book, warnings as errors; skipped where nothing it reads has changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from agf_core.freshness import sha
from book.driver.config import staged_config
from book.driver.plan import ROOT
from book.driver.run import write_atomically
from book.driver.stage import Staging

CLI = "from jupyter_book.cli.main import main; main()"  # the package can't be run with -m
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def render(staging: Staging, build: Path) -> bool:
    """Build `build`/html. False if Jupyter Book found anything to complain about; the complaints are printed."""
    stamp, key = build / "html.stamp", _key(staging)
    if stamp.is_file() and stamp.read_text() == key and (build / "html" / "index.html").is_file():
        print("skip  site: no page changed")
        return True
    stamp.unlink(missing_ok=True)
    print("build site", flush=True)
    command = [sys.executable, "-c", CLI, "build", str(staging.folder), "--path-output", str(ROOT)]
    command += ["--config", str(staged_config(build)), "-W", "-n", "--keep-going"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    text = ANSI.sub("", done.stdout + done.stderr)
    (build / "site.log").write_text(text, encoding="utf8")
    if done.returncode:
        warnings = [line for line in text.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
        print("\n".join(["FAIL  site:", *(warnings[:30] or [text[-2000:]]), f"(all of it in {build / 'site.log'})"]))
        return False
    write_atomically(stamp, key)
    return True


def _key(staging: Staging) -> str:
    """Everything the site is made of: staged files, configuration, and the library's docstrings (the API pages)."""
    staged = []
    for path in sorted(staging.kept):
        large = path.is_relative_to(staging.folder / "_static" / "mathjax")
        staged.append((str(path), path.stat().st_size if large else sha(path.read_bytes())))
    code = [p for folder in ("agf_core", "book/driver") for p in sorted((ROOT / folder).rglob("*.py"))]
    tracked = [(str(p), sha(p.read_bytes())) for p in [*code, ROOT / "_config.yml"]]
    return sha(repr([staged, tracked, sys.version]))
