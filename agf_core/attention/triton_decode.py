# mypy: disable-error-code="no-untyped-def"
"""Decoding with `triton`: few queries on a long cache, keys split over programs, then merged (as flash-decoding does).

Here the arithmetic is free and the bytes are not, the other way round from the full pass. So all queries that read one
key head share a program, and a law of few parameters is computed where it is used: it reads no table at all.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from agf_core.attention.triton_pairs import law
from agf_core.attention.triton_tiles import Tile

_SHORTEST = 256  # keys worth a program


@triton.jit
def _log2_field(
    base_ptr, rate_ptr, bend_ptr, base_h, head, distance, entry, inside, LAW: tl.constexpr
):  # fmt: skip
    """log2 g, (ROWS, COLS). A program's rows belong to several heads."""
    r = tl.abs(distance).to(tl.float32)
    if LAW == "table":  # no `return` here: Triton would compile what follows it, too
        f = tl.load(base_ptr + head[:, None] * base_h + entry, mask=inside, other=0.0) * 1.4426950408889634
    elif LAW == "power":
        f = -tl.load(rate_ptr + head)[:, None] * tl.math.log2(1.0 + r / tl.load(bend_ptr + head)[:, None])
    elif LAW == "exponential":
        f = -tl.load(rate_ptr + head)[:, None] * r * 1.4426950408889634
    else:
        shape, _ = law(r, tl.load(bend_ptr + head)[:, None], LAW)
        f = -tl.load(rate_ptr + head)[:, None] * shape * 1.4426950408889634
    return f


