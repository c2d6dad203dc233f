"""Figures and sentences that carry their own numbers, data and provenance (ours).

Everything is recorded in the *metadata* of the notebook's outputs, so a notebook needs nothing of the book to run; the
book's driver reads it back to number the figures, write the CSV files and fill numbers into other pages.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from IPython.display import display

from agf_core.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# seaborn's colour-blind palette, by what is drawn, so that a law has one colour in the whole book
COLOURS = {
    "data": "#222222",
    "power": "#0173b2",
    "exponential": "#de8f05",
    "third": "#029e73",
    "fourth": "#cc78bc",
    "chance": "#949494",
    "limit": "#d55e00",
}
WIDTH = 6.4  # inches; at 390 pixels a 9-point letter is still 5.5 pixels tall


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; `f"{e:.2f}"` prints `1.23 [1.01, 1.45]`."""

    value: float
    low: float
    high: float
    unit: str = ""

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:{spec}}{unit} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self)


Number = float | int | str | Estimate


def use_style() -> None:
    """Set the book's look: seaborn's ticks, one palette, sizes that survive a narrow screen."""
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        rc={
            "figure.figsize": (WIDTH, 3.8),
            "figure.dpi": 100,
            "font.size": 10,
            "axes.labelsize": 10,
            "axes.titlesize": 10.5,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "lines.linewidth": 1.6,
        },
    )


def publish(
    fig: Figure,
    name: str,
    caption: str,
    alt: str,
    data: pd.DataFrame | Mapping[str, Any],
    *,
    numbers: Mapping[str, Number] | None = None,
) -> None:
    """Show a figure with its caption, alternative text, data and provenance.

    Args:
        fig: a matplotlib figure; it is closed.
        name: its short name, unique in the notebook: lower-case letters, digits and `_`.
        caption: a sentence or more that can be read alone; plain Markdown.
        alt: what the picture shows, for those who can't see it.
        data: the points drawn, as a table or as columns.
        numbers: values that other pages may quote, by name.

    Raises:
        ValueError: a name of another form, or an empty caption, alternative text or table.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"figure name {name!r}: expected lower-case letters, digits and '_', as in 'by_distance'")
    for what, text in (("caption", caption), ("alt", alt)):
        if not text.strip():
            raise ValueError(f"figure {name!r} has an empty {what}; write what a reader needs to understand it alone")
    table = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    if table.empty:
        raise ValueError(f"figure {name!r} has no data; give the table of what is drawn")
    csv = table.to_csv(index=False)
    record = {
        "kind": "figure",
        "name": name,
        "caption": caption,
        "alt": alt,
        "csv": csv,
        "numbers": _plain(numbers or {}),
        "provenance": provenance(),
    }
    display({"image/svg+xml": _svg(fig, name), "text/plain": alt}, raw=True, metadata={"agf": record})
    display({"text/html": _foot(record)}, raw=True, metadata={"agf": {"kind": "caption", "name": name}})


def say(text: str, /, **numbers: Number) -> None:
    """Show a paragraph of Markdown whose numbers come from the run: `say("falls as {k:.2f}", k=estimate)`.

    The numbers are recorded under their names, for other pages to quote.
    """
    paragraph = text.format(**numbers)
    record = {"kind": "prose", "numbers": _plain(numbers), "provenance": provenance()}
    display({"text/markdown": paragraph, "text/plain": paragraph}, raw=True, metadata={"agf": record})


def _svg(fig: Figure, name: str) -> str:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    # The same data must give the same bytes (hash salt, no date), and an opaque ground survives a dark page.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        fig.savefig(buffer, format="svg", facecolor="white", bbox_inches="tight", metadata={"Date": None})
    plt.close(fig)
    return buffer.getvalue()


def _foot(record: dict[str, Any]) -> str:
    """Caption, download and provenance, for a reader outside the book (the book sets its own)."""
    data = base64.b64encode(record["csv"].encode()).decode()
    p = record["provenance"]
    settings = ", ".join(f"{k} = {v}" for k, v in p["parameters"].items())
    return (
        f"<p>{html.escape(record['caption'])}</p>"
        f'<p><small><a download="{record["name"]}.csv" href="data:text/csv;base64,{data}">data (CSV)</a> · '
        f"{html.escape(settings)} · {p['commit']} · {html.escape(p['device'])} · after {p['seconds']} s</small></p>"
    )


def _plain(numbers: Mapping[str, Number]) -> dict[str, Any]:
    """JSON-ready: an estimate becomes its fields, a NumPy number a Python one."""

    def plain(value: Any) -> Any:
        if isinstance(value, Estimate):
            return {k: plain(v) for k, v in asdict(value).items()}
        return value.item() if hasattr(value, "item") else value

    return {name: plain(value) for name, value in numbers.items()}
