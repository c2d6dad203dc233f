"""The chapter `encoding_walk`: its grid, attention replaced, estimates and verdicts on fabricated runs, pictures."""

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy import stats

from agf_core import claims
from agf_core.analysis import encoding_walk, grids, jacobian, mixing_checks, mixing_grids, recall_prose, replaced
from agf_core.analysis import filtering_figures as pictures
from agf_core.analysis import filtering_prose as filters
from agf_core.analysis import mixing_figures as draw
from agf_core.analysis import mixing_prose as prose
from agf_core.analysis import mixing_results as of
from agf_core.analysis.mixing_grids import FIELD, FREE_FULL, FULL, MIXINGS
from agf_core.analysis.mixing_results import DIM, QUERIES, RECALL, REST, Results
from agf_core.claims import BY_CONSTRUCTION, INCONCLUSIVE, MIXED, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.evaluation import evaluate
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources import hidden
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.training import TrainConfig, build_model

matplotlib.use("Agg")
LENGTH = 16


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


# The grid


@pytest.mark.parametrize("profile", ["smoke", "cpu", "full"])
def test_the_grid_shares_what_it_can(profile):
    ids = [c.id for c in mixing_grids.encoding_walk(profile)]
    assert len(ids) == len(set(ids))
    own = {c.id for part in encoding_walk.PARTS for c in mixing_grids.GRIDS[part](profile)}
    shared = {c.id for c in grids.accuracy(profile)}
    assert own <= set(ids) and not own & shared
    seeds = {c.train.seed for c in mixing_grids.encoding_walk(profile)}
    assert max(seeds) < 1000 and {c.split for c in mixing_grids.encoding_walk(profile)} == {"test"}
    measured = {c.id for module in (replaced, jacobian) for c in module.configs(profile)}
    assert measured <= set(ids)


def test_what_carries_the_verdict_has_eight_seeds():
    on_bytes = mixing_grids.on_bytes("full", DIM)
    recall = {dim: mixing_grids.on_recall("full", dim) for dim in mixing_grids.DIMS}
    assert set(recall) == {32, 64, 128} == {grid[FULL][0].model["dim"] for grid in recall.values()}
    assert set(recall[128]) == set(MIXINGS) and set(recall[32]) == {FULL, FIELD}
    for grid in (on_bytes, *recall.values()):
        assert {len(grid[name]) for name in (FULL, FIELD)} == {8}
        full, field = grid[FULL][0], grid[FIELD][0]
        assert field.train == full.train and field.model["association"] is False
        assert {**field.model, "association": True} == {"association": True, **full.model}
    assert on_bytes[FREE_FULL][0].model["encoding_options"] == on_bytes["free"][0].model["encoding_options"]
    assert on_bytes[FREE_FULL][0].train == on_bytes["free"][0].train
    assert set(mixing_grids.sizes("full")) == {32, 64, 128} and len(jacobian.configs("full")) == 8


def test_no_mixing_leaves_a_position_with_itself_and_uniform_weighs_all_alike():
    for name, expected in (("none", torch.eye(8)), ("uniform", torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None])):
        model = Transformer(ModelConfig(vocab_size=5, **mixing_grids._model(name, 8, 16)))
        seen = {}
        model(torch.arange(8)[None] % 5, tap=lambda layer, what, t, seen=seen: seen.setdefault(what, t))
        torch.testing.assert_close(seen["weights"][0], expected.expand(4, 8, 8), atol=1e-6, rtol=0)


def test_every_mixing_ignores_the_data():
    for name in MIXINGS:
        model = build_model(ModelConfig(vocab_size=5, **mixing_grids._model(name, 8, 16)), 0)
        seen = []
        for tokens in (torch.arange(8)[None] % 5, torch.zeros(1, 8, dtype=torch.int64)):
            model(tokens, tap=lambda layer, what, t, seen=seen: seen.append(t) if what == "weights" else None)
        same = torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
        assert same == (name != FULL)


# Attention replaced


