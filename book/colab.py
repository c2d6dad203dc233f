"""Write the first cell of every notebook from `_config.yml`, and drop outputs (`make colab`).

The cell installs the library at the tag that `_config.yml` names, only where it is not installed, and never touches
the torch or numpy that are there. While the repository has no public address it says so instead of guessing one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from book.driver.config import repository  # noqa: E402

INSTALL = """\
# In Colab: install agf_core at the tag of this page, if it is not there. torch and numpy stay as they are.
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("agf_core") is None:
    _keep = [f"{{d.name}}=={{d.version}}" for d in importlib.metadata.distributions() if d.name in ("torch", "numpy")]
    pathlib.Path("keep.txt").write_text("\\n".join(_keep))
    _what = "agf_core @ git+{url}@{branch}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-c", "keep.txt", _what], check=True)
"""

NO_ADDRESS = """\
# This cell will install agf_core in Colab. The repository has no public address yet, so it can't, and says so.
import importlib.util

if importlib.util.find_spec("agf_core") is None:
    raise ModuleNotFoundError(
        "agf_core is not installed here, and its repository has no public address yet to install it from. "
        "From a copy of the repository: `make book`, or `pip install path/to/the/copy` and run this notebook again."
    )
"""


def first_cell(root: Path = ROOT) -> str:
    at = repository(root)
    return (INSTALL.format(**at) if at["url"] else NO_ADDRESS).rstrip("\n")


def normal(notebook: dict[str, Any], first: str) -> dict[str, Any]:
    """The notebook as it is tracked: the generated cell first, ids by position, no outputs."""
    own = {"cell_type": "code", "metadata": {"tags": ["colab", "remove-cell"]}, "source": first}
    cells = [own, *(c for c in notebook["cells"] if "colab" not in c.get("metadata", {}).get("tags", []))]
    for number, cell in enumerate(cells):
        text = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        cell["source"] = text.splitlines(keepends=True)
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {k: v for k, v in cell.get("metadata", {}).items() if k == "tags" and v}
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    kept = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec", "agf_core")}
    return {"cells": cells, "metadata": kept, "nbformat": 4, "nbformat_minor": 5}


def main() -> None:
    first = first_cell()
    for path in sorted((ROOT / "book" / "notebooks").glob("*.ipynb")):
        before = path.read_text(encoding="utf8")
        after = json.dumps(normal(json.loads(before), first), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if after != before:
            path.write_text(after, encoding="utf8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
