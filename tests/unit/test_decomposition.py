"""The chapter `decomposition` on heads whose shares we chose: what is averaged, said and drawn; a head put together."""

from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from scipy import stats

from agf_core.analysis import accuracy, accuracy_figures, decomposition, field_grids, grids, head_apart, heads
from agf_core.analysis import decomposition_figures as draw
from agf_core.analysis import decomposition_prose as prose
from agf_core.analysis import decomposition_words as words
from agf_core.analysis.decomposition import ABSOLUTE, KINDS, RANDOM, UNIFORM, UNTRAINED, Page
from agf_core.analysis.head_apart import Apart, balance, passage, put_together
from agf_core.analysis.heads import Heads
from agf_core.analysis.split import PARTS, SplitResult
from agf_core.analysis.terms import BY_POSITION, EXACT, TERMS, Terms
from agf_core.claims import TOO_SMALL
from agf_core.figures import Estimate
from agf_core.model import ModelConfig, Transformer
from agf_core.sources import generate

matplotlib.use("Agg")

LAYERS, HEADS, WIDTH = 2, 3, 8


def terms_of(shares, spread=1.0, method=BY_POSITION, layers=LAYERS):
    """The same shares for every head, or as given (layers, heads, 4)."""
    shares = np.broadcast_to(np.asarray(shares, float), (layers, HEADS, 4))
    return Terms(shares, shares - 0.01, shares + 0.01, np.full((layers, HEADS), spread), method, 100, 5)


def split_of(distance=0.3, kind=0.2, varies=True):
    """Every head with these shares; `distance` may be (LAYERS * HEADS,)."""
    layer, head = (a.ravel() for a in np.indices((LAYERS, HEADS)))
    distance = np.broadcast_to(np.asarray(distance, float), layer.shape)
    values = {"distance": distance, "type": distance * 0 + kind, "shared": distance * 0, "rest": 1 - distance - kind}
    rows = [(layer[i], head[i], p, values[p][i], values[p][i] - 0.02, values[p][i] + 0.02) for i in range(len(layer))
            for p in PARTS]  # fmt: skip
    profile = np.tile(-np.log1p(np.arange(1, WIDTH + 1)), (LAYERS, HEADS, 1))
    profile = profile - profile.mean(-1, keepdims=True)
    alone = distance.reshape(LAYERS, HEADS)
    return SplitResult(
        profile, profile, profile, None, np.array([7, 9]), np.tile([0.5, -0.25, 0.0], (LAYERS, HEADS, 1)),
        pd.DataFrame(rows, columns=["layer", "head", "part", "share", "low", "high"]), alone, alone >= 0.1,
        np.full((LAYERS, HEADS), float(varies)), 100, 5,
    )  # fmt: skip


def heads_of(shares=(0.4, 0.2, 0.1, 0.3), distance=0.3, *, exact=None, varies=True):
    found = exact and terms_of(exact, method=EXACT, layers=1)
    return Heads(split_of(distance, varies=varies), terms_of(shares, float(varies)), found)


def measured(configs, *args, **given):
    return {c.id: heads_of(*args, **given) for c in configs}


def results(profile="smoke", shares=(0.4, 0.2, 0.1, 0.3), distance=0.3):
    found = measured(grids.flat(decomposition.models(profile)), shares, distance, exact=(0.41, 0.2, 0.1, 0.29))
    found |= measured(grids.flat(field_grids.stopped(profile)), shares)
    return decomposition.collect(profile, found, {})


def apart_of():
    n = 6
    maps = {name: np.where(np.tri(n, k=-1) > 0, value, np.nan) for name, value in
            (("logit", 1.0), ("effect", 0.2), ("field", 0.5), ("mass", -0.1), ("rest", 0.4))}  # fmt: skip
    return Apart("rotary", 1, 2, list("a self"), **maps, attention=np.tri(n) / n, source="inaugural",
                 shares={"distance": 0.37, "type": 0.11, "shared": 0.02, "rest": 0.5})  # fmt: skip


