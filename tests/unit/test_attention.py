"""attend() as a function: errors, choice of backend, decoding, compile and autocast, empty cases, memory.

Its values and gradients are tested against the formula in tests/oracle/test_attention_formula.py.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from agf_core.attention import BACKENDS, PLACEMENTS, attend, attention_weights, choose_backend, stripe_forward
from agf_core.attention.problem import check
from agf_core.attention.stripe_backward import backward
from agf_core.attention.stripe_forward import forward
from agf_core.fields import ExponentialField, MlpField, PowerField, TableField


def inputs(batch=2, heads=4, groups=2, queries=20, keys=20, dim=8, **options):
    torch.manual_seed(0)
    shapes = [(batch, heads, queries, dim), (batch, groups, keys, dim), (batch, groups, keys, dim)]
    return [torch.randn(shape, **options) for shape in shapes]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"placement": "logits"}, ValueError, "unknown placement 'logits'; choose from logit, score, weight"),
        ({"backend": "fast"}, ValueError, "unknown backend 'fast'; choose from auto, triton, blockwise, reference"),
        ({"field": PowerField(3)}, ValueError, r"a field of 3 heads does not fit 4 query heads, got q \(2, 4, 20, 8\)"),
        ({"key_mask": torch.ones(2, 19, dtype=torch.bool)}, ValueError, r"got torch.bool \(2, 19\)"),
        ({"key_mask": torch.ones(2, 20)}, ValueError, "got torch.float32"),
        ({"q": torch.zeros(2, 4, 8)}, ValueError, r"got q \(2, 4, 8\), k \(2, 2, 20, 8\)"),
        ({"q": torch.zeros(2, 4, 21, 8)}, ValueError, "21 queries cannot end at the last of 20 keys when causal"),
        ({"q": torch.zeros(2, 3, 20, 8)}, ValueError, "the 2 key heads must divide the 3 query heads"),
        ({"q": torch.zeros(2, 4, 20, 9)}, ValueError, r"must agree.*got q \(2, 4, 20, 9\)"),
        ({"v": torch.zeros(2, 2, 20, 9)}, ValueError, r"must agree.*v \(2, 2, 20, 9\)"),
        ({"q": torch.zeros(2, 4, 20, 8).double()}, TypeError, "float32, float64; got torch.float64"),
        ({"q": torch.zeros(2, 4, 20, 8).long()}, TypeError, "got torch.int64"),
    ],
)  # fmt: skip
def test_errors_name_what_was_given(change, error, message):
    q, k, v = inputs()
    call = {"q": q, "k": k, "v": v, "field": PowerField(4)} | change
    for function in (attend, attention_weights, choose_backend):
        with pytest.raises(error, match=message):
            function(**call)


def test_the_choice_is_reported():
    q, k, v = inputs()
    assert set(BACKENDS) == {"triton", "blockwise", "reference", "flex"}
    assert choose_backend(q, k, v, field=PowerField(4), placement="score") == "blockwise"
    for name in ("blockwise", "reference"):
        assert choose_backend(q, k, v, field=PowerField(4), backend=name) == name
    assert choose_backend(q, k, v, field=PowerField(4, trainable=False), backend="flex") == "flex"


def test_a_backend_that_cannot_run_says_why():
    q, k, v = inputs()
    with pytest.raises(NotImplementedError, match=r"'flex' cannot run this call: .*no backward pass on a CPU"):
        attend(q, k, v, field=PowerField(4), backend="flex")
    with torch.no_grad(), pytest.raises(NotImplementedError, match="log-sum-exp"):
        attend(q, k, v, field=PowerField(4), placement="weight", backend="flex")
    with torch.no_grad(), pytest.raises(NotImplementedError, match="depends on the query's position"):
        attend(q, k, v, field=MlpField(4, threshold=10), backend="flex")
    with torch.no_grad(), pytest.raises(NotImplementedError, match=r"empty tensors, got q \(2, 4, 0, 8\)"):
        attend(q[:, :, :0], k, v, backend="flex")
    with pytest.raises(NotImplementedError, match="'blockwise' never holds the weights"):
        attention_weights(q, k, v, backend="blockwise")


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(
    "field", [PowerField(4), TableField(4, 5, "every", initial=torch.randn(4, 5)), MlpField(4, threshold=12)]
)
def test_decoding_agrees_with_the_full_pass(backend, placement, field):
    q, k, v = inputs()
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0, :3] = False  # padding on the left, as in batched generation
    options = {"field": field, "placement": placement, "backend": backend}
    full = attend(q, k, v, key_mask=mask, **options)
    for first, last in [(0, 6), (6, 7), (7, 8), (8, 15), (15, 20)]:  # prompt, single tokens, several at once
        step = attend(q[:, :, first:last], k[:, :, :last], v[:, :, :last], key_mask=mask[:, :last], **options)
        torch.testing.assert_close(step, full[:, :, first:last])


def test_weights_multiply_v():
    q, k, v = inputs()
    field = ExponentialField(4)
    for placement in PLACEMENTS:
        weights = attention_weights(q, k, v, field=field, placement=placement)
        mixed = weights @ v.repeat_interleave(2, dim=1)
        torch.testing.assert_close(attend(q, k, v, field=field, placement=placement), mixed)
        rows = weights.sum(-1)
        assert torch.allclose(rows, torch.ones(())) == (placement != "weight")
        assert (rows < 1 + 1e-6).all()
    assert torch.equal(weights, weights.tril())


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("field", [PowerField(4), MlpField(4, threshold=4), None])
def test_nothing_to_attend_to(backend, placement, field):
    options = {"field": field, "placement": placement, "backend": backend}
    for shape in [{"keys": 0, "causal": False}, {"queries": 0, "causal": True}, {"batch": 0, "causal": True}]:
        causal = shape.pop("causal")
        q, k, v = inputs(**shape, requires_grad=True)
        out = attend(q, k, v, causal=causal, **options)
        assert out.shape == q.shape and not out.any()
        for x, gradient in zip((q, k, v), torch.autograd.grad(out.sum(), (q, k, v), allow_unused=True), strict=True):
            assert gradient is None or (gradient.shape == x.shape and not gradient.any())
    q, k, v = inputs(requires_grad=True)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0] = False
    mask[1, :5] = False  # causal: the first five queries of the second text have no key either
    out = attend(q, k, v, key_mask=mask, **options)
    assert not out[0].any() and not out[1, :, :5].any() and out[1, :, 5:].all()
    parameters = list(field.parameters()) if field is not None else []
    gradients = torch.autograd.grad(out.square().sum(), [q, k, v, *parameters])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert not any(gradient[0].any() for gradient in gradients[:3])


def test_rows_without_keys_are_zero_whatever_the_kernel_leaves_there(monkeypatch):
    """Versions of PyTorch differ in it: here the kernel leaves NaN."""
    flash = stripe_forward._FLASH

    def kernel(q, k, v, attn_mask, scale):
        out, lse = flash(q, k, v, attn_mask=attn_mask, scale=scale)
        empty = (attn_mask == -torch.inf).all(-1).expand(lse.shape)
        return out.masked_fill(empty.unsqueeze(-1), torch.nan), lse.masked_fill(empty, torch.nan)

    monkeypatch.setattr(stripe_forward, "_FLASH", kernel)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0, :7] = False
    for causal in (True, False):
        q, k, v = inputs(queries=17, requires_grad=True)
        out = attend(q, k, v, field=PowerField(4), causal=causal, key_mask=mask if causal else mask & False)
        gradients = torch.autograd.grad(out.sum(), (q, k, v))
        assert torch.isfinite(out).all() and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_one_field_shared_by_several_layers():
    q, k, v = inputs()
    shared, twins = PowerField(4), [PowerField(4), PowerField(4)]
    (attend(q, k, v, field=shared) + attend(q, k, v.flip(2), field=shared)).square().sum().backward()
    (attend(q, k, v, field=twins[0]) + attend(q, k, v.flip(2), field=twins[1])).square().sum().backward()
    total = twins[0]._exponent.raw.grad + twins[1]._exponent.raw.grad
    torch.testing.assert_close(shared._exponent.raw.grad, total)


def test_autocast_casts_as_torchs_own_attention_does():
    q, k, v = inputs(requires_grad=True)
    field = PowerField(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k.bfloat16(), v, field=field)  # mixed, as a model's projections leave them
        out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and q.grad.dtype == torch.float32
    assert field._exponent.raw.grad.dtype == torch.float32
    expected = attend(*(x.bfloat16() for x in (q, k, v)), field=field)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_gradients_are_repeatable_to_the_bit(placement):
    q, k, v = inputs(queries=150, keys=150, requires_grad=True)
    field = PowerField(4, trainable_scale=True)
    wanted = [q, k, v, *field.parameters()]
    runs = [torch.autograd.grad(attend(q, k, v, field=field, placement=placement).sum(), wanted) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["blockwise", "reference"])
def test_under_compile(backend):
    """One graph, new lengths included, forwards and backwards (aot_eager: traced like inductor, without its C++)."""
    field = PowerField(4)

    def step(q, k, v):
        return attend(q, k, v, field=field, backend=backend).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for length in (20, 24, 33):
        q, k, v = inputs(queries=length, keys=length, requires_grad=True)
        wanted = [q, k, v, *field.parameters()]
        eager, traced = step(q, k, v), compiled(q, k, v)
        torch.testing.assert_close(traced, eager)
        for ours, expected in zip(torch.autograd.grad(traced, wanted), torch.autograd.grad(eager, wanted), strict=True):
            torch.testing.assert_close(ours, expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_operators_keep_torch_librarys_rules(placement):
    """Schema, fake tensors and autograd registration, as torch itself checks them."""
    q, k, v = inputs(requires_grad=True)
    table = check(q, k, v, PowerField(4), placement, True, None, None).table().detach().requires_grad_()
    operator = torch.ops.agf_core.attention_forward.default
    arguments = (q, k, v, table, torch.rand(2, 20) > 0.3, placement, True, 0.3)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator, arguments, test_utils=tests)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_memory_grows_with_length_not_its_square(placement, causal):
    largest = []
    for length in (512, 2048):
        q, k, v = inputs(1, 2, 1, length, length, 4)
        table = check(q, k, v, PowerField(2), placement, causal, None, None).table().detach()
        with Largest() as mode:
            out, lse = forward(q, k, v, table, None, placement, causal, 0.5)
            backward(out, q, k, v, out, lse, table, None, placement, causal, 0.5, True)
        largest.append(mode.elements)
    assert largest[1] < 4.5 * largest[0]
    assert largest[1] < 2 * 2048 * 2048 / 5


def test_a_field_that_needs_the_query_is_recomputed_not_kept():
    """FIRE past its threshold: what autograd keeps of the forward pass stays below one full matrix of scores."""
    length = 1500
    q, k, v = inputs(1, 2, 1, length, length, 4, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attend(q, k, v, field=MlpField(2, threshold=100, width=4))
    assert sum(kept) < length * length / 4


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize("with_field", [True, False])
def test_a_scale_of_zero_leaves_the_field_alone(backend, with_field):
    q, k, v = torch.randn(3, 1, 2, 5, 4).requires_grad_()
    field = PowerField(2) if with_field else None
    out = attend(q, k, v, field=field, scale=0.0, backend=backend)
    distance = torch.arange(5)[:, None] - torch.arange(5)
    log_g = field.log_weight(distance) if with_field else torch.zeros(2, 5, 5)
    weights = log_g.masked_fill(distance < 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(out, weights @ v)
    assert torch.autograd.grad(out.sum(), q)[0].isfinite().all()
