"""The Triton backend without a GPU: what it says where it cannot run, its tables, its kernels in the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agf_core.attention import triton as backend
from agf_core.attention.problem import check
from agf_core.attention.triton_field import parameters, tabulate
from agf_core.attention.triton_table import PAD, diagonal_blocks, from_diagonals, pairs
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
@pytest.mark.parametrize(
    "law",
    [
        lambda both: PowerField(2, exponent=[0.3, 2.0], scale=3.0, trainable_scale=True, directional=both),
        lambda both: ExponentialField(2, trainable=True, directional=both),
        lambda both: StretchedExponentialField(2, shape=0.7, directional=both),
        lambda both: TableField(2, 6, max_distance=12, initial=torch.arange(6.0), directional=both),
    ],
)
def test_the_table_is_the_field(law, directional, causal):
    """slope · base is log g at the distance that each entry stands for, and bend_base its derivative."""
    given = problem(5, 9, field=law(directional), causal=causal)
    table = tabulate(given)
    count = 9 if causal else 13
    distance = torch.arange(8, 8 - count, -1)
    expected = given.field.log_weight(distance)
    slope = torch.ones(2) if table.slope is None else table.slope
    torch.testing.assert_close(slope[:, None] * table.base, expected)
    if directional and not causal:
        assert parameters(given) is None and table.slope is None
    if table.bend_base is not None:
        r, is_power = distance.abs().double(), isinstance(given.field, PowerField)
        for h in range(2):
            bend = table.bend[h].detach().double()
            row = torch.autograd.functional.jacobian(lambda b: torch.log1p(r / b) if is_power else r**b, bend)
            torch.testing.assert_close(table.bend_base[h].double(), row, rtol=1e-5, atol=1e-6)


def test_every_entry_with_the_next():
    table = torch.randn(3, 21)
    found = pairs(table)
    assert found.shape[1] % 16 == 0 and found.is_contiguous()
    for entry in (-PAD, -3, -1, 0, 5, 20, 21, 20 + PAD):
        for second in (0, 1):
            inside = 0 <= entry + second < 21
            expected = table[:, entry + second] if inside else torch.zeros(3)
            assert torch.equal(found[:, PAD + entry, second], expected)


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
