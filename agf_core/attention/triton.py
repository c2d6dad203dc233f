"""Attention with a trainable distance field in fused GPU kernels: the wrapper of the `triton_*` modules."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from agf_core.attention.problem import Problem
from agf_core.attention.triton_field import parameters, tabulate
from agf_core.attention.triton_tiles import DECODE_ROWS, HEAD_SIZES

_INSTALLED = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def unsupported(problem: Problem) -> str | None:
    """Why the Triton kernels cannot run the call, or None."""
    q, device = problem.q, problem.q.device.type
    if not _INSTALLED:
        return "it needs the package triton, version 3.6 or newer (pip install triton)"
    if problem.placement == "score" and problem.field is not None:
        return "its kernels place a field as 'logit' or 'weight', not as 'score'; use 'blockwise' for that"
    if device == "cuda" and torch.version.hip is not None:
        return "it is written for NVIDIA GPUs and has not been tried on ROCm"
    if device != "cuda" and not (device == "cpu" and _INTERPRETED):
        return f"it runs on cuda, not on {device} (for tests, on cpu with TRITON_INTERPRET=1 set from the start)"
    if device == "cuda":
        capability = _capability(q.device.index)
        if capability < (7, 5):
            return "it needs a GPU of compute capability 7.5 or newer, this one has {}.{}".format(*capability)
        if q.dtype == torch.bfloat16 and capability < (8, 0):
            return "bfloat16 needs compute capability 8.0, this GPU has {}.{}; use float16".format(*capability)
    elif q.dtype == torch.bfloat16:
        return "Triton's interpreter cannot multiply bfloat16; use float16 or float32"
    if q.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"it computes in float16, bfloat16 and float32, not in {str(q.dtype).removeprefix('torch.')}"
    if q.shape[3] not in HEAD_SIZES:
        return f"head sizes are {', '.join(map(str, HEAD_SIZES))}, got {q.shape[3]} from q {tuple(q.shape)}"
    if problem.needs_query:
        return "this field depends on the query's position at this length (FIRE past its threshold)"
    if 0 in (*q.shape, problem.k.shape[2]):
        return f"it does not take empty tensors, got q {tuple(q.shape)}, k {tuple(problem.k.shape)}"
    return None


@torch.compiler.assume_constant_result
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def run(problem: Problem) -> Tensor:
    """(B, H, N, d) in q's dtype."""
    from agf_core.attention import triton_op

    q, k, v, scale = problem.q, problem.k, problem.v, problem.scale
    if scale <= 0:  # the kernels take the maximum before they scale
        q, scale = q * scale, 1.0
    mask = problem.key_mask
    weight = problem.placement == "weight"
    repeat = q.shape[1] // k.shape[1]
    if not problem.needs_grad and repeat * q.shape[2] <= DECODE_ROWS:
        law, tensors = _for_decoding(problem)
        return triton_op.field_decode(q, k, v, law, *tensors, mask, weight, problem.causal, scale)
    field = tabulate(problem)
    given = (None,) * 4 if field is None else (field.base, field.slope, field.bend, field.bend_base)
    return triton_op.field_attention(q, k, v, *given, mask, weight, problem.causal, scale)[0]


def _for_decoding(problem: Problem) -> tuple[str, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """The law, and base, slope and bend as far as it needs them: a power or exponential law needs no table."""
    if problem.field is None:
        return "none", (None, None, None)
    given = parameters(problem)
    if given is not None and given.law in ("power", "exponential"):
        return given.law, (None, given.slope, given.bend)
    field = tabulate(problem)
    assert field is not None
    base = field.base if field.slope is None else field.slope[:, None] * field.base
    return "table", (base, None, None)