def a_model(**options):
    """(model, its run's configuration) on a small generated text, its attention sharpened."""
    data = DataConfig(corpus="generated:power:tokens=4000:documents=40")
    body = {"dim": 16, "layers": 2, "heads": 2, "context": LENGTH, **options}
    config = RunConfig(body, data, TrainConfig(LENGTH * 4), heldout=2048)
    model = build_model(config.model_config(load_data(data)), 0).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.mul_(4)
    return model, config


@pytest.mark.parametrize("options", [{"association": False}, {"association": False, "encoding": "nope"}])
def test_attention_that_is_its_field_loses_nothing_when_replaced_by_it(options):
    found = replaced.measure(*a_model(**options))
    own = found.pop("trained")[replaced.EVERY]
    assert set(found) == set(replaced.WAYS) - ({"field"} if "encoding" in options else set())
    for way in found.values():
        assert set(way) == {"0", "1", replaced.EVERY}
        for losses in way.values():
            np.testing.assert_allclose(losses, own, atol=2e-5)


def test_attention_that_looks_at_the_data_changes_when_replaced():
    model, config = a_model()
    found, data = replaced.measure(model, config), load_data(config.data)
    own = found["trained"][replaced.EVERY]
    theirs = evaluate(model, data, "test", LENGTH, 2048)
    np.testing.assert_allclose(own, [theirs["loss"], theirs["recall"][0], theirs["rest"][0]], atol=2e-5)
    for way in replaced.WAYS:
        assert abs(found[way][replaced.EVERY][0] - own[0]) > 1e-4
    with pytest.raises(ValueError, match="unknown way 'median'; choose from field, mean, shuffled"):
        replaced.tap("median", (0,), {})


def test_only_the_layers_that_are_named_are_replaced():
    model, config = a_model()
    tokens = torch.from_numpy(load_data(config.data).heldout("test", LENGTH, 256)[0])
    seen = {}

    def look(put):
        kept = {}

        def tap(layer, name, tensor):
            other = put(layer, name, tensor) if put else None
            if name == "scores":
                kept[layer] = tensor if other is None else other
            return other

        with torch.no_grad():
            model(tokens, tap=tap)
        return kept

    seen = {None: look(None), 1: look(replaced.tap("field", (1,), {}))}
    torch.testing.assert_close(seen[1][0], seen[None][0])
    assert not seen[1][1].any() and seen[None][1].any()


def test_scores_are_dealt_anew_among_the_keys_that_a_query_sees():
    scores = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6)
    found = replaced.shuffled(scores, torch.Generator().manual_seed(0))
    for i in range(6):
        past, future = slice(0, i + 1), slice(i + 1, None)
        torch.testing.assert_close(found[..., i, past].sort(-1).values, scores[..., i, past])
        torch.testing.assert_close(found[..., i, future], scores[..., i, future])
    assert (found[..., 5, :] != scores[..., 5, :]).any()
    draws = torch.stack([replaced.shuffled(scores, torch.Generator().manual_seed(s))[0, 0, 3, 0] for s in range(400)])
    counts = np.array([(draws == scores[0, 0, 3, j]).sum() for j in range(4)])
    assert stats.chisquare(counts).pvalue > 1e-3  # every key is as likely as any other


def test_mean_weights_are_the_mean():
    model, config = a_model()
    tokens = torch.from_numpy(load_data(config.data).heldout("train", LENGTH, 1024)[0])
    every = []
    with torch.no_grad():
        model(tokens, tap=lambda layer, name, t: every.append(t) if name == "weights" else None)
    for layer, mean in replaced.mean_weights(model, tokens, rows=7).items():
        torch.testing.assert_close(mean, every[layer].mean(0))


# Estimates and verdicts on fabricated runs


