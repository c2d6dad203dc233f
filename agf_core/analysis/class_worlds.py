"""Heads put together from fields, frequency, masses and classes of known size, and A7's rule tried on them (ours).

The planted heads look at the measured text, token for token, with its own windows, groups and permuted labels. What
neither base nor class explains has the measured size; half of it belongs to single occurrences of a key, which all
queries see alike. How much of a head's variance its classes explain, true labels less permuted ones, is known: the
class part goes through the same code alone, without noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agf_core.analysis.class_terms import ENOUGH, ClassTerms, Design, Terms, student
from agf_core.analysis.observe import Seen
from agf_core.analysis.operating import Draw
from agf_core.analysis.windows import Array
from agf_core.analysis.word_classes import Read
from agf_core.claims import SUPPORTED
from agf_core.figures import Estimate

TRUE = "class pairs, in every head"
MOST = "class pairs, in 9 of 10 heads"
MORE, FEWER = "class pairs, in 65 % of heads", "class pairs, in 40 % of heads"
SOME = "class pairs, in 1 of 4 heads"
WEAK = "class pairs, too small to count"
FREQUENCY = "distance × frequency alone"
MASSES = "a mass for every word type"
WORLDS = (TRUE, MOST, MORE, FEWER, SOME, WEAK, FREQUENCY, MASSES)
HOLDS = (TRUE, MOST)
NEAR = (MORE, FEWER)  # the half that A7 asks for: shown, and not counted among those that the rule must tell apart
SHARE = {TRUE: 1.0, MOST: 0.9, MORE: 0.65, FEWER: 0.4, SOME: 0.25, WEAK: 1.0, FREQUENCY: 0.0, MASSES: 0.0}  # of heads
# Kinds of planted heads: the share of the variance that class pairs, or masses, make before the base takes its part.
KINDS = {"classes": 0.06, "weak": 0.01, "frequency": 0.0, "masses": 0.2}
HEADS, BATCH = 8, 16
OCCURRENCE = 0.5  # of the noise
ALIKE = 4.0  # strength of the beta distribution: heads of one layer correlate by 1 / (1 + ALIKE)


@dataclass(frozen=True)
class Pool:
    """planted (heads,) the excess that is there; found (F, heads) what was found, by fold."""

    planted: Array
    found: Array

    def interval(self) -> tuple[Array, Array, Array]:
        """(value, low, high) (heads,) of what was found."""
        return student(self.found)


def pools(read: Read, design: Design, like: Terms, seed: int) -> dict[str, Pool]:
    """Kind of `KINDS` → `HEADS` planted heads, as noisy as the median head of `like`; worlds are mixtures of them."""
    explained = np.median(like.base.mean(0)) + max(0.0, float(np.median(like.added[0].mean(0))))
    rest = float(np.clip(1 - explained, 0.1, 0.9))
    found = ClassTerms(design)
    planter, generator = _Planter(read, design, seed), torch.Generator().manual_seed(seed)
    for start in range(0, len(read.tokens), BATCH):
        where = torch.arange(start, min(start + BATCH, len(read.tokens)))
        base, pair, mass = planter.base(where), planter.pair(where), planter.mass(where)
        shape = (len(where), HEADS, *base.shape[2:])
        key = OCCURRENCE**0.5 * torch.randn(*shape[:2], 1, shape[3], generator=generator)
        noise = rest**0.5 * (key + (1 - OCCURRENCE) ** 0.5 * torch.randn(shape, generator=generator))
        found.update(seen(pair.contiguous(), read, where, design.causal, len(KINDS)))
        for layer, (kind, size) in enumerate(KINDS.items()):
            part = mass if kind == "masses" else pair
            logits = max(0.0, 1 - rest - size) ** 0.5 * base + noise + size**0.5 * part
            found.update(seen(logits, read, where, design.causal, layer))
    terms = found.result()
    of_pairs = terms.excess().mean(0)[-1] * terms.variance[-1]  # what the class part alone shows, in the logits' unit
    return {
        kind: Pool(of_pairs * size / terms.variance[i] if kind in ("classes", "weak") else np.zeros(HEADS),
                   terms.excess()[:, i])
        for i, (kind, size) in enumerate(KINDS.items())
    }  # fmt: skip


class _Planter:
    """Parts of logits (B, H, N, N) of some sequences, each with variance about 1 within rows."""

    def __init__(self, read: Read, design: Design, seed: int) -> None:
        rng, c, n = np.random.default_rng(seed), design.classes, read.tokens.shape[1]
        normal = lambda *size: torch.from_numpy(rng.normal(size=size)).float()  # noqa: E731
        self.label = torch.from_numpy(design.about.labels[0]).long().clamp(min=0)
        self.types = torch.from_numpy(np.maximum(read.types, 0))
        self.log_n = torch.from_numpy(np.log(read.counts)).float()[self.types]  # (S, N) of the type's frequency
        position = torch.arange(n)
        self.log_r = (position[:, None] - position).abs().clamp_min(1).log()
        self.slope = torch.from_numpy(rng.uniform(0.3, 2.0, (HEADS, 1, 1))).float()
        self.likes = 0.3 * normal(HEADS, 1, 1)  # of common words, at a distance of one
        self.cell, self.of_type = normal(HEADS, c * c), normal(HEADS, len(read.counts))
        self.classes, self.design = c, design
        some = torch.arange(min(8, len(self.label)))
        self.scale = {name: self._deviation(getattr(self, f"_{name}")(some)) for name in ("base", "pair", "mass")}

    def _deviation(self, made: Tensor) -> Tensor:
        band, zero = self.design.window.view(made.contiguous(), self.design.causal), self.design.zero
        band = torch.cat([band[..., :zero], band[..., zero + 1 :]], -1)
        return band.var(-1).mean((0, 2)).sqrt().clamp_min(1e-6)[:, None, None]  # (H, 1, 1)

    def base(self, of: Tensor) -> Tensor:
        """A power of distance, steeper for common words or for rare ones, and a liking for either."""
        return self._base(of) / self.scale["base"]

    def pair(self, of: Tensor) -> Tensor:
        """A number for every pair of classes."""
        return self._pair(of) / self.scale["pair"]

    def mass(self, of: Tensor) -> Tensor:
        """A number for every word type, whatever its class."""
        return self._mass(of) / self.scale["mass"]

    def _base(self, of: Tensor) -> Tensor:
        log_n = self.log_n[of][:, None, None]
        return self.likes * log_n - self.slope * self.log_r * (1 - 0.1 * self.likes * log_n)

    def _pair(self, of: Tensor) -> Tensor:
        here = self.label[of]
        return self.cell[:, here[:, :, None] * self.classes + here[:, None]].transpose(0, 1)

    def _mass(self, of: Tensor) -> Tensor:
        here = self.of_type[:, self.types[of]].transpose(0, 1)[:, :, None]
        return here.expand(-1, -1, self.types.shape[1], -1)


def seen(logits: Tensor, read: Read, sequence: Tensor, causal: bool, layer: int = 0) -> Seen:
    """Logits (B, H, N, N) of these sequences, as `observe` would hand them over (without weights or keys)."""
    none = torch.empty(0)
    return Seen(layer, logits, logits, none, none, none, read.tokens[sequence], read.groups[sequence], sequence,
                read.keep[sequence], causal)  # fmt: skip


def recovered(pools: dict[str, Pool]) -> pd.DataFrame:
    """Planted against found: kind, head, planted, excess, low, high."""
    rows = []
    for kind, pool in pools.items():
        value, low, high = pool.interval()
        rows += [(kind, h, pool.planted[h], value[h], low[h], high[h]) for h in range(HEADS)]
    return pd.DataFrame(rows, columns=["kind", "head", "planted", "excess", "low", "high"])


def told(worlds: pd.DataFrame) -> tuple[float, float]:
    """(the least share supported of worlds that hold, the largest of others), but for those near the half."""
    table, holds = worlds.set_index("world")[SUPPORTED], list(HOLDS)
    return float(table[holds].min()), float(table.drop([*holds, *NEAR], errors="ignore").max())


def draws(pools: dict[str, Pool], shape: tuple[int, int], share: Callable[[Array, Array], Estimate]) -> dict[str, Draw]:
    """Draws for `operating.characteristics("A7", …)`: as many layers and heads as were measured, both texts alike.

    share(enough, layer) (heads,): what the chapter makes of heads. Which heads have class pairs differs from layer to
    layer: their number in a layer is beta-binomial, as heads of a layer are alike.
    """
    layers, heads = shape
    hits = {kind: pool.found.mean(0) >= ENOUGH for kind, pool in pools.items()}
    other = {WEAK: "weak", MASSES: "masses"}
    layer = np.repeat(np.arange(layers), heads)

    def drawer(world: str) -> Draw:
        with_pairs = hits["weak" if world == WEAK else "classes"]
        without = hits[other.get(world, "frequency")]

        def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
            p = SHARE[world]
            own = rng.beta(p * ALIKE, (1 - p) * ALIKE, layers) if 0 < p < 1 else np.full(layers, p)
            has = rng.random(layers * heads) < np.repeat(own, heads)
            found = {}
            for part in ("first corpus", "second corpus"):
                index = rng.integers(HEADS, size=(2, layers * heads))
                found[part] = share(np.where(has, with_pairs[index[0]], without[index[1]]), layer)
            return {p: e.value for p, e in found.items()}, {p: (e.low, e.high) for p, e in found.items()}

        return draw

    return {world: drawer(world) for world in WORLDS}
