"""Tile shapes of the Triton kernels, by device, head size and dtype (ours).

For 9.0 chosen by time on an H200 (`python -m agf_core.analysis.kernels_tune`: bf16, 8,192 tokens), also where that
spills a few registers; the diagonal's and all others by compiling ahead of time (`kernels_compile`): in half precision
on 8.0 and newer, main loops spill next to no registers to memory (about one access per score, in the diagonal's; on 8.0
with head size 128 and a trained field up to 2 in dq's). 7.5 and float32 are meant to be correct, not fast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

HEAD_SIZES = (32, 64, 128)
DECODE_ROWS = 64  # query rows per key head up to which the bytes of the cache take the time, not the products
INTERPRETED = (0, 0)  # the capability of Triton's interpreter: small tiles, so that short lengths have several


@dataclass(frozen=True)
class Tile:
    """Queries and keys of a tile, warps of a program, tiles under way at once, registers a thread may have at most.

    The diagonal's tile is square.
    """

    rows: int
    cols: int
    warps: int = 4
    stages: int = 2
    registers: int | None = None


@dataclass(frozen=True)
class Tiles:
    """One tile for each kernel (decode: `cols` only counts). `precision`: how float32 products are made.

    `direct`: the table is read past shared memory, for the reason given in `triton_forward`.
    """

    forward: Tile
    dq: Tile
    dkdv: Tile
    diagonal: Tile
    decode: Tile
    precision: str = "ieee"
    direct: bool = False


def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of `device`; `INTERPRETED` for a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else INTERPRETED


@cache
def tiles(capability: tuple[int, int], dim: int, dtype: torch.dtype, weight: bool = False) -> Tiles:
    """For a device of that compute capability, head size `dim`, dtype of q, k and v; `weight`: the placement."""
    wide = dim > 64
    if capability == INTERPRETED:
        return Tiles(Tile(32, 32), Tile(32, 16), Tile(16, 32), Tile(32, 32), Tile(16, 32))
    if dtype == torch.float32:
        return _single(capability, wide)
    if capability < (8, 0):
        return _turing(wide)
    return replace(_half(capability, wide, weight), direct=True)


def _half(capability: tuple[int, int], wide: bool, weight: bool) -> Tiles:
    """Half precision on 8.0 and newer."""
    decode = Tile(16, 64, 4, 3)
    if capability[0] in (9, 10):  # 227 KB of shared memory, products that run beside everything else
        if wide:
            return Tiles(Tile(64, 64, 4, 3), Tile(64, 64), Tile(32, 64, 4, 3), Tile(128, 128, 8, 1), decode)
        dq = Tile(64, 64, 4, 2, 168) if weight else Tile(64, 64, 4, 3)
        return Tiles(Tile(64, 64, 4, 3, 128), dq, Tile(64, 64, 4, 3), Tile(128, 128, 8, 1), decode)
    if wide:  # 99 KB (8.0: 163)
        dq = Tile(128, 32, 8) if capability == (8, 0) else Tile(64, 32)
        return Tiles(Tile(128, 64, 8), dq, Tile(32, 64), Tile(64, 64, 4, 1), Tile(16, 64, 4, 2))
    return Tiles(Tile(128, 64), Tile(128, 32, 8), Tile(64, 128, 8), Tile(64, 64), decode)


def _turing(wide: bool) -> Tiles:
    """Half precision on 7.5: 64 KB of shared memory, and Triton makes its products without tensor cores."""
    if wide:
        return Tiles(Tile(32, 16, 4, 1), Tile(16, 16, 4, 1), Tile(16, 16, 4, 1), Tile(16, 16, 4, 1), Tile(16, 16, 4, 1))
    return Tiles(Tile(32, 32, 4, 1), Tile(32, 32, 8, 1), Tile(32, 32, 8, 1), Tile(32, 32, 8, 1), Tile(16, 32, 4, 1))


def _single(capability: tuple[int, int], wide: bool) -> Tiles:
    """float32: three tf32 products for each from 8.0 on, which is as exact as float32 to about a bit."""
    precision = "tf32x3" if capability >= (8, 0) else "ieee"
    decode = Tile(16, 32, 4, 1)
    small = Tile(32, 32, 8, 1)
    if not wide:
        return Tiles(Tile(32, 32, 4, 1), small, small, small, decode, precision)
    if precision == "ieee":
        return Tiles(Tile(32, 32, 4, 1), small, Tile(32, 32, 4, 1), small, decode, precision)
    return Tiles(Tile(32, 32, 4, 1), Tile(16, 32, 4, 1), Tile(16, 16, 4, 1), Tile(16, 16, 4, 1), decode, precision)
