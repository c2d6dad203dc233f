"""Attention with a distance field, one function for every law, placement, device and length.

    from agf_core.attention import attend
    out = attend(q, k, v, field=PowerField(heads=8))

`attend` is the fast way, `attention_weights` shows what multiplies V, `choose_backend` says what would run. The
backends share one signature: `reference` (the literal definition), `blockwise` (stripes with their own backward, any
device), `flex` (a wrapper of PyTorch's FlexAttention), `triton` (fused kernels for NVIDIA GPUs).
"""

from agf_core.attention.api import BACKENDS, PLACEMENTS, attend, attention_weights, choose_backend

__all__ = ["BACKENDS", "PLACEMENTS", "attend", "attention_weights", "choose_backend"]
