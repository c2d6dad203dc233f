"""Finitely many tasks: both Bayesian readers against Bayes' rule written out, and who is best where."""

import numpy as np
import pytest
from scipy import stats

from agf_core.sources.datasets import DataConfig, load_data
from agf_core.sources.finite_tasks import LAWS, Tasks, parse

V = 4


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("law", LAWS)
def test_the_mixture_is_bayes_rule_written_out(law):
    tasks = Tasks(law, 3, seed=1)
    tokens, _ = tasks.sample(np.random.default_rng(0), 70, 6, V)
    pool, mixture, slower = tasks.pool(V), tasks.mixture(tokens, V), tasks.mixture(tokens, V, temper=0.5)
    assert mixture.shape == (70, 6, V) and np.allclose(mixture.sum(2), 1)
    for row in (0, 69):  # on both sides of what is computed at once
        weight, x = np.ones(3), tokens[row]
        for t in range(6):
            if law == "urn":
                weight = weight * pool[:, 0, x[t]]
            elif t:
                weight = weight * pool[:, x[t - 1], x[t]]
            after = pool[:, x[t] if law == "chain" else 0]
            assert mixture[row, t] == pytest.approx(weight @ after / weight.sum())
            assert slower[row, t] == pytest.approx(weight**0.5 @ after / (weight**0.5).sum())


@pytest.mark.parametrize("law", LAWS)
def test_the_prior_is_a_dirichlet_multinomial(law):
    tasks = Tasks(law, 0, concentration=0.7)
    x = tasks.sample(np.random.default_rng(2), 1, 9, V)[0]
    found = tasks.prior(x, V)[0, -1]
    seen = x[0] if law == "urn" else x[0, 1:][x[0, :-1] == x[0, -1]]
    count = np.bincount(seen, minlength=V)
    for v in range(V):
        one = stats.dirichlet_multinomial(np.full(V, 0.7), 1 + count.sum())
        ways = one.logpmf(count + np.eye(V, dtype=int)[v]) - np.log((1 + count.sum()) / (1 + count[v]))
        before = stats.dirichlet_multinomial(np.full(V, 0.7), count.sum()).logpmf(count) if count.sum() else 0.0
        assert found[v] == pytest.approx(np.exp(ways - before))  # of sequences, not of counts


@pytest.mark.parametrize("law", LAWS)
def test_each_reader_is_best_where_it_should_be(law):
    tasks, rng = Tasks(law, 4, seed=3), np.random.default_rng(0)
    for unseen in (False, True):
        tokens, laws = tasks.sample(rng, 300, 40, V, unseen)
        truth = tasks.truth(tokens, laws)
        mixture, prior = (kl(truth, p).mean() for p in (tasks.mixture(tokens, V), tasks.prior(tokens, V)))
        assert (mixture > 1.3 * prior) if unseen else (mixture < 0.7 * prior)
        assert kl(truth, truth).max() == 0


def test_what_is_drawn_follows_its_law():
    for law in LAWS:
        tasks = Tasks(law, 1, seed=5)
        tokens = tasks.sample(np.random.default_rng(0), 200, 400, V)[0]
        pool = tasks.pool(V)[0]
        if law == "urn":
            assert np.bincount(tokens.ravel()) / tokens.size == pytest.approx(pool[0], abs=0.01)
        else:
            for v in range(V):
                after = tokens[:, 1:][tokens[:, :-1] == v]
                assert np.bincount(after, minlength=V) / after.size == pytest.approx(pool[v], abs=0.02)


def test_pools_belong_to_their_seed_and_unseen_tasks_to_nobody():
    assert (Tasks(tasks=8, seed=1).pool(V) == Tasks(tasks=8, seed=1).pool(V)).all()
    assert (Tasks(tasks=8, seed=1).pool(V) != Tasks(tasks=8, seed=2).pool(V)).all()
    pool = Tasks(tasks=8, seed=1).pool(V)[:, 0]
    laws = Tasks(tasks=8, seed=1).sample(np.random.default_rng(0), 100, 2, V)[1][:, 0]
    assert all((pool == law).all(1).any() for law in laws)
    for tasks, unseen in ((Tasks(tasks=8, seed=1), True), (Tasks(tasks=0), False)):
        laws = tasks.sample(np.random.default_rng(0), 100, 2, V, unseen)[1][:, 0]
        assert len(np.unique(laws, axis=0)) == 100 and not any((pool == law).all(1).any() for law in laws)
    with pytest.raises(ValueError, match="no mixture"):
        Tasks(tasks=0).mixture(np.zeros((1, 2), int), V)


def test_the_test_split_has_unseen_tasks():
    data = load_data(DataConfig("tasks", "urn:tasks=1:concentration=0.3:seed=7", symbols=V))
    law = Tasks("urn", 1, 0.3, 7).pool(V)[0, 0]
    for split, same in (("train", True), ("valid", True), ("test", False)):
        inputs, targets = data.heldout(split, 100, 40_000)
        assert (inputs[:, 1:] == targets[:, :-1]).all()
        shares = (inputs[..., None] == np.arange(V)).mean(1)  # (400, V): of each sequence
        assert (np.abs(shares - law).max(1) < 0.2).mean() > 0.95 if same else np.abs(shares - law).max(1).mean() > 0.3
    inputs, _ = data.batch(3, 100, 100, 0)
    assert np.bincount(inputs.ravel(), minlength=V) / inputs.size == pytest.approx(law, abs=0.03)
    assert (data.vocab_size, data.chance, data.symbols[3], data.epochs(10**6, 10)) == (V, 0.25, "s3", 0)


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("jar:tasks=2", "'jar'; expected one of urn, chain, then options"),
        ("urn:pool=2", "'pool=2' is none of tasks, concentration, seed with =value"),
        ("urn:tasks=-1", "tasks must lie in 0..65536, got -1"),
        ("urn:concentration=0", "concentration must lie in 0.01..100, got 0.0"),
    ],
)
def test_wrong_tasks_say_what_is_wrong(corpus, words):
    with pytest.raises(ValueError, match=words):
        DataConfig("tasks", corpus)
    assert parse("chain:tasks=2:seed=9") == Tasks("chain", 2, seed=9)
