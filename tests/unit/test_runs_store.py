"""What runs leave: nothing is made twice, a damaged or stale entry is made again, reference runs are shown."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from agf_core import runs, training
from agf_core.runs import RunConfig, Store, pack, reference_runs, run_grid, with_text
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig


def tiny(seed=0, encoding="agf"):
    model = {"dim": 16, "layers": 1, "heads": 2, "context": 16, "encoding": encoding}
    data = DataConfig("bytes", "generated:power:tokens=20000")
    return RunConfig(model, data, TrainConfig(10 * 64, 4, seed=seed), heldout=320)


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


def test_what_is_there_is_not_made_again(made):
    configs = [tiny(1), tiny(0), tiny(1)]
    first = run_grid(configs, workers=1)
    assert sorted(made) == sorted({c.id for c in configs}) and [r["id"] for r in first] == [c.id for c in configs]
    executor = SimpleNamespace(submit=None)  # would fail if it were asked for anything
    assert run_grid(configs, executor=executor) == first and len(made) == 2
    assert not list(Store().folder.glob("*.part"))


def test_a_thread_pool_gives_the_same_runs(tmp_path):
    configs = [tiny(seed, "kerple_log") for seed in range(4)]  # its start is random
    with ThreadPoolExecutor(4) as pool:
        threaded = run_grid(configs, store=Store(tmp_path / "threads"), executor=pool)
    alone = run_grid(configs, store=Store(tmp_path / "alone"), workers=1)
    for one, other in zip(threaded, alone):
        assert {**one, "provenance": None} == {**other, "provenance": None}


def test_the_weights_of_a_finished_run(monkeypatch):
    config = tiny()
    store = Store()
    with pytest.raises(FileNotFoundError, match="reference runs keep none"):
        store.model(config)
    run_grid([config], workers=1)
    measured = runs._measure(config, store.model(config), runs.load_data(config.data))
    assert measured == store.own(config)["measured"]
    (store.folder / f"{config.id}.json").unlink()  # as if it had been interrupted
    with pytest.raises(FileNotFoundError):
        store.model(config)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"id": "x"}', '{"id": "ID", "status": "ok"}', "\xff"])
def test_a_damaged_entry_is_set_aside_and_made_again(content, made, capsys):
    config, store = tiny(), Store()
    store.folder.mkdir()
    path = store.folder / f"{config.id}.json"
    path.write_bytes(content.replace("ID", config.id).encode("latin1"))
    assert store.find(config) is None
    assert not path.exists() and path.with_suffix(".damaged").is_file()
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"note: {config.id}.json is damaged") and f"{config.id}.damaged" in line


def test_an_entry_appears_whole_or_not_at_all(monkeypatch):
    config, store = tiny(), Store()
    [record] = run_grid([config], workers=1)

    def dies(self, *_, **__):
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_text", dies)
    with pytest.raises(OSError, match="no space"):
        store.write({**record, "status": "failed"})
    assert store.own(config) == record


def test_stale_code_means_again_from_the_start(made, monkeypatch):
    config, store = tiny(), Store()
    first = run_grid([config], workers=1)[0]
    assert store.why_stale(first) == ""
    monkeypatch.setattr(runs, "fresh_code", lambda: "newer")
    assert store.why_stale(first) == "the code has changed" and store.find(config) is None
    with pytest.raises(FileNotFoundError):
        store.model(config)
    begun = []
    numbers = training.field_numbers  # noted at step 0 only where a run starts anew
    monkeypatch.setattr(
        training, "field_numbers", lambda *given, **options: (begun.append(1), numbers(*given, **options))[1]
    )
    [again] = run_grid([config], workers=1)
    assert len(made) == 2 and again["code"] == "newer" and begun
    assert store.model(config) is not None


def test_a_text_that_changed_means_again(made, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("All happy families are alike. " * 400)
    config = with_text(tiny(), str(text))
    runs.load_data.cache_clear()
    first = run_grid([config], workers=1)[0]
    text.write_text("Call me Ishmael. " * 800)
    assert "has changed" in Store().why_stale(first)
    runs.load_data.cache_clear()
    second = run_grid([config], workers=1)[0]
    assert len(made) == 2 and second["curve"] != first["curve"]


def test_a_reference_run_is_shown_where_no_fresh_own_run_is(made, tmp_path, monkeypatch):
    config, store = tiny(), Store()
    [record] = run_grid([config], workers=1)
    stored = {**record, "code": "older", "provenance": {**record["provenance"], "commit": "abc"}}
    pack([stored], tmp_path / "data/runs/b.json")
    (tmp_path / "data/runs/a.json").write_text("[]")  # another chapter's results
    reference_runs.cache_clear()
    text = {k: v for k, v in stored["provenance"]["text"].items() if k not in ("path", "mtime_ns")}  # not our machine's
    stored["provenance"]["text"] = text
    assert reference_runs() == {config.id: stored}
    assert store.find(config) == record  # own and fresh
    monkeypatch.setattr(runs, "fresh_code", lambda: "newer")
    assert run_grid([config]) == [stored] and len(made) == 1
    assert run_grid([config], own=True, workers=1)[0]["code"] == "newer" and len(made) == 2


def test_pack_writes_one_line_a_run(tmp_path):
    records = [{"id": "b", "x": 1}, {"id": "a", "x": 2}]
    pack(records, tmp_path / "new/r.json")
    text = (tmp_path / "new/r.json").read_text()
    assert [line[:9] for line in text.splitlines()] == ['{"kind":"', '{"id":"a"', '{"id":"b"', "]}"]
    assert json.loads(text)["records"] == records[::-1]
    pack([], tmp_path / "new/r.json")
    assert json.loads((tmp_path / "new/r.json").read_text()) == {"kind": "runs", "records": []}
