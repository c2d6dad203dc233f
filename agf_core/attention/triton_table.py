"""The field's table as the Triton kernels read it: four copies, each shifted by one entry (ours).

A query's scores against consecutive keys need consecutive entries, but from anywhere on: four entries at a time are one
load of 16 bytes only where the address is a multiple of 16. In copy s, entry y is entry y + s of the table, so that any
start is aligned in one of the copies. This costs 16 bytes per distance and head, and a quarter of the loads.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

PAD = 256  # entries before and after: no tile, however it lies over the edge, reads outside


def copies(table: Tensor) -> Tensor:
    """(H, X) float32 -> (H, 4, W) with W a multiple of 16; entry x of the table is at PAD + x, and zeros around."""
    heads, count = table.shape
    width = -(-(count + 2 * PAD) // 16) * 16
    padded = F.pad(table, (PAD, width + 16 - PAD - count))
    return padded.as_strided((heads, 4, width), (width + 16, 1, 1)).contiguous()


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
