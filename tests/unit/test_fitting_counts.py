"""Counts: normalisers, weights, truncation, two regimes, intervals, bootstrap, errors, flags."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core.fitting import COUNT_LAWS, compare_counts, fit_counts, goodness_of_fit, likelihood_ratio
from agf_core.fitting.sums import log_between_power, log_between_power_cutoff

PARAMS = {
    "power": [2.3],
    "shifted_power": [3.0, 4.0],
    "exponential": [0.2],
    "stretched_exponential": [4.0, 0.8],
    "lognormal": [1.0, 0.7],
    "power_cutoff": [1.2, 12.0],
    "two_regime": [0.8, 2.7, 6.0],
    "two_geometric": [0.5, 0.15, 4.0],
}


@pytest.mark.parametrize("xmax", [np.inf, 30.0, 200.0])
@pytest.mark.parametrize("xmin", [1, 3, 20])
@pytest.mark.parametrize("law", list(PARAMS))
def test_masses_add_up_to_the_normaliser(law, xmin, xmax):
    chosen, p = COUNT_LAWS[law], np.array(PARAMS[law])
    x = np.arange(xmin, min(xmax, 3e6) + 1)
    direct = np.log(np.exp(chosen.log_mass(x, p, True)).sum())
    slack = 2e-6 if law in ("power", "two_regime", "shifted_power") and xmax == np.inf else 1e-9
    assert float(chosen.log_between(np.array(float(xmin)), xmax, p, True)) == pytest.approx(direct, abs=slack)


@pytest.mark.parametrize("xmax", [np.inf, 30.0])
@pytest.mark.parametrize("law", list(PARAMS))
def test_densities_integrate_to_the_normaliser(law, xmax):
    from scipy.integrate import quad

    chosen, p = COUNT_LAWS[law], np.array(PARAMS[law])

    # In log x, so that an endless tail is a finite stretch.
    def integrand(t):
        return float(np.exp(chosen.log_mass(np.exp(t), p, False) + t))

    end = np.log(min(xmax, 1e9))
    direct = quad(integrand, np.log(1.5), end, points=[np.log(p[-1])] if chosen.broken else None, limit=400)[0]
    got = float(chosen.log_between(np.array(1.5), xmax, p, False))
    assert got == pytest.approx(np.log(direct), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1.0, 6.0), st.integers(1, 60), st.integers(0, 400))
def test_finite_power_sums_are_exact(exponent, start, more):
    x = np.arange(start, start + more + 1.0)
    got = float(log_between_power(np.array(float(start)), float(start + more), exponent, True))
    assert got == pytest.approx(np.log((x**-exponent).sum()), abs=1e-9)
    cut = float(log_between_power_cutoff(np.array(float(start)), float(start + more), exponent, 7.0, True))
    assert cut == pytest.approx(np.log((x**-exponent * np.exp(-x / 7)).sum()), abs=1e-7)


def draw(law, size, seed=0, xmax=np.inf, xmin=1):
    """Samples by the direct inverse of the summed masses: not the library's own sampler."""
    x = np.arange(xmin, min(xmax, 50_000) + 1.0)
    mass = np.exp(COUNT_LAWS[law].log_mass(x, np.array(PARAMS[law]), True))
    edges = np.cumsum(mass) / mass.sum()
    return x[np.searchsorted(edges, np.random.default_rng(seed).random(size))].astype(int)


@pytest.mark.parametrize("law", list(PARAMS))
def test_known_parameters_come_back(law):
    fit = fit_counts(draw(law, 40_000), law, 1, xmax=50_000)
    assert fit.ok, fit.flags
    for name, value in zip(COUNT_LAWS[law].parameters, PARAMS[law], strict=True):
        low, high = fit.ci[name]
        assert low <= fit.params[name] <= high
        assert low - (high - low) / 2 <= value <= high + (high - low) / 2
        assert name == "break_" or high - low < 0.5 * abs(value)


