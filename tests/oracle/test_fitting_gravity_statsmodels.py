"""Gravity against statsmodels' Poisson regression with one dummy per label: estimates, masses, deviance, covariance."""

import numpy as np
import pandas as pd
import pytest

from agf_core.fitting import fit_gravity, stream_gravity

sm = pytest.importorskip("statsmodels.api")


def world(seed=0, places=14, pairs=400):
    """Long flows between countries-like places, some zero, with a known exponent."""
    rng = np.random.default_rng(seed)
    o, d = rng.integers(0, places, pairs), rng.integers(0, places, pairs)
    r = rng.uniform(0.5, 8.0, pairs)
    mean = np.exp(0.4 * rng.standard_normal(places))[o] * np.exp(0.6 * rng.standard_normal(places))[d] * 4 * r**-1.3
    return rng.poisson(mean).astype(float), o, d, r


def regression(flow, o, d, columns, groups):
    """statsmodels: log mean = dummies of origins and destinations + columns; cluster-robust, C / (C - 1) correction."""
    design = pd.concat(
        [pd.get_dummies(o, prefix="o"), pd.get_dummies(d, prefix="d", drop_first=True)], axis=1
    ).to_numpy(float)
    design = np.column_stack([design, columns])
    fit = sm.GLM(flow, design, family=sm.families.Poisson()).fit(tol=1e-13, maxiter=200)
    scores = np.zeros((groups.max() + 1, design.shape[1]))
    np.add.at(scores, groups, (flow - fit.mu)[:, None] * design)
    bread = np.linalg.pinv(design.T @ (fit.mu[:, None] * design))
    clusters = len(np.unique(groups))
    covariance = bread @ (scores.T @ scores) @ bread * clusters / (clusters - 1)
    # The same sandwich as statsmodels' own, but for its (n - 1) / (n - k).
    robust = sm.GLM(flow, design, family=sm.families.Poisson()).fit(
        tol=1e-13, maxiter=200, cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    own = np.sqrt(np.diag(robust.cov_params())[-1] * clusters / (clusters - 1))
    assert own == pytest.approx(np.sqrt(covariance[-1, -1]), rel=1e-6)
    return fit, covariance


@pytest.mark.parametrize("law", ["power", "exponential"])
@pytest.mark.parametrize("seed", [0, 1])
def test_long_flows_agree_to_five_decimals(law, seed):
    flow, o, d, r = world(seed)
    column = -np.log(r) if law == "power" else -r
    fit = fit_gravity(flow, o, d, r, law)
    theirs, covariance = regression(flow, o, d, column, o)
    name = "exponent" if law == "power" else "rate"
    assert fit.params[name] == pytest.approx(theirs.params[-1], abs=1e-5)
    assert fit.deviance == pytest.approx(theirs.deviance, abs=1e-5)
    assert np.sqrt(fit.covariance[0, 0]) == pytest.approx(np.sqrt(covariance[-1, -1]), abs=1e-5)
    effects = np.concatenate([[0.0], theirs.params[len(np.unique(o)) : -1]])
    masses = np.log(fit.masses.sort_index().to_numpy())
    np.testing.assert_allclose(masses - masses[0], effects, atol=1e-5)
    null = sm.GLM(flow, np.ones(len(flow)), family=sm.families.Poisson()).fit()
    assert fit.null_deviance == pytest.approx(null.deviance)


def test_dropped_parts_agree():
    flow, o, d, r = world(2)
    fit = fit_gravity(flow, o, d, r)
    full, _ = regression(flow, o, d, -np.log(r), o)
    o_only, _ = regression(flow, o, np.zeros_like(d), -np.log(r), o)
    d_only, _ = regression(flow, np.zeros_like(o), d, -np.log(r), o)
    flat = sm.GLM(
        flow, pd.concat([pd.get_dummies(o), pd.get_dummies(d, drop_first=True)], axis=1).to_numpy(float),
        family=sm.families.Poisson(),
    ).fit()
    for name, other in (("destination", o_only), ("origin", d_only), ("distance", flat)):
        assert fit.shares[name] == pytest.approx((other.deviance - full.deviance) / fit.null_deviance, abs=1e-6)


def test_steps_agree():
    flow, o, d, r = world(3)
    edges = [0.5, 1.0, 2.0, 4.0, 8.0]
    fit = fit_gravity(flow, o, d, r, "steps", edges=edges)
    step = np.digitize(r, edges) - 1
    columns = (np.arange(1, 4)[None] == step[:, None]).astype(float)
    theirs, covariance = regression(flow, o, d, columns, o)
    np.testing.assert_allclose(list(fit.params.values()), theirs.params[-3:], atol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), np.sqrt(np.diag(covariance)[-3:]), atol=1e-5)


def test_shifted_power_agrees_at_its_own_scale():
    flow, o, d, r = world(4, pairs=2000)
    near_zero = r - 0.4  # so that r^-1.3 is a shifted power of scale 0.4
    fit = fit_gravity(flow, o, d, near_zero, "shifted_power")
    assert fit.ok and fit.ci["scale"][0] < 0.4 < fit.ci["scale"][1]
    column = -np.log1p(near_zero / fit.params["scale"])
    theirs, _ = regression(flow, o, d, column, o)
    assert fit.params["exponent"] == pytest.approx(theirs.params[-1], abs=1e-5)
    assert fit.deviance == pytest.approx(theirs.deviance, abs=1e-5)
    for factor in (0.98, 1.02):  # and no other scale does better
        near, _ = regression(flow, o, d, -np.log1p(near_zero / (factor * fit.params["scale"])), o)
        assert near.deviance >= fit.deviance


def attention(texts=3, n=14, types=6, seed=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, types, (texts, n))
    r = np.arange(n)[:, None] - np.arange(n)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(r >= 0, -0.9 * np.log(np.maximum(r, 0.5)), -np.inf)
    score = score + 0.5 * rng.standard_normal(types)[labels][:, None] + 0.3 * rng.standard_normal((texts, n, n))
    weights = np.exp(score)
    return weights / weights.sum(-1, keepdims=True), labels, r


def test_blocks_and_streams_agree_with_the_regression():
    flow, labels, r = attention()
    texts, n = labels.shape
    origin = np.arange(texts * n).reshape(texts, n)
    fit = fit_gravity(flow, origin, labels, r)
    keep = np.broadcast_to(r > 0, flow.shape)
    o, d, group = (
        np.broadcast_to(a, flow.shape)[keep]
        for a in (origin[:, :, None], labels[:, None, :], np.arange(texts)[:, None, None])
    )
    theirs, covariance = regression(flow[keep], o, d, -np.log(np.broadcast_to(r, flow.shape)[keep]), group)
    assert fit.params["exponent"] == pytest.approx(theirs.params[-1], abs=1e-5)
    assert fit.deviance == pytest.approx(theirs.deviance, abs=1e-5)
    assert np.sqrt(fit.covariance[0, 0]) == pytest.approx(np.sqrt(covariance[-1, -1]), abs=1e-5)
    streamed = stream_gravity([(np.stack([f, f**2]), label) for f, label in zip(flow, labels)], r)
    assert streamed[0].params == pytest.approx(fit.params, abs=1e-9)
    assert streamed[0].ci["exponent"] == pytest.approx(fit.ci["exponent"], abs=1e-8)
    assert streamed[1].params["exponent"] > fit.params["exponent"]
