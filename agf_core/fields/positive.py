"""Parameters that stay in (0, upper), upper infinite by default: exponents, rates, scales, shapes (ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Value = float | Sequence[float] | Tensor


class Positive(nn.Module):
    """A tensor in (0, upper), fixed (kept exactly) or trained through softplus (or upper * sigmoid).

    softplus is the identity for large values and the exponential for small ones: the optimiser's step is neither tiny
    near 0 nor explosive far from it, and no step can leave the domain.
    """

    def __init__(self, name: str, value: Value, shape: Sequence[int], trainable: bool, upper: float = math.inf) -> None:
        super().__init__()
        start = torch.as_tensor(value).detach().to(torch.float64)
        try:
            start = start.expand(tuple(shape)).clone()
        except RuntimeError:
            given = tuple(start.shape)
            raise ValueError(f"{name} of shape {given} does not fit the field's {tuple(shape)}") from None
        inside = bool(torch.isfinite(start).all() and (start > 0).all() and (start < upper).all())
        if not inside:
            raise ValueError(f"{name} must lie in (0, {upper:g}), got {start.tolist()}")
        dtype = torch.float64 if isinstance(value, Tensor) and value.dtype == torch.float64 else torch.float32
        self.upper = upper
        self.trainable = trainable
        if trainable:
            raw = start + torch.log(-torch.expm1(-start)) if math.isinf(upper) else torch.logit(start / upper)
            self.raw = nn.Parameter(raw.to(dtype))
        else:
            self.register_buffer("fixed", start.to(dtype))

    def forward(self) -> Tensor:
        if not self.trainable:
            return self.fixed  # type: ignore[return-value]
        if math.isinf(self.upper):
            # softplus, without the cut at 20 that torch's own has and float64 would notice
            return torch.logaddexp(self.raw, torch.zeros_like(self.raw))
        return self.upper * torch.sigmoid(self.raw)

    def extra_repr(self) -> str:
        return f"trainable={self.trainable}, upper={self.upper:g}"
