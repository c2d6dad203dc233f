"""Backward pass of `blockwise`: scores recomputed stripe by stripe, gradients of q, k, v and of the field's table.

With P the softmax, dP = dO V^T and delta = rowsum(dO ⊙ O) (kernels.md, 2 and 3):

- logit: dS = P ⊙ (dP - delta), and d log g[r] sums dS along the diagonal r
- score, Z = s·g: dZ = P ⊙ (dP - delta), dS = dZ ⊙ g, and d log g[r] sums dZ ⊙ Z
- weight: dS = P ⊙ (g ⊙ dP - delta), dV takes P ⊙ g, and d log g[r] sums P ⊙ g ⊙ dP
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agf_core.attention.stripe_forward import hidden_keys
from agf_core.attention.stripes import LOG2E, TILE, Block, Chunk, Grid, Skewed


@dataclass(frozen=True)
class _Call:
    """What the whole call has in common; `field` is g, None for `logit`."""

    grid: Grid
    table: Tensor
    field: Tensor | None
    key_mask: Tensor | None
    placement: str
    scratch: list[Tensor]
    skewed: Skewed

    def buffers(self, chunk: Chunk, block: Block) -> list[Tensor]:
        """Scratch for one block: allocated once per call, since fresh pages would cost as much as the products."""
        shape = (chunk.pairs, self.grid.repeat * block.rows, block.keys)
        return [buffer[: shape[0] * shape[1] * shape[2]].view(shape) for buffer in self.scratch]


@dataclass(frozen=True)
class _Rows:
    """A stripe's queries (scaled), gradient of the output, delta and log-sum-exp: (pairs, R·rows, d or 1)."""

    queries: Tensor
    dmixed: Tensor
    delta: Tensor
    total: Tensor


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    table: Tensor,
    key_mask: Tensor | None,
    placement: str,
    causal: bool,
    scale: float,
    train_table: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and of the table (H, N + M - 1; left zero unless `train_table`)."""
    dq, dk, dv = q.new_empty(q.shape), k.new_zeros(k.shape), v.new_zeros(v.shape)
    dtable = table.new_zeros(table.shape)
    if 0 in q.shape or k.shape[2] == 0:
        return dq.zero_(), dk, dv, dtable
    grid = Grid.of(q, k, causal, TILE)
    size = grid.pairs * grid.repeat * grid.rows * grid.tile
    scratch = [q.new_empty(size) for _ in range(2 if placement == "logit" else 3)]
    field = None if placement == "logit" else table.exp()
    call = _Call(grid, LOG2E * table, field, key_mask, placement, scratch, Skewed(grid, q))
    lse = LOG2E * lse.masked_fill(lse == -torch.inf, torch.inf)  # exp(score - inf) = 0: rows without keys drop out
    for chunk in grid.chunks():
        keys = k[chunk.batch, chunk.group].reshape(chunk.pairs, *k.shape[2:])
        values = v[chunk.batch, chunk.group].reshape(keys.shape)
        dkeys = dk[chunk.batch, chunk.group].view(keys.shape)
        dvalues = dv[chunk.batch, chunk.group].view(keys.shape)
        for stripe in grid.blocks():
            dmixed = grid.queries_of(grad, chunk, stripe)
            delta = (dmixed * grid.queries_of(out, chunk, stripe)).sum(-1, keepdim=True)
            queries = grid.queries_of(q, chunk, stripe) * scale
            rows = _Rows(queries, dmixed, delta, grid.queries_of(lse, chunk, stripe))
            dqueries = torch.zeros_like(queries)
            for block in stripe.tiles(grid.tile):
                seen = block.seen
                prob, spare = _probabilities(call, chunk, block, rows, keys[:, seen])
                dscore = _dscore(call, chunk, block, rows, prob, spare, values[:, seen], dvalues[:, seen])
                dqueries.baddbmm_(dscore, keys[:, seen])
                _add_product(dkeys[:, seen], dscore.mT, queries)
                if train_table:
                    call.skewed.add_diagonals(dtable, chunk, block)
            grid.put_queries(dq, chunk, stripe, dqueries.mul_(scale))
    return dq, dk, dv, dtable


def _probabilities(call: _Call, chunk: Chunk, block: Block, rows: _Rows, keys: Tensor) -> tuple[Tensor, list[Tensor]]:
    """P of one block, recomputed, and the buffers left; for `score` the last one holds Z."""
    prob, *spare = call.buffers(chunk, block)
    view = call.grid.unfold(prob, chunk)
    if call.field is None:
        torch.sub(call.grid.hankel(call.table, chunk, block), call.grid.unfold(rows.total, chunk), out=view)
        prob.baddbmm_(rows.queries, keys.mT, alpha=LOG2E)
    else:
        torch.bmm(rows.queries, keys.mT, out=prob)
        if call.placement == "score":
            view.mul_(call.grid.hankel(call.field, chunk, block))
            spare[1].copy_(prob)
        prob.mul_(LOG2E).sub_(rows.total)
        call.grid.hide_future(view, block)
    if call.key_mask is not None:
        view.masked_fill_(hidden_keys(call.key_mask, chunk, block), -torch.inf)
    return prob.exp2_(), spare


def _dscore(
    call: _Call,
    chunk: Chunk,
    block: Block,
    rows: _Rows,
    prob: Tensor,
    spare: list[Tensor],
    values: Tensor,
    dvalues: Tensor,
) -> Tensor:
    """dS of one block; adds to dV, and leaves in `skewed` what the table's gradient sums along the diagonals."""
    grid, target, dscore = call.grid, call.skewed.block(chunk, block), spare[0]
    if call.field is not None and call.placement == "weight":
        g = grid.hankel(call.field, chunk, block)
        weighted = torch.mul(grid.unfold(prob, chunk), g, out=grid.unfold(spare[1], chunk)).view(prob.shape)
        _add_product(dvalues, weighted.mT, rows.dmixed)
        torch.bmm(rows.dmixed, values.mT, out=dscore)
        torch.mul(dscore, weighted, out=target)
        return torch.addcmul(target, prob, rows.delta, value=-1, out=dscore)
    _add_product(dvalues, prob.mT, rows.dmixed)
    torch.neg(rows.delta.expand_as(dscore), out=dscore)
    dscore.baddbmm_(rows.dmixed, values.mT)
    if call.field is None:
        return torch.mul(dscore, prob, out=target)
    torch.mul(dscore.mul_(prob), spare[1], out=target)
    grid.unfold(dscore, chunk).mul_(grid.hankel(call.field, chunk, block))
    return dscore


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b for matrices (pairs, …); into a part of a larger tensor torch multiplies one pair at a time."""
    if total.is_contiguous():
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)
