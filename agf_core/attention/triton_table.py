"""The field's table as the Triton kernels read it: every entry with the one after it, as a pair (ours).

A thread needs two consecutive entries for two consecutive keys, from anywhere on, and a load of 8 bytes must start at a
multiple of 8: so each entry is kept twice, first of one pair and second of another. The distances of a warp's 16
queries and 8 keys then lie within 22 pairs, which is two lines of L1. 8 bytes per distance and head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PAD = 256  # entries before and after: no tile, however it lies over the edge, reads outside


def pairs(table: Tensor) -> Tensor:
    """(H, X) float32 -> (H, W, 2), W a multiple of 16: at PAD + x, entries x and x + 1 of the table; zeros around."""
    width = -(-(table.shape[1] + 2 * PAD) // 16) * 16
    padded = F.pad(table, (PAD, width + 1 - PAD - table.shape[1]))
    return torch.stack((padded[:, :-1], padded[:, 1:]), -1)


def from_diagonals(sums: Tensor, side: int, queries: int, count: int) -> Tensor:
    """The table's gradient (H, X) from the sums (B, H, blocks, 2, side) of `diagonal_kernel`, in a fixed order."""
    low, high = sums.sum(0).unbind(2)  # (H, blocks, side): of j - n = side·(d - 1) + c and of side·d + c
    joined = (F.pad(low, (0, 0, 0, 1)) + F.pad(high, (0, 0, 1, 0))).flatten(1)
    first = side * -(-queries // side)  # j - n = 0 stands there: block 0 begins at -side·⌈N/side⌉
    joined = joined[:, max(0, first - (queries - 1)) :]
    return F.pad(joined, (0, max(0, count - joined.shape[1])))[:, :count].contiguous()


def diagonal_blocks(side: int, queries: int, keys: int, causal: bool) -> int:
    """How many diagonals of tiles there are that anybody sees."""
    rows = -(-queries // side)
    last = (keys - queries + side - 1) // side if causal else -(-keys // side) - 1
    return rows + min(last, -(-keys // side) - 1)
