"""Ranks, classes, adjectives, dependencies and the page's measurements, on texts with known answers."""

import numpy as np
import pytest

from agf_core.analysis import followers, planted
from agf_core.analysis import following_words as fw
from agf_core.sources import Text, generate


@pytest.fixture(scope="module")
def text():
    return generate(tokens=120_000, documents=60, exponent=1.0, max_gap=40, seed=2)


def test_an_absent_or_rare_word_says_how_often_and_names_near_ones(text):
    with pytest.raises(ValueError, match=r"'beautifull' does not occur in generated.*Near words: beautiful"):
        fw.require(text, "beautifull")
    once = Text(["gravity", *["grave"] * 9], None, np.array([0]), np.array([0]), "s", "l", name="tiny")
    with pytest.raises(ValueError, match=r"'gravity' occurs once in tiny; at least 5.*Near words: grave.*Frequent"):
        fw.require(once, "gravity")
    assert fw.require(text, "beautiful") == text.tokens.count("beautiful")


def test_random_followers_do_not_differ_from_chance_and_a_fixed_phrase_does():
    rng = np.random.default_rng(0)
    words = rng.zipf(1.6, 40_000).clip(max=3000)
    tokens = [f"t{w}" for w in words]
    for i in range(100, 40_000, 200):
        tokens[i] = "w"
    starts = np.arange(0, 40_000, 1000)
    plain = Text(tokens, None, starts, starts, "s", "l")
    assert not followers.ranks(plain, "w", 1, 60, 0).differs
    for i in range(100, 40_000, 400):
        tokens[i + 1] = "phrase"
    fixed = followers.ranks(Text(tokens, None, starts, starts, "s", "l"), "w", 1, 60, 0)
    assert fixed.differs and fixed.top[0] == ("phrase", 100)
    assert fixed.exponent.value > fixed.chance_exponent.high and fixed.kinds < fixed.chance_kinds.low
    assert fixed.table["count"].is_monotonic_decreasing and fixed.table["count"].sum() == 200


def test_rank_exponent_is_that_of_the_ranks():
    rank = np.arange(1, 201)
    assert followers.rank_exponent(np.round(1e5 * rank**-0.8)) == pytest.approx(0.8, abs=0.01)


def test_classes_against_their_share_in_the_same_documents(text):
    table = followers.classes(text, "beautiful", 60, 0)
    first = table[table["r"] == 1].set_index("tag")
    # After an adjective the templates have a noun, a conjunction or a stop, never a determiner.
    assert first.loc["NOUN", "low"] > 1 and first.loc["DET", "high"] < -2
    assert first["count"].sum() == pytest.approx(first["chance"].sum())
    assert (table["low"] <= table["log2"] + 1e-9).all() and (table["log2"] <= table["high"] + 1e-9).all()


def test_adjectives_are_those_mostly_tagged_so(text):
    words = fw.adjectives(text, 5)
    assert len(words) == 5 and "beautiful" in words
    tags = {w: {t for x, t in zip(text.tokens, text.tags) if x == w} for w in words}
    assert all(found == {"ADJ"} for found in tags.values())


def test_dependencies_find_two_regimes():
    found = fw.dependencies(6, 0)
    if found is None:
        pytest.skip("NLTK's dependency treebank is not on its search path")
    assert min(found.aic, key=found.aic.get) == "two_geometric"
    assert 4 <= found.break_.value <= 5 and found.break_.low <= found.break_.value <= found.break_.high
    assert 2 < found.mean.low < found.mean.value < found.mean.high < 3
    assert found.table["count"].sum() == found.number
    assert found.table["two_geometric"].sum() == pytest.approx(found.number, rel=0.01)


def test_operating_characteristics_have_the_words_number():
    table = planted.operate(80, 10, 0.5, 10, 1, 0)
    assert table["occurrences"].unique().tolist() == [80, planted.MANY]
    assert np.allclose(table[["right", "wrong", "undecided"]].sum(axis=1), 1)
    few, many = (table[table["occurrences"] == n]["half_width"].median() for n in (80, planted.MANY))
    assert many < few


def test_a_page_on_a_small_tagged_text_is_whole(text, monkeypatch):
    small = fw.Size(8, 6, 4, 6, 1)
    monkeypatch.setitem(fw.SIZES, "smoke", small)
    monkeypatch.setattr(planted, "MANY", 300)
    monkeypatch.setattr(planted, "PLANTED", (("power", 1.0), ("exponential", 0.5)))
    page = fw.measure(text, "Beautiful", 10, "smoke", 0)
    assert page.word == "beautiful" and page.count == text.tokens.count("beautiful")
    assert page.classes is not None and page.used <= page.count and page.size == small
    assert page.calibration.table["law"].tolist() == ["power", "exponential", "none"]


def test_a_page_without_tags_says_what_is_left_out(text, monkeypatch):
    monkeypatch.setitem(fw.SIZES, "smoke", fw.Size(8, 6, 4, 6, 1))
    monkeypatch.setattr(planted, "MANY", 300)
    monkeypatch.setattr(planted, "PLANTED", (("power", 1.0), ("exponential", 0.5)))
    monkeypatch.setattr(fw, "guess_tags", lambda text: None)
    monkeypatch.setattr(fw, "dependency_distances", lambda: None)
    plain = Text(text.tokens, None, text.sentences, text.documents, "s", "l")
    page = fw.measure(plain, "beautiful", 10, "smoke", 0)
    assert page.classes is None and page.pooled is None and page.dependencies is None
    assert set(page.left_out) == {"classes", "pooled", "dependencies"}


def test_unknown_profile_lists_the_choices(text):
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        fw.measure(text, "beautiful", 10, "fast", 0)
