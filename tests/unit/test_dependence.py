"""Dependence by distance: known sources, the correction against another, and a prediction that finds planted fields."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agf_core.analysis.dependence import (
    PREDICTIONS,
    SHIFTS,
    Dependence,
    dependence,
    direct_weights,
    predicted_field,
)
from agf_core.sources.echo import parse


@lru_cache(maxsize=16)
def of_echo(
    spec: str, symbols: int = 16, size: int = 300_000, window: int = 32, correction: str = "shifts"
) -> Dependence:
    stream = parse(spec).draw(np.random.default_rng(5), 1, size, symbols)[0]
    return dependence(stream, window, correction=correction)


def slope(log_field: np.ndarray, usable: np.ndarray, far: int) -> float:
    """Exponent of (1 + distance) over distances up to `far`."""
    usable = usable & (np.arange(len(usable)) < far)
    return float(-np.polyfit(np.log1p(1 + np.flatnonzero(usable)), log_field[usable], 1)[0])


@pytest.mark.parametrize("spec", ["power:exponent=1:max_gap=32", "exponential:rate=0.2:chance=0.5:max_gap=32"])
@pytest.mark.parametrize("correction", ["shifts", "miller-madow"])
def test_both_corrections_find_the_exact_information(spec, correction):
    found, exact = of_echo(spec, correction=correction), parse(spec).pair_information(32, 16)
    error = (found.high - found.low) / 2 / stats.t.ppf(0.975, 19)
    assert np.abs((found.bits - exact) / error).max() < 4
    assert ((found.low < exact) & (exact < found.high)).mean() > 0.8
    assert found.pairs > 299_000 and found.symbols == 16
    assert np.abs(found.bits - of_echo(spec).bits).max() < error.max()


def test_uncorrected_it_is_what_scipy_calls_g():
    """The plug-in value is G / 2N of the table of pairs; Miller and Madow's correction is (V - 1)² / 2N of it."""
    rng = np.random.default_rng(0)
    stream = np.where(rng.random(20_000) < 0.3, np.roll(rng.integers(0, 5, 20_000), 1), rng.integers(0, 5, 20_000))
    found = dependence(stream, 4, correction="miller-madow")
    for r in (1, 3):
        table = stats.contingency.crosstab(stream[4:], stream[4 - r : -r]).count
        g = stats.chi2_contingency(table, lambda_="log-likelihood", correction=False).statistic
        assert found.bits[r - 1] == pytest.approx((g - 16) / (2 * found.pairs * np.log(2)), abs=1e-12)
        chi2 = stats.chi2_contingency(table, correction=False).statistic
        assert (found.correlation[r] ** 2).sum() * found.pairs == pytest.approx(chi2)


@pytest.mark.parametrize(("symbols", "size"), [(2, 20_000), (12, 40_000)])
def test_independent_symbols_tell_nothing(symbols, size):
    told = []
    for seed in range(20):
        found = dependence(np.random.default_rng(seed).integers(0, symbols, size), 16, seed=seed)
        told.append(int(found.told.sum()))
        assert not predicted_field(found)[1].any() or told[-1]
    assert sum(told) <= 2  # one stream in twenty may tell something


def test_copies_are_told_as_far_as_they_reach():
    found = of_echo("exponential:rate=0:max_gap=4:chance=0.3", size=60_000)
    assert found.told[:4].all() and not found.told[12:].any() and (np.diff(found.r) == 1).all()


def test_a_shift_of_the_symbols_names_changes_nothing():
    stream = parse("power").draw(np.random.default_rng(0), 1, 20_000, 5)[0]
    first, second = dependence(stream, 6), dependence(1000 - 7 * stream, 6)
    assert first.bits == pytest.approx(second.bits) and first.low == pytest.approx(second.low)


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.2, 0.8])
def test_predicted_exponents_are_in_order_and_direct_ones_are_those_planted(chance):
    planted = [0.5, 1.0, 1.5]
    found = {how: [] for how in PREDICTIONS}
    for exponent in planted:
        known = of_echo(f"power:exponent={exponent}:chance={chance}", 16, 500_000, 64)
        for how in PREDICTIONS:
            found[how].append(slope(*predicted_field(known, how), far=31))
    assert found["direct"] == pytest.approx(planted, abs=0.1)
    assert (np.diff(found["total"]) > 0.1).all() and all(a < b for a, b in zip(found["total"], planted))
    if chance == 0.2:
        assert found["total"] == pytest.approx([0.40, 0.84, 1.35], abs=0.2)  # the last, near the floor, is flattened
    else:  # copies of copies flatten it: so far off, and known to be
        assert found["total"] == pytest.approx([0.10, 0.25, 0.45], abs=0.05)


