"""The chapter `newton`: least squares against explicit designs, planted heads recovered, the rule, what is drawn."""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy import stats

from agf_core import claims
from agf_core.analysis import newton, newton_maps, newton_worlds, operating
from agf_core.analysis import newton_figures as draw
from agf_core.analysis import newton_prose as prose
from agf_core.analysis.gravity_sums import GravitySums, _icc, _Solver
from agf_core.analysis.observe import Seen
from agf_core.analysis.operating import characteristics
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.split import Split
from agf_core.analysis.windows import Window, kinds
from agf_core.claims import NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.model import ModelConfig, Transformer
from agf_core.sources import generate

matplotlib.use("Agg")
WINDOW, LENGTH, KINDS = 6, 24, 5


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def seen(causal=True, sequences=8, heads=2, groups=4, seed=0, layer=0):
    """Random logits on random tokens: nothing is planted."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(KINDS + 2, (sequences, LENGTH), generator=g)
    logits = torch.randn(sequences, heads, LENGTH, LENGTH, generator=g)
    key = torch.randn(sequences, heads, LENGTH, 3, generator=g)
    mask = torch.ones(LENGTH, LENGTH).tril().log() if causal else torch.zeros(LENGTH, LENGTH)
    return Seen(layer, logits, logits, torch.softmax(logits + mask, -1), key, key, tokens,
                torch.arange(sequences) * groups // sequences, torch.arange(sequences),
                torch.ones(sequences, LENGTH, dtype=torch.bool), causal)  # fmt: skip


def rows(one, causal, head=0, of=None):
    """Every pair that counts: query, type, signed distance, logit."""
    out, low, high = [], *Window(WINDOW).rows(LENGTH, causal)
    kind = kinds(torch.arange(KINDS), one.tokens).numpy()
    for b in range(len(one.tokens)) if of is None else of:
        for i in range(low, high):
            for j in range(i - WINDOW, i + (0 if causal else WINDOW) + 1):
                if i != j:
                    out.append((b * LENGTH + i, kind[b, j], i - j, float(one.logits[b, head, i, j])))
    return pd.DataFrame(out, columns=["query", "type", "r", "y"])


def demeaned(table, columns):
    """Columns and y with each query's mean taken out: its effect is free."""
    frame = pd.DataFrame(np.asarray(columns, float)).assign(y=table["y"].to_numpy())
    frame = frame - frame.groupby(table["query"].to_numpy()).transform("mean")
    return frame.drop(columns="y").to_numpy(), frame["y"].to_numpy()


def dummies(values, size):
    return np.eye(size)[np.asarray(values)]


# Least squares


