# mypy: disable-error-code="no-untyped-def"
"""Gradient of a free table of `triton`: the change of log g summed along diagonals, without an atomic (ours).

All tiles on one diagonal of tiles have their distances in the same places. So a program walks down one such diagonal
and adds the tiles up as they are; the sum along the diagonals inside the tile is taken once, at the end.
"""

import triton
import triton.language as tl

from agf_core.attention.triton_backward import probabilities


@triton.jit(do_not_specialize=["queries", "keys", "keep_b", "blocks"])
def diagonal_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, keep_ptr, grad_ptr, lse_ptr, delta_ptr, sums_ptr,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n, table_h, keep_b, heads, repeat,
    queries, keys, blocks, scale, DIM: tl.constexpr, SIDE: tl.constexpr, FIELD: tl.constexpr, CAUSAL: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr, PAD: tl.constexpr,
):  # fmt: skip
    """sums (B, H, blocks, 2, SIDE): of tiles whose first query and key differ by SIDE·d, d from 1 - ⌈N/SIDE⌉ on.

    Half 1, entry c, sums j - n = SIDE·d + c; half 0 sums j - n = SIDE·(d - 1) + c. A diagonal is shared by two blocks.
    """
    pid = tl.program_id(0)
    bh = pid // blocks
    block = pid % blocks
    b = (bh // heads).to(tl.int64)
    h = (bh % heads).to(tl.int64)
    tiles = tl.cdiv(queries, SIDE)
    d = block - (tiles - 1)
    step = tl.arange(0, SIDE)
    dim = tl.arange(0, DIM)
    offset = keys - queries
    q_ptr += b * q_b + h * q_h
    k_ptr += b * k_b + h // repeat * k_h
    v_ptr += b * v_b + h // repeat * v_h
    grad_ptr += b * grad_b + h * grad_h
    if MASKED:
        keep_ptr += b * keep_b
    first = bh.to(tl.int64) * queries
    scale2 = scale * 1.4426950408889634
    # The field is the same all along: entry N - 1 - n + j belongs to query n and key j.
    f = tl.load(table_ptr + h * table_h + 2 * (PAD + queries - 1 + d * SIDE + step[None, :] - step[:, None]))
    total = tl.zeros((SIDE, SIDE), tl.float32)
    for tile in tl.range(tl.maximum(0, -d), tl.minimum(tiles, tl.cdiv(keys, SIDE) - d)):
        row = tile * SIDE + step
        col = (tile + d) * SIDE + step
        here = row < queries
        there = (col < keys)[None, :]
        q = tl.load(q_ptr + row.to(tl.int64)[:, None] * q_n + dim[None, :], mask=here[:, None], other=0.0)
        grad = tl.load(grad_ptr + row.to(tl.int64)[:, None] * grad_n + dim[None, :], mask=here[:, None], other=0.0)
        k_t = tl.load(k_ptr + col.to(tl.int64)[None, :] * k_n + dim[:, None], mask=there, other=0.0)
        v_t = tl.load(v_ptr + col.to(tl.int64)[None, :] * v_n + dim[:, None], mask=there, other=0.0)
        lse = tl.load(lse_ptr + first + row, mask=here, other=float("inf"))
        delta = tl.load(delta_ptr + first + row, mask=here, other=0.0)
        p = probabilities(
            q, k_t, f, lse[:, None], row[:, None], col[None, :], keep_ptr, scale2, offset, keys,
            FIELD, CAUSAL, True, MASKED, PRECISION,
        )  # fmt: skip
        dp = tl.dot(grad, v_t, input_precision=PRECISION)
        if FIELD == "weight":
            total += p * dp * f
        else:
            total += p * (dp - delta[:, None])
    # Rotate column j up by j: row c then holds the entries with j - n = c, and those with j - n = c - SIDE.
    up = step[None, :] >= step[:, None]
    turned = tl.gather(total, (step[None, :] - step[:, None] + SIDE) % SIDE, 0)
    at = sums_ptr + (bh.to(tl.int64) * blocks + block) * 2 * SIDE + step
    tl.store(at, tl.sum(tl.where(up, 0.0, turned), 1))
    tl.store(at + SIDE, tl.sum(tl.where(up, turned, 0.0), 1))
