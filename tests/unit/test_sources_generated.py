"""The generated language plants exactly the gap law it states."""

import numpy as np
import pytest
from scipy.stats import chisquare

from agf_core.sources import gap_law, generate


@pytest.fixture(scope="module", params=[("power", {"exponent": 0.7}), ("exponential", {"rate": 0.15})])
def text(request):
    law, options = request.param
    return generate(law, tokens=400_000, max_gap=40, seed=5, **options)


def test_realised_gaps_follow_the_law_for_occurrences_with_the_whole_window_inside(text):
    codes = np.array(text.tokens, dtype=object)
    ends = np.append(text.documents, len(text))[np.searchsorted(text.documents, np.arange(len(text)), "right")]
    partners = np.isin(codes, [p for words in text.truth["partners"].values() for p in words])
    counts, chance = np.zeros(40), partners.mean()
    number = 0
    for word, words in text.truth["partners"].items():
        mine = np.isin(codes, words)
        at = np.flatnonzero(codes == word)
        at = at[at + 40 < ends[at]]
        number += len(at)
        counts += mine[at[:, None] + np.arange(1, 41)].sum(axis=0)
    background = counts[-1] / number  # partners by chance
    assert chance < 0.2 and background < 0.1
    planted = sum(text.truth["gaps"].values())
    assert chisquare(planted, text.truth["gap_law"] * planted.sum()).pvalue > 1e-3
    assert planted.sum() == pytest.approx(0.5 * number, rel=0.15)


def test_law_is_normalised_and_shaped():
    power, exponential = gap_law("power", 10, exponent=2.0), gap_law("exponential", 10, rate=0.5)
    assert power.sum() == pytest.approx(1) and exponential.sum() == pytest.approx(1)
    assert power[0] / power[1] == pytest.approx(4) and exponential[3] / exponential[4] == pytest.approx(np.exp(0.5))


def test_tags_types_and_boundaries(text):
    tag_of = {}
    for word, tag in zip(text.tokens, text.tags):
        tag_of.setdefault(word, set()).add(tag)
    shared = {word: tags for word, tags in tag_of.items() if len(tags) > 1}
    assert shared == {"to": {"ADP", "PRT"}}
    assert tag_of["beautiful"] == {"ADJ"}
    assert all(tag_of[p] == {"NOUN"} for words in text.truth["partners"].values() for p in words)
    assert len(text.documents) == 200 and np.isin(text.documents, text.sentences).all()
    assert np.ptp(text.document_lengths[:-1]) < 40


def test_partners_also_occur_by_chance_but_rarely(text):
    counts = dict(zip(*np.unique(np.array(text.tokens), return_counts=True)))
    planted = {w: text.truth["gaps"][w].sum() for w in text.truth["partners"]}
    for word, words in text.truth["partners"].items():
        own = np.array([counts[w] for w in words])
        assert (own < 1e-3 * len(text)).all()
        assert own.sum() > 1.05 * planted[word]


def test_even_triggers_are_equally_frequent():
    counts = [sum(t == w for t in generate(tokens=100_000, even=True).tokens) for w in ("beautiful", "clear")]
    assert abs(counts[0] - counts[1]) < 5 * np.sqrt(counts[0])


def test_vocabulary_is_zipfian_and_seeded():
    first = generate(tokens=50_000, seed=1)
    counts = np.sort(np.unique(np.array(first.tokens), return_counts=True)[1])[::-1]
    ranks = np.arange(20, 300)
    slope = np.polyfit(np.log(ranks), np.log(counts[20:300]), 1)[0]
    assert -1.4 < slope < -0.6
    assert generate(tokens=50_000, seed=1).tokens == first.tokens != generate(tokens=50_000, seed=2).tokens


@pytest.mark.parametrize(
    "wrong", [{"law": "cubic"}, {"exponent": -1}, {"triggers": 99}, {"max_gap": 0}, {"documents": 0}]
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=r"must lie in|expected one of"):
        generate(**{"tokens": 2000, **wrong})
