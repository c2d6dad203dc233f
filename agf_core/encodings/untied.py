"""Absolute positions apart from content: TUPE (2006.15595, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agf_core.encodings.base import EMBEDDING_STD, Encoding, Size


class Untied(Encoding):
    """Scores (q·k + (p_i U_Q)·(p_j U_K)) / sqrt(2d): `rotate` appends p U to q and k, of now 2d components.

    The scale is that of the doubled width, `attend`'s default. p is one trained table, layer-normalised as in TUPE's
    code, which also adds biases to U_Q and U_K; the paper's equation has none. All three are shared by all layers.
    The position part belongs to query heads: k of G < H heads is repeated to H, and the model repeats v and pads it
    to 2d. Positions past the table read its last entry (ours).
    TUPE's relative term and its reset of [CLS], of which a language model has none, are left out.
    """

    family = "decoupled"

    def __init__(self, size: Size, /) -> None:
        super().__init__()
        self.heads, self.head_dim = size.heads, size.head_dim
        self.table = nn.Embedding(size.context, size.dim)
        self.norm = nn.LayerNorm(size.dim)
        self.query = nn.Linear(size.dim, size.dim, bias=False)
        self.key = nn.Linear(size.dim, size.dim, bias=False)
        nn.init.normal_(self.table.weight, std=EMBEDDING_STD)
        for module in (self.query, self.key):  # by their width, as the model's own q and k
            nn.init.normal_(module.weight, std=size.dim**-0.5)

    def rotate(self, q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> tuple[Tensor, Tensor]:
        k = k.repeat_interleave(self.heads // k.shape[1], dim=1)
        return self._append(q, self.query, q_pos), self._append(k, self.key, k_pos)

    def _append(self, x: Tensor, projection: nn.Linear, positions: Tensor) -> Tensor:
        """x (B, H, N, d) -> (B, H, N, 2d)."""
        p = self.norm(self.table(positions.clamp(max=self.table.num_embeddings - 1)))  # (N, dim)
        p = projection(p).view(-1, self.heads, self.head_dim).transpose(0, 1)  # (H, N, d)
        return torch.cat((x, p.to(x.dtype).expand_as(x)), dim=-1)
