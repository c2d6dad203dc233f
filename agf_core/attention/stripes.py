"""How `blockwise` cuts a call: stripes of queries against every key they may see, and the field as a strided view.

A field is a table over distance, and a stripe's bias is constant along its diagonals. With the stripe's rows in reverse
order it is constant along anti-diagonals, a Hankel matrix, which is a *view* of the table with both strides 1
(kernels.md, 8): no bias is ever written out, and the gradient of the table is a column sum of the same trick read
backwards.

The table of a call has one entry per distance in falling order, x = M - 1 - r for r from M - 1 down to 1 - N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 64  # queries of a stripe: enough for full speed of the products, little waste above the diagonal
WORKING_SET = 2**19  # scores that a block aims at: 2 MB in float32, about two cores' L2 caches
TILE = 1024  # keys at a time where a stripe need not be held whole, as in the backward pass
LOG2E = 1 / math.log(2)  # softmax in powers of 2: MKL's exp takes 20 times as long where the result is 0, exp2 does not
LARGEST = 2**21  # scores that a block never exceeds while it has more than 16 rows: memory stays O(N)


@dataclass(frozen=True)
class Block:
    """Queries lo … hi - 1 against keys first … last - 1: a stripe (first = 0), or a tile of one."""

    lo: int
    hi: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.hi - self.lo

    @property
    def keys(self) -> int:
        return self.last - self.first

    @property
    def seen(self) -> slice:
        return slice(self.first, self.last)

    def tiles(self, width: int) -> Iterator[Block]:
        for first in range(self.first, self.last, width):
            yield Block(self.lo, self.hi, first, min(first + width, self.last))


@dataclass(frozen=True)
class Chunk:
    """A run of (batch, key head) pairs worked on together: one batch, or all the heads of several."""

    batch: slice
    group: slice

    @property
    def pairs(self) -> int:
        return (self.batch.stop - self.batch.start) * (self.group.stop - self.group.start)


@dataclass(frozen=True)
class Grid:
    """The cut of one call: q (B, G·R, N, d), k (B, G, M, d), R query heads to each key head."""

    batch: int
    groups: int
    repeat: int
    queries: int
    keys: int
    causal: bool
    rows: int
    tile: int
    pairs: int

    @classmethod
    def of(cls, q: Tensor, k: Tensor, causal: bool, tile: int | None = None) -> Grid:
        """The cut for tensors of these shapes, worked on `tile` keys at a time (None: all of them)."""
        batch, heads, queries, _ = q.shape
        groups, keys = k.shape[1:3]
        repeat = heads // groups
        rows = max(1, min(ROWS, queries))
        tile = keys if tile is None else min(tile, keys)
        stripe = max(1, repeat * rows * tile)
        threads = torch.get_num_threads() if q.device.type == "cpu" else 8
        pairs = max(1, min(batch * groups, max(threads, WORKING_SET // stripe)))
        pairs = pairs if pairs <= groups else pairs // groups * groups  # whole batches only
        while rows > 16 and pairs * repeat * rows * tile > LARGEST:
            rows //= 2
        return cls(batch, groups, repeat, queries, keys, causal, rows, tile, pairs)

    def chunks(self) -> Iterator[Chunk]:
        batches, heads = max(1, self.pairs // self.groups), min(self.pairs, self.groups)
        for b in range(0, self.batch, batches):
            for g in range(0, self.groups, heads):
                yield Chunk(slice(b, min(b + batches, self.batch)), slice(g, min(g + heads, self.groups)))

    def blocks(self) -> Iterator[Block]:
        for lo in range(0, self.queries, self.rows):
            hi = min(lo + self.rows, self.queries)
            yield Block(lo, hi, 0, self.keys - self.queries + hi if self.causal else self.keys)

    def queries_of(self, x: Tensor, chunk: Chunk, block: Block) -> Tensor:
        """x (B, H, N, e) at a stripe, rows reversed: (pairs, R·rows, e)."""
        grouped = x.unflatten(1, (self.groups, self.repeat))
        stripe = grouped[chunk.batch, chunk.group, :, block.lo : block.hi].flip(3)
        return stripe.reshape(chunk.pairs, self.repeat * block.rows, x.shape[-1])

    def put_queries(self, x: Tensor, chunk: Chunk, block: Block, stripe: Tensor) -> None:
        """The inverse: write a stripe (pairs, R·rows, e) into x (B, H, N, e)."""
        grouped = x.unflatten(1, (self.groups, self.repeat))[chunk.batch, chunk.group, :, block.lo : block.hi]
        grouped.copy_(stripe.view(grouped.shape).flip(3))

    def unfold(self, x: Tensor, chunk: Chunk) -> Tensor:
        """(pairs, R·rows, e) -> (b, g, R, rows, e), a view."""
        batches = chunk.batch.stop - chunk.batch.start
        return x.view(batches, -1, self.repeat, x.shape[1] // self.repeat, x.shape[2])

    def hankel(self, table: Tensor, chunk: Chunk, block: Block) -> Tensor:
        """The table (H, N + M - 1) at a stripe with reversed rows, as a view (g, R, rows, keys)."""
        part = table.unflatten(0, (self.groups, self.repeat))[chunk.group, :, self.queries - block.hi + block.first :]
        return part.as_strided((*part.shape[:2], block.rows, block.keys), (*part.stride()[:2], 1, 1))

    def hide_future(self, scores: Tensor, block: Block) -> None:
        """-inf, in place, where a reversed row lies before the key; scores (…, rows, keys)."""
        nearest = self.keys - 1 - self.queries + block.hi - block.first  # row + column up to which a key is seen
        start = max(0, nearest - block.rows + 2)
        if self.causal and start < block.keys:
            row = torch.arange(block.rows, device=scores.device)[:, None]
            column = torch.arange(start, block.keys, device=scores.device)
            scores[..., start:].masked_fill_(row + column > nearest, -torch.inf)


class Skewed:
    """Stripes of scores whose rows lie between zeros, so that the sum along every diagonal is a plain column sum.

    Row i of a stripe starts at i · pitch with a margin of `rows` zeros. Read with pitch - 1 instead, column c holds the
    elements with i + j = c: one distance.
    """

    def __init__(self, grid: Grid, like: Tensor) -> None:
        self.grid = grid
        self.pitch = grid.tile + grid.rows
        self.buffer = like.new_zeros(grid.rows + grid.pairs * grid.repeat * grid.rows * self.pitch)

    def block(self, chunk: Chunk, block: Block) -> Tensor:
        """Room for a block, (pairs, R·rows, keys), to be filled; what a wider one left beside it is cleared."""
        rows = self.grid.repeat * block.rows
        room = self.buffer.as_strided(
            (chunk.pairs, rows, self.grid.tile), (rows * self.pitch, self.pitch, 1), self.grid.rows
        )
        room[..., block.keys :].zero_()
        return room[..., : block.keys]

    def add_diagonals(self, total: Tensor, chunk: Chunk, block: Block) -> None:
        """Add the block's sums per distance to total (H, N + M - 1), in a fixed order."""
        grid, width = self.grid, block.rows + block.keys - 1
        strides = (block.rows * self.pitch, self.pitch - 1, 1)
        count = chunk.pairs * grid.repeat
        sums = self.buffer.as_strided((count, block.rows, width), strides, grid.rows).sum(1)
        batches = chunk.batch.stop - chunk.batch.start
        start = grid.queries - block.hi + block.first
        target = total.unflatten(0, (grid.groups, grid.repeat))[chunk.group, :, start : start + width]
        target += sums.view(batches, -1, grid.repeat, width).sum(0)
