"""An interactive figure that needs nothing but itself: data and script in one piece of HTML (ours).

A still picture goes through `figures.publish` with caption, table and provenance: it is what print, and a reader
without scripts, see. The live one follows it; the book sets it in the picture's place. A template is a file of this
package with `__ID__`, `__LABEL__` and `__DATA__` (JSON) in it; it asks no other host for anything.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import display

from agf_core import figures
from agf_core.sources.load import remember
from agf_core.sources.locate import fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(
    fig: Figure,
    name: str,
    caption: str,
    alt: str,
    data: pd.DataFrame,
    *,
    template: str,
    live: Mapping[str, Any],
    numbers: Mapping[str, figures.Number] | None = None,
) -> None:
    """Show a figure as `figures.publish` does, and its live form: `template` filled with `live`, which is JSON-ready.

    ValueError as from `figures.publish`, for a template that is none, and for data that JSON does not know (NaN).
    """
    path = Path(__file__).with_name(f"{template}.html")
    page = fill(path, name, alt, live)
    # Noted as a text is: the chapter runs again when the template changes, which no hash of Python code would see.
    remember({"name": path.name, "path": str(path), **fingerprint(path)})
    figures.publish(fig, name, caption, alt, data, numbers=numbers)
    metadata = {"agf": {"kind": "interactive", "name": name}}
    display({"text/html": page, "text/plain": alt}, raw=True, metadata=metadata)


def fill(path: Path, name: str, alt: str, live: Mapping[str, Any]) -> str:
    """The template at `path` with its name, alternative text and data."""
    if not path.is_file():
        choices = ", ".join(sorted(p.stem for p in path.parent.glob("*.html")))
        raise ValueError(f"unknown template {path.stem!r}; choose from {choices}")
    # "<" is written so that no text in the data can end the script that holds it.
    text = json.dumps(live, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    values = {"__ID__": f"agf-{name.replace('_', '-')}", "__LABEL__": html.escape(alt), "__DATA__": text}
    return re.sub("|".join(values), lambda m: values[m[0]], path.read_text("utf-8"))