def fabricated(lost=(6.0, 6.0), share=0.44, seeds=8, profile="full", gain=30.0, learned=1.0, left=(40.0, 15.0, 60.0),
               scatter=0.3, replacing=True, noise=0.0):  # fmt: skip
    """Runs in which the field alone loses `lost` % on recall tokens and on the rest and has `share` of recall."""
    rng, rows, recall, rep, jac = np.random.default_rng(0), [], [], [], []
    chance = [(name, s, 4.0 + 0.1 * s + (noise if name == FIELD else 0.001 * rng.random()))
              for name in mixing_grids.RANDOM_NAMES for s in range(min(seeds, 3))]  # fmt: skip
    over = {FIELD: np.array(lost), "free": np.array([-2.0, -3.0]), FREE_FULL: np.array([-6.0, -6.0]),
            "exponential": np.array([9.0, 8.0]), "pairs": np.array([1.0, 0.0]), "uniform": np.array([gain, gain]),
            "none": np.array([gain + 5, gain + 5])}  # fmt: skip
    for dim in (32, 64, 128):
        for seed in range(seeds):
            recalled, rest = (2.2 - dim / 200 + 0.01 * rng.standard_normal(2)).tolist()
            total = 30 * dim**2
            rows.append((FULL, dim, seed, rest, recalled, rest, total, total))
            for name in over if dim == DIM else (FIELD,):
                factor = 1 + (over[name] + scatter * rng.standard_normal(2)) / 100
                rows.append((name, dim, seed, rest, *(factor * [recalled, rest]), total, total - 4 * dim**2))
    for seed in range(seeds):
        for dim in (32, 64, 128):
            right = learned * (1 - 0.001 * rng.random()) * (1 if dim > 32 or seed % 2 else 0.46)
            recall.append((FULL, dim, seed, right, 0.1, 0.45))
            recall += [(name, dim, seed, min(right, learned * share * (1 + 0.01 * rng.standard_normal())), 1.4, 0.45)
                       for name in ((FIELD, "uniform", "free") if dim == 128 else (FIELD,))]  # fmt: skip
        for way in replaced.WAYS if replacing else ():
            rep += [("agf", DIM, seed, way, layer, 5 + seed, 7.0) for layer in ("1", "2", "all")]
        for net, percent in zip(jacobian.NETS, left):
            u = (percent + 0.3 * rng.standard_normal()) ** 2 / 1e4
            jac += [(net, seed, f"{net} {i}", 0.9 - u, 0.1, u, 0.0, 12.0, 20.0) for i in (1, 2)]
    return Results(
        profile, pd.DataFrame(rows, columns=["name", "dim", "seed", "loss", "recall", "rest", "parameters", "used"]),
        pd.DataFrame(recall, columns=["name", "dim", "seed", "accuracy", "loss", "chance"]),
        pd.DataFrame(chance, columns=["name", "seed", "loss"]),
        pd.DataFrame(rep, columns=["encoding", "dim", "seed", "way", "layer", "recall", "rest"]),
        pd.DataFrame(jac, columns=["net", "seed", "sub", *of.JACOBIAN]), "code abc", frozenset({profile}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def checks():
    return mixing_checks.known_splits(), mixing_checks.speed("smoke"), mixing_checks.precision()


def a_page(checks, here, reference=None, trials=200):
    results = reference or here
    known, speed, error = checks
    return encoding_walk.Page(here, reference, "brown", mixing_checks.worlds(results, trials, 0),
                              mixing_checks.worlds6(results, trials, 0), known, speed, error)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "m5"),
    [
        ({"lost": (0.0, 0.0), "share": 1.0}, SUPPORTED),
        ({"lost": (6.0, 6.0)}, NOT_SUPPORTED),
        ({"lost": (6.0, 0.5)}, MIXED),
        ({"lost": (0.5, 0.5), "share": 0.44}, MIXED),
        ({"lost": (2.0, 0.5), "share": 1.0}, INCONCLUSIVE),
        ({"lost": (0.0, 0.0), "share": 1.0, "seeds": 5}, TOO_SMALL),
        ({"lost": (0.0, 0.0), "share": 1.0, "profile": "smoke"}, TOO_SMALL),
        ({"lost": (0.0, 0.0), "share": 1.0, "gain": 1.0}, TOO_SMALL),  # nobody learned to mix
        ({"lost": (0.0, 0.0), "share": 1.0, "learned": 0.5}, TOO_SMALL),  # nobody learned to recall
        ({"lost": (0.0, 0.0), "share": 1.0, "scatter": 6.0}, TOO_SMALL),  # no power
    ],
)
def test_verdicts_follow_the_estimates(checks, options, m5):
    page = a_page(checks, fabricated(**options))
    evidence = encoding_walk.evidence(page)
    assert set(evidence["effect"]) == set(claims.CLAIMS["M5"].criterion.parts)
    assert claims.report(**evidence).verdict == prose.word(page) == m5
    assert m5 in prose.in_short(page).format(**prose.numbers(page))