@pytest.mark.parametrize("law", list(PARAMS))
def test_interval_ends_are_where_the_profile_has_risen(law):
    """At each end the likelihood, maximised by scipy over the rest, is 1.92 lower."""
    from scipy.optimize import minimize

    x = draw(law, 3000, seed=7)
    fit = fit_counts(x, law, 1, xmax=60_000)
    names = COUNT_LAWS[law].parameters
    for i, name in enumerate(names[: COUNT_LAWS[law].free]):
        if COUNT_LAWS[law].broken:
            return  # the interval is a union over breaks, tested by coverage
        for end in fit.ci[name]:

            def cost(v, i=i, end=end):
                p = np.insert(np.exp(v), i, end) if len(names) > 1 else np.array([end])
                with np.errstate(all="ignore"):
                    value = -(fit.setting.tail.weight @ fit.setting.log_mass(p))
                return value if np.isfinite(value) else 1e12

            if len(names) == 1:
                found = cost(None)
            else:
                other = np.log(fit.params[names[1 - i]]) if fit.params[names[1 - i]] > 0 else -5.0
                found = minimize(cost, [other], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
            assert found + fit.loglik == pytest.approx(1.9207, abs=0.01)


def test_a_histogram_is_its_samples():
    x = draw("power", 4000)
    values, counts = np.unique(x, return_counts=True)
    for law in ("power", "lognormal"):
        one, other = fit_counts(x, law), fit_counts(values, law, weights=counts)
        assert one.params == pytest.approx(other.params) and one.ci["exponent" if law == "power" else "mu"] == (
            pytest.approx(other.ci["exponent" if law == "power" else "mu"])
        )
        assert (one.xmin, one.n_tail) == (other.xmin, other.n_tail)
    tenfold = fit_counts(values, "power", 1, weights=10 * counts)
    single = fit_counts(values, "power", 1, weights=counts)
    assert np.diff(tenfold.ci["exponent"]) == pytest.approx(np.diff(single.ci["exponent"]) / 10**0.5, rel=1e-3)


def test_xmin_is_found_where_it_was_planted():
    rng = np.random.default_rng(1)
    tail = draw("power", 5000, xmin=10)
    fit = fit_counts(np.concatenate([tail, rng.integers(1, 10, 5000)]))
    assert 9 <= fit.xmin <= 12
    assert fit.params["exponent"] == pytest.approx(2.3, abs=0.1)


def test_thinned_search_finds_the_same_xmin(monkeypatch):
    from agf_core.fitting import xmin as module

    x = draw("power", 30_000, seed=3)
    full = fit_counts(x)
    monkeypatch.setattr(module, "LIMIT", 60)
    thinned = fit_counts(x)
    assert thinned.params["exponent"] == pytest.approx(full.params["exponent"], abs=0.01)
    assert thinned.ks <= full.ks * 1.05


def test_truncation_at_a_known_maximum_matters():
    x = draw("power", 20_000, xmax=20)
    wrong, right = fit_counts(x, "power", 1), fit_counts(x, "power", 1, xmax=20)
    assert right.ci["exponent"][0] < 2.3 < right.ci["exponent"][1]
    assert wrong.params["exponent"] > right.ci["exponent"][1]


def test_two_geometric_is_told_from_one_and_from_zeta():
    table = compare_counts(draw("two_geometric", 8000, xmax=60), ["power", "exponential", "two_geometric"], 1, xmax=60)
    assert table["law"][0] == "two_geometric" and table["delta"][1] > 50
    assert table["break_"][0] == 4
    single = compare_counts(draw("exponential", 8000, xmax=60), ["power", "exponential", "two_geometric"], 1, xmax=60)
    assert single["law"][0] == "exponential"


@pytest.mark.parametrize("law", ["power", "exponential", "lognormal", "shifted_power"])
def test_the_true_law_wins_and_the_ratio_points_to_it(law):
    names = ["power", "exponential", "lognormal", "shifted_power"]
    table = compare_counts(draw(law, 8000), names, 1, reference=law).set_index("law")
    assert table["delta"][law] < 2
    assert (table["ratio"].drop(law).drop("shifted_power", errors="ignore") > 2).all() or law == "power"
    assert np.isnan(table["ratio"][law])


def test_ratio_is_antisymmetric_and_needs_the_same_tail():
    x = draw("lognormal", 2000)
    a, b = fit_counts(x, "power", 1), fit_counts(x, "exponential", 1)
    forth, back = likelihood_ratio(a, b), likelihood_ratio(b, a)
    assert forth.value == pytest.approx(-back.value) and forth.p == pytest.approx(back.p)
    with pytest.raises(ValueError, match="same tail: xmin 1 and 2"):
        likelihood_ratio(a, fit_counts(x, "exponential", 2))


def test_bootstrap_accepts_the_truth_and_rejects_the_rest():
    assert goodness_of_fit(draw("power", 2000), xmin=1, repeats=40).p > 0.05
    assert goodness_of_fit(draw("exponential", 2000), xmin=1, repeats=40).p < 0.05
    assert goodness_of_fit(draw("exponential", 2000), "exponential", 1, repeats=40).p > 0.05


def test_own_samples_follow_the_fit():
    for law in ("power", "two_geometric", "lognormal"):
        fit = fit_counts(draw(law, 20_000), law, 1, intervals=False)
        again = fit_counts(fit.sample(20_000, np.random.default_rng(0)).astype(int), law, 1, intervals=False)
        assert again.params == pytest.approx(fit.params, rel=0.1, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "zipf"}, "unknown law 'zipf'.*two_geometric"),
        ({"samples": []}, r"non-empty array"),
        ({"samples": np.ones((3, 3))}, r"shape \(3, 3\)"),
        ({"samples": ["a", "b"]}, "must be numbers"),
        ({"samples": [1.0, np.nan, 2.0]}, "1 nan or infinite"),
        ({"samples": [0, 1, 2, 3]}, "must be > 0: 1 of 4"),
        ({"samples": [1.5, 2.0]}, "not whole numbers.*discrete=False"),
        ({"xmin": 5000}, "beyond the data: the largest sample.*is 9"),
        ({"xmin": 0}, "xmin must be a positive number"),
        ({"xmin": 1.5}, "xmin must be a whole number"),
        ({"xmax": 1}, "xmax = 1 is not above the smallest"),
        ({"samples": [3] * 50}, "cannot be searched among 1 distinct"),
        ({"samples": [3] * 50 + [4], "law": "lognormal"}, "too few distinct values.*at least 3"),
        ({"weights": [1.0]}, "weights must have the samples' shape"),
        ({"weights": np.full(45, -1.0)}, "finite and >= 0"),
    ],
)
def test_bad_input_says_what_and_what_to_do(change, message):
    call = {"samples": np.repeat(np.arange(1, 10), np.arange(9, 0, -1))} | change
    with pytest.raises(ValueError, match=message):
        fit_counts(**call)


