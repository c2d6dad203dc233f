"""Where a result comes from: commit or release, parameters, and every file that was read."""

import subprocess
from pathlib import Path

import pytest

import agf_core
from agf_core import provenance
from agf_core.sources import load_text, loaded, locate, read_table


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout that the library seems to lie in."""
    (tmp_path / "agf_core").mkdir()
    (tmp_path / "agf_core/__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm one"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    monkeypatch.setattr(agf_core, "__file__", str(tmp_path / "agf_core/__init__.py"))
    provenance.commit.cache_clear()
    yield tmp_path
    provenance.commit.cache_clear()


def test_a_checkout_is_named_by_its_commit_and_marked_when_changed(checkout):
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert head.stdout.startswith(provenance.commit()) and len(provenance.commit()) == 10
    provenance.commit.cache_clear()
    (checkout / "agf_core/new.py").write_text("x = 1")
    assert provenance.commit().endswith("+")


def test_an_installed_package_is_named_by_its_release(tmp_path, monkeypatch):
    monkeypatch.setattr(agf_core, "__file__", str(tmp_path / "site/agf_core/__init__.py"))
    provenance.commit.cache_clear()
    assert provenance.commit() == f"v{agf_core.__version__}"
    provenance.commit.cache_clear()


def test_every_file_that_was_read_is_recorded_with_its_fingerprint(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("One sentence. Another one.")
    load_text(str(path))
    table = sorted((Path(__file__).resolve().parents[2] / "data/reference").glob("*.csv"))[0]
    read_table(table.stem)
    recorded = {origin["path"]: origin for origin in provenance.provenance()["texts"]}
    for file in (path, table):
        assert recorded[str(file)]["sha256"] == locate.sha256(file)
        assert locate.stale(recorded[str(file)]) == ""
    path.write_text("Other words.")
    assert "changed" in locate.stale(recorded[str(path)])
    assert recorded[str(path)] in loaded()
