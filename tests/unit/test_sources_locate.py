"""Where corpora are looked for, fingerprints, staleness, and that asking costs no numpy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agf_core.sources import locate


def test_driver_side_imports_standard_library_only():
    code = (
        "import sys, agf_core.sources, agf_core.sources.locate as l; l.locate('brown'); "
        "heavy = {'numpy', 'pandas', 'nltk', 'torch', 'scipy'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_search_path_covers_nltk_own():
    import nltk.data

    ours = [str(p) for p in locate.search_path()]
    assert [d for d in nltk.data.path if d not in ours] == []


def test_nltk_data_comes_first_and_folder_before_zip(tmp_path, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", os.pathsep.join([str(tmp_path / "none"), str(tmp_path)]))
    (tmp_path / "corpora").mkdir()
    packed = tmp_path / "corpora/genesis.zip"
    packed.write_bytes(b"zip")
    assert locate.locate("genesis") == packed
    (tmp_path / "corpora/genesis").mkdir()
    assert locate.locate("genesis") == tmp_path / "corpora/genesis"


def test_a_tagged_corpus_needs_its_tag_mapping(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "search_path", lambda: [tmp_path])
    (tmp_path / "corpora/brown").mkdir(parents=True)
    assert locate.locate("brown") is None
    (tmp_path / "taggers/universal_tagset").mkdir(parents=True)
    assert locate.locate("brown") == tmp_path / "corpora/brown"


def test_stale_notices_content_not_touch(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one two")
    origin = {"name": "a.txt", "path": str(file), **locate.fingerprint(file), "note": ""}
    assert locate.stale(origin) == ""
    os.utime(file, ns=(1, 1))
    assert locate.stale(origin) == ""
    file.write_text("one too")
    assert "has changed" in locate.stale(origin)
    file.unlink()
    assert "no longer" in locate.stale(origin)


def test_stale_notices_that_a_missing_corpus_can_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "search_path", lambda: [tmp_path])
    origin = {"name": "generated", "path": None, "asked": "genesis", "note": "…"}
    assert locate.stale(origin) == ""
    (tmp_path / "corpora/genesis").mkdir(parents=True)
    assert "can be had now" in locate.stale(origin)


def test_folder_fingerprint_depends_on_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    before = locate.fingerprint(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert locate.fingerprint(tmp_path)["sha256"] != before["sha256"]
    assert locate.stamp(tmp_path)["size"] == 1


@pytest.mark.parametrize("named", [True, False])
def test_store(named, tmp_path, monkeypatch):
    monkeypatch.delenv("AGF_STORE", raising=False)
    if named:
        monkeypatch.setenv("AGF_STORE", str(tmp_path))
        assert locate.store() == tmp_path
    else:
        monkeypatch.setattr(locate, "__file__", str(tmp_path / "site-packages/agf_core/sources/locate.py"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(sys, "platform", "linux")
        assert locate.store() == Path(tmp_path / "cache/agf_core")
