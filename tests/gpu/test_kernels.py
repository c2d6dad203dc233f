"""The Triton kernels, on a GPU where there is one, else in Triton's interpreter (TRITON_INTERPRET=1 before the start).

Without either, this file is skipped; tests/unit/test_attention_triton.py runs it in an interpreter of its own.
"""

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
from agf_core.attention.triton_field import tabulate
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
    bias = "d mlps.0.2.bias"
    assert kernels_check.errors(case, DEVICE)[bias] < 0.5
    whole = triton_op.from_diagonals

    def torn(*given):
        found = whole(*given)
        found[:, -1] = 0
        return found

    monkeypatch.setattr(triton_op, "from_diagonals", torn)
    assert kernels_check.errors(case, DEVICE)[bias] > 1


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
    table = tabulate(check(q, k, v, field, "logit", True, None, None))
    given = (q, k, v, table.base, table.slope, table.bend, table.bend_base, None, False, True, 0.2)
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

    def step(length):
        q, k, v = inputs(length, length, dtype=torch.float16)
        call(q, k, v, field).sum().backward()

    def compiled():
        kernels = (forward_kernel, dq_kernel, dkdv_kernel)
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
