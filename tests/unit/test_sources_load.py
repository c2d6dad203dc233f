"""load_text: the order cache → search path → download → generated, its errors, its records."""

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from agf_core.sources import Text, cache, download, generate, guess_tags, load, load_text, loaded, locate, plain


@pytest.fixture
def nltk_home(tmp_path, monkeypatch):
    """A search path with a tiny inaugural corpus and a store of its own; no download."""
    speeches = tmp_path / "nltk/corpora/inaugural"
    speeches.mkdir(parents=True)
    (speeches / "1789-A.txt").write_text("Fellow citizens of the Senate. I come!\n\nThank you", "latin1")
    (speeches / "1793-B.txt").write_text("Caf\xe9s are open.", "latin1")
    monkeypatch.setattr(locate, "search_path", lambda: [tmp_path / "nltk"])
    monkeypatch.setenv("AGF_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AGF_OFFLINE", "1")
    return tmp_path


def test_corpus_and_cache_agree(nltk_home):
    first, second = load_text("inaugural"), load_text("inaugural")
    assert first.tokens[-4:] == ["Cafés", "are", "open", "."]
    assert first.tokens == second.tokens and second.tags is None
    assert first.sentences.tolist() == second.sentences.tolist() == [0, 6, 9, 11]
    assert first.documents.tolist() == second.documents.tolist() == [0, 11]
    assert list(second.document_names) == ["1789-A.txt", "1793-B.txt"]
    assert first.origin == second.origin and first.origin in loaded()
    assert second.bytes().decode().startswith("Fellow citizens of the Senate . I come !")


def test_cache_is_used_and_notices_a_changed_source(nltk_home, monkeypatch):
    load_text("inaugural")
    parsed = []
    monkeypatch.setattr(load, "read_corpus", lambda *a: parsed.append(a) or plain_text("new words here ."))
    file = nltk_home / "nltk/corpora/inaugural/1793-B.txt"
    os.utime(file, ns=(1, 10**18))  # touched only
    assert "Cafés" in load_text("inaugural").tokens and not parsed
    file.write_text("Other words.")
    assert load_text("inaugural").tokens == ["new", "words", "here", "."] and len(parsed) == 1


def plain_text(words):
    return Text(words.split(), None, np.array([0]), np.array([0]), "s", "l", document_names=["d"])


