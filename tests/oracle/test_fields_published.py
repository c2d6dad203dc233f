"""Fields against the published encodings: BLOOM's and T5's code, KERPLE's and FIRE's formulas in fp64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from agf_core.fields import (
    ExponentialField,
    MlpField,
    PowerField,
    StretchedExponentialField,
    TableField,
    alibi_slopes,
)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20, 25, 32, 112])
def test_alibi_is_blooms(heads):
    keys = 33
    bloom = build_alibi_tensor(torch.ones(1, keys), heads, torch.float32).view(heads, keys)
    torch.testing.assert_close(alibi_slopes(heads), bloom[:, 1], rtol=1e-6, atol=0)
    # BLOOM adds slope * key position, ALiBi -slope * (query - key): equal up to a constant of the row.
    ours = ExponentialField(heads).log_weight(keys - 1 - torch.arange(keys))
    torch.testing.assert_close(ours - ours[:, :1], bloom, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 8, 64])
def test_alibi_is_the_papers_for_powers_of_two(heads):
    expected = torch.tensor([2 ** (-8 * h / heads) for h in range(1, heads + 1)])
    torch.testing.assert_close(alibi_slopes(heads), expected)


@pytest.mark.parametrize(("size", "max_distance"), [(32, 128), (8, 20), (16, 128), (64, 512), (7, 50)])
def test_buckets_are_t5s_decoders(size, max_distance):
    distance = torch.arange(0, 5000)
    t5 = T5Attention._relative_position_bucket(-distance, False, size, max_distance)  # T5 counts key - query
    field = TableField(2, size, max_distance=max_distance, initial=torch.randn(2, size))
    assert torch.equal(field.bucket(distance), t5)
    assert torch.equal(field.log_weight(distance), field.table[:, t5])


@pytest.mark.parametrize(("size", "max_distance"), [(32, 128), (16, 40)])
def test_directional_buckets_are_t5s_encoders(size, max_distance):
    distance = torch.arange(-3000, 3000)
    t5 = T5Attention._relative_position_bucket(-distance, True, size, max_distance)
    table = torch.randn(3, size)
    sides = table.view(3, 2, size // 2).transpose(0, 1)  # T5: the past's buckets, then the future's
    field = TableField(3, size // 2, max_distance=max_distance, initial=sides, directional=True)
    assert torch.equal(field.log_weight(distance), table[:, t5])


@given(p=st.floats(0.05, 5), a=st.floats(0.001, 20))
@settings(max_examples=30, deadline=None)
def test_kerple_log(p, a):
    """KERPLE-log: -p log(1 + a r)."""
    exponent, scale = torch.tensor([p], dtype=torch.float64), torch.tensor([1 / a], dtype=torch.float64)
    field = PowerField(1, exponent, scale, trainable_scale=True)
    r = torch.arange(0, 3000, 7)
    expected = torch.tensor([[-p * math.log(1 + a * x) for x in r.tolist()]], dtype=torch.float64)
    torch.testing.assert_close(field.log_weight(-r).detach(), expected, rtol=1e-12, atol=1e-12)


@given(a=st.floats(0.001, 3), p=st.floats(0.05, 1.95))
@settings(max_examples=30, deadline=None)
def test_kerple_power(a, p):
    """KERPLE-power: -a r^p, 0 < p <= 2."""
    rate, shape = torch.tensor([a], dtype=torch.float64), torch.tensor([p], dtype=torch.float64)
    field = StretchedExponentialField(1, rate, shape)
    r = torch.arange(0, 3000, 7)
    expected = torch.tensor([[-a * x**p for x in r.tolist()]], dtype=torch.float64)
    torch.testing.assert_close(field.log_weight(r).detach(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", [20, 50])
def test_fire(length):
    """FIRE: f(log(1 + c (i - j)) / log(1 + c max(L, i))), values and gradients, below the threshold and past it."""
    torch.manual_seed(length)
    field = MlpField(3, threshold=30.5, trainable_threshold=True).double()
    query = torch.arange(length)[:, None]
    distance = (query - torch.arange(length)).clamp(min=0)
    ours = field.log_weight(distance, query)
    first, last = field.mlps[0][0], field.mlps[0][2]
    c = torch.log1p(torch.exp(field._rate.raw))
    limit = torch.log1p(torch.exp(field._threshold.raw))
    expected = torch.empty_like(ours)
    for i in range(length):
        for j in range(i + 1):
            position = limit if i < limit else torch.tensor(float(i), dtype=torch.float64)
            x = torch.log(c * (i - j) + 1) / torch.log(c * position + 1)
            hidden = torch.relu(first.weight[:, 0] * x + first.bias)
            expected[:, i, j] = last.weight @ hidden + last.bias
    past = torch.ones(length, length, dtype=torch.bool).tril()
    torch.testing.assert_close(ours[:, past], expected[:, past], rtol=1e-11, atol=1e-11)
    weights = torch.randn_like(ours)[:, past]
    parameters = list(field.parameters())
    got = torch.autograd.grad((ours[:, past] * weights).sum(), parameters, retain_graph=True)
    want = torch.autograd.grad((expected[:, past] * weights).sum(), parameters)
    for ours_grad, grad in zip(got, want, strict=True):
        torch.testing.assert_close(ours_grad, grad, rtol=1e-8, atol=1e-10)
