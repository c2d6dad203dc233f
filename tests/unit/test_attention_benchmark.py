"""The benchmark's instruments on known answers, and its result as JSON (what it measures is never asserted)."""

import json
import math
import time

import numpy as np
import pytest
import torch

from agf_core.analysis import kernel_runs, kernels
from agf_core.analysis.kernel_figures import target_table
from agf_core.fields import PowerField


def test_interleaved_rounds_time_what_ran():
    taken = kernel_runs.interleave({"short": lambda: None, "long": lambda: time.sleep(0.01)}, rounds=3)
    assert taken.shape == (3, 2) and (taken["long"] >= 0.01).all() and (taken["short"] < taken["long"]).all()


def test_peak_memory_sees_what_is_taken_and_given_back():
    megabytes = kernel_runs.peak_memory(lambda: torch.ones(16 * 2**20).sum())
    assert math.isnan(megabytes) or 60 < megabytes < 80  # 64 MB


@pytest.mark.parametrize("name", [n for n in kernel_runs.NAMES if n not in ("flex", "alibi")])
def test_every_contestant_runs_both_ways(name):
    kernel_runs.one_pass(name, kernel_runs.inputs(16, heads=2), training=True)()
    kernel_runs.one_pass(name, kernel_runs.inputs(16, heads=2), training=False, causal=False)()


def test_both_ways_of_mixing_by_a_field_alone_are_the_same_and_train_the_same():
    q, k, v, grad = (t.detach() for t in kernel_runs.inputs(40, heads=2))
    field = PowerField(2)
    ways = kernel_runs.alone(q, k, v, field)
    by_scores, by_fft = (ways[n](v) for n in (kernel_runs.BY_SCORES, kernel_runs.BY_FFT))
    torch.testing.assert_close(by_fft, by_scores, atol=1e-5, rtol=1e-5)
    seen = []
    for training in (False, True):
        kernel_runs.pass_of(lambda x: seen.append(torch.is_grad_enabled()) or ways[kernel_runs.BY_FFT](x), v, grad,
                            training, list(field.parameters()))()  # fmt: skip
    assert seen == [False, True]


def test_errors_are_float32s():
    table = kernels.errors([40])
    assert set(table["name"]) == {"plain", "logit", "score", "weight"}
    assert table["error"].between(0, 1e-4).all() and (table["error"] > 0).any()


def test_a_small_run_is_json_and_says_that_it_is_small():
    result = json.loads(json.dumps(kernels.measure([16, 32], 2, ("plain", "dense", "logit"), long=0)))
    assert {row["length"] for row in result["times"]} == {16, 32}
    assert "too small to tell" in kernels.report(result) and "too small to tell" in kernels.in_words(result, "Here")
    assert kernels.limit_seconds([100], False, 1e9)[0] == pytest.approx(2 * 8 * 64 * 100**2 / 1e9)


def test_a_target_is_decided_by_the_interval_of_the_rounds_ratios():
    rng = np.random.default_rng(0)
    inside = [low <= 0 <= high for low, high in (kernels.median_interval(rng.normal(size=30)) for _ in range(400))]
    assert 0.92 <= np.mean(inside) <= 0.99
    assert kernels.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    row = {"low": 1.0, "value": 1.05, "high": 1.1}
    assert [kernels.verdict({**row, "limit": x}) for x in (1.2, 1.05, 0.9)] == ["met", "undecided", "not met"]


def test_the_table_of_targets_says_what_the_report_says():
    rows = [{"target": "C1", "what": "forward", "value": 1.2, "low": 1.16, "high": 1.24, "best": 1.1, "limit": 1.15},
            {"target": "C4", "what": "memory, MB", "value": 49.0, "low": 49.0, "high": 49.0, "best": 49.0,
             "limit": 64.0}]  # fmt: skip
    long, short = ({"targets": rows, "times": [{"length": n}]} for n in (kernels.TARGET_LENGTH, 256))
    lines = target_table({"here": short, "stored": long}).splitlines()[2:]
    assert [line.split(" | ")[-1].rstrip(" |") for line in lines] == ["too small to tell"] * 2 + ["not met", "met"]
    assert "1.20 [1.16, 1.24]" in lines[2] and " 49 |" in lines[3]
