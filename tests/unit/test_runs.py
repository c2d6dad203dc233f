"""Runs: identity, records, the command. (test_runs_store: what is kept; test_runs_processes: what needs others.)"""

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core import runs
from agf_core.encodings import ENCODINGS
from agf_core.runs import RunConfig, Store, reference_runs, run_grid, with_text
from agf_core.runs.__main__ import main
from agf_core.sources.datasets import DataConfig
from agf_core.training import SCHEDULES, TrainConfig

CORPUS = "generated:power:tokens=20000"
MODEL = {"dim": 16, "layers": 1, "heads": 2, "context": 16}


def tiny(seed=0, *, model=None, rate=3e-3, tokens=10 * 64, **options):
    train = TrainConfig(tokens, 4, rate, seed=seed)
    return RunConfig({**MODEL, **(model or {})}, DataConfig("bytes", CORPUS), train, heldout=320, **options)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A store and reference runs of the test's own, and one thread."""
    (tmp_path / "data/runs").mkdir(parents=True)
    monkeypatch.setenv("AGF_STORE", str(tmp_path))
    monkeypatch.setattr(runs, "data_path", lambda *parts: (tmp_path / "data").joinpath(*parts))
    reference_runs.cache_clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    reference_runs.cache_clear()


@pytest.fixture
def made(monkeypatch):
    """The ids that are made, in order."""
    ids, make = [], runs.make
    monkeypatch.setattr(runs, "make", lambda c, *rest: (ids.append(c.id), make(c, *rest))[1])
    return ids


# --- identity


def test_the_id_is_golden():
    """Stored runs are found by it: a change of this value throws all of them away."""
    assert tiny().id == "c832d2ef93f9986d"


def test_every_key_changes_the_id():
    base = tiny()
    others = [tiny(model={"encoding": "nope"}), tiny(model={"encoding_options": {"start": "matched"}}), tiny(1)]
    others += [tiny(split="valid"), tiny(lengths=(1, 2)), tiny(by_symbol=True), tiny(through=3)]
    others += [dataclasses.replace(base, heldout=321)]
    changes = {"tokens": 1, "batch": 8, "rate": 1e-3, "schedule": "constant", "warmup": 0.1, "weight_decay": 0.0}
    changes |= {"clip": 2.0, "seed": 2, "precision": "bfloat16"}
    assert changes.keys() == {f.name for f in dataclasses.fields(TrainConfig)}
    for name, value in changes.items():
        others.append(dataclasses.replace(base, train=dataclasses.replace(base.train, **{name: value})))
    for name, value in {"kind": "words", "corpus": "brown", "vocabulary": 9, "pairs": 9, "symbols": 40}.items():
        others.append(dataclasses.replace(base, data=dataclasses.replace(base.data, **{name: value})))
    assert len({c.id for c in [base, *others]}) == 1 + len(others)
    assert tiny(model=dict(reversed(MODEL.items()))).id == base.id  # the order of keys is nothing


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(list(ENCODINGS)),
    st.sampled_from(["bytes", "words", "tags"]),
    st.builds(TrainConfig, st.integers(1, 10**9), st.integers(1, 99), st.floats(1e-6, 1), st.sampled_from(SCHEDULES)),
    st.lists(st.integers(1, 16), min_size=1, max_size=4).map(tuple),
    st.booleans(),
    st.integers(0, 3),
)
def test_a_configuration_survives_json(encoding, kind, train, lengths, by_symbol, through):
    model = {**MODEL, "encoding": encoding, "encoding_options": {"start": "matched"}}
    config = RunConfig(model, DataConfig(kind, CORPUS), train, "valid", 5, lengths, by_symbol, through)
    back = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config and back.id == config.id and len(config.id) == 16


@pytest.mark.parametrize(
    ("where", "key"), [((), "epochs"), (("model",), "depth"), (("data",), "language"), (("train",), "momentum")]
)
def test_unknown_keys_are_refused(where, key):
    stored = tiny().to_dict()
    part = stored
    for name in where:
        part = part[name]
    part[key] = 1
    with pytest.raises(TypeError, match=key):
        RunConfig.from_dict(stored)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": {"vocab_size": 9}}, "the data decide vocab_size"),
        ({"model": {"encoding": "rope"}}, "unknown encoding 'rope'; choose from nope"),
        (
            {"model": {"encoding": "field", "encoding_options": {"law": "cube"}}},
            "unknown law 'cube'; choose from power",
        ),
        ({"model": {"heads": 3}}, "dim 16 must be an even multiple of the 3 heads"),
        ({"split": "dev"}, "unknown split 'dev'; choose from train, valid, test"),
        ({"lengths": ()}, "heldout and lengths start at 1"),
        ({"through": -1}, "heldout and lengths start at 1, through at 0"),
    ],
)
def test_wrong_values_are_refused_before_any_run(given, message):
    with pytest.raises(ValueError, match=message):
        tiny(**given)


