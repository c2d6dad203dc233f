"""Every chapter's table of runs in one: what `python -m agf_core.runs` and `make book` train by name (ours).

A table is the `GRIDS` of a module of this package whose name ends in `grids`: a new chapter's is found by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from agf_core.runs import RunConfig

ROOMS = [
    m.name
    for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    if m.name.endswith("grids") and m.name != Path(__file__).stem
]
GRIDS: dict[str, Callable[[str], list[RunConfig]]] = {}
for _room in ROOMS:
    _own = importlib.import_module(f"agf_core.analysis.{_room}").GRIDS
    if _twice := sorted(set(_own) & set(GRIDS)):
        raise ValueError(f"{_room} has grids that another table has already: {', '.join(_twice)}")
    GRIDS |= _own
