"""Gravity: planted fields on causal attention, the causal trap, layouts, errors, printing."""

import json

import numpy as np
import pytest

from agf_core.fitting import compare_gravity, fit_gravity, stream_gravity

TEXTS, N, TYPES = 6, 48, 25
R = np.arange(N)[:, None] - np.arange(N)[None]


def causal(log_g, seed=0, noise=0.0):
    """Softmax attention of planted masses and field: (TEXTS, N, N), its key labels (TEXTS, N), the masses."""
    rng = np.random.default_rng(seed)
    labels, mass = rng.integers(0, TYPES, (TEXTS, N)), np.exp(0.7 * rng.standard_normal(TYPES))
    score = np.where(R >= 0, log_g(np.maximum(R, 0.5)), -np.inf) + np.log(mass)[labels][:, None]
    score = score + noise * rng.standard_normal((TEXTS, N, N))
    weights = np.exp(score - score.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True), labels, mass


ORIGIN = np.arange(TEXTS * N).reshape(TEXTS, N)
PLANTED = {
    "power": (lambda r: -1.1 * np.log(r), {"exponent": 1.1}),
    "exponential": (lambda r: -0.08 * r, {"rate": 0.08}),
    "shifted_power": (lambda r: -2.0 * np.log1p(r / 4), {"exponent": 2.0, "scale": 4.0}),
}


@pytest.mark.parametrize("law", list(PLANTED))
def test_planted_fields_and_masses_come_back(law):
    flow, labels, mass = causal(PLANTED[law][0])
    fit = fit_gravity(flow, ORIGIN, labels, R, law)
    assert fit.ok and fit.params == pytest.approx(PLANTED[law][1], rel=1e-5)
    assert fit.deviance_explained == pytest.approx(1.0, abs=1e-8)
    ratio = np.log(fit.masses.sort_index().to_numpy()) - np.log(mass)
    np.testing.assert_allclose(ratio - ratio.mean(), 0, atol=1e-5)
    two = np.array([3.0, 9.0])
    np.testing.assert_allclose(np.diff(fit.log_field(two)), np.diff(PLANTED[law][0](two)), rtol=1e-4)


@pytest.mark.parametrize("law", list(PLANTED))
def test_planted_laws_are_told_apart_on_noisy_causal_attention(law):
    flow, labels, _ = causal(PLANTED[law][0], noise=0.3)
    table = compare_gravity(flow, ORIGIN, labels, R, ["power", "exponential"])
    if law != "shifted_power":
        assert table["law"][0] == law and table["excess"][1] > 0.02
    full = compare_gravity(flow, ORIGIN, labels, R).set_index("law")
    assert full.loc["shifted_power", "excess"] < 0.001  # it contains both
    assert law != "shifted_power" or full.loc["power", "excess"] > 0.005