@triton.jit(do_not_specialize=["queries", "keys", "keep_b", "base_h", "splits", "share"])
def decode_kernel(
    q_ptr, k_ptr, v_ptr, base_ptr, rate_ptr, bend_ptr, keep_ptr, part_ptr, lse_ptr,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, base_h, keep_b, groups, repeat, queries, keys, splits, share, scale,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, LAW: tl.constexpr, WEIGHT: tl.constexpr,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """part (B, G, splits, ROWS, DIM), lse (B, G, splits, ROWS) in log 2, of `share` keys each; row: head, query."""
    pid = tl.program_id(0)
    bg = pid // splits
    split = pid % splits
    b = (bg // groups).to(tl.int64)
    g = (bg % groups).to(tl.int64)
    row = tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    step = tl.arange(0, COLS)
    used = row < repeat * queries
    n = row % queries
    head = tl.where(used, g * repeat + row // queries, 0)
    position = n + keys - queries
    q_at = q_ptr + b * q_b + head * q_h + n.to(tl.int64) * q_n
    q = tl.load(q_at[:, None] + dim[None, :], mask=used[:, None], other=0.0)
    lo = split * share
    hi = tl.minimum(lo + share, keys)
    k_at = k_ptr + b * k_b + g * k_h + (lo + step).to(tl.int64)[None, :] * k_n + dim[:, None]  # (DIM, COLS)
    v_at = v_ptr + b * v_b + g * v_h + (lo + step).to(tl.int64)[:, None] * v_n + dim[None, :]  # (COLS, DIM)
    if MASKED:
        keep_ptr += b * keep_b
    acc = tl.zeros((ROWS, DIM), tl.float32)
    top = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for start in tl.range(lo, hi, COLS):
        col = start + step
        k_t = tl.load(k_at, mask=(col < hi)[None, :], other=0.0)
        v = tl.load(v_at, mask=(col < hi)[:, None], other=0.0)
        distance = position[:, None] - col[None, :]
        seen = (col < hi)[None, :] & used[:, None]
        if CAUSAL:
            seen = seen & (distance >= 0)
        if MASKED:
            seen = seen & (tl.load(keep_ptr + col, mask=col < hi, other=0) != 0)[None, :]
        u = tl.dot(q, k_t, input_precision=PRECISION) * (scale * 1.4426950408889634)
        f = u
        if LAW != "none":
            f = _log2_field(base_ptr, rate_ptr, bend_ptr, base_h, head, distance, keys - 1 - distance, seen, LAW)
            if not WEIGHT:
                u += f
        u = tl.where(seen, u, -float("inf"))
        new_top = tl.maximum(top, tl.max(u, 1))
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)
        p = tl.math.exp2(u - shift[:, None])
        fade = tl.math.exp2(top - shift)
        total = total * fade + tl.sum(p, 1)
        if WEIGHT:
            p *= tl.math.exp2(f)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision=PRECISION)
        top = new_top
        k_at += COLS * k_n
        v_at += COLS * v_n
    at = (bg.to(tl.int64) * splits + split) * ROWS + row
    safe = tl.where(total > 0, total, 1.0)  # 0: no key
    tl.store(part_ptr + at[:, None] * DIM + dim[None, :], acc / safe[:, None])
    tl.store(lse_ptr + at, tl.where(total > 0, top + tl.math.log2(safe), -float("inf")))


@triton.jit(do_not_specialize=["queries", "splits"])
def merge_kernel(
    part_ptr, lse_ptr, out_ptr, repeat, queries, splits, DIM: tl.constexpr, ROWS: tl.constexpr, STEP: tl.constexpr
):  # fmt: skip
    """out (B, H, N, DIM) from the parts, each weighed by the share of the softmax that fell to its keys."""
    pid = tl.program_id(0)
    bg = (pid // (repeat * queries)).to(tl.int64)
    row = pid % (repeat * queries)
    dim = tl.arange(0, DIM)
    acc = tl.zeros((DIM,), tl.float32)
    top = -float("inf")
    total = 0.0
    for start in tl.range(0, splits, STEP):
        split = start + tl.arange(0, STEP)
        at = (bg * splits + split) * ROWS + row
        lse = tl.load(lse_ptr + at, mask=split < splits, other=-float("inf"))
        new_top = tl.maximum(top, tl.max(lse, 0))
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)
        share = tl.math.exp2(lse - shift)
        fade = tl.math.exp2(top - shift)
        part = tl.load(part_ptr + at[:, None] * DIM + dim[None, :], mask=(split < splits)[:, None], other=0.0)
        acc = acc * fade + tl.sum(part * share[:, None], 0)
        total = total * fade + tl.sum(share, 0)
        top = new_top
    out = acc / tl.where(total > 0, total, 1.0)
    tl.store(out_ptr + pid.to(tl.int64) * DIM + dim, out.to(out_ptr.dtype.element_ty))


def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    law: str,
    base: Tensor | None,
    rate: Tensor | None,
    bend: Tensor | None,
    key_mask: Tensor | None,
    weight: bool,
    causal: bool,
    scale: float,
    processors: int,
    tile: Tile,
    precision: str,
) -> Tensor:
    """(B, H, N, d) in q's dtype, for few rows, H/G · N <= DECODE_ROWS; `processors`: how many programs run at once."""
    (batch, heads, queries, dim), (groups, keys) = q.shape, k.shape[1:3]
    repeat = heads // groups
    rows = max(16, triton.next_power_of_2(repeat * queries))
    wanted = max(1, min(triton.cdiv(4 * processors, batch * groups), triton.cdiv(keys, _SHORTEST)))
    share = triton.cdiv(triton.cdiv(keys, wanted), tile.cols) * tile.cols
    splits = triton.cdiv(keys, share)
    part = q.new_empty(batch, groups, splits, rows, dim, dtype=torch.float32)
    lse = part.new_empty(part.shape[:-1])
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    decode_kernel[(batch * groups * splits,)](
        q, k, v, base, rate, bend, key_mask, part, lse,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], base.stride(0) if base is not None else 0,
        key_mask.stride(0) if key_mask is not None else 0, groups, repeat, queries, keys, splits, share, scale,
        DIM=dim, ROWS=rows, COLS=tile.cols, LAW=law, WEIGHT=weight, CAUSAL=causal, MASKED=key_mask is not None,
        PRECISION=precision, num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
    )  # fmt: skip
    merge_kernel[(batch * heads * queries,)](
        part, lse, out, repeat, queries, splits, DIM=dim, ROWS=rows, STEP=16, num_warps=4, enable_fp_fusion=True
    )  # fmt: skip
    return out
