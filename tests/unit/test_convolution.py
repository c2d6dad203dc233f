"""Mixing by a field alone as a convolution: equal to attention with scores of 0, values and gradients, in fp64."""

import numpy as np
import pytest
import torch
from scipy import signal

from agf_core.attention import PLACEMENTS, attend
from agf_core.attention.convolution import convolve
from agf_core.encodings import build
from agf_core.fields import (
    ExponentialField,
    MlpField,
    PairField,
    PowerField,
    StretchedExponentialField,
    TableField,
)

LAWS = {
    "power": lambda two: PowerField(4, directional=two, trainable_scale=True),
    "exponential": lambda two: ExponentialField(4, trainable=True, directional=two),
    "stretched": lambda two: StretchedExponentialField(4, directional=two),
    "table": lambda two: TableField(
        4, 64, "every", initial=torch.randn((2, 4, 64) if two else (4, 64)), directional=two
    ),
    "mlp": lambda two: MlpField(4, 64.0, directional=two),
}


def both(field, groups=2, length=23, **call):
    """(attend with q = 0, convolve), with gradients in v and in the field's parameters."""
    torch.manual_seed(1)
    field = field.double() if field is not None else None
    v = torch.randn(2, groups, length, 3, dtype=torch.float64, requires_grad=True)
    k, q = torch.randn_like(v).detach(), torch.zeros(2, 4, length, 3, dtype=torch.float64)
    trained = [v, *(field.parameters() if field is not None else ())]
    found = []
    for out in (attend(q, k, v, field=field, **call), convolve(v, field=field, **call)):
        gradients = torch.autograd.grad((out * torch.linspace(-1, 2, 3)).square().sum(), trained, allow_unused=True)
        found.append([out, *gradients])
    return found


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("law", LAWS)
def test_it_is_attention_without_association(law, placement, causal):
    torch.manual_seed(0)
    exact, found = both(LAWS[law](not causal), placement=placement, causal=causal)
    for a, b in zip(exact, found):
        if b is None:  # a score of 0 stays 0: the field has no part in it
            assert placement == "score" and (a is None or not a.any())
        else:
            torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_without_a_field_it_is_a_running_mean(causal):
    exact, found = both(None, groups=4, causal=causal)
    torch.testing.assert_close(found[0], exact[0], rtol=1e-12, atol=1e-12)
    v = torch.randn(1, 2, 9, 3)
    mean = v.cumsum(2) / torch.arange(1, 10)[:, None] if causal else v.mean(2, keepdim=True).expand_as(v)
    torch.testing.assert_close(convolve(v, causal=causal), mean)


def test_it_is_scipys_convolution():
    field, v = PowerField(1).double(), torch.randn(1, 1, 40, 1, dtype=torch.float64)
    g = field.log_weight(torch.arange(40)).exp()[0].detach().numpy()
    theirs = signal.fftconvolve(v.numpy().ravel(), g)[:40] / np.cumsum(g)
    np.testing.assert_allclose(convolve(v, field=field).detach().numpy().ravel(), theirs, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 100])
def test_any_length_and_nothing_from_the_future(length):
    field, v = ExponentialField(2, 0.3), torch.randn(1, 2, length, 4)
    out = convolve(v, field=field)
    torch.testing.assert_close(out[:, :, 0], v[:, :, 0])
    changed = v.clone()
    changed[:, :, -1] += 100
    torch.testing.assert_close(convolve(changed, field=field)[:, :, :-1], out[:, :, :-1], atol=1e-4, rtol=1e-4)


def test_levels_far_from_zero_and_half_precision():
    field = TableField(2, 8, "every", initial=300.0)  # exp(300) is no float32
    v = torch.randn(1, 2, 8, 4)
    torch.testing.assert_close(convolve(v, field=field), convolve(v))
    low = convolve(v.bfloat16(), field=PowerField(2))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), convolve(v, field=PowerField(2)), atol=0.03, rtol=0.03)


def test_what_is_no_convolution_is_refused():
    v = torch.randn(1, 2, 8, 4)
    with pytest.raises(ValueError, match="no convolution"):
        convolve(v, field=PairField(2, 8))
    with pytest.raises(ValueError, match="no convolution"):
        convolve(v, field=MlpField(2, 4.0))
    with pytest.raises(ValueError, match="unknown placement 'inside'"):
        convolve(v, placement="inside")
    with pytest.raises(ValueError, match=r"2 heads of v must divide the field's 3, got v \(1, 2, 8, 4\)"):
        convolve(v, field=PowerField(3))
    with pytest.raises(ValueError, match=r"got \(2, 8, 4\)"):
        convolve(v[0])


# Weights of its own for every query


def test_pairs_give_each_query_its_own_weights():
    torch.manual_seed(0)
    field, length = PairField(2, 6, gain=3.0).double(), 6
    torch.nn.init.normal_(field.free)
    v = torch.randn(1, 2, length, 3, dtype=torch.float64)
    weights = torch.zeros(2, length, length, dtype=torch.float64)
    for head, i in np.ndindex(2, length):
        weights[head, i, : i + 1] = (3 * field.free[head, i, : i + 1]).softmax(-1).flip(0)  # r = i … 0
    out = attend(torch.zeros_like(v), v, v, field=field)
    torch.testing.assert_close(out, weights @ v)
    out.sum().backward()
    ahead = torch.ones(length, length).triu(1).bool()
    assert not field.free.grad[:, ahead].any()  # no query has a key that far behind it
    with pytest.raises(ValueError, match="at least 1 and gain positive"):
        PairField(2, 0)
    with pytest.raises(ValueError, match=r"initial of shape \(3, 6\) does not fit \(2, 6\)"):
        PairField(2, 6, torch.zeros(3, 6))


def test_pairs_start_from_one_field():
    size = {"layers": 1, "heads": 2, "dim": 8, "context": 12}
    pairs = build("field", law="pairs", start="matched", gain=10.0, **size).field(0)
    power = build("agf", **size).field(0)
    r = torch.arange(12)
    for query in (0, 5, 11, 40):
        torch.testing.assert_close(pairs.log_weight(r, torch.full_like(r, query)), power.log_weight(r))
    assert pairs.needs_query(1) and "size=12" in repr(pairs)
