"""The Triton kernels as PyTorch operators, with autograd, for torch.compile as they are (ours).

The field comes in as `triton_field` has it: as a law with its rate and bend, or as `base`, a table of log g over
distance. Its gradient goes the same way.
"""

# No `from __future__ import annotations` here: torch.library reads the operators' schema from real annotations.

from typing import Any, Optional, overload

import torch
import triton
from torch import Tensor

from agf_core.attention.triton_backward import delta_kernel, dkdv_kernel, dq_kernel
from agf_core.attention.triton_decode import decode
from agf_core.attention.triton_diagonal import diagonal_kernel
from agf_core.attention.triton_field import entries
from agf_core.attention.triton_forward import forward_kernel
from agf_core.attention.triton_pairs import few_gradients, pairs
from agf_core.attention.triton_table import PAD, diagonal_blocks, from_diagonals
from agf_core.attention.triton_tiles import Tile, Tiles, capability, tiles


@overload
def _rows(x: Tensor) -> Tensor: ...
@overload
def _rows(x: None) -> None: ...
def _rows(x: Tensor | None) -> Tensor | None:
    """x with each row of the last dimension in one piece; all other strides stay as they are."""
    return x if x is None or x.stride(-1) == 1 else x.contiguous()


def _mask(key_mask: Tensor | None) -> Tensor | None:
    return None if key_mask is None else key_mask.contiguous()


def _tiles(q: Tensor, weight: bool) -> Tiles:
    return tiles(capability(q.device), q.shape[-1], q.dtype, weight)


def _launch(tile: Tile) -> dict[str, Any]:
    return {
        "num_warps": tile.warps, "num_stages": tile.stages, "maxnreg": tile.registers, "enable_fp_fusion": True
    }  # fmt: skip


def _strides(q: Tensor, k: Tensor, v: Tensor) -> list[int]:
    return [*q.stride()[:3], *k.stride()[:3], *v.stride()[:3]]


def _name(law: str, weight: bool) -> str:
    return "none" if law == "none" else "weight" if weight else "logit"


@torch.library.custom_op("agf_core::field_attention", mutates_args=())
def field_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    law: str,
    base: Optional[Tensor],  # noqa: UP045
    rate: Optional[Tensor],  # noqa: UP045
    bend: Optional[Tensor],  # noqa: UP045
    key_mask: Optional[Tensor],  # noqa: UP045
    weight: bool,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output (B, H, N, d) and log-sum-exp (B, H, N) in units of log 2, +inf where a query has no key; scale > 0."""
    q, k, v, key_mask = _rows(q), _rows(k), _rows(v), _mask(key_mask)
    (batch, heads, queries, dim), (groups, keys) = q.shape, k.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    table = None
    if law != "none":
        (table,) = pairs(law, _rows(base), rate, bend, heads, keys, entries(queries, keys, causal), weight)
    used = _tiles(q, weight)
    tile = used.forward
    forward_kernel[(triton.cdiv(queries, tile.rows) * batch * heads,)](
        q, k, v, table, key_mask, out, lse, *_strides(q, k, v), table.stride(0) if table is not None else 0,
        key_mask.stride(0) if key_mask is not None else 0, heads, heads // groups, queries, keys, scale,
        DIM=dim, ROWS=tile.rows, COLS=tile.cols, FIELD=_name(law, weight), CAUSAL=causal,
        MASKED=key_mask is not None, PRECISION=used.precision, PAD=PAD, DIRECT=used.direct,
        **_launch(tile),
    )  # fmt: skip
    return out, lse


@field_attention.register_fake
def _(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return out, torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)


@torch.library.custom_op("agf_core::field_attention_backward", mutates_args=())
def field_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    law: str,
    base: Optional[Tensor],  # noqa: UP045
    rate: Optional[Tensor],  # noqa: UP045
    bend: Optional[Tensor],  # noqa: UP045
    key_mask: Optional[Tensor],  # noqa: UP045
    out: Tensor,
    lse: Tensor,
    weight: bool,
    causal: bool,
    scale: float,
    train_base: bool,
    train_rate: bool,
    train_bend: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, base (H, X), rate (H,), bend (H,); the last three empty where they are not trained."""
    q, k, v, grad, key_mask = _rows(q), _rows(k), _rows(v), _rows(grad), _mask(key_mask)
    (batch, heads, queries, dim), (groups, keys) = q.shape, k.shape[1:3]
    repeat, masked, field = heads // groups, key_mask is not None, _name(law, weight)
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    delta = torch.empty_like(lse)
    delta_kernel[(triton.cdiv(lse.numel(), 64),)](
        out, grad, delta, *grad.stride()[:3], heads, queries, lse.numel(),
        DIM=dim, ROWS=64, **_launch(Tile(64, 0, 4, 1)),
    )  # fmt: skip
    params = 2 if train_bend else 1 if train_rate else 0
    table = rising = d1 = d2 = None
    if law != "none":
        count = entries(queries, keys, causal)
        wanted = (True, weight and params > 0, params > 1)
        table, rising, *more = pairs(law, _rows(base), rate, bend, heads, keys, count, weight, *wanted)
        d1 = more.pop(0) if wanted[1] else None
        d2 = more.pop(0) if wanted[2] else None
    used = _tiles(q, weight)
    strides = [*_strides(q, k, v), *grad.stride()[:3]]
    table_h = table.stride(0) if table is not None else 0
    mask_stride = key_mask.stride(0) if key_mask is not None else 0
    common: dict[str, Any] = {"DIM": dim, "FIELD": field, "CAUSAL": causal, "MASKED": masked}
    common |= {"PRECISION": used.precision, "PAD": PAD}

    tile = used.dq
    count = triton.cdiv(queries, tile.rows)
    sums = lse.new_empty(batch, heads, count, params)
    dq_kernel[(count * batch * heads,)](
        q, k, v, table, d1, d2, key_mask, grad, lse, delta, dq, sums if params else None, *strides, table_h,
        mask_stride, heads, repeat, queries, keys, scale, ROWS=tile.rows, COLS=tile.cols, PARAMS=params,
        **_launch(tile), **common, DIRECT=used.direct,
    )  # fmt: skip

    tile = used.dkdv
    dkdv_kernel[(triton.cdiv(keys, tile.cols) * batch * groups,)](
        q, k, v, rising, key_mask, grad, lse, delta, dk, dv, *strides, table_h,
        mask_stride, groups, repeat, queries, keys, scale, ROWS=tile.rows, COLS=tile.cols,
        **_launch(tile), **common, DIRECT=used.direct,
    )  # fmt: skip

    dbase, drate, dbend = (lse.new_empty(0) for _ in range(3))
    if train_base and base is not None:
        side = used.diagonal.rows
        blocks = diagonal_blocks(side, queries, keys, causal)
        diagonals = lse.new_empty(batch, heads, blocks, 2, side)
        diagonal_kernel[(blocks * batch * heads,)](
            q, k, v, table, key_mask, grad, lse, delta, diagonals, *strides, table_h, mask_stride, heads,
            repeat, queries, keys, blocks, scale, SIDE=side,
            **_launch(used.diagonal), **common,
        )  # fmt: skip
        dbase = from_diagonals(diagonals, side, queries, base.shape[1])
    if params and rate is not None:
        drate, dbend = few_gradients(sums, rate, weight)
    return dq, dk, dv, dbase, drate, dbend


