"""From executed notebooks and tracked pages to the staged sources that Jupyter Book reads.

Figures get their numbers, captions and CSV files from what `agf_core.figures` recorded in the outputs; a sentence in a
page quotes a run with {number}`chapter.name:.2f`. Files are written only where their content changed, so that Sphinx
rebuilds only what did. Standard library only.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from book.driver.plan import Chapter, source

NOT_RUN = "*not run*"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
Cell = dict[str, Any]


class Staging:
    """A folder that ends up with exactly the files written in this pass, unchanged ones left untouched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: set[Path] = set()
        self.changed = False

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
        self.kept.add(path)
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.changed = True

    def copy(self, path: Path, name: str) -> None:
        """Copy a file, by size and date: what ships with a package can be large and never changes in place."""
        target = self.folder / name
        self.kept.add(target)
        stat = path.stat()
        if target.is_file() and (target.stat().st_size, target.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
        self.changed = True

    def sweep(self) -> None:
        """Remove what an earlier pass wrote and this one did not."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_file() and path not in self.kept:
                path.unlink()
                self.changed = True
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def markdown(text: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def executed_page(notebook: dict[str, Any], page: str, notices: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """An executed notebook as a page, and the files it takes along (name in the staged sources → content).

    What `agf_core` showed (figures, sentences, verdicts) becomes Markdown cells after the code cell that made it, so
    that figures are numbered and prose is prose. `notices` are Markdown paragraphs set right under the title.
    """
    cells: list[Cell] = []
    files = {f"_static/notebooks/{page}.ipynb": json.dumps(without_machine(notebook), indent=1)}
    for cell in notebook["cells"]:
        tags = cell.get("metadata", {}).get("tags", [])
        if "colab" in tags:
            continue
        outputs, shown = [], []
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get("agf", {})
            if record.get("kind") == "figure":
                name = f"{page}-{record['name']}"
                files[f"figures/{name}.svg"] = text_of(output, "image/svg+xml")
                files[f"_static/data/{name}.csv"] = record["csv"]
                shown.append(markdown(figure(record, name)))
            elif record.get("kind") == "interactive":
                shown.append(markdown(live(text_of(output, "text/html"), label(f"{page}-{record['name']}"))))
            elif record and record["kind"] != "caption":  # a figure's caption is set with the figure
                shown.append(markdown(text_of(output, "text/markdown")))
            elif not record:
                outputs.append(output)
        own = {"outputs": outputs} if cell["cell_type"] == "code" else {}
        if own and not {"parameters", "injected-parameters"} & set(tags):
            tags = [*tags, "hide-input"]  # a reader sees results first, and the code at a click
        cells += [{**cell, **own, "metadata": {"tags": tags}}, *shown]
    at = next((i for i, c in enumerate(cells) if has_title(c)), -1) + 1
    cells[at:at] = [markdown(text) for text in notices]
    return notebook_of(cells), files


def has_title(cell: Cell) -> bool:
    return cell["cell_type"] == "markdown" and re.search(r"^# ", source(cell), re.MULTILINE) is not None


def retitle(notebook: dict[str, Any], title: str) -> None:
    """Give a run with other parameters a title of its own."""
    for cell in notebook["cells"]:
        if has_title(cell):
            cell["source"] = re.sub(r"^# .+$", lambda _: f"# {title}", source(cell), count=1, flags=re.MULTILINE)
            return


def text_of(output: dict[str, Any], mime: str) -> str:
    text = output["data"][mime]
    return text if isinstance(text, str) else "".join(text)


def label(name: str) -> str:
    """The target of a figure: `{numref}` and links in other pages use it."""
    return "fig-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def figure(record: dict[str, Any], name: str) -> str:
    """A figure directive: picture, alternative text, caption, and one line on its data and how it was made."""
    p = record["provenance"]
    settings = ", ".join(f"{k} {v}" for k, v in p["parameters"].items())
    made = f"{settings} · code {p['commit']} · {p['device']} · {p['seconds']} s into the run"
    return (
        f"````{{figure}} ../figures/{name}.svg\n:name: {label(name)}\n:alt: {json.dumps(record['alt'])}\n"
        f":class: agf-figure\n\n{record['caption']}\n\n"
        f'<span class="agf-made"><a href="../_static/data/{name}.csv" download>data (CSV)</a> · '
        f"{html.escape(made)}</span>"
        "\n````\n"
    )


def live(text: str, target: str) -> str:
    """The live form of a figure, which its own script sets in the place of the picture `target`."""
    return f'`````{{raw}} html\n<div data-for="{target}">\n{text}\n</div>\n`````\n'


def without_machine(notebook: dict[str, Any]) -> dict[str, Any]:
    """The executed notebook for download: no paths of this machine, and no records that only the book reads."""
    cells = []
    for cell in notebook["cells"]:
        own = {}
        if cell["cell_type"] == "code":
            own = {"outputs": [{**o, **({"metadata": {}} if "metadata" in o else {})} for o in cell.get("outputs", [])]}
        cells.append({**cell, **own, "metadata": {"tags": cell.get("metadata", {}).get("tags", [])}})
    return {**notebook, "cells": cells, "metadata": {"kernelspec": KERNEL}}


def notebook_of(cells: list[Cell]) -> dict[str, Any]:
    """A notebook with nothing of this machine in its metadata; ids are of no use to a page."""
    plain = [{k: v for k, v in c.items() if k != "id"} for c in cells]
    return {"cells": plain, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 4}


def stub_page(chapter: Chapter, notice: str) -> dict[str, Any]:
    """A chapter without a run: its title and question, and a notice in the place of its results."""
    cells = []
    for cell in chapter.cells:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            break
        if cell["cell_type"] == "markdown":
            cells.append(markdown(source(cell)))
    cells[1:1] = [markdown(notice)]
    return notebook_of(cells or [markdown(f"# {chapter.name}"), markdown(notice)])


def numbers_of(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Name → value of every number that a run recorded; the last of a name counts."""
    return {name: value for record in records for name, value in record.get("numbers", {}).items()}


_NUMBER = re.compile(r"\{number\}`([a-z0-9_]+)\.([A-Za-z0-9_]+)(?::([^`]*))?`")


def fill_numbers(text: str, numbers: dict[str, dict[str, Any]], where: str, has_run: set[str]) -> str:
    """Replace every {number} in a page. ValueError for a name that a chapter ran without recording."""

    def value(match: re.Match[str]) -> str:
        chapter, name, spec = match.groups()
        if chapter not in has_run:
            return NOT_RUN
        if name not in numbers[chapter]:
            choices = ", ".join(sorted(numbers[chapter])) or "none"
            raise ValueError(f"{where}: {chapter} recorded no number {name!r}; it recorded {choices}")
        return formatted(numbers[chapter][name], spec or "")

    return _NUMBER.sub(value, text)


def formatted(value: Any, spec: str) -> str:
    """A recorded number in words: an estimate with its interval, a text as it is."""
    if isinstance(value, dict):
        unit = f" {value['unit']}" if value.get("unit") else ""
        return f"{value['value']:{spec}}{unit} [{value['low']:{spec}}, {value['high']:{spec}}]"
    return value if isinstance(value, str) else f"{value:{spec}}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars and line breaks inside a cell would end it."""
    clean = [[re.sub(r"\s+", " ", str(c)).replace("|", "\\|") for c in row] for row in rows]
    lines = [header, ["---"] * len(header), *clean]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def load(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return notebook
