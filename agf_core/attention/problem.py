"""One attention call, checked once, in one place (ours)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agf_core.fields import Field

PLACEMENTS = ("logit", "score", "weight")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Problem:
    """A checked call: q (B, H, N, d); k, v (B, G, M, d), one floating dtype; key_mask (B, M) bool or None."""

    q: Tensor
    k: Tensor
    v: Tensor
    field: Field | None
    placement: str
    causal: bool
    key_mask: Tensor | None
    scale: float

    @property
    def offset(self) -> int:
        """Position of the first query: the last query stands at the last key."""
        return self.k.shape[2] - self.q.shape[2]

    @property
    def compute_dtype(self) -> torch.dtype:
        """Scores and softmax are never computed in half precision."""
        return torch.promote_types(self.q.dtype, torch.float32)

    @property
    def needs_query(self) -> bool:
        """Whether the field is no table of distance at this length (FIRE past its threshold)."""
        return self.field is not None and self.field.needs_query(self.k.shape[2])

    @property
    def needs_grad(self) -> bool:
        tensors = [self.q, self.k, self.v, *(self.field.parameters() if self.field is not None else ())]
        return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)

    def table(self) -> Tensor:
        """log g over distance, (H, N + M - 1), from r = M - 1 down to 1 - N; the future -inf when causal.

        In falling order because entry N - 1 - n + j is then the one for query n and key j: see `stripes`.
        """
        queries, keys = self.q.shape[2], self.k.shape[2]
        total = max(0, queries + keys - 1)
        count = keys if self.causal else total
        distance = torch.arange(keys - 1, keys - 1 - count, -1, device=self.q.device)
        if self.field is None:
            table = torch.zeros(self.q.shape[1], count, dtype=self.compute_dtype, device=self.q.device)
        else:
            table = self.field.log_weight(distance).to(self.compute_dtype)
        return nn.functional.pad(table, (0, total - count), value=-torch.inf).contiguous()


def check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    field: Field | None,
    placement: str,
    causal: bool,
    key_mask: Tensor | None,
    scale: float | None,
) -> Problem:
    """The call as a `Problem`; ValueError or TypeError with the actual shapes and dtypes when it is none."""
    if placement not in PLACEMENTS:
        raise ValueError(f"unknown placement {placement!r}; choose from {', '.join(PLACEMENTS)}")
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 4:
        raise ValueError(f"q, k and v must be (batch, heads, length, dim), got {shapes}")
    batch, heads, length, dim = q.shape
    groups, keys = k.shape[1:3]
    if k.shape != v.shape or k.shape[0] != batch or k.shape[3] != dim:
        raise ValueError(f"k and v must agree with each other, and with q in batch and dim, got {shapes}")
    if groups == 0 or heads % groups:
        raise ValueError(f"the {groups} key heads must divide the {heads} query heads, got {shapes}")
    if causal and length > keys:
        raise ValueError(f"{length} queries cannot end at the last of {keys} keys when causal, got {shapes}")
    if field is not None and field.heads != heads:
        raise ValueError(f"a field of {field.heads} heads does not fit {heads} query heads, got {shapes}")
    q, k, v = _one_dtype(q, k, v)
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device, got {q.device}, {k.device}, {v.device}")
    if key_mask is not None:
        if key_mask.dtype != torch.bool or key_mask.shape != (batch, keys):
            given = f"{key_mask.dtype} {tuple(key_mask.shape)}"
            raise ValueError(f"key_mask must be bool of shape {(batch, keys)}, True = takes part; got {given}")
        key_mask = key_mask.to(q.device)
    scale = 1 / math.sqrt(max(1, dim)) if scale is None else float(scale)
    if scale == 0:  # PyTorch's own attention would multiply it with the mask's -inf
        q, scale = q * 0, 1.0
    return Problem(q, k, v, field, placement, bool(causal), key_mask, scale)


def _one_dtype(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    device = q.device.type
    if torch.is_autocast_enabled(device) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)  # as torch's own attention does
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if not q.dtype == k.dtype == v.dtype or q.dtype not in DTYPES:
        supported = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise TypeError(f"q, k and v must share one of {supported}; got {q.dtype}, {k.dtype}, {v.dtype}")
    return q, k, v
