"""Few scores, written out and kept for the backward pass: the quickest on a CPU while they fit its caches (ours).

P = softmax(s + log g), softmax(s·g), or softmax(s) for `weight`, where W = P·g multiplies V. Backwards, with dO given:

- logit: dP = dO V^T, dS = P ⊙ (dP - rowsum(P ⊙ dP)), and d log g[r] sums dS along the diagonal r
- score, Z = s·g: dZ as dS above, dS = dZ ⊙ g, and d log g[r] sums dS ⊙ s
- weight: dW = dO V^T, dP = dW ⊙ g, dS as above, and d log g[r] sums dW ⊙ W

Autograd would do the same with twice the memory; here a few batches at a time pass through the same small buffers,
which stay in cache, and no fresh pages are asked of the system.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BLOCK = 2**18  # scores at a time for each thread: 1 MB in float32


class Written(torch.autograd.Function):
    """apply(q, k, v, table, placement, causal, scale) -> (B, H, N, d), all of one dtype; k, v (B, H, M, d).

    `table` (H, N + M - 1) is log g in `stripes` order, -inf for the future when causal.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor, placement: str, causal: bool, scale: float
    ) -> Tensor:
        (batch, heads, queries, _), keys = q.shape, k.shape[2]
        # As a view of the table its rows would be in reverse order: see `stripes`.
        bias = table.as_strided((heads, queries, keys), (table.stride(0), 1, 1)).flip(1)
        field = bias.exp()  # 0 in the future
        if placement != "logit":
            bias = torch.where(bias == -torch.inf, bias, 0)
        q, k, v = (x.contiguous() for x in (scale * q, k, v))
        prob, out = q.new_empty(batch, heads, queries, keys), torch.empty_like(q)
        room = _room(prob)
        for part in _parts(prob):
            p = prob[part]
            s = torch.matmul(q[part], k[part].mT, out=room[: len(p)])
            if placement == "score":
                s *= field
            if placement == "logit" or causal:
                s += bias
            torch.softmax(s, -1, out=p)
            torch.matmul(p if placement != "weight" else torch.mul(p, field, out=s), v[part], out=out[part])
        ctx.save_for_backward(q, k, v, prob, field)
        ctx.placement, ctx.scale = placement, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, prob, field = ctx.saved_tensors
        train, grad = ctx.needs_input_grad[3], grad.contiguous()
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        total = prob.new_zeros(prob.shape[1:])
        rooms = _room(prob), _room(prob)
        for part in _parts(prob):
            p = prob[part]
            dp, ds = (room[: len(p)] for room in rooms)
            torch.matmul(grad[part], v[part].mT, out=dp)
            w = p if ctx.placement != "weight" else torch.mul(p, field, out=ds)
            torch.matmul(w.mT, grad[part], out=dv[part])
            if ctx.placement == "weight":
                if train:
                    total += w.mul_(dp).sum(0)
                dp *= field
            torch.ops.aten._softmax_backward_data.out(dp, p, -1, p.dtype, grad_input=ds)
            if ctx.placement == "score":
                ds *= field
                if train:
                    total += torch.matmul(q[part], k[part].mT, out=dp).mul_(ds).sum(0)
            elif ctx.placement == "logit" and train:
                total += ds.sum(0)
            torch.matmul(ds, k[part], out=dq[part])
            torch.matmul(ds.mT, q[part], out=dk[part])
        return dq.mul_(ctx.scale), dk, dv, _diagonals(total) if train else None, None, None, None


def _parts(scores: Tensor) -> Iterator[slice]:
    """Slices of the batch of `scores` (B, H, N, M)."""
    size = max(1, _BLOCK * torch.get_num_threads() // scores[0].numel())
    for first in range(0, len(scores), size):
        yield slice(first, first + size)


def _room(scores: Tensor) -> Tensor:
    """A buffer for the scores of one part."""
    return torch.empty_like(scores[next(_parts(scores))])


def _diagonals(x: Tensor) -> Tensor:
    """Sums of x (H, N, M) along its diagonals, (H, N + M - 1), in the table's order."""
    heads, queries, keys = x.shape
    width = queries + keys - 1
    # Rows in reverse order, one longer than the result: read at its width, each row stands one place further right.
    moved = F.pad(x.flip(1), (0, queries)).flatten(1)[:, : queries * width]
    return moved.view(heads, queries, width).sum(1)
