"""Laws on held-out distances: planted laws are called by name, the share's interval covers, claim A3's rule holds."""

import numpy as np
import pytest
from scipy import stats

from agf_core.analysis import law_scores as ls
from agf_core.analysis.operating import characteristics
from agf_core.claims import report

R = np.arange(1.0, 65.0)
KIND = {name: np.full((100, 1), i) for i, name in enumerate(ls.RIVALS)}


def drawn(law, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    clean = ls.planted(KIND[law], 64, rng)
    return clean + ls._noise(100, 64, noise, None, rng)


@pytest.mark.parametrize("law", ls.RIVALS)
def test_without_noise_every_law_is_called_by_name(law):
    found = ls.score(drawn(law)).table
    assert (found["winner"] == law).all() and (found["wins"] == (law == "shifted_power")).all()


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_with_noise_a_power_law_wins_and_the_others_do_not_pass_for_one(noise):
    share = {law: ls.score(drawn(law, noise)).table["wins"].mean() for law in ls.RIVALS}
    assert share["shifted_power"] > 0.75 and share["exponential"] < 0.12 and share["stretched_exponential"] < 0.25


def test_exponential_is_called_exponential_with_noise():
    called = ls.score(drawn("exponential", 0.03)).summary().set_index("winner")["share"]
    assert called["exponential"] > 0.67 and called.sum() == pytest.approx(1.0)


def test_parameters_and_held_out_errors_are_those_of_the_known_curve():
    found = ls.score(np.stack([-1.5 * np.log1p(R / 3), -0.05 * R, -0.9 * np.log(R)])).table
    assert found["exponent"][0] == pytest.approx(1.5) and found["scale"][0] == pytest.approx(3.0)
    middle = np.exp(np.log(R[:32]).mean())
    assert found["steepness"][0] == pytest.approx(1.5 * middle / (middle + 3))
    assert found["rate"][1] == pytest.approx(0.05) and found["power_exponent"][2] == pytest.approx(0.9)
    assert list(found["limit"]) == ["", "exponential", "power"] and found["wins"].tolist() == [True, False, True]
    # Independent: numpy's line through the near half, its error on the far half.
    line = np.polyfit(R[:32], -1.5 * np.log1p(R[:32] / 3), 1)
    error = np.mean((np.polyval(line, R[32:]) + 1.5 * np.log1p(R[32:] / 3)) ** 2)
    assert found["error_exponential"][0] == pytest.approx(error)


def test_levels_change_nothing_and_masked_distances_are_not_read():
    profiles = drawn("shifted_power", 0.03)[:5]
    usable = R % 7 != 0
    broken = np.where(usable, profiles + 3000.0, np.nan)
    one, other = ls.score(profiles, usable=usable).table, ls.score(broken, usable=usable).table
    np.testing.assert_allclose(one["exponent"], other["exponent"], rtol=1e-4)
    np.testing.assert_allclose(one["error_shifted_power"], other["error_shifted_power"], rtol=1e-4)


def test_rising_flat_and_broken_heads_are_scored_and_win_nothing():
    profiles = np.stack([0.8 * np.log(R), np.zeros(64), 0.02 * R, np.full(64, np.nan), -0.8 * np.log1p(R)])
    found = ls.score(profiles, [0, 0, 1, 1, 1], sigma=np.full(64, 0.1))
    assert found.table["winner"].tolist() == ["none"] * 4 + ["shifted_power"]
    assert found.table["head"].tolist() == [0, 1, 0, 1, 2] and np.isinf(found.table["error_exponential"][3])
    assert ls.share(found)["share"].value == pytest.approx(0.2)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"\(S, W\), got \(64,\)"):
        ls.score(R)
    with pytest.raises(ValueError, match=r"got \(1,\), \(2,\) and \(64,\)"):
        ls.score(np.zeros((2, 64)), models=[0])
    with pytest.raises(ValueError, match="got 4 and 4 of 8"):
        ls.score(np.zeros((2, 8)))
    with pytest.raises(ValueError, match="hits ≤ of"):
        ls.clustered([3], [2])


