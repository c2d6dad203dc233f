"""The chapter `power_vs_exp` on fabricated heads whose law we chose: verdicts, sentences, pictures."""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.collections import PathCollection

from agf_core import claims
from agf_core.analysis import copies_prose, field_copies, field_grids, power_pretrained, power_vs_exp
from agf_core.analysis import power_figures as draw
from agf_core.analysis import power_model_prose as elsewhere
from agf_core.analysis import power_prose as prose
from agf_core.analysis import specification_figures as choices
from agf_core.analysis.power_vs_exp import Page
from agf_core.analysis.split import SplitResult
from agf_core.claims import MIXED, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate

sys.path.insert(0, str(Path(__file__).parent))
from fabricated_fields import law, planted_records, record, steepness, text_records

matplotlib.use("Agg")
R = np.arange(1, 65.0)
LAWS = {
    "power": lambda k: -(0.6 + 0.2 * k) * np.log1p(R / 2),
    "exponential": lambda k: -(0.03 + 0.01 * k) * R,
    "stretched": lambda k: -(0.5 + 0.1 * k) * R**0.6,
}


def split(config, name, eligible=True, noise=0.01):
    """What `Split` would find for heads of one law."""
    rng = np.random.default_rng(int(config.id, 16))
    profile = np.array([[LAWS[name](2 * layer + head / 2) for head in range(4)] for layer in range(2)])
    profile = profile + noise * rng.standard_normal(profile.shape)
    profile -= profile.mean(-1, keepdims=True)
    able = np.full((2, 4), eligible) if isinstance(eligible, bool) else np.asarray(eligible)
    shares = pd.DataFrame({"layer": [0], "head": [0], "part": ["rest"], "share": [1.0], "low": [1.0], "high": [1.0]})
    empty = np.zeros((2, 4))
    return SplitResult(profile, profile, profile, None, np.arange(3), np.zeros((2, 4, 4)), shares, able * 1.0, able,
                       empty, 100, 20)  # fmt: skip


def without(config):
    """What a run without a field leaves, as far as this chapter reads it."""
    made = {"id": config.id, "config": config.to_dict(), "status": "ok", "error": ""}
    return made | {"provenance": {"commit": "abc", "device": "CPU", "started": "2026-11-26T10:00:00", "text": None}}


