"""Known sources: the probability of a path is what adding up all hidden paths gives, and what is drawn follows it."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from agf_core.sources import hidden
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.sources.hidden import Hidden, brackets, hmm, source

HMM, BRACKETS = hmm(3, states=3, concentration=0.5, seed=1), brackets(4, depth=2, open=0.4, seed=2)


def by_enumeration(one: Hidden, path) -> float:
    """log p of a path, every hidden path written out."""
    states = range(len(one.step))
    with np.errstate(divide="ignore"):
        log = np.log(one.step), np.log(one.start)
    each = [
        log[1][way[0]] + sum(log[0][i, x, j] for i, x, j in zip(way, path, way[1:]))
        for way in itertools.product(states, repeat=len(path) + 1)
    ]
    return float(logsumexp(each))


@pytest.mark.parametrize("one", [HMM, BRACKETS], ids=["hmm", "brackets"])
def test_a_path_has_the_probability_of_all_hidden_paths_together(one):
    length = 4 if one is BRACKETS else 5
    paths = np.array(list(itertools.product(range(one.symbols), repeat=length)))
    log = one.log_probability(paths).sum(1)
    assert np.exp(log).sum() == pytest.approx(1, abs=1e-12)
    for i in np.random.default_rng(0).choice(len(paths), 25, replace=False):
        assert log[i] == pytest.approx(by_enumeration(one, paths[i]), abs=1e-9)


@pytest.mark.parametrize("one", [HMM, BRACKETS], ids=["hmm", "brackets"])
def test_predictions_are_ratios_of_path_probabilities_and_the_start_is_stationary(one):
    assert np.allclose(one.step.sum((1, 2)), 1) and np.allclose(one.start @ one.step.sum(1), one.start)
    tokens = one.draw(np.random.default_rng(0), 5, 6)
    p = one.predict(tokens)
    assert np.allclose(p.sum(2), 1)
    for v in range(one.symbols):
        longer = one.log_probability(np.pad(tokens, ((0, 0), (0, 1)), constant_values=v)).sum(1)
        assert np.allclose(np.exp(longer - one.log_probability(tokens).sum(1)), p[:, -1, v])


@pytest.mark.parametrize("one", [HMM, BRACKETS], ids=["hmm", "brackets"])
def test_what_is_drawn_follows_it(one):
    tokens = one.draw(np.random.default_rng(0), 40_000, 3)
    for t in range(3):  # stationary: every place is like any other
        assert np.bincount(tokens[:, t], minlength=one.symbols) / 40_000 == pytest.approx(one.unigram, abs=0.01)
    paths = np.array(list(itertools.product(range(one.symbols), repeat=3)))
    found = np.bincount(tokens @ one.symbols ** np.arange(2, -1, -1), minlength=len(paths)) / 40_000
    assert found == pytest.approx(np.exp(one.log_probability(paths).sum(1)), abs=0.01)


def test_brackets_nest_and_keep_their_depth():
    one = brackets(6, depth=3, open=0.5, seed=0)
    assert len(one.step) == 1 + 3 + 9 + 27
    tokens = one.draw(np.random.default_rng(0), 200, 60)
    depth = np.cumsum(np.where(tokens % 2 == 0, 1, -1), axis=1)
    assert (np.ptp(depth, axis=1) <= 3).all()
    for row in tokens:
        stack = []
        for x in row:
            if x % 2 == 0:
                stack.append(x // 2)
            elif stack:  # what was open before the window, is not known
                assert stack.pop() == x // 2
    assert np.isfinite(one.log_probability(tokens)).all()
    wrong = one.log_probability([[0, 3, 0]])  # "(0" cannot be closed by ")1"
    assert np.isfinite(wrong[0, 0]) and (wrong[0, 1:] == -np.inf).all()


def test_the_floor_of_a_model_is_the_mean_of_minus_log_p():
    inputs, targets = HMM.task(np.random.default_rng(3), 50, 8)
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    both = np.concatenate([inputs, targets[:, -1:]], axis=1)
    assert HMM.best_loss(inputs, targets) == pytest.approx(-HMM.log_probability(both)[:, 1:].mean())
    assert HMM.best_loss(inputs, targets) < -np.log(HMM.unigram[targets]).mean()


def test_hidden_data():
    data = load_data(DataConfig("hidden", "brackets:depth=2:seed=4", symbols=4))
    assert data.symbols == ["(0", ")0", "(1", ")1"] and data.vocab_size == 4 and data.causal and data.outputs is None
    known = source("brackets:depth=2:seed=4", 4)
    assert data.chance == known.unigram.max()
    for split in ("valid", "test"):
        inputs, targets = data.heldout(split, 32, 3200)
        assert inputs.shape == (100, 32) and np.isfinite(known.best_loss(inputs, targets))
    assert load_data(DataConfig("hidden", "hmm:seed=1", symbols=5)).symbols == ["s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    ("corpus", "symbols", "words"),
    [
        ("trees", 6, "'trees'; expected one of hmm, brackets"),
        ("hmm:depth=2", 6, "'depth=2' is none of states, concentration, seed with =value"),
        ("hmm:states=many", 6, "states takes int, got 'many'"),
        ("brackets:open=1", 6, "open must lie in 0.01..0.99, got 1.0"),
        ("brackets", 5, "an even number of symbols .*; got 5 symbols"),
        ("brackets:depth=9", 8, "at most 400 stacks"),
    ],
)
def test_wrong_sources_say_what_is_wrong(corpus, symbols, words):
    with pytest.raises(ValueError, match=words):
        load_data(DataConfig("hidden", corpus, symbols=symbols))


def test_tokens_of_another_alphabet_are_refused():
    with pytest.raises(ValueError, match=r"below 3, got \(1, 2\) of 0..3"):
        HMM.predict([[0, 3]])
    assert hidden.source("hmm", 4) is hidden.source("hmm", 4)
