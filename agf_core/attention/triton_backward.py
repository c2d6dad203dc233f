# mypy: disable-error-code="no-untyped-def"
"""Backward kernels of `triton`: scores recomputed, one kernel for dq and the field's parameters, one for dk and dv.

With P the softmax, dP = dO V^T and delta = rowsum(dO ⊙ O) (kernels.md, 2 and 3):

- logit: dS = P ⊙ (dP - delta), and log g[r] changes by the sum of dS along the diagonal r
- weight: dS = P ⊙ (g ⊙ dP - delta), dV takes P ⊙ g, and log g[r] changes by the sum of P ⊙ g ⊙ dP

Every output has one writer, which sums in a fixed order: no atomics, the same bits every time.
"""

import triton
import triton.language as tl

from agf_core.attention.triton_forward import field, hide


@triton.jit(do_not_specialize=["rows"])
def delta_kernel(
    out_ptr, grad_ptr, delta_ptr, grad_b, grad_h, grad_n, heads, queries, rows, DIM: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """delta (B, H, N) = rowsum(dO ⊙ O), `rows` = B·H·N of them; O is contiguous, dO need not be."""
    at = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    dim = tl.arange(0, DIM)[None, :]
    bh = at // queries
    grad_at = bh // heads * grad_b + bh % heads * grad_h + at % queries * grad_n
    out = tl.load(out_ptr + at * DIM + dim, mask=at < rows, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + grad_at + dim, mask=at < rows, other=0.0).to(tl.float32)
    flat = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    tl.store(delta_ptr + flat, tl.sum(out * grad, 1), mask=flat < rows)


@triton.jit
def probabilities(
    a, b, f, lse, row, col, keep_ptr, scale2, offset, keys, FIELD: tl.constexpr, CAUSAL: tl.constexpr,
    EDGE: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """P of the scores a·b; rows, columns and lse broadcast to them."""
    u = tl.dot(a, b, input_precision=PRECISION) * scale2
    if FIELD == "logit":
        u += f
    u = hide(u, row, col, keep_ptr, offset, keys, CAUSAL, EDGE, MASKED)
    return tl.math.exp2(u - lse)  # lse +inf, a query without keys: 0


@triton.jit
def _walk_keys(
    dq, sum1, sum2, q, grad, lse, delta, row, k_ptr, v_ptr, t_ptr, d1_ptr, d2_ptr, keep_ptr, scale2, lo, hi, offset,
    keys, k_n, v_n, DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr,
    PARAMS: tl.constexpr, CAUSAL: tl.constexpr, EDGE: tl.constexpr, MASKED: tl.constexpr,
    PRECISION: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    step = tl.arange(0, COLS)
    dim = tl.arange(0, DIM)
    k_at = k_ptr + (lo + step).to(tl.int64)[None, :] * k_n + dim[:, None]  # (DIM, COLS)
    v_at = v_ptr + (lo + step).to(tl.int64)[None, :] * v_n + dim[:, None]  # (DIM, COLS)
    for start in tl.range(lo, hi, COLS):
        col = start + step
        if EDGE:
            k_t = tl.load(k_at, mask=(col < keys)[None, :], other=0.0)
            v_t = tl.load(v_at, mask=(col < keys)[None, :], other=0.0)
        else:
            k_t = tl.load(k_at)
            v_t = tl.load(v_at)
        f = lse
        if FIELD != "none":
            f = field(t_ptr + 2 * start, ROWS, COLS, DIRECT)  # (ROWS, COLS)
        p = probabilities(
            q, k_t, f, lse[:, None], row[:, None], col[None, :], keep_ptr, scale2, offset, keys,
            FIELD, CAUSAL, EDGE, MASKED, PRECISION,
        )  # fmt: skip
        dp = tl.dot(grad, v_t, input_precision=PRECISION)
        if FIELD == "weight":
            dp *= f
        ds = p * (dp - delta[:, None])
        change = p * dp if FIELD == "weight" else ds
        if PARAMS > 0:
            d1 = f
            if FIELD == "weight":
                d1 = field(d1_ptr + 2 * start, ROWS, COLS, DIRECT)
            sum1 += tl.sum(change * d1, 1)
        if PARAMS > 1:
            d2 = field(d2_ptr + 2 * start, ROWS, COLS, DIRECT)
            sum2 += tl.sum(change * d2, 1)
        dq = tl.dot(ds.to(k_t.dtype), tl.trans(k_t), dq, input_precision=PRECISION)
        k_at += COLS * k_n
        v_at += COLS * v_n
    return dq, sum1, sum2


@triton.jit(do_not_specialize=["queries", "keys", "keep_b"])
def dq_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, d1_ptr, d2_ptr, keep_ptr, grad_ptr, lse_ptr, delta_ptr, dq_ptr, sums_ptr,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n, table_h, keep_b, heads, repeat,
    queries, keys, scale, DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr,
    PARAMS: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, PAD: tl.constexpr,
    DIRECT: tl.constexpr,
):  # fmt: skip
    """dq (B, H, N, DIM), and sums (B, H, tiles, PARAMS): of the change of log g times what a parameter changes it by.

    The first parameter's table is the field's own with logit (it scales log g), d1 with weight; the second's is d2.
    """
    tiles = tl.cdiv(queries, ROWS)
    pid = tl.program_id(0)
    bh = pid // tiles
    tile = tiles - 1 - pid % tiles
    b = (bh // heads).to(tl.int64)
    h = bh % heads
    row = tile * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    inside = row < queries
    k_ptr += b * k_b + (h // repeat).to(tl.int64) * k_h
    v_ptr += b * v_b + (h // repeat).to(tl.int64) * v_h
    first = h.to(tl.int64) * table_h + 2 * (PAD + queries - 1 - tile * ROWS)
    t_ptr = table_ptr
    if FIELD != "none":
        t_ptr = table_ptr + first
    if PARAMS > 0 and FIELD == "weight":
        d1_ptr += first
    if PARAMS > 1:
        d2_ptr += first
    if MASKED:
        keep_ptr += b * keep_b
    q_at = q_ptr + b * q_b + h.to(tl.int64) * q_h + row.to(tl.int64)[:, None] * q_n + dim[None, :]
    grad_at = grad_ptr + b * grad_b + h.to(tl.int64) * grad_h + row.to(tl.int64)[:, None] * grad_n + dim[None, :]
    q = tl.load(q_at, mask=inside[:, None], other=0.0)
    grad = tl.load(grad_at, mask=inside[:, None], other=0.0)
    at = bh.to(tl.int64) * queries + row
    lse = tl.load(lse_ptr + at, mask=inside, other=float("inf"))
    delta = tl.load(delta_ptr + at, mask=inside, other=0.0)

    offset = keys - queries
    end = keys
    even = keys // COLS * COLS
    if CAUSAL:
        end = tl.minimum(offset + (tile + 1) * ROWS, keys)
        even = (offset + tile * ROWS + 1) // COLS * COLS
    dq = tl.zeros((ROWS, DIM), tl.float32)
    sum1 = tl.zeros((ROWS,), tl.float32)
    sum2 = tl.zeros((ROWS,), tl.float32)
    scale2 = scale * 1.4426950408889634
    for part in tl.static_range(2):
        dq, sum1, sum2 = _walk_keys(
            dq, sum1, sum2, q, grad, lse, delta, row, k_ptr, v_ptr, t_ptr, d1_ptr, d2_ptr, keep_ptr, scale2,
            0 if part == 0 else even, even if part == 0 else end, offset, keys, k_n, v_n,
            DIM, ROWS, COLS, FIELD, PARAMS, CAUSAL, part == 1, MASKED, PRECISION, DIRECT,
        )  # fmt: skip
    tl.store(dq_ptr + at[:, None] * DIM + dim[None, :], (dq * scale).to(dq_ptr.dtype.element_ty), mask=inside[:, None])
    if PARAMS > 0:
        sums_at = sums_ptr + (bh.to(tl.int64) * tiles + tile) * PARAMS
        tl.store(sums_at, tl.sum(sum1, 0))
        if PARAMS > 1:
            tl.store(sums_at + 1, tl.sum(sum2, 0))


@triton.jit
def _walk_queries(
    dk, dv, k, v, col, q_ptr, grad_ptr, lse_ptr, delta_ptr, t_ptr, keep_ptr, scale2, lo, hi, queries, offset, keys,
    q_n, grad_n, DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr, CAUSAL: tl.constexpr,
    EDGE: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    """Scores lie transposed here, (COLS, ROWS): P^T and dS^T are then the left operands of dv and dk as they are."""
    step = tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    q_at = q_ptr + (lo + step).to(tl.int64)[:, None] * q_n + dim[None, :]  # (ROWS, DIM)
    grad_at = grad_ptr + (lo + step).to(tl.int64)[:, None] * grad_n + dim[None, :]  # (ROWS, DIM)
    for start in tl.range(lo, hi, ROWS):
        row = start + step
        if EDGE:
            inside = row < queries
            q = tl.load(q_at, mask=inside[:, None], other=0.0)
            grad = tl.load(grad_at, mask=inside[:, None], other=0.0)
            lse = tl.load(lse_ptr + row, mask=inside, other=float("inf"))[None, :]
            delta = tl.load(delta_ptr + row, mask=inside, other=0.0)[None, :]
        else:
            q = tl.load(q_at)
            grad = tl.load(grad_at)
            lse = tl.load(lse_ptr + row)[None, :]
            delta = tl.load(delta_ptr + row)[None, :]
        f = lse
        if FIELD != "none":
            f = field(t_ptr + 2 * start, COLS, ROWS, DIRECT)
        p = probabilities(
            k, tl.trans(q), f, lse, row[None, :], col[:, None], keep_ptr, scale2, offset, keys,
            FIELD, CAUSAL, EDGE, MASKED, PRECISION,
        )  # fmt: skip
        mixing = p
        if FIELD == "weight":
            mixing = p * f
        dv = tl.dot(mixing.to(grad.dtype), grad, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(grad), input_precision=PRECISION)
        if FIELD == "weight":
            dp *= f
        ds = p * (dp - delta)
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
        q_at += ROWS * q_n
        grad_at += ROWS * grad_n
    return dk, dv


@triton.jit(do_not_specialize=["queries", "keys", "keep_b"])
def dkdv_kernel(
    q_ptr, k_ptr, v_ptr, table_ptr, keep_ptr, grad_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n, table_h, keep_b, groups, repeat,
    queries, keys, scale, DIM: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, FIELD: tl.constexpr,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr, PAD: tl.constexpr,
    DIRECT: tl.constexpr,
):  # fmt: skip
    """dk, dv (B, G, M, DIM): a program owns COLS keys and walks every query of every head that reads them."""
    tiles = tl.cdiv(keys, COLS)
    pid = tl.program_id(0)
    bg = pid // tiles
    tile = pid % tiles  # causal: the first keys have the most queries
    b = (bg // groups).to(tl.int64)
    g = bg % groups
    col = tile * COLS + tl.arange(0, COLS)
    dim = tl.arange(0, DIM)
    inside = (col < keys)[:, None]
    k_at = k_ptr + b * k_b + g.to(tl.int64) * k_h + col.to(tl.int64)[:, None] * k_n + dim[None, :]
    v_at = v_ptr + b * v_b + g.to(tl.int64) * v_h + col.to(tl.int64)[:, None] * v_n + dim[None, :]
    k = tl.load(k_at, mask=inside, other=0.0)
    v = tl.load(v_at, mask=inside, other=0.0)
    if MASKED:
        keep_ptr += b * keep_b

    offset = keys - queries
    begin = 0
    even = 0  # from here on every query sees every key of the tile
    full = queries // ROWS * ROWS
    if CAUSAL:
        begin = tl.maximum(tile * COLS - offset, 0) // ROWS * ROWS
        even = tl.maximum(tl.cdiv((tile + 1) * COLS - 1 - offset, ROWS) * ROWS, begin)
        even = tl.minimum(even, tl.cdiv(queries, ROWS) * ROWS)
        full = tl.maximum(full, even)
    dk = tl.zeros((COLS, DIM), tl.float32)
    dv = tl.zeros((COLS, DIM), tl.float32)
    scale2 = scale * 1.4426950408889634
    for member in range(repeat):
        h = (g * repeat + member).to(tl.int64)
        row_ptr = (b * groups * repeat + h) * queries
        t_ptr = table_ptr
        if FIELD != "none":
            # In rising order of distance: entry n - j + (M - N, or M - 1 with a future) belongs to query n and key j.
            t_ptr = table_ptr + h * table_h + 2 * (PAD + (offset if CAUSAL else keys - 1) - tile * COLS)
        for part in tl.static_range(0 if CAUSAL else 1, 3):
            dk, dv = _walk_queries(
                dk, dv, k, v, col, q_ptr + b * q_b + h * q_h, grad_ptr + b * grad_b + h * grad_h, lse_ptr + row_ptr,
                delta_ptr + row_ptr, t_ptr, keep_ptr, scale2,
                begin if part == 0 else (even if part == 1 else full),
                even if part == 0 else (full if part == 1 else queries),
                queries, offset, keys, q_n, grad_n, DIM, ROWS, COLS, FIELD, CAUSAL, part != 1, MASKED, PRECISION,
                DIRECT,
            )  # fmt: skip
    at = (bg.to(tl.int64) * keys + col)[:, None] * DIM + dim[None, :]
    tl.store(dk_ptr + at, (dk * scale).to(dk_ptr.dtype.element_ty), mask=inside)
    tl.store(dv_ptr + at, dv.to(dv_ptr.dtype.element_ty), mask=inside)
