"""One free number for every pair of query and key positions: Synthesizer's random alignment (2005.00743, section 3.2).

Not a field in this book's strict sense: its log g depends on the query's position as well as on the distance. It is the
most that mixing can be without looking at the data: each position of the window has weights of its own over all keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agf_core.fields.base import Field


class PairField(Field):
    """log g = gain * free[h, query, |r|], one trained number per head, query position and distance, below `size`.

    `initial`, (H, size) by distance ((2, H, size) for a directional one), or a number: where every query starts, 0
    (flat) by default. Later queries and larger distances use the last entry; so does `log_weight` without `query`.
    `gain`: see `TableField`.
    """

    def __init__(
        self,
        heads: int,
        size: int,
        initial: float | Tensor = 0.0,
        trainable: bool = True,
        directional: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__(heads, directional)
        if size < 1 or not gain > 0:
            raise ValueError(f"size must be at least 1 and gain positive, got {size} and {gain}")
        start = torch.as_tensor(initial).detach()
        start, expected = start if start.dtype == torch.float64 else start.float(), (*self._parameter_shape, size)
        try:
            start = start.expand(expected)
        except RuntimeError:
            raise ValueError(f"initial of shape {tuple(start.shape)} does not fit {expected}") from None
        each = start.unsqueeze(-2).expand(*self._parameter_shape, size, size)  # (…, H, query, distance)
        self.size, self.gain = size, gain
        self.free = nn.Parameter(each / gain, requires_grad=trainable)

    def needs_query(self, length: int) -> bool:
        return True

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        last = self.size - 1
        at = torch.full_like(r, last) if query is None else query
        return self.gain * self.free[side].to(r.dtype)[:, at.long().clamp(0, last), r.long().clamp(max=last)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"
