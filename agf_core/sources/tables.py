"""Reference tables: data/reference/<name>.csv, each with its source and licence in '#' lines at the top."""

from __future__ import annotations

import difflib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from .locate import fingerprint

if TYPE_CHECKING:
    import pandas as pd

_PACKAGE = Path(__file__).resolve().parents[1]


def data_path(*parts: str) -> Path:
    """A path under `data/`: beside the package in a checkout, inside it in an installed wheel."""
    inside = _PACKAGE / "data"
    return (inside if inside.is_dir() else _PACKAGE.parent / "data").joinpath(*parts)


def read_table(name: str) -> pd.DataFrame:
    """The table `name`, without its comment lines. Raises ValueError, listing the tables, for an unknown name."""
    import pandas as pd

    from .load import remember

    path = data_path("reference", f"{name}.csv")
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.csv"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (near: {near[0]})" if near else ""
        raise ValueError(f"unknown table {name!r}{hint}; expected one of {', '.join(known) or 'none'}")
    remember({"name": name, "path": str(path), **fingerprint(path)})  # a figure made from it must notice a correction
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return pd.read_csv(io.StringIO("\n".join(lines)))


def table_notes(name: str) -> list[str]:
    """The comment lines at the top of a table: what it is, its source, its licence."""
    lines = data_path("reference", f"{name}.csv").read_text("utf-8").splitlines()
    return [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