@pytest.mark.parametrize(("left", "m6"), [((1.0, 2.0, 3.0), BY_CONSTRUCTION), ((40.0, 1.0, 1.0), NOT_SUPPORTED),
                                          ((1.0, 5.0, 1.0), INCONCLUSIVE)])  # fmt: skip
def test_m6_looks_at_the_net_that_leaves_most(checks, left, m6):
    page = a_page(checks, fabricated(left=left))
    evidence = encoding_walk.evidence6(page)
    assert evidence["effect"] == pytest.approx(max(left), abs=0.4) and evidence["n"] == 8
    assert claims.report(**evidence).verdict == prose.word(page, "M6") == m6


def test_random_tokens_are_a_control():
    assert "nothing to lose where nothing can be gained" in prose.control(fabricated())
    assert "should be read with that in mind" in prose.control(fabricated(noise=0.1))
    runs = mixing_grids.on_random("full")
    assert set(runs) == {FULL, FIELD, "uniform"} and not mixing_grids.on_random("cpu")
    source = hidden.source(runs[FULL][1].data.corpus, runs[FULL][1].data.symbols)
    assert runs[FIELD][1].data == runs[FULL][1].data and len(source.step) == 1  # one state: no memory


def test_untrained_models_support_nothing(checks):
    """As good as each other, since neither knows anything: the rule must not call that redundancy."""
    page = a_page(checks, fabricated(lost=(0.0, 0.0), share=1.0, gain=0.0, learned=0.45))
    assert prose.word(page) == TOO_SMALL and "must gain 4 %" in claims.report(**encoding_walk.evidence(page)).why
    assert "empty" in prose.control(page.deciding)


def test_estimates_are_means_over_pairs_of_seeds():
    results = fabricated()
    own, full = (results.losses.query("name == @name and dim == 64")["recall"].to_numpy() for name in (FIELD, FULL))
    percent = 100 * (own / full - 1)
    low, high = stats.t.interval(0.95, 7, loc=percent.mean(), scale=stats.sem(percent))
    e = of.estimates(results)[RECALL]
    assert (e.value, e.low, e.high) == pytest.approx((percent.mean(), low, high))
    assert of.above_chance(results, FIELD).mean() == pytest.approx((0.44 - 0.45) / 0.55, abs=0.02)
    table = of.recovered(results).set_index(["name", "on"])["value"]
    assert table[FIELD, RECALL] == pytest.approx((30 - 6) / 30, abs=0.02)
    assert abs(table[FIELD, QUERIES]) < 0.05  # what uniform mixing knows, and no more


def test_recall_by_width_says_what_the_models_learned():
    text = recall_prose.wider(fabricated())
    assert "32, where 4 of 8 learn it with association" in text and "128, where 8 of 8" in text
    assert "lacks the 90% that M5 asks at 64 and 128" in text
    assert "may or may not have the 90% that M5 asks at 32" in text
    assert "At 32 the models that did not learn it have nothing to lose" in text
    assert "At those at which all learn it (64 and 128)" in text
    assert "has the 90% that M5 asks at 32, 64 and 128" in recall_prose.wider(fabricated(share=1.0))
    alone = recall_prose.wider(fabricated(seeds=1))
    assert "by width" in alone and "M5" not in alone and "At those" not in alone


