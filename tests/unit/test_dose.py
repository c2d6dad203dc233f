"""Does the field copy the language: planted exponents, slopes and laws come back, and intervals cover."""

import numpy as np
import pytest
from scipy import stats

from agf_core.analysis import dose

R = np.arange(1.0, 65.0)


def test_exponents_are_exact_on_their_own_law_and_shape_is_kept():
    k = np.array([[-0.5, 0.0, 0.7], [1.0, 2.0, 4.0]])
    power = dose.exponent(3.0 - k[..., None] * np.log(R))
    np.testing.assert_allclose(power.power, k, atol=1e-9)
    np.testing.assert_allclose(power.power_ols, k, atol=1e-9)
    other = dose.exponent(-0.1 * k[..., None] * R)
    np.testing.assert_allclose(other.rate, 0.1 * k, atol=1e-9)
    np.testing.assert_allclose(other.rate_ols, 0.1 * k, atol=1e-9)


def test_likelihood_estimator_is_the_truncated_zeta_fitted_to_counts():
    # Independent: maximise the multinomial likelihood of p under r^-k numerically.
    from scipy.optimize import minimize_scalar

    g = -1.5 * np.log1p(R / 4)
    p = np.exp(g) / np.exp(g).sum()
    best = minimize_scalar(lambda k: k * (p @ np.log(R)) + np.log((R**-k).sum()), bounds=(0, 5), method="bounded",
                           options={"xatol": 1e-10}).x  # fmt: skip
    assert dose.exponent(g).power == pytest.approx(best, abs=1e-6)
    assert dose.exponent(g).power < dose.exponent(g).power_ols  # attention is near, where a shifted law is flat


def test_a_spike_ends_at_the_limit_and_nan_stays_nan():
    spike = np.full(64, -1e4)
    spike[0] = 0.0
    found = dose.exponent(np.stack([spike, np.full(64, np.nan)]))
    assert found.power[0] > 20 and found.rate[0] > 20 and np.isnan(found.power[1]) and np.isnan(found.rate_ols[1])


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 8\) and \(7,\)"):
        dose.exponent(np.zeros((2, 8)), np.arange(1, 8))
    with pytest.raises(ValueError, match="share a shape"):
        dose.slope([1.0, 2.0], [1.0], [0, 0])
    with pytest.raises(ValueError, match="no seed has two planted values"):
        dose.slope([1.0, 1.0], [1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match=r"choose one of: power, exponential"):
        dose.control(np.zeros((1, 64)), [0], ["gravity"])


def test_slope_is_recovered_and_its_interval_covers_though_runs_of_a_seed_are_alike():
    rng = np.random.default_rng(0)
    theta = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0])
    covered = []
    for _ in range(100):
        tilt = 0.1 * rng.standard_normal((6, 1))  # what runs of one seed share
        learned = 0.2 + (0.8 + tilt) * theta + 0.05 * rng.standard_normal((6, 6))
        found = dose.slope(np.tile(theta, 6), learned.ravel(), np.repeat(np.arange(6), 6))
        covered.append(found.slope.low <= 0.8 <= found.slope.high)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert found.bend.low < 0 < found.bend.high and found.correlation > 0.98
    assert len(found.means) == 6 and (found.means["n"] == 6).all() and len(found.seeds) == 6


def test_one_seed_has_a_slope_without_an_interval_and_diverged_runs_are_left_out():
    found = dose.slope([0.5, 1.0, 2.0, 3.0], [0.5, 1.0, 2.0, np.nan], [0, 0, 0, 0])
    assert found.slope.value == pytest.approx(1.0) and np.isnan(found.slope.low)


def test_control_tells_the_languages_apart():
    rng = np.random.default_rng(1)
    law = np.repeat(["power", "exponential"], 16)
    clean = np.where((law == "power")[:, None], -1.2 * np.log1p(R / 1.5), -0.07 * R)
    noisy = clean + 0.02 * rng.standard_normal((32, 64))
    found = dose.control(noisy, np.repeat(np.arange(16), 2), law)
    assert len(found.table) == 16 and found.right["power"].value > 0.9 and found.right["exponential"].value >= 0.75
    wrong = found.table[(found.table["planted"] == "exponential") & (found.table["better"] == "power")]
    assert len(wrong) <= 1


def fields(slope, noise, seed, corpora=6):
    """Texts whose learned exponent is 0.2 + slope × the predicted one; each corpus also shuffled, which flattens it."""
    rng = np.random.default_rng(seed)
    k = rng.uniform(0.8, 1.6, corpora)
    k = np.stack([k, k - rng.uniform(0.3, 0.6, corpora)], axis=1).ravel()
    learned = 0.2 + slope * k + noise * rng.standard_normal(2 * corpora)
    names = [f"{c}{'' if i else ' shuffled'}" for c in range(corpora) for i in (1, 0)]
    log_fields = [-x[:, None] * np.log(R) for x in (k, learned)]
    return (*log_fields, names, np.repeat(np.arange(corpora), 2), np.tile([False, True], corpora))


def test_prediction_is_exact_without_noise():
    found = dose.predicted(*fields(0.7, 0.0, 0), usable=R <= 48)
    assert found.slope.value == pytest.approx(0.7) and found.contrast.value == pytest.approx(0.7)
    assert found.correlation.value == pytest.approx(1.0) and len(found.contrasts) == 6
    np.testing.assert_allclose(found.table["correlation"], 1.0)
    table = found.table
    np.testing.assert_allclose(table["slope"] * table["predicted_exponent"], table["learned_exponent"])


def test_prediction_intervals_cover():
    found = [dose.predicted(*fields(0.7, 0.1, s), resamples=200) for s in range(25)]
    assert np.mean([f.slope.low <= 0.7 <= f.slope.high for f in found]) >= 0.8
    assert np.mean([f.contrast.low <= 0.7 <= f.contrast.high for f in found]) >= 0.8


def test_few_corpora_give_no_interval_and_lost_distances_no_number():
    p, g, names, corpus, broken = fields(0.7, 0.0, 0, corpora=2)
    found = dose.predicted(p, g, names, corpus, broken)
    assert np.isnan(found.slope.low) and np.isfinite(found.slope.value)
    use = np.ones((4, 64), dtype=bool)
    use[0, 2:] = False
    assert np.isnan(dose.predicted(p, g, names, corpus, broken, usable=use).table["slope"][0])


def test_correlation_is_scipys():
    a, b = np.random.default_rng(0).standard_normal((2, 20))
    assert dose.correlation(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    assert np.isnan(dose.correlation([1.0, 2.0], [1.0, 2.0]))
