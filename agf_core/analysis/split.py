"""Field × association split of every head by least squares within query rows, streamed (ours).

    logit[query, key] = effect(query) + field(r) + mass(type of the key) + rest,   r = 1 … W (±1 … ±W in an encoder)

Query effects are free: they are the softmax's normaliser, so all is demeaned within each query's window. Every query
that counts has every distance once; with n queries and K distances, D the distance dummies and M the demeaning,
D'MD = n (I - 11'/K), and distances are eliminated in closed form: what remains to be solved is one system of the types,
shared by all heads. Key effects are per token *type* over many texts, never per position (rule of evidence 2).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import linalg, stats
from torch import Tensor

from agf_core.analysis.by_distance import by_kind, pairs
from agf_core.analysis.observe import Seen
from agf_core.analysis.windows import Array, Scratch, Sums, Window, commonest, kinds

PARTS = ("distance", "type", "shared", "rest")
ELIGIBLE = 0.1  # of the logit variance within queries that distance alone explains (claims.md)


@dataclass(frozen=True)
class SplitResult:
    """What `Split` found; L layers, H heads, W distances, T types and the rest; natural-log units.

    profile          (L, H, W) the field at r = 1 … W, mean 0; an encoder's: both sides averaged
    profile_low      (L, H, W) and profile_high: its 95 % interval, groups of documents resampled; NaN with one group
    profile_sides    (2, L, H, W) an encoder's, keys before and keys behind the query; None when causal
    types            (T,) token ids
    masses           (L, H, T + 1) of the types and, last, of all others; mean 0, weighted by occurrence
    shares           layer, head, part, share, low, high: drop-one shares of the logit variance within queries, parts
                     distance, type, shared (the overlap; negative where one hides the other), rest (the association)
    distance_alone   (L, H) R² of the distances without the types;  eligible: where it is ≥ 10 %
    variance         (L, H) of the logits within queries
    queries, groups  how many queries counted, and groups of documents
    """

    profile: Array
    profile_low: Array
    profile_high: Array
    profile_sides: Array | None
    types: Array
    masses: Array
    shares: pd.DataFrame
    distance_alone: Array
    eligible: Array
    variance: Array
    queries: int
    groups: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, rounded to 5 digits."""
        out: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, pd.DataFrame):
                value = {name: _rounded(column.to_numpy()) for name, column in value.items()}
            out[item.name] = _rounded(value) if isinstance(value, np.ndarray) else value
        return out

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> SplitResult:
        """The result of `to_dict`; ValueError for other keys."""
        names = [item.name for item in fields(cls)]
        if set(stored) != set(names):
            raise ValueError(f"expected the keys {', '.join(names)}, got {', '.join(stored)}")
        values: dict[str, Any] = {n: _array(v) if isinstance(v, list) else v for n, v in stored.items()}
        values["shares"] = pd.DataFrame({n: _array(v) for n, v in stored["shares"].items()})
        return cls(**values)


def _rounded(values: Array) -> list[Any]:
    if values.dtype.kind != "f":
        return values.tolist()
    flat = [None if np.isnan(v) else float(f"{v:.5g}") for v in values.ravel().tolist()]  # None: JSON knows no NaN
    return np.array(flat, dtype=object).reshape(values.shape).tolist()


def _array(values: list[Any]) -> Array:
    array = np.array(values)
    return array.astype(float) if array.dtype == object else array


