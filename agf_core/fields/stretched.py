"""Stretched exponential, g(r) = e^(-a r^p): KERPLE-power (2205.09921); BAM (2505.22842) is of the same family."""

from __future__ import annotations

from torch import Tensor

from agf_core.fields.base import Field, per_head
from agf_core.fields.exponential import alibi_slopes
from agf_core.fields.positive import Positive, Value


class StretchedExponentialField(Field):
    """log g = -a r^p, rate a > 0 and shape 0 < p < 2 per head (below 2, g is a conditionally positive kernel).

    `rate` None: ALiBi's slopes; with `shape` 1, the default, the field therefore starts as ALiBi.
    """

    def __init__(
        self,
        heads: int,
        rate: Value | None = None,
        shape: Value = 1.0,
        trainable: bool = True,
        directional: bool = False,
    ) -> None:
        super().__init__(heads, directional)
        self._rate = Positive("rate", alibi_slopes(heads) if rate is None else rate, self._parameter_shape, trainable)
        self._shape = Positive("shape", shape, self._parameter_shape, trainable, upper=2.0)

    @property
    def rate(self) -> Tensor:
        """a per token^p, shape (H,) or (2, H)."""
        return self._rate()

    @property
    def shape(self) -> Tensor:
        """p, shape (H,) or (2, H)."""
        return self._shape()

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        return -per_head(self.rate[side], r) * r.pow(per_head(self.shape[side], r))
