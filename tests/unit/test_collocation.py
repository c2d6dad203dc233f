"""The collocation-distance instrument on language whose law is known."""

import numpy as np
import pytest

from agf_core.analysis import collocation as co
from agf_core.analysis import planted
from agf_core.sources import Text

WINDOW = 20


def fitted(law, value, seed=0, resamples=60, **options):
    text = planted.plant(law, value, WINDOW, seed, tokens=600_000, documents=300, **options)
    items = planted.planted_words(text, WINDOW, seed)
    return items, co.laws(items, co.document_weights(len(text.documents), resamples, seed))


@pytest.fixture(scope="module")
def power():
    return fitted("power", 1.0)


@pytest.fixture(scope="module")
def exponential():
    return fitted("exponential", 0.5)


def test_planted_exponent_and_rate_are_recovered(power, exponential):
    assert np.median(power[1].exponent[:, 0]) == pytest.approx(1.0, abs=0.12)
    assert np.median(exponential[1].rate[:, 0]) == pytest.approx(0.5, abs=0.05)


def test_the_planted_law_leads_and_no_word_is_called_wrongly(power, exponential):
    assert power[1].lead[:, 0].mean() > 2 and exponential[1].lead[:, 0].mean() < -8
    assert power[1].calls().count("exponential") == 0 and power[1].calls().count("power") >= 2
    assert exponential[1].calls().count("power") == 0 and exponential[1].calls().count("exponential") >= 8


def test_intervals_cover_the_truth(power, exponential):
    for laws, name, truth in ((power[1], "exponent", 1.0), (exponential[1], "rate", 0.5)):
        low, high = laws.interval(name).T
        assert ((low <= truth) & (truth <= high)).mean() >= 0.8


def test_excess_is_what_was_planted():
    (item, *_), laws = fitted("power", 1.5, chance=0.6)
    text = planted.plant("power", 1.5, WINDOW, 0, tokens=600_000, documents=300, chance=0.6)
    law = text.truth["gap_law"][:WINDOW]
    assert set(text.truth["partners"]["beautiful"]) <= set(item.partners)
    # A few partners' places were taken, a few partners are not found in every fold.
    assert laws.y[0, 0] == pytest.approx(0.6 * law[0], rel=0.15)
    assert laws.y[0].sum() == pytest.approx(0.6 * law.sum(), rel=0.2)


def test_nothing_planted_gives_nothing():
    items, laws = fitted("power", 1.0, chance=0.0)
    number = np.array([item.used for item in items])
    assert abs(np.average(laws.y, axis=0, weights=number)).max() < 0.004
    assert laws.eligible.sum() <= 3 and set(laws.calls()) <= {"undecided", "exponential", "power"}
    assert laws.calls().count("undecided") >= 18


def test_pooling_exponentials_first_manufactures_a_power_law():
    laws = planted.trap(WINDOW, 60, 0)
    assert laws.calls() == ["power"] and laws.lead[0, 0] > 10


def test_hand_counted_text():
    # Two documents; "w" is followed by "x" at 2 everywhere, and "x" never stands elsewhere.
    body = ["w", "a", "x", *["b", "c", "d", "e"] * 10]
    tokens = body * 12
    starts = np.arange(0, len(tokens), len(body) * 3)
    text = Text(tokens, None, starts, starts, "s", "l")
    item = co.collocation(text, "w", 5)
    # The third w of each document has 40 tokens behind it: all of them count.
    assert item.total == 12 and item.used == 12
    hits = item.hits.sum(axis=0)
    assert hits[0] in (0, 12) and hits[4] == 0  # "a" may be a partner too; "b" and "c" are too common
    assert item.chance.sum() == 0


def test_only_occurrences_with_the_whole_window_inside_their_document_count():
    tokens = (["w"] + ["f"] * 9) * 4
    text = Text(tokens, None, np.array([0, 20]), np.array([0, 20]), "s", "l")
    assert co.collocation(text, "w", 9).used == 4
    assert co.collocation(text, "w", 10).used == 2
    assert co.collocation(text, "w", 30).used == 0


def test_a_noun_after_an_adjective_is_not_company():
    # Every "w" is followed by a noun at 1; elsewhere half the words are nouns. The nouns themselves are random.
    rng = np.random.default_rng(0)
    documents, length = 60, 400
    nouns, verbs = [f"n{i}" for i in range(300)], [f"v{i}" for i in range(300)]
    tokens, tags = [], []
    for _ in range(documents * length):
        noun = rng.random() < 0.5 or bool(tokens and tokens[-1] == "w")
        tokens.append(str(rng.choice(nouns if noun else verbs)))
        tags.append("NOUN" if noun else "VERB")
        if rng.random() < 0.03 and tokens[-2:-1] != ["w"]:
            tokens[-1], tags[-1] = "w", "ADJ"
    starts = np.arange(0, len(tokens), length)
    rare = Text(tokens, tags, starts, starts, "s", "l")
    old = co.COMMON
    co.COMMON = 1.0  # 600 types: each is common
    try:
        item = co.collocation(rare, "w", 6)
    finally:
        co.COMMON = old
    excess = item.excess(np.ones((1, documents)))[0]
    rate = item.hits.sum(axis=0) / item.used
    assert rate[0] > 1.3 * rate[1:].mean()  # the class alone lifts the count at 1 …
    assert abs(excess[0]) < 0.25 * rate[0]  # … and the excess is free of it


def test_a_word_without_usable_occurrence_gives_an_undecided_law():
    text = Text(["w", "a", "b"] * 4, None, np.array([0]), np.array([0]), "s", "l")
    laws = co.laws([co.collocation(text, "w", 11)], co.document_weights(1, 5, 0))
    assert laws.calls() == ["undecided"] and not laws.eligible[0]


def test_the_smallest_window_and_small_batches_give_the_same_laws(power, monkeypatch):
    items = [co.Collocation(i.word, i.total, i.occurrences, i.hits[:, :5], i.chance[:, :5], []) for i in power[0][:3]]
    weights = co.document_weights(len(items[0].occurrences), 10, 0)
    whole = co.laws(items, weights)
    monkeypatch.setattr(co, "BATCH", 7)
    parts = co.laws(items, weights)
    assert np.allclose(whole.lead, parts.lead) and np.isfinite(whole.held_out).all()
    assert whole.y.shape == (3, 5)