def heads_of(profile, name="power", eligible=True, apart=0.0, kinds=power_vs_exp.KINDS):
    """(records, splits) of the models whose heads are scored; `apart`: nats by which far distances keep their start."""
    records, splits = {}, {}
    for kind, configs in power_vs_exp.models(profile).items():
        for config in configs if kind in kinds else []:
            shift = np.where(np.arange(128) > 8, apart * (kind == "steep"), 0.0)
            free = kind in field_grids.FREE
            records[config.id] = record(config, law(1.0) - shift, noise=0.02) if free else without(config)
            splits[config.id] = split(config, name, eligible)
    return records, splits


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Neither corpora nor best losses are needed here."""
    monkeypatch.setattr(field_copies, "_floor", lambda *about: 2.0)
    told = np.ones(64, bool)
    monkeypatch.setattr(field_copies, "predicted", lambda corpus, window, limit: (law(1.0)[1:65], told, 0.1))


def results(profile="full", languages=False, **given):
    records, splits = heads_of(profile, **given)
    if languages:
        records |= planted_records(profile, noise=0.05) | text_records(profile, lambda t, b: law(steepness(t, b)))
        records |= {c.id: {**record(c, law(1.0)[:64], noise=0.05)} for start in field_grids.FREE
                    for c in field_grids.free(profile, start, task="words")}  # fmt: skip
    return power_vs_exp.collect(profile, records, splits)


def look(name="power", able=True, heads=12):
    """What one model's heads look like on one input."""
    rng = np.random.default_rng(heads)
    k = np.linspace(0.5, 1.5, heads)
    profile = np.stack([LAWS[name](x) for x in k]).reshape(2, heads // 2, -1)
    profile = profile + 0.01 * rng.standard_normal(profile.shape)
    weight = np.exp(np.concatenate([profile[..., :1], profile], -1))
    weight /= weight.sum(-1, keepdims=True)
    found = replace(split(field_grids.free("smoke", "flat")[0], name), profile=profile,
                    eligible=np.full((2, heads // 2), able))  # fmt: skip
    return power_pretrained.Look(found, weight, np.log(weight), weight)


@pytest.fixture(scope="module")
def model():
    seen = {"text": look(), "random tokens": look("exponential"), "untrained": look(able=False)}
    return power_pretrained.observed("a model", "made up", False, 64, False, seen)


@pytest.fixture(scope="module")
def whole():
    """A page whose reference runs have every part; one for all who only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_copies, "_floor", lambda *about: 2.0)
        told = np.ones(64, bool)

        def predicted(corpus, *about):
            text = corpus.rpartition(":")[2]
            return law(steepness(text, corpus.removesuffix(text)))[1:65], told, 0.1

        patch.setattr(field_copies, "predicted", predicted)
        return results(languages=True)


def test_planted_power_laws_support_the_claim_and_others_do_not(model):
    for name, expected in (("power", SUPPORTED), ("exponential", NOT_SUPPORTED), ("stretched", NOT_SUPPORTED)):
        page = Page(results("smoke"), results(name=name), "brown", model)
        assert prose.word(page) == expected, name
        verdict = claims.report(**power_vs_exp.evidence(page))
        assert verdict.verdict == expected and verdict.n == 8 and verdict.profile == "full"
        assert verdict.scope.startswith("small models trained here") and verdict.runs


def test_few_eligible_heads_make_it_mixed(model):
    page = Page(results("smoke"), results(eligible=np.eye(2, 4, dtype=bool)), "brown", model)
    assert prose.word(page) == MIXED


def test_free_heads_count_only_where_both_starts_agree():
    agreed, apart = results(), results(apart=5.0)
    assert set(agreed.scores.table["kind"]) == set(power_vs_exp.KINDS) and agreed.agreed["agrees"].mean() > 0.8
    assert set(apart.scores.table["kind"]) == set(field_grids.WITHOUT)
    assert set(apart.shown.table["kind"]) == set(field_grids.FREE)
    assert "no say" in prose.agreed(apart) and "A3 scores free heads" in prose.agreed(agreed)
    assert "not counted" in prose.kinds(apart) and "not counted" not in prose.kinds(agreed)
    fig, table = draw.contest(apart)
    counts = table.groupby("panel")["counts"].mean()
    assert counts["free field"] == 0 and counts["rotary"] == counts["no position"] == 1
    pyplot.close(fig)


def test_models_keep_apart_in_the_clusters():
    found = results()
    assert found.scores.table["model"].nunique() == 32 and (found.scores.table.groupby("model").size() == 8).all()
    assert len(found.profiles[0]) == len(found.scores.table) and len(found.profiles[1]) == len(found.shown.table)
    by_kind = power_vs_exp.by_kind(found.scores)
    assert by_kind["models"].tolist() == [8] * 4 and (by_kind["share"] == 1.0).all()
    planted = [0.6 + 0.2 * k for k in np.arange(0, 4, 0.5)]
    middle = np.exp(np.log(np.arange(1, 33)).mean())
    assert by_kind["exponent"].to_numpy() == pytest.approx(np.median(planted) * middle / (middle + 2), rel=0.15)


def test_smoke_and_few_seeds_are_too_small_to_tell(model):
    for profile in ("smoke", "cpu"):
        page = Page(results(profile), None, "brown", model)
        assert prose.word(page) == TOO_SMALL
        assert claims.report(**power_vs_exp.evidence(page)).verdict == TOO_SMALL
    assert "stand alone" in prose.whose(page)


def test_missing_reference_runs_and_missing_heads_are_said(model):
    nothing = power_vs_exp.collect("smoke", {}, {})
    page = Page(nothing, None, "brown", model)
    assert power_vs_exp.evidence(page) is None and TOO_SMALL in prose.no_evidence(page)
    assert "no runs from both starts" in prose.agreed(nothing) and "No head" in prose.kinds(nothing)
    runs_alone = power_vs_exp.collect("full", heads_of("full")[0], {})
    page = Page(results("cpu"), runs_alone, "brown", model)
    assert page.deciding is page.here and "no measurement of their heads" in prose.whose(page)
    assert page.part("free") is runs_alone and page.part("languages") is page.here
    assert "no runs on planted" in copies_prose.languages(page)
    assert all(isinstance(s, str) and s for s in (prose.in_short(page), prose.meaning(page), prose.words(page)))


def test_the_run_here_stands_beside_the_reference_runs(model):
    agrees = Page(results("cpu"), results(), "brown", model)
    assert "agrees" in power_vs_exp.agreement_here(agrees)
    differs = Page(results("cpu", name="exponential"), results(), "brown", model)
    assert "disagrees" in power_vs_exp.agreement_here(differs)
    smoke = Page(results("smoke"), results(), "brown", model)
    assert "too small to tell" in power_vs_exp.agreement_here(smoke)
    full = results()
    assert power_vs_exp.agreement_here(Page(full, full, "brown", model)) == "these are the reference runs."


def test_a_run_that_diverged_is_named():
    records, splits = heads_of("smoke")
    first = next(iter(records))
    records[first] |= {"status": "failed", "error": "loss nan by step 7"}
    found = power_vs_exp.collect("smoke", records, splits)
    assert found.seeds == 1 and "loss nan" in prose.diverged(found) and "No run" in prose.diverged(results("smoke"))


def test_the_rule_is_judged_with_the_heads_own_residuals():
    found = power_vs_exp.worlds(results(), trials=40)
    share = found.set_index("world")[SUPPORTED]
    assert share["power"] > 0.8 and share.drop("power").max() <= 0.05
    assert "keeps both promises" in prose.operating(found)
    assert "too easily" in prose.operating(found.assign(**{SUPPORTED: 1.0}))


def test_a_model_from_elsewhere_and_its_controls(model):
    assert model.scores["text"].table["wins"].all() and model.scores["random tokens"].table["wins"].mean() < 0.2
    assert not model.scores["untrained"].table["eligible"].any()
    assert len(model.curve) >= 200 and model.shares["share"].sum() == pytest.approx(1.0)
    said = elsewhere.model(model, "the package is missing")
    assert "the package is missing" in said and "both sides" in said
    assert elsewhere.pooled(model) and elsewhere.specifications(model)
    few = replace(model, pooled=None)
    assert "nothing to pool" in elsewhere.pooled(few)


def test_both_sides_of_an_encoder_are_averaged():
    found = power_pretrained._both(np.array([[[4.0, 2.0, 1.0, 3.0, 6.0]]]))
    assert found.tolist() == [[[1.0, 2.5, 5.0]]]


def test_a_model_is_seen_through_windows_of_the_size_asked_for():
    from agf_core.model import ModelConfig, Transformer

    tokens = torch.randint(0, 11, (6, 64), generator=torch.Generator().manual_seed(0))
    net = Transformer(ModelConfig(vocab_size=11, dim=16, layers=2, heads=2, context=64, encoding="rotary"))
    found = power_pretrained.look(net, tokens, 16, torch.ones_like(tokens, dtype=torch.bool), torch.arange(6) % 3)
    assert found.split.profile.shape == (2, 2, 16) and found.weight.shape == found.careless.shape == (2, 2, 17)


def test_every_sentence_and_picture_of_a_full_page(whole, model):
    page = Page(results("smoke"), whole, "brown", model)
    said = [
        prose.in_short(page), prose.agreed(whole), prose.moved(whole), prose.kinds(whole), prose.against(whole),
        prose.words(page), prose.meaning(page), prose.beside(page), prose.diverged(whole), copies_prose.languages(page),
        copies_prose.control(page), copies_prose.texts(page), elsewhere.model(model), elsewhere.specifications(model),
    ]  # fmt: skip
    for sentence in said:
        assert sentence and "nan" not in sentence.lower().replace("finance", ""), sentence
    assert "copies the language" in prose.in_short(page) and "On real texts, of learned" in prose.in_short(page)
    assert "| predicted exponent | models |" in copies_prose.texts(page)
    assert set(prose.numbers(page)) == {"a3", "heads", "runs", "slope", "specifications"}
    prose.in_short(page).format(**prose.numbers(page))


def test_pictures_hold_what_they_draw(whole, model):
    page = Page(results("smoke"), whole, "brown", model)
    fig, table = draw.free_fields(whole)
    assert np.allclose(fig.axes[0].lines[0].get_ydata(), table["flat"]) and len(table) == 127
    fig, table = draw.contest(whole)
    drawn = sum(len(c.get_offsets()) for ax in fig.axes for c in ax.collections if isinstance(c, PathCollection))
    assert drawn == len(table) == len(whole.scores.table)
    fig, table = draw.examples(whole.scores, whole.profiles[0])
    assert {"log_g", "shifted_power", "exponential", "stretched_exponential"} <= set(table) and len(table) % 64 == 0
    fig, table = draw.bytes_and_words(page)
    assert set(table["task"]) == {"bytes", "words"}
    assert sum(len(c.get_offsets()) for c in fig.axes[0].collections if len(c.get_offsets()) > 1) == len(table)
    fig, table = draw.operating(pd.DataFrame({"world": ["power"], SUPPORTED: [1.0]}))
    assert len(fig.axes[0].patches) == 1
    fig, table = draw.elsewhere(model)
    assert len(table) == 3 * 12
    fig, table = choices.curve(model)
    assert np.allclose(fig.axes[0].lines[1].get_ydata(), table["exponent"])
    assert table["exponent"].is_monotonic_increasing
    fig, table = choices.attributed(model)
    assert [p.get_width() for p in fig.axes[0].patches] == pytest.approx(table["share"].tolist())
    fig, table = choices.pooled(model)
    assert {"distance", "curve", "field", "error"} <= set(table)
    pyplot.close("all")


def test_a_rule_without_power_decides_nothing(model):
    page = Page(results("smoke"), results(), "brown", model)
    good = pd.DataFrame({"world": ["power", "exponential"], SUPPORTED: [0.9, 0.01]})
    for worlds, decides in ((None, True), (good, True), (good.assign(**{SUPPORTED: [0.1, 0.01]}), False),
                            (good.assign(**{SUPPORTED: [0.9, 0.2]}), False)):  # fmt: skip
        asked = replace(page, worlds=worlds)
        assert bool(power_vs_exp.evidence(asked)["too_small"]) is not decides
        assert (prose.word(asked) == SUPPORTED) is decides and ("cannot decide" in prose.in_short(asked)) is not decides
        assert (claims.report(**power_vs_exp.evidence(asked)).verdict == SUPPORTED) is decides


def test_how_the_exponential_fares_counts_every_eligible_head_once():
    found = results()
    heads = dict.fromkeys(power_vs_exp.KINDS, 8 * 2 * 4)  # 8 models of 2 layers of 4 heads
    said = prose.against(found)
    assert f"Of {sum(heads.values())} eligible heads" in said and "Exploratory" in said
    assert "no eligible head" in prose.against(results(eligible=np.zeros((2, 4), bool)))


def test_the_rule_on_power_laws_is_said_with_what_it_denies():
    worlds = pd.DataFrame({"world": ["power", "exponential"], SUPPORTED: [0.0, 0.0], NOT_SUPPORTED: [1.0, 1.0],
                           "share": [0.2, 0.0]})  # fmt: skip
    said = prose.operating(worlds, Estimate(0.6, 0.4, 0.7))
    assert "*not supported* in 100.0%" in said and "(exponential)" not in said
    assert "20%" in said and "60% [40%, 70%]" in said
    assert "(exponential)" in prose.operating(worlds.assign(**{SUPPORTED: [0.0, 0.3]}))
    assert "share" in power_vs_exp.worlds(results(), trials=20, pool=10)


def test_why_there_is_no_verdict_is_said(model):
    weak = pd.DataFrame({"world": ["power", "exponential"], SUPPORTED: [0.1, 0.0]})
    few = Page(results("smoke"), None, "brown", model, worlds=weak)
    enough = Page(results("smoke"), results(), "brown", model, worlds=weak)
    assert "too small" in prose.meaning(few) and "not for want of models" in prose.meaning(enough)
    assert "No verdict" not in prose.meaning(replace(enough, worlds=None))


def test_an_exponential_that_ties_is_told_from_one_that_wins(model):
    table = model.scores["random tokens"].table
    table = table.assign(winner="exponential", tie=np.arange(len(table)) < 3)
    scores = {**model.scores, "text": replace(model.scores["text"], table=table.assign(eligible=True))}
    said = elsewhere.in_short(replace(model, scores=scores))
    assert "100% are called exponential (75% won, 25% ties" in said
    assert "| 75% | 25% |" in elsewhere.model(replace(model, scores=scores)) and "ties" in elsewhere.TIES
    assert "No model from elsewhere" in elsewhere.in_short(replace(model, trained_here=True))


def test_a_pooled_field_is_judged_with_its_cut_and_its_resamples(model):
    said = elsewhere.pooled(model)
    assert "**pooling not needed** (in 100% of the resamples)" in said and "less than 25%" in said
    torn = replace(model.pooled, verdict="undecided", agreed={"pooling explains it": 0.4, "pooling not needed": 0.6})
    said = elsewhere.pooled(replace(model, pooled=torn))
    assert "**undecided**" in said and '"pooling explains it" in 40.0%, "pooling not needed" in 60.0%' in said


def test_exponents_are_told_by_start_and_by_unit(model):
    def page(levels):
        rows = [(task, start, seed, 0, 0, level + 0.1 * (seed - 3.5))
                for (task, start), level in levels.items() for seed in range(8)]  # fmt: skip
        table = pd.DataFrame(rows, columns=["task", "start", "seed", "layer", "head", "exponent"])
        return Page(replace(results("smoke"), exponents=table), None, "brown", model)

    keys = [(task, start) for task in ("bytes", "words") for start in field_grids.FREE]
    steeper = prose.words(page(dict(zip(keys, (3.0, 6.0, 1.0, 4.0)))))
    assert "starts are not averaged" in steeper and "within each start" in steeper and "picture" not in steeper
    assert steeper.count("bytes are steeper than words") == 2
    torn = prose.words(page(dict(zip(keys, (3.0, 3.0, 1.0, 3.0)))))
    assert "cannot be told" in torn and "cannot be said for each start" in torn
    assert "(which may be nothing)" in torn


def test_examples_show_every_winner_and_name_it():
    found = results()
    table = found.scores.table.copy()
    table["winner"] = np.array(list(draw.WINNERS))[np.arange(len(table)) % 5]
    fig, drawn = draw.examples(replace(found.scores, table=table), found.profiles[0])
    titles = [ax.get_title() for ax in fig.axes if ax.get_visible()]
    assert set(drawn["winner"]) == set(draw.WINNERS) and len(titles) == 6
    first = drawn.iloc[0]
    assert f"layer {first['layer'] + 1}, head {first['head'] + 1}:\n{draw.WINNERS[first['winner']][1]}" in titles[0]
    said = draw.of_whom(drawn, counted=True)
    assert said.startswith("Fields of 6 heads") and "A3" in said
    assert said != draw.of_whom(drawn, counted=False)
    pyplot.close(fig)
