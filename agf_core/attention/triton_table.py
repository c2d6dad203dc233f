"""What surrounds a table of the Triton kernels: its padding, and the gradient of a free one put together (ours)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

PAD = 256  # entries before and after: no tile, however it lies over the edge, reads outside


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
