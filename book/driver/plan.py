"""What a chapter depends on, and whether its last run still holds. Standard library only.

A run's fingerprint is made of content, never of dates: the notebook's code and text, the syntax trees of the library
modules it reaches (docstrings and comments removed), its parameters with the profile, and every file that it read.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agf_core.sources import locate

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "agf_core"
PROFILES = ("smoke", "cpu", "full")


def sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


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


class Library:
    """The library's modules: which reach which, and a hash of each that comments and docstrings don't change."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        base = root / PACKAGE
        self.files = {self._module(p): p for p in sorted(base.rglob("*.py"))}
        self._trees: dict[str, ast.Module] = {}
        self._hashes: dict[str, str] = {}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            path = self.files[module]
            try:
                self._trees[module] = ast.parse(path.read_text(encoding="utf8"))
            except SyntaxError as error:
                raise ValueError(f"{path}, line {error.lineno}: {error.msg}; mend it before building") from error
        return self._trees[module]

    def hash(self, module: str) -> str:
        if module not in self._hashes:
            self._hashes[module] = sha(ast.dump(without_docstrings(self.tree(module))))
        return self._hashes[module]

    def reached(self, code: str) -> dict[str, str]:
        """Module → hash, for every module of the library that this code imports, directly or through others."""
        found: set[str] = set()
        todo = self._imports(ast.parse(code), "")
        while todo:
            module = todo.pop()
            if module in found or module not in self.files:
                continue
            found.add(module)
            todo |= self._imports(self.tree(module), module) | {module.rpartition(".")[0]}
        return {m: self.hash(m) for m in sorted(found)}

    def _imports(self, tree: ast.Module, module: str) -> set[str]:
        """Modules that a tree names; a package asked for a name that is no module may load any module of its own."""
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    names |= {m for m in self.files if m == alias.name or PACKAGE != alias.name == m.rpartition(".")[0]}
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node, module)
                if base.split(".")[0] != PACKAGE:
                    continue
                names.add(base)
                for alias in node.names:
                    if f"{base}.{alias.name}" in self.files:
                        names.add(f"{base}.{alias.name}")
                    elif base != PACKAGE and base != module:
                        names |= {m for m in self.files if m.startswith(base + ".")}
        return names

    def _absolute(self, node: ast.ImportFrom, module: str) -> str:
        if not node.level:
            return node.module or ""
        is_package = module in self.files and self.files[module].name == "__init__.py"
        parts = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
        return ".".join([*parts, *([node.module] if node.module else [])])


def without_docstrings(tree: ast.Module) -> ast.Module:
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


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
    return next((f"text: {reason}" for reason in map(locate.stale, old["texts"]) if reason), None)
