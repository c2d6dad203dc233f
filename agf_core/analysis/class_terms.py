"""What word classes add to distance, frequency and place, held out: least squares within query rows (ours).

    logit[query, key] = effect(query) + base(query, key) + pair[class of query, class of key] + rest,   1 ≤ |r| ≤ W
    base = field[bin of the key's frequency](r) + part[place of the key in its sentence, relation to the query's]

Query effects are free, as in `gravity_sums`: within a row log weights and logits differ by a constant. Distance ×
frequency is a free field for every bin (exact distances up to 16, then quarter octaves; the two sides apart);
continuations of a word have one of their own. Both parts are fitted to all
folds of the documents but one and scored on that one: *added* is the share of the variance within rows that the class
pairs explain beyond the base. The number of claim A7, *excess*, is added under the true labels less the mean of added
under permuted ones (`word_classes`). By Frisch, Waugh and Lovell only the class block has to be solved anew for every
labelling; what needs the logits streams past once, for all labellings together.

Shapes: L layers, H heads, F folds, P labellings, R candidate queries, K distances (0 among them), C classes, M columns
of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import linalg, stats
from torch import Tensor

from agf_core.analysis.by_distance import by_kind
from agf_core.analysis.observe import Seen
from agf_core.analysis.windows import Array, Scratch, Sums, Window
from agf_core.analysis.word_classes import PLACES, RELATIONS, Classes

FOLDS = 8
EXACT = 16  # distances up to which each has a number of its own
RIDGE = 300.0  # pairs, on every class pair: 64 queries see one key, so that is a handful of keys
ENOUGH = 0.02  # of the variance within rows: what A7 asks of a head


@dataclass(frozen=True)
class Terms:
    """Shares of the variance of the logits within query rows, held out.

    base    (F, L, H) what distance × frequency and place explain
    added   (P, F, L, H) what class pairs add to it, by labelling: true, punctuation against the rest, permuted ones
    pairs   (L, H, C, C) the class-pair terms, query × key class, of all folds; mean 0 over each query class's pairs
    counts  (C, C) pairs of a query and a key by their classes
    variance (L, H) of the logits within rows
    """

    base: Array
    added: Array
    pairs: Array
    counts: Array
    variance: Array
    queries: int

    @property
    def null(self) -> Array:
        """(P − 2, L, H) what permuted labels add."""
        return self.added[2:].mean(1)

    def excess(self, labelling: int = 0) -> Array:
        """(F, L, H) added by this labelling less the mean of the permuted ones."""
        found: Array = self.added[labelling] - self.added[2:].mean(0)
        return found

    def interval(self) -> tuple[Array, Array, Array]:
        """(value, low, high) of every head's excess, (L, H) each: 95 %, Student's over the folds of documents."""
        return student(self.excess())

    @property
    def enough(self) -> Array:
        """(L, H) whether class pairs add what A7 asks for."""
        found: Array = self.excess().mean(0) >= ENOUGH
        return found


def student(folds: Array) -> tuple[Array, Array, Array]:
    """(value, low, high) of the mean over folds (F, …): 95 %."""
    value = folds.mean(0)
    half = stats.t.ppf(0.975, len(folds) - 1) * folds.std(0, ddof=1) / np.sqrt(len(folds))
    return value, value - half, value + half


class Design:
    """All that does not need the logits: who counts, and the sums over tokens, by fold."""

    def __init__(self, about: Classes, keep: Tensor, groups: Tensor, window: int, causal: bool, first: int = 4) -> None:
        self.window, self.causal, self.about = Window(window, first), causal, about
        self.size, self.zero = self.window.size(causal), window
        full = self.window.full(keep, causal)  # (S, R)
        if not full.any():
            raise ValueError("no query has its whole window kept: there is nothing to explain")
        there = groups[full.any(1)].unique()  # a fold without queries could not be scored
        if len(there) < 2:
            raise ValueError("all queries lie in one group of documents: nothing can be held out")
        rank = torch.searchsorted(there, groups.contiguous()).clamp(max=len(there) - 1)
        self.folds = min(FOLDS, len(there))
        self.fold = rank * self.folds // len(there)  # (S,)
        self.full, self.classes = full, len(about.names)
        r = self.window.distances(causal)[::-1]  # falling, as in the windows
        octave = EXACT + np.ceil(4 * np.log2(np.maximum(np.abs(r), 1) / EXACT))
        near = np.sign(r) * np.where(np.abs(r) <= EXACT, np.abs(r), octave)
        self._near = torch.from_numpy(np.unique(near, return_inverse=True)[1])  # (K,)
        self.steps = int(self._near.max()) + 1
        self.distance_columns = about.count * self.steps
        self.columns = self.distance_columns + len(PLACES) * len(RELATIONS)

    def codes(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of the base, (B, R, K) int64 each, of the windows of these sequences: of distance × bin, of place."""
        about, width, of = self.about, self.size, sequence.numpy()

        def asks(values: Array) -> Tensor:
            return self.window.queries(torch.from_numpy(values[of]), self.causal)[..., None]

        def sees(values: Array) -> Tensor:
            return self.window.span(torch.from_numpy(values[of]), self.causal).unfold(1, width, 1)

        distance = sees(about.bins) * self.steps + self._near
        sentence, other = asks(about.sentence), sees(about.sentence)
        relation = 1 + (other < sentence).long() + 2 * (other > sentence).long()
        relation[asks(about.word) == sees(about.word)] = 0
        return distance, sees(about.place) * len(RELATIONS) + relation

    @cached_property
    def rows(self) -> tuple[Array, Array, Array, Array]:
        """Of the queries that count, n in all: sequence (n,), place among the candidates (n,), codes (n, K) twice."""
        sequence, row = (x.numpy() for x in torch.nonzero(self.full, as_tuple=True))
        codes = self.codes(torch.arange(len(self.full)))
        distance, place = (c[self.full].numpy() for c in codes)
        keep = np.arange(self.size) != self.zero
        return sequence, row, distance[:, keep], place[:, keep] + self.distance_columns

    @cached_property
    def base(self) -> tuple[Array, Array]:
        """(Gram matrices (F, M, M) of the base within rows, (n, M) how often each column is in a row)."""
        sequence, _, distance, place = self.rows
        number, others = len(sequence), self.size - 1
        at = np.arange(number)[:, None] * self.columns
        count = np.bincount((at + distance).ravel(), minlength=number * self.columns)
        count += np.bincount((at + place).ravel(), minlength=number * self.columns)
        inside = count.reshape(number, self.columns).astype(np.float32)
        gram, fold = np.zeros((self.folds, self.columns, self.columns)), self.fold.numpy()[sequence]
        for f in range(self.folds):
            of, total = fold == f, inside[fold == f]
            both = np.bincount((distance[of] * self.columns + place[of]).ravel(), minlength=self.columns**2)
            both = both.reshape(self.columns, self.columns)
            gram[f] = np.diag(total.sum(0)) + both + both.T - total.T @ total / others
        return gram, inside

    def labelled(self, labelling: int) -> tuple[Array, Array, Array]:
        """By fold: Gram matrix of the class pairs (F, C², C²), with the base (F, M, C²), counts of pairs (F, C²)."""
        (sequence, row, distance, place), (_, inside) = self.rows, self.base
        label = torch.from_numpy(self.about.labels[labelling])
        asks = self.window.queries(label, self.causal).numpy()[sequence, row].astype(np.int64)
        seen = self.window.span(label, self.causal).unfold(1, self.size, 1).numpy()[sequence, row].astype(np.int64)
        seen = np.delete(seen, self.zero, axis=1)
        c, others, fold = self.classes, self.size - 1, self.fold.numpy()[sequence]
        keys = (seen[:, :, None] == np.arange(c)).sum(1, dtype=np.float32)  # (n, C)
        own = np.zeros((self.folds, c * c, c * c))
        with_base = np.zeros((self.folds, self.columns, c * c))
        counts = np.zeros((self.folds, c * c))
        pair = (asks * c)[:, None] + seen
        for f in range(self.folds):
            of = fold == f
            joint = sum(np.bincount((x[of] * c * c + pair[of]).ravel(), minlength=self.columns * c * c)
                        for x in (distance, place))  # fmt: skip
            with_base[f] = np.asarray(joint).reshape(self.columns, c * c)
            for q in range(c):
                mine = of & (asks == q)
                block = slice(q * c, q * c + c)
                total = keys[mine]
                own[f][block, block] = np.diag(total.sum(0)) - total.T @ total / others
                with_base[f][:, block] -= inside[mine].T @ total / others
                counts[f][block] = total.sum(0)
        return own, with_base, counts