@pytest.mark.parametrize("causal", [True, False])
def test_the_product_form_is_the_split(causal):
    one, other = GravitySums(WINDOW, torch.arange(KINDS)), Split(WINDOW, torch.arange(KINDS))
    for layer in range(2):
        for statistic in (one, other):
            statistic.update(seen(causal, layer=layer, seed=layer) if layer == 0 else replace(seen(causal), layer=1))
    found, theirs = one.result(), other.result(5)
    np.testing.assert_allclose(found.profile, theirs.profile, atol=1e-6)
    np.testing.assert_allclose(found.masses, theirs.masses, atol=1e-6)
    np.testing.assert_allclose(found.distance_alone, theirs.distance_alone, atol=1e-6)
    np.testing.assert_allclose(found.variance, theirs.variance, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_the_exponent_is_that_of_explicit_least_squares(causal):
    one = seen(causal)
    sums = GravitySums(WINDOW, torch.arange(KINDS))
    sums.update(one)
    found = sums.result()
    for head in range(2):
        table = rows(one, causal, head)
        x, y = demeaned(table, np.column_stack([-np.log(table["r"].abs()), dummies(table["type"], KINDS + 1)]))
        assert found.exponent[0, head] == pytest.approx(np.linalg.lstsq(x, y, rcond=None)[0][0], abs=1e-6)
        norm = one.key[:, head].norm(dim=-1).numpy()
        low, high = Window(WINDOW).rows(LENGTH, causal)
        inside = slice(low - WINDOW, high + (0 if causal else WINDOW))
        kind = kinds(torch.arange(KINDS), one.tokens).numpy()[:, inside]
        assert found.norm[0, head, 2] == pytest.approx(norm[:, inside][kind == 2].mean(), rel=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_type_by_distance_is_ridge_regression_and_its_held_out_gain_is_what_the_residuals_say(causal):
    one, ridge = seen(causal), 30.0
    sums = GravitySums(WINDOW, torch.arange(KINDS))
    sums.update(one)
    solver = _Solver(sums)
    train, test = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 1])
    fit = solver.fit(train, "interaction", ridge)
    tables = [rows(one, causal, 1, of) for of in (range(6), range(6, 8))]
    order, bins = {r: i for i, r in enumerate(solver.r)}, solver.bins
    designs = []
    for table in tables:
        at = table["r"].map(order).to_numpy()
        cell = table["type"].to_numpy() * bins + solver.octave[at]
        x = np.column_stack([dummies(at, len(order)), dummies(cell, (KINDS + 1) * bins)])
        designs.append(demeaned(table, x))
    (x, y), (x_test, y_test) = designs
    penalty = np.zeros((x.shape[1], x.shape[1]))
    penalty[len(order) :, len(order) :] = ridge * np.kron(np.eye(KINDS + 1), np.eye(bins) - 1 / bins)
    beta = np.linalg.lstsq(x.T @ x + penalty, x.T @ y, rcond=None)[0]
    ours = np.concatenate([fit[0][0, 1], fit[1][0, 1]])
    np.testing.assert_allclose(x @ ours, x @ beta, atol=1e-5)
    gain = (y_test**2).sum() - ((y_test - x_test @ ours) ** 2).sum()
    assert solver.gain(test, *fit)[0, 1] == pytest.approx(gain, rel=1e-5)


def test_a_group_without_queries_changes_nothing():
    one = seen()
    sums, other = GravitySums(WINDOW, torch.arange(KINDS)), GravitySums(WINDOW, torch.arange(KINDS))
    sums.update(one)
    other.update(replace(one, groups=2 * one.groups))
    np.testing.assert_allclose(sums.result().low, other.result().low)


def test_sums_over_tokens_may_be_those_of_another():
    one, other = GravitySums(WINDOW, torch.arange(KINDS)), GravitySums(WINDOW, torch.arange(KINDS))
    one.update(seen())
    other.update(replace(seen(), logits=seen(seed=1).logits))
    shared = GravitySums(WINDOW, torch.arange(KINDS), design=one)
    shared.update(replace(seen(), logits=seen(seed=1).logits))
    for name in ("exponent", "low", "masses", "norm"):
        np.testing.assert_array_equal(getattr(shared.result(), name), getattr(other.result(), name))


def test_reliability_is_the_intraclass_correlation():
    a, b = np.random.default_rng(0).normal(size=(2, 30)) + np.random.default_rng(1).normal(size=30)
    x = np.stack([a, b], 1)  # two-way analysis of variance: types, halves, rest
    rest = x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()
    types, error = 2 * x.mean(1).var(ddof=1), (rest**2).sum() / (len(x) - 1)
    assert _icc(a, b) == pytest.approx((types - error) / (types + error))
    assert _icc(a, a + 3) == pytest.approx(1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="window ≥ 2"):
        GravitySums(1, 5)
    sums = GravitySums(WINDOW, torch.arange(KINDS))
    sums.update(replace(seen(), keep=torch.zeros(8, LENGTH, dtype=torch.bool)))
    with pytest.raises(ValueError, match="no query"):
        sums.result()


# Planted heads


