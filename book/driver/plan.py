"""What a chapter depends on, and whether its last run still holds. Standard library only.

A run's fingerprint is made of content, never of dates: the notebook's code and text, the syntax trees of the library
modules it reaches (docstrings and comments removed), its parameters with the profile, and every file that it read.
"""

from __future__ import annotations

import ast
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agf_core.freshness import PACKAGE, Library, sha
from agf_core.sources import locate

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "cpu", "full")


@dataclass(frozen=True)
class Chapter:
    """One notebook as it is tracked: where it lies, what it declares, how long it may take."""

    name: str
    path: Path
    defaults: dict[str, Any]
    exclusive: bool
    seconds: dict[str, float]
    shares_runs: bool
    cells: list[dict[str, Any]] = field(repr=False)

    @property
    def title(self) -> str:
        for cell in self.cells:
            if match := cell["cell_type"] == "markdown" and re.search(r"^# +(.+)$", source(cell), re.MULTILINE):
                return match[1].strip()
        return self.name


@dataclass(frozen=True)
class Page:
    """One run of a chapter: with its default parameters, or a variant with others and a page of its own."""

    chapter: Chapter
    parameters: dict[str, Any]  # what differs from the notebook's defaults, the profile apart

    @property
    def name(self) -> str:
        if not self.parameters:
            return self.chapter.name
        slug = "-".join(f"{k}-{v}" for k, v in sorted(self.parameters.items()))
        clean = re.sub(r"[^A-Za-z0-9.-]+", "_", slug)
        if clean != slug or len(clean) > 60:  # keep two different values two pages
            clean = f"{clean[:50]}-{sha(slug)[:6]}"
        return f"{self.chapter.name}--{clean}"


def source(cell: dict[str, Any]) -> str:
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def read_chapter(path: Path) -> Chapter:
    """Read a tracked notebook. ValueError if it can't be a chapter: not JSON, or without a parameters cell."""
    try:
        notebook = json.loads(path.read_text(encoding="utf8"))
        cells = notebook["cells"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a notebook ({type(error).__name__}: {error}); restore it with git") from error
    own = notebook.get("metadata", {}).get(PACKAGE, {})
    return Chapter(
        name=path.stem,
        path=path,
        defaults=_defaults(path, cells),
        exclusive=bool(own.get("exclusive", False)),
        seconds={k: float(v) for k, v in own.get("seconds", {}).items()},
        shares_runs=bool(own.get("shares_runs", False)),
        cells=cells,
    )


def _defaults(path: Path, cells: list[dict[str, Any]]) -> dict[str, Any]:
    for cell in cells:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            values = {}
            for node in ast.parse(source(cell)).body:
                target = node.target if isinstance(node, ast.AnnAssign) else None
                if isinstance(target, ast.Name) and node.value is not None:
                    values[target.id] = ast.literal_eval(node.value)
            return values
    raise ValueError(f"{path} has no cell tagged 'parameters'; a chapter declares its parameters there, with types")


def code_of(chapter: Chapter) -> str:
    """All code of a notebook, without its magics."""
    cells = (source(c) for c in chapter.cells if c["cell_type"] == "code")
    return "\n".join(re.sub(r"^\s*[%!].*$", "pass", text, flags=re.MULTILINE) for text in cells)


def fingerprint(page: Page, profile: str, library: Library) -> dict[str, Any]:
    """What a run is made of, before it runs (the files it reads are known after it)."""
    chapter = page.chapter
    tracked = [[c["cell_type"], source(c), c.get("metadata", {}).get("tags", [])] for c in chapter.cells]
    return {
        "notebook": sha(json.dumps(tracked)),
        "library": library.reached(code_of(chapter)),
        "parameters": page.parameters,
        "profile": profile,
    }


def why_run(old: dict[str, Any] | None, new: dict[str, Any], fresh: bool) -> str | None:
    """The reason why a page must be run again, in words; None if its last run still holds."""
    if old is None:
        return f"never run in profile {new['profile']}"
    if fresh:
        return "FRESH=1"
    if old.get("status") != "ok":
        return f"its last run {old.get('status', 'did not finish')}"
    before = old["fingerprint"]
    if before["notebook"] != new["notebook"]:
        return "notebook changed"
    if before["parameters"] != new["parameters"] or before["profile"] != new["profile"]:
        return "parameters changed"
    if changed := sorted(m for m, h in new["library"].items() if before["library"].get(m) != h):
        return "library changed: " + ", ".join(changed[:3]) + (" …" if len(changed) > 3 else "")
    if gone := sorted(set(before["library"]) - set(new["library"])):
        return "library changed: no longer uses " + ", ".join(gone[:3])
    stale = next(filter(None, map(locate.stale, old["texts"])), None)
    if stale is None:
        return None
    return f"text: {stale}".replace(f"{ROOT}{os.sep}", "")  # a page shows it: no path of this machine
