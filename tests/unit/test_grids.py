"""The runs of the chapters: what they must share, must never share, and how rate and start are chosen."""

import json

import pytest

from agf_core import runs
from agf_core.analysis import field_grids, grids
from agf_core.encodings import ENCODINGS
from agf_core.sources.tables import data_path

PROFILES = ("smoke", "cpu", "full")
PARTS = [name for name in grids.GRIDS if name.startswith("accuracy-")]


@pytest.fixture(autouse=True)
def stored(monkeypatch):
    """Reference runs of the test's own, none at first."""
    records = {}
    monkeypatch.setattr(grids, "reference_runs", lambda: records)
    grids.tuned.cache_clear()
    yield records
    grids.tuned.cache_clear()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profiles_grid_builds_and_no_run_is_in_two_parts(profile):
    ids = [c.id for part in PARTS for c in grids.GRIDS[part](profile)]
    assert len(ids) == len(set(ids))
    whole = [c.id for c in grids.accuracy(profile)]
    assert len(whole) == len(set(whole))
    of_parts = {c.id for part in PARTS if "tuning" not in part for c in grids.GRIDS[part](profile)}
    assert set(whole) == of_parts


@pytest.mark.parametrize("profile", PROFILES)
def test_tuning_and_verdicts_share_neither_seeds_nor_documents(profile):
    confirmatory, tuning = (
        grids.accuracy(profile),
        [c for task in grids.TUNING for c in grids.flat(grids.tuning(task))],
    )
    assert {c.split for c in confirmatory} == {"test"} and {c.split for c in tuning} == {"valid"}
    assert max(c.train.seed for c in confirmatory) < 1000 <= min(c.train.seed for c in tuning)


def test_reference_runs_have_the_seeds_that_a_verdict_asks_for():
    on_bytes, on_words = grids.bytes_runs("full"), grids.task_runs("words", "full")
    assert all(len(on_bytes[n]) == 8 for n in (*grids.CONFIRMATORY, grids.FIELD_ONLY))
    assert set(on_words) == set(grids.SIX) and all(len(configs) == 8 for configs in on_words.values())
    assert set(on_bytes) == {*ENCODINGS, grids.FIELD_ONLY}
    [alone] = {c.model["association"] for c in on_bytes[grids.FIELD_ONLY]}
    assert alone is False and on_bytes[grids.FIELD_ONLY][0].train == on_bytes["agf"][0].train


def test_everybody_is_tuned_alike_and_the_parameters_are_the_readers():
    by_rate = {}
    for (_, _, rate), configs in grids.tuning("bytes").items():
        by_rate.setdefault(rate, set()).add(tuple((c.train.tokens, c.train.batch, c.train.seed) for c in configs))
    assert set(by_rate) == set(grids.RATES) and all(len(budgets) == 1 for budgets in by_rate.values())
    moved = grids.accuracy("smoke", "inaugural", 7)
    assert {c.data.corpus for c in moved} == {"inaugural", ""} and min(c.train.seed for c in moved) == 7
    assert {c.data.kind for c in moved} == {"bytes", "words", "recall", "copy"}, "inaugural has no tags"
    assert {"tags"} <= {c.data.kind for c in grids.accuracy("smoke", "generated:exponential")}
    assert all(c.model["encoding_options"]["directional"] for c in grids.task_runs("tags", "smoke")["agf"])


def tell(stored, losses):
    """Store the tuning runs on bytes: (encoding, start, rate) → nats; a diverged run for None."""
    for key, configs in grids.tuning("bytes").items():
        for config in configs if key in losses else ():
            loss = losses[key]
            measured = {"measured": {"128": {"loss": loss}}, "status": "ok"} if loss else {"status": "failed"}
            stored[config.id] = {**measured, "config": config.to_dict()}
    grids.tuned.cache_clear()


