"""Curves: exact recovery, intervals, weights, errors, flags."""

import json

import numpy as np
import pytest

from agf_core.fitting import LAWS, compare_curves, compare_series, fit_curve, fit_curves, score_holdout

X = np.arange(1.0, 101.0)
TRUTH = {
    "power": {"amplitude": 2.0, "exponent": 0.8},
    "shifted_power": {"amplitude": 2.0, "exponent": 1.5, "scale": 8.0},
    "exponential": {"amplitude": 2.0, "rate": 0.03},
    "stretched_exponential": {"amplitude": 2.0, "scale": 20.0, "shape": 0.6},
    "lognormal": {"amplitude": 2.0, "mu": 1.5, "sigma": 1.2},
    "power_cutoff": {"amplitude": 2.0, "exponent": 0.6, "cutoff": 40.0},
    "two_regime": {"amplitude": 2.0, "exponent": 0.5, "exponent2": 1.6, "break_": 15.3},
}


def noisy(law, noise, series=None, seed=0, x=X):
    shape = x.shape if series is None else (series, len(x))
    return LAWS[law].evaluate(x, **TRUTH[law]) * np.exp(noise * np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("asymptote", [0.0, 0.1])
@pytest.mark.parametrize("space", ["log", "linear"])
@pytest.mark.parametrize("law", list(TRUTH))
def test_exact_data_give_back_every_parameter(law, space, asymptote):
    y = LAWS[law].evaluate(X, **TRUTH[law]) + asymptote
    fit = fit_curve(X, y, law, space=space, asymptote=asymptote > 0)
    wanted = {**TRUTH[law], **({"asymptote": asymptote} if asymptote else {})}
    assert fit.params == pytest.approx(wanted, rel=1e-6)
    assert fit.ok and fit.r2 == pytest.approx(1.0)
    np.testing.assert_allclose(fit.predict(X), y, rtol=1e-8)


@pytest.mark.parametrize("law", list(TRUTH))
def test_units_of_x_and_y_change_nothing_but_the_parameters(law):
    y = noisy(law, 0.05)
    one, other = fit_curve(X, y, law), fit_curve(1e-4 * X, 1e6 * y, law)
    np.testing.assert_allclose(other.predict(1e-4 * X), 1e6 * one.predict(X), rtol=1e-6)
    assert other.r2 == pytest.approx(one.r2, abs=1e-9) and other.aicc == pytest.approx(one.aicc, abs=1e-5)


@pytest.mark.parametrize("law", list(TRUTH))
def test_the_true_law_has_the_best_aicc_most_often(law):
    table = compare_series(X, noisy(law, 0.02, series=40))
    assert table[table["best"]]["law"].value_counts()[law] >= 28


def test_comparison_columns_and_order():
    table = compare_curves(X, noisy("exponential", 0.1), ["power", "exponential", "lognormal"])
    assert list(table.columns[:4]) == ["law", "aicc", "delta", "weight"]
    assert table["aicc"].is_monotonic_increasing and table["delta"][0] == 0
    assert table["weight"].sum() == pytest.approx(1)
    assert np.isnan(table.set_index("law").loc["power", "rate"])


def test_batch_equals_one_by_one():
    y = noisy("shifted_power", 0.1, series=5)
    batch = fit_curves(X, y, "shifted_power")
    for i in range(5):
        single = fit_curve(X, y[i], "shifted_power")
        assert batch[i].params == pytest.approx(single.params, rel=1e-5)
        for name in single.ci:
            assert batch[i].ci[name] == pytest.approx(single.ci[name], rel=1e-4)
    assert batch[-1].params == batch[4].params and len(batch) == 5
    assert batch.predict([1.0, 2.0]).shape == (5, 2)
    assert list(batch.to_frame()["exponent"]) == list(batch.params["exponent"])


def test_compare_series_matches_compare_curves():
    y = noisy("power", 0.2, series=3)
    table = compare_series(X, y, ["power", "exponential", "shifted_power"])
    for i, part in table.groupby("series"):
        alone = compare_curves(X, y[i], ["power", "exponential", "shifted_power"]).set_index("law")
        for row in part.itertuples():
            assert row.aicc == pytest.approx(alone.loc[row.law, "aicc"])
        assert part.loc[part["best"], "law"].item() == alone.index[0]


@pytest.mark.parametrize("law", list(TRUTH))
@pytest.mark.parametrize("space", ["log", "linear"])
def test_interval_ends_are_where_the_profile_rises_by_the_quantile(law, space):
    """Refit with each parameter held at its bound by scipy, an optimiser we did not write."""
    from scipy import stats
    from scipy.optimize import least_squares

    y = LAWS[law].evaluate(X, **TRUTH[law]) * np.exp(0.1 * np.random.default_rng(3).standard_normal(X.shape))
    fit = fit_curve(X, y, law, space=space)
    names = list(fit.params)
    free_n = len(X) - len(names)
    allowed = fit.rss * (1 + stats.t.ppf(0.975, free_n) ** 2 / free_n)
    z = np.log if space == "log" else (lambda v: v)
    for name in names:
        if name == "break_":
            continue  # the profile has kinks there, which trap scipy; it is tested by coverage
        for bound in fit.ci[name]:
            others = [n for n in names if n != name]

            def residual(v, name=name, bound=bound, others=others):
                values = dict(zip(others, v, strict=True)) | {name: bound}
                with np.errstate(all="ignore"):
                    curve = LAWS[law].evaluate(X, **values)
                return np.nan_to_num(z(np.maximum(curve, 1e-300)) - z(y), nan=1e6)

            start = [fit.params[n] for n in others]
            held = least_squares(residual, start, x_scale=np.abs(start), xtol=1e-14, ftol=1e-14, gtol=1e-14)
            assert 2 * held.cost >= allowed * (1 - 2e-3)
            assert 2 * held.cost <= allowed * (1 + (0.05 if law == "two_regime" else 2e-3))


def test_weights_follow_sigma():
    y = noisy("power", 0.1)
    y[::2] *= 3.0  # half of the points are off, and said to be
    sigma = np.where(np.arange(100) % 2 == 0, 1e4, 0.1) * y
    assert fit_curve(X, y, "power", sigma).params["exponent"] == pytest.approx(0.8, abs=0.05)
    halves = fit_curve(X[1::2], y[1::2], "power")
    assert fit_curve(X, y, "power", sigma).params["exponent"] == pytest.approx(halves.params["exponent"], abs=1e-5)


def test_absolute_sigma_sets_the_width():
    y = noisy("power", 0.1)
    width = {}
    for scale in (0.1, 0.2):
        fit = fit_curve(X, y, "power", scale * y, absolute_sigma=True)
        width[scale] = np.diff(fit.ci["exponent"])[0]
    assert width[0.2] == pytest.approx(2 * width[0.1], rel=1e-3)
    relative = [np.diff(fit_curve(X, y, "power", s * y).ci["exponent"])[0] for s in (0.1, 0.2)]
    assert relative[0] == pytest.approx(relative[1])


def test_open_intervals_are_infinite_not_invented():
    # A pure power law holds no information about the scale of a shifted one, but for an upper bound.
    fit = fit_curve(X, noisy("power", 0.1), "shifted_power")
    assert fit.ci["scale"][0] == 0.0 and np.isfinite(fit.ci["scale"][1])
    assert fit_curve(X, noisy("power", 0.02), "power_cutoff").ci["cutoff"][1] == np.inf


def test_growth_has_a_negative_exponent():
    assert fit_curve(X, 3 * X**1.5, "power").params["exponent"] == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "gravity"}, "unknown law 'gravity'.*shifted_power"),
        ({"space": "loglog"}, "unknown space 'loglog'.*linear"),
        ({"y": np.ones((2, 100))}, r"shape \(n,\), not \(2, 100\)"),
        ({"x": X[:50]}, r"\(50,\) and \(100,\)"),
        ({"y": np.where(X == 3, np.nan, 1 / X)}, "1 of 100 values that are nan"),
        ({"y": np.where(X == 3, 0, 1 / X)}, "1 of 100 values <= 0.*linear"),
        ({"x": np.where(X == 3, np.inf, X)}, "x has 1 nan or infinite"),
        ({"x": X - 1}, "needs x > 0"),
        ({"x": X - 2, "law": "exponential"}, "needs x >= 0"),
        ({"x": X[:2], "y": 1 / X[:2]}, "too few points.*needs at least 3"),
        ({"x": np.ones(100)}, "too few points.*got 1"),
        ({"sigma": 0.0}, "sigma must be finite and > 0"),
    ],
)
def test_bad_input_says_what_and_what_to_do(change, message):
    call = {"x": X, "y": 1 / X, "law": "power"} | change
    with pytest.raises(ValueError, match=message):
        fit_curve(**call)


