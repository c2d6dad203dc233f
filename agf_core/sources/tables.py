"""What ships under data/, read so that a page notices when it changes.

Reference tables are data/reference/<name>.csv, each with its source and licence in '#' lines at the top; stored results
are data/runs/*.json and data/bench/*.json.
"""

from __future__ import annotations

import difflib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .locate import fingerprint

if TYPE_CHECKING:
    import pandas as pd

_PACKAGE = Path(__file__).resolve().parents[1]


def data_path(*parts: str) -> Path:
    """A path under `data/`: beside the package in a checkout, inside it in an installed wheel."""
    inside = _PACKAGE / "data"
    return (inside if inside.is_dir() else _PACKAGE.parent / "data").joinpath(*parts)


def noted_path(*parts: str) -> Path:
    """`data_path(*parts)` of a file about to be read, noted for the provenance of all that is shown after it.

    A chapter runs again when the file's content changes, is gone, or, where there is none yet, comes to be there.
    """
    from .load import remember

    path, name = data_path(*parts), "/".join(parts)
    if path.is_file():
        remember({"name": name, "path": str(path), **fingerprint(path)})
    else:
        remember({"name": name, "path": None, "asked": str(path)})
    return path


def read_stored(*parts: str) -> Any:
    """The JSON of a stored result, as in `read_stored("runs", "accuracy.json")`, noted as read; None if there is none.

    Raises ValueError for a file that is not JSON.
    """
    path = noted_path(*parts)
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it with git") from error


def read_table(name: str) -> pd.DataFrame:
    """The table `name`, without its comment lines. Raises ValueError, listing the tables, for an unknown name."""
    import pandas as pd

    path = data_path("reference", f"{name}.csv")
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.csv"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (near: {near[0]})" if near else ""
        raise ValueError(f"unknown table {name!r}{hint}; expected one of {', '.join(known) or 'none'}")
    text = noted_path("reference", f"{name}.csv").read_text("utf-8")  # a figure made from it must notice a correction
    return pd.read_csv(io.StringIO("\n".join(line for line in text.splitlines() if not line.startswith("#"))))


def table_notes(name: str) -> list[str]:
    """The comment lines at the top of a table: what it is, its source, its licence."""
    lines = data_path("reference", f"{name}.csv").read_text("utf-8").splitlines()
    return [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
