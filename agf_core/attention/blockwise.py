"""Attention by stripes, on any device, forwards and backwards, with a trainable field; memory O(N · rows of a stripe).

Few scores are written out instead (`written`), which on a CPU is quicker while they fit its caches.

The field enters as a table over distance, so that its own parameters get their gradients from autograd whatever their
law: the kernel returns d log g[h, r] = the sum of dS along the diagonal r. Both passes are custom operators, which
torch.compile takes as they are.
"""

# No `from __future__ import annotations` here: torch.library reads the operators' schema from real annotations.

from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from agf_core.attention import reference
from agf_core.attention.problem import Problem
from agf_core.attention.stripe_backward import backward
from agf_core.attention.stripe_forward import forward
from agf_core.attention.written import Written

_QUERY_FIELD_SCORES = 2**17  # scores per head at once where the field is no table
_FEW_A_HEAD, _FEW = 2**15, 2**22  # scores, and in all (16 MB): up to these, `written` is quicker than stripes on a CPU


def unsupported(problem: Problem) -> str | None:
    """Why this backend cannot run the call: it always can."""
    return None


def run(problem: Problem) -> Tensor:
    """(B, H, N, d) in q's dtype."""
    if problem.needs_query:
        return _by_query(problem)
    dtype = problem.compute_dtype
    q, k, v = problem.q.to(dtype), problem.k.to(dtype), problem.v.to(dtype)
    square = not problem.causal or problem.offset == 0
    placement = "logit" if problem.field is None else problem.placement
    if problem.field is None and problem.key_mask is None and square and k.shape[2]:
        return _plain(problem)
    if problem.needs_grad and problem.key_mask is None and _few(q, k):
        k, v = _one_per_query_head(q, k, v)
        out = Written.apply(q, k, v, problem.table(), placement, problem.causal, problem.scale)
        return out.to(problem.q.dtype)
    out, _ = torch.ops.agf_core.attention_forward(
        q, k, v, problem.table(), problem.key_mask, placement, problem.causal, problem.scale
    )
    return out.to(problem.q.dtype)


def _few(q: Tensor, k: Tensor) -> bool:
    """Whether all scores are written out: stripes would save little of the future, and compute every score twice."""
    scores = q.shape[2] * k.shape[2]
    few = scores <= _FEW_A_HEAD and 0 < q.shape[0] * q.shape[1] * scores <= _FEW
    return few and q.device.type == "cpu" and not torch.compiler.is_compiling()


def _plain(problem: Problem) -> Tensor:
    """No field, no padding: PyTorch's own attention."""
    q, k, v = problem.q, problem.k, problem.v
    k, v = _one_per_query_head(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=problem.causal, scale=problem.scale)


def _one_per_query_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    repeat = q.shape[1] // k.shape[1]
    if repeat == 1:
        return k, v  # repeating once would copy
    return k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)


def _by_query(problem: Problem) -> Tensor:
    """A field that depends on the query, too, has no table: the definition itself, a few queries at a time.

    Each part is recomputed in the backward pass, so that memory stays O(N · rows).
    """
    queries, keys = problem.q.shape[2], problem.k.shape[2]
    rows = max(1, _QUERY_FIELD_SCORES // max(1, keys))
    parts = []
    for lo in range(0, queries, rows):
        hi = min(lo + rows, queries)
        position = torch.arange(lo, hi, device=problem.q.device) + problem.offset
        seen = keys - queries + hi if problem.causal else keys
        mask = None if problem.key_mask is None else problem.key_mask[:, :seen]
        q, k, v = problem.q[:, :, lo:hi], problem.k[:, :, :seen], problem.v[:, :, :seen]
        part = Problem(q, k, v, problem.field, problem.placement, problem.causal, mask, problem.scale)
        if problem.needs_grad:
            parts.append(checkpoint(reference.run, part, position, use_reentrant=False))
        else:
            parts.append(reference.run(part, position))
    return torch.cat(parts, dim=2) if parts else problem.q.clone()  # no queries: as empty as the output


@torch.library.custom_op("agf_core::attention_forward", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    key_mask: Optional[Tensor],  # noqa: UP045
    placement: str,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return forward(q, k, v, table, key_mask, placement, causal, scale)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty((*q.shape[:3], 1))


@torch.library.custom_op("agf_core::attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    table: Tensor,
    key_mask: Optional[Tensor],  # noqa: UP045
    placement: str,
    causal: bool,
    scale: float,
    train_table: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return backward(grad, q, k, v, out, lse, table, key_mask, placement, causal, scale, train_table)


@_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, table: Tensor, *_: Any) -> Any:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), table.new_empty(table.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, placement, causal, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.options = (placement, causal, scale)


def _differentiate(ctx: Any, grad: Tensor, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, table, key_mask, out, lse = ctx.saved_tensors
    train_table = ctx.needs_input_grad[3]
    dq, dk, dv, dtable = torch.ops.agf_core.attention_backward(
        grad, q, k, v, out, lse, table, key_mask, *ctx.options, train_table
    )
    return dq, dk, dv, dtable if train_table else None, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_save)
