"""Attention from each word class to each, with distance, frequency and place divided out (ours).

expected[class of query, class of key] = Σ over cells of (pairs of these classes in it) · (mean weight in it)

A cell is a distance (exact up to 8, then half octaves; the two sides apart), a frequency bin of the key, the place of
the key in its sentence (first, inside, last) and its relation to the query (same word, same sentence, another). The map
is the logarithm of the attention that pairs received over what was expected: 0 where class has nothing to add to its
cell. *Mass* is the same for a class of keys, whatever the query. Intervals: groups of documents resampled. Beside it
the shares of attention that go elsewhere: to special tokens, to the first keys, to the query itself, out of the window.

Shapes: L layers, H heads, G groups, C classes, X cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from agf_core.analysis.by_distance import by_kind
from agf_core.analysis.class_terms import Design
from agf_core.analysis.observe import Seen
from agf_core.analysis.windows import Array, Scratch, Sums
from agf_core.analysis.word_classes import PLACES

EXACT = 8  # distances up to which each is a cell of its own
SHARES = ("special tokens", "first keys", "itself", "window", "farther")
FEWEST = 30  # pairs of two classes below which the map has no cell


@dataclass(frozen=True)
class ClassMap:
    """received, expected (S + 1, L, H, C, C): total weight, first of all groups, then of S resamples of them.

    pairs (C, C) how many there are;  shares (L, H, 5) of attention, as in `SHARES`, of the queries that count
    """

    names: tuple[str, ...]
    received: Array
    expected: Array
    pairs: Array
    shares: Array
    groups: int

    def of(self, layer: int = -1) -> tuple[Array, Array, Array]:
        """(value, low, high) (C, C) of the map, mean over the heads of a layer, or of all (-1); NaN where pairs lack.

        ValueError for a layer that the model does not have.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(self._of(self.received, layer) / self._of(self.expected, layer))
        ratio[:, :, self.pairs < FEWEST] = np.nan
        return self._interval(ratio.mean(1))

    def mass(self, layer: int = -1) -> tuple[Array, Array, Array]:
        """(value, low, high) (C,) of the classes' masses, likewise."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(self._of(self.received, layer).sum(2) / self._of(self.expected, layer).sum(2))
        ratio[:, :, self.pairs.sum(0) < FEWEST] = np.nan
        return self._interval(ratio.mean(1))

    def _of(self, values: Array, layer: int) -> Array:
        """(S + 1, heads, C, C)."""
        layers = values.shape[1]
        if not -1 <= layer < layers:
            raise ValueError(f"layer {layer}: this model has layers 0 to {layers - 1}; -1 takes all of them")
        found = values.reshape(len(values), -1, *values.shape[3:]) if layer < 0 else values[:, layer]
        return np.array(found, dtype=float)

    def _interval(self, values: Array) -> tuple[Array, Array, Array]:
        """Student's, with the bootstrap's missing n/(n − 1): percentiles of few groups are too narrow."""
        value, draws = values[0], values[1:]
        if not len(draws):
            return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
        spread = draws.std(0, ddof=1) * np.sqrt(self.groups / (self.groups - 1))
        half = stats.t.ppf(0.975, self.groups - 1) * spread
        return value, value - half, value + half


class ClassWeights:
    """A statistic for `observe`, of the true labels of a design: see the module."""

    def __init__(self, design: Design) -> None:
        self.design = design
        r = design.window.distances(design.causal)[::-1].copy()  # falling, as in the windows
        near = np.where(np.abs(r) <= EXACT, np.abs(r), EXACT + np.ceil(2 * np.log2(np.maximum(np.abs(r), 1) / EXACT)))
        self._near = torch.from_numpy(np.unique(np.sign(r) * near, return_inverse=True)[1])
        self.cells = (int(self._near.max()) + 1) * design.about.count * 9
        self._sums, self._scratch = Sums(), Scratch()

    def _cells(self, sequence: torch.Tensor) -> torch.Tensor:
        """(B, R, K) the cell of every pair."""
        design = self.design
        distance, place = design.codes(sequence)
        bins = distance // design.steps
        where, relation = place // 4, (place % 4).clamp(max=2)
        part = torch.where(where == 0, 0, torch.where(where == len(PLACES) - 1, 2, 1))
        found: torch.Tensor = ((self._near * design.about.count + bins) * 3 + part) * 3 + relation
        return found

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        design, add, c, of = self.design, self._sums.add, self.design.classes, seen.sequence.cpu()
        window, causal, full = design.window, seen.causal, design.full[seen.sequence.cpu()].to(seen.weights.device)
        low, high = window.rows(seen.tokens.shape[1], causal)
        rows = seen.weights[:, :, low:high]  # (B, H, R, N)
        counted = full.float()[:, None]
        special, started = (~seen.keep).float(), seen.keep & (seen.keep.cumsum(1) <= window.first)
        to = [torch.einsum("bhrn,bn,bqr->bh", rows, kind.float(), counted) for kind in (special, started)]
        band, by_key = window.spread(seen.weights, causal, self._scratch)
        band *= full[:, None, :, None]
        own = band[..., design.zero].sum(2)
        band[..., design.zero] = 0
        inside = band.sum((2, 3))
        everything = torch.einsum("bhrn,bqr->bh", rows, counted)
        shares = torch.stack([*to, own, inside, everything - sum(to) - own - inside], -1)
        cells = self._cells(of).to(band.device)
        labels = torch.from_numpy(design.about.labels[0][of.numpy()]).to(band.device).long().clamp(min=0)
        asks, keys = window.queries(labels, causal), window.span(labels, causal)
        query_of, key_of = (torch.nn.functional.one_hot(x, c).float()[:, None] for x in (asks, keys))
        add("shares", seen.layer, seen.groups, shares)
        add("received", seen.layer, seen.groups, query_of.mT @ (by_key @ key_of))
        add("cells", seen.layer, seen.groups, by_kind(band.flatten(2), cells.flatten(1), self.cells))
        if seen.layer == 0:
            pair = asks[..., None] * c + keys.unfold(1, design.size, 1)
            for group in seen.groups.unique():
                mine = full & (seen.groups == group)[:, None]
                code = (pair * self.cells + cells)[mine]  # (n, K)
                code = torch.cat([code[:, : design.zero], code[:, design.zero + 1 :]], 1).flatten()
                count = torch.bincount(code, minlength=c * c * self.cells).view(1, c * c, self.cells)
                add("pairs", 0, group[None], count)

    def result(self, resamples: int = 100, seed: int = 0) -> ClassMap:
        """The map, and its resamples; ValueError where nothing was observed."""
        get, c = self._sums.get, self.design.classes
        received, cells, pairs = get("received"), get("cells"), get("pairs")[0]  # (L, G, …), (G, C², X)
        there = pairs.sum((1, 2)) > 0
        received, cells, pairs = received[:, there], cells[:, there], pairs[there].astype(np.float32)
        groups, rng = len(pairs), np.random.default_rng(seed)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples if groups > 1 else 0)
        weights = np.concatenate([np.ones((1, groups)), drawn]).astype(np.float32)
        found = []
        for w in weights:
            counts = np.tensordot(w, pairs, 1)  # (C², X)
            mean = np.tensordot(cells, w, (1, 0)) / np.maximum(counts.sum(0), 1)  # (L, H, X)
            found.append((mean.astype(np.float32) @ counts.T).reshape(*mean.shape[:2], c, c))
        total = np.tensordot(weights, received, (1, 1))  # (S + 1, L, H, C, C)
        shares = get("shares").sum(1)
        return ClassMap(self.design.about.names, total, np.array(found), pairs.sum((0, 2)).reshape(c, c),
                        shares / shares.sum(-1, keepdims=True), groups)  # fmt: skip
