"""A small MLP of the normalised log distance: FIRE (2310.04418)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agf_core.fields.base import Field
from agf_core.fields.positive import Positive


class MlpField(Field):
    """log g = f(psi(r) / psi(max(L, query))), psi(x) = log(1 + c x), f an MLP 1 -> width -> H with a ReLU.

    c > 0 is trained from `rate`, in FIRE 0.1. The threshold L (tokens; take the training context) is fixed unless
    `trainable_threshold`. Up to it, g depends on distance alone; past it, FIRE stretches the field with the query's
    position, and `log_weight` needs `query`.
    """

    def __init__(
        self,
        heads: int,
        threshold: float = 512.0,
        width: int = 32,
        trainable: bool = True,
        trainable_threshold: bool = False,
        directional: bool = False,
        rate: float = 0.1,
    ) -> None:
        super().__init__(heads, directional)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        sides = 2 if directional else 1
        layers = [(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, heads)) for _ in range(sides)]
        self.mlps = nn.ModuleList(nn.Sequential(*layer) for layer in layers).requires_grad_(trainable)
        self._rate = Positive("rate", rate, (), trainable)
        self._threshold = Positive("threshold", threshold, (), trainable_threshold)
        self._fixed_threshold = None if trainable_threshold else float(threshold)

    @property
    def rate(self) -> Tensor:
        """c per token, a scalar."""
        return self._rate()

    @property
    def threshold(self) -> Tensor:
        """L in tokens, a scalar."""
        return self._threshold()

    def needs_query(self, length: int) -> bool:
        # A fixed threshold is compared as a plain number: reading a tensor would break torch.compile's graph.
        limit = self.threshold.item() if self._fixed_threshold is None else self._fixed_threshold
        return length - 1 > limit

    def log_weight(self, distance: Tensor, query: Tensor | None = None) -> Tensor:
        """As `Field.log_weight`; ValueError when `query` is left out though a distance exceeds the threshold."""
        if query is None and not torch.compiler.is_compiling() and distance.numel():
            farthest = int(distance.max())
            if self.needs_query(farthest + 1):
                limit = self.threshold.item()
                raise ValueError(f"distance {farthest} exceeds the threshold {limit:g}: FIRE needs `query` there")
        return super().log_weight(distance, query)

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        limit = self.threshold.to(r.dtype)
        if query is not None:
            limit = torch.maximum(limit, query.to(r.dtype))
        rate = self.rate.to(r.dtype)
        normalised = torch.log1p(rate * r) / torch.log1p(rate * limit)
        hidden = normalised.unsqueeze(-1)  # (…, 1)
        # Layer by layer in r's dtype: neither autocast nor half-precision parameters may coarsen a bias that is exp'd.
        with torch.autocast(r.device.type, enabled=False):
            for layer in self.mlps[side[0] if side else 0].children():
                if isinstance(layer, nn.Linear):
                    weight, bias = layer.weight.to(r.dtype), layer.bias.to(r.dtype)
                    hidden = nn.functional.linear(hidden, weight, bias)
                else:
                    hidden = layer(hidden)
        return hidden.movedim(-1, 0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={float(self.threshold):g}"
