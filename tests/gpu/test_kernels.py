"""The Triton kernels, on a GPU where there is one, else in Triton's interpreter (TRITON_INTERPRET=1 before the start).

Without either, this file is skipped; tests/unit/test_attention_triton.py runs it in an interpreter of its own.
"""

import math
import os
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

from agf_core.analysis import kernels_check
from agf_core.attention import attend
from agf_core.attention import triton as backend
from agf_core.attention.problem import check
from agf_core.attention.triton_field import as_law
from agf_core.attention.triton_pairs import few_gradients, pairs
from agf_core.attention.triton_table import PAD
from agf_core.fields import PowerField, TableField

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.*")  # numpy's, of infinities that are meant


def inputs(queries=40, keys=40, heads=4, groups=2, dim=32, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(2, heads, queries, dim), (2, groups, keys, dim), (2, groups, keys, dim)]
    return [torch.randn(s, device=DEVICE).to(dtype).requires_grad_() for s in shapes]


def call(q, k, v, field, placement="logit", causal=True, mask=None):
    return backend.run(check(q, k, v, field, placement, causal, mask, None))


@pytest.mark.parametrize("case", list(kernels_check.cases(DEVICE)), ids=str)
def test_values_and_all_gradients(case):
    wrong = {name: error for name, error in kernels_check.errors(case, DEVICE).items() if not error <= 1}
    assert not wrong, f"errors over their tolerance: {wrong}"


def test_a_gradient_that_should_be_zero_is_measured_by_what_cancels_in_it(monkeypatch):
    """The bias of an MLP inside the softmax, in half precision; a sum that misses one distance is found out."""
    from agf_core.attention import triton_op

    case = next(c for c in kernels_check.cases(DEVICE) if c.placement == "logit" and c.law == "mlp" and c.grad)
    case = replace(case, dtype=torch.float16, mask="none", queries=40, keys=40, dim=32, scale=None)
    last, first = "d mlps.0.2.bias", "d mlps.0.0.bias"  # the first is measured by its network
    right = kernels_check.errors(case, DEVICE)
    assert right[last] < 0.5 and right[first] < 1
    whole = triton_op.from_diagonals

    def torn(*given):
        found = whole(*given)
        found[:, -1] = 0
        return found

    monkeypatch.setattr(triton_op, "from_diagonals", torn)
    wrong = kernels_check.errors(case, DEVICE)
    assert wrong[last] > 1 and wrong[first] > 1


def paired(table):
    """(H, X) -> (H, W, 2), by PyTorch: at PAD + x, entries x and x + 1; zeros around."""
    width = -(-(table.shape[1] + 2 * PAD) // 16) * 16
    padded = torch.nn.functional.pad(table, (PAD, width + 1 - PAD - table.shape[1]))
    return torch.stack((padded[:, :-1], padded[:, 1:]), -1)


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize(("keys", "count"), [(21, 21), (300, 300), (40, 57)])
@pytest.mark.parametrize("law", ["power", "exponential", "stretched", "table"])
def test_the_tables_in_one_launch(law, keys, count, weight):
    torch.manual_seed(0)
    r = torch.arange(keys - 1, keys - 1 - count, -1, device=DEVICE).abs().double()
    base = torch.randn(3, count, device=DEVICE)[:, :count] if law == "table" else None
    rate = torch.tensor([0.02, 0.5, 1.1], device=DEVICE)
    bend = torch.tensor([0.3, 1.7, 3e5] if law == "power" else [0.2, 0.9, 1.4], device=DEVICE)
    k, b = rate.double()[:, None], bend.double()[:, None].requires_grad_()
    shape = {
        "power": torch.log1p(r / b),
        "exponential": r + 0 * b,
        "stretched": torch.where(r > 0, r.clamp(min=1) ** b, 0),
        "table": None if base is None else base.double(),
    }[law]
    log_g = base.double() if law == "table" else -k * shape
    read = (log_g.exp() if weight else log_g / math.log(2)).detach()
    few = law in ("power", "stretched")
    given = (law, base, None if law == "table" else rate, bend if few else None)
    found = pairs(*given, 3, keys, count, weight, True, law != "table", few)
    expected = [read, read.flip(-1)] + ([-shape.detach()] if law != "table" else [])
    if few:  # each entry depends on its own head's bend alone, and forward mode gives them all at once
        flow = torch.autograd.functional.jvp(
            lambda b: -k * (torch.log1p(r / b) if law == "power" else torch.where(r > 0, r.clamp(min=1) ** b, 0)),
            b.detach(), torch.ones_like(b),
        )  # fmt: skip
        expected.append(flow[1])
    assert len(found) == len(expected)
    for mine, exact in zip(found, expected):
        assert mine.is_contiguous() and mine.data_ptr() % 16 == 0
        torch.testing.assert_close(mine.double(), paired(exact), rtol=4e-6, atol=1e-12)
    (alone,) = pairs(*given, 3, keys, count, weight)
    assert torch.equal(alone, found[0])


@pytest.mark.parametrize("params", [1, 2])
@pytest.mark.parametrize("weight", [True, False])
def test_few_gradients_in_one_launch(params, weight):
    torch.manual_seed(0)
    sums = torch.randn(3, 4, 130, params, device=DEVICE)
    rate = torch.tensor([0.02, 0.5, 1.1, 0.0], device=DEVICE)
    drate, dbend = few_gradients(sums, rate, weight)
    total = sums.double().sum((0, 2))
    exact = total[:, 0] if weight else torch.where(rate == 0, 0, total[:, 0] * math.log(2) / rate)
    torch.testing.assert_close(drate.double(), exact, rtol=1e-5, atol=1e-4)
    if params == 2:
        torch.testing.assert_close(dbend.double(), total[:, 1], rtol=1e-5, atol=1e-4)
    assert dbend.numel() == (4 if params == 2 else 0)


@pytest.mark.parametrize("field", [PowerField(4, trainable_scale=True), TableField(4, 12, max_distance=30)])
def test_the_same_bits_every_time(field):
    field = field.to(DEVICE)
    found = []
    for _ in range(2):
        q, k, v = inputs()
        out = call(q, k, v, field)
        found.append([out, *torch.autograd.grad(out, [q, k, v, *field.parameters()], torch.ones_like(out))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("placement", ["logit", "weight"])
def test_compiled_as_one_graph(placement):
    torch._dynamo.reset()
    field = PowerField(4, trainable_scale=True).to(DEVICE)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    results = []
    for function in (call, compiled):
        q, k, v = inputs()
        out = function(q, k, v, field, placement)
        results.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v, *field.parameters()])])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_decoding_compiles_too():
    torch._dynamo.reset()
    q, k, v = (x.detach() for x in inputs(queries=1))
    field = PowerField(4).to(DEVICE).requires_grad_(False)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(q, k, v, field), call(q, k, v, field))


