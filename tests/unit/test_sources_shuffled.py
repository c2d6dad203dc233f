"""Shuffled texts: nothing is lost, each word keeps its tag, only what is said to move moves, and the text says so."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core import params
from agf_core.sources import DataConfig, Text, generate, load_data, load_text, loaded, locate, shuffled
from agf_core.sources.splits import split_documents

BASE = "generated:exponential:tokens=20000:documents=60"
HOW = list(shuffled.HOW)


def broken(text: Text, how: str, seed: int = 0) -> Text:
    return shuffled.load_shuffled(f"shuffled:{how}:seed={seed}:any", lambda name: text)


@st.composite
def texts(draw) -> Text:
    """Words that are their own places, tagged with them too, in sentences and documents of any lengths."""
    lengths = draw(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=5))
    sentences = np.cumsum([0, *(n for document in lengths for n in document)])
    documents = sentences[np.cumsum([0, *(len(document) for document in lengths[:-1])])]
    words = [str(i) for i in range(sentences[-1])]
    return Text(words, [f"t{w}" for w in words], sentences[:-1], documents, "s", "l", origin={"name": "any"})


@settings(deadline=None, max_examples=60)
@given(texts(), st.sampled_from(HOW), st.integers(0, 99))
def test_only_what_is_said_to_move_moves(text, how, seed):
    found = broken(text, how, seed)
    assert sorted(found.tokens, key=int) == text.tokens and found.tags == [f"t{w}" for w in found.tokens]
    assert found.tokens == broken(text, how, seed).tokens
    places = np.array(found.tokens, dtype=int)
    sentence_of = np.repeat(np.arange(len(text.sentences)), np.diff(np.append(text.sentences, len(text))))
    if how == "order":
        came = np.split(places, found.sentences[1:])
        assert all((np.diff(one) == 1).all() for one in came)
        assert sorted(int(one[0]) for one in came) == text.sentences.tolist()
        first = [np.searchsorted(t.sentences, t.documents).tolist() for t in (text, found)]
        assert first[0] == first[1]
        return
    assert (found.sentences == text.sentences).all() and (found.documents == text.documents).all()
    if how == "sentences":
        assert (sentence_of[places] == sentence_of).all()
    else:
        start = text.documents[text.document_of]
        assert (text.document_of[places] == text.document_of).all()
        assert ((places - start) // 16 == (np.arange(len(text)) - start) // 16).all()


def test_every_order_is_equally_likely():
    text = Text(list("abc"), None, np.array([0]), np.array([0]), "s", "l", origin={"name": "any"})
    for how in ("words", "sentences"):
        seen = Counter("".join(broken(text, how, seed).tokens) for seed in range(1200))
        assert len(seen) == 6 and min(seen.values()) > 150
    apart = Text(list("abc"), None, np.arange(3), np.array([0]), "s", "l", origin={"name": "any"})
    seen = Counter("".join(broken(apart, "order", seed).tokens) for seed in range(1200))
    assert len(seen) == 6 and min(seen.values()) > 150


@pytest.mark.parametrize("how", HOW)
def test_by_specification_with_its_records(how):
    text, found = load_text(BASE), load_text(f"shuffled:{how}:{BASE}")
    assert Counter(zip(found.tokens, found.tags)) == Counter(zip(text.tokens, text.tags))
    assert found.tokens != text.tokens and found.tokens != load_text(f"shuffled:{how}:seed=1:{BASE}").tokens
    assert found.source == f"{text.source}; {shuffled.HOW[how]} (seed 0)" and found.note == "" and found.truth is None
    assert found.licence == text.licence and found.name == "shuffled generated"
    assert found.origin == {**text.origin, "shuffled": f"{how}:seed=0"} and found.origin in loaded()
    assert locate.stale(found.origin) == "" and len(found.document_names) == len(found.documents)


@pytest.mark.parametrize("kind", ["bytes", "words", "tags"])
@pytest.mark.parametrize("how", HOW)
def test_as_training_data(kind, how):
    data, plain = (load_data(DataConfig(kind, f"{start}{BASE}", 200)) for start in (f"shuffled:{how}:", ""))
    assert (data.vocab_size, data.outputs) == (plain.vocab_size, plain.outputs) and "shuffled" in data.source
    if how != "order":  # the same documents in each split, so the same multiset of symbols
        assert data.size("train") == plain.size("train") and data.chance == plain.chance
        train = [np.sort(d.heldout("train", 1, 10**9)[0], axis=None) for d in (data, plain)]
        assert train[0][:-1].sum() == pytest.approx(train[1][:-1].sum(), rel=1e-3)
    spans, _ = split_documents(load_text(f"shuffled:{how}:{BASE}"))
    assert all(spans.values())


def test_a_file_and_a_text_shuffled_twice(tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("A short sentence stands here. Another one follows it! " * 30)
    text = load_text(f"shuffled:sentences:{file}")
    assert text.source.startswith("the file one.txt; words shuffled within each sentence")
    assert set(text.tokens[:6]) == {"A", "short", "sentence", "stands", "here", "."}
    assert locate.stale(text.origin) == ""
    file.write_text("Other words.")
    assert "has changed" in locate.stale(text.origin)
    twice = load_text("shuffled:order:shuffled:words:seed=3:generated:tokens=2000")
    assert "every 16 (seed 3); sentences shuffled (seed 0)" in twice.source and len(twice) == 2000


def test_a_corpus_that_cannot_be_had_stands_for_itself_as_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(locate, "search_path", lambda: [tmp_path])
    monkeypatch.setenv("AGF_OFFLINE", "1")
    text = load_text("shuffled:words:brown")
    assert text.note.startswith("brown could not be had here") and text.origin["asked"] == "brown"
    assert locate.stale(text.origin) == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shuffled", "unknown way to shuffle ''; expected one of words, sentences, order"),
        ("shuffled:letters:brown", "unknown way to shuffle 'letters'"),
        ("shuffled:words", "names no text; expected shuffled:words:brown, or shuffled:words:seed=1:brown"),
        ("shuffled:words:seed=1", "names no text"),
        ("shuffled:words:seed=x:brown", "seed takes a whole number of at least 0, got 'x'"),
        ("shuffled:words:seed=-1:brown", "got '-1'"),
        (
            "shuffled:words:brwn",
            "unknown text 'brwn' .near: brown.; expected one of .*shuffled:<words.sentences.order>",
        ),
        ("shuffled:order:generated:power:tokens=1", "tokens must lie in"),
    ],
)
def test_wrong_specifications_say_what_is_wrong(spec, words):
    with pytest.raises(ValueError, match=words):
        load_text(spec)


def test_the_parameter_takes_them():
    for corpus in (
        "shuffled:words:brown",
        "shuffled:order:seed=2:generated:power",
        "shuffled:words:shuffled:order:genesis",
    ):
        assert params.check({"corpus": corpus}) == {"corpus": corpus}
    for corpus in ("shuffled:words:brwn", "shuffled:letters:brown", "shuffled"):
        with pytest.raises(ValueError, match="one of words, sentences, order, or the path"):
            params.check({"corpus": corpus})


def test_chance_structure_at_small_scale_is_lost_and_at_large_scale_kept():
    """The planted partners of the generated language: lost within 16 words, kept inside sentences that move."""
    text = generate("power", exponent=2.0, tokens=40_000, max_gap=8, seed=1)

    def followed(one: Text) -> float:
        partner = {w: set(p) for w, p in text.truth["partners"].items()}
        return float(np.mean([b in partner[a] for a, b in zip(one.tokens, one.tokens[1:]) if a in partner]))

    assert followed(text) > 0.2 > 0.08 > followed(broken(text, "words"))
    assert followed(broken(text, "order")) == pytest.approx(followed(text), abs=0.03)  # most stand inside a sentence