def runs_of_pairs():
    """Records of A1's runs: decoupling saves some."""
    runs = {}
    about = {"commit": "c", "device": "d", "started": "2026", "text": None}
    for config in decomposition.pairs("smoke"):
        loss = {"learned": 2.2, "rotary": 2.1}.get(config.model["encoding"], 2.0) + 0.01 * config.train.seed
        loss += 0.5 * (config.model.get("association") is False)
        each = {"loss": loss, "accuracy": 0.5, "targets": 10, "positions": [[0, loss]], "beyond": None}
        runs[config.id] = {
            "id": config.id, "config": config.to_dict(), "status": "ok", "provenance": about, "chance": 0, "epochs": 1,
            "measured": {str(m * int(config.model["context"])): each for m in config.lengths},
            "parameters": {"total": 1, "encoding": 0},
        }  # fmt: skip
    return runs


@pytest.fixture(autouse=True)
def no_reference_runs(monkeypatch):
    """What is stored with the library must not decide what these tests see."""
    for module in (grids, accuracy):
        monkeypatch.setattr(module, "reference_runs", dict)
    grids.tuned.cache_clear()
    yield
    grids.tuned.cache_clear()
    pyplot.close("all")


def page(here=None, reference=None, *, pretrained=True, missing=""):
    here = here or results()
    flat = Heads(split_of(0.0, varies=False), terms_of(np.nan, 0.0), None)
    elsewhere = {"text": heads_of(exact=(0.4, 0.2, 0.1, 0.3)), RANDOM: heads_of(), UNTRAINED: heads_of()}
    pairs = accuracy.Page(accuracy.collect("smoke", runs_of_pairs()), None, grids.CORPUS)
    return Page(here, reference, [heads_of((0.25, 0.25, 0.25, 0.25))], {RANDOM: [heads_of()], UNIFORM: [flat]},
                elsewhere if pretrained else {}, "some-model", missing, apart_of(), pairs)  # fmt: skip


# What is averaged


def test_shares_are_means_over_heads_then_over_models_with_students_interval():
    each = [(0.1, 0.2, 0.3, 0.4), (0.3, 0.2, 0.1, 0.4), (0.5, 0.2, 0.0, 0.3)]
    found = decomposition.shares([heads_of(s) for s in each])
    x = np.array(each)[:, 0]
    low, high = stats.t.interval(0.95, 2, loc=x.mean(), scale=stats.sem(x))
    e = found["what·what"]
    assert (e.value, e.low, e.high) == pytest.approx((0.3, low, high))
    assert found["cross"].value == pytest.approx(np.mean([0.5, 0.3, 0.2]))


def test_a_single_model_has_an_interval_over_its_heads():
    one = heads_of(np.random.default_rng(0).normal(0.25, 0.05, (LAYERS, HEADS, 4)))
    e = decomposition.shares([one], 1)["where·where"]
    low, high = stats.t.interval(0.95, HEADS - 1, loc=e.value, scale=stats.sem(one.terms.shares[1, :, 3]))
    assert (e.low, e.high) == pytest.approx((low, high))
    assert decomposition.shares([one], exact=True)["cross"].value != decomposition.shares([one])["cross"].value  # NaN


def test_heads_without_scores_that_vary_do_not_count():
    half = np.full((LAYERS, HEADS, 4), np.nan)
    half[0] = (0.4, 0.2, 0.1, 0.3)
    assert decomposition.shares([heads_of(half), heads_of()])["what·what"].value == pytest.approx(0.4)
    assert np.isnan(decomposition.shares([heads_of(np.full((LAYERS, HEADS, 4), np.nan))])["cross"].value)


