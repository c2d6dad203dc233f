"""Every backend against the formula, written apart from the library and differentiated in float64.

Placement × law × shape × causal × grouped heads × padding, values and all gradients (q, k, v, the field's parameters);
shapes and stripe sizes are hypothesis's choice, so that ragged stripes and chunks come up with small tensors.
"""

import copy
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agf_core.attention import PLACEMENTS, attend, attention_weights, stripe_backward, stripe_forward, stripes
from agf_core.fields import (
    ExponentialField,
    MlpField,
    PowerField,
    StretchedExponentialField,
    TableField,
)

FIELDS = {
    "none": lambda heads, two: None,
    "power": lambda heads, two: PowerField(heads, trainable_scale=True, directional=two),
    "exponential": lambda heads, two: ExponentialField(heads, trainable=True, directional=two),
    "stretched": lambda heads, two: StretchedExponentialField(heads, shape=0.7, directional=two),
    "table": lambda heads, two: TableField(
        heads, 6, max_distance=12, initial=torch.randn(*([2] if two else []), heads, 6), directional=two
    ),
    "mlp": lambda heads, two: MlpField(heads, threshold=1000, directional=two),
    "mlp past its threshold": lambda heads, two: MlpField(heads, threshold=9, directional=two),
}


def field_formula(field, distance, query):
    """g_h(r), (H, N, M), from the parameters and the laws as published; the future's set where r < 0."""
    if field is None:
        return torch.ones_like(distance)

    def side(index):
        def own(value):
            return (value[index] if field.directional else value)[:, None, None]

        r = distance.abs()
        if isinstance(field, PowerField):
            return (1 + r / own(field.scale)) ** -own(field.exponent)
        if isinstance(field, ExponentialField):
            return torch.exp(-own(field.rate) * r)
        if isinstance(field, StretchedExponentialField):
            positive = torch.where(r > 0, r, 1)  # 0^p and its gradient are 0
            return torch.where(r > 0, torch.exp(-own(field.rate) * positive ** own(field.shape)), 1)
        if isinstance(field, TableField):
            table = field.table[index] if field.directional else field.table
            return torch.exp(torch.stack([row[field.bucket(distance)] for row in table]))
        limit = torch.maximum(field.threshold, query)
        x = torch.log(1 + field.rate * r) / torch.log(1 + field.rate * limit)
        first, _, last = field.mlps[index if field.directional else 0]
        hidden = torch.relu(x[..., None] * first.weight[:, 0] + first.bias)
        return torch.exp(torch.einsum("nmw,hw->hnm", hidden, last.weight) + last.bias[:, None, None])

    return torch.where(distance < 0, side(1), side(0)) if field.directional else side(0)


def attention_formula(q, k, v, field, placement, causal, key_mask, scale):
    """Weights and output, head by head, by the definition: exponentials over their sum."""
    (batch, heads, queries, _), (groups, keys) = q.shape, k.shape[1:3]
    position = torch.arange(keys - queries, keys, dtype=torch.float64)[:, None]
    distance = position - torch.arange(keys, dtype=torch.float64)
    g = field_formula(field, distance, position).expand(heads, queries, keys)
    weights = []
    for b in range(batch):
        seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
        if key_mask is not None:
            seen = seen & key_mask[b]
        for h in range(heads):
            score = scale * q[b, h] @ k[b, h // (heads // groups)].T
            score = score * g[h] if placement == "score" else score
            mass = torch.exp(score - score.detach().max()) * seen if keys else score
            mass = mass * g[h] if placement == "logit" else mass
            total = mass.sum(-1, keepdim=True)
            share = mass / torch.where(total > 0, total, 1)
            weights.append(share * g[h] if placement == "weight" else share)
    weights = torch.stack(weights).view(batch, heads, queries, keys)
    mixed = torch.einsum("bhnm,bhmd->bhnd", weights, v[:, torch.arange(heads) // (heads // groups)])
    return weights, mixed


@st.composite
def calls(draw):
    causal = draw(st.booleans())
    queries = draw(st.integers(1, 21))
    keys = draw(st.integers(queries, 27) if causal else st.integers(1, 27))
    groups, repeat = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        "shape": (draw(st.integers(1, 3)), groups * repeat, groups, queries, keys, draw(st.integers(1, 9))),
        "causal": causal,
        "mask": draw(st.sampled_from([None, "random", "first keys", "nothing left"])),
        "directional": draw(st.booleans()),
        "transposed": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float64, torch.float64, torch.float32])),
        "scale": draw(st.sampled_from([None, 0.7])),
        "rows": draw(st.sampled_from([3, 8, 64])),
        "tile": draw(st.sampled_from([1, 5, 2048])),
        "working_set": draw(st.sampled_from([1, 200, 2**19])),
        "seed": draw(st.integers(0, 10**6)),
    }