class Split:
    """Streams the normal equations by group of documents: see the module and `SplitResult`.

    types: token ids with a dummy each, or how many of the commonest (then `observe` tells which); the rest share one.
    """

    def __init__(self, window: int, types: int | Tensor, first: int = 4) -> None:
        self.window, self.causal = Window(window, first), True
        self.count = types if isinstance(types, int) else len(types)
        self.types = None if isinstance(types, int) else types
        if self.count < 1:
            raise ValueError(f"expected at least one type, got {self.count}")
        self._sums, self._scratch = Sums(), Scratch()

    def begin(self, tokens: Tensor, keep: Tensor) -> None:
        """Choose the types, unless they were given."""
        if self.types is None:
            self.types = commonest(tokens, keep, self.count)

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        assert self.types is not None, "call begin(tokens, keep) first"
        window, causal, size = self.window, seen.causal, len(self.types) + 1
        self.causal, zero, others = causal, window.width, window.size(causal) - 1
        full = window.full(seen.keep, causal)
        kind = kinds(self.types.to(seen.tokens.device), window.span(seen.tokens, causal))
        y, by_key = window.spread(seen.logits, causal, self._scratch)  # one memory: y's values are by_key's
        y[..., zero] = 0
        y -= y.sum(-1, keepdim=True) / others
        y[..., zero] = 0
        if not full.all():
            y *= full[:, None, :, None]
        add = self._sums.add
        add("distance", seen.layer, seen.groups, y.sum(2))
        add("type", seen.layer, seen.groups, by_kind(by_key.sum(2), kind, size))
        add("squares", seen.layer, seen.groups, torch.linalg.vector_norm(y, dim=(2, 3)).double() ** 2)
        if seen.layer == 0:
            self._design(seen.groups, full, kind, size)

    def _design(self, groups: Tensor, full: Tensor, kind: Tensor, size: int) -> None:
        """Products of the dummies, before demeaning; the same for all heads."""
        add = self._sums.add
        add("queries", 0, groups, full.sum(1))
        add("pairs", 0, groups, pairs(full, kind, size, self.window, self.causal))
        one = torch.nn.functional.one_hot(kind, size).double()
        before = torch.nn.functional.pad(one.cumsum(1), (0, 0, 1, 0))
        width, rows = self.window.size(self.causal), full.shape[1]
        inside = before[:, width:] - before[:, :-width]  # (B, R, T + 1): each type's keys in each query's window
        inside -= one[:, self.window.width : self.window.width + rows]  # without the query itself
        for group in groups.unique():
            of = inside[groups == group][full[groups == group]]
            add("together", 0, group[None], (of.T @ of)[None])

    def result(self, resamples: int = 200, seed: int = 0) -> SplitResult:
        """Solve for all heads, and again for every resampling of the groups."""
        assert self.types is not None
        get = self._sums.get
        queries, number, together = (get(name)[0] for name in ("queries", "pairs", "together"))
        if not queries.sum():
            raise ValueError("no query has its whole window kept: nothing to split")
        keys = np.delete(number[:, ::-1], 0 if self.causal else self.window.width, axis=1)  # distances rising, not 0
        s = np.delete(get("distance")[..., ::-1], 0 if self.causal else self.window.width, axis=-1)
        sums = (queries, keys, together, s, get("type"), get("squares"))
        groups = len(queries)
        found = self._solve(sums, np.ones(groups))
        spread = {name: np.full(np.shape(found[name]), np.nan) for name in ("profile", "shares")}
        if groups > 1 and resamples > 1:
            rng = np.random.default_rng(seed)
            draws = []
            for _ in range(resamples):
                weights = rng.multinomial(groups, np.full(groups, 1 / groups)).astype(float)
                if weights @ queries:
                    again = self._solve(sums, weights)
                    draws.append({name: again[name] for name in spread})
            # Student's t and the bootstrap's missing n/(n-1): percentiles of few groups are too narrow.
            factor = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))
            spread = {name: factor * np.std([d[name] for d in draws], axis=0, ddof=1) for name in spread}
        profile = found["profile"]
        return SplitResult(
            profile=profile,
            profile_low=profile - spread["profile"],
            profile_high=profile + spread["profile"],
            profile_sides=None if self.causal else found["sides"],
            types=self.types.numpy(),
            masses=found["masses"],
            shares=_table(found["shares"], spread["shares"]),
            distance_alone=found["distance_alone"],
            eligible=found["distance_alone"] >= ELIGIBLE,
            variance=found["variance"],
            queries=int(queries.sum()),
            groups=groups,
        )

    def _solve(self, sums: tuple[Array, ...], weights: Array) -> dict[str, Array]:
        """The least squares with the groups counted `weights` (G,) times."""
        queries, keys, together, s, x, yy = sums
        n, keys, together = weights @ queries, *(np.tensordot(weights, a, 1) for a in (keys, together))
        s, x, yy = (np.tensordot(weights, a, (0, 1)) for a in (s, x, yy))  # (L, H, K), (L, H, T + 1), (L, H)
        size, count = len(keys), keys.sum(0)  # K distances; occurrences of each type
        by_type = np.diag(count) - together / size
        cross = keys - count / size  # Σ over r of keys[r, t] is each window's count of t, over all queries
        mass = _types(by_type - cross.T @ cross / n, x - s @ cross / n, count)
        field = (s - mass @ cross.T) / n
        both = (s * field).sum(-1) + (x * mass).sum(-1)
        distance, kind = (s**2).sum(-1) / n, (x * _types(by_type, x, count)).sum(-1)
        parts = np.stack([both - kind, both - distance, distance + kind - both, yy - both])
        shares = np.divide(parts, yy, out=np.zeros_like(parts), where=yy > 0)
        shares[3][yy <= 0] = 1.0  # a head without variance has nothing that distance explains
        half = size // 2
        sides = np.stack([field[..., -half:], field[..., :half][..., ::-1]])  # before, behind: r = 1 … W
        return {
            "profile": field if self.causal else sides.mean(0),
            "sides": sides,
            "masses": mass,
            "shares": shares,
            "distance_alone": np.divide(distance, yy, out=np.zeros_like(yy), where=yy > 0),
            "variance": yy / (n * size),
        }


def _types(gram: Array, right: Array, count: Array) -> Array:
    """Solve the system of the types for (L, H, T): mean mass 0, weighted by occurrence; absent types have mass 0."""
    scale = max(gram.diagonal().max(), 1.0)
    w = count / np.linalg.norm(count)  # adding a constant to all masses changes nothing: this direction is set to 0
    gram = gram + scale * np.outer(w, w) + np.diag(np.where(count > 0, 1e-10 * scale, scale))
    factor = linalg.cho_factor(gram)
    return linalg.cho_solve(factor, right.reshape(-1, right.shape[-1]).T).T.reshape(right.shape)


def _table(shares: Array, spread: Array) -> pd.DataFrame:
    """(4, L, H) as rows of layer, head, part, share, low, high."""
    part, layer, head = (a.ravel() for a in np.indices(shares.shape))
    share, wide = shares.ravel(), spread.ravel()
    columns = {"layer": layer, "head": head, "part": np.array(PARTS)[part]}
    table = pd.DataFrame(columns | {"share": share, "low": share - wide, "high": share + wide})
    return table.sort_values(["layer", "head"], kind="stable", ignore_index=True)