@pytest.fixture(scope="module")
def text():
    """Tokens, keep and groups of a text with a few common types and many others."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(np.minimum(rng.zipf(1.4, (32, 96)), 60))
    return tokens, torch.ones_like(tokens, dtype=torch.bool), torch.arange(32) // 4


def planted_pools(text, causal=True, types=12):
    tokens, keep, groups = text
    ids = torch.arange(1, types + 1)
    like = newton_worlds._pool(newton_worlds.TRUE, ids, *text, causal, 12, 1.0, 0.2, 0.6, 9).found
    return like, newton_worlds.pools(like, 0.2, tokens, keep, groups, causal, 12, 0)


@pytest.fixture(scope="module")
def worlds(text):
    return planted_pools(text)


@pytest.mark.parametrize("causal", [True, False])
def test_planted_exponents_and_masses_are_recovered(text, causal):
    _, pools = planted_pools(text, causal)
    table = newton_worlds.recovered(pools)
    right = table[table["world"].isin((newton_worlds.TRUE, newton_worlds.ONE, newton_worlds.SPREAD))]
    covered = (right["low"] <= right["planted"]) & (right["planted"] <= right["high"])
    assert covered.mean() > 0.85
    np.testing.assert_allclose(right["exponent"], right["planted"], atol=0.1)
    assert right["mass"].min() > 0.85
    assert pools[newton_worlds.TRUE].found.eligible.all()


def test_the_rule_tells_the_worlds_apart(worlds):
    like, pools = worlds
    like = replace(like, distance_alone=np.ones((6, 6)))  # as many layers as a small encoder has
    table = characteristics("A6", newton_worlds.draws(pools, like, newton.estimates), 60).set_index("world")[SUPPORTED]
    assert table[newton_worlds.TRUE] >= operating.POWER
    assert table.drop(newton_worlds.TRUE).max() <= operating.FALSE
    assert newton.powerless(table.reset_index()) == ""
    assert "80%" in newton.powerless(table.mul(0).reset_index())


def test_each_part_sees_what_it_is_for(worlds):
    _, pools = worlds
    found = {w: newton.estimates(p.found) for w, p in pools.items()}
    true = found[newton_worlds.TRUE]
    assert 1.75 < true["exponent"].low < 2 < true["exponent"].high < 2.25
    assert true["heads with 2 inside"].value > 0.8 > found[newton_worlds.SPREAD]["heads with 2 inside"].value
    assert found[newton_worlds.ONE]["exponent"].high < 1.75
    assert true["mass ICC"].low > 0.8 > found[newton_worlds.UNSTABLE]["mass ICC"].high
    assert true["product form"].low > 0.9 > found[newton_worlds.MIXED_UP]["product form"].high


def test_the_share_of_single_occurrences_is_recovered(text):
    tokens = text[0]
    g, n = torch.Generator().manual_seed(1), tokens.shape[1]
    for share in (0.0, 0.4):
        logits = share**0.5 * torch.randn(32, 1, 1, n, generator=g) + (1 - share) ** 0.5 * torch.randn(
            32, 1, n, n, generator=g
        )
        logits = logits - 2 * (torch.arange(n)[:, None] - torch.arange(n)).abs().clamp_min(1).log()
        sums = GravitySums(12, torch.arange(1, 13))
        weights = torch.softmax(logits, -1)
        empty = torch.empty(0)
        sums.update(Seen(0, logits, logits, weights, empty, torch.zeros(32, 1, n, 1), *text[:1], text[2],
                         torch.arange(32), text[1], False))  # fmt: skip
        found = newton_maps.at_occurrences(weights[None], tokens, sums.result(), Window(12), False)
        assert found == pytest.approx(share, abs=0.06)


def test_poisson_likelihood_finds_the_same_exponent_where_the_law_is_a_power(text):
    tokens, keep, _ = text
    n = tokens.shape[1]
    r = (torch.arange(n)[:, None] - torch.arange(n)).clamp_min(1).log()
    mass = torch.randn(100, generator=torch.Generator().manual_seed(2))[tokens[:6]] / 3
    causal = torch.ones(n, n).tril().log()
    logits = torch.stack([mass[:, None] - k * r for k in (1.5, 2.0)], 1) + causal  # (B, 2, N, N)
    ids = tokens.unique()
    sums, logits_seen = GravitySums(12, ids), logits.clamp_min(-50)
    sums.update(Seen(0, logits_seen, logits_seen, torch.empty(0), torch.empty(0), torch.zeros(6, 2, n, 1), tokens[:6],
                     torch.arange(6), torch.arange(6), keep[:6], True))  # fmt: skip
    gravity = sums.result()
    found = newton_maps.poisson(torch.softmax(logits, -1)[None], tokens[:6], keep[:6], gravity, Window(12), True)
    np.testing.assert_allclose(found["poisson"], [1.5, 2.0], atol=1e-4)
    np.testing.assert_allclose(found["exponent"], [1.5, 2.0], atol=1e-4)
    np.testing.assert_allclose(newton.by_window(gravity).query("head == 1")["exponent"], 2.0, atol=1e-4)


# Pooling, relations, what holds by construction


def test_pooled_intervals_take_layers_for_clusters():
    values, layer = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 0, 1, 1, 2, 2])
    e = newton.pooled(values, layer, 0.01)
    low, high = stats.t.interval(0.95, 2, loc=3.5, scale=np.sqrt(stats.sem([1.5, 3.5, 5.5]) ** 2 + 0.01))
    assert (e.value, e.low, e.high) == pytest.approx((3.5, low, high))
    assert np.isnan(newton.pooled(values, np.zeros(6)).low)


def test_masses_that_add_up_do_not_exist(worlds):
    maps = torch.softmax(4 * torch.randn(3, 4, 6, 48, 48, generator=torch.Generator().manual_seed(0)), -1)
    table = newton_maps.superposition(maps, worlds[0], Window(12), True, 0)
    assert (table["together"] < table["apart"]).all() and len(table) > 100
    assert newton_maps.shifted(maps) < 1e-12


def test_what_is_known_of_a_type(worlds):
    gravity = worlds[0]
    tokens = torch.tensor([[1, 2, 1, 2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2]])
    found = newton.properties(gravity, tokens, torch.ones_like(tokens, dtype=torch.bool), None, None)
    assert found.loc[0, "frequency"] == pytest.approx(np.log(4 / 17))
    unigram = 3 / 17  # of type 2, which three times follows a 1, as it does four times in all
    assert found.loc[1, "surprisal"] == pytest.approx(-np.log((2 + 5 * unigram) / (3 + 5)))
    assert (found["kind"] == "").all()
    known = found.assign(kind=np.where(gravity.masses[0, 0, :-1] > 0, "ADJ", "NOUN"))
    table = newton.relations(gravity, known)
    assert table["kind"].iloc[0] > 0.3 and np.isnan(newton.relations(gravity, found)["kind"]).all()
    rho = stats.spearmanr(gravity.masses[0, 0, :-1], found["frequency"]).statistic
    assert table["frequency"].iloc[0] == pytest.approx(rho)


# The page


@pytest.fixture(scope="module")
def page(text):
    """The chapter's own `measure` on a model whose positions are a power law, without any training."""
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=61, dim=16, layers=2, heads=4, context=96, encoding="agf")
    tokens, keep, groups = text
    about = {"name": "some model", "source": "a test", "causal": True, "window": 12, "missing": "", "tokenizer": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newton, "_model", lambda *_: (Transformer(config), Transformer(
            replace(config, encoding="nope")), tokens, keep, groups, None, dict(about)))  # fmt: skip
        patch.setattr(newton, "TRIALS", dict.fromkeys(newton.TRIALS, 20))
        return newton.measure("cpu", window=12)