def test_direct_weights_are_those_of_the_source():
    law = parse("exponential:rate=0.2:max_gap=16")
    found = of_echo("exponential:rate=0.2:max_gap=16", size=200_000, window=24)
    g, error = direct_weights(found)
    wanted = np.pad(law.weights, (0, 8))
    assert g.sum() == pytest.approx(1) and (g >= 0).all() and np.abs((g - wanted) / error).max() < 6
    usable = predicted_field(found, "direct", ahead=0)[1]
    assert usable[:12].all() and not usable[16:].any()


def test_another_map_between_symbols_does_not_change_the_direct_field():
    """x_t = one more than what it copies: no symbol equals its source, but the field is the same."""
    rng, law = np.random.default_rng(3), parse("power:exponent=1:max_gap=8")
    gaps, copied, stream = rng.choice(np.arange(1, 9), 60_000, p=law.weights), rng.random(60_000) < 0.6, list(range(8))
    for gap, copy, fresh in zip(gaps, copied, rng.integers(0, 6, 60_000)):
        stream.append((stream[-gap] + 1) % 6 if copy else fresh)
    g, _ = direct_weights(dependence(np.array(stream), 12))
    assert g[:8] == pytest.approx(law.weights, abs=0.03) and g[8:].max() < 0.02


def test_steps_between_lags_and_distances():
    found = of_echo("power:exponent=1:max_gap=32")
    for how in PREDICTIONS:
        whole, usable = predicted_field(found, how, ahead=0)
        field, rest = predicted_field(found, how)
        assert field.shape == rest.shape == (31,) and (usable[1:] == rest).all() and rest.any()
        assert np.nanmean(field) == pytest.approx(0, abs=1e-12) and (np.isnan(field) == ~rest).all()
        assert np.ptp((field - whole[1:])[rest]) < 1e-12
    assert predicted_field(found)[0][0] == pytest.approx(
        0.5 * (np.log(found.bits[1:]) - np.log(found.bits[1:]).mean())[0]
    )


def test_words_are_refused_unless_merged():
    stream = stats.zipf.rvs(1.3, size=30_000, random_state=np.random.default_rng(0)) % 4108
    with pytest.raises(ValueError, match=r"symbols have .* pairs of kinds.*fewer than 5 each.*commonest=76"):
        dependence(stream, 8)
    found = dependence(stream, 8, commonest=76)
    assert found.symbols == 77 and not found.told.any()


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_merging_loses_information(symbols, seed):
    stream = parse("power:max_gap=4").draw(np.random.default_rng(seed), 1, 6000, symbols + 1)[0]
    whole, merged = dependence(stream, 3), dependence(stream, 3, commonest=symbols - 1)
    assert (merged.bits < whole.bits + whole.floor).all() and merged.symbols == symbols


def test_it_repeats_and_reads_only_so_much():
    stream = parse("power").draw(np.random.default_rng(0), 1, 9000, 4)[0]
    first, second = dependence(stream, 5, limit=5000), dependence(stream[:5000], 5)
    assert (first.bits == second.bits).all() and (first.high == second.high).all() and first.floor == second.floor


@pytest.mark.parametrize(
    ("stream", "options", "words"),
    [
        (np.zeros((3, 9000), int), {}, r"whole numbers from 0, got shape \(3, 9000\)"),
        (np.zeros(9000), {}, "float64"),
        (np.arange(9000) % 3 - 1, {}, "whole numbers from 0"),
        (np.zeros(9000, int), {}, "one kind of symbol"),
        (np.arange(900) % 3, {}, f"{10 * (SHIFTS + 1)} symbols for each distance of the window, got window 8.* 900"),
        (np.arange(9000) % 3, {"blocks": 1}, "blocks 1"),
        (
            np.arange(9000) % 3,
            {"correction": "none"},
            "unknown correction 'none'; expected one of shifts, miller-madow",
        ),
    ],
)
def test_wrong_requests_say_what_is_wrong(stream, options, words):
    with pytest.raises(ValueError, match=words):
        dependence(stream, 8, **options)


def test_wrong_predictions_say_what_is_wrong():
    found = of_echo("power:exponent=1:max_gap=32")
    with pytest.raises(ValueError, match="unknown prediction 'best'; expected one of total, direct"):
        predicted_field(found, "best")
    with pytest.raises(ValueError, match=r"ahead must lie in 0\.\.31, got 32"):
        predicted_field(found, ahead=32)
