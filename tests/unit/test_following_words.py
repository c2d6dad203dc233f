"""Ranks, classes, adjectives, dependencies and the page's measurements, on texts with known answers."""

import re

import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest

from agf_core.analysis import followers, planted
from agf_core.analysis import following_words as fw
from agf_core.analysis import following_words_figures as draw
from agf_core.analysis import following_words_prose as prose
from agf_core.sources import Text, generate

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def text():
    return generate(
        tokens=100_000, documents=50, exponent=1.0, max_gap=40, triggers=6, trigger_share=0.04, chance=0.9, seed=2
    )


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


def test_blocks_stand_for_documents_where_there_are_few():
    text = generate(tokens=9000, documents=2, seed=0)
    blocks = fw.in_blocks(text)
    assert set(text.documents) <= set(blocks.documents) <= set(text.sentences)
    assert len(blocks.documents) in (9, 10) and np.ptp(blocks.document_lengths[:-1]) < 700
    assert blocks.tokens == text.tokens


def test_dependencies_find_two_regimes():
    found = fw.dependencies(6, 0)
    if found is None:
        pytest.skip("NLTK's dependency treebank is not on its search path")
    assert min(found.aic, key=found.aic.get) == "two_geometric"
    assert 4 <= found.break_.value <= 5 and found.break_.low <= found.break_.value <= found.break_.high
    assert 2 < found.mean.low < found.mean.value < found.mean.high < 3
    assert found.table["count"].sum() == found.number
    assert found.table["two_geometric"].sum() == pytest.approx(found.number, rel=0.01)


SMALL = fw.Size(resamples=8, trials=6, breaks=4, adjectives=10, texts=1, tokens=40_000)


@pytest.fixture
def small(monkeypatch):
    """Sizes at which a page takes a second."""
    monkeypatch.setitem(fw.SIZES, "smoke", SMALL)
    monkeypatch.setattr(planted, "MANY", 200)
    monkeypatch.setattr(planted, "TRAP", (0.3, 1.0))
    monkeypatch.setattr(planted, "PLANTED", (("power", 1.0), ("exponential", 0.5)))


def numbers_in(sentences):
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", sentences)]


def test_operating_characteristics_have_the_words_number(small):
    table = planted.operate(40, 10, 0.5, 10, 1, 0)
    assert table["occurrences"].unique().tolist() == [40, planted.MANY]
    assert np.allclose(table[["right", "wrong", "undecided"]].sum(axis=1), 1)
    few, many = (table[table["occurrences"] == n]["half_width"].median() for n in (40, planted.MANY))
    assert many < few


def test_coverage_is_below_its_promise_only_if_so_few_trials_can_show_it():
    def said(trials, covered, fitted=1.0):
        table = pd.DataFrame({"trials": trials, "fitted": fitted, "covered": covered})
        return prose._coverage(table)

    assert said([20, 20], [0.9, 0.85]) == "35 of 40 trials, compatible with its promise"
    assert said([200, 200], [0.9, 0.85]) == "350 of 400 trials, less than it promises"
    assert said([400, 400], [1.0, 0.995]) == "798 of 800 trials, more than it promises"
    assert said([20], [0.9], 0.5) == "9 of 10 trials, compatible with its promise"
    assert said([40], [0.91], 0.9).startswith("about 33 of 36")


def test_named_adjectives_stand_where_no_dot_is(text, small):
    pooled = fw.measure(text, "beautiful", 10, "smoke", 0).pooled
    fig, table = draw.exponents(pooled)
    rows = sorted({0, len(table) // 2, len(table) - 1})
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == table["word"][rows].tolist()
    assert not fig.axes[0].texts and "The search ends at 10" in draw.exponents_caption()


def test_a_page_on_a_tagged_text_is_whole(text, small):
    page = fw.measure(text, "Beautiful", 10, "smoke", 0)
    assert page.word == "beautiful" and page.count == text.tokens.count("beautiful")
    assert page.classes is not None and page.pooled is not None and page.used <= page.count and page.size == SMALL
    assert page.calibration.table["law"].tolist() == ["power", "exponential", "none"]
    short = prose.in_short(page).format(**prose.numbers(page))
    assert f"occurs **{page.count:,}** times" in short and f"{page.pooled.exponent:.2f}" in short
    assert page.count in numbers_in(prose.distance(page)) or page.used in numbers_in(prose.distance(page))
    assert prose.pooled(page.pooled) and prose.trap(page) and prose.meaning(page).startswith("- ")
    for name in ("by_rank", "by_distance", "calibration", "operating"):
        whole(*getattr(draw, name)(page))
    whole(*draw.by_class(page.classes))
    whole(*draw.exponents(page.pooled))
    whole(*draw.pooled_first(page, page.pooled))
    if page.dependencies is not None:
        whole(*draw.dependency_distances(page.dependencies))
        assert f"{page.dependencies.number:,}" in prose.dependency(page.dependencies)


def whole(fig, table):
    """A figure with labelled axes, and a legend somewhere, and a table behind it."""
    assert len(table) and fig.axes and all(ax.get_xlabel() or ax is not fig.axes[-1] for ax in fig.axes)
    assert fig.legends or any(ax.get_legend() for ax in fig.axes)
    fig.canvas.draw()
    matplotlib.pyplot.close(fig)


def test_a_page_without_tags_says_what_is_left_out(text, small, monkeypatch):
    monkeypatch.setattr(fw, "guess_tags", lambda text: None)
    monkeypatch.setattr(fw, "dependency_distances", lambda: None)
    one = text.documents[:1]
    plain = Text(text.tokens, None, text.sentences, one, "s", "l", note="brown could not be had")
    page = fw.measure(plain, "beautiful", 10, "smoke", 0)
    assert page.classes is None and page.pooled is None and page.dependencies is None
    assert set(page.left_out) == {"classes", "pooled", "dependencies", "documents"}
    assert len(page.text.documents) > 50 and page.distance.low[0, 0] < page.distance.high[0, 0]
    short = prose.in_short(page).format(**prose.numbers(page))
    assert short.startswith("*brown could not be had") and "adjectives" not in short
    assert "Grammar" not in prose.meaning(page)


def test_a_word_that_is_nearly_absent_still_gives_a_coherent_page(text, small, monkeypatch):
    monkeypatch.setattr(fw, "dependency_distances", lambda: None)
    counts = text.counts
    rare = text.vocabulary[0][int(np.flatnonzero(counts == fw.FEWEST)[0])]
    page = fw.measure(text, rare, 10, "smoke", 0)
    assert page.count == fw.FEWEST and page.distance.calls() == ["undecided"]
    assert "most give nothing to fit" in prose.what_it_can_show(page)
    assert "undecided" in prose.distance(page) and prose.rank(page)
    whole(*draw.by_distance(page))


def test_unknown_profile_lists_the_choices(text):
    with pytest.raises(ValueError, match="smoke, cpu, full"):
        fw.measure(text, "beautiful", 10, "fast", 0)