class ClassTerms:
    """A statistic for `observe`: see the module. permutations: how many of the permuted labellings to use, at most."""

    def __init__(self, design: Design, permutations: int | None = None) -> None:
        about = design.about
        self.design, self.used = design, 2 + min(about.permutations, permutations or about.permutations)
        self._sums, self._scratch = Sums(), Scratch()

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        design, add = self.design, self._sums.add
        if seen.causal != design.causal:
            raise ValueError(f"the design is for causal = {design.causal}, the model has causal = {seen.causal}")
        window, zero, c, of = design.window, design.zero, design.classes, seen.sequence.cpu()
        band, by_key = window.spread(seen.logits, seen.causal, self._scratch)
        band[..., zero] = 0
        band -= band.sum(-1, keepdim=True) / (design.size - 1)
        band[..., zero] = 0
        band *= design.full[of].to(band.device)[:, None, :, None]
        fold, y = design.fold[of], band.flatten(2)  # (B, H, R·K)
        distance, place = (code.flatten(1).to(y.device) for code in design.codes(of))
        base = [by_kind(y, distance, design.distance_columns), by_kind(y, place, len(PLACES) * len(RELATIONS))]
        add("base", seen.layer, fold, torch.cat(base, -1))
        add("squares", seen.layer, fold, torch.linalg.vector_norm(y, dim=2).double() ** 2)
        labels = torch.from_numpy(design.about.labels[: self.used, of.numpy()]).to(y.device).long()  # (P, B, N)
        keys, asks = (torch.stack([f(one, seen.causal) for one in labels]) for f in (window.span, window.queries))
        # At special tokens, whose label is -1, y is 0.
        key_of = torch.nn.functional.one_hot(keys.clamp(min=0), c).float()  # (P, B, R + K − 1, C)
        query_of = torch.nn.functional.one_hot(asks.clamp(min=0), c).float()  # (P, B, R, C)
        by_class = by_key @ key_of.permute(1, 2, 0, 3).flatten(2)[:, None]  # (B, H, R, P·C)
        by_class = by_class.unflatten(-1, (self.used, c)).transpose(2, 3)  # (B, H, P, R, C)
        add("pair", seen.layer, fold, query_of.permute(1, 0, 3, 2)[:, None] @ by_class)  # (B, H, P, C, C)

    def result(self) -> Terms:
        """Solve for all heads, labellings and folds; ValueError where nothing was observed."""
        design, get = self.design, self._sums.get
        base_y, pair_y, squares = (np.moveaxis(get(name), 1, 0) for name in ("base", "pair", "squares"))
        shape, folds, c = squares.shape[1:], design.folds, design.classes
        xy = base_y.reshape(folds, -1, design.columns).swapaxes(1, 2)  # (F, M, L·H)
        zy = pair_y.reshape(folds, -1, self.used, c * c).transpose(2, 0, 3, 1)  # (P, F, C², L·H)
        gram = design.base[0]
        solver = [_Base(gram.sum(0) - gram[f], xy.sum(0) - xy[f]) for f in range(folds)]
        total = np.maximum(squares.reshape(folds, -1), 1e-300)
        base = np.stack([_gain(gram[f], xy[f], solver[f].alone) for f in range(folds)])  # (F, L·H)
        added = np.empty((self.used, folds, total.shape[1]))
        for p in range(self.used):
            own, across, counts = design.labelled(p)
            for f in range(folds):
                fit = solver[f].with_block(*(a.sum(0) - a[f] for a in (own, across, zy[p])))
                both = np.block([[gram[f], across[f]], [across[f].T, own[f]]])
                added[p, f] = (_gain(both, np.concatenate([xy[f], zy[p, f]]), fit) - base[f]) / total[f]
            if p == 0:
                pairs = _Base(gram.sum(0), xy.sum(0)).with_block(own.sum(0), across.sum(0), zy[0].sum(0))
                number = counts.sum(0).reshape(c, c)
        terms = pairs[design.columns :].T.reshape(*shape, c, c)
        mean = (terms * number).sum(-1) / np.maximum(number.sum(-1), 1)
        queries = len(design.rows[0])
        return Terms((base / total).reshape(folds, *shape), added.reshape(self.used, folds, *shape),
                     terms - mean[..., None], number, squares.sum(0) / (queries * (design.size - 1)),
                     queries)  # fmt: skip


class _Base:
    """The base solved once, and a class block added to it; coefficients are (columns, heads)."""

    def __init__(self, gram: Array, xy: Array) -> None:
        self.factor = linalg.cho_factor(gram + np.eye(len(gram)))  # one pair: a constant added to all columns is free
        self.xy, self.alone = xy, linalg.cho_solve(self.factor, xy)

    def with_block(self, own: Array, across: Array, zy: Array) -> Array:
        """Coefficients of the base and of the block, one under the other."""
        half = linalg.cho_solve(self.factor, across)
        schur = own - across.T @ half + RIDGE * np.eye(len(own))
        block = linalg.solve(schur, zy - across.T @ self.alone, assume_a="pos")
        return np.concatenate([self.alone - half @ block, block])


def _gain(gram: Array, xy: Array, fit: Array) -> Array:
    """By how much a fit lowers the sum of squares of documents that it may not have seen, for each head."""
    found: Array = (fit * (2 * xy - gram @ fit)).sum(0)
    return found
