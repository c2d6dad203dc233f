"""What code a result depends on: hashes of the syntax trees that a piece of code reaches through imports (ours).

Comments, docstrings and layout don't change a hash, everything else does; so a chapter or a training run is made
again where its code changed, and only there. Standard library only: the book's driver must not wait for torch. The
hashes are those of the running Python, whose syntax trees another version may write differently.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from pathlib import Path

PACKAGE = "agf_core"
ROOT = Path(__file__).resolve().parents[1]  # holds the package: the checkout, or site-packages


def sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


@functools.cache
def code_hash(*modules: str) -> str:
    """One hash (16 hex digits) of every library module that these reach through imports, themselves included.

    Computed once a process, from the files as they are then: ask before the work, since a file may change during it.
    Raises ValueError, listing the modules, for an unknown one.
    """
    library = _library()
    if unknown := [m for m in modules if m not in library.files]:
        raise ValueError(f"no module {', '.join(unknown)}; the library has {', '.join(library.files)}")
    return sha(json.dumps(library.reached("\n".join(f"import {m}" for m in modules))))


@functools.cache
def _library() -> Library:
    return Library()


class Library:
    """The library's modules: which reach which, and a hash of each that comments and docstrings don't change."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        base = root / PACKAGE
        self.files = {self._module(p): p for p in sorted(base.rglob("*.py"))}
        self._read: dict[str, tuple[str, set[str]]] = {}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def read(self, module: str) -> tuple[str, set[str]]:
        """A module's hash, and the modules that it imports. ValueError, with the line, if it does not parse."""
        if module not in self._read:
            path = self.files[module]
            try:
                tree = ast.parse(path.read_text(encoding="utf8"))
            except SyntaxError as error:
                raise ValueError(f"{path}, line {error.lineno}: {error.msg}; mend it before building") from error
            imports = self._imports(tree, module)
            self._read[module] = sha(ast.dump(without_docstrings(tree))), imports
        return self._read[module]

    def reached(self, code: str) -> dict[str, str]:
        """Module → hash, for every module of the library that this code imports, directly or through others."""
        found: dict[str, str] = {}
        todo = self._imports(ast.parse(code), "")
        while todo:
            module = todo.pop()
            if module in found or module not in self.files:
                continue
            found[module], imports = self.read(module)
            todo |= imports | {module.rpartition(".")[0]}
        return dict(sorted(found.items()))

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
    """The same tree, changed in place."""
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
