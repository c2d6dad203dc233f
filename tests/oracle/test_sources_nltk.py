"""Our texts against NLTK's own readers (skipped where a corpus is not on NLTK's search path)."""

import numpy as np
import pytest

from agf_core.sources import dependency_distances, guess_tags, load_text
from agf_core.sources.locate import locate


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AGF_STORE", str(tmp_path_factory.getbasetemp() / "oracle-store"))


def need(name):
    if locate(name) is None:
        pytest.skip(f"{name} is not on NLTK's search path")


@pytest.mark.parametrize("file", ["ca01", "cg22", "cr09"])
def test_brown_sample_equals_nltk(file):
    need("brown")
    from nltk.corpus import brown

    text = load_text("brown")
    number = list(text.document_names).index(file)
    start, end = np.append(text.documents, len(text))[[number, number + 1]]
    assert list(zip(text.tokens[start:end], text.tags[start:end])) == list(brown.tagged_words(file, tagset="universal"))
    inside = (text.sentences >= start) & (text.sentences < end)
    assert inside.sum() == len(brown.sents(file))


def test_brown_size_and_beautiful():
    need("brown")
    text = load_text("brown")
    assert (len(text), len(text.sentences), len(text.documents)) == (1_161_192, 57_340, 500)
    assert sum(token.lower() == "beautiful" for token in text.tokens) == 127


def test_treebank_equals_nltk():
    need("treebank")
    from nltk.corpus import treebank

    text = load_text("treebank")
    theirs = [word for word, tag in treebank.tagged_words("wsj_0003.mrg") if tag != "-NONE-"]
    start, end = text.documents[2], text.documents[3]
    assert text.tokens[start:end] == theirs and set(text.tags) <= {
        "NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "NUM", "CONJ", "PRT", "X", ".",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "documents", "holds", "lacks"),
    [
        ("inaugural", 59, "fellow-citizens", "congress-span"),
        ("state_union", 65, "congress", "\x92"),
        ("shakespeare", 8, "hurlyburly's", "<line>"),
        ("genesis", 2, "firmament", "jumala"),
    ],
)
def test_plain_corpora(name, documents, holds, lacks):
    need(name)
    text = load_text(name)
    types = set(text.vocabulary[0])
    assert len(text.documents) == documents and holds in types and lacks not in types
    mean = len(text) / len(text.sentences)
    assert 8 < mean < 40  # sentences are neither lines of one word nor whole speeches


def test_shakespeare_speaks_no_stage_direction():
    need("shakespeare")
    text = load_text("shakespeare")
    start = text.documents[list(text.document_names).index("macbeth.xml")]
    assert text.tokens[start : start + 6] == ["When", "shall", "we", "three", "meet", "again"]


def test_dependency_distances_against_a_plain_reading():
    need("dependency_treebank")
    from nltk.corpus import dependency_treebank

    distances = dependency_distances(renumber=False)
    expected = []
    for graph in dependency_treebank.parsed_sents("wsj_0001.dp"):
        for i, node in graph.nodes.items():
            head = graph.nodes.get(node["head"]) if i and node["head"] else None
            if head and node["tag"] not in (",", ".") and head["tag"] not in (",", "."):
                expected.append(abs(i - node["head"]))
    first = distances.document == 0
    assert sorted(distances.distance[first]) == sorted(expected)
    # Renumbering can only shorten, and the root of every sentence is left out.
    renumbered = dependency_distances()
    assert (renumbered.distance <= distances.distance).all() and renumbered.distance.min() == 1
    assert (renumbered.distance < renumbered.length).all()


def test_guessed_tags_reach_what_they_claim():
    need("brown")
    brown = load_text("brown")
    guess = guess_tags(brown)
    on_training = np.mean(np.array(guess.tags, dtype=object) == np.array(brown.tags, dtype=object))
    assert 0.9 < guess.accuracy < on_training < 0.97
    assert f"{guess.accuracy:.1%}" in guess.note
