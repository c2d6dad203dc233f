"""Attention with a trainable distance field in fused Triton kernels for NVIDIA GPUs (kernels.md, 1 to 5; ours).

`logit` and `weight`, forwards and backwards in O(N) memory, every sum in a fixed order: the same bits every time, and
no atomic adds. The tiles are made for compute capability 8.0 and newer; for 7.5, Triton makes products without tensor
cores: correct, slow. float32 is correct, not fast.

| file | what |
|---|---|
| `triton_field` | the field as -rate · L(r; bend), or as a table over distance |
| `triton_pairs` | its tables as the kernels read them, in one launch; the gradients of rate and bend |
| `triton_forward`, `triton_backward` | one pass forwards; dq and the field's parameters, dk and dv |
| `triton_diagonal`, `triton_table` | the gradient of a free table |
| `triton_decode` | few queries on a long cache, split over its keys |
| `triton_op`, `triton_tiles` | PyTorch operators; tile shapes |

What a score costs (a query, a key that it sees, a head), against the limit. Products, exp2 and bytes are [derived];
instructions are those of the main loop [Triton 3.6, sm_90, bf16, placement logit; in brackets without a field]. The
field adds half a load of 8 bytes from L1 in which neighbouring threads meet.

| | products, FLOP | exp2 | L2, bytes | instructions d 64 | d 128 |
|---|---|---|---|---|---|
| forward | 4d | 1 | d/16 | 11.6 (9.2) | 13.5 (11.5) |
| dq, frozen field | 6d | 1 | d/16 | 10.1 (7.6) | 12.0 (8.9) |
| dq, k trained | 6d | 1 | d/16 | 11.0 | 13.2 |
| dq, k and r0 trained | 6d | 1 | d/16 | 12.8 | 15.2 |
| dk and dv | 8d | 1 | d/16 | 13.2 (11.4) | 20.7 (16.4) |
| free table, in addition | 4d | 1 | d/16 | 14.3 | 17.7 |

A Hopper multiprocessor makes 4,096 FLOP, 16 exp2 and 128 instructions of one thread per clock [datasheet], so that a
forward score takes at least 0.063 clocks of products at d = 64 and 0.125 at 128, 0.063 of exp2, and 0.09 or 0.11 of
issue slots (0.07 or 0.09 without the field). The whole backward pass makes 7 products where 5 would do if dq were
summed by atomics.

Decoding reads 4d bytes per key and key head in half precision, and for a law of few parameters nothing else: its
limit is the memory's bandwidth.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from agf_core.attention.problem import Problem
from agf_core.attention.triton_field import as_law
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


def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


# What `torch.compiler.assume_constant_result` does, without its import of the compiler: two seconds for everybody.
_capability._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run(problem: Problem) -> Tensor:
    """(B, H, N, d) in q's dtype."""
    from agf_core.attention import triton_op

    q, k, v, scale = problem.q, problem.k, problem.v, problem.scale
    if scale <= 0:  # the kernels take the maximum before they scale
        q, scale = q * scale, 1.0
    mask = problem.key_mask
    weight = problem.placement == "weight"
    repeat = q.shape[1] // k.shape[1]
    field = as_law(problem)
    given = (q, k, v, *field, mask, weight, problem.causal, scale)
    if not problem.needs_grad and repeat * q.shape[2] <= DECODE_ROWS:
        return triton_op.field_decode(*given)
    return triton_op.field_attention(*given)[0]