def test_slopes_are_those_of_a_line_through_all_runs():
    results = fabricated()
    x = np.log2(results.losses.query("name == @FIELD")["parameters"])
    y = np.concatenate([of.excess(results, FIELD, "rest", dim) for dim in (32, 64, 128)])
    fit = stats.linregress(np.sort(x), y)
    assert of.slopes(results)[REST].value == pytest.approx(fit.slope)
    assert "Between 64 and 128 no difference is seen" in prose.bigger(results)
    for much in (0.5, 2.0):  # clearly less lost at the largest width, or clearly more
        moved = results.losses.copy()
        rows = (moved["dim"] == 128) & (moved["name"] == FIELD)
        full = moved[(moved["dim"] == 128) & (moved["name"] == FULL)].set_index("seed")
        for c in ("recall", "rest"):
            own = moved.loc[rows, "seed"].map(full[c])
            moved.loc[rows, c] = own + much * (moved.loc[rows, c] - own)
        assert "no difference is seen" not in prose.bigger(replace(results, losses=moved))
    two = replace(results, losses=results.losses.query("dim < 100"))
    assert np.isnan(of.slopes(two)[REST].value) and "Too few sizes" in prose.bigger(two)


def test_the_rules_keep_their_promises():
    worlds = mixing_checks.worlds(fabricated(), 400, 0).set_index("world")
    assert worlds.loc[mixing_checks.TRUE, SUPPORTED] > 0.95
    wrong = worlds.drop([mixing_checks.TRUE, mixing_checks.HALF])
    assert wrong[SUPPORTED].max() <= 0.05 and worlds.loc["everywhere: much", NOT_SUPPORTED] > 0.95
    assert worlds.loc["recall of both kinds: much", MIXED] > 0.95
    six = mixing_checks.worlds6(fabricated(), 400, 0).set_index("world")[BY_CONSTRUCTION]
    assert six["1 % in each net"] > 0.95 and six["5 % in one net"] <= 0.05


def nothing(profile="cpu"):
    """Results of a profile in which every run diverged, say."""
    full = fabricated(seeds=1)
    return replace(full, profile=profile, losses=full.losses[:0], recall=full.recall[:0], replaced=full.replaced[:0],
                   jacobians=full.jacobians[:0], failed=("agf, width 64, on bytes, seed 0: loss nan",))  # fmt: skip


PROSE = ("control", "used", "attained", "worth", "bigger", "free_field", "diverged", "lost")
CASES = {
    "reference": lambda: (fabricated(seeds=1, profile="cpu"), fabricated()),
    "same": lambda: (one := fabricated(), one),
    "alone": lambda: (fabricated(seeds=2, profile="cpu"), None),
    "one seed": lambda: (fabricated(seeds=1, profile="smoke", replacing=False), None),
    "nothing": lambda: (nothing(), None),
}


@pytest.mark.parametrize("case", CASES)
def test_pages_are_written_and_drawn(checks, case):
    page = a_page(checks, *CASES[case](), trials=20)
    results = page.deciding
    texts = [prose.in_short(page).format(**prose.numbers(page))]
    texts += [getattr(prose, name)(results) for name in PROSE]
    texts += [recall_prose.queries(results), recall_prose.wider(results)]
    texts += [f(page) for f in (prose.operating, prose.meaning, prose.beside, prose.no_evidence, filters.known_splits,
                                filters.speed)]  # fmt: skip
    texts += [prose.no_evidence(page, "M6"), filters.replacing(page.part("replaced")),
              filters.jacobians(page.part("jacobians"))]  # fmt: skip
    assert all(len(text) > 10 for text in texts)
    assert not [t for t in texts if re.search(r"\bnan\b(?! seed)", t.replace("loss nan", ""))]
    assert {"m5", "m6", "runs"} <= set(prose.numbers(page))
    drawn = []
    if case in ("reference", "nothing"):
        drawn = [draw.operating(page), pictures.known(page), pictures.speed(page)]
    if len(results.losses) and case in ("reference", "one seed"):
        drawn += [draw.mixings(page), draw.sizes(results), draw.queries(results), draw.gap(results)]
        drawn += [draw.widths(results), pictures.jacobians(page.part("jacobians"))]
    if case == "reference":
        drawn.append(pictures.replacements(page.part("replaced")))
    for fig, table in drawn:
        fig.draw_without_rendering()
        assert len(table)
    for evidence in (encoding_walk.evidence(page), encoding_walk.evidence6(page)):
        assert evidence is None or claims.report(**evidence).verdict


