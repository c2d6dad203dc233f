"""The notebooks' parameters: what each may be, and one call that checks them all (ours).

A notebook declares its parameters with types in the cell tagged `parameters`:

    word: str = "beautiful"
    profile: str = "cpu"

and calls `params.check(globals())` in the next. papermill only warns about a parameter that a notebook does not have,
and would go on to publish a page that ignored it; here it is an error that lists the choices.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from agf_core import provenance, sources

PROFILES = ("smoke", "cpu", "full")


@dataclass(frozen=True)
class Parameter:
    """One parameter that notebooks share: its type, what it means, its values in words, and their test."""

    kind: type
    meaning: str
    values: str
    allowed: Callable[[Any], bool]


def _is_corpus(name: str) -> bool:
    if name.startswith("shuffled:"):
        from agf_core.sources import shuffled  # needs numpy, which nobody else here does

        try:
            return _is_corpus(shuffled.parse(name).text)
        except ValueError:
            return False
    return name in sources.NAMES or name.startswith("generated:") or Path(name).expanduser().is_file()


KNOWN: dict[str, Parameter] = {
    "word": Parameter(
        str, "the word whose followers are counted", "one word, without spaces", lambda v: len(v.split()) == 1
    ),
    "corpus": Parameter(
        str,
        "the text that is read",
        f"one of {', '.join(sources.NAMES)}, `generated:<law>:<option>=<value>`, `shuffled:<what>:<text>` with what "
        "one of words, sentences, order, or the path of a UTF-8 file",
        _is_corpus,
    ),
    "window": Parameter(int, "the largest distance that is looked at, in tokens", "5 to 200", lambda v: 5 <= v <= 200),
    "layer": Parameter(
        int, "the layer that is drawn, counted from 0", "-1 (all of them) to 199", lambda v: -1 <= v < 200
    ),
    "model_id": Parameter(
        str,
        "the pretrained model that is looked at",
        "`minilm` (all-MiniLM-L6-v2, offline), a Hugging Face id as in `openai-community/gpt2`, or a folder",
        lambda v: bool(v) and len(v.split()) == 1,
    ),
    "profile": Parameter(str, "how much is computed", "one of " + ", ".join(PROFILES), lambda v: v in PROFILES),
    "seed": Parameter(int, "the seed of every random draw", "0 to 4294967295", lambda v: 0 <= v < 2**32),
}


def check(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Check a notebook's parameters and note them for the provenance of its figures.

    Args:
        namespace: the notebook's `globals()`, or a plain mapping of parameter names to values.

    Returns:
        The checked parameters, name to value.

    Raises:
        ValueError: an unknown name, a wrong type or a value out of range; the message lists the choices.
    """
    declared = _declared(namespace)
    for name in sorted(set(declared) | _injected(namespace)):
        if name not in declared or name not in KNOWN:
            raise ValueError(_unknown(name, declared))
    values = {name: namespace[name] for name in declared}
    for name, value in values.items():
        _check_value(name, value)
    provenance.begin(values)
    return values


def _declared(namespace: Mapping[str, Any]) -> list[str]:
    """The annotated names of a notebook; every plain name of a mapping that is not a notebook's namespace."""
    annotations = namespace.get("__annotations__")
    if annotations is None and callable(namespace.get("__annotate__")):  # Python 3.14 computes them on demand
        annotations = namespace["__annotate__"](1)
    if annotations:
        return [name for name in annotations if not name.startswith("_")]
    return [k for k, v in namespace.items() if not k.startswith("_") and not isinstance(v, ModuleType)]


def _injected(namespace: Mapping[str, Any]) -> set[str]:
    """Names that papermill set: it injects one cell, headed `# Parameters`, and the kernel's history holds it."""
    names: set[str] = set()
    for source in namespace.get("In") or []:
        if source.lstrip().startswith("# Parameters"):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
    return names


def _unknown(name: str, declared: list[str]) -> str:
    known = [n for n in declared if n in KNOWN] or list(KNOWN)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    choices = "; ".join(f"{n} ({KNOWN[n].kind.__name__}: {KNOWN[n].values})" for n in known)
    return f"unknown parameter {name!r}.{hint} This notebook's parameters are: {choices}."


def _check_value(name: str, value: Any) -> None:
    spec = KNOWN[name]
    right_type = isinstance(value, spec.kind) and not (spec.kind is int and isinstance(value, bool))
    if not right_type or not spec.allowed(value):
        near = difflib.get_close_matches(value, sources.NAMES, n=1) if name == "corpus" and right_type else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"parameter {name!r} is {value!r} ({type(value).__name__}); "
            f"expected {spec.kind.__name__}, {spec.values}.{hint}"
        )