def make(call):
    batch, heads, groups, queries, keys, dim = call["shape"]

    def tensor(count, length):
        if call["transposed"]:  # as a model has it: (batch, length, heads, dim)
            x = torch.randn(batch, length, count, dim, dtype=torch.float64).transpose(1, 2)
        else:
            x = torch.randn(batch, count, length, dim, dtype=torch.float64)
        return x.to(call["dtype"]).requires_grad_()

    mask = None
    if call["mask"]:
        mask = torch.rand(batch, keys) > 0.4
        if call["mask"] == "first keys":
            mask[0, : keys // 2] = False
        elif call["mask"] == "nothing left":
            mask[0] = False
    q, k, v = tensor(heads, queries), tensor(groups, keys), tensor(groups, keys)
    return q, k, v, mask, torch.randn(batch, heads, queries, dim, dtype=torch.float64).to(call["dtype"])


def close(ours, expected, dtype, what):
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    assert torch.isfinite(ours).all(), what
    error = (ours.double() - expected).abs().max().item() if ours.numel() else 0.0
    limit = tolerance * (1 + expected.abs().max().item() if expected.numel() else 1)
    assert error <= limit, f"{what}: error {error:.2e}, limit {limit:.2e}"


@pytest.mark.parametrize("backend", ["reference", "blockwise", "blockwise without the CPU kernel"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("law", FIELDS)
@given(call=calls())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_values_and_all_gradients(backend, placement, law, call):
    torch.manual_seed(call["seed"])
    q, k, v, mask, grad = make(call)
    field = FIELDS[law](q.shape[1], call["directional"])
    field = field if field is None or call["dtype"] == torch.float32 else field.double()
    parameters = [] if field is None else list(field.parameters())
    kernel = None if backend.endswith("kernel") else stripe_forward._FLASH
    with (
        mock.patch.object(stripes, "ROWS", call["rows"]),
        mock.patch.object(stripes, "WORKING_SET", call["working_set"]),
        mock.patch.object(stripe_backward, "TILE", call["tile"]),
        mock.patch.object(stripe_forward, "_FLASH_ROWS", call["rows"]),
        mock.patch.object(stripe_forward, "_FLASH", kernel),
    ):
        options = {"placement": placement, "causal": call["causal"], "key_mask": mask, "scale": call["scale"]}
        out = attend(q, k, v, field=field, backend=backend.split()[0], **options)
        ours = torch.autograd.grad(out, [q, k, v, *parameters], grad, allow_unused=True)

    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    twin = copy.deepcopy(field).double() if field is not None else None
    twins = [] if twin is None else list(twin.parameters())
    scale = q.shape[-1] ** -0.5 if call["scale"] is None else call["scale"]
    weights, expected = attention_formula(*exact, twin, placement, call["causal"], mask, scale)
    theirs = torch.autograd.grad(expected, exact + twins, grad.double(), allow_unused=True)
    assert out.dtype == call["dtype"] and out.shape == q.shape
    close(out, expected, call["dtype"], "output")
    close(attention_weights(q, k, v, field=field, **options), weights, call["dtype"], "weights")
    names = ["dq", "dk", "dv", *(f"d {name}" for name, _ in (field.named_parameters() if field else []))]
    for name, mine, want in zip(names, ours, theirs, strict=True):
        want = torch.zeros_like(mine, dtype=torch.float64) if want is None else want
        close(torch.zeros_like(want) if mine is None else mine, want, call["dtype"], name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_half_precision_is_computed_in_single(dtype, placement):
    """Half-precision inputs cost no more than the rounding of the inputs and of the result."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 90, 16).to(dtype).requires_grad_() for heads in (4, 2, 2))
    field = PowerField(4)
    grad = torch.randn(2, 4, 90, 16).to(dtype)
    out = attend(q, k, v, field=field, placement=placement)
    ours = torch.autograd.grad(out, [q, k, v, *field.parameters()], grad)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    twin = copy.deepcopy(field).double()
    _, expected = attention_formula(*exact, twin, placement, True, None, 0.25)
    theirs = torch.autograd.grad(expected, [*exact, *twin.parameters()], grad.double())
    resolution = torch.finfo(dtype).eps
    assert out.dtype == dtype
    for mine, want in zip([out, *ours], [expected, *theirs], strict=True):
        assert (mine.double() - want).abs().max() <= resolution * (want.abs().max() + 0.1)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_sizes_that_fill_real_stripes(placement):
    """The stripe sizes as shipped: several stripes, a ragged one, grouped heads."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, heads, 300, 16, requires_grad=True) for heads in (4, 2, 2))
    field, grad = PowerField(4, trainable_scale=True), torch.randn(1, 4, 300, 16)
    out = attend(q, k, v, field=field, placement=placement, backend="blockwise")
    ours = torch.autograd.grad(out, [q, k, v, *field.parameters()], grad)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    twin = copy.deepcopy(field).double()
    _, expected = attention_formula(*exact, twin, placement, True, None, 0.25)
    theirs = torch.autograd.grad(expected, [*exact, *twin.parameters()], grad.double())
    for mine, want in zip([out, *ours], [expected, *theirs], strict=True):
        close(mine, want, torch.float32, "at 300")
