"""Every notebook in smoke, outside the checkout, from the built wheel alone: what a reader in Colab has."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "book/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, unpacked where nothing else is."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_carries_library_and_data_and_nothing_else(wheel):
    assert {p.name for p in wheel.iterdir() if not p.name.endswith(".dist-info")} == {"agf_core"}
    tables = {p.name for p in (ROOT / "data/reference").glob("*.csv")}
    assert {p.name for p in (wheel / "agf_core/data/reference").glob("*.csv")} == tables


def run(path: Path, wheel: Path, folder: Path, *parameters: str) -> tuple[int, str, list[dict]]:
    """Exit status, messages and `agf_core`'s records of a notebook run by papermill in a folder of its own."""
    out = folder / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(path), str(out), "-p", "profile", "smoke", "--no-progress-bar"]
    environment = {**os.environ, "PYTHONPATH": str(wheel), "AGF_STORE": str(wheel.parent / "store")}
    done = subprocess.run(
        [*command, *parameters], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    cells = json.loads(out.read_text())["cells"] if out.exists() else []
    records = [o.get("metadata", {}).get("agf") for c in cells for o in c.get("outputs", [])]
    return done.returncode, done.stdout + done.stderr, [r for r in records if r]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_needs_the_wheel_and_nothing_else(path, wheel, tmp_path):
    status, messages, records = run(path, wheel, tmp_path)
    assert status == 0, messages[-3000:]
    figures = [r for r in records if r["kind"] == "figure"]
    assert figures and all(r["provenance"]["parameters"]["profile"] == "smoke" for r in records if "provenance" in r)
    assert all(r["provenance"]["commit"].startswith("v") for r in figures), "the checkout was imported, not the wheel"
    assert len({r["name"] for r in figures}) == len(figures)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_parameter_that_a_notebook_does_not_have_stops_it(path, wheel, tmp_path):
    status, messages, records = run(path, wheel, tmp_path, "-p", "wrod", "gravity")
    assert status != 0 and "unknown parameter 'wrod'" in messages and not records