def test_measure_finds_the_law_that_the_model_has(page):
    assert page.text.eligible[:, 1:].all() and not page.found["untrained"].eligible.any()
    np.testing.assert_allclose(page.text.exponent[0], page.text.exponent[1], atol=0.05)  # both layers start alike
    assert set(page.found) == set(INPUTS)
    evidence = newton.evidence(page)
    assert evidence["n"] == page.text.eligible.sum() and set(evidence["effect"]) == set(
        claims.CLAIMS["A6"].criterion.parts
    )
    assert claims.report(**evidence).verdict == prose.word(page)
    assert page.poisson["exponent"].corr(page.poisson["poisson"]) > 0.9


def fabricated(page, k, profile="cpu"):
    """A page whose eligible heads have exponents near k, or none is eligible (k None)."""
    one = page.text
    if k is None:
        return replace(page, found=dict.fromkeys(INPUTS, replace(one, distance_alone=0 * one.distance_alone)),
                       relations=page.relations[:0], poisson=page.poisson[:0], pulls=page.pulls[:0],
                       trained=page.trained[:0], profile=profile)  # fmt: skip
    ks = k + 0.02 * np.random.default_rng(0).standard_normal((6, 4))
    r2 = {f: np.full((4, 6, 4), x) for f, x in zip(one.r2, (0.3, 0.2, 0.4, 0.49, 0.5))}
    tiled = {n: np.tile(getattr(one, n), (3, 1, 1)) for n in ("profile", "masses", "norm")}
    one = replace(one, exponent=ks, low=ks - 0.1, high=ks + 0.1, draws=np.full((5, 6, 4), k), r2=r2, **tiled,
                  icc=np.full((10, 6, 4), 0.95), distance_alone=np.ones((6, 4)),
                  halves=np.tile(one.halves, (1, 3, 1, 1)))  # fmt: skip
    rows_ = [(w, float(w == newton_worlds.TRUE)) for w in newton_worlds.WORLDS]
    ideal = pd.DataFrame(rows_, columns=["world", SUPPORTED]).assign(**{NOT_SUPPORTED: lambda t: 1 - t[SUPPORTED]})
    return replace(page, found={**page.found, "text": one}, worlds=ideal, profile=profile)


