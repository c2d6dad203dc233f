"""Runs in other processes: pools that are interrupted or killed, torchrun, Dask; and what an import costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from agf_core import runs
from agf_core.runs import RunConfig, Store, run_grid
from agf_core.runs.__main__ import main
from agf_core.sources.datasets import DataConfig
from agf_core.training import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "pandas nltk scipy matplotlib seaborn IPython dask distributed transformers"
# The command with a grid of two runs in place of the chapters'. In a worker, the longer one never gets past step 10.
DRIVER = """
import json, os, runpy, sys, time, types
from pathlib import Path

def grid(profile):
    from agf_core.runs import RunConfig
    return [RunConfig.from_dict(c) for c in json.loads(Path("grid.json").read_text())]

def stalling(*given, **options):
    def progress(step, steps, loss):
        if steps == 20 and step == 10:
            Path("stalled").touch()
            time.sleep(600)
    return train(*given, progress=progress, **options)

grids = types.ModuleType("agf_core.analysis.all_grids")
grids.GRIDS = {"tiny": grid}
sys.modules["agf_core.analysis.all_grids"] = grids
if __name__ == "__main__":
    runpy.run_module("agf_core.runs", run_name="__main__")
else:
    from agf_core import runs, training
    train, runs.train, training.SAVE_EVERY = training.train, stalling, 0.0
    Path(f"{os.getpid()}.pid").touch()
"""


def tiny(seed, steps=12, encoding="agf"):
    model = {"dim": 16, "layers": 1, "heads": 2, "context": 16, "encoding": encoding}
    data = DataConfig("bytes", "generated:power:tokens=20000")
    return RunConfig(model, data, TrainConfig(steps * 64, 4, seed=seed), heldout=320)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A store of the test's own, no reference runs, and one thread."""
    monkeypatch.setenv("AGF_STORE", str(tmp_path))
    monkeypatch.setattr(runs, "reference_runs", dict)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def command(configs, *before):
    Path("grid.json").write_text(json.dumps([c.to_dict() for c in configs]))
    Path("driver.py").write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *before, "driver.py", "tiny", "--workers", "2"]
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def alive(pid):
    """A process that has ended, or waits to be reaped, is not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_grid_that_is_ended_from_outside_keeps_what_is_done_and_goes_on(by, tmp_path):
    long, short = tiny(0, steps=20), tiny(1)
    parent, store = command([short, long]), Store()
    try:
        wait_for(lambda: Path("stalled").exists() and store.own(short))
    finally:
        parent.send_signal(by)
        out, error = parent.communicate(timeout=60)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(workers) == 2
    wait_for(lambda: not any(map(alive, workers)), seconds=30)
    assert "2 runs: 0 are here, 2 to make" in out and error.count("Traceback") == 0
    assert parent.returncode == (130 if by == signal.SIGINT else -by)
    assert ("finished runs are kept" in error) == (by == signal.SIGINT)

    with safe_open(store.folder / f"{long.id}.safetensors", "pt") as file:
        assert file.metadata()["step"] == "9"
    first, said = store.own(short), []
    records = run_grid([short, long], workers=1, say=said.append)
    assert said[0] == "2 runs: 1 are here, 1 to make" and records[0] == first
    [whole] = run_grid([long], store=Store(tmp_path / "whole"), workers=1)
    assert [r["curve"] for r in records[1:]] == [whole["curve"]] and records[1]["measured"] == whole["measured"]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed")
def test_two_processes_train_what_one_trains_and_write_it_once():
    configs = [tiny(0, encoding="rotary"), tiny(1)]
    torchrun = command(configs, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    out, error = torchrun.communicate(timeout=120)
    assert torchrun.returncode == 0, error
    assert out.count("2 runs: 0 are here, 2 to make") == 1 and out.count("2 of 2 runs made") == 1
    store = Store()
    assert sorted(p.name for p in store.folder.iterdir()) == sorted(
        f"{c.id}.{kind}" for c in configs for kind in ("json", "safetensors")
    )
    for shared, one in zip(run_grid(configs), run_grid(configs, store=Store(Path("one")), workers=1)):
        assert [tokens for tokens, _ in shared["curve"]] == [tokens for tokens, _ in one["curve"]]
        for (_, loss), (_, wanted) in zip(shared["curve"], one["curve"]):
            assert loss == pytest.approx(wanted, abs=1e-4)
        assert shared["measured"]["16"]["loss"] == pytest.approx(one["measured"]["16"]["loss"], abs=1e-4)
        assert shared["measured"]["16"]["targets"] == one["measured"]["16"]["targets"]


def test_dask_makes_the_same_runs(monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    configs = [tiny(seed, encoding="kerple_log") for seed in (0, 1, 2)]
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        records = run_grid(configs, executor=client.get_executor())
        grids = SimpleNamespace(GRIDS={"tiny": lambda profile: [*configs, tiny(3)]})
        monkeypatch.setitem(sys.modules, "agf_core.analysis.all_grids", grids)
        assert main(["tiny", "--dask", cluster.scheduler_address]) == 0
    assert "4 runs: 3 are here, 1 to make" in capsys.readouterr().out and Store().own(tiny(3))
    one = run_grid(configs, store=Store(Path("one")), workers=1)
    assert [(r["curve"], r["measured"]) for r in records] == [(r["curve"], r["measured"]) for r in one]
    assert run_grid(configs) == records


def test_the_command_needs_torch_numpy_and_safetensors_only():
    code = f"import sys, agf_core.runs; print([m for m in '{HEAVY}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
