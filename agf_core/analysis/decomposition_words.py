"""How the chapter `decomposition` writes numbers, and what a term does between two ends (ours)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agf_core.analysis import accuracy_words
from agf_core.analysis.accuracy_words import known
from agf_core.analysis.decomposition_figures import titled
from agf_core.figures import Estimate

WITH = {"flat": "a free field from a flat start", "steep": "a free field from a steep start", "t5": "T5's table",
        "agf": "AGF's field", "nope": "no position"}  # fmt: skip


def having(kind: str) -> str:
    """What a kind of model is a model with."""
    return WITH.get(kind, f"{titled(kind)} positions")


def unsigned(text: str) -> str:
    """A text in which what is rounded to zero has no sign: "-0.00" and "-0%" lose it, "-0.01" keeps it."""
    return re.sub(r"(?<![\w.])-(0(?:\.0+)?)(?!\.?\d)", r"\1", text)


def shown(e: Estimate) -> str:
    """As in `accuracy_words`, without minus zero."""
    return unsigned(accuracy_words.shown(e))


def percent(share: float) -> str:
    """A share in percent, without minus zero."""
    return unsigned(f"{share:.0%}")


def counted(first: Sequence[Any], last: Sequence[Any]) -> str:
    """How many models stand behind the first and the last of several looks: once where they are as many."""
    number = f"{len(first)} model{'s' * (len(first) != 1)}"
    return number if len(first) == len(last) else f"{number} before, {len(last)} after"


def difference(one: Estimate, other: Estimate) -> str:
    """Whether one share is larger or smaller than another: if so, their intervals do not meet."""
    if not known(one) or not known(other):
        return "not to be compared, with so few models"
    return "larger" if one.low > other.high else "smaller" if one.high < other.low else "not clearly another share"


def turn(found: Mapping[int, Estimate]) -> tuple[str, int] | None:
    """("rises" or "falls", bytes) where a share (bytes → its estimate) is furthest beyond both its first and its last
    value, with an interval that meets neither's; None where it never is.
    """
    first, *way, last = sorted(found)
    ends = (found[first], found[last])
    beyond = {}
    for at in way:
        sides = {difference(found[at], end) for end in ends}
        if sides in ({"larger"}, {"smaller"}):
            beyond[at] = "rises" if "larger" in sides else "falls"
    if not beyond:
        return None
    at = max(beyond, key=lambda t: min(abs(found[t].value - end.value) for end in ends))
    return beyond[at], at