def test_parts_of_the_split():
    found = decomposition.parts([heads_of(distance=0.2), heads_of(distance=0.4)])
    assert {p: e.value for p, e in found.items()} == pytest.approx(
        {"distance": 0.3, "type": 0.2, "shared": 0, "rest": 0.5}
    )
    ramp = np.arange(LAYERS * HEADS) / 10
    assert decomposition.by_part(heads_of(distance=ramp))[:, 0] == pytest.approx(ramp)
    assert decomposition.by_part(heads_of(distance=ramp), "high")[:, 0] == pytest.approx(ramp + 0.02)


# Which runs


def test_a1_is_read_from_runs_of_accuracy_and_the_heads_from_those_of_the_grid():
    for profile in ("smoke", "cpu", "full"):
        asked = {c.id for c in decomposition.pairs(profile)}
        assert asked <= {c.id for c in grids.accuracy(profile)}
        assert {c.id for n in ("learned", "untied", "rotary") for c in grids.bytes_runs(profile)[n]} <= asked
        trained = {c.id for c in field_grids.decomposition(profile)}
        assert {c.id for c in grids.flat(decomposition.models(profile))} <= trained
    assert set(decomposition.models("smoke")) == set(KINDS)


def test_collect_keeps_what_is_measured_and_names_what_diverged():
    configs = decomposition.models("smoke")["rotary"]
    failed = {"status": "failed", "error": "loss nan", "config": configs[1].to_dict(), "provenance": {}}
    found = decomposition.collect("smoke", measured(configs[:1]), {configs[1].id: failed})
    assert list(found.heads) == ["rotary"] and len(found.heads["rotary"]) == 1 and found.stopped == {}
    assert found.failed == ("rotary, seed 1: loss nan",) and found.seeds == 0


def test_reference_runs_are_shown_where_they_are_and_the_run_here_where_not():
    here, stored = results(shares=(0.7, 0.1, 0.1, 0.1)), results("full")
    stored = replace(stored, heads={k: v for k, v in stored.heads.items() if k != "t5"}, stopped={})
    one = page(here, stored)
    assert one.of("rotary") == stored.heads["rotary"] and one.of("t5") == here.heads["t5"]
    assert set(one.stopped) == {0, *here.stopped} and not one.same
    assert page(here, here).same and page(here).of("agf") == here.heads["agf"]


def test_a_claim_without_reference_runs_has_the_seeds_of_its_pairs():
    """`accuracy` counts those of all encodings of A2 too, which are not trained here."""
    found = decomposition.evidence(page())
    assert found["n"] == 2 and found["effect"] == pytest.approx({"learned → untied": 9, "rotary → table": 4.7}, abs=0.5)
    all_of = page().pairs.here
    lost = replace(all_of, tasks={**all_of.tasks, "bytes": all_of.tasks["bytes"].query("name != 'untied'")})
    one = replace(page(), pairs=accuracy.Page(lost, None, "brown"))
    assert decomposition.evidence(one) is None and TOO_SMALL in prose.no_evidence(one)
    assert "learned → untied" in prose.no_evidence(one)


def test_a_model_that_is_not_here_is_said_not_to_be(monkeypatch):
    monkeypatch.setattr(decomposition.pretrained, "missing", lambda model_id: f"{model_id} is not installed")
    assert decomposition.elsewhere("smoke", "brown", 0, "minilm") == ({}, "minilm", "", "minilm is not installed")
    text = prose.in_short(page(pretrained=False, missing="minilm is not installed"))
    assert text.endswith("minilm is not installed.")


def test_look_measures_a_model_that_is_no_run():
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "dim": 16, "layers": 2, "heads": 2, "context": 32}
    tokens, groups = torch.randint(0, 20, (12, 32)), torch.arange(12) % 4
    found = decomposition.look(Transformer(ModelConfig(**sizes, encoding="learned")), tokens, 12, groups)
    assert found.exact is not None and found.terms.shares.shape == (2, 2, 4) and found.split.profile.shape == (2, 2, 12)
    flat = decomposition.look(Transformer(ModelConfig(**sizes, encoding="nope", association=False)), tokens, 12, groups)
    assert np.isnan(flat.terms.shares).all() and (flat.split.variance == 0).all()
    with pytest.raises(ValueError, match="no query with a window of 40"):
        decomposition.look(Transformer(ModelConfig(**sizes)), tokens, 40, groups)
    assert Heads.from_dict(found.to_dict()).exact.method == EXACT


