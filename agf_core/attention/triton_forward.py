# mypy: disable-error-code="no-untyped-def"
"""Forward kernel of `triton`: one pass over the keys, the field read from a table over distance (kernels.md, 1 and 3).

Shapes in the comments: a program holds ROWS queries and walks the keys COLS at a time. What is exponentiated is in
units of log 2: 1/ln 2 is folded into the scale and into the table, so that a score costs an FMA and an exp2.
"""

import triton
import triton.language as tl

_ANY_LENGTH = ["queries", "keys", "keep_b"]  # never compiled for a value: new lengths compile nothing


@triton.jit
def entries(at, DIRECT: tl.constexpr):
    """The table's entries at the addresses `at`, which follow each other in the last axis, of even size.

    `DIRECT` reads two at a time (`triton_pairs` makes them), from L1 into the registers where the scores lie.
    What `tl.load` reads goes through shared memory, and reading it back from there keeps the products from running
    asynchronously (ptxas's remark C7515).
    """
    if DIRECT:
        f = tl.inline_asm_elementwise(
            "ld.global.nc.v2.f32 {$0, $1}, [$2];", "=f,=f,l,l", [at.to(tl.uint64)],
            dtype=tl.float32, is_pure=True, pack=2,
        )  # fmt: skip
    else:
        f = tl.load(at)
    return f


@triton.jit
def field(ptr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DIRECT: tl.constexpr):
    """(HEIGHT, WIDTH): a tile's entries of the table, `ptr` being that of row 0 and column 0."""
    row = tl.arange(0, HEIGHT)[:, None]
    step = tl.arange(0, WIDTH)[None, :]
    # In two steps, since a thread's columns lie 8 apart: what comes second is constant.
    return entries(ptr - 2 * row + 2 * (step & 7) + 2 * (step & -8), DIRECT)


@triton.jit
def hide(
    u, row, col, keep_ptr, offset, keys, CAUSAL: tl.constexpr, EDGE: tl.constexpr, MASKED: tl.constexpr
):  # fmt: skip
    """Scores u with -inf where query `row` does not see key `col`, or there is no such key; both broadcast to u."""
    if EDGE:
        seen = col < keys
        if CAUSAL:
            seen = seen & (col <= row + offset)
        u = tl.where(seen, u, -float("inf"))
    if MASKED:
        keep = tl.load(keep_ptr + col, mask=col < keys, other=0)
        u = tl.where(keep != 0, u, -float("inf"))
    return u


@triton.jit
def _walk(
    acc, top, total, q, row, k_ptr, v_ptr, t_ptr, keep_ptr, scale2, lo, hi, offset, keys, k_n, v_n,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr, CAUSAL: tl.constexpr,
    EDGE: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    """Keys lo … hi - 1. `EDGE`: some are hidden from some of the queries, or do not exist."""
    step = tl.arange(0, COLS)
    dim = tl.arange(0, DIM)
    k_at = k_ptr + (lo + step).to(tl.int64)[None, :] * k_n + dim[:, None]  # (DIM, COLS)
    v_at = v_ptr + (lo + step).to(tl.int64)[:, None] * v_n + dim[None, :]  # (COLS, DIM)
    for start in tl.range(lo, hi, COLS):
        col = start + step
        if EDGE:
            k_t = tl.load(k_at, mask=(col < keys)[None, :], other=0.0)
            v = tl.load(v_at, mask=(col < keys)[:, None], other=0.0)
        else:
            k_t = tl.load(k_at)
            v = tl.load(v_at)
        u = tl.dot(q, k_t, input_precision=PRECISION)
        if FIELD != "none":
            f = field(t_ptr + 2 * start, ROWS, COLS, DIRECT)  # (ROWS, COLS)
        if FIELD == "logit":
            u = u * scale2 + f
        u = hide(u, row[:, None], col[None, :], keep_ptr, offset, keys, CAUSAL, EDGE, MASKED)
        # The scale goes where it makes one FMA: with the field's entry, or else with the maximum.
        rest = 1.0 if FIELD == "logit" else scale2
        new_top = tl.maximum(top, tl.max(u, 1) * rest)
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)  # no key yet: -inf - -inf is no number
        p = tl.math.exp2(u * rest - shift[:, None])
        fade = tl.math.exp2(top - shift)
        total = total * fade + tl.sum(p, 1)  # with placement weight, the normaliser is without the field
        if FIELD == "weight":
            p = p * f
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision=PRECISION)
        top = new_top
        k_at += COLS * k_n
        v_at += COLS * v_n
    return acc, top, total


@triton.jit(do_not_specialize=_ANY_LENGTH)
def forward_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, keep_ptr, out_ptr, lse_ptr,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, table_h, keep_b, heads, repeat, queries, keys, scale,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr, CAUSAL: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr, PAD: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    """out (B, H, N, DIM) and lse (B, H, N), in units of log 2, +inf where a query has no key."""
    tiles = tl.cdiv(queries, ROWS)
    pid = tl.program_id(0)
    bh = pid // tiles  # the tiles of a head together: its keys stay in L2
    tile = tiles - 1 - pid % tiles  # causal: the longest rows first
    b = (bh // heads).to(tl.int64)
    h = bh % heads
    row = tile * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    q_ptr += b * q_b + h.to(tl.int64) * q_h
    k_ptr += b * k_b + (h // repeat).to(tl.int64) * k_h
    v_ptr += b * v_b + (h // repeat).to(tl.int64) * v_h
    t_ptr = table_ptr
    if FIELD != "none":  # entry N - 1 - n + j belongs to query n and key j
        t_ptr = table_ptr + h.to(tl.int64) * table_h + 2 * (PAD + queries - 1 - tile * ROWS)
    if MASKED:
        keep_ptr += b * keep_b
    q = tl.load(q_ptr + row.to(tl.int64)[:, None] * q_n + dim[None, :], mask=(row < queries)[:, None], other=0.0)

    offset = keys - queries
    end = keys
    even = keys // COLS * COLS  # up to here every query of the tile sees every key
    if CAUSAL:
        end = tl.minimum(offset + (tile + 1) * ROWS, keys)
        even = (offset + tile * ROWS + 1) // COLS * COLS
    acc = tl.zeros((ROWS, DIM), tl.float32)
    top = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    scale2 = scale * 1.4426950408889634
    for part in tl.static_range(2):
        acc, top, total = _walk(
            acc, top, total, q, row, k_ptr, v_ptr, t_ptr, keep_ptr, scale2,
            0 if part == 0 else even, even if part == 0 else end, offset, keys, k_n, v_n,
            DIM, ROWS, COLS, FIELD, CAUSAL, part == 1, MASKED, PRECISION, DIRECT,
        )  # fmt: skip
    safe = tl.where(total > 0, total, 1.0)  # 0: no key
    out = acc / safe[:, None]
    lse = tl.where(total > 0, top + tl.math.log2(safe), float("inf"))
    at = bh.to(tl.int64) * queries + row  # (ROWS,) in B·H·N
    tl.store(lse_ptr + at, lse, mask=row < queries)
    out_at = out_ptr + at[:, None] * DIM + dim[None, :]
    tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=(row < queries)[:, None])
