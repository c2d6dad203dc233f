"""The residual stream of a model of ours, layer by layer, and the vectors that it meets at the end (ours).

*Stream*: the residual stream after the embedding and after every layer. *Context vector* c_t: the last layer's stream
after the final norm, at place t; logits are its products with the *token vectors*: the embeddings of a tied model, the
output vectors of an untied one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agf_core.analysis.windows import Array
from agf_core.model import Transformer
from agf_core.sources.datasets import Data

ROWS = 128  # windows of a forward pass


@torch.no_grad()
def streams(model: Transformer, tokens: Tensor) -> list[Tensor]:
    """After the embedding, after every layer, and the context vectors: each (B, N, d) of tokens (B, N).

    The logits, which cost more than all the rest, are not computed.
    """
    position, parts = torch.arange(tokens.shape[1]), []
    for some in tokens.split(ROWS):
        found = [model.encoding.embed(model.embedding(some), 0)]
        for block in model.blocks:
            found.append(block(found[-1], None, model.encoding, position, None, None))
        parts.append([*found, model.norm(found[-1])])
    return [torch.cat(one) for one in zip(*parts)]


def context_vectors(model: Transformer, tokens: Tensor) -> Tensor:
    """(B, N, d)."""
    return streams(model, tokens)[-1]


def token_vectors(model: Transformer) -> Tensor:
    """What context vectors are multiplied with, (V, d)."""
    return (model.embedding if model.head is None else model.head).weight.detach()


def windows(data: Data, split: str, length: int, count: int) -> Tensor:
    """(B, length) consecutive windows from the start of a split, `count` or as many as there are."""
    return torch.from_numpy(data.heldout(split, length, count * length)[0])


def stream(data: Data, split: str = "train") -> Array:
    """All tokens of a split of a text in a row, (N,)."""
    return np.asarray(data.heldout(split, 1, data.size(split))[0][:, 0])


def rounded(values: Any, digits: int = 4) -> Any:
    """Nested lists of numbers, JSON-ready."""
    return np.round(np.asarray(values, float), digits).tolist()
