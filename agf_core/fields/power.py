"""Power law, g(r) = (1 + r/r0)^-k: AGF as we write it (r0 = 1); with r0 trained it is KERPLE-log (2205.09921)."""

from __future__ import annotations

import torch
from torch import Tensor

from agf_core.fields.base import Field, per_head
from agf_core.fields.positive import Positive, Value


class PowerField(Field):
    """log g = -k log(1 + r/r0), exponent k > 0 and scale r0 > 0 (tokens) per head.

    KERPLE's -p log(1 + a r) is the same with p = k, a = 1/r0. `exponent` None: evenly from 0.25 to 2 over the heads.
    A value is a number, (H,), or (2, H) for a directional field.
    """

    def __init__(
        self,
        heads: int,
        exponent: Value | None = None,
        scale: Value = 1.0,
        trainable: bool = True,
        trainable_scale: bool = False,
        directional: bool = False,
    ) -> None:
        super().__init__(heads, directional)
        start = torch.linspace(0.25, 2.0, heads) if exponent is None else exponent
        self._exponent = Positive("exponent", start, self._parameter_shape, trainable)
        self._scale = Positive("scale", scale, self._parameter_shape, trainable_scale)

    @property
    def exponent(self) -> Tensor:
        """k, shape (H,) or (2, H)."""
        return self._exponent()

    @property
    def scale(self) -> Tensor:
        """r0 in tokens, shape (H,) or (2, H)."""
        return self._scale()

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        return -per_head(self.exponent[side], r) * torch.log1p(r / per_head(self.scale[side], r))
