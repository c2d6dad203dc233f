"""Which modules a piece of code reaches, and what changes a hash: against Python's own imports, and installed apart."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agf_core.freshness import Library, code_hash

PACKAGE = Path(__file__).resolve().parents[2] / "agf_core"


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


def test_code_reaches_modules_through_others_and_no_more(root):
    reached = Library(root).reached("from agf_core.analysis import measure")
    assert set(reached) == {
        "agf_core",
        "agf_core.analysis",
        "agf_core.analysis.measure",
        "agf_core.fitting",
        "agf_core.fitting.curves",
    }
    assert "agf_core.analysis.measure" in Library(root).reached("from agf_core.analysis import other")  # relative


def test_a_package_that_loads_lazily_counts_with_all_its_modules(root):
    (root / "agf_core/fitting/__init__.py").write_text("def __getattr__(name): ...")
    assert "agf_core.fitting.curves" in Library(root).reached("from agf_core.fitting import fit")


def test_comments_and_docstrings_are_no_change_and_code_is(root):
    curves, before = root / "agf_core/fitting/curves.py", Library(root).read("agf_core.fitting.curves")[0]
    curves.write_text('"""Other words."""\n\n\ndef fit(x):\n    return x\n')
    assert Library(root).read("agf_core.fitting.curves")[0] == before
    curves.write_text("def fit(x):\n    return 2 * x\n")
    assert Library(root).read("agf_core.fitting.curves")[0] != before


def test_a_module_that_does_not_parse_is_named(root):
    (root / "agf_core/fitting/curves.py").write_text("x = 1\ndef fit(:\n")
    with pytest.raises(ValueError, match=r"curves\.py, line 2: .*; mend it before building"):
        Library(root).reached("import agf_core.analysis.measure")


def test_whatever_python_imports_is_reached():
    code = "import agf_core.attention, agf_core.fitting\nfrom agf_core.sources import load_text, read_table\n"
    look = "import json, sys\nprint(json.dumps([m for m in sys.modules if m.split('.')[0] == 'agf_core']))"
    done = subprocess.run([sys.executable, "-c", code + look], capture_output=True, text=True, check=True)
    assert {"agf_core.attention.api", "agf_core.fields.power"} < set(json.loads(done.stdout))
    assert set(json.loads(done.stdout)) <= set(Library().reached(code))


def test_code_hash_is_the_same_installed_apart_and_changes_with_the_code_reached(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "agf_core", ignore=shutil.ignore_patterns("__pycache__"))
    ask = "import sys; from agf_core.freshness import code_hash; print(code_hash('agf_core.attention'), *sys.modules)"

    def there() -> str:
        done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        value, *modules = done.stdout.split()
        assert "torch" not in modules and "numpy" not in modules
        return value

    def append(name: str, text: str) -> None:
        with (tmp_path / "agf_core" / name).open("a") as file:
            file.write(text)

    before = there()
    assert len(before) == 16 and before == code_hash("agf_core.attention")
    append("fields/power.py", "\n# a remark\n")
    append("claims.py", "\nx = 1\n")  # attention does not reach it
    assert there() == before
    append("fields/power.py", "\nx = 1\n")
    assert there() != before


def test_an_unknown_module_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"no module agf_core\.trainig; the library has agf_core, .*agf_core\.claims"):
        code_hash("agf_core.claims", "agf_core.trainig")