def test_a_limit_and_a_small_tail_are_flagged():
    limit = fit_counts(draw("exponential", 5000, seed=1), "shifted_power", 1)
    assert "edge" in limit.flags[0] and limit.ci["exponent"][1] == np.inf
    assert fit_counts(draw("power", 5000), "power_cutoff", 1).ci["cutoff"][1] == np.inf
    assert fit_counts(draw("power", 5000), "shifted_power", 1).ci["scale"][0] == 0.0
    assert any("too few to tell" in f for f in fit_counts(draw("power", 30), "power", 1).flags)


@pytest.mark.parametrize("law", list(PARAMS))
@pytest.mark.parametrize("xmax", [None, 10**18])
def test_values_far_beyond_whole_floats_do_not_break_anything(law, xmax):
    x = np.random.default_rng(0).zipf(1.3, 400)  # up to 10^17
    fit = fit_counts(x, law, 1, xmax=xmax)
    assert np.isfinite(fit.loglik) and 0 <= fit.ks <= 1
    if "power" in law:
        assert fit.params["exponent"] == pytest.approx(1.3, abs=0.05)


def test_bootstrap_wants_whole_weights():
    with pytest.raises(ValueError, match="whole numbers of samples"):
        goodness_of_fit([1, 2, 3, 4], weights=[0.5, 1, 1, 1])
    with pytest.raises(ValueError, match="repeats"):
        goodness_of_fit([1, 2, 3, 4], repeats=0)


def test_results_print_draw_and_serialise():
    import matplotlib

    matplotlib.use("Agg")
    fit = fit_counts(draw("power", 500), "power", 1)
    assert "exponent" in str(fit) and "<table>" in fit._repr_html_()
    back = json.loads(fit.to_json())
    assert back["params"]["exponent"] == fit.params["exponent"] and back["xmax"] == "inf"
    axes = fit.plot()
    assert len(axes.lines) == 2 and len(axes.collections) == 1
    assert fit.predict(np.arange(1, 100_000)).sum() == pytest.approx(500, rel=0.01)
    matplotlib.pyplot.close("all")
