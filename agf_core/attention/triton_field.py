"""How a field enters the Triton kernels: tabulated over distance, or as a scaled law of few parameters (ours).

Three of the laws are log g = slope_h · L_h(r), the shape of L having at most one parameter, `bend`:

| field | slope | L(r) | bend | dL / d bend |
|---|---|---|---|---|
| `PowerField` | -k | log(1 + r/r0) | r0 | -r / (r0 (r0 + r)) |
| `ExponentialField` | -m | r | | |
| `StretchedExponentialField` | -a | r^p | p | r^p log r |

The gradients of slope and bend are two sums over all scores, which the kernel for dq takes along. For every other field
the whole table's gradient is computed, at the price of two more products per score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agf_core.attention.problem import Problem
from agf_core.fields import ExponentialField, PowerField, StretchedExponentialField


@dataclass(frozen=True)
class Parameters:
    """log g = slope · L(r; bend) for `law`; slope and bend (H,), with their graph; bend None where L has none."""

    law: str
    slope: Tensor
    bend: Tensor | None


@dataclass(frozen=True)
class Tabulated:
    """log g = slope · base, float32; slope None: 1. Entry N - 1 - n + j of base (H, X) belongs to query n, key j.

    With a slope, base and bend_base = dL / d bend carry no graph: slope and bend take the whole gradient.
    """

    base: Tensor
    slope: Tensor | None = None
    bend: Tensor | None = None
    bend_base: Tensor | None = None


def parameters(problem: Problem) -> Parameters | None:
    """The field as a law of few parameters, or None where it is none, or has other parameters in the future."""
    field = problem.field
    if field is None or (field.directional and not problem.causal):
        return None
    past = (0,) if field.directional else ()
    if type(field) is PowerField:
        return Parameters("power", -field.exponent[past].float(), field.scale[past].float())
    if type(field) is ExponentialField:
        return Parameters("exponential", -field.rate[past].float(), None)
    if type(field) is StretchedExponentialField:
        return Parameters("stretched", -field.rate[past].float(), field.shape[past].float())
    return None


def tabulate(problem: Problem) -> Tabulated | None:
    """The field over every distance that the call can meet; None without a field."""
    if problem.field is None:
        return None
    queries, keys = problem.q.shape[2], problem.k.shape[2]
    count = keys if problem.causal else queries + keys - 1  # causal: the table ends at distance 0
    distance = torch.arange(keys - 1, keys - 1 - count, -1, device=problem.q.device)
    given = parameters(problem)
    if given is None:
        return Tabulated(problem.field.log_weight(distance).float())
    with torch.no_grad():
        r = distance.abs().float()
        base, bend_base = _law(given, r)
    return Tabulated(base, given.slope, given.bend, bend_base)


def _law(given: Parameters, r: Tensor) -> tuple[Tensor, Tensor | None]:
    """L and dL / d bend, (H, X); the latter only where bend is trained."""
    if given.bend is None:
        return r.expand(given.slope.shape[0], -1), None
    bend = given.bend.detach()[:, None]
    if given.law == "power":
        return torch.log1p(r / bend), -r / (bend * (bend + r)) if given.bend.requires_grad else None
    base = r.pow(bend)
    return base, base * r.clamp(min=1).log() if given.bend.requires_grad else None
