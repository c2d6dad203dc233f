"""What is measured from weights, here or as stored."""

import json

import pytest
import torch

from agf_core import runs
from agf_core.analysis import measured
from agf_core.runs import RunConfig, run_grid
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

MODEL = {"dim": 16, "layers": 1, "heads": 2, "context": 16}


def tiny(seed):
    return RunConfig(MODEL, DataConfig("recall", "", pairs=2, symbols=4), TrainConfig(128, 4, seed=seed), heldout=64)


def length(model, config):
    return {"norm": round(model.embedding.weight.norm().item(), 4), "seed": config.train.seed}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A store of the test's own, and a file of what is stored."""
    monkeypatch.setenv("AGF_STORE", str(tmp_path))
    monkeypatch.setattr(runs, "reference_runs", dict)
    stored = tmp_path / "norms.json"
    read = lambda *_: json.loads(stored.read_text()) if stored.is_file() else None  # noqa: E731
    monkeypatch.setattr(measured, "read_stored", read)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    measured.stored.cache_clear()
    yield
    torch.set_num_threads(before)
    measured.stored.cache_clear()


def test_from_weights_where_they_are_else_as_stored_else_not_at_all(tmp_path):
    configs, said = [tiny(s) for s in range(3)], []
    assert measured.of("norms", configs, length) == {}
    run_grid(configs[:2], workers=1)
    assert measured.pack("norms", configs[:1], length, tmp_path / "norms.json") == 1
    assert measured.pack("norms", configs[1:2], length, tmp_path / "norms.json") == 1  # adds to what is there
    measured.stored.cache_clear()
    assert set(measured.stored("norms")) == {c.id for c in configs[:2]}
    here = measured.of("norms", configs, length, said.append)
    assert set(here) == {c.id for c in configs[:2]} and said[-1] == "3 of 3 models measured"
    for path in (tmp_path / "runs").glob("*.safetensors"):
        path.unlink()
    assert measured.of("norms", configs, length) == here
    with pytest.raises(FileNotFoundError, match="no weights of run"):
        measured.pack("norms", configs[2:], length, tmp_path / "norms.json")


def test_the_command_asks_the_module(tmp_path, monkeypatch, capsys):
    run_grid([tiny(0)], workers=1)
    module = type("Norms", (), {"configs": staticmethod(lambda profile: [tiny(0)]), "measure": staticmethod(length)})
    monkeypatch.setattr(measured.importlib, "import_module", lambda name: module)
    assert measured.main(["norms", "--profile", "cpu", "--out", str(tmp_path / "norms.json")]) == 0
    packed = json.loads((tmp_path / "norms.json").read_text())
    assert packed["kind"] == "measured" and packed["models"][tiny(0).id]["seed"] == 0
    assert "packed what 1 models gave" in capsys.readouterr().out
    monkeypatch.setattr(measured.importlib, "import_module", lambda name: object())
    with pytest.raises(SystemExit):
        measured.main(["norms", "--out", str(tmp_path / "norms.json")])
