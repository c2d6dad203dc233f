"""The specification curve: known heads give known exponents, and variance goes to the choice that makes it."""

import time

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from agf_core.analysis import specifications as sp

R = np.arange(0.0, 65.0)


def heads(k, scale=None):
    """Weights (L, H, 65) of power laws of exponents k (L, H), or shifted ones."""
    k = np.asarray(k)[..., None]
    x = np.maximum(R, 0.5) if scale is None else 1 + R / scale
    return x**-k / 100


def measured(k, **options):
    w = heads(k, **options)
    return {(i, q): (w, np.log(w)) for i in ("text", "random tokens") for q in ("whole window", "careless")}


def test_one_planted_power_law_is_found_by_every_specification():
    found = sp.curve(measured(np.full((2, 3), 0.8)), np.ones((2, 3), bool))
    assert len(found) >= 200 and not found.duplicated(list(sp.FACTORS)).any()
    np.testing.assert_allclose(found["exponent"], 0.8, atol=0.002)
    assert (found["used"] == 6).all()


def test_pooling_the_mean_weight_flattens_and_the_mean_log_does_not():
    k = np.array([[0.2, 0.6, 1.0, 2.0]])
    found = sp.curve(measured(k), np.array([[True, True, False, False]]))
    by = found[found["heads"] == "all"].pivot_table("exponent", "averaging", "estimator")
    assert by.loc[sp.AVERAGING[2], "log–log line"] == pytest.approx(k.mean())
    assert by.loc[sp.AVERAGING[0], "log–log line"] == pytest.approx(np.median(k))
    assert by.loc[sp.AVERAGING[1], "log–log line"] < k.mean()
    able = found[(found["heads"] == "eligible") & (found["averaging"] == sp.AVERAGING[2])]
    np.testing.assert_allclose(able["exponent"], 0.4, atol=0.005)
    assert (able["used"] == 2).all()


def test_selection_leaves_out_heads_that_are_no_line_and_empty_ones_give_nan():
    bend = np.exp(-0.2 * R)[None, None] * np.ones((1, 2, 1))
    flat = {("text", "whole window"): (np.ones((1, 2, 65)), None), ("text", "careless"): (bend, None)}
    found = sp.curve(flat, np.zeros((1, 2), bool))
    assert found[found["heads"] == "eligible"]["exponent"].isna().all()
    straight = found[(found["heads"] == "R² > 0.9") & (found["queries"] == "whole window")]
    assert (straight["used"] == 0).all() and straight["exponent"].isna().all()
    even = found[(found["heads"] == "all") & (found["queries"] == "whole window")]
    np.testing.assert_allclose(even["exponent"], 0.0, atol=1e-9)


def test_a_head_with_no_weight_far_away_is_left_out_not_fatal():
    w = heads([[0.5, 0.5]])
    w[0, 1, 40:] = 0.0
    found = sp.curve({("text", "whole window"): (w, None)}, np.ones((1, 2), bool))
    assert set(found["used"]) == {1, 2} and found["exponent"].notna().all()


def test_shares_sum_to_one_and_follow_the_cause():
    w, other = heads(np.full((1, 4), 0.5)), heads(np.full((1, 4), 1.0))
    by_input = {("text", "whole window"): (w, None), ("random tokens", "whole window"): (other, None)}
    table = sp.attributed(sp.curve(by_input, np.ones((1, 4), bool))).set_index("factor")["share"]
    assert table["input"] > 0.99 and table.sum() == pytest.approx(1.0)
    mixed = sp.attributed(sp.curve(measured(np.array([[0.2, 0.9, 1.5]]), scale=3.0), np.array([[True, False, True]])))
    assert mixed["share"].sum() == pytest.approx(1.0) and (mixed["share"] >= 0).all()
    assert mixed.set_index("factor")["share"][["input", "queries"]].max() < 1e-9


def test_balanced_shares_are_the_analysis_of_variance():
    grid = pd.MultiIndex.from_product([["a", "b", "c"]] * 2 + [["a", "b"]] * 4, names=sp.FACTORS).to_frame(index=False)
    grid["exponent"] = np.random.default_rng(0).standard_normal(len(grid)) + (grid["window"] == "a") * 1.5
    table = anova_lm(smf.ols("exponent ~ " + " + ".join(sp.FACTORS), grid).fit(), typ=2)["sum_sq"]
    found = sp.attributed(grid).set_index("factor")["share"]
    for factor in sp.FACTORS:
        assert found[factor] == pytest.approx(table[factor] / table.sum())
    assert found["interactions"] == pytest.approx(table["Residual"] / table.sum())
    gaps = sp.attributed(grid.assign(exponent=grid["exponent"].where(grid.index % 7 > 0)))
    assert gaps["share"].sum() == pytest.approx(1.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="with L · H = 4 heads"):
        sp.curve({("text", "all"): (heads([[0.5]]), None)}, np.ones((2, 2), bool))
    with pytest.raises(ValueError, match=r"window \(1, 99\) must lie in 1 … 64"):
        sp.curve({("text", "all"): (heads([[0.5]]), None)}, np.ones((1, 1), bool), window=[(1, 99)])
    with pytest.raises(ValueError, match="no variance"):
        sp.attributed(pd.DataFrame({**{f: ["a", "b"] for f in sp.FACTORS}, "exponent": [1.0, 1.0]}))


def test_a_model_of_144_heads_takes_seconds():
    k = np.random.default_rng(0).uniform(0.2, 2, (12, 12))
    start = time.process_time()
    sp.attributed(sp.curve(measured(k, scale=2.0), k > 0.5))
    assert time.process_time() - start < 15
