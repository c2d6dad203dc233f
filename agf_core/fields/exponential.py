"""Exponential law, g(r) = e^(-m r): ALiBi (2108.12409, section 3) when the rates are its fixed slopes."""

from __future__ import annotations

import torch
from torch import Tensor

from agf_core.fields.base import Field, per_head
from agf_core.fields.positive import Positive, Value


def alibi_slopes(heads: int) -> Tensor:
    """ALiBi's slopes, (H,) float32: 2^(-8h/H) for h = 1 … H when H is a power of two.

    Otherwise, as in BLOOM: those of the power of two below, then every other one of the power of two above.
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * h / below) for h in range(1, below + 1)]
    slopes += [2 ** (-4 * h / below) for h in range(1, 2 * (heads - below), 2)]
    return torch.tensor(slopes)


class ExponentialField(Field):
    """log g = -m r, rate m > 0 (per token) per head; `rate` None: `alibi_slopes`."""

    def __init__(
        self, heads: int, rate: Value | None = None, trainable: bool = False, directional: bool = False
    ) -> None:
        super().__init__(heads, directional)
        self._rate = Positive("rate", alibi_slopes(heads) if rate is None else rate, self._parameter_shape, trainable)

    @property
    def rate(self) -> Tensor:
        """m per token, shape (H,) or (2, H)."""
        return self._rate()

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        return -per_head(self.rate[side], r) * r
