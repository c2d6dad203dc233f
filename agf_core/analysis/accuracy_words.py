"""How the chapter `accuracy` writes names, lists, estimates and tables (ours)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from agf_core.analysis.grids import FIELD_ONLY
from agf_core.figures import Estimate

NAMES = {
    "agf": "AGF", "agf_score": "AGF as score", "agf_weight": "AGF as weight", "alibi": "ALiBi", "fire": "FIRE",
    "kerple_log": "KERPLE-log", "kerple_power": "KERPLE-power", "nope": "no position", "t5": "T5",
    FIELD_ONLY: "AGF's field only",
}  # fmt: skip


def called(name: str) -> str:
    """An encoding's name as it is written."""
    return NAMES.get(name, name)


def listed(names: Iterable[str]) -> str:
    """Names in a row: "ALiBi, T5 and rotary"; "none"."""
    words = [called(n) for n in names]
    return ", ".join(words[:-1]) + (" and " if words[1:] else "") + words[-1] if words else "none"


def rivals(parts: Iterable[str]) -> str:
    """Parts of a claim as they are written: "T5 and ALiBi on bytes and T5 on words"; one of A1 as it is; "no rival"."""
    units: dict[str, list[str]] = {}
    for part in parts:
        unit, _, rival = part.rpartition(": ")
        units.setdefault(unit, []).append(rival)
    return " and ".join(listed(names) + (f" on {unit}" if unit else "") for unit, names in units.items()) or "no rival"


def count(n: int, what: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n} {what}" + ("" if n == 1 else "s")


def known(e: Estimate) -> bool:
    """Whether an estimate has an interval."""
    return bool(np.isfinite([e.value, e.low, e.high]).all())


def shown(e: Estimate, spec: str = ".2f") -> str:
    """An estimate with its interval, or without one, and that said."""
    if known(e):
        return format(e, spec)
    unit = f" {e.unit}" if e.unit else ""
    return f"{e.value:{spec}}{unit} (no interval)" if np.isfinite(e.value) else "not known"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))
