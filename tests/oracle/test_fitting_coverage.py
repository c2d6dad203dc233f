"""Operating characteristics: do 95 % intervals contain the truth in 92–98 % of data sets we draw ourselves?"""

import numpy as np
import pytest

from agf_core.fitting import COUNT_LAWS, LAWS, compare_series, fit_counts, fit_curves

CURVES = {
    "power": {"amplitude": 2.0, "exponent": 0.8},
    "shifted_power": {"amplitude": 2.0, "exponent": 1.5, "scale": 8.0},
    "exponential": {"amplitude": 2.0, "rate": 0.03},
    "stretched_exponential": {"amplitude": 2.0, "scale": 20.0, "shape": 0.6},
    "lognormal": {"amplitude": 2.0, "mu": 1.5, "sigma": 1.2},
    "power_cutoff": {"amplitude": 2.0, "exponent": 0.6, "cutoff": 40.0},
    "two_regime": {"amplitude": 2.0, "exponent": 0.5, "exponent2": 1.6, "break_": 15.3},
}


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("law", list(CURVES))
def test_curve_intervals_cover_the_truth(law, n):
    x = np.geomspace(1, 100, n)
    y = LAWS[law].evaluate(x, **CURVES[law]) * np.exp(0.1 * np.random.default_rng(n).standard_normal((1000, n)))
    fits = fit_curves(x, y, law)
    assert not any(fits.flags)
    for name, value in CURVES[law].items():
        assert 0.92 <= np.mean((fits.low[name] <= value) & (value <= fits.high[name])) <= 0.98, name


@pytest.mark.parametrize("law", ["power", "shifted_power", "exponential"])
def test_linear_space_with_asymptote_and_known_errors_covers_too(law):
    x = np.geomspace(1, 100, 40)
    sigma = np.linspace(0.01, 0.03, 40)
    y = LAWS[law].evaluate(x, **CURVES[law]) + 0.5 + sigma * np.random.default_rng(1).standard_normal((600, 40))
    for absolute in (False, True):
        fits = fit_curves(x, y, law, sigma, space="linear", asymptote=True, absolute_sigma=absolute)
        for name, value in {**CURVES[law], "asymptote": 0.5}.items():
            assert 0.92 <= np.mean((fits.low[name] <= value) & (value <= fits.high[name])) <= 0.98, name


COUNTS = {"power": [2.3], "exponential": [0.2], "lognormal": [1.0, 0.7], "two_geometric": [0.5, 0.15, 4.0]}


@pytest.mark.parametrize("law", list(COUNTS))
def test_count_intervals_cover_the_truth(law):
    x = np.arange(1, 20_001.0)
    mass = np.exp(COUNT_LAWS[law].log_mass(x, np.array(COUNTS[law]), True))
    edges = np.cumsum(mass) / mass.sum()
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(60 if law == "two_geometric" else 150):
        sample = x[np.searchsorted(edges, rng.random(1000))]
        ci = fit_counts(sample, law, 1, xmax=20_000).ci
        hits.append([ci[n][0] <= v <= ci[n][1] for n, v in zip(COUNT_LAWS[law].parameters, COUNTS[law], strict=True)])
    share = np.mean(hits, axis=0)
    # A few hundred fits only: wider limits than the batched curves'. The break is discrete and overcovers.
    assert (share >= 0.90).all() and (share[: COUNT_LAWS[law].free] <= 0.99).all(), share


def test_the_right_law_is_chosen_more_often_with_less_noise():
    x = np.arange(1.0, 101.0)
    rates = []
    for noise in (3.0, 0.1):
        y = np.concatenate(
            [LAWS[law].evaluate(x, **CURVES[law]) * np.exp(noise * np.random.default_rng(2).standard_normal((60, 100)))
             for law in ("power", "exponential", "shifted_power")]
        )
        table = compare_series(x, y, ["power", "exponential", "shifted_power"])
        chosen = table[table["best"]].sort_values("series")["law"].to_numpy()
        rates.append(np.mean(chosen == np.repeat(["power", "exponential", "shifted_power"], 60)))
    assert rates[1] > 0.85 and rates[1] > rates[0]