def test_unknown_law_in_a_comparison_lists_the_choices():
    with pytest.raises(ValueError, match=r"unknown law 'newton'.*two_regime"):
        compare_curves(X, 1 / X, ["power", "newton"])


@pytest.mark.parametrize("law", list(TRUTH))
def test_constant_series_is_flagged_and_does_not_decay(law):
    fit = fit_curve(X, np.full(100, 0.3), law)
    assert not fit.ok and "constant" in fit.flags[0] and np.isnan(fit.r2) and np.isnan(fit.aicc)
    assert all(fit.params[n] == 0 for n in ("exponent", "rate") if n in fit.params)


def test_one_bad_series_leaves_the_others_alone():
    y = noisy("power", 0.1, series=3)
    y[1, 5] = 0.0
    fits = fit_curves(X, y, "power")
    assert "values <= 0" in fits.flags[1][0] and np.isnan(fits.params["exponent"][1]) and np.isnan(fits.aicc[1])
    assert fits[0].ok and fits[0].params == pytest.approx(fit_curve(X, y[0], "power").params)
    assert not compare_series(X, y, ["power", "exponential"]).query("series == 1")["best"].any()


def test_too_few_points_for_aicc_is_flagged_and_ranked_last():
    table = compare_curves(X[:6], noisy("power", 0.1)[:6], ["two_regime", "power"])
    assert table["law"].tolist() == ["power", "two_regime"] and table["aicc"][1] == np.inf
    assert "AICc is not defined" in table["flags"][1] and table["weight"][1] == 0


