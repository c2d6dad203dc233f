"""Attention by distance, by key type and by pair of classes, summed as it passes (ours).

Rule of evidence 3: the same queries at every distance, those with the whole window (see `windows`). Beside it the
*careless* average, over all queries that have the key: what manufactures power laws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agf_core.analysis.observe import Seen
from agf_core.analysis.windows import Array, Scratch, Sums, Window, commonest, kinds

TINY = torch.finfo(torch.float32).tiny  # log of a weight that underflowed: -87


class ByDistance:
    """Mean weight, log weight and logit by layer, head, group and distance.

    Distances are 0 … W, or -W … W in an encoder (negative: the key stands behind the query). Methods give (L, H, K)
    over all groups or, `by_group`, (G, L, H, K), groups without queries NaN. `careless` False saves
    a tenth of the time.
    """

    def __init__(self, window: int, first: int = 4, careless: bool = True) -> None:
        self.window, self.with_careless, self.causal = Window(window, first), careless, True
        self._sums, self._scratch, self._padded = Sums(), Scratch(), torch.empty(0)

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        causal, add = seen.causal, self._sums.add
        self.causal = causal
        full = self.window.full(seen.keep, causal)
        rows = full.float()[:, None, None]  # (B, 1, 1, R)
        weights = self.window.view(seen.weights, causal)
        log = torch.clamp_min(weights, TINY, out=self._scratch.get("log", tuple(weights.shape), weights)).log_()
        if seen.layer == 0:
            add("queries", 0, seen.groups, full.sum(1))
        for name, band in (("weight", weights), ("log_weight", log), ("logit", self.window.view(seen.logits, causal))):
            add(name, seen.layer, seen.groups, (rows @ band).squeeze(2))
        if self.with_careless:
            self._careless(seen)

    def _careless(self, seen: Seen) -> None:
        start = 0
        for group, count in zip(*(t.tolist() for t in seen.groups.unique_consecutive(return_counts=True))):
            of, start = slice(start, start + count), start + count
            keep, maps, at = seen.keep[of], seen.weights[of], torch.tensor([group])
            same = bool((keep == keep[0]).all())
            keep = keep[:1] if same else keep
            pairs = keep[:, :, None] & keep[:, None, :]  # (B or 1, N, N)
            pairs = (pairs.tril() if seen.causal else pairs).float()
            self._sums.add("careless", seen.layer, at, self._diagonals(maps, pairs)[None])
            if seen.layer == 0:
                number = self._diagonals(pairs[:, None], torch.ones_like(pairs)) * (count if same else 1)
                self._sums.add("pairs", 0, at, number[None])

    def _diagonals(self, maps: Tensor, factors: Tensor) -> Tensor:
        """Sums along the diagonals and over B of maps (B, H, N, N) times factors (B or 1, N, N): (H, K)."""
        heads, n, width, size = *maps.shape[1:3], self.window.width, self.window.size(self.causal)
        padded, shape = self._padded, (heads, n, n + 2 * width)
        if padded.shape != shape or padded.device != maps.device:
            self._padded = padded = maps.new_zeros(shape)  # the zeros on both sides stay
        inner = padded[..., width : width + n]
        torch.mul(maps[0], factors[0], out=inner)
        for one, factor in zip(maps[1:], factors.expand(len(maps), n, n)[1:]):
            inner.addcmul_(one, factor)
        band = padded.as_strided((heads, n, size), (padded.stride(0), n + 2 * width + 1, 1))  # distances falling
        return (padded.new_ones(1, 1, n) @ band).squeeze(1)

    @property
    def distances(self) -> Array:
        """(K,) rising."""
        return self.window.distances(self.causal)

    @property
    def queries(self) -> Array:
        """How many queries counted, by group, (G,)."""
        return self._sums.get("queries")[0]

    def weight(self, by_group: bool = False) -> Array:
        """Mean attention weight."""
        return self._mean("weight", self.queries[:, None, None], by_group)

    def log_weight(self, by_group: bool = False) -> Array:
        """Mean log weight; weights below 1e-38 count as 1e-38."""
        return self._mean("log_weight", self.queries[:, None, None], by_group)

    def logit(self, by_group: bool = False) -> Array:
        """Mean of what enters the softmax."""
        return self._mean("logit", self.queries[:, None, None], by_group)

    def careless(self, by_group: bool = False) -> Array:
        """Mean weight over all kept pairs at a distance, whatever else the query sees: not evidence, the trap."""
        return self._mean("careless", self._sums.get("pairs")[0][..., ::-1], by_group)

    def _mean(self, name: str, count: Array, by_group: bool) -> Array:
        total = self._sums.get(name)[..., ::-1]  # (L, G, H, K), distances now rising
        if by_group:
            with np.errstate(invalid="ignore"):
                return (total / count).swapaxes(0, 1)
        return total.sum(1) / count.sum(0)


class ByType:
    """Weight received within the window by each type of key, and what it would be if only distance counted.

    types: token ids, or how many of the commonest (then `observe` tells which); the rest share the last place. Distance
    0 is left out. expected_t = Σ_r (pairs of type t at distance r) · (mean weight at r).
    """

    def __init__(self, types: int | Tensor, window: int, first: int = 4) -> None:
        self.window, self.causal = Window(window, first), True
        self.count = types if isinstance(types, int) else len(types)
        self.types = None if isinstance(types, int) else types
        self._sums, self._scratch = Sums(), Scratch()

    def begin(self, tokens: Tensor, keep: Tensor) -> None:
        """Choose the types, unless they were given."""
        if self.types is None:
            self.types = commonest(tokens, keep, self.count)

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        assert self.types is not None, "call begin(tokens, keep) first"
        self.causal, add = seen.causal, self._sums.add
        full = self.window.full(seen.keep, seen.causal)
        band, by_key = self.window.spread(seen.weights, seen.causal, self._scratch)
        band *= full[:, None, :, None]
        band[..., self.window.width] = 0
        kind = kinds(self.types.to(seen.tokens.device), self.window.span(seen.tokens, seen.causal))
        add("weight", seen.layer, seen.groups, band.sum(2))
        add("received", seen.layer, seen.groups, by_kind(by_key.sum(2), kind, len(self.types) + 1))
        if seen.layer == 0:
            add("pairs", 0, seen.groups, pairs(full, kind, len(self.types) + 1, self.window, seen.causal))
            add("queries", 0, seen.groups, full.sum(1))

    def received(self, by_group: bool = False) -> Array:
        """Total weight, (L, H, T + 1) or (G, L, H, T + 1)."""
        total = self._sums.get("received")
        return total.swapaxes(0, 1) if by_group else total.sum(1)

    def expected(self, by_group: bool = False) -> Array:
        """The same if only distance counted; each group by its own mean weights."""
        weight, number, queries = self._sums.get("weight"), self._sums.get("pairs")[0], self._sums.get("queries")[0]
        if by_group:
            mean = weight / np.maximum(queries, 1)[:, None, None]
            return np.einsum("lghk,gkt->glht", mean, number, optimize=True)
        return np.einsum("lhk,kt->lht", weight.sum(1) / queries.sum(), number.sum(0), optimize=True)

    @property
    def keys(self) -> Array:
        """Pairs (query, key in its window) by type of the key, (G, T + 1)."""
        return self._sums.get("pairs")[0].sum(1)


class ByClassPair:
    """Weight from queries of one class to keys of another within the window, and if only distance counted.

    classes: class 0 … count - 1 of each token id, (V,), or of each token of the sequences handed to `observe`, (S, N);
    int64, -1 for what has none. Distance 0 is left out. Results (L, H, C, C) or (G, L, H, C, C): query × key class.
    """

    def __init__(self, classes: Tensor, count: int, window: int, first: int = 4) -> None:
        if classes.dtype != torch.int64 or classes.dim() not in (1, 2) or classes.max() >= count or classes.min() < -1:
            given = f"{classes.dtype} {tuple(classes.shape)} from {classes.min()} to {classes.max()}"
            raise ValueError(f"classes must be int64 (V,) or (S, N) from -1 to {count - 1}, got {given}")
        self.classes, self.count, self.window = classes, count, Window(window, first)
        self._sums, self._scratch = Sums(), Scratch()

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        window, causal, add, size = self.window, seen.causal, self._sums.add, self.count + 1
        classes = self.classes.to(seen.tokens.device)
        classes = classes[seen.tokens] if classes.dim() == 1 else classes[seen.sequence]
        classes = torch.where(classes < 0, self.count, classes)
        full = window.full(seen.keep, causal)
        band, by_key = window.spread(seen.weights, causal, self._scratch)
        band *= full[:, None, :, None]
        band[..., window.width] = 0
        asks, key = window.queries(classes, causal), window.span(classes, causal)
        query_of, key_of = (torch.nn.functional.one_hot(c, size).float()[:, None] for c in (asks, key))
        add("weight", seen.layer, seen.groups, band.sum(2))
        add("received", seen.layer, seen.groups, query_of.mT @ (by_key @ key_of))
        if seen.layer == 0:
            joint = [pairs(full & (asks == c), key, size, window, causal) for c in range(size)]
            add("pairs", 0, seen.groups, torch.stack(joint, 1))
            add("queries", 0, seen.groups, full.sum(1))

    def received(self, by_group: bool = False) -> Array:
        """Total weight."""
        total = self._sums.get("received")[..., :-1, :-1]
        return total.swapaxes(0, 1) if by_group else total.sum(1)

    def expected(self, by_group: bool = False) -> Array:
        """The same if only distance counted: pairs of the classes at each distance times the mean weight there."""
        weight, queries = self._sums.get("weight"), self._sums.get("queries")[0]
        number = self._sums.get("pairs")[0][:, :-1, :, :-1]  # (G, C, K, C)
        if by_group:
            mean = weight / np.maximum(queries, 1)[:, None, None]
            return np.einsum("lghk,gckt->glhct", mean, number, optimize=True)
        return np.einsum("lhk,ckt->lhct", weight.sum(1) / queries.sum(), number.sum(0), optimize=True)

    @property
    def pairs(self) -> Array:
        """Pairs (query, key in its window) by their classes, (G, C, C)."""
        return self._sums.get("pairs")[0].sum(2)[:, :-1, :-1]


def by_kind(per_key: Tensor, kind: Tensor, size: int) -> Tensor:
    """Sums of (B, H, M) over keys of one kind (B, M): (B, H, size)."""
    out = per_key.new_zeros(*per_key.shape[:2], size)
    return out.scatter_add_(2, kind[:, None].expand_as(per_key), per_key)


def pairs(full: Tensor, kind: Tensor, size: int, window: Window, causal: bool) -> Tensor:
    """How often a key of each kind stands at each distance from a query that counts, (B, K, size), int64.

    full (B, R), kind (B, R + K - 1) of `span`; distances fall; none at distance 0.
    """
    batch, width = len(full), window.size(causal)
    at = kind.unfold(1, width, 1) + size * torch.arange(width, device=kind.device)  # (B, R, K)
    at = at + size * width * torch.arange(batch, device=kind.device)[:, None, None]
    found = torch.bincount(at[full].flatten(), minlength=batch * width * size).view(batch, width, size)
    found[:, window.width] = 0
    return found
