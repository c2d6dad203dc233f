"""Position mixed into meaning: added to the embeddings (sinusoidal, learned) or turning q and k (rotary)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from agf_core.encodings.base import EMBEDDING_STD, Encoding, Size, choose


def _angles(positions: Tensor, dim: int, base: float, dtype: torch.dtype) -> Tensor:
    """position / base^(2i/dim), i = 0 … ceil(dim/2) - 1: shape (N, ceil(dim/2)), radians."""
    pair = torch.arange(0, dim, 2, dtype=dtype, device=positions.device)
    return positions.to(dtype).unsqueeze(-1) * (1 / base ** (pair / dim))


class Sinusoidal(Encoding):
    """x sqrt(dim) + PE, PE(pos, 2i) = sin(pos / 10000^(2i/dim)), PE(pos, 2i + 1) = cos of the same (1706.03762, 3.5).

    `start` "matched" (ours): x + PE scaled to rms `EMBEDDING_STD` (for even dim), the size a learned table starts with.
    """

    family = "entangled"

    def __init__(self, size: Size, /, *, start: str = "published") -> None:
        super().__init__()
        choose("start", start, ("published", "matched"))
        self.dim = size.dim
        self.gain, self.amplitude = (
            (math.sqrt(size.dim), 1.0) if start == "published" else (1.0, EMBEDDING_STD * 2**0.5)
        )

    def embed(self, x: Tensor, offset: int = 0) -> Tensor:
        positions = torch.arange(offset, offset + x.shape[1], device=x.device)
        angles = _angles(positions, self.dim, 10000.0, torch.promote_types(x.dtype, torch.float32))
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[:, : self.dim]  # (N, dim)
        return x * self.gain + (self.amplitude * waves).to(x.dtype)


class Learned(Encoding):
    """x + p, one trained vector per position (1706.03762, 3.5; GPT-2): undefined beyond the training length."""

    family = "entangled"

    def __init__(self, size: Size, /) -> None:
        super().__init__()
        self.table = nn.Embedding(size.context, size.dim)
        nn.init.normal_(self.table.weight, std=EMBEDDING_STD)

    def embed(self, x: Tensor, offset: int = 0) -> Tensor:
        """As `Encoding.embed`; ValueError beyond the table."""
        end, context = offset + x.shape[1], self.table.num_embeddings
        if end > context:
            raise ValueError(f"learned positions end at {context}, the training length; the input needs {end}")
        return x + self.table.weight[offset:end]


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """A component's partner stands half the width away; `sin` is negative in the first half."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class Rotary(Encoding):
    """q and k turned by position times base^(-2i/d) in plane i, so that q·k knows only the distance (2104.09864).

    Plane i is made of components i and i + d/2, as in Llama; the paper pairs 2i and 2i + 1, the same up to a
    permutation. Nothing is cached: cosines of N x d/2 angles are cheap beside turning B x H of them.
    """

    family = "entangled"

    def __init__(self, size: Size, /, *, base: float = 10000.0) -> None:
        super().__init__()
        if size.head_dim % 2:
            raise ValueError(f"rotary turns pairs: dim {size.dim} / heads {size.heads} = {size.head_dim} is odd")
        if not base > 1:
            raise ValueError(f"base must exceed 1, got {base!r}")
        self.base = float(base)

    def rotate(self, q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> tuple[Tensor, Tensor]:
        at_q = self._waves(q, q_pos)
        return _turn(q, *at_q), _turn(k, *(at_q if k_pos is q_pos else self._waves(k, k_pos)))

    def _waves(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, (N, d) each, in x's dtype; the sines as `_turn` wants them."""
        # Half precision would blur the angles of far positions, so only their cosines are ever rounded to it.
        angles = _angles(positions, x.shape[-1], self.base, torch.promote_types(x.dtype, torch.float32))
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    def extra_repr(self) -> str:
        return f"base={self.base:g}"
