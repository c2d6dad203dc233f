"""The window around every query as a view of the attention map, no gather; and float64 sums by layer and group (ours).

Entry (i, c) of the view is map[i, i - W + c]: going down a row goes one key further, which is a row stride of N + 1. So
column c holds distance r = W - c, falling from W to 0 (causal) or to -W (keys behind the query have negative distance).

Rule of evidence 3: only queries with the whole window count, the same at every distance; the first keys, often sinks,
are in nobody's window, and a query whose window holds a token that is not kept is left out.

Shapes: B sequences, H heads, N tokens, R candidate queries, K = W + 1 or 2W + 1 distances, G groups, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


class Scratch:
    """Memory that is used again: fresh pages cost more than the arithmetic done in them."""

    def __init__(self) -> None:
        self._of: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape with anything in it, until the name is asked for again."""
        size, held = math.prod(shape), self._of.get(name)
        if held is None or held.numel() < size or held.device != like.device or held.dtype != like.dtype:
            self._of[name] = held = like.new_empty(size)
        return held[:size].view(shape)


@dataclass(frozen=True)
class Window:
    """`width` W: the largest distance in tokens; `first`: how many keys at the start are in no window."""

    width: int
    first: int = 4

    def __post_init__(self) -> None:
        if self.width < 1 or self.first < 0:
            raise ValueError(f"expected a width ≥ 1 and first ≥ 0, got {self.width} and {self.first}")

    def distances(self, causal: bool) -> Array:
        """Rising, (K,): 0 … W, or -W … W."""
        return np.arange(0 if causal else -self.width, self.width + 1)

    def rows(self, length: int, causal: bool) -> tuple[int, int]:
        """From which to before which query the window fits into `length` tokens; ValueError where it never does."""
        low, high = self.first + self.width, length - (0 if causal else self.width)
        if high <= low:
            side = "before" if causal else "on both sides of"
            raise ValueError(
                f"sequences of {length} tokens have no query with a window of {self.width} tokens {side} it "
                f"after the first {self.first} keys"
            )
        return low, high

    def full(self, keep: Tensor, causal: bool) -> Tensor:
        """Which candidate queries count, (B, R) bool: they and all of their window are kept; keep (B, N) bool."""
        return self.span(keep, causal).unfold(1, self.size(causal), 1).all(-1)

    def size(self, causal: bool) -> int:
        """K."""
        return self.width + 1 if causal else 2 * self.width + 1

    def span(self, per_token: Tensor, causal: bool) -> Tensor:
        """The tokens that are in any window, of (B, N): (B, R + K - 1)."""
        low, high = self.rows(per_token.shape[1], causal)
        return per_token[:, low - self.width : high + (0 if causal else self.width)]

    def queries(self, per_token: Tensor, causal: bool) -> Tensor:
        """The candidate queries, of (B, N): (B, R)."""
        low, high = self.rows(per_token.shape[1], causal)
        return per_token[:, low:high]

    def view(self, attention_map: Tensor, causal: bool) -> Tensor:
        """The windows of all candidate queries, (B, H, R, K), distances falling: a view of (B, H, N, N)."""
        n, (low, high) = attention_map.shape[-1], self.rows(attention_map.shape[-1], causal)
        if attention_map.shape[-2] != n or attention_map.stride()[-2:] != (n, 1):
            raise ValueError(f"expected contiguous square maps, got {tuple(attention_map.shape)}")
        shape = (*attention_map.shape[:-2], high - low, self.size(causal))
        start = attention_map.storage_offset() + low * n + low - self.width
        return attention_map.as_strided(shape, (*attention_map.stride()[:-2], n + 1, 1), start)

    def spread(self, attention_map: Tensor, causal: bool, scratch: Scratch) -> tuple[Tensor, Tensor]:
        """A copy of the windows, twice the same memory: by distance (B, H, R, K), by key (B, H, R, R + K - 1).

        Rows of K padded with R zeros, read as rows one shorter, are shifted by one each: what lies in the first shape
        under its distance lies in the second under its key (of `span`), zeros around it.
        """
        band = self.view(attention_map, causal)
        *lead, rows, size = band.shape
        padded = scratch.get("spread", (*lead, rows, rows + size), band)
        padded[..., size:] = 0
        padded[..., :size] = band
        by_key = padded.flatten(-2)[..., : rows * (rows + size - 1)].unflatten(-1, (rows, rows + size - 1))
        return padded[..., :size], by_key


class Sums:
    """Sums by name, layer and group of documents, float64; as many groups as were seen."""

    def __init__(self) -> None:
        self._of: dict[str, dict[int, Tensor]] = {}

    def add(self, name: str, layer: int, groups: Tensor, values: Tensor) -> None:
        """Add values (B, …) to the groups (B,) that they belong to."""
        values, layers, size = values.cpu().double(), self._of.setdefault(name, {}), int(groups.max()) + 1
        total = layers.get(layer)
        if total is None or len(total) < size:
            more = values.new_zeros(size - (0 if total is None else len(total)), *values.shape[1:])
            layers[layer] = total = more if total is None else torch.cat([total, more])
        total.index_add_(0, groups.cpu(), values)

    def get(self, name: str) -> Array:
        """(L, G, …) numpy; ValueError when nothing was added."""
        if name not in self._of:
            raise ValueError("nothing was observed yet: hand this statistic to `observe` first")
        layers = [self._of[name][layer] for layer in sorted(self._of[name])]
        return torch.stack(layers).numpy()


def kinds(ids: Tensor, tokens: Tensor) -> Tensor:
    """The place of each token (any shape) in `ids` (T,), T for all others."""
    order = ids.argsort()
    at = torch.searchsorted(ids[order], tokens.contiguous()).clamp(max=len(ids) - 1)
    return torch.where(ids[order][at] == tokens, order[at], len(ids))


def commonest(tokens: Tensor, keep: Tensor, count: int) -> Tensor:
    """The `count` (or fewer) commonest token ids among the kept ones, falling, ties by id; int64."""
    ids, number = tokens[keep].unique(return_counts=True)
    return ids[number.argsort(descending=True, stable=True)[:count]]
