"""The page's GPU section, on a run of known content and without any."""

import json
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from agf_core.analysis import kernel_gpu_figures as gpu


@pytest.fixture
def run():
    where = [{"dim": d, "length": n, "batch": 2, "heads": 4, "groups": 4} for d in (64, 128) for n in (2048, 4096)]
    targets = [
        {"target": "G1", "what": "on / off", "value": 1.2 if w["dim"] == 64 else 1.0, "limit": 1.1, **w} for w in where
    ]
    targets.append({"target": "G10", "what": "compilations", "value": 0, "limit": 0})
    times = [
        {"name": name, "seconds": 1e-3 * w["length"] / 2048, "rounds": [1e-3], "passes": passes, **w}
        for w in where for passes in ("forward", "backward") for name in ("logit", "flash")
    ]  # fmt: skip
    times.append({"name": "on", "seconds": 1.0, "rounds": [1.0], "passes": "decode", **where[0]})
    provenance = {"device": "a card", "commit": "abc"}
    ceilings = {"flops": 1e14, "bytes": 1e12}
    return {
        "targets": targets,
        "times": times,
        "ceilings": ceilings,
        "provenance": provenance,
        "torch": "2",
        "triton": "3",
    }


def test_without_a_run_nothing_is_claimed():
    text = gpu.in_words(None)
    assert "No run on a GPU is stored" in text and gpu.COMMAND in text


def test_missed_targets_are_named(run):
    text = gpu.in_words(run)
    assert "3 of 5 measurements meet" in text and text.endswith("missed somewhere: G1.")


def test_what_has_no_limit_is_said_at_8192(run):
    where = {"heads": 4, "groups": 4}
    run["notes"] = [
        {"what": f"{passes}, logit, of the product's FLOP/s", "value": value, "dim": d, "length": n, **where}
        for passes, value in (("forward", 0.43), ("backward", 0.31)) for d in (128, 64) for n in (8192, 2048)
    ]  # fmt: skip
    run["notes"].append(
        {"what": "backward, free table, trained / frozen", "value": 1.4, "dim": 64, "length": 8192, **where}
    )
    assert gpu.in_words(run).endswith(
        "G1. Of the rate of one large matrix product, a forward pass reaches 0.43 (head size 128) and 0.43 (head size "
        "64), a backward pass that trains the field, 0.31 (head size 128) and 0.31 (head size 64). Training a free "
        "table costs, over a frozen field, 1.40 (head size 64)."
    )


@pytest.mark.slow
def test_a_rehearsed_benchmark_makes_a_page(tmp_path):
    """Every line of the GPU's run, in Triton's interpreter, and what this page makes of what it writes."""
    pytest.importorskip("triton")
    path = tmp_path / "run.json"
    command = [sys.executable, "-m", "agf_core.analysis.kernels_gpu", "--rehearse", "--skip-checks", "--out", str(path)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text(encoding="utf8"))
    assert {row["target"] for row in found["targets"]} >= {"G1", "G4", "G7", "G8", "G9", "G10", "G11"}
    assert "measurements meet their target" in gpu.in_words(found)
    fig, table = gpu.draw(found)
    assert set(table["name"].dropna()) >= {"plain", "logit", "weight", "table"}
    plt.close(fig)


def test_the_limit_is_operations_over_rate():
    row = {"batch": 2, "heads": 4, "length": 1024, "dim": 64, "passes": "forward"}
    assert gpu.limit_seconds(row, 1e12) == pytest.approx(4 * 2 * 4 * 1024**2 * 64 / 2 / 1e12)
    assert gpu.limit_seconds({**row, "passes": "backward"}, 1e12) == pytest.approx(2.5 * gpu.limit_seconds(row, 1e12))


def test_the_picture_has_every_target_and_the_largest_heads_times(run):
    fig, table = gpu.draw(run)
    top, *below = fig.axes
    assert [t.get_text() for t in top.get_yticklabels()] == ["G1  on / off", "G10  compilations"]
    drawn = {"ours, trained field", "PyTorch, flash", "limit: products alone"}
    assert all({line.get_label() for line in ax.get_lines()} == drawn for ax in below)
    assert set(table["dim"].dropna()) == {128} and len(table["target"].dropna()) == 5
    plt.close(fig)
