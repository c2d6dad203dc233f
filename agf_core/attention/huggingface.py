"""A distance field in a Hugging Face model, through `transformers`' attention interface (ours; see examples/)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from agf_core.attention.api import attend


def field_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """What `AttentionInterface.register` wants: `attend` with the attention module's own `field`, (B, N, H, d).

    query (B, H, N, d), key and value (B, G, M, d). `attention_mask` (B, M), True = takes part, or None: register
    `transformers.masking_utils.flash_attention_mask` under the same name in `AttentionMaskInterface`. Caches that
    allocate keys ahead of time (StaticCache) do not fit: the last key must be the last query's. NotImplementedError
    for dropout and sliding windows.
    """
    if dropout or options.get("sliding_window") is not None:
        raise NotImplementedError(f"no dropout ({dropout}), no sliding window ({options.get('sliding_window')})")
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    mask = None if attention_mask is None else attention_mask.bool()
    out = attend(query, key, value, field=module.field, scale=scaling, causal=causal, key_mask=mask)  # type: ignore[arg-type]
    return out.transpose(1, 2), None
