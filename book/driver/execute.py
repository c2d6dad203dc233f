"""Run one notebook with papermill, telling the driver about each cell: one JSON object a line on standard output.

    python -m book.driver.execute INPUT OUTPUT '{"word": "gravity"}'

Lines: {"cell": 3, "of": 17}; at last {"ok": true}, or {"error": {"cell": 4, "name": "ValueError", "text": "…"}} and
exit status 1. The output notebook is written either way; the driver decides what becomes of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError


class _Cells(logging.Handler):
    """papermill says `Executing Cell 3` in its log and nowhere else."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total

    def emit(self, record: logging.LogRecord) -> None:
        if match := re.match(r"Executing Cell (\d+)", record.getMessage()):
            tell({"cell": int(match[1]), "of": self.total})


def tell(message: dict[str, Any]) -> None:
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:  # the driver is gone, and nobody waits for this run any more
        os._exit(1)


def main(source: str, target: str, parameters: dict[str, Any]) -> int:
    warnings.simplefilter("ignore")  # a misspelt parameter is an error of params.check, not papermill's warning
    notebook = papermill.iorw.load_notebook_node(source)
    log = logging.getLogger("papermill")
    log.setLevel(logging.INFO)
    log.handlers = [_Cells(len(notebook.cells))]
    log.propagate = False
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters,
            kernel_name="python3",
            progress_bar=False,
            log_output=True,
            start_timeout=120,
        )
    except PapermillExecutionError as error:
        tell({"error": {"cell": error.cell_index, "name": error.ename, "text": error.evalue}})
        return 1
    except Exception as error:  # a dead kernel or a full disk is a failed chapter too, and the others go on
        tell({"error": {"cell": None, "name": type(error).__name__, "text": str(error)}})
        return 1
    tell({"ok": True})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
