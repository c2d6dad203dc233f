"""What `_config.yml` says of the repository, read without a YAML library."""

from __future__ import annotations

import re
from pathlib import Path

from book.driver.plan import ROOT
from book.driver.run import write_atomically


def repository(root: Path = ROOT) -> dict[str, str]:
    """`url`, `branch` and `path_to_book`; an empty `url` means that the repository has no public address yet."""
    text = (root / "_config.yml").read_text(encoding="utf8")
    block = re.search(r"^repository:\n((?: +.*\n)+)", text, re.MULTILINE)
    pairs = re.findall(r'^ +(\w+): *"?([^"\n#]*?)"? *(?:#.*)?$', block[1] if block else "", re.MULTILINE)
    found = {"url": "", "branch": "", "path_to_book": "book", **dict(pairs)}
    found["url"] = found["url"].rstrip("/")
    return found


def colab_link(chapter: str, root: Path = ROOT) -> str:
    """Where Colab opens the tracked notebook; "" while there is no public address."""
    at = repository(root)
    if not at["url"]:
        return ""
    place = at["url"].removeprefix("https://github.com/")
    path = f"{at['path_to_book']}/notebooks/{chapter}.ipynb"
    return f"https://colab.research.google.com/github/{place}/blob/{at['branch']}/{path}"


def staged_config(build: Path, root: Path = ROOT) -> Path:
    """`_config.yml` for Jupyter Book, without its Colab button while that could lead nowhere."""
    text = (root / "_config.yml").read_text(encoding="utf8")
    if not repository(root)["url"]:
        text = re.sub(r"colab_url:.*", 'colab_url: ""', text)
    write_atomically(build / "_config.yml", text)
    return build / "_config.yml"