def test_the_free_pair_is_compared_with_its_own_full_attention(checks):
    text = prose.free_field(fabricated())
    assert "it beats full attention whose field is a power law" in text and "more than M5 allows" in text
    assert "% below that of AGF" in text and "% above" in text  # no loss is negative
    assert "Exploratory" in text


def test_tables_are_read_from_records():
    config = mixing_grids.on_bytes("smoke", DIM)[FIELD][0]
    about = {"loss": 2.0, "accuracy": 0.4, "recall": [1.0, 10], "rest": [3.0, 20], "positions": [], "targets": 30}
    record = {"id": config.id, "config": config.to_dict(), "status": "ok", "chance": 0.2,
              "parameters": {"total": 1000, "encoding": 8}, "measured": {"128": about},
              "provenance": {"commit": "abc", "device": "x", "started": "2026-11-26", "text": None}}  # fmt: skip
    bad = mixing_grids.on_bytes("smoke", DIM)["uniform"][0]
    failed = {**record, "id": bad.id, "config": bad.to_dict(), "status": "failed", "error": "loss nan by step 3"}
    task = mixing_grids.on_recall("smoke")[FULL][0]
    of_task = {**record, "id": task.id, "config": task.to_dict(), "measured": {"32": about}}
    full = replaced.configs("smoke")[0]
    weights = {"replaced": {full.id: {"trained": {"all": [2.0, 1.0, 3.0]}, "mean": {"0": [2.1, 1.1, 3.3]}}},
               "jacobian": {c.id: {"gru": {"recurrence 1": [0.5, 0.3, 0.2, 0.0, 4.0, 9.0]}}
                            for c in jacobian.configs("smoke")}}  # fmt: skip
    found = of.collect("smoke", {r["id"]: r for r in (record, failed, of_task)}, weights)
    assert found.losses.iloc[0].tolist() == pytest.approx([FIELD, 64, 0, 2 / np.log(2), 1 / np.log(2), 3 / np.log(2),
                                                           1000, 1000 - 4 * 64**2])  # fmt: skip
    assert found.recall.iloc[0][["dim", "accuracy"]].tolist() == [128, 0.4] and "loss nan" in found.failed[0]
    row = found.replaced.iloc[0]
    assert row["layer"] == "1" and row["recall"] == pytest.approx(10) and row["rest"] == pytest.approx(10)
    assert found.jacobians.iloc[0]["unassigned"] == 0.2 and of.percent(found).iloc[0] == pytest.approx(100 * 0.2**0.5)
    assert not found.decides


def test_speed_and_precision(checks):
    _, table, error = checks
    assert set(table["name"]) == {mixing_checks.PLAIN, mixing_checks.BY_SCORES, mixing_checks.BY_FFT}
    fft = table[table["name"] == mixing_checks.BY_FFT]
    assert (fft["low"] <= fft["ratio"]).all() and (fft["ratio"] <= fft["high"]).all()
    assert all(0 < e < 1e-5 for e in error.values())
    made = pd.DataFrame([(n, "forward", name, t) for n in (8, 16, 32) for name, t in
                         ((mixing_checks.BY_FFT, n), (mixing_checks.BY_SCORES, n * n / 12))],
                        columns=["length", "pass", "name", "seconds"])  # fmt: skip
    assert mixing_checks.crossover(made, "forward") == 16
    made.loc[made["length"] == 32, "seconds"] = 1.0
    assert mixing_checks.crossover(made, "forward") is None
