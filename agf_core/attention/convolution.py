"""Attention without association is a convolution: mixing by a field alone in O(N log N), by FFT (ours).

With s = 0 what multiplies V depends on distance, and on how many keys there are:

    logit    sum_j g(i - j) v_j / sum_j g(i - j)      score    sum_j v_j / n_i      weight    sum_j g(i - j) v_j / n_i

over the n_i keys that query i may see. Each is one convolution of V with g (or with 1), divided by a sum that a running
total gives. `attend` computes the same from N^2 / 2 scores; it is quicker on short texts, and better in float32 where g
spans many orders of magnitude, since an FFT's error is relative to the largest product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agf_core.attention.problem import PLACEMENTS
from agf_core.fields import Field


def convolve(v: Tensor, *, field: Field | None = None, placement: str = "logit", causal: bool = True) -> Tensor:
    """What `attend` gives for q = 0, differentiable in v and in the field: v (B, G, N, d) -> (B, H, N, d) in v's dtype.

    H is the field's number of heads, of which G must be a divisor as in `attend`; without a field H = G and mixing is
    uniform. Computed in float32, in float64 if v is. ValueError for another shape, an unknown placement, or a field
    that reads the query's position, which no convolution can.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"unknown placement {placement!r}; choose from {', '.join(PLACEMENTS)}")
    if v.dim() != 4:
        raise ValueError(f"v must be (batch, heads, length, dim), got {tuple(v.shape)}")
    groups, length = v.shape[1:3]
    heads = groups if field is None else field.heads
    if not groups or heads % groups:
        raise ValueError(f"the {groups} heads of v must divide the field's {heads}, got v {tuple(v.shape)}")
    if field is not None and field.needs_query(length):
        raise ValueError(f"this field depends on the query's position at length {length}: it is no convolution")
    dtype = torch.promote_types(v.dtype, torch.float32)
    position = torch.arange(length, device=v.device)
    future = torch.arange(1 - length, 0, device=v.device) if not causal else position[:0]
    distance = torch.cat((position, future))  # 0 … N - 1, then 1 - N … -1: where a circle of 2N - 1 has them
    log_g = torch.zeros(heads, len(distance), dtype=dtype, device=v.device)
    if field is not None and placement != "score":  # a score of 0 stays 0, whatever it is multiplied with
        log_g = field.log_weight(distance).to(dtype)  # (H, N) or (H, 2N - 1)
    if placement == "logit":  # the largest weight is 1, whatever the level of log g: the sum below takes it out again
        log_g = log_g - log_g.detach().amax(-1, keepdim=True)
    g = log_g.exp()
    mixed = _circular(g, v.to(dtype).repeat_interleave(heads // groups, dim=1), length)
    seen = g if placement == "logit" else torch.ones_like(g)
    total = seen[:, :length].cumsum(-1)  # over the past of each query
    if not causal:  # and over its future: query i has N - 1 - i of it, read from r = -1 backwards
        total = total + nn.functional.pad(seen[:, length:].flip(-1).cumsum(-1), (1, 0)).flip(-1)
    return (mixed / total[..., None]).to(v.dtype)


def _circular(g: Tensor, v: Tensor, length: int) -> Tensor:
    """sum_j g[h, i - j] v[b, h, j, :] for g (H, N or 2N - 1) and v (B, H, N, d), on a circle that nothing wraps."""
    around = 1 << max(0, 2 * length - 2).bit_length()  # at least 2N - 1; FFTs like powers of two
    kernel = g[:, :length]
    if g.shape[-1] > length:  # negative distances at the circle's end
        kernel = torch.cat((kernel, g.new_zeros(len(g), around - g.shape[-1]), g[:, length:]), dim=-1)
    product = torch.fft.rfft(kernel, around)[..., None] * torch.fft.rfft(v, around, dim=2)
    return torch.fft.irfft(product, around, dim=2)[:, :, :length]