# One head taken apart


def test_a_head_is_the_sum_of_its_parts():
    split, n = split_of(), 20
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.choice([7, 9, 3], n))
    distance = np.arange(n)[:, None] - np.arange(n)
    field = split.profile[1, 2][np.clip(distance - 1, 0, WIDTH - 1)]
    mass = np.array([{7: 0.5, 9: -0.25, 3: 0.0}[t] for t in tokens.tolist()])
    planted = rng.normal(size=(n, 1))  # a query's effect
    cut = put_together(split, 1, 2, planted + field + mass + np.zeros((n, n)), tokens)
    inside = (distance >= 1) & (distance <= WIDTH)
    assert (np.isfinite(cut["logit"]) == inside).all()
    assert cut["rest"][inside] == pytest.approx(0, abs=1e-12)
    assert cut["effect"][inside] == pytest.approx(np.broadcast_to(planted, (n, n))[inside])
    whole = cut["effect"] + cut["field"] + cut["mass"] + cut["rest"]
    assert whole[inside] == pytest.approx(cut["logit"][inside])
    noise = rng.normal(size=(n, n))
    rest = put_together(split, 1, 2, planted + field + mass + noise, tokens)["rest"]
    assert np.nanmean(rest[WIDTH:], axis=1) == pytest.approx(0, abs=1e-12)


def test_the_head_is_positional_and_yet_not_by_position_alone():
    least, layer, head = balance(split_of(np.array([0.0, 0.79, 0.1, 0.2, 0.35, 0.7])))
    assert (layer, head) == (1, 1) and least == pytest.approx(0.35)
    assert head_apart._shares(split_of(np.arange(6) / 10), 1, 1)["distance"] == pytest.approx(0.4)


def test_the_passage_ends_with_the_phrase_or_in_the_middle():
    text = generate(tokens=2000)
    assert passage(text, 64).shape == (1, 64)
    said = replace(text, tokens=[*text.tokens[:200], "fear", "is", "fear", "itself", *text.tokens[204:]])
    assert bytes(passage(said, 64)[0].tolist()).endswith(head_apart.PHRASE)
    with pytest.raises(ValueError, match="too few for a passage of 100000"):
        passage(text, 100_000)


# Sentences and pictures


def all_of_it(one):
    names = (
        "in_short",
        "calibration",
        "terms",
        "mixed",
        "training",
        "split",
        "controls",
        "apart",
        "extremes",
        "meaning",
        "twins",
    )
    return "\n".join(getattr(prose, name)(one) for name in (*names, "whose")).format(**prose.numbers(one))


def test_sentences_follow_the_numbers():
    stored = results("full", (0.55, 0.15, 0.12, 0.18), 0.61)
    text = all_of_it(page(reference=stored))
    for said in ("0.55", "0.27 [", "0.61 [", "some-model", "reference runs", "has no score that varies", "37%"):
        assert said in text, said
    assert "nan" not in text and "0.01 in the mean" not in text
    other = all_of_it(page(reference=results("full", (0.85, -0.15, 0.12, 0.18), 0.05)))
    assert "0.85" in other and "0.55" not in other and "works" not in other
    assert "a field of distance" in other  # 0.18 of place with place, 0.05 of distance


def test_small_runs_mean_nothing_and_controls_that_fail_are_said_to():
    one = page()
    assert prose.meaning(one).startswith("Nothing, yet") and "run here" in prose.whose(one)
    broken = replace(one, controls={**one.controls, UNIFORM: [heads_of()]})
    assert "which it must not" in prose.controls(broken)
    assert prose.numbers(one)["a1"] == TOO_SMALL
    alone = page(pretrained=False, missing="not here")
    assert "some-model" not in all_of_it(alone)
    assert prose.training(replace(alone, here=replace(alone.here, stopped={}))).startswith("No model")


