"""What a chapter depends on, and what counts as a change."""

import hashlib
import json
import os
import time

import mini
import pytest

from agf_core.freshness import Library
from book.driver.plan import Page, fingerprint, read_chapter, why_run


@pytest.fixture
def root(tmp_path):
    """A library of four modules in which `measure` reaches `curves` through a package, and nothing reaches `other`."""
    files = {
        "agf_core/__init__.py": "",
        "agf_core/fitting/__init__.py": "from agf_core.fitting.curves import fit",
        "agf_core/fitting/curves.py": '"""Curves."""\n\ndef fit(x):\n    """Fit."""\n    return x  # as it is\n',
        "agf_core/analysis/__init__.py": "",
        "agf_core/analysis/measure.py": "from agf_core.fitting import fit",
        "agf_core/analysis/other.py": "from . import measure",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def chapter(root, code="from agf_core.analysis import measure"):
    path = root / "one.ipynb"
    path.write_text(mini.chapter(code))
    return read_chapter(path)


def record(page, library):
    return {"status": "ok", "fingerprint": fingerprint(page, "cpu", library), "texts": []}


def reason(root, page, old):
    return why_run(old, json.loads(json.dumps(fingerprint(page, "cpu", Library(root)))), False)


def test_comments_and_docstrings_are_no_change_and_code_is(root):
    page = Page(chapter(root), {})
    old = record(page, Library(root))
    curves = root / "agf_core/fitting/curves.py"
    curves.write_text('"""Other words."""\n\n\ndef fit(x):\n    return x\n')
    assert reason(root, page, old) is None
    curves.write_text("def fit(x):\n    return 2 * x\n")
    assert reason(root, page, old) == "library changed: agf_core.fitting.curves"
    (root / "agf_core/analysis/other.py").write_text("x = 1")
    curves.write_text("def fit(x):\n    return x\n")
    assert reason(root, page, old) is None


def test_a_changed_notebook_parameter_or_profile_is_a_change(root):
    page = Page(chapter(root), {})
    old = record(page, Library(root))
    assert why_run(old, fingerprint(page, "smoke", Library(root)), False) == "parameters changed"
    assert why_run(old, fingerprint(Page(page.chapter, {"word": "x"}), "cpu", Library(root)), False)
    assert reason(root, Page(chapter(root, "import agf_core"), {}), old) == "notebook changed"
    assert why_run(old, fingerprint(page, "cpu", Library(root)), True) == "FRESH=1"
    assert why_run({**old, "status": "failed"}, fingerprint(page, "cpu", Library(root)), False) == "its last run failed"


def test_a_text_is_changed_by_its_content_not_by_its_date(root):
    page = Page(chapter(root), {})
    text = root / "text.txt"
    text.write_text("one")
    stat = text.stat()
    origin = {"name": str(text), "path": str(text), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    old = {**record(page, Library(root)), "texts": [{**origin, "sha256": hashlib.sha256(b"one").hexdigest()}]}
    os.utime(text, (time.time() + 9, time.time() + 9))
    assert reason(root, page, old) is None
    text.write_text("two")
    assert "changed" in reason(root, page, old)
    text.unlink()
    assert "no longer" in reason(root, page, old)


def test_a_reason_that_a_page_will_show_has_no_path_of_this_machine(root, monkeypatch):
    monkeypatch.setattr("book.driver.plan.ROOT", root)
    (root / "stored.json").write_text("{}")
    absent = {"name": "runs/stored.json", "path": None, "asked": str(root / "stored.json")}
    page = Page(chapter(root), {})
    assert reason(root, page, {**record(page, Library(root)), "texts": [absent]}) == "text: stored.json can be had now"


def test_a_corpus_that_has_become_available_is_a_change(root, monkeypatch):
    page = Page(chapter(root), {})
    stood_in = {"name": "generated", "path": None, "asked": "inaugural"}
    old = {**record(page, Library(root)), "texts": [stood_in]}
    monkeypatch.setenv("NLTK_DATA", str(root / "nltk"))
    monkeypatch.setattr("agf_core.sources.locate.search_path", lambda: [root / "nltk"])
    assert reason(root, page, old) is None
    (root / "nltk/corpora/inaugural").mkdir(parents=True)
    assert reason(root, page, old) == "text: inaugural can be had now"


def test_a_variant_has_a_page_name_of_its_own(root):
    one = chapter(root)
    assert Page(one, {}).name == "one"
    assert Page(one, {"word": "gravity", "seed": 2}).name == "one--seed-2-word-gravity"
    names = {Page(one, {"word": w}).name for w in ("a/b", "a_b", "a b", "ä" * 80)}
    assert len(names) == 4 and all("/" not in n and len(n) < 80 for n in names)


def test_a_notebook_that_is_no_chapter_says_why(tmp_path):
    path = tmp_path / "bad.ipynb"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a notebook"):
        read_chapter(path)
    path.write_text(mini.notebook(mini.cell("code", "x = 1")))
    with pytest.raises(ValueError, match="no cell tagged 'parameters'"):
        read_chapter(path)
