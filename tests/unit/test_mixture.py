"""Pooling: exponentials pool to the power law that their rates predict; heads that are power laws need none."""

import numpy as np
import pytest

from agf_core.analysis import mixture

R = np.arange(1.0, 65.0)


def exponentials(heads=96, shape=1.2, theta=0.1, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    rates = rng.gamma(shape, theta, heads)
    return -rates[:, None] * R + rng.normal(0, 1, (heads, 1)) + noise * rng.standard_normal((heads, 64)), rates


def test_exponential_heads_are_explained_by_pooling_their_own_rates():
    profiles, rates = exponentials()
    found = mixture.mixture(profiles, np.repeat(np.arange(12), 8))
    assert found.verdict == "pooling explains it" and found.exponential.low > 0.5
    np.testing.assert_allclose(found.heads["rate"], rates, atol=0.005)
    assert found.error("gamma mixture") < 0.1 * found.error("single exponential")
    # Not fitted to anything pooled: the heads' own exponentials are the observed curve.
    np.testing.assert_allclose(found.pooled["heads' exponentials"], found.pooled["observed"], rtol=0.05)
    assert found.gamma is not None and found.gamma.shape == pytest.approx(1.2, abs=0.4)


def test_the_gamma_curve_is_the_identity():
    found = mixture.mixture(exponentials(400, noise=0.0)[0])
    k, theta = found.gamma.shape, found.gamma.theta
    np.testing.assert_allclose(found.pooled["gamma mixture"], (1 + theta * R) ** -k)
    truth = (1 + 0.1 * R) ** -1.2
    np.testing.assert_allclose(found.pooled["gamma mixture"], truth, rtol=0.2)


def test_heads_that_are_power_laws_need_no_pooling():
    rng = np.random.default_rng(1)
    k, scale = rng.uniform(0.4, 2, (64, 1)), rng.uniform(0.5, 4, (64, 1))
    profiles = -k * np.log1p(R / scale) + 0.01 * rng.standard_normal((64, 64))
    found = mixture.mixture(profiles, np.repeat(np.arange(8), 8))
    assert found.verdict == "pooling not needed" and found.power.low > 0.7
    assert found.error("gamma mixture") > 4 * found.error("fitted shifted power")


def test_exponentials_of_one_rate_leave_no_power_law():
    noise = 0.01 * np.random.default_rng(0).standard_normal((32, 64))
    assert mixture.mixture(-0.05 * R + noise).verdict == "no power law to explain"
    same = mixture.mixture(np.repeat(-0.05 * R[None], 4, axis=0))
    assert same.gamma is None and np.isnan(same.error("gamma mixture"))


def test_rising_and_broken_heads_are_counted_and_left_out():
    profiles = exponentials(20)[0]
    profiles[0], profiles[1, 3] = 0.05 * R, np.nan
    found = mixture.mixture(profiles, usable=R != 50)
    assert found.heads["pooled"].sum() == 18 and len(found.heads) == 20 and len(found.pooled) == 63
    with pytest.raises(ValueError, match="got 0 of 4"):
        mixture.mixture(np.repeat(0.1 * R[None], 4, axis=0))


def test_one_distance_that_one_head_rules_gives_no_verdict_by_itself():
    profiles, _ = exponentials()
    spiked = profiles.copy()
    spiked[0, 50] += 12.0  # one head, one far distance
    one, other = mixture.mixture(profiles), mixture.mixture(spiked)
    assert one.verdict == other.verdict == "pooling explains it"
    for curve in mixture.CURVES:
        assert other.error(curve) == pytest.approx(one.error(curve), rel=0.2)
    assert "tie" in one.heads and sum(one.agreed.values()) == pytest.approx(1.0)


def test_a_verdict_that_hangs_on_which_heads_there_are_is_none():
    rng = np.random.default_rng(0)
    power = -rng.uniform(0.8, 1.5, (11, 1)) * np.log1p(R / 2)
    mixed = np.concatenate([power, exponentials(9)[0]]) + 0.01 * rng.standard_normal((20, 64))
    found = mixture.mixture(mixed)
    assert found.verdict == mixture.UNDECIDED and max(found.agreed.values()) < mixture.AGREE
    again = mixture.mixture(mixed)
    assert found.agreed == again.agreed  # seeded
