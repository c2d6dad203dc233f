"""The literal definition, in any precision, every score written out: what all other backends are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from agf_core.attention.problem import Problem


def unsupported(problem: Problem) -> str | None:
    """Why this backend cannot run the call: it always can."""
    return None


def scores(problem: Problem) -> Tensor:
    """The association s = scale · q k^T, (B, H, N, M), in the compute dtype: no field, no mask."""
    q, k = problem.q.to(problem.compute_dtype), problem.k.to(problem.compute_dtype)
    return problem.scale * q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT


def weights(problem: Problem, position: Tensor | None = None, association: Tensor | None = None) -> Tensor:
    """What multiplies V, (B, H, N, M), in the compute dtype; queries at `position` (N,), by default up to the last key.

    s = `scores`, or the `association` that is given instead. logit: softmax(s + log g). score: softmax(s·g). weight:
    softmax(s)·g, not renormalised.
    """
    s = scores(problem) if association is None else association
    keys = torch.arange(problem.k.shape[2], device=s.device)
    if position is None:
        position = torch.arange(problem.q.shape[2], device=s.device) + problem.offset
    distance = position[:, None] - keys  # (N, M)
    log_g = torch.zeros((), device=s.device)
    if problem.field is not None:
        query = position[:, None] if problem.needs_query else None
        log_g = problem.field.log_weight(distance, query).to(s.dtype)  # (H, N, M)
    if problem.placement == "logit":
        s = s + log_g
    elif problem.placement == "score":
        s = s * log_g.exp()
    allowed = distance >= 0 if problem.causal else torch.ones_like(distance, dtype=torch.bool)
    if problem.key_mask is not None:
        allowed = allowed & problem.key_mask[:, None, None, :]
    # A row without any key is computed as if it had all of them, then set to zero: no NaN, not even in a gradient.
    empty = ~allowed.any(-1, keepdim=True)
    attention = s.masked_fill(~(allowed | empty), -torch.inf).softmax(-1).masked_fill(empty, 0)
    return attention * log_g.exp() if problem.placement == "weight" else attention


def mix(problem: Problem, attention: Tensor) -> Tensor:
    """Weights (B, H, N, M) times V: (B, H, N, d) in q's dtype."""
    v = problem.v.to(attention.dtype).repeat_interleave(problem.q.shape[1] // problem.v.shape[1], dim=1)
    return (attention @ v).to(problem.q.dtype)


def run(problem: Problem, position: Tensor | None = None) -> Tensor:
    """(B, H, N, d) in q's dtype."""
    return mix(problem, weights(problem, position))