def test_zero_has_no_sign_and_the_shared_part_one_name():
    said = words.unsigned("-0.00 [-0.00, -0.05], -0%, -0.004, −0, 10-0, -0.")
    assert said == "0.00 [0.00, -0.05], 0%, -0.004, −0, 10-0, 0."
    assert words.shown(Estimate(-0.001, -0.02, 0.004)) == "0.00 [-0.02, 0.00]"
    one = page(results(shares=(1.001, -0.001, 0, 0)))
    one = replace(one, apart=replace(one.apart, shares={"distance": 0.4, "type": 0.1, "shared": -0.001, "rest": 0.5}))
    text = all_of_it(one)
    assert "-0.00" not in text and "-0%" not in text and "either of them" not in text
    assert "shared by both 0%, association 50%" in prose.apart(one) and "| shared by both |" in prose.split(one)
    fig, _ = draw.field_and_association(one)
    assert "shared by both" in [t.get_text() for t in fig.legends[0].get_texts()]


def test_training_names_what_lies_beyond_both_its_ends():
    def at(*whats):
        return {f: [heads_of((w + d, 0.1, 0.1, 0.8 - w - d)) for d in (-0.01, 0, 0.01)]
                for f, w in zip((0, 10, 20, 40_000), whats)}  # fmt: skip

    def said(stops):
        one = page()
        return prose.training(replace(one, untrained=stops[0], here=replace(one.here, stopped=stops)))

    there = said(at(0.4, 0.7, 0.75, 0.35))
    assert "In between, what·what rises to 0.75 [0.73, 0.77] (at 20 bytes) and where·where falls to 0.05" in there
    assert "after 40,000 bytes, they have 0.35" in there and there.count("3 models") == 1
    assert there.index("0.40") < there.index("0.75") < there.index("0.35")
    assert "In between, neither goes clearly beyond its two ends" in said(at(0.4, 0.5, 0.55, 0.7))
    assert "In between" not in said({k: v for k, v in at(0.4, 0.7, 0.7, 0.35).items() if k in (0, 40_000)})
    fewer = at(0.4, 0.7, 0.75, 0.35)
    fewer[0] = fewer[0][:1]
    assert "1 model before, 3 after" in said(fewer)


def test_the_widest_range_is_not_that_of_a_control():
    ramp, wide = np.linspace(0.2, 0.5, LAYERS * HEADS), np.linspace(0, 0.8, LAYERS * HEADS)
    one = page(results(distance=ramp))
    one = replace(
        one, untrained=[heads_of(distance=wide)], controls={**one.controls, RANDOM: [heads_of(distance=wide)]},
        elsewhere={**one.elsewhere, RANDOM: heads_of(distance=wide), UNTRAINED: heads_of(distance=wide)},
    )  # fmt: skip
    assert "from 20% to 50%" in prose.extremes(one) and "*learned*" in prose.extremes(one)
    assert set(draw.trained(one)) == {*map(draw.titled, KINDS), "some-model"}


def test_scores_before_a_field_are_said_to_be_all_meaning_only_if_they_are():
    whole = prose.meaning(page(reference=results("full", (1.0, 0, 0, 0))))
    assert "before it is added, are all what·what: 1.00" in whole
    part = prose.meaning(page(reference=results("full", (0.8, 0, 0, 0.2))))
    assert "before it is added, are what·what to this share: 0.80" in part


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.03, 0.21, "leaves out zero"), (-0.1, 0.2, "holds zero. It lies within"), (0.1, 0.9, "It does not lie within"),
     (np.nan, np.nan, "too few seeds")],
)  # fmt: skip
def test_the_band_of_the_twins_is_explained(monkeypatch, low, high, said):
    monkeypatch.setattr(accuracy, "a2", lambda results: {"A/A": Estimate(0.12, low, high, "%")})
    assert said in prose.twins(page())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pretrained", [True, False])
