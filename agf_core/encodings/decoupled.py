"""Position apart from meaning: a distance field per layer, any law at any placement, from a chosen start.

| law | field | published start | source |
|---|---|---|---|
| power | (1 + r)^-k | k evenly from 0.25 to 2 | AGF (2603.04805) as we write it; the start is ours |
| shifted_power | (1 + r/r0)^-k, r0 trained | k uniform in (0, 2), 1/r0 in (0, 1) | KERPLE-log (2205.09921), its code |
| exponential | e^(-m r) | ALiBi's slopes | ALiBi (2108.12409) |
| stretched_exponential | e^(-a r^p) | p uniform in (0, 2), a in (0, 1) | KERPLE-power (2205.09921), its code |
| table | T5's 32 buckets | 0; T5 draws it like its other weights, normal | T5 (1910.10683) |
| distances | one entry per distance below the context | 0 | ours |
| pairs | one entry per query position and distance | 0 | Synthesizer, random (2005.00743): no field, it reads i and j |
| mlp | MLP of log distance | random, c = 0.1; L the context, fixed | FIRE (2310.04418), which trains L |

Other starts (ours): `matched`, nearest to AGF's -k log(1 + r); `steep`, nearest to twice that; `flat`, nearest to
k = 0.01, or to exactly 0 where the law is free to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agf_core.attention import PLACEMENTS
from agf_core.encodings import matched
from agf_core.encodings.base import Encoding, Size, choose
from agf_core.fields import (
    ExponentialField,
    Field,
    MlpField,
    PairField,
    PowerField,
    StretchedExponentialField,
    TableField,
    alibi_slopes,
)

STARTS = ("published", "matched", "flat", "steep")
Value = float | Tensor


@dataclass(frozen=True)
class Start:
    """Where the training of a field starts.

    In a two-sided one the future has the heads in reverse order, so that left and right can be told apart even where
    nothing is trained (ours).
    """

    heads: int
    context: int
    start: str
    trainable: bool
    directional: bool

    @property
    def published(self) -> bool:
        return self.start == "published"

    def sides(self, value: Tensor) -> Tensor:
        """(H, …) -> itself, or (2, H, …), float32."""
        return (torch.stack((value, value.flip(0))) if self.directional else value).float()

    def exponents(self, flat: float = 0.01) -> Tensor:
        """The k of the target -k log(1 + r), (H,) float64."""
        if self.start == "flat":
            return torch.full((self.heads,), flat, dtype=torch.float64)
        spread = torch.linspace(0.25, 2.0, self.heads, dtype=torch.float64)
        if self.start == "steep" and self.heads == 1:
            spread += 0.875  # the middle of the range: its lower end, doubled, would hardly be steep
        return spread * (2 if self.start == "steep" else 1)

    def uniform(self, high: float) -> Tensor:
        """KERPLE's draws, uniform in (0, high) and at least its 0.01, kept as far from the other end."""
        shape = (2, self.heads) if self.directional else (self.heads,)
        return (torch.rand(shape) * high).clamp(0.01, high - 0.01)


def _power(start: Start, *, exponent: Value | None = None, scale: Value = 1.0) -> Field:
    exponent = start.sides(start.exponents()) if exponent is None else exponent
    return PowerField(start.heads, exponent, scale, start.trainable, directional=start.directional)


def _shifted_power(start: Start, *, exponent: Value | None = None, scale: Value | None = None) -> Field:
    # AGF with r0 trained: one family with `_power`, and the same start when matched.
    drawn = (start.uniform(2), 1 / start.uniform(1)) if start.published else (start.sides(start.exponents()), 1.0)
    exponent, scale = drawn[0] if exponent is None else exponent, drawn[1] if scale is None else scale
    return PowerField(start.heads, exponent, scale, start.trainable, start.trainable, start.directional)


