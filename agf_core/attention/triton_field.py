"""How a field enters the Triton kernels: as a law of few parameters, or tabulated over distance (ours).

Three of the laws are log g = -rate_h · L_h(r), the shape of L having at most one parameter, `bend`:

| field | rate | L(r) | bend | dL / d bend |
|---|---|---|---|---|
| `PowerField` | k | log(1 + r/r0) | r0 | -r / (r0 (r0 + r)) |
| `ExponentialField` | m | r | | |
| `StretchedExponentialField` | a | r^p | p | r^p log r |

`triton_pairs` tabulates them on the way in. The gradients of rate and bend are two sums over all scores, which the
kernel for dq takes along. For every other field the whole table's gradient is computed, at the price of two more
products per score.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agf_core.attention.problem import Problem
from agf_core.fields import ExponentialField, PowerField, StretchedExponentialField
from agf_core.fields.positive import Positive


class Law(NamedTuple):
    """`name`: none, table, power, exponential or stretched; float32, all with their graph.

    log g = base (H, X) for "table", where entry N - 1 - n + j belongs to query n, key j; else rate and bend (H,).
    """

    name: str
    base: Tensor | None = None
    rate: Tensor | None = None
    bend: Tensor | None = None


def as_law(problem: Problem) -> Law:
    """The field as the kernels take it: a law of few parameters, if it is one and has no others for the future."""
    field = problem.field
    if field is None:
        return Law("none")
    if problem.causal or not field.directional:
        if type(field) is PowerField:
            return Law("power", None, _past(field._exponent), _past(field._scale))
        if type(field) is ExponentialField:
            return Law("exponential", None, _past(field._rate))
        if type(field) is StretchedExponentialField:
            return Law("stretched", None, _past(field._rate), _past(field._shape))
    count = entries(problem.q.shape[2], problem.k.shape[2], problem.causal)
    first = problem.k.shape[2] - 1
    distance = torch.arange(first, first - count, -1, device=problem.q.device)
    return Law("table", field.log_weight(distance).float())


def entries(queries: int, keys: int, causal: bool) -> int:
    """Of a table, from distance M - 1 down to 0, or on to 1 - N where the future is seen."""
    return keys if causal else queries + keys - 1


def _past(value: Positive) -> Tensor:
    """`value()` for the past, (H,) float32. Trained, one launch each way, of Positive's own two and four."""
    if value.trainable and math.isinf(value.upper):
        raw = value.raw if value.raw.dim() == 1 else value.raw[0]
        return F.softplus(raw, threshold=40.0).float()  # beyond 40, not even float64 knows it from the identity
    found = value()
    return (found if found.dim() == 1 else found[0]).float()
