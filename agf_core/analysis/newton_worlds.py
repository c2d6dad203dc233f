"""Heads put together from known masses and exponents, and A6's rule tried on them (ours).

The planted heads look at the measured text, token for token, so that design, groups of documents and types are its own;
what neither mass nor distance explains has the measured size, and its measured share belongs to single occurrences of a
key, which all queries see alike, the rest to single pairs. A trial draws layers and heads from a world's pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agf_core.analysis.gravity_sums import Gravity, GravitySums
from agf_core.analysis.observe import Seen
from agf_core.analysis.operating import Draw
from agf_core.analysis.windows import Array, kinds
from agf_core.claims import Interval
from agf_core.figures import Estimate

TRUE = "gravity, exponent 2"
ONE, SPREAD = "exponent 1", "exponents 1 to 3"
UNSTABLE, MIXED_UP = "masses change with the document", "type × distance"
WORLDS = (TRUE, ONE, SPREAD, UNSTABLE, MIXED_UP)
LAYERS, HEADS, BATCH = 3, 6, 16
INTERACTION = 0.4  # variance of type × distance over that of field and masses, which take up a part of it


@dataclass(frozen=True)
class Pool:
    """What was planted, exponent (L, H) and masses (L, H, T + 1), and what was found."""

    exponent: Array
    masses: Array
    found: Gravity


def pools(
    like: Gravity,
    occurrence: float,
    tokens: Tensor,
    keep: Tensor,
    groups: Tensor,
    causal: bool,
    window: int,
    seed: int,
    design: GravitySums | None = None,
) -> dict[str, Pool]:
    """World → `LAYERS` × `HEADS` planted heads on these tokens (S, N), as noisy as the eligible heads of `like`.

    design: sums over these tokens that are there already.
    """
    able = like.eligible if like.eligible.any() else np.ones_like(like.eligible)
    noise = float(np.sqrt(np.median(like.rest[able])))
    spread = float(np.median(np.sqrt((like.masses[able] ** 2 @ like.keys) / like.keys.sum())))
    noise, spread = (x if x > 1e-3 else other for x, other in ((noise, 1.0), (spread, 0.5)))  # nothing to be like
    types = torch.from_numpy(like.types)
    return {w: _pool(w, types, tokens, keep, groups, causal, window, noise, occurrence, spread, seed + i, design)
            for i, w in enumerate(WORLDS)}  # fmt: skip


def _pool(
    world: str,
    types: Tensor,
    tokens: Tensor,
    keep: Tensor,
    groups: Tensor,
    causal: bool,
    window: int,
    noise: float,
    occurrence: float,
    spread: float,
    seed: int,
    design: GravitySums | None = None,
) -> Pool:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    sums, size, n = GravitySums(window, types, design=design), len(types) + 1, tokens.shape[1]
    k = torch.full((LAYERS, HEADS), 1.0 if world == ONE else 2.0)
    if world == SPREAD:
        k = torch.linspace(1.0, 3.0, HEADS).expand(LAYERS, HEADS)
    masses = spread * normal(LAYERS, HEADS, int(groups.max()) + 1 if world == UNSTABLE else 1, size)
    position = torch.arange(n)
    r = (position[:, None] - position).abs().clamp_min(1)
    octave = torch.log2(r).long() + 16 * (position[:, None] < position)  # the two sides apart
    across = np.log(np.arange(1.0, window + 1)).var() * 4.0 + spread**2
    changes = np.sqrt(INTERACTION * across) * normal(LAYERS, HEADS, size, 32) if world == MIXED_UP else None
    kind, empty = kinds(types, tokens), torch.empty(0)
    for start in range(0, len(tokens), BATCH):
        of = slice(start, start + BATCH)
        group = groups[of] if world == UNSTABLE else torch.zeros_like(groups[of])
        count = len(group)
        for layer in range(LAYERS):
            mass = masses[layer][:, group]  # (H, B, T + 1)
            key = mass.gather(2, kind[of].expand(HEADS, -1, -1)) + noise * occurrence**0.5 * normal(HEADS, count, n)
            logits = noise * (1 - occurrence) ** 0.5 * normal(count, HEADS, n, n)
            logits += key.transpose(0, 1)[:, :, None] - (k[layer, :, None, None] * r.log())
            if changes is not None:
                logits += changes[layer][:, kind[of][:, None, :], octave].transpose(0, 1)
            sums.update(Seen(layer, logits, logits, empty, empty, logits.new_zeros(count, HEADS, n, 1), tokens[of],
                             groups[of], position[:0], keep[of], causal))  # fmt: skip
    return Pool(k.numpy(), masses.mean(2).numpy(), sums.result(seed=seed))


def recovered(pools: dict[str, Pool]) -> pd.DataFrame:
    """Planted against found: world, layer, head, planted, exponent, low, high, mass (correlation, named types), product
    (the share of type × distance)."""
    rows = []
    for world, pool in pools.items():
        for layer, head in np.ndindex(pool.exponent.shape):
            mass = np.corrcoef(pool.masses[layer, head, :-1], pool.found.masses[layer, head, :-1])[0, 1]
            both = (pool.exponent, pool.found.exponent, pool.found.low, pool.found.high)
            share = pool.found.share().mean(0)[layer, head]
            rows.append((world, layer, head, *(float(a[layer, head]) for a in both), float(mass), float(share)))
    names = ["world", "layer", "head", "planted", "exponent", "low", "high", "mass", "product"]
    return pd.DataFrame(rows, columns=names)


def draws(pools: dict[str, Pool], like: Gravity, estimates: Callable[..., dict[str, Estimate]]) -> dict[str, Draw]:
    """Draws for `operating.characteristics("A6", …)`: as many layers, and eligible heads in each, as were measured."""
    layers = max(2, int(like.eligible.any(1).sum()))
    each = max(2, round(like.eligible.sum() / layers))

    def drawer(pool: Pool) -> Draw:
        def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Interval]]:
            which, head = rng.integers(LAYERS, size=layers), rng.integers(HEADS, size=(layers, each))
            chosen = (which[:, None] * HEADS + head).ravel()
            found = estimates(pool.found, chosen, np.repeat(np.arange(layers), each))
            return {p: e.value for p, e in found.items()}, {p: (e.low, e.high) for p, e in found.items()}

        return draw

    return {world: drawer(pool) for world, pool in pools.items()}
