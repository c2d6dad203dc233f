"""Backward pass of `blockwise`: scores recomputed stripe by stripe, gradients of q, k, v and of the field's table.

With P the softmax, dP = dO V^T and delta = rowsum(dO ⊙ O) (kernels.md, 2 and 3):

- logit: dS = P ⊙ (dP - delta), and d log g[r] sums dS along the diagonal r
- score, Z = s·g: dZ = P ⊙ (dP - delta), dS = dZ ⊙ g, and d log g[r] sums dZ ⊙ Z
- weight: dS = P ⊙ (g ⊙ dP - delta), dV takes P ⊙ g, and d log g[r] sums P ⊙ g ⊙ dP
"""

from __future__ import annotations

import torch
from torch import Tensor

from agf_core.attention.stripe_forward import hidden_keys
from agf_core.attention.stripes import Block, Chunk, Grid, Skewed


class _Scratch:
    """Buffers for one stripe, allocated once per call: fresh ones would cost page faults on every stripe."""

    def __init__(self, grid: Grid, like: Tensor, count: int) -> None:
        size = grid.pairs * grid.repeat * grid.rows * grid.keys
        self.buffers = [like.new_empty(size) for _ in range(count)]
        self.repeat = grid.repeat

    def stripes(self, chunk: Chunk, block: Block) -> list[Tensor]:
        shape = (chunk.pairs, self.repeat * block.rows, block.keys)
        size = shape[0] * shape[1] * shape[2]
        return [buffer[:size].view(shape) for buffer in self.buffers]


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
    dq, dk, dv = q.new_zeros(q.shape), k.new_zeros(k.shape), v.new_zeros(v.shape)
    dtable = table.new_zeros(table.shape)
    if 0 in q.shape or k.shape[2] == 0:
        return dq, dk, dv, dtable
    grid = Grid.of(q, k, causal)
    skewed = Skewed(grid, q)
    scratch = _Scratch(grid, q, 2 if placement == "logit" else 3)
    field = None if placement == "logit" else table.exp()
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)  # exp(score - inf) = 0: rows without keys drop out
    for chunk in grid.chunks():
        skewed.clear()
        keys = k[chunk.batch, chunk.group].reshape(chunk.pairs, *k.shape[2:])
        values = v[chunk.batch, chunk.group].reshape(keys.shape)
        dkeys = dk[chunk.batch, chunk.group].view(keys.shape)
        dvalues = dv[chunk.batch, chunk.group].view(keys.shape)
        for block in grid.blocks():
            seen = slice(block.keys)
            queries = grid.queries_of(q, chunk, block) * scale
            dmixed = grid.queries_of(grad, chunk, block)
            delta = (dmixed * grid.queries_of(out, chunk, block)).sum(-1, keepdim=True)
            total = grid.queries_of(lse, chunk, block)
            prob, dscore, *spare = scratch.stripes(chunk, block)
            target = skewed.stripe(chunk, block)
            hidden = None if key_mask is None else hidden_keys(key_mask, chunk, block.keys)

            if field is None:
                bias = grid.hankel(table, chunk, block)
                torch.sub(bias, grid.unfold(total, chunk), out=grid.unfold(prob, chunk))
                prob.baddbmm_(queries, keys[:, seen].mT)
            else:
                g = grid.hankel(field, chunk, block)
                torch.bmm(queries, keys[:, seen].mT, out=prob)
                if placement == "score":
                    grid.unfold(prob, chunk).mul_(g)
                    spare[0].copy_(prob)  # Z
                prob.sub_(total)
                if causal:
                    prob_view = grid.unfold(prob, chunk)
                    prob_view[..., block.keys - block.rows :] += grid.future(block, prob)
            if hidden is not None:
                grid.unfold(prob, chunk).masked_fill_(hidden, -torch.inf)
            prob.exp_()

            if placement == "weight":
                weighted = torch.mul(grid.unfold(prob, chunk), g, out=grid.unfold(spare[0], chunk)).view(prob.shape)
                dvalues[:, seen].baddbmm_(weighted.mT, dmixed)
                torch.bmm(dmixed, values[:, seen].mT, out=dscore)
                torch.mul(dscore, weighted, out=target)
                torch.addcmul(target, prob, delta, value=-1, out=dscore)
            else:
                dvalues[:, seen].baddbmm_(prob.mT, dmixed)
                dscore.copy_(delta.neg_().expand_as(dscore))
                dscore.baddbmm_(dmixed, values[:, seen].mT)
                if placement == "logit":
                    dscore = torch.mul(dscore, prob, out=target)
                else:
                    dscore.mul_(prob)
                    torch.mul(dscore, spare[0], out=target)
                    grid.unfold(dscore, chunk).mul_(g)

            grid.put_queries(dq, chunk, block, torch.bmm(dscore, keys[:, seen]).mul_(scale))
            dkeys[:, seen].baddbmm_(dscore.mT, queries)
            if train_table:
                skewed.add_diagonals(dtable, chunk, block)
    return dq, dk, dv, dtable
