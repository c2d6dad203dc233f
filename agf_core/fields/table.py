"""Free tables: T5's log-spaced buckets (1910.10683, section 2.1), or one entry per distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from agf_core.fields.base import Field

BUCKETS = ("t5", "every")


def t5_bucket(distance: Tensor, size: int, max_distance: int) -> Tensor:
    """T5's bucket, in [0, size), of non-negative distances: exact below size/2, then logarithmic to `max_distance`.

    Computed in float32 in T5's own order of operations, so that the edges fall where T5's do.
    """
    exact = size // 2
    r = distance.clamp(min=1).float()
    spaced = torch.log(r / exact) / math.log(max_distance / exact) * (size - exact)
    far = (exact + spaced.clamp(min=0).long()).clamp(max=size - 1)
    return torch.where(distance < exact, distance.long(), far)


class TableField(Field):
    """log g = table[h, bucket(r)], one free number per head and bucket; distances past the last use the last entry.

    `buckets` "t5": `size` log-spaced buckets, the last from about `max_distance` on (T5's decoder: 32, 128; its
    bidirectional encoder, which halves its 32 buckets: size 16, directional). "every": entry r for r < size.
    `initial`, (H, size) or (2, H, size), or a number: where log g starts, 0 (flat) by default. `gain`: log g is gain
    times the parameter `table`. Adam's steps are as long as the learning rate, whatever the gradient: at a rate of
    0.004 an entry needs thousands of steps to fall by 5 nats, and with a gain of 10 hundreds (ours).
    """

    def __init__(
        self,
        heads: int,
        size: int = 32,
        buckets: str = "t5",
        max_distance: int = 128,
        initial: float | Tensor = 0.0,
        trainable: bool = True,
        directional: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__(heads, directional)
        if not gain > 0:
            raise ValueError(f"gain must be positive, got {gain}")
        if buckets not in BUCKETS:
            raise ValueError(f"unknown buckets {buckets!r}; choose from {', '.join(BUCKETS)}")
        if size < (2 if buckets == "t5" else 1):
            raise ValueError(f"a table with {buckets!r} buckets cannot have size {size}")
        if buckets == "t5" and max_distance <= size // 2:
            raise ValueError(f"max_distance {max_distance} must exceed the exact buckets, size // 2 = {size // 2}")
        self.size = size
        self.buckets = buckets
        self.max_distance = max_distance
        self.gain = gain
        start = torch.as_tensor(initial).detach()
        start = start if start.dtype == torch.float64 else start.float()
        expected = (*self._parameter_shape, size)
        try:
            start = start.expand(expected).clone()
        except RuntimeError:
            raise ValueError(f"initial of shape {tuple(start.shape)} does not fit the table's {expected}") from None
        self.table = nn.Parameter(start / gain, requires_grad=trainable)

    def bucket(self, distance: Tensor) -> Tensor:
        """The entry, in [0, size), that |distance| (whole tokens) reads."""
        if self.buckets == "every":
            return distance.abs().long().clamp(max=self.size - 1)
        return t5_bucket(distance.abs(), self.size, self.max_distance)

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        return self.gain * self.table[side].to(r.dtype)[:, self.bucket(r)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}, buckets={self.buckets!r}"
