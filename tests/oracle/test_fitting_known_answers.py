"""Published answers: Kepler, four series of savings, FSRS's own constants, Gamma populations, averaged exponentials."""

import numpy as np
import pytest
from scipy import integrate, stats

from agf_core.fitting import (
    compare_curves,
    compare_forgetting,
    compare_loss,
    compare_series,
    ebbinghaus,
    fit_curve,
    fit_curves,
    fit_gamma_mixture,
    fit_loss,
    fsrs_retention,
    fsrs_to_shifted_power,
    shifted_power_to_fsrs,
)
from agf_core.fitting.learning import GammaMixture
from agf_core.sources.tables import read_table


def test_kepler_gives_newtons_exponent():
    table = read_table("kepler")
    days = table["period"] * np.where(table["unit"] == "day", 1.0, 365.25)
    fit = fit_curve(table["axis_au"], days, "power")
    slope = -fit.params["exponent"]
    assert slope == pytest.approx(1.49977, abs=2e-5)
    assert fit.r2 == pytest.approx(0.99999998, abs=1e-8)
    theirs = stats.linregress(np.log(table["axis_au"]), np.log(days))
    assert slope == pytest.approx(theirs.slope, abs=1e-9)
    half = stats.t.ppf(0.975, 6) * theirs.stderr
    assert fit.ci["exponent"] == pytest.approx((-slope - half, -slope + half), abs=1e-6)
    # Circular orbits: force ~ axis / period², so it falls as axis to the power 2 · slope - 1.
    assert 2 * slope - 1 == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("series", ["Ebbinghaus", "Mack", "Seitz", "Dros"])
def test_savings_have_the_reference_exponents_and_r2(series):
    table, known = read_table("savings"), read_table("savings_fits").set_index("series").loc[series]
    power = fit_curve(table["minutes"], table[series], "power")
    exponential = fit_curve(table["minutes"], table[series], "exponential")
    assert power.params["exponent"] == pytest.approx(known["exponent"], abs=5.1e-4)
    assert power.r2 == pytest.approx(known["r2_power"], abs=5.1e-3)
    assert exponential.r2 == pytest.approx(known["r2_exponential"], abs=5.1e-3)
    winner = compare_forgetting(table["minutes"], table[series])["law"][0]
    assert winner == ("exponential" if series == "Dros" else "power")


def test_ebbinghaus_formula_passes_through_his_data():
    table = read_table("savings")
    assert np.abs(ebbinghaus(table["minutes"]) - table["Ebbinghaus"]).max() < 0.035
    with pytest.raises(ValueError, match="t > 1"):
        ebbinghaus([0.5])


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.8])
def test_fsrs_is_a_shifted_power(decay):
    t = np.geomspace(0.1, 300, 40)
    recall = fsrs_retention(t, 12.0, decay)
    assert fsrs_retention(12.0, 12.0, decay) == pytest.approx(0.9)
    fit = fit_curve(t, recall, "shifted_power")
    wanted = fsrs_to_shifted_power(12.0, decay)
    assert fit.params == pytest.approx({"amplitude": 1.0, **wanted}, rel=1e-5)
    assert shifted_power_to_fsrs(fit.params["exponent"], fit.params["scale"]) == pytest.approx((12.0, decay), rel=1e-5)
    if decay == 0.5:
        np.testing.assert_allclose(recall, (1 + 19 / 81 * t / 12) ** -0.5)
    with pytest.raises(ValueError, match="> 0"):
        fsrs_to_shifted_power(0.0)
    with pytest.raises(ValueError, match="> 0"):
        shifted_power_to_fsrs(-1.0, 1.0)


@pytest.mark.parametrize(("shape", "theta"), [(0.5, 0.1), (1.5, 0.02), (3.0, 0.05)])
def test_a_gamma_population_of_exponentials_is_exactly_a_shifted_power(shape, theta):
    mixture, t = GammaMixture(shape, theta), np.geomspace(1, 100, 30)
    rate = stats.gamma(shape, scale=theta)
    direct = [integrate.quad(lambda p, s=s: np.exp(-s * rate.ppf(p)), 0, 1, limit=200)[0] for s in t]
    np.testing.assert_allclose(mixture.pooled(t), direct, rtol=1e-5)
    fit = fit_curve(t, mixture.pooled(t), "shifted_power")
    assert fit.params == pytest.approx({"amplitude": 1.0, **mixture.as_shifted_power()}, rel=1e-5)


def test_the_population_predicts_the_pooled_curve():
    rng, t = np.random.default_rng(0), np.arange(1.0, 101)
    rates = GammaMixture(1.5, 0.02).rates(4000, rng)
    found = fit_gamma_mixture(rates)
    shape, _, theta = stats.gamma.fit(rates, floc=0)
    assert (found.shape, found.theta) == pytest.approx((shape, theta), rel=1e-4)
    pooled = np.exp(-rates[:, None] * t).mean(0)
    np.testing.assert_allclose(found.pooled(t), pooled, rtol=0.05)
    for wrong in ([1.0, 1.0, 1.0], [1.0, 2.0], [1.0, -1.0, 2.0]):
        with pytest.raises(ValueError, match=r"rates|spread"):
            fit_gamma_mixture(wrong)
    with pytest.raises(ValueError, match="shape > 0"):
        GammaMixture(0.0, 1.0)


def test_averaging_manufactures_a_power_law_and_fitting_first_is_not_fooled():
    """Exponentials of spread rates: the mean curve is called a power law, the single curves exponentials."""
    rng, x = np.random.default_rng(1), np.arange(1.0, 101)
    rates = rng.gamma(0.8, 0.5, 200)
    series = np.exp(-rates[:, None] * x + 0.1 * rng.standard_normal((200, 100)))
    pooled = compare_curves(x, series.mean(0), ["power", "exponential", "shifted_power"]).set_index("law")
    assert pooled.loc["power", "aicc"] < pooled.loc["exponential", "aicc"] - 50
    assert pooled["aicc"].idxmin() == "shifted_power"
    single = compare_series(x, series, ["power", "exponential"])
    share = single[single["best"]]["law"].value_counts(normalize=True)
    assert share["exponential"] > 0.98
    fits = fit_curves(x, series, "exponential")
    assert np.median(np.abs(fits.params["rate"] - rates)) < 0.001


def test_loss_curves_have_the_planted_exponent_and_asymptote():
    tokens = np.geomspace(1e6, 1e9, 40)
    known = read_table("scaling_laws").set_index("fit").loc["Besiroglu"]
    loss = known["E"] + known["B"] / tokens ** known["beta"]
    noisy = loss + 0.005 * np.random.default_rng(0).standard_normal(40)
    fit = fit_loss(tokens, noisy)
    for name, value in (("exponent", known["beta"]), ("asymptote", known["E"])):
        assert fit.ci[name][0] < value < fit.ci[name][1]
    assert np.diff(fit.ci["exponent"])[0] < 0.1
    table = compare_loss(tokens, noisy).set_index("law")
    assert table.loc["power", "delta"] < 6 and table.loc["exponential", "delta"] > 20
