"""Forward pass of `blockwise`: whole stripes in plain PyTorch, or PyTorch's own CPU kernel on strided views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agf_core.attention.stripes import LOG2E, Block, Chunk, Grid

# With a mask PyTorch's CPU kernel is used through its operator, since only that returns the log-sum-exp.
_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_ROWS = 256  # one of the kernel's own query tiles


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    key_mask: Tensor | None,
    placement: str,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output (B, H, N, d) and log-sum-exp (B, H, N, 1; -inf where a row has no key), all of one dtype.

    `table` (H, N + M - 1) is log g in `stripes` order, -inf for the future when causal.
    """
    if 0 in q.shape or k.shape[2] == 0:
        return q.new_zeros(q.shape), q.new_full((*q.shape[:3], 1), -torch.inf)
    if placement == "logit" and q.device.type == "cpu" and _FLASH is not None:
        return _flash(q, k, v, table, key_mask, causal, scale)
    out, lse = q.new_empty(q.shape), q.new_empty((*q.shape[:3], 1))
    grid = Grid.of(q, k, causal)
    bias, field = (LOG2E * table, None) if placement == "logit" else (table, table.exp())
    for chunk in grid.chunks():
        keys = k[chunk.batch, chunk.group].reshape(chunk.pairs, *k.shape[2:])
        values = v[chunk.batch, chunk.group].reshape(keys.shape)
        for block in grid.blocks():
            queries = grid.queries_of(q, chunk, block) * (scale * LOG2E)
            score = torch.bmm(queries, keys[:, block.seen].mT)
            view = grid.unfold(score, chunk)
            if field is None:
                view += grid.hankel(bias, chunk, block)
            elif placement == "score":
                view *= grid.hankel(field, chunk, block)
            if field is not None:
                grid.hide_future(view, block)
            if key_mask is not None:
                view.masked_fill_(hidden_keys(key_mask, chunk, block), -torch.inf)
            top = score.amax(-1, keepdim=True)
            top.masked_fill_(top == -torch.inf, 0)  # -inf - -inf is no number
            total = score.sub_(top).exp2_().sum(-1, keepdim=True)
            if field is not None and placement == "weight":
                view *= grid.hankel(field, chunk, block)
            mixed = torch.bmm(score, values[:, block.seen])
            grid.put_queries(out, chunk, block, mixed / total.clamp(min=torch.finfo(total.dtype).tiny))
            grid.put_queries(lse, chunk, block, (top + total.log2()) / LOG2E)
    return out, lse


def hidden_keys(key_mask: Tensor, chunk: Chunk, block: Block) -> Tensor:
    """True where a key takes no part, (b, 1, 1, 1, keys)."""
    return ~key_mask[chunk.batch, None, None, None, block.seen]


def _flash(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, key_mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Stripe by stripe through PyTorch's CPU kernel, whose mask may be any view with a last stride of 1."""
    heads, queries = q.shape[1:3]
    keys, repeat = k.shape[2], heads // k.shape[1]
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    rows = _FLASH_ROWS if causal else queries  # without causality there is nothing to skip
    out, lse = [], []
    for lo in range(0, queries, rows):
        hi = min(lo + rows, queries)
        seen = keys - queries + hi if causal else keys
        bias = table[:, queries - hi :].as_strided((1, heads, hi - lo, seen), (0, table.stride(0), 1, 1))
        if key_mask is not None:
            bias = bias.masked_fill(~key_mask[:, None, None, :seen], -torch.inf)
        stripe = q[:, :, lo:hi].flip(2)
        mixed, total = _FLASH(stripe, k[:, :, :seen], v[:, :, :seen], attn_mask=bias, scale=scale)
        out.append(mixed.flip(2))
        lse.append(total.flip(2).unsqueeze(-1))
    many = len(out) > 1
    whole = [torch.cat(parts, dim=2) if many else parts[0].contiguous() for parts in (out, lse)]
    if key_mask is not None:
        _clear_empty_rows(key_mask, causal, *whole)
    return whole[0], whole[1]


def _clear_empty_rows(key_mask: Tensor, causal: bool, out: Tensor, lse: Tensor) -> None:
    """What the kernel leaves in rows without keys differs between versions of PyTorch: define it."""
    keys, queries = key_mask.shape[1], out.shape[2]
    any_key = key_mask.cumsum(-1)[:, keys - queries :] > 0 if causal else key_mask.any(-1, keepdim=True)
    empty = ~any_key.expand(-1, queries)[:, None, :, None]
    out.masked_fill_(empty, 0)
    lse.masked_fill_(empty, -torch.inf)