@pytest.mark.parametrize("law", ["power", "table"])
def test_the_operators_are_sound(law):
    q, k, v = inputs(queries=17, keys=17)
    field = (PowerField(4, trainable_scale=True) if law == "power" else TableField(4, 12, max_distance=30)).to(DEVICE)
    given = (q, k, v, *as_law(check(q, k, v, field, "logit", True, None, None)), None, False, True, 0.2)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.agf_core.field_attention, given, test_utils=tests)


@pytest.mark.parametrize("dtype", [torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])])
def test_autocast(dtype):
    """Under autocast float32 inputs are computed in half precision, and come back so; the field stays float32."""
    q, k, v = inputs()
    field = PowerField(4).to(DEVICE)
    with torch.autocast(DEVICE, dtype):
        out = call(q, k, v, field)
    (change,) = torch.autograd.grad(out.float().square().sum(), list(field.parameters()))
    exact = call(*inputs(), field)
    (expected,) = torch.autograd.grad(exact.square().sum(), list(field.parameters()))
    assert out.dtype == dtype and change.dtype == torch.float32
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps)
    torch.testing.assert_close(change, expected, rtol=0, atol=0.05 * expected.abs().max().item())


def test_an_expanded_gradient():
    q, k, v = inputs()
    field = PowerField(4).to(DEVICE)
    out = call(q, k, v, field)
    ours = torch.autograd.grad(out.sum(), [q, k, v], retain_graph=True)
    theirs = torch.autograd.grad(out, [q, k, v], torch.ones_like(out))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter compiles nothing")
def test_new_lengths_compile_nothing():
    from agf_core.attention.triton_backward import dkdv_kernel, dq_kernel
    from agf_core.attention.triton_forward import forward_kernel
    from agf_core.attention.triton_pairs import pairs_kernel, sums_kernel

    def step(length):
        q, k, v = inputs(length, length, dtype=torch.float16)
        call(q, k, v, field).sum().backward()

    def compiled():
        kernels = (forward_kernel, dq_kernel, dkdv_kernel, pairs_kernel, sums_kernel)
        return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

    field = PowerField(4, trainable_scale=True).to(DEVICE)
    step(100)
    before = compiled()
    for length in range(101, 121):
        step(length)
    assert compiled() == before


def test_attend_runs_it():
    q, k, v = inputs()
    field = PowerField(4).to(DEVICE)
    assert torch.equal(attend(q, k, v, field=field, backend="triton"), call(q, k, v, field))
