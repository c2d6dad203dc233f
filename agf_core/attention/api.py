"""`attend` and its kin: check the call, choose a backend, run it (contract: DESIGN.md)."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from agf_core.attention import blockwise, flex, reference, triton
from agf_core.attention.problem import PLACEMENTS, Problem, check
from agf_core.fields import Field

__all__ = ["BACKENDS", "PLACEMENTS", "attend", "attention_weights", "choose_backend"]

# Each module has `unsupported(problem)`, a reason or None, and `run(problem)`. "auto" takes the first that can run.
BACKENDS: dict[str, ModuleType] = {"triton": triton, "blockwise": blockwise, "reference": reference, "flex": flex}


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    field: Field | None = None,
    placement: str = "logit",
    causal: bool = True,
    key_mask: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attention with a distance field, (B, H, N, d), differentiable in q, k, v and the field's parameters.

    q (B, H, N, d); k, v (B, G, M, d), G divides H and head h reads h // (H/G). Query n stands at position M - N + n,
    so one call with few queries on a long cache decodes. `field` None: plain attention. `placement`, with
    s = scale · q k^T and scale 1/√d by default:

    - "logit": softmax(s + log g) V
    - "score": softmax(s · g) V
    - "weight": (softmax(s) ⊙ g) V, not renormalised

    `key_mask` (B, M) bool, True = takes part. A query left without keys gives zeros. float16 and bfloat16 are computed
    in float32 and returned as they came. ValueError or TypeError for what does not fit; NotImplementedError, with the
    reason, where the backend that was named cannot run the call ("auto" always finds one; see `choose_backend`).
    """
    problem = check(q, k, v, field, placement, causal, key_mask, scale)
    return BACKENDS[_choose(problem, backend)].run(problem)


def attention_weights(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    field: Field | None = None,
    placement: str = "logit",
    causal: bool = True,
    key_mask: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """What multiplies V in `attend`, (B, H, N, M), after g, in q's dtype. Only `reference` ever holds it whole."""
    problem = check(q, k, v, field, placement, causal, key_mask, scale)
    if backend != "auto" and _choose(problem, backend) != "reference":
        raise NotImplementedError(f"backend {backend!r} never holds the weights; use 'reference' or 'auto'")
    return reference.weights(problem).to(q.dtype)


def choose_backend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    field: Field | None = None,
    placement: str = "logit",
    causal: bool = True,
    key_mask: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> str:
    """The name of the backend that `attend` would run; the same errors."""
    return _choose(check(q, k, v, field, placement, causal, key_mask, scale), backend)


def _choose(problem: Problem, backend: str) -> str:
    if backend == "auto":
        return next(name for name, module in BACKENDS.items() if module.unsupported(problem) is None)
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose from auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].unsupported(problem)
    if reason is not None:
        raise NotImplementedError(f"backend {backend!r} cannot run this call: {reason}")
    return backend
