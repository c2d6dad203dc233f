"""Echo: the law that is drawn is the law that is written, exactly, and its floor is the entropy of the source."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core.sources.echo import Echo, parse

quick = settings(deadline=None, max_examples=25)


def by_hand(law: Echo, length: int, symbols: int, seed: int) -> np.ndarray:
    """The definition, one symbol after the other."""
    rng = np.random.default_rng(seed)
    stream = rng.integers(0, symbols, law.max_gap).tolist()
    gaps = rng.choice(np.arange(1, law.max_gap + 1), length, p=law.weights)
    for copied, gap, fresh in zip(rng.random(length) < law.chance, gaps, rng.integers(0, symbols, length)):
        stream.append(stream[-gap] if copied else fresh)
    return np.array(stream[law.max_gap :])


def test_the_conditional_law_is_recovered_from_long_draws():
    """Frequencies of the next symbol after each context of three, against equation (1)."""
    law, symbols = Echo("power", 1.0, max_gap=3, chance=0.7), 3
    stream = law.draw(np.random.default_rng(0), 1, 600_000, symbols)[0]
    for context in itertools.product(range(symbols), repeat=3):  # x_(t-1), x_(t-2), x_(t-3)
        there = np.all([stream[3 - r : len(stream) - r] == context[r - 1] for r in (1, 2, 3)], axis=0)
        found = np.bincount(stream[3:][there], minlength=symbols) / there.sum()
        wanted = np.full(symbols, 0.3 / symbols)
        np.add.at(wanted, list(context), 0.7 * law.weights)
        assert found == pytest.approx(wanted, abs=4.5 * 0.5 / np.sqrt(there.sum()))


@pytest.mark.parametrize("spec", ["power:exponent=0.5:chance=0.9", "power:exponent=2", "exponential"])
def test_pairs_are_equal_as_often_as_computed_from_the_first_place_to_the_last(spec):
    """Stationary: at the very first symbols as at the last, and as in a stream drawn by the definition."""
    law = parse(f"{spec}:max_gap=16")
    lags = np.array([1, 2, 3, 8, 15])
    wanted = 1 / 8 + 7 / 8 * law.same_root(16)[lags - 1]
    drawn = law.draw(np.random.default_rng(1), 12_000, 48, 8)
    for last in (15, 63):
        found = np.array([(drawn[:, last] == drawn[:, last - r]).mean() for r in lags])
        assert found == pytest.approx(wanted, abs=4.2 * 0.5 / np.sqrt(len(drawn)))
        assert np.bincount(drawn[:, last], minlength=8) / len(drawn) == pytest.approx([1 / 8] * 8, abs=0.014)
    hand = by_hand(law, 60_000, 8, 2)[5000:]
    found = np.array([(hand[r:] == hand[:-r]).mean() for r in lags])
    assert found == pytest.approx(wanted, abs=0.03)  # one stream, whose pairs hang together


@quick
@given(st.integers(1, 12), st.floats(0, 0.95), st.floats(0, 3), st.sampled_from(["power", "exponential"]))
def test_same_root_solves_its_equations(max_gap, chance, steep, law):
    made = Echo(law, steep, steep, max_gap, chance)
    rho = np.concatenate([[1.0], made.same_root(3 * max_gap)])
    for r in range(1, 3 * max_gap + 1):
        wanted = chance * sum(made.weights[j - 1] * rho[abs(r - j)] for j in range(1, max_gap + 1))
        assert rho[r] == pytest.approx(wanted, abs=1e-12)


def test_pair_information_by_summation():
    law, symbols = parse("power:exponent=1.5"), 5
    for rho, bits in zip(law.same_root(6), law.pair_information(6, symbols)):
        joint = np.full((symbols, symbols), (1 - rho) / symbols**2) + np.eye(symbols) * rho / symbols
        assert bits == pytest.approx((joint * np.log2(joint * symbols**2)).sum(), rel=1e-9)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_a_markov_chain_is_the_case_of_one_gap(chance):
    """max_gap 1: chains are geometric, so the warm-up is known; the best loss is the entropy rate of the chain."""
    law, symbols = Echo(max_gap=1, chance=chance), 4
    settled = law.warm_up - 1
    assert chance**settled <= 1e-3 < chance ** (settled - 1)
    stay, move = chance + (1 - chance) / symbols, (1 - chance) / symbols
    rate = -stay * np.log(stay) - (symbols - 1) * move * np.log(move)
    loss = law.best_loss(np.random.default_rng(0), 2000, 50, symbols=symbols)
    assert loss.past == pytest.approx(rate, abs=0.01) and loss.window == loss.past  # the source is the input itself


@quick
@given(st.integers(1, 5), st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**32))
def test_draws_are_of_the_shape_and_range_and_repeat(batch, length, symbols, seed):
    law = Echo(max_gap=7)
    first, again = (law.draw(np.random.default_rng(seed), batch, length, symbols) for _ in range(2))
    assert first.shape == (batch, 7 + length) and first.dtype == np.int64 and (first == again).all()
    assert first.min() >= 0 and first.max() < symbols
    inputs, targets = law.task(np.random.default_rng(seed), batch, length, symbols=symbols)
    assert inputs.shape == targets.shape == (batch, length) and (inputs[:, 1:] == targets[:, :-1]).all()


def test_no_copies_no_dependence():
    law = parse("power:chance=0")
    assert (law.same_root(80) == 0).all() and (law.pair_information(80, 9) == 0).all()
    loss = law.best_loss(np.random.default_rng(0), 3, 20, symbols=9)
    assert loss == pytest.approx((np.log(9), np.log(9)))


def test_specifications():
    assert parse("power") == Echo() == Echo("power", 1.0, 0.1, 64, 0.8)
    assert parse("exponential:rate=0.3:chance=0.5:max_gap=9") == Echo("exponential", rate=0.3, max_gap=9, chance=0.5)
    weights = 1 / np.arange(1, 65)
    assert Echo().weights == pytest.approx(weights / weights.sum())
    for spec, words in [
        ("stretched", "expected a law .power, exponential., then options"),
        ("exponential:exponent=1", "none of rate, max_gap, chance with =value"),
        ("power:chance", "'chance' is none of"),
        ("power:exponent=steep", "exponent takes float, got 'steep'"),
        ("power:exponent=nan", "exponent must lie in 0.0..10.0, got nan"),
        ("power:max_gap=0", "max_gap must lie in 1..1000, got 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            parse(spec)
    with pytest.raises(ValueError, match="unknown law 'flat'; expected one of power, exponential"):
        Echo("flat")