def test_verdicts_follow_the_estimates(page):
    assert prose.word(fabricated(page, 2.0)) == SUPPORTED
    assert prose.word(fabricated(page, 1.0)) == NOT_SUPPORTED
    assert prose.word(fabricated(page, 2.0, "smoke")) == TOO_SMALL
    assert newton.evidence(fabricated(page, None)) is None and prose.word(fabricated(page, None)) == TOO_SMALL
    weak = replace(fabricated(page, 2.0), worlds=fabricated(page, 2.0).worlds.assign(**{SUPPORTED: 0.5}))
    assert prose.word(weak) == TOO_SMALL and claims.report(**newton.evidence(weak)).why


SENTENCES = ("kepler", "calibration", "exponents", "trained", "choices", "masses", "product", "construction", "meaning",
             "no_evidence")  # fmt: skip
FIGURES = ("kepler", "planted", "operating", "exponents", "choices", "masses", "product", "pulls", "summary")


@pytest.mark.parametrize(("k", "profile"), [(2.0, "cpu"), (1.0, "smoke"), (None, "cpu")])
def test_pages_are_written_and_drawn(page, k, profile):
    one = fabricated(page, k, profile)
    short = prose.in_short(one).format(**prose.numbers(one))
    assert prose.word(one) in short
    for name in SENTENCES:
        assert len(getattr(prose, name)(one)) > 20
    for name in FIGURES:
        fig, table = getattr(draw, name)(one)
        fig.draw_without_rendering()
        assert isinstance(table, pd.DataFrame)
        assert len(table) or k is None


def test_one_interval_holds_and_none_hold(page):
    one = fabricated(page, 1.0)
    alone = replace(one.text, high=np.where(np.arange(24).reshape(6, 4) == 3, 2.5, one.text.high))
    text = prose.exponents(replace(one, found={**one.found, "text": alone}))
    assert "1 of their intervals holds 2" in text and "0 exponents lie" in text
    assert "0 of their intervals hold 2" in prose.exponents(one) and "tokens in no order" in text
    assert "in the mean of the heads" in prose.in_short(one) and "not taken apart" in prose.product(one)


def test_kepler_is_first(page):
    assert page.planets[2].value == pytest.approx(2, abs=1e-3)
    assert draw.kepler(page)[1].shape[0] == 8


def test_classes_come_from_the_tags_of_the_text(worlds):
    made = generate("power", tokens=2000, documents=4, seed=0)

    class Tokenizer:
        def convert_ids_to_tokens(self, ids):
            return [made.tokens[i] if i < 10 else "##x" for i in ids]

    tokens = torch.arange(1, 13).repeat(2)[None]
    found = newton.properties(worlds[0], tokens, torch.ones_like(tokens, dtype=torch.bool), made, Tokenizer())
    word = made.tokens[3].lower()
    tags = [tag for w, tag in zip(made.tokens, made.tags) if w.lower() == word]
    assert found.loc[2, "kind"] == max(set(tags), key=tags.count) and found["kind"].iloc[-1] == "piece"