@field_attention_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    law: str,
    base: Tensor | None,
    rate: Tensor | None,
    bend: Tensor | None,
    key_mask: Tensor | None,
    out: Tensor,
    lse: Tensor,
    weight: bool,
    causal: bool,
    scale: float,
    train_base: bool,
    train_rate: bool,
    train_bend: bool,
) -> tuple[Tensor, ...]:
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dbase = lse.new_empty(base.shape) if train_base and base is not None else lse.new_empty(0)
    heads = q.shape[1]
    few = train_rate or train_bend
    return dq, dk, dv, dbase, lse.new_empty(heads if few else 0), lse.new_empty(heads if train_bend else 0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, law, base, rate, bend, key_mask, *options = inputs
    ctx.save_for_backward(q, k, v, base, rate, bend, key_mask, *output)
    ctx.law, ctx.options = law, options
    ctx.set_materialize_grads(False)  # nobody differentiates the log-sum-exp: no zeros for it


def _differentiate(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    train_base, train_rate, train_bend = ctx.needs_input_grad[4:7]
    q, k, v, *rest = ctx.saved_tensors
    dq, dk, dv, dbase, drate, dbend = torch.ops.agf_core.field_attention_backward(
        grad, q, k, v, ctx.law, *rest, *ctx.options, train_base, train_rate, train_bend
    )
    field = (dbase if train_base else None, drate if train_rate else None, dbend if train_bend else None)
    return dq, dk, dv, None, *field, None, None, None, None


field_attention.register_autograd(_differentiate, setup_context=_save)


@torch.library.custom_op("agf_core::field_decode", mutates_args=())
def field_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    law: str,
    base: Optional[Tensor],  # noqa: UP045
    rate: Optional[Tensor],  # noqa: UP045
    bend: Optional[Tensor],  # noqa: UP045
    key_mask: Optional[Tensor],  # noqa: UP045
    weight: bool,
    causal: bool,
    scale: float,
) -> Tensor:
    """(B, H, N, d), without gradients: few queries on a long cache. `law`: of `triton_field`."""
    used = _tiles(q, weight)
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count if q.device.type == "cuda" else 1
    q, k, v, key_mask = _rows(q), _rows(k), _rows(v), _mask(key_mask)
    return decode(
        q, k, v, law, _rows(base), rate, bend, key_mask, weight, causal, scale, processors, used.decode, used.precision
    )  # fmt: skip


@field_decode.register_fake
def _(q: Tensor, *_: Any) -> Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)