@pytest.mark.parametrize(("clusters", "likeness"), [(8, 0.0), (8, 0.3), (8, 0.8), (4, 0.3)])
@pytest.mark.parametrize("truth", [0.5, 0.67, 0.9])
def test_interval_of_a_share_covers(clusters, likeness, truth):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        size = 1 / likeness - 1 if likeness else 1e6
        hits = rng.binomial(8, rng.beta(truth * size, (1 - truth) * size, clusters))
        found = ls.clustered(hits, np.full(clusters, 8))
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) > 0.88


def test_interval_of_a_share_neither_collapses_nor_forgets_the_clusters():
    agreed = ls.clustered([8] * 8, [8] * 8)
    assert agreed.value == agreed.high == 1.0 and 0.6 < agreed.low < 0.9
    split, mixed = ls.clustered([8, 0] * 4, [8] * 8), ls.clustered([4] * 8, [8] * 8)
    exact = stats.binomtest(32, 64).proportion_ci()
    assert split.high - split.low > 1.5 * (mixed.high - mixed.low)
    assert mixed.high - mixed.low > 0.9 * (exact.high - exact.low)
    nothing = ls.clustered([0, 0], [0, 0])
    assert (nothing.value, nothing.low, nothing.high) == (0.5, 0.0, 1.0)


def test_estimates_are_what_the_claim_asks_for():
    profiles = np.concatenate([drawn("shifted_power", 0.01)[:32], drawn("exponential", 0.01)[:32]])
    eligible = np.arange(64) < 40
    scores = ls.score(profiles, np.arange(64) % 8, eligible)
    found = ls.share(scores)
    effect, ci = {k: e.value for k, e in found.items()}, {k: (e.low, e.high) for k, e in found.items()}
    verdict = report("A3", effect, ci, 8, "share")
    assert verdict.verdict == "supported" and found["eligible"].value == 40 / 64
    none = ls.share(ls.score(profiles, np.arange(64) % 8, np.zeros(64, bool)))
    assert none["share"].value == 0.5 and none["eligible"].value == 0.0


def test_the_rule_is_right_in_worlds_of_known_truth():
    said = characteristics("A3", ls.worlds(pool=30), trials=60).set_index("world")
    assert said["supported"]["power"] >= 0.8 and said["mixed"]["few eligible"] >= 0.95
    assert said["supported"].drop("power").max() <= 0.05


def test_residuals_of_measured_profiles_can_be_the_noise():
    noisy = drawn("shifted_power", 0.05)
    rest = ls.residuals(noisy)
    assert rest.shape == noisy.shape and 0.03 < rest.std() < 0.05
    assert set(ls.worlds(residuals=rest, pool=8)) == set(ls.worlds(pool=8))
    with pytest.raises(ValueError, match=r"\(S, 32\), got \(100, 64\)"):
        ls.worlds(residuals=rest, window=32)


def test_an_exponential_that_nothing_wins_from_is_a_tie_and_one_that_wins_is_not():
    found = ls.score(np.stack([-0.05 * R, -0.9 * np.log(R)])).table
    assert found["winner"][0] == "exponential" and found["tie"].tolist() == [True, False]  # a limit of both rivals
    noisy = ls.score(drawn("exponential", 0.03)).table
    kept = noisy["winner"] == "exponential"
    rivals = noisy[["error_shifted_power", "error_stretched_exponential"]].min(axis=1)
    wins = noisy["error_exponential"] < (1 - ls.MARGIN) * rivals
    assert (noisy["tie"] == (kept & ~wins)).all() and noisy["tie"].any()


def test_the_usual_share_is_the_median_of_the_same_draws():
    draw = ls.worlds(pool=10)["power"]
    rng = np.random.default_rng(3)
    assert ls.usual_share(draw, 20, 3) == np.median([draw(rng)[0]["share"] for _ in range(20)])
