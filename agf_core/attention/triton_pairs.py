# mypy: disable-error-code="no-untyped-def"
"""The field's tables as the kernels read them, in one launch from the law itself or a table of log g (ours).

A thread needs two consecutive entries for two consecutive keys, from anywhere on, and a load of 8 bytes must start at a
multiple of 8: so each entry is kept twice, first of one pair and second of another. The distances of a warp's 16
queries and 8 keys then lie within 22 pairs, which is two lines of L1. 8 bytes per distance and head.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from agf_core.attention.triton_table import PAD

_BLOCK = 1024


@triton.jit
def law(r, bend, LAW: tl.constexpr):
    """L and dL / d bend at r >= 0, for `triton_field`'s laws of few parameters; the latter L where there is no bend."""
    if LAW == "power":
        x = r / bend
        u = 1.0 + x
        lost = u == 1.0
        f = tl.where(lost, x, tl.log(u) * (x / tl.where(lost, 1.0, u - 1.0)))  # log1p: u - 1 is exact
        d = -r / (bend * (bend + r))
    elif LAW == "stretched":
        log2 = tl.math.log2(tl.maximum(r, 1.0))
        f = tl.where(r > 0, tl.math.exp2(bend * log2), 0.0)
        d = f * (log2 * 0.6931471805599453)
    else:
        f = r
        d = r
    return f, d


@triton.jit
def _log_weight(x, inside, base_ptr, rate, bend, keys, LAW: tl.constexpr):
    """log g, L and dL / d bend at the entries x of the table; there is no rate and no bend to a free one."""
    if LAW == "table":
        f = tl.load(base_ptr + x, mask=inside, other=0.0)
        shape = f
        d = f
    else:
        shape, d = law(tl.abs(keys - 1 - x).to(tl.float32), bend, LAW)
        f = -rate * shape
    return f, shape, d


@triton.jit(do_not_specialize=["base_h", "count", "keys", "width"])
def pairs_kernel(
    base_ptr, rate_ptr, bend_ptr, pairs_ptr, base_h, count, keys, width, LAW: tl.constexpr, WEIGHT: tl.constexpr,
    RISING: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """pairs (T, H, width, 2): at PAD + x entries x and x + 1, zeros around the `count` there are. T as asked for:

    the field in falling order of distance, and in rising order (RISING); d log g / d rate (D1) and d bend (D2).
    """
    h = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = at // 2 + at % 2 - PAD
    inside = (x >= 0) & (x < count)
    rate = 1.0
    bend = 1.0
    if LAW == "table":
        base_ptr += h * base_h
    else:
        rate = tl.load(rate_ptr + h)
    if LAW == "power" or LAW == "stretched":
        bend = tl.load(bend_ptr + h)
    pairs_ptr += h * width * 2 + at
    f, shape, d = _log_weight(x, inside, base_ptr, rate, bend, keys, LAW)
    for side in tl.static_range(2 if RISING else 1):
        if side == 1:
            f, _, _ = _log_weight(count - 1 - x, inside, base_ptr, rate, bend, keys, LAW)
        f = tl.exp(f) if WEIGHT else f * 1.4426950408889634
        tl.store(pairs_ptr, tl.where(inside, f, 0.0), mask=at < 2 * width)
        pairs_ptr += tl.num_programs(1).to(tl.int64) * width * 2
    if D1:
        tl.store(pairs_ptr, tl.where(inside, -shape, 0.0), mask=at < 2 * width)
        pairs_ptr += tl.num_programs(1).to(tl.int64) * width * 2
    if D2:
        tl.store(pairs_ptr, tl.where(inside, -rate * d, 0.0), mask=at < 2 * width)


@triton.jit(do_not_specialize=["count", "tiles"])
def sums_kernel(
    sums_ptr, rate_ptr, drate_ptr, dbend_ptr, count, tiles, PARAMS: tl.constexpr, WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of rate and bend (H,) from dq's sums (B, H, tiles, PARAMS), `count` = B·tiles, in a fixed order."""
    h = tl.program_id(0)
    total1 = tl.zeros((BLOCK,), tl.float32)
    total2 = tl.zeros((BLOCK,), tl.float32)
    for start in tl.range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        at = sums_ptr + ((i // tiles * tl.num_programs(0) + h) * tiles + i % tiles) * PARAMS
        total1 += tl.load(at, mask=i < count, other=0.0)
        if PARAMS > 1:
            total2 += tl.load(at + 1, mask=i < count, other=0.0)
    total = tl.sum(total1, 0)
    if not WEIGHT:  # inside the softmax what was summed is -rate · L in units of log 2, the field's own table
        unit = tl.load(rate_ptr + h) * 1.4426950408889634
        total = tl.where(unit == 0, 0.0, total / tl.where(unit == 0, 1.0, unit))
    tl.store(drate_ptr + h, total)
    if PARAMS > 1:
        tl.store(dbend_ptr + h, tl.sum(total2, 0))


def pairs(
    law: str,
    base: Tensor | None,
    rate: Tensor | None,
    bend: Tensor | None,
    heads: int,
    keys: int,
    count: int,
    weight: bool,
    rising: bool = False,
    d1: bool = False,
    d2: bool = False,
) -> tuple[Tensor, ...]:
    """The tables asked for, each (H, W, 2), W a multiple of 16; what the kernels read as log2 g, or g with `weight`.

    `count` entries, the first at distance keys - 1. base (H, count) float32 for law "table", else rate and bend (H,).
    """
    given = next(x for x in (base, rate) if x is not None)
    width = -(-(count + 2 * PAD) // 16) * 16
    out = torch.empty((1 + rising + d1 + d2, heads, width, 2), dtype=torch.float32, device=given.device)
    pairs_kernel[(triton.cdiv(2 * width, _BLOCK), heads)](
        base, rate, bend, out, base.stride(0) if base is not None else 0, count, keys, width,
        LAW=law, WEIGHT=weight, RISING=rising, D1=d1, D2=d2, PAD=PAD, BLOCK=_BLOCK, num_warps=4,
    )  # fmt: skip
    return out.unbind()


def few_gradients(sums: Tensor, rate: Tensor, weight: bool) -> tuple[Tensor, Tensor]:
    """Of rate (H,) and bend (H,; empty if there is one parameter), from sums (B, H, tiles, 1 or 2) of `dq_kernel`."""
    batch, heads, tiles, params = sums.shape
    drate, dbend = sums.new_empty(heads), sums.new_empty(heads if params > 1 else 0)
    sums_kernel[(heads,)](
        sums, rate, drate, dbend if params > 1 else None, batch * tiles, tiles,
        PARAMS=params, WEIGHT=weight, BLOCK=256, num_warps=4,
    )  # fmt: skip
    return drate, dbend