def test_uniform_causal_attention_has_no_field():
    flow, labels, _ = causal(lambda r: np.zeros_like(r))
    uniform = np.where(R >= 0, 1 / (np.arange(N) + 1)[:, None], 0.0)
    fit = fit_gravity(np.broadcast_to(uniform, flow.shape), ORIGIN, labels, R)
    assert abs(fit.exponent) < 1e-6
    masses_only = fit_gravity(flow, ORIGIN, labels, R)
    assert abs(masses_only.exponent) < 1e-6 and masses_only.shares["distance"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", ["blocks", "matrix", "long"])
def test_the_causal_trap_is_refused(shape):
    """An exponential field and one effect per key position: nothing of the distance is left."""
    flow, labels, _ = causal(PLANTED["exponential"][0])
    positions = np.broadcast_to(np.arange(N), labels.shape)
    i, j = np.nonzero(R > 0)
    call = {
        "blocks": (flow, ORIGIN, positions, R),
        "matrix": (flow[0], np.arange(N), np.arange(N), R),
        "long": (flow[0][i, j], i, j, R[i, j]),
    }[shape]
    with pytest.raises(ValueError, match=r"combination of the origin and destination effects.*token types"):
        fit_gravity(*call, law="exponential")
    unit_steps = np.arange(1.0, N + 1)
    with pytest.raises(ValueError, match="combination"):
        fit_gravity(*call, law="steps", edges=unit_steps)
    # A power law's curvature survives, with little left of it; by type nothing is wrong.
    assert 0 < fit_gravity(*call, law="power").residual_share < 0.6
    assert fit_gravity(flow, ORIGIN, labels, R, "exponential").residual_share > 0.7


def test_all_layouts_give_the_same():
    flow, labels, _ = causal(PLANTED["power"][0], noise=0.5)
    blocks = fit_gravity(flow, ORIGIN, labels, R)
    keep = np.broadcast_to(R > 0, flow.shape)
    o, d, c, r = (
        np.broadcast_to(a, flow.shape)[keep]
        for a in (ORIGIN[:, :, None], labels[:, None, :], np.arange(TEXTS)[:, None, None], R)
    )
    long = fit_gravity(flow[keep], o, d, r, cluster=c)
    streamed = stream_gravity(((f[None], label) for f, label in zip(flow, labels)), R)[0]
    shuffled = fit_gravity(flow, ORIGIN[::-1] + 7, labels, R)
    for other in (long, streamed, shuffled):
        assert other.params == pytest.approx(blocks.params, abs=1e-7)
        assert other.ci["exponent"] == pytest.approx(blocks.ci["exponent"], abs=1e-7)
        assert other.deviance == pytest.approx(blocks.deviance, rel=1e-8)
        assert other.shares == pytest.approx(blocks.shares, abs=1e-7)
        assert (other.pairs, other.clusters) == (blocks.pairs, blocks.clusters)
        np.testing.assert_allclose(other.masses.sort_index(), blocks.masses.sort_index(), rtol=1e-5)
    one = fit_gravity(flow[:1], ORIGIN[:1], labels[:1], R)
    matrix = fit_gravity(flow[0], ORIGIN[0], labels[0], R)
    assert one.params == matrix.params and one.clusters == N - 1


def test_units_and_zero_flows_do_not_matter():
    flow, labels, _ = causal(PLANTED["power"][0], noise=0.5)
    small = fit_gravity(flow * 1e-6, ORIGIN, labels, R)
    assert small.params == pytest.approx(fit_gravity(flow, ORIGIN, labels, R).params, rel=1e-6)
    sparse = np.where(np.random.default_rng(0).random(flow.shape) < 0.3, 0.0, flow)
    sparse[0, 5], labels[0, 7] = 0.0, 999  # a row without flow, and a label that nothing flows to
    sparse[0, :, 7] = 0.0
    fit = fit_gravity(sparse, ORIGIN, labels, R)
    assert fit.ok and fit.masses[999] == 0 and fit.exponent == pytest.approx(1.1, abs=0.15)


def test_pairs_can_be_left_out():
    flow, labels, _ = causal(PLANTED["power"][0])
    broken = flow.copy()
    broken[:, :, :4] = 0.9  # sinks
    include = np.ones((N, N), dtype=bool)
    include[:, :4] = False
    assert fit_gravity(broken, ORIGIN, labels, R, include=include).exponent == pytest.approx(1.1, rel=1e-5)
    assert fit_gravity(broken, ORIGIN, labels, R).exponent != pytest.approx(1.1, abs=0.05)


def test_intervals_cover_the_planted_exponent():
    """Poisson flows, clusters that share nothing: 95 % intervals with t on few clusters."""
    hits = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 8, (12, 16))
        r = np.arange(16)[:, None] - np.arange(16)[None]
        mass = np.exp(0.5 * rng.standard_normal(8))[labels][:, None]
        mean = np.where(r > 0, 20.0 * np.maximum(r, 1) ** -0.8, 0) * mass
        fit = fit_gravity(rng.poisson(mean), np.arange(192).reshape(12, 16), labels, r, parts=False)
        hits.append(fit.ci["exponent"][0] <= 0.8 <= fit.ci["exponent"][1])
    assert 0.90 <= np.mean(hits) <= 0.98


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "newton"}, "unknown law 'newton'.*shifted_power"),
        ({"destination": np.zeros((TEXTS, 3))}, r"blocks \(B, N, M\).*got shapes"),
        ({"distance": R[:5]}, "got shapes"),
        ({"flow": np.full((TEXTS, N, N), -1.0)}, "finite and >= 0"),
        ({"flow": np.full((TEXTS, N, N), np.nan)}, "finite and >= 0"),
        ({"flow": np.zeros((TEXTS, N, N))}, "every flow is zero"),
        ({"distance": np.full((N, N), np.nan)}, "0 pairs take part"),
        ({"include": np.ones((2, 2), dtype=bool)}, "include must be bool"),
        ({"cluster": np.zeros(3)}, "blocks are their own clusters"),
        ({"law": "steps", "edges": [1, 1, 2]}, "3 ascending"),
        ({"law": "steps", "edges": [1, 2, 200, 400]}, r"no pair has a distance in the steps \[200, 400\)"),
        ({"destination": np.full((TEXTS, N), None)}, "labels must not be missing"),
    ],
)
def test_bad_input_says_what_and_what_to_do(change, message):
    flow, labels, _ = causal(PLANTED["power"][0])
    call = {"flow": flow, "origin": ORIGIN, "destination": labels, "distance": R} | change
    with pytest.raises(ValueError, match=message):
        fit_gravity(**call)


def test_streams_check_every_text():
    flow, labels, _ = causal(PLANTED["power"][0])
    with pytest.raises(ValueError, match="text 1: expected flow"):
        stream_gravity([(flow[:1], labels[0]), (flow[0], labels[1])], R)
    with pytest.raises(ValueError, match="text 1 has 2 heads"):
        stream_gravity([(flow[:1], labels[0]), (flow[:2], labels[1])], R)
    with pytest.raises(ValueError, match="at least 2 are needed, got 1"):
        stream_gravity([(flow[:1], labels[0])], R)
    with pytest.raises(ValueError, match="at least 2 clusters"):
        fit_gravity([1.0, 2.0, 3.0], [0, 0, 0], [0, 1, 2], [1.0, 2.0, 3.0])


def test_limiting_laws_are_flagged():
    flow, labels, _ = causal(PLANTED["exponential"][0])
    fit = fit_gravity(flow, ORIGIN, labels, R, "shifted_power")
    assert "edge" in fit.flags[0] and fit.ci["scale"] == (0.0, np.inf)


def test_results_print_draw_and_serialise():
    import matplotlib

    matplotlib.use("Agg")
    flow, labels, _ = causal(PLANTED["shifted_power"][0], noise=0.2)
    for law in ("power", "shifted_power", "exponential", "steps"):
        fit = fit_gravity(flow, ORIGIN, labels, R, law)
        assert next(iter(fit.params)) in str(fit) and "<table>" in fit._repr_html_()
        assert json.loads(fit.to_json())["deviance_explained"] == fit.deviance_explained
        axes = fit.plot()
        assert len(axes.lines) == 2 and len(axes.collections) == 1
    assert np.isnan(fit.exponent) and fit.log_field([1.0])[0] == 0.0
    matplotlib.pyplot.close("all")