def test_estimates_at_an_edge_are_flagged():
    fit = fit_curve(X, noisy("exponential", 0.001), "shifted_power")
    assert not fit.ok and "edge" in fit.flags[0]
    grows = fit_curve(X, X**0.5, "lognormal")  # its limit: the amplitude overflows, the curve does not
    assert "edge" in grows.flags[0] and grows.params["amplitude"] == np.inf and json.loads(grows.to_json())
    np.testing.assert_allclose(grows.predict(X), X**0.5, rtol=1e-3)
    assert fit_curve(X, X**0.5, "power_cutoff").params["cutoff"] > 1e6


@pytest.mark.parametrize("law", list(TRUTH))
def test_prediction_is_the_written_law(law):
    fit = fit_curve(X, noisy(law, 0.1), law, asymptote=law == "power")
    written = {k: v for k, v in fit.params.items() if k != "asymptote"}
    by_hand = LAWS[law].evaluate(X, **written) + fit.params.get("asymptote", 0.0)
    np.testing.assert_allclose(fit.predict(X), by_hand, rtol=1e-9)
    assert fit.predict(3.0).shape == () and fit.predict(np.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_constant_series_at_or_below_zero_are_flagged(value):
    for law in TRUTH:
        assert "constant" in fit_curve(X, np.full(100, value), law, space="linear").flags[0]


def test_holdout_prefers_the_law_that_extrapolates():
    y = noisy("exponential", 0.05)
    table = score_holdout(X, y, ["power", "exponential"], train=X <= 50)
    assert table["law"].tolist() == ["exponential", "power"]
    power = fit_curve(X[:50], y[:50], "power")
    error = np.log(power.predict(X[50:])) - np.log(y[50:])
    assert table["rmse"][1] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert table["mean_error"][1] == pytest.approx(error.mean()) and error.mean() > 0
    many = score_holdout(X, np.stack([y, y]), ["power", "exponential"], train=X <= 50)
    assert many.query("series == 1")["rmse"].tolist() == pytest.approx(table["rmse"].tolist())


def test_holdout_checks_the_mask():
    with pytest.raises(ValueError, match="bool mask"):
        score_holdout(X, 1 / X, train=np.arange(50))
    with pytest.raises(ValueError, match="both sides"):
        score_holdout(X, 1 / X, train=np.ones(100, dtype=bool))


def test_results_print_draw_and_serialise():
    import matplotlib

    matplotlib.use("Agg")
    fit = fit_curve(X, noisy("shifted_power", 0.1), "shifted_power")
    assert "exponent" in str(fit) and "<table>" in fit._repr_html_()
    back = json.loads(fit.to_json())
    assert back["params"]["exponent"] == fit.params["exponent"] and back["law"] == "shifted_power"
    axes = fit.plot()
    assert len(axes.lines) == 2 and len(axes.collections) == 1
    low, high = fit.band(X)
    assert (low < fit.predict(X)).all() and (fit.predict(X) < high).all()
    open_fit = fit_curve(X, noisy("power", 0.02), "power_cutoff")
    assert json.loads(open_fit.to_json())["ci"]["cutoff"][1] == "inf"
    matplotlib.pyplot.close("all")


def test_importing_needs_neither_torch_nor_matplotlib():
    import subprocess
    import sys

    code = "import sys, agf_core.fitting; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