def test_the_rate_is_the_best_of_the_stored_tuning_runs(stored):
    assert grids.tuned_rate("t5", "bytes") == grids.RATE
    rates = grids.RATES
    tell(stored, {("t5", "matched", r): 2.0 + (r - rates[1]) ** 2 for r in rates} | {("agf", "matched", rates[0]): None}
         | {("agf", "matched", rates[2]): 1.9})  # fmt: skip
    assert grids.tuned_rate("t5", "bytes") == grids.tuned_rate("t5", "recall") == rates[1]
    assert grids.tuned_rate("agf", "bytes") == rates[2]
    assert grids.tuned_rate("t5", "words") == grids.RATE  # tuned apart
    assert grids.bytes_runs("cpu")["t5"][0].train.rate == rates[1]
    stored.popitem()  # half a tuning run does not count
    grids.tuned.cache_clear()
    assert grids.tuned_rate("agf", "bytes") == grids.RATE


def test_a_rival_has_the_better_of_its_two_starts_and_agf_has_one(stored):
    assert grids.chosen_start("alibi", "bytes") == "matched"
    tell(
        stored, {("alibi", s, r): 2.0 - 0.5 * (s == "published") for s in ("matched", "published") for r in grids.RATES}
    )
    assert grids.chosen_start("alibi", "bytes") == grids.chosen_start("alibi", "copy") == "published"
    assert len(grids.bytes_runs("full")["alibi"]) < len(grids.published_runs("full")["alibi"]) == 8
    assert grids.task_runs("copy", "smoke")["alibi"][0].model["encoding_options"]["start"] == "published"
    assert not any(grids.has_start(n) for n in ("agf", "agf_score", "learned", "rotary", "nope", "untied"))
    assert {n for n, start, _ in grids.tuning("bytes") if start == "published"} == {"sinusoidal", "alibi", "t5"}


def test_the_plane_holds_every_law_at_every_placement_twice():
    cells = grids.plane_runs("full")
    assert len(cells) == 5 * 3 * 2
    for (law, placement, trainable), configs in cells.items():
        assert {c.train.rate for c in configs} == {grids.RATE}
        given = configs[0].model["encoding_options"]
        assert (given["law"], given["placement"], given["trainable"], given["start"]) == (
            law, placement, trainable, "matched",
        )  # fmt: skip


# --- the field chapters


@pytest.mark.parametrize("profile", PROFILES)
def test_the_field_chapters_grids_are_made_of_their_parts(profile):
    parts = {name: {c.id for c in field_grids.GRIDS[name](profile)} for name in field_grids.GRIDS if "-" in name}
    whole = {c.id for name in ("decomposition", "power_vs_exp") for c in field_grids.GRIDS[name](profile)}
    assert whole == set.union(*parts.values())
    for name in field_grids.GRIDS:
        ids = [c.id for c in field_grids.GRIDS[name](profile)]
        assert len(ids) == len(set(ids)), name
    seeds = {c.train.seed for name in field_grids.GRIDS for c in field_grids.GRIDS[name](profile)}
    assert max(seeds) < 1000, "pilots and tuning runs decide nothing"


def test_what_a_claim_scores_has_eight_seeds_and_its_reference_runs_are_stored(stored):
    stored |= runs.reference_runs()  # the rates are those of the real tuning runs
    grids.tuned.cache_clear()
    kinds = {e: field_grids.named("full", e) for e in field_grids.WITHOUT}
    kinds |= {s: field_grids.free("full", s) for s in field_grids.FREE}
    assert {len(configs) for configs in kinds.values()} == {8}
    missing = [c.id for c in field_grids.power_vs_exp("full") if c.id not in runs.reference_runs()]
    assert not missing
    heads = json.loads((data_path("runs") / "heads.json").read_text("utf8"))["models"]
    assert {c.id for configs in kinds.values() for c in configs} <= set(heads)


def test_a_stopped_model_is_the_same_training_cut_short():
    budgets = field_grids.stopped("full")
    assert len(budgets) == len(field_grids.STOPS) and max(budgets) / min(budgets) == max(field_grids.STOPS)
    about = {json.dumps({**c.to_dict(), "train": {**c.to_dict()["train"], "tokens": 0}}) for configs in budgets.values()
             for c in configs[:1]}  # fmt: skip
    assert len(about) == 1 and all(c.train.schedule == "constant" for configs in budgets.values() for c in configs)
