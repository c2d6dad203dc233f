"""Counts against the package `powerlaw`, scipy's distributions and published figures: all things we did not write."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from agf_core.fitting import compare_counts, fit_counts, goodness_of_fit

powerlaw = pytest.importorskip("powerlaw")


def oracle(x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(
            np.asarray(x, dtype=float),
            discrete=True,
            estimate_discrete=False,
            verbose=0,
            parameter_ranges={"alpha": [1, 6]},
            **options,
        )
        assert fit.power_law.alpha  # fitted at the first look: look while its warnings are off
        return fit


@pytest.fixture(scope="module")
def words():
    """Word counts of Moby Dick as shipped with `powerlaw`: the example of Clauset et al. 2009."""
    path = Path(powerlaw.__file__).parent / "reference_data" / "words.txt"
    if not path.exists():
        pytest.skip("this powerlaw ships no words.txt")
    return np.loadtxt(path).astype(int)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 2.5, 3.0, 3.5])
@pytest.mark.parametrize("noise_below", [False, True])
def test_discrete_samples_agree_with_powerlaw_to_three_decimals(alpha, noise_below):
    rng = np.random.default_rng(int(10 * alpha))
    x = rng.zipf(alpha, 3000)
    x = x[x < 10_000]
    if noise_below:  # a body that is no power law, so that xmin has to be found
        x = np.concatenate([x[x >= 5], rng.integers(1, 5, 400)])
    ours, theirs = fit_counts(x), oracle(x)
    assert ours.xmin == theirs.xmin
    assert ours.params["exponent"] == pytest.approx(theirs.power_law.alpha, abs=1e-3)
    assert ours.ks == pytest.approx(theirs.power_law.D, abs=1e-4)
    table = compare_counts(x, ["power", "exponential", "lognormal"], ours.xmin).set_index("law")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("exponential", "lognormal"):
            if "edge" in table.loc[name, "flags"]:
                continue  # at its limit the lognormal *is* the power law and the ratio has no value to agree on
            if name == "exponential" and alpha < 2.5:
                continue  # powerlaw cuts likelihoods off at 1e-307, which an exponential's tail is below here
            ratio, p = theirs.distribution_compare("power_law", name, normalized_ratio=True)
            assert table.loc[name, "ratio"] == pytest.approx(ratio, abs=1e-3)
            assert table.loc[name, "p"] == pytest.approx(p, abs=1e-3)


@pytest.mark.parametrize("alpha", [1.8, 2.6])
def test_continuous_samples_agree_with_powerlaw(alpha):
    x = 2 * (1 + np.random.default_rng(3).pareto(alpha - 1, 1500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = powerlaw.Fit(x, discrete=False, verbose=0)
    ours = fit_counts(x, discrete=False)
    assert ours.xmin == theirs.xmin
    assert ours.params["exponent"] == pytest.approx(theirs.power_law.alpha, abs=1e-3)
    assert ours.ks == pytest.approx(theirs.power_law.D, abs=1e-6)


def test_moby_dick_has_its_published_exponent(words):
    fit = fit_counts(words)
    assert (fit.xmin, fit.n_tail, fit.n) == (7, 2958, 18855)
    assert fit.params["exponent"] == pytest.approx(1.953, abs=5e-4)
    assert fit.ks == pytest.approx(0.00825, abs=5e-6)
    table = compare_counts(words, ["exponential", "lognormal"], 7).set_index("law")
    assert table.loc["exponential", "ratio"] == pytest.approx(9.1, abs=0.06)
    assert table.loc["exponential", "p"] == pytest.approx(6e-20, rel=0.05)
    assert abs(table.loc["lognormal", "ratio"]) < 0.5 and table.loc["lognormal", "p"] > 0.6  # undecided


def test_moby_dick_passes_the_bootstrap(words):
    tail_only = words[words >= 7]
    found = goodness_of_fit(tail_only, xmin=7, repeats=40)
    assert found.p > 0.3 and found.ks == pytest.approx(0.00825, abs=5e-6)


@pytest.mark.parametrize(
    ("law", "frozen", "wanted"),
    [
        ("lognormal", stats.lognorm(0.8, scale=np.exp(1.2)), {"mu": 1.2, "sigma": 0.8}),
        ("stretched_exponential", stats.weibull_min(0.7, scale=3.0), {"scale": 3.0, "shape": 0.7}),
        ("exponential", stats.expon(scale=2.0), {"rate": 0.5}),
        ("shifted_power", stats.lomax(2.0, scale=3.0), {"exponent": 3.0, "scale": 3.0}),
    ],
)
def test_continuous_laws_agree_with_scipy_fits(law, frozen, wanted):
    x = frozen.rvs(4000, random_state=5)
    fit = fit_counts(x, law, xmin=1e-9, discrete=False)
    family = frozen.dist
    fixed = {"floc": 0}
    shape = family.fit(x, **fixed)
    assert fit.loglik == pytest.approx(family.logpdf(x, *shape).sum(), rel=1e-5)
    for name, value in wanted.items():
        assert fit.ci[name][0] < value < fit.ci[name][1]


def test_right_truncated_zeta_agrees_with_scipy():
    rng = np.random.default_rng(2)
    true = stats.zipfian(0.9, 40)  # exponent below 1: no endless power law has it
    x = true.rvs(5000, random_state=rng)
    fit = fit_counts(x, "power", 1, xmax=40)
    again = stats.fit(stats.zipfian, x, {"a": (0.1, 3), "n": (40, 40)})
    assert fit.params["exponent"] == pytest.approx(again.params.a, abs=1e-3)
    assert fit.loglik == pytest.approx(-again.nllf(), abs=1e-3)
    low, high = fit.ci["exponent"]
    assert low < 0.9 < high


def test_geometric_agrees_with_its_closed_form():
    x = np.random.default_rng(4).geometric(0.3, 3000)
    assert np.exp(-fit_counts(x, "exponential", 1).params["rate"]) == pytest.approx(1 - 1 / x.mean(), abs=1e-6)
