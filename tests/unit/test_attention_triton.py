"""The Triton backend without a GPU: what it says where it cannot run, its tables, its kernels in the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agf_core.attention import triton as backend
from agf_core.attention.problem import check
from agf_core.attention.triton_field import as_law, entries
from agf_core.attention.triton_table import PAD, diagonal_blocks, from_diagonals
from agf_core.attention.triton_tiles import HEAD_SIZES, INTERPRETED, tiles
from agf_core.fields import ExponentialField, MlpField, PowerField, StretchedExponentialField, TableField

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_kernels_in_the_interpreter():
    """All of tests/gpu, on a CPU: in a process of its own, since triton reads TRITON_INTERPRET when it is imported."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("tests/gpu runs on the GPU itself")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    settings = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def problem(queries=9, keys=9, dim=32, field=None, placement="logit", causal=True, dtype=torch.float32, mask=None):
    q, k = torch.zeros(1, 2, queries, dim, dtype=dtype), torch.zeros(1, 2, keys, dim, dtype=dtype)
    return check(q, k, k, field, placement, causal, mask, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "it runs on cuda, not on cpu"),
        ({"placement": "score", "field": PowerField(2)}, "not as 'score'; use 'blockwise'"),
    ],
)
def test_it_says_what_is_missing(change, reason):
    pytest.importorskip("triton")
    assert reason in backend.unsupported(problem(**change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dim": 40}, r"head sizes are 32, 64, 128, got 40 from q \(1, 2, 9, 40\)"),
        ({"dtype": torch.float64}, "not in float64"),
        ({"dtype": torch.bfloat16}, "interpreter cannot multiply bfloat16"),
        ({"field": MlpField(2, threshold=4)}, "depends on the query's position"),
        ({"queries": 0}, r"empty tensors, got q \(1, 2, 0, 32\)"),
    ],
)
def test_it_says_what_it_does_not_take(monkeypatch, change, reason):
    monkeypatch.setattr(backend, "_INSTALLED", True)
    monkeypatch.setattr(backend, "_INTERPRETED", True)
    assert backend.unsupported(problem()) is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(backend.unsupported(problem(**change)))


def test_without_triton(monkeypatch):
    monkeypatch.setattr(backend, "_INSTALLED", False)
    assert "pip install triton" in backend.unsupported(problem())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("directional", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", ["power", "exponential", "stretched", "table"])
def test_the_law_is_the_field(name, directional, causal, trainable):
    """log g and its gradient, from what the operator is given and from the field itself."""
    both = {"directional": directional}
    field = {
        "power": lambda: PowerField(2, [0.3, 50.0], scale=3.0, trainable=trainable, trainable_scale=trainable, **both),
        "exponential": lambda: ExponentialField(2, [1e-3, 45.0], trainable=trainable, **both),
        "stretched": lambda: StretchedExponentialField(2, shape=0.7, trainable=trainable, **both),
        "table": lambda: TableField(2, 6, max_distance=12, initial=torch.arange(6.0), trainable=trainable, **both),
    }[name]()
    given = problem(5, 9, field=field, causal=causal)
    law = as_law(given)
    assert law.name == ("table" if directional and not causal else name)
    r = torch.arange(8, 8 - entries(5, 9, causal), -1)
    bend = None if law.bend is None else law.bend[:, None]
    shapes = {"power": lambda r: torch.log1p(r / bend), "exponential": lambda r: r, "stretched": lambda r: r.pow(bend)}
    found = law.base if law.name == "table" else -law.rate[:, None] * shapes[law.name](r.abs().float())
    expected = field.log_weight(r)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if trainable:
        for mine, exact in zip(*(torch.autograd.grad(x.sum(), list(field.parameters())) for x in (found, expected))):
            torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("queries", "keys"), [(20, 20), (7, 30), (16, 16), (33, 5), (1, 9)])
@pytest.mark.parametrize("causal", [True, False])
def test_diagonals_become_the_table(queries, keys, causal):
    """What `diagonal_kernel` would write for a known matrix, summed up to its diagonals."""
    if causal and queries > keys:
        return
    side = 8
    change = torch.randn(2, 1, queries, keys, dtype=torch.float64)
    if causal:
        change = change.tril(keys - queries)
    blocks = diagonal_blocks(side, queries, keys, causal)
    sums = torch.zeros(2, 1, blocks, 2, side, dtype=torch.float64)
    for n in range(queries):
        for j in range(keys):
            d = j // side - n // side + -(-queries // side) - 1
            within = j % side - n % side
            if d < blocks:
                sums[:, :, d, int(within >= 0), within % side] += change[:, :, n, j]
            else:
                assert not change[:, :, n, j].any()
    count = keys if causal else queries + keys - 1
    found = from_diagonals(sums, side, queries, count)
    for x in range(count):
        expected = change.sum((0, 1)).diagonal(x - queries + 1).sum()
        torch.testing.assert_close(found[0, x], expected)


def test_every_device_has_tiles_within_the_padding():
    for capability in (INTERPRETED, (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)):
        for dim in HEAD_SIZES:
            for dtype in (torch.float16, torch.bfloat16, torch.float32):
                for weight in (False, True):
                    used = tiles(capability, dim, dtype, weight)
                    for tile in (used.forward, used.dq, used.dkdv, used.diagonal):
                        assert tile.rows + tile.cols <= PAD and tile.rows % 4 == tile.cols % 4 == 0
                    assert used.diagonal.rows == used.diagonal.cols