def test_pictures_hold_what_they_draw(pretrained):
    ramp = np.linspace(0, 0.7, LAYERS * HEADS)
    one = page(results("full", (0.85, -0.15, 0.12, 0.18), ramp), pretrained=pretrained)
    names = ["learned", "sinusoidal", *(["some-model"] if pretrained else [])]
    tables = {}
    for name in ("calibration", "four_terms", "through_training", "field_and_association", "head_apart"):
        fig, tables[name] = getattr(draw, name)(one)
        fig.draw_without_rendering()
        assert len(tables[name]) and fig.axes
    assert list(tables["calibration"]["model"].unique()) == names
    bars = tables["four_terms"]
    assert bars[list(TERMS)].sum(axis=1).to_numpy() == pytest.approx(1)
    models = {"learned": one.here.seeds, "sinusoidal": len(one.of("sinusoidal")), "some-model": 1}
    assert len(bars) == sum(models[n] for n in names) * LAYERS * HEADS
    through = tables["through_training"]
    assert set(through["bytes"]) == {0, *one.here.stopped} and set(through["term"]) == {*TERMS, "cross"}
    split = tables["field_and_association"]
    assert (~split["varies"]).sum() == LAYERS * HEADS  # uniform attention
    assert split.groupby("model")["distance"].apply(lambda d: d.is_monotonic_increasing).all()
    assert split["model"].nunique() == len(KINDS) + 3 + 3 * pretrained
    assert len(tables["head_apart"]) == 6 * 7 / 2
    row = tables["head_apart"].query("query == 4 and key == 1").iloc[0]
    assert (row["query_token"], row["key_token"], row["field"]) == ("l", " ", 0.5)
    fig, table = accuracy_figures.contrasts(one.pairs, "A1")
    assert list(table["part"]) == list(accuracy.PAIRS)


def test_bars_stack_from_zero_both_ways():
    _, ax = pyplot.subplots()
    draw.stacked(ax, np.array([[0.6, -0.2, 0.7, -0.1]]), ["r", "g", "b", "k"])
    spans = sorted((p.get_y(), p.get_y() + p.get_height()) for p in ax.patches)
    assert np.array(sorted(map(sorted, spans))) == pytest.approx(
        np.array([[-0.3, -0.2], [-0.2, 0], [0, 0.6], [0.6, 1.3]])
    )


def test_kinds_have_names():
    assert [draw.titled(k) for k in ("agf", "flat", *ABSOLUTE)] == ["AGF", "free field, flat start", *ABSOLUTE]


def test_the_chosen_kind_is_the_one_with_the_best_balanced_head(monkeypatch):
    wanted = decomposition.models("smoke")
    found = {c.id: heads_of(distance=0.05) for k in head_apart.APART for c in wanted[k]}
    found |= {c.id: heads_of(distance=0.4) for c in wanted["t5"]}
    del found[wanted["t5"][0].id]  # it diverged: the next one stands for its kind
    torch.manual_seed(0)
    config = wanted["t5"][1]
    asked = []
    monkeypatch.setenv("AGF_OFFLINE", "1")
    model = Transformer(ModelConfig(vocab_size=256, **config.model))
    monkeypatch.setattr(head_apart, "run_grid", lambda configs, own: asked.extend(c.id for c in configs))
    monkeypatch.setattr(head_apart.Store, "model", lambda self, c: model)
    split = heads.measured
    monkeypatch.setattr(head_apart.heads, "measured", lambda m, c: split(m, c, 4096))
    one = head_apart.take_apart(found, wanted)
    assert one.kind == "t5" and asked == [config.id] and len(one.labels) == head_apart.SHOWN
    below = np.tri(head_apart.SHOWN, k=-1) > 0
    whole = one.effect + one.field + one.mass + one.rest
    assert whole[below] == pytest.approx(one.logit[below]) and np.isnan(one.logit[~below]).all()
    assert sum(one.shares.values()) == pytest.approx(1)
