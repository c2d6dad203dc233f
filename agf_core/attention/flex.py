"""A wrapper of PyTorch's FlexAttention: inference on a CPU, training on a GPU, for comparison and as a fallback.

log g is read from a captured table, logit as `score + table`, score as `score · exp(table)`; weight from two
log-sum-exps, O · exp(lse_logit - lse_plain) (kernels.md, 4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from agf_core.attention.problem import Problem


def unsupported(problem: Problem) -> str | None:
    """Why FlexAttention cannot run the call, or None."""
    device = problem.q.device.type
    if device not in ("cpu", "cuda"):
        return f"FlexAttention runs on cpu and cuda, not on {device}"
    if device == "cpu" and problem.needs_grad:
        return "FlexAttention has no backward pass on a CPU; use 'blockwise', or torch.no_grad()"
    if device == "cpu" and problem.field is not None and problem.placement == "weight":
        return "FlexAttention returns no log-sum-exp on a CPU, which placement 'weight' needs; 'logit' and 'score' run"
    if problem.needs_query:
        return "this field depends on the query's position at this length (FIRE past its threshold)"
    if problem.q.dtype == torch.float64 and device == "cuda":
        return "FlexAttention supports float16, bfloat16 and float32 on cuda, not float64"
    if 0 in (*problem.q.shape, problem.k.shape[2]):
        shapes = f"q {tuple(problem.q.shape)}, k {tuple(problem.k.shape)}"
        return f"FlexAttention does not take empty tensors, got {shapes}"
    return None


def run(problem: Problem) -> Tensor:
    """(B, H, N, d) in q's dtype."""
    table = problem.table()
    last = problem.q.shape[2] - 1
    if problem.field is None or problem.placement == "logit":
        return _flex(problem, _add(table, last))
    if problem.placement == "score":
        return _flex(problem, _multiply(table.exp(), last))
    out, with_field = _flex(problem, _add(table, last), return_lse=True)
    _, plain = _flex(problem, None, return_lse=True)
    ratio = (with_field - plain).masked_fill(plain == -torch.inf, 0).exp()  # -inf - -inf is no number
    return (out * ratio.unsqueeze(-1)).to(problem.q.dtype)


def _flex(problem: Problem, score_mod: Callable[..., Tensor] | None, **options: bool) -> Any:
    """Output, or with `return_lse` output and log-sum-exp (B, H, N)."""
    q, k, v = problem.q, problem.k, problem.v
    if not problem.needs_grad:  # FlexAttention refuses on a CPU what could have a gradient, even under no_grad
        q, k, v = q.detach(), k.detach(), v.detach()
    mask = _mask(problem)
    return _compiled(q.is_cuda)(
        q, k, v, score_mod=score_mod, block_mask=mask, scale=problem.scale, enable_gqa=True, **options
    )


def _add(table: Tensor, last: int) -> Callable[..., Tensor]:
    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + table[h, last - i + j]

    return score_mod


def _multiply(field: Tensor, last: int) -> Callable[..., Tensor]:
    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score * field[h, last - i + j]

    return score_mod


def _mask(problem: Problem) -> BlockMask | None:
    causal, offset, key_mask = problem.causal, problem.offset, problem.key_mask
    if not causal and key_mask is None:
        return None

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = i + offset >= j if causal else j >= 0
        return seen if key_mask is None else seen & key_mask[b, j]

    batch = None if key_mask is None else problem.q.shape[0]
    return create_block_mask(mask_mod, batch, None, problem.q.shape[2], problem.k.shape[2], problem.q.device)


@lru_cache(maxsize=2)
def _compiled(on_gpu: bool) -> Any:
    """Compiled on first use: without torch.compile FlexAttention writes out all scores, and warns.

    On a CPU once per length: the code that torch 2.13 generates for a length left open does not compile.
    """
    return torch.compile(flex_attention, dynamic=None if on_gpu else False)
