"""A small book in a folder of its own: the real driver and library, and a notebook of a few cells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

GENERATED = ("ledger", "figures", "status", "parameters", "minutes", "corpora", "tables")
REPO = Path(__file__).resolve().parents[2]


def cell(kind: str, text: str, *tags: str) -> dict:
    extra = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": text, **extra}


def notebook(*cells: dict, **own: object) -> str:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "agf_core": own}
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 4})


PARAMETERS = 'word: str = "beautiful"\nprofile: str = "cpu"\nseed: int = 0'
MEASURE = """\
from agf_core import figures, params
params.check(globals())
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2, 3], [3, 2, 1])
data = {"x": [1, 2, 3], "y": [3, 2, 1]}
figures.publish(fig, "fall", "It falls. The line is a line.", "A line that is falling.", data,
                numbers={"length": len(word)})
figures.say("The word has **{letters}** letters.", letters=len(word))"""


RUNS = """\
import sys
from agf_core.sources.tables import read_stored
stored = lambda: read_stored("runs", "mini.json")
if __name__ == "__main__":
    print("trained", *sys.argv[1:], flush=True)
"""
USE_RUNS = """\
from agf_core import claims, figures, params, runs
params.check(globals())
if found := runs.stored():
    stored = {"profile": "full", "runs": found["made"], "here": "Agrees: 0.8."}
    claims.report("A4", found["share"], tuple(found["ci"]), 9, "share", **stored)
figures.say("The word has **{letters}** letters.", letters=len(word))"""


def chapter(measure: str = MEASURE, **own: object) -> str:
    return notebook(
        cell("code", "# A comment is no title.\nimport agf_core", "colab", "remove-cell"),
        cell("markdown", "# How long is a word?\n\nA question in one line."),
        cell("code", PARAMETERS, "parameters"),
        cell("code", measure),
        **own,
    )


def make(folder: Path, **chapters: str) -> Path:
    """A book whose chapters are given as notebooks, by name."""
    for name in ("agf_core", "book/driver"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "pyproject.toml", "book/build.py", "book/references.bib"):
        shutil.copy(REPO / name, folder / name)
    for name in GENERATED:
        (folder / "book" / f"{name}.md").write_text(f"# {name}\n\n<!-- fill: {name} -->\n")
    shutil.copytree(REPO / "book" / "_static", folder / "book" / "_static")
    (folder / "data").mkdir()
    (folder / "book" / "notebooks").mkdir()
    for name, text in chapters.items():
        (folder / "book" / "notebooks" / f"{name}.ipynb").write_text(text)
    listed = "".join(f"  - file: notebooks/{name}\n" for name in chapters)
    generated = "".join(f"  - file: {name}\n" for name in GENERATED)
    (folder / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{listed}{generated}")
    first = next(iter(chapters))
    (folder / "book" / "index.md").write_text(f"# Mini\n\nLetters: {{number}}`{first}.letters`.\n")
    return folder