@pytest.mark.parametrize("harm", ["truncate", "garbage", "flip"])
def test_damaged_cache_is_set_aside_and_rebuilt(nltk_home, harm):
    before = load_text("inaugural")
    entry = nltk_home / "store/texts/inaugural.npz"
    raw = bytearray(entry.read_bytes())
    if harm == "flip":
        raw[raw.index(b"Fellow")] ^= 0xFF
    entry.write_bytes({"truncate": raw[: len(raw) // 2], "garbage": b"no zip", "flip": raw}[harm])
    with pytest.warns(UserWarning, match="damaged cache entry set aside"):
        after = load_text("inaugural")
    assert after.tokens == before.tokens
    assert entry.with_suffix(".npz.damaged").exists() and cache.read_entry(entry) is not None


def test_a_store_that_cannot_be_written_only_warns(nltk_home, monkeypatch):
    (nltk_home / "store").write_text("a file, not a folder")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(load_text("inaugural")) == 15


def test_missing_corpus_falls_back_and_says_so(nltk_home):
    text = load_text("brown")
    assert text.name == "generated" and text.tags is not None
    assert text.note.startswith("brown could not be had here (not on NLTK's search path, not downloaded because")
    assert text.note in text._repr_html_() and text.origin["asked"] == "brown" and text.origin["note"] == text.note
    assert guess_tags(load_text("inaugural")) is None


def test_download_that_fails_or_hangs_gives_a_reason_once(nltk_home, monkeypatch):
    monkeypatch.setenv("AGF_OFFLINE", "0")
    monkeypatch.setattr(download, "_failed", {})
    calls = []

    def hang(*args, **options):
        calls.append(args)
        raise subprocess.TimeoutExpired("nltk", options["timeout"])

    monkeypatch.setattr(download.subprocess, "run", hang)
    assert "download failed: not finished in 10 s" in load_text("brown").note
    assert "download failed" in load_text("genesis").note and len(calls) == 1


def test_download_puts_a_whole_zip_in_place(nltk_home, monkeypatch, tmp_path):
    def fetch(command, **options):
        target = Path(command[4], "corpora")
        target.mkdir()
        with zipfile.ZipFile(target / "genesis.zip", "w") as z:
            z.writestr("genesis/english-kjv.txt", "In the beginning.")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("AGF_OFFLINE", "")
    monkeypatch.setattr(download, "_failed", {})
    monkeypatch.setattr(download.subprocess, "run", fetch)
    monkeypatch.setattr(download.Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(locate, "search_path", lambda: [tmp_path / "home/nltk_data"])
    assert load_text("genesis").tokens == ["In", "the", "beginning", "."]
    assert [p.name for p in (tmp_path / "home/nltk_data/corpora").iterdir()] == ["genesis.zip"]


def test_damaged_corpus_names_the_file(nltk_home):
    (nltk_home / "nltk/corpora/genesis.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"genesis\.zip is damaged.*delete it"):
        load_text("genesis")


def test_file_documents_sentences_and_origin(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text('\ufeffMr. Smith\'s cat (a tom) sat. "Why?" he said\n\nnext one\fSecond document.\n', "utf-8")
    text = load_text(file)
    ends = [text.tokens[i - 1] for i in text.sentences[1:]]
    assert text.tokens[:5] == ["Mr.", "Smith's", "cat", "(", "a"] and ends == [".", '"', "said", "one"]
    assert len(text.documents) == 2 and text.tokens[text.documents[1]] == "Second"
    assert text.tags is None and locate.stale(text.origin) == ""
    assert load_text(str(file)).tokens == text.tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no words"), (b" \n\f\n", "holds no words"), (b"a\0b", "binary"), ("é".encode("latin1"), "not UTF-8")],
)
def test_bad_files(tmp_path, content, message):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_text(file)


def test_missing_file_folder_and_unknown_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt: no such file"):
        load_text(str(tmp_path / "gone.txt"))
    with pytest.raises(ValueError, match="is a folder"):
        load_text(tmp_path)
    with pytest.raises(ValueError, match=r"unknown text 'browm' \(near: brown.*\).*inaugural.*generated"):
        load_text("browm")


def test_text_refuses_inconsistent_parts():
    def make(tags=None, sentences=(0, 2), documents=(0,)):
        return Text(["a", "b", "c"], tags, np.array(sentences), np.array(documents), "s", "l")

    assert make().document_lengths.tolist() == [3]
    for wrong in ({"tags": ["X"]}, {"sentences": (1, 2)}, {"sentences": (0, 3)}, {"documents": (0, 1)}):
        with pytest.raises(ValueError):
            make(**wrong)
    with pytest.raises(ValueError, match="at least one token"):
        Text([], None, np.array([0]), np.array([0]), "s", "l")


def test_vocabulary_is_by_count_and_lower_case():
    text = Text(["B", "a", "b", "A", "b"], None, np.array([0]), np.array([0]), "s", "l")
    types, codes = text.vocabulary
    assert types == ["b", "a"] and codes.tolist() == [0, 1, 0, 1, 0]


def test_plain_rules():
    assert plain.tokenize("U.S. forces' 1,200.5 well-known... don't--no") == [
        "U.S.", "forces", "'", "1,200.5", "well-known", "...", "don't", "--", "no",
    ]  # fmt: skip
    assert plain.split_sentences('He said "go." Then...\n \nEnd') == [
        ["He", "said", '"', "go", ".", '"'], ["Then", "..."], ["End"],
    ]  # fmt: skip


def test_generated_through_load_text():
    text = load_text("generated:exponential:rate=0.4:tokens=20000:seed=3")
    assert text.truth["law"] == "exponential" and text.truth["rate"] == 0.4 and len(text) == 20000
    assert text.tokens == generate("exponential", rate=0.4, tokens=20000, seed=3).tokens
    for spec, message in [
        ("generated:cubic", "neither a law"), ("generated:rate=fast", "rate takes float"),
        ("generated:chance=2", "chance must lie in"), ("generated:tokens=5", "tokens must lie in"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_text(spec)
