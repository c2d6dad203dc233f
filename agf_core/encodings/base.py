"""What every encoding offers a Transformer: `embed` once, `rotate` and `field` in every layer (ours)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from agf_core.fields import Field

EMBEDDING_STD = 0.02  # of every embedding table's start, tokens' and positions' (GPT-2's)


@dataclass(frozen=True)
class Size:
    """What an encoding must know of its model; `context` is the training length in tokens."""

    layers: int
    heads: int
    dim: int
    context: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")

    @property
    def head_dim(self) -> int:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        return self.dim // self.heads


class Encoding(nn.Module):
    """Position for one model. This one, `nope`, does nothing: a causal model finds out for itself (2305.19466).

    `family`: "none"; "entangled", position mixed into embeddings or into q, k; "decoupled", a position score that
    depends on no embedding. `placement`: where `attend` puts the field.
    """

    family = "none"
    placement = "logit"

    def embed(self, x: Tensor, offset: int = 0) -> Tensor:
        """Embeddings x (B, N, dim) of the tokens at positions offset … offset + N - 1, position added where it is."""
        return x

    def rotate(self, q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> tuple[Tensor, Tensor]:
        """q (B, H, N, d) and k (B, G, M, d) at integer positions q_pos (N,), k_pos (M,), turned by them.

        `untied` alone changes shapes: (B, H, N, 2d) and (B, H, M, 2d).
        """
        return q, k

    def field(self, layer: int) -> Field | None:
        """The distance field of a layer, counted from 0; None where there is none."""
        return None


def choose(what: str, value: object, choices: tuple[str, ...]) -> None:
    """ValueError that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(choices)}")