def test_with_text_puts_another_text_under_every_run_that_has_one(tmp_path):
    other = with_text(tiny(), "speeches.txt")
    assert other.data == DataConfig("bytes", "speeches.txt") and other.train == tiny().train and other.id != tiny().id
    recall = RunConfig(MODEL, DataConfig("recall", "", pairs=2, symbols=4))
    assert with_text(recall, "speeches.txt") == recall


# --- records


def test_the_losses_of_symbols_on_the_way():
    (record,) = run_grid([tiny(through=3, by_symbol=True)], workers=1)
    assert [tokens for tokens, _ in record["through"]] == [64, 64, 640][1:]
    assert record["through"][-1][1] == record["measured"]["16"]["symbols"] and "through" in record["config"]
    assert "through" not in run_grid([tiny()], workers=1)[0]


def test_a_record_says_what_came_out_and_where_from():
    config = tiny(lengths=(1, 4), by_symbol=True)
    [record] = run_grid([config])
    assert record["id"] == config.id and RunConfig.from_dict(record["config"]) == config and record["status"] == "ok"
    assert record["parameters"]["encoding"] == 2 and record["epochs"] > 0 and 0 < record["chance"] < 1
    assert list(record["measured"]) == ["16", "64"]
    assert "symbols" in record["measured"]["16"] and "symbols" not in record["measured"]["64"]
    assert record["curve"][-1][0] == 640 and record["fields"][0]["step"] == 0
    assert record["provenance"]["text"]["name"] == "generated" and record["provenance"]["threads"] == 1
    assert json.loads(json.dumps(record)) == record == Store().own(config)  # made or found: the same


def test_undefined_lengths_are_none():
    [record] = run_grid([tiny(lengths=(1, 2), model={"encoding": "learned"})])
    assert record["measured"]["16"]["loss"] > 0 and record["measured"]["32"] is None


def test_a_text_too_short_is_refused_before_the_training(monkeypatch):
    monkeypatch.setattr(runs, "train", None)
    with pytest.raises(ValueError, match="too few for one window of 1600000"):
        run_grid([tiny(lengths=(1, 100_000))])


def test_a_failed_run_is_a_record_and_stops_nobody():
    said = []
    bad, good = tiny(rate=1e12), tiny()
    records = run_grid([bad, good], say=said.append, workers=1)
    assert [r["status"] for r in records] == ["failed", "ok"]
    assert records[0]["step"] >= 1 and "try a lower rate" in records[0]["error"] and "measured" not in records[0]
    assert RunConfig.from_dict(records[0]["config"]) == bad
    assert any(line.startswith(f"FAILED {bad.id} (agf): loss nan") for line in said)
    with pytest.raises(FileNotFoundError, match=bad.id):
        Store().model(bad)


def test_progress_is_said():
    said = []
    run_grid([tiny(0), tiny(1), tiny(0)], say=said.append, workers=1)
    assert said[0] == "2 runs: 0 are here, 2 to make" and said[-1].startswith("2 of 2 runs made in ")


# --- the command


@pytest.fixture
def grids(monkeypatch):
    module = SimpleNamespace(GRIDS={"tiny": lambda profile: [tiny(0), tiny(1)], "other": lambda profile: []})
    monkeypatch.setitem(sys.modules, "agf_core.analysis.all_grids", module)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["huge"], "unknown grid 'huge'; choose from tiny, other"),
        ([], "no grid is named; choose from tiny, other"),
        (["tiny", "--profile", "gpu"], "choose from '?smoke'?, '?cpu'?, '?full'?"),
        (["tiny", "--text", "nowhere.txt"], "no text file nowhere.txt"),
    ],
)
def test_the_command_refuses_and_lists_the_choices(grids, given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_the_command_makes_and_packs(grids, tmp_path, capsys):
    assert main(["tiny", "--workers", "1", "--out", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "2 runs: 0 are here, 2 to make" in out and "packed 2 runs" in out
    assert {r["id"] for r in json.loads((tmp_path / "out.json").read_text())["records"]} == {tiny(0).id, tiny(1).id}
    assert main(["tiny", "other"]) == 0 and "2 are here, 0 to make" in capsys.readouterr().out


def test_an_interrupted_command_keeps_what_is_finished(grids, made, monkeypatch, capsys):
    make, interrupts = runs.make, [KeyboardInterrupt]

    def second_time(config, *rest):
        if made and interrupts:
            raise interrupts.pop()
        return make(config, *rest)

    monkeypatch.setattr(runs, "make", second_time)
    assert main(["tiny", "--workers", "1"]) == 130
    assert "finished runs are kept" in capsys.readouterr().err
    assert main(["tiny", "--workers", "1"]) == 0
    assert "2 runs: 1 are here, 1 to make" in capsys.readouterr().out and len(made) == 2
