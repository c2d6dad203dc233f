"""A Sphinx extension: docstrings are written in plain Markdown, autodoc reads reStructuredText.

Handled: code spans, characters that mean something to reStructuredText alone, tables, indented blocks (set as they
are), lists that follow a line without a gap. Google sections (Args, Returns, Raises) are left to napoleon, which runs
after this.
"""

from __future__ import annotations

import re
from typing import Any

SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Attributes|Note|Notes|Example|Examples):\s*$")
MADE = "\0"
SPECIAL = re.compile(r"([|*\\])|(?<=\w)(_)(?!\w)")


def inline(line: str) -> str:
    """Code spans become literals; elsewhere bars, asterisks and trailing underscores are escaped."""
    parts = re.split(r"(`+[^`]+`+)", line)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = "``" + part.strip("`") + "``"
            if i + 1 < len(parts) and re.match(r"\w", parts[i + 1]):  # a literal must end before a letter
                parts[i] += "\\ "
        else:
            parts[i] = SPECIAL.sub(lambda m: "\\" + m[0], part)
    return "".join(parts)


def to_rst(lines: list[str]) -> list[str]:
    out: list[str] = []
    section = literal = False
    for line in tables(lines):
        blank, indented = not line.strip(), line.startswith("    ")
        if line.startswith(MADE):  # a table that is reStructuredText already
            out.append(line.removeprefix(MADE))
            continue
        if not blank and not indented:
            section = bool(SECTION.match(line))
        set_apart = not blank and indented and not section and (literal or not last(out))
        if set_apart and not literal:
            out += ["", "::", ""]
        if literal and not blank and not set_apart:
            out.append("")
        literal = set_apart or (literal and blank)
        if set_apart:
            out.append("    " + line)
            continue
        starts_list = re.match(r"([-*]|\d+\.) ", line)
        if starts_list and last(out) and not re.match(r"([-*]|\d+\.) |  ", last(out)):
            out.append("")
        out.append(line if section and SECTION.match(line) else inline_but_bullets(line))
    return out


def tables(lines: list[str]) -> list[str]:
    """Markdown tables as list-tables, their lines marked as made."""
    out: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            out.append(line)
            continue
        if re.fullmatch(r"[|\s:-]+", line):
            continue
        if not last(out).startswith(MADE):
            out += [MADE, f"{MADE}.. list-table::", f"{MADE}   :header-rows: 1", MADE]
        cells = [inline(cell.strip()) for cell in line.strip().strip("|").split(" | ")]
        out += [f"{MADE}   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(cells)]
    return out


def inline_but_bullets(line: str) -> str:
    bullet = re.match(r"\s*(?:[-*]|\d+\.) ", line)
    start = bullet.end() if bullet else 0
    return line[:start].replace("*", "-") + inline(line[start:])


def last(lines: list[str]) -> str:
    return lines[-1] if lines else ""


def setup(app: Any) -> dict[str, bool]:
    def convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = to_rst(lines)

    app.connect("autodoc-process-docstring", convert, priority=400)
    return {"parallel_read_safe": True}
