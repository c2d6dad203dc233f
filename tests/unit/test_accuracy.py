"""The chapter `accuracy` on fabricated records whose truth we chose: contrasts, verdicts, sentences, pictures."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy import stats
from statsmodels.stats.multitest import multipletests

from agf_core import claims
from agf_core.analysis import accuracy, accuracy_starts, chapter_runs, contrasts, grids, operating, throughput
from agf_core.analysis import accuracy_field_figures as field
from agf_core.analysis import accuracy_field_prose as field_prose
from agf_core.analysis import accuracy_figures as draw
from agf_core.analysis import accuracy_prose as prose
from agf_core.analysis.accuracy import Page
from agf_core.analysis.accuracy_words import count, listed, rivals, shown, table
from agf_core.claims import INCONCLUSIVE, MIXED, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.encodings import ENCODINGS
from agf_core.figures import Estimate

matplotlib.use("Agg")

AHEAD = {**dict.fromkeys(grids.PREVAILING, 3.0), "learned": 6.0}  # percent that AGF saves: it wins everywhere
GROWS = {"nope": 0.01, "sinusoidal": 0.3, "untied": 0.15, "rotary": 0.2}  # share of loss more with each doubling
BEYOND = {"alibi": 0.05, "agf": 0.3, "kerple_log": 0.35, "agf_weight": 0.3, "agf_score": 0.3, "t5": 0.5, "fire": 0.6,
          "kerple_power": 0.4, grids.FIELD_ONLY: 0.3}  # fmt: skip


@pytest.fixture(autouse=True)
def no_reference_runs(monkeypatch):
    """What is stored with the library must not decide what these tests see."""
    for module in (grids, accuracy, chapter_runs):
        monkeypatch.setattr(module, "reference_runs", dict)
    grids.tuned.cache_clear()
    yield
    grids.tuned.cache_clear()


def record(config, nats, *, accuracy=0.5, beyond=None, grows=0.0, status="ok"):
    """What a run leaves."""
    context = config.model["context"]
    made = {"id": config.id, "config": config.to_dict(), "status": status, "code": "c"}
    made["provenance"] = {"commit": "abc", "device": "x86_64 CPU", "started": "2026-11-26T10:00:00", "text": None}
    if status != "ok":
        return made | {"error": "loss nan by step 7", "step": 7}
    measured = {}
    for multiple in config.lengths:
        loss = nats * (1 + grows * np.log2(multiple))
        bins = [[p, loss * (1.2 - 0.05 * i)] for i, p in enumerate((0, 1, 2, 4, 8, 16, 32, 64))]
        measured[str(multiple * context)] = {
            "loss": loss, "accuracy": accuracy, "targets": 1000, "positions": bins,
            "beyond": beyond if multiple > 1 or beyond is None else 0.0,
        }  # fmt: skip
    if config.model["encoding"] == "learned":
        measured = {n: m if n == str(context) else None for n, m in measured.items()}
    return made | {
        "parameters": {"total": 120_000, "encoding": 8}, "epochs": 0.5, "chance": 0.2, "measured": measured,
    }  # fmt: skip


def records(profile, saves=AHEAD, *, corpus=grids.CORPUS, scatter=0.1, gate=0.5, words=None, failed=()):
    """Records of a whole profile. `saves`: name → percent of loss that AGF saves over it (0 if not named); `words`:
    the same on words; `scatter`: percent between seeds; `gate`: bits by which the field alone is worse."""
    rng = np.random.default_rng(1)
    found = {}

    def add(grid, base, saves, **more):
        for name, configs in grid.items():
            for config in configs:
                nats = base / (1 - saves.get(name, 0.0) / 100) * (1 + 0.01 * config.train.seed)
                nats *= 1 + rng.normal(0, scatter) / 100
                if name == grids.FIELD_ONLY:
                    nats += gate * np.log(2)
                status = "failed" if (name, config.train.seed) in failed else "ok"
                about = {"beyond": BEYOND.get(name), "grows": GROWS.get(name, 0.02), "status": status, **more}
                found[config.id] = record(config, nats, **about)

    add(grids.bytes_runs(profile, corpus), 1.8, saves)
    add(grids.published_runs(profile, corpus), 1.8, saves)
    add(grids.task_runs("words", profile, corpus), 4.0, saves if words is None else words)
    for task, right in (("tags", 0.9), ("recall", 0.4), ("copy", 0.3)):
        add(grids.task_runs(task, profile, corpus), 1.0, {}, accuracy=right)
    add(grids.plane_runs(profile, corpus), 1.9, {cell: 5.0 for cell in grids.plane_runs(profile) if cell[1] != "logit"})
    return found


def page(here="smoke", reference=None, corpus=grids.CORPUS, **given):
    """A page of fabricated runs; `reference`: `given` describes the reference runs, and those here are like them."""
    own = accuracy.collect(here, records(here, corpus=corpus, **given), corpus)
    return Page(own, accuracy.collect("full", records("full", **given)) if reference else None, corpus)


# Contrasts


def runs_of(**losses):
    rows = [(n, seed, loss) for n, by_seed in losses.items() for seed, loss in enumerate(by_seed)]
    return pd.DataFrame(rows, columns=["name", "seed", "loss"])


def test_differences_are_paired_by_seed_and_in_percent_of_the_worse():
    runs = runs_of(a=[1.0, 2.0, 9.0], b=[2.0, 4.0])
    assert contrasts.differences(runs, "a", "b").to_dict() == {0: 50.0, 1: 50.0}
    tuples = runs.assign(name=[(n, "x", True) for n in runs["name"]])
    assert contrasts.differences(tuples, ("a", "x", True), ("b", "x", True)).to_dict() == {0: 50.0, 1: 50.0}


def test_a_mean_has_students_interval():
    x = np.random.default_rng(0).normal(1.0, 2.0, 9)
    e = contrasts.mean(x)
    low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    assert (e.value, e.low, e.high) == pytest.approx((x.mean(), low, high))
    for few in ([], [1.0], [1.0, np.inf]):
        assert not np.isfinite(contrasts.mean(few).low)


def test_planted_savings_come_back_with_their_interval():
    found = accuracy.collect("full", records("full", {**AHEAD, "alibi": 1.5}, scatter=0.2))
    for name, planted in (("alibi", 1.5), ("learned", 6.0)):
        e = contrasts.contrast(found.tasks["bytes"], "agf", name)
        assert e.low < planted < e.high and e.high - e.low < 0.6 and e.unit == "%"


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(1).uniform(0, 0.2, 12)
    assert contrasts.holm(pd.Series(p)) == pytest.approx(multipletests(p, method="holm")[1])
    p[[3, 7]] = np.nan
    keep = np.isfinite(p)
    assert contrasts.holm(pd.Series(p))[keep] == pytest.approx(multipletests(p[keep], method="holm")[1])
    assert np.isnan(contrasts.holm(pd.Series(p))[~keep]).all()


def test_every_encoding_against_one():
    rng = np.random.default_rng(2)
    runs = runs_of(agf=rng.normal(2, 0.01, 8), t5=rng.normal(2.2, 0.01, 8), same=rng.normal(2, 0.01, 8), one=[2.0])
    found = contrasts.against(runs, "agf").set_index("name")
    paired = stats.ttest_rel(runs.query("name == 't5'")["loss"], runs.query("name == 'agf'")["loss"]).pvalue
    assert found.loc["t5", "p"] == pytest.approx(paired, rel=0.3) and found.loc["t5", "p_holm"] < 1e-6
    assert found.loc["t5", "saved"] > 8 and found.loc["same", "p_holm"] > 0.05 and np.isnan(found.loc["one", "p_holm"])


def test_tables_of_nothing_have_numbers():
    for empty in (contrasts.table({}, {}), contrasts.by_length({}, {}, (1,))):
        assert empty.empty and np.isfinite(empty["loss"]).sum() == 0


# Claims


def verdict(page, id):
    return claims.report(**accuracy.evidence(page, id)).verdict


def reference(**given):
    return page("smoke", True, **given)


A1_BOTH = {**AHEAD, "learned": 6.0, "untied": 3.0, "rotary": 5.0, "t5": 3.0}


@pytest.mark.parametrize(
    ("saves", "words", "a1", "a2"),
    [
        (A1_BOTH, None, SUPPORTED, SUPPORTED),
        ({**A1_BOTH, "untied": 8.0}, None, MIXED, SUPPORTED),
        ({**A1_BOTH, "untied": 8.0, "t5": 7.0}, None, NOT_SUPPORTED, SUPPORTED),
        ({**A1_BOTH, "t5": -1.0}, None, SUPPORTED, NOT_SUPPORTED),
        (A1_BOTH, {**AHEAD, "rotary": 0.0}, SUPPORTED, NOT_SUPPORTED),
        ({**A1_BOTH, "kerple_log": 2.0}, None, SUPPORTED, NOT_SUPPORTED),  # the twins differ
    ],
)
def test_the_verdicts_are_those_of_what_was_planted(saves, words, a1, a2):
    found = reference(saves=saves, words=words)
    assert (verdict(found, "A1"), verdict(found, "A2")) == (a1, a2)
    assert (prose.word(found, "A1"), prose.word(found, "A2")) == (a1, a2)


def test_much_scatter_is_inconclusive():
    assert verdict(reference(saves=A1_BOTH, scatter=5.0), "A2") == INCONCLUSIVE


def test_without_association_there_is_no_verdict():
    found = reference(saves=A1_BOTH, gate=0.05)
    assert not found.deciding.learned and found.deciding.gate.value == pytest.approx(0.05, abs=0.01)
    assert verdict(found, "A2") == prose.word(found, "A2") == TOO_SMALL
    assert "less than 0.1: association was not learned" in accuracy.evidence(found, "A2")["too_small"]
    assert "not passed" in prose.gate(found)


def test_few_seeds_and_no_reference_runs_are_too_small():
    alone = page("cpu", saves=A1_BOTH)
    evidence = accuracy.evidence(alone, "A2")
    assert alone.deciding is alone.here and evidence["n"] == 3 and evidence["runs"] == evidence["here"] == ""
    assert verdict(alone, "A2") == prose.word(alone, "A2") == TOO_SMALL
    assert alone.here.seeds("bytes") == 3 and "stand alone" in prose.whose(alone)


def test_a_run_that_diverged_leaves_no_evidence_and_that_is_said():
    found = reference(saves=A1_BOTH, failed={("t5", 3)})
    assert accuracy.evidence(found, "A2") is None and prose.word(found, "A2") == TOO_SMALL
    assert "none on AGF over T5 on bytes and AGF over T5 on words:" in prose.no_evidence(found, "A2")
    assert "rotary → table" in prose.no_evidence(found, "A1")
    assert "T5 on bytes, seed 3: loss nan by step 7" in prose.diverged(found.deciding)
    assert accuracy.worlds(found.deciding, "A2", (0,), 5).empty
    assert "no scatter" in prose.operating({"A2": pd.DataFrame()}, 8)


def test_the_run_here_stands_beside_the_reference_runs():
    there, here = records("full", A1_BOTH), records("cpu", {**A1_BOTH, "alibi": -3.0, "rotary": 5.1, "t5": 5.0})
    found = Page(accuracy.collect("cpu", here), accuracy.collect("full", there), grids.CORPUS)
    evidence = accuracy.evidence(found, "A2")
    assert evidence["runs"] == "code abc; x86_64 CPU; 2026-11-26" and evidence["profile"] == "full"
    assert "agrees on 8 of 10; disagrees on 2 of 10 (ALiBi on bytes and ALiBi on words)" in evidence["here"]
    assert "over 14 encodings" in prose.beside(found) and "over 30 cells" in prose.beside(found)
    assert "too small to tell (association" in accuracy.agreement(page("smoke", True, gate=0.0), "A2")


def test_the_reference_runs_themselves_are_not_shown_twice():
    results = accuracy.collect("full", records("full"))
    found = Page(results, results, grids.CORPUS)
    assert found.same and draw.sides(found) == [(draw.STORED, results)]
    assert accuracy.evidence(found, "A1")["here"] == "these are the reference runs."


def test_a_rival_is_compared_from_its_better_start(monkeypatch):
    monkeypatch.setattr(grids, "chosen_start", lambda name, task: "published" if name == "alibi" else "matched")
    found = records("full", A1_BOTH)
    for name, saves in (("alibi", 1.0), ("t5", 9.0)):  # only what was chosen may count
        for config in grids.published_runs("full")[name]:
            found[config.id] = record(config, 1.8 / (1 - saves / 100) * (1 + 0.01 * config.train.seed), beyond=0.1)
    results = accuracy.collect("full", found)
    assert accuracy.a2(results)["bytes: alibi"].value == pytest.approx(1.0, abs=0.15)
    assert accuracy.a2(results)["bytes: t5"].value == pytest.approx(3.0, abs=0.2)
    assert results.lengths.query("name == 'alibi' and multiple == 16")["beyond"].item() == pytest.approx(0.1)
    assert results.seeds() == 8


# The rules on worlds whose truth is known


@pytest.mark.parametrize("id", ["A1", "A2"])
def test_the_rules_keep_their_promises_with_little_scatter(id):
    results = accuracy.collect("full", records("full", A1_BOTH, scatter=0.15))
    found = accuracy.worlds(results, id, (0, 1), 200).set_index("world")
    assert found.loc["1", SUPPORTED] >= 0.8 and found.loc[["0", "one fails"], SUPPORTED].max() <= 0.05
    if id == "A2":
        assert found.loc["A/A differs", SUPPORTED] <= 0.05
    assert found.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert "keeps both promises" in prose.operating({id: found.reset_index()}, 8)
    assert "no judgement" in prose.operating({id: found.reset_index()}, 3)


def test_measured_savings_stand_beside_the_power_of_a_rule():
    results = accuracy.collect("full", records("full", {**A1_BOTH, "learned": 9.0, "t5": -1.0}, scatter=0.1))
    weak = pd.DataFrame({"world": ["0", "one fails", "1", "5"], SUPPORTED: [0.0, 0.01, 0.2, 0.9]})
    a1 = prose.operating({"A1": weak}, 8, results)
    assert "it has 80 % for savings from 5 % on. Measured savings below that: learned → untied (on bytes)" not in a1
    assert "it has 80 % for savings from 5 % on, and every measured saving lies there." in a1
    a2 = prose.operating({"A2": weak}, 8, results)
    assert "Measured savings below that: AGF over sinusoidal on bytes" in a2 and "AGF over learned" not in a2
    assert "not a false *supported*, whose shares are given first" in a2
    assert "No saving of δ was missed over T5 on bytes and T5 on words: the interval ends below δ." in a2
    none = weak.assign(**{SUPPORTED: [0.0, 0.01, 0.2, 0.3]})
    assert "no saving is enough. Measured savings below that: learned → untied" in prose.operating(
        {"A1": none}, 8, results
    )


# Starts


def started(published, **saves):
    """Reference runs in which AGF saves so much over rivals from their published starts."""
    found = records("full", {**A1_BOTH, **saves})
    for name, percent in published.items():
        for config in grids.published_runs("full")[name]:
            found[config.id] = record(config, 1.8 / (1 - percent / 100) * (1 + 0.01 * config.train.seed))
    results = accuracy.collect("full", found)
    return Page(results, results, grids.CORPUS)


def test_a_rival_that_is_worse_from_its_published_start_is_named_with_what_would_follow():
    found = started({"alibi": 1.0, "t5": 7.0}, t5=-1.0)
    assert accuracy_starts.matched_only(found.deciding) == ["t5"]
    (said,) = accuracy_starts.of_the_start(found.deciding)
    assert said in prose.in_short(found).format(**prose.numbers(found)) and "(3 seeds)" in said
    assert "AGF then saves 7.0" in said and "*rotary → table* of A1, where the table is T5, saves -2." in said
    assert "it raises the loss, the other sign." in said
    first, second, *_ = prose.meaning(found).splitlines()
    assert first.endswith("only with T5 from AGF's start, which rotary cannot have: see the short answer.")
    assert second == "- AGF is clearly behind T5 on bytes and T5 on words."
    better = started({"alibi": 1.0, "t5": -3.0}, t5=-1.0)
    assert accuracy_starts.of_the_start(better.deciding) == [] and "only with" not in prose.meaning(better)
    same = started({"t5": 3.5, "alibi": 1.0}, t5=-1.0)
    assert "the sign is the same." in accuracy_starts.of_the_start(same.deciding)[0]
    assert "only with" not in prose.meaning(same)


def test_an_unclear_sign_is_said_to_be_unclear():
    said = accuracy_starts._compared(Estimate(2.7, 2.1, 3.2), Estimate(-1.3, -2.7, 0.1))
    assert said == "in the mean it raises the loss, the other sign, though the interval includes 0"
    one_seed = accuracy_starts._compared(Estimate(2.7, 2.1, 3.2), Estimate(-1.3, np.nan, np.nan))
    assert one_seed == "in the mean it raises the loss, the other sign"


def test_what_a_field_is_worth_is_told_apart_by_start_and_law():
    found = started({"alibi": 7.0, "t5": 7.0, "fire": 0.0, "kerple_power": 7.0}, t5=-1.0, alibi=7.0)
    place = accuracy_starts.placed(accuracy_starts.published(found.deciding, ["alibi", "fire"]), ["alibi", "fire"])
    assert place["behind"] == ["alibi"] and place["ahead"] + place["level"] == ["fire"]
    fields, worth = prose.meaning(found).splitlines()[2:]
    assert "ahead of AGF on bytes: T5;" in fields and "behind it: ALiBi. From their published" in fields
    assert "need not come from its power law, nor from its start: FIRE is not clearly behind it with neither" in worth
    assert "starts, ALiBi, T5 and KERPLE-power are behind AGF. Saved over rotary from there: ALiBi -2." in worth
    assert worth.endswith("can't tell what a field is worth from what that start is worth.")


def test_a_law_that_is_behind_in_the_plane_is_named():
    found = started({"t5": 7.0}, t5=-1.0)
    for law, more in (("power", 1.0), ("exponential", 1.0404)):
        cell = found.plane["name"].map(lambda n, law=law: n == (law, "logit", True))
        found.plane.loc[cell, "loss"] = np.array([2.0, 2.1]) * more
    assert "started alike, the loss of the trained exponential is +4.0 % [4.0, 4.0]" in prose.meaning(found)


def test_a_world_has_the_mean_and_the_scatter_that_it_is_given():
    rng = np.random.default_rng(3)
    scatter = {"x": rng.normal(7, 0.5, 8), "y": rng.normal(-7, 2.0, 8)}
    draws = [operating.seed_world(scatter, {"x": 1.0, "y": 0.0}, 8)(rng) for _ in range(2000)]
    values = pd.DataFrame([values for values, _ in draws])
    assert values.mean().to_numpy() == pytest.approx([1.0, 0.0], abs=0.1)
    assert values.std().to_numpy() == pytest.approx([scatter[p].std(ddof=1) / np.sqrt(8) for p in "xy"], rel=0.1)
    covered = np.mean([low < 1.0 < high for _, ci in draws for low, high in [ci["x"]]])
    assert 0.88 < covered < 0.99


# What the page shows


TUNED = pd.DataFrame(
    [
        (task, name, start, rate, 1000, 2.0 + 100 * abs(rate - best) + (0.3 if start == "published" else 0.0), False)
        for task in ("bytes", "words")
        for name, best in (("agf", 4e-3), ("t5", 8e-3))
        for start in (("matched", "published") if name == "t5" else ("matched",))
        for rate in grids.RATES
    ],
    columns=["task", "name", "start", "rate", "seed", "loss", "chosen"],
)
TUNED["chosen"] = (TUNED["start"] == "matched") & (TUNED["rate"] == TUNED["name"].map({"agf": 4e-3, "t5": 8e-3}))


@pytest.fixture(params=["smoke", "cpu beside reference", "diverged"])
def shown_page(request):
    if request.param == "cpu beside reference":
        return page("cpu", True, saves={**A1_BOTH, "t5": -1.0})
    if request.param == "diverged":
        failed = {("t5", 0), ("t5", 1), ("alibi", 1), ("nope", 0), *((c, 0) for c in grids.plane_runs("smoke"))}
        return page(failed=failed - {(("power", "logit", True), 0)})
    return page()


def test_every_picture_is_drawn_and_gives_its_table(shown_page):
    runs = shown_page.deciding
    worlds = {id: accuracy.worlds(runs, id, (0, 0.5, 1), 20) for id in ("A1", "A2")}
    drawn = [
        draw.contrasts(shown_page, "A1"), draw.contrasts(shown_page, "A2"), draw.encodings(shown_page),
        draw.tasks(shown_page), draw.tuning(TUNED), field.plane(shown_page.plane), field.lengths(runs),
        field.positions(runs),
        *([draw.operating(worlds)] if all(map(len, worlds.values())) else []),
    ]  # fmt: skip
    for fig, data in drawn:
        assert len(data) and isinstance(data, pd.DataFrame)
        fig.canvas.draw()
        assert fig.get_figwidth() == draw.WIDTH
        sizes = [t.get_fontsize() for t in fig.findobj(matplotlib.text.Text) if t.get_text()]
        assert min(sizes) >= 8.9
        pyplot.close(fig)


def test_every_sentence_is_written(shown_page):
    runs = shown_page.deciding
    numbers = prose.numbers(shown_page)
    assert (
        numbers["encodings"] == 13 and numbers["runs"] >= 80 and {numbers["a1"], numbers["a2"]} <= set(claims.VERDICTS)
    )
    said = [
        prose.in_short(shown_page).format(**numbers), prose.gate(shown_page), prose.beside(shown_page),
        prose.diverged(runs), prose.meaning(shown_page), prose.tuning(TUNED), prose.tuning(TUNED[:0]),
        field_prose.exploratory(runs), field_prose.costs(runs), field_prose.plane(field.cells(shown_page.plane)),
        field_prose.lengths(runs), field_prose.positions(runs), field_prose.tasks(shown_page),
    ]  # fmt: skip
    for text in said:
        assert text and "nan" not in text.replace("loss nan by", "").replace("dominant", "") and "{" not in text
        text.format()  # `say` takes a template
    if "t5" in runs.tasks["bytes"]["name"].to_numpy():
        assert f"{numbers['a2']}" in said[0]


def test_a_text_without_word_classes_leaves_that_task_out():
    found = page(corpus="inaugural")
    assert found.here.tasks["tags"].empty and "The text inaugural comes without word classes" in field_prose.tasks(
        found
    )
    fig, data = draw.tasks(found)
    assert set(data["task"]) == {"recall", "copy"}
    pyplot.close(fig)


def test_a_task_that_nobody_learned_is_too_small_to_tell():
    found = page()
    for task in ("recall", "copy"):
        found.here.tasks[task]["accuracy"] = found.here.tasks[task]["chance"] + 0.01
    said = field_prose.tasks(found).splitlines()
    assert ["too small to tell" in line for line in said] == [False, True, True]


def test_a_task_that_some_seeds_learned_says_how_many():
    found = page()
    one = found.here.tasks["recall"]
    runs = pd.concat([one.assign(seed=s) for s in range(3)], ignore_index=True)
    ours = runs["name"] == "agf"
    runs["accuracy"] = np.where(ours & (runs["seed"] == 0), 1.0, runs["chance"])
    found.here.tasks["recall"] = runs
    assert "Learned by some seeds only, so the mean says little: AGF 1 of 3." in field_prose.tasks(found)
    runs["accuracy"] = np.where(ours, 1.0, runs["chance"])
    assert "some seeds" not in field_prose.tasks(found)


def test_the_plane_names_what_is_published_and_counts_in_percent_of_agf():
    cells = field.cells(page().plane)
    assert len(cells) == 30 and set(cells["published"]) - {""} == {"AGF", "ALiBi", "KERPLE-\npower", "T5", "FIRE"}
    agf = cells.query("law == 'power' and placement == 'logit' and trainable")
    assert agf["more"].item() == 0.0
    weight = cells.query("placement == 'weight'")["more"]
    assert weight.to_numpy() == pytest.approx(100 * (1 / 0.95 - 1), abs=0.6)  # AGF saves 5 % of theirs
    said = field_prose.plane(cells)
    assert "Of 30 cells the lowest mean is that of" in said and "With one seed a cell there are no intervals" in said


def test_the_plane_says_how_its_cells_were_trained():
    found = page()
    assert field_prose.plane_size(found).startswith("1 seed a cell, 0.00819 M bytes a run, and one learning rate")
    said = field_prose.plane(field.cells(found.plane), found)
    assert "These are 1 seed a cell" in said and f"has {field_prose.called(field_prose.ranking(found.here)[0])}" in said
    cell = {"law": "mlp", "placement": "score", "trainable": False, "published": "", "more": 1.0, "low": 0, "high": 2}
    assert field_prose._cell(pd.Series(cell)) == "MLP as `score`, frozen, with +1.0 % [0.0, 2.0] against AGF's"


def test_the_table_says_why_it_corrects_where_a2_does_not():
    runs = reference(saves={**A1_BOTH, "rotary": 0.6}, scatter=0.1).deciding
    assert "needs no correction; this table explores, so it corrects.\n" in field_prose.exploratory(runs)
    assert field_prose._passed(runs, set(grids.PREVAILING) - {"rotary"}) == ["rotary"]


def test_lengths_say_who_holds_and_how_the_field_goes_with_it():
    results = page().here
    far = results.lengths.query("multiple == 16").set_index("name")
    base = results.lengths.query("multiple == 1").set_index("name")["loss"]
    assert "learned" not in far.index and np.isnan(far.loc["rotary", "beyond"]) and far.loc["t5", "beyond"] == 0.5
    assert far.loc["rotary", "excess"] == pytest.approx(0.8 * base["rotary"], rel=1e-6)
    said = field_prose.lengths(results)
    assert "; learned is not defined there. Over" in said
    assert "holds (rises by at most 1 %) for none" in said and "Over the 9 encodings with a field" in said


def test_labels_keep_their_order_their_distance_and_the_axis():
    values = [0.5, 0.52, 0.5, 0.99, 0.01, 0.0]
    places = field.apart(values, 0.1)
    assert (np.diff(np.sort(places)) >= 0.1 - 1e-9).all() and places.min() >= 0.02 and places.max() <= 0.98
    assert places[0] < places[1] and places[5] < places[4]
    assert field.apart([0.3, 0.7], 0.1) == pytest.approx([0.3, 0.7])
    assert len(field.apart([], 0.1)) == 0


def test_words():
    assert rivals([]) == "no rival" and rivals(["bytes: t5", "words: t5"]) == "T5 on bytes and T5 on words"
    assert rivals(["rotary → table", "bytes: alibi"]) == "rotary → table and ALiBi on bytes"
    assert count(1, "seed") == "1 seed" and count(3, "seed") == "3 seeds"
    assert listed([]) == "none" and listed(["agf"]) == "AGF" and listed(["alibi", "t5", "x"]) == "ALiBi, T5 and x"
    assert shown(Estimate(1.0, 0.5, 1.5, "%"), ".1f") == "1.0 % [0.5, 1.5]"
    assert (
        shown(Estimate(1.0, np.nan, np.nan)) == "1.00 (no interval)" and shown(Estimate(*[np.nan] * 3)) == "not known"
    )
    assert table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_speeds_are_read_as_the_benchmark_stores_them(monkeypatch, tmp_path):
    tiny = throughput.Size(1, 16, 2, 8, 2, 11)
    monkeypatch.setattr(throughput, "SIZES", (tiny,))
    throughput.main(["--quick", "--out", str(tmp_path / "training-cpu.json")])
    stored = json.loads((tmp_path / "training-cpu.json").read_text())
    monkeypatch.setattr(throughput, "read_stored", lambda *_: stored)
    found = accuracy.speeds()
    assert set(found) == set(ENCODINGS) and found["learned"].value == 1
    assert all(e.low <= e.value <= e.high for e in found.values())
    assert f"| {found['agf']:.2f} |" in field_prose.costs(page().here) and str(tiny) in field_prose.costs(page().here)
    monkeypatch.setattr(throughput, "read_stored", lambda *_: None)
    assert accuracy.speeds() == {} and "has not stored a training speed" in field_prose.costs(page().here)


def test_measure_reads_what_is_there_and_the_reference_runs(monkeypatch):
    own, stored = records("smoke", A1_BOTH), records("full", A1_BOTH)
    monkeypatch.setattr(chapter_runs, "run_grid", lambda configs: [own[c.id] for c in configs])
    alone = accuracy.measure("smoke")
    assert alone.reference is None and len(alone.here.ids) == len(own)
    for module in (accuracy, chapter_runs):
        monkeypatch.setattr(module, "reference_runs", lambda: stored)
    both = accuracy.measure("smoke")
    assert both.reference is not None and both.deciding.seeds("words") == 8 and not both.same
    for part in ("tasks", "plane"):  # of these the page shows the runs here
        for config in grids.GRIDS[f"accuracy-{part}"]("full"):
            del stored[config.id]
    some = accuracy.measure("smoke")
    assert some.reference is not None and some.plane is some.here.plane and some.task("copy") is some.here.tasks["copy"]
    stored.pop(grids.bytes_runs("full")["t5"][0].id)
    assert accuracy.measure("smoke").reference is None


def test_positions_say_when_context_stops_to_help():
    results = page().here
    results.positions["loss"] = np.where(results.positions["position"] > 4, 2.0, 2.5)
    few = results.positions["name"] == "nope"
    results.positions.loc[few, "loss"] = 3.0
    said = field_prose.positions(results)
    assert "0 for no position; 4 for sinusoidal, learned, rotary" in said


def test_differences_below_delta_are_named():
    said = field_prose.exploratory(reference(saves={**A1_BOTH, "kerple_log": 0.3}, scatter=0.1).deciding)
    assert "by less than δ = 0.5 %: KERPLE-log." in said


def test_the_harness_itself_has_the_error_rate_that_the_interval_promises():
    rng, part, draws = np.random.default_rng(0), claims.Part(0.5, 0.0), []
    for _ in range(40):  # worlds made from eight Gaussian seeds each, nothing planted
        draw = operating.seed_world({"x": rng.normal(0, 2.5, 8)}, {"x": 0.0}, 8)
        draws += [part.verdict(e["x"], c["x"]) for e, c in (draw(rng) for _ in range(200))]
    assert 0.015 < draws.count(SUPPORTED) / len(draws) < 0.04  # 2.5 %; plain resampling of eight makes it 6 to 7