def _exponential(start: Start, *, rate: Value | None = None) -> Field:
    if rate is None and start.published:
        rate = start.sides(alibi_slopes(start.heads))
    elif rate is None:
        rate = start.sides(start.exponents() * matched.nearest_exponential(start.context))
    return ExponentialField(start.heads, rate, start.trainable, start.directional)


def _stretched(start: Start, *, rate: Value | None = None, shape: Value | None = None) -> Field:
    a: Value
    p: Value
    if start.published:
        a, p = start.uniform(1), start.uniform(2)
    else:
        unit, p = matched.nearest_stretched(start.context)
        a = start.sides(start.exponents() * unit)
    a, p = a if rate is None else rate, p if shape is None else shape
    return StretchedExponentialField(start.heads, a, p, start.trainable, start.directional)


def _filled(start: Start, size: int, buckets: str, max_distance: int = 128, gain: float = 1.0) -> Field:
    table = TableField(start.heads, size, buckets, max_distance, 0.0, start.trainable, start.directional, gain)
    if not start.published:
        unit = matched.nearest_table(table, start.context)
        with torch.no_grad():
            table.table.copy_(start.sides(-start.exponents(flat=0.0).unsqueeze(-1) * unit) / gain)
    return table


def _table(start: Start, *, size: int | None = None, max_distance: int = 128) -> Field:
    # T5's bidirectional encoder halves its 32 buckets between the two sides.
    size = (16 if start.directional else 32) if size is None else size
    return _filled(start, size, "t5", max_distance)


def _distances(start: Start, *, size: int | None = None, gain: float = 1.0) -> Field:
    return _filled(start, start.context if size is None else size, "every", gain=gain)


def _pairs(start: Start, *, size: int | None = None, gain: float = 1.0) -> Field:
    size = start.context if size is None else size
    initial = torch.zeros(())
    if not start.published:  # every query starts from the same field
        unit = torch.log1p(torch.arange(size, dtype=torch.float64))
        initial = start.sides(-start.exponents(flat=0.0).unsqueeze(-1) * unit)
    return PairField(start.heads, size, initial, start.trainable, start.directional, gain)


def _mlp(start: Start, *, width: int = 32) -> Field:
    rate = 0.1 if start.published else 1.0
    field = MlpField(start.heads, start.context, width, start.trainable, directional=start.directional, rate=rate)
    if not start.published:
        exponents = start.sides(start.exponents(flat=0.0))
        matched.match_mlp(field, exponents.reshape(-1, start.heads))
    return field


LAWS: dict[str, Callable[..., Field]] = {
    "power": _power,
    "shifted_power": _shifted_power,
    "exponential": _exponential,
    "stretched_exponential": _stretched,
    "table": _table,
    "distances": _distances,
    "pairs": _pairs,
    "mlp": _mlp,
}


class FieldEncoding(Encoding):
    """A field per layer, or one for all (`share`); `trainable` False: no parameter asks for a gradient.

    `law_options`, the keyword arguments of the law's builder, override its start: build("field", law="power",
    exponent=1.0) plants a field.
    """

    family = "decoupled"

    def __init__(
        self,
        size: Size,
        /,
        *,
        law: str,
        placement: str = "logit",
        start: str = "published",
        trainable: bool = True,
        directional: bool = False,
        share: bool = False,
        **law_options: object,
    ) -> None:
        super().__init__()
        choose("placement", placement, PLACEMENTS)
        choose("start", start, STARTS)
        self.law, self.placement = law, placement
        origin = Start(size.heads, size.context, start, trainable, directional)
        fields = [LAWS[law](origin, **law_options) for _ in range(1 if share else size.layers)]
        self.fields = nn.ModuleList(fields)

    def field(self, layer: int) -> Field:
        return self.fields[0 if len(self.fields) == 1 else layer]  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"law={self.law!r}, placement={self.placement!r}"


def law_options(law: str) -> list[str]:
    """Names of a law's own options; ValueError that lists the laws for an unknown one."""
    choose("law", law, tuple(LAWS))
    return list(inspect.signature(LAWS[law]).parameters)[1:]
