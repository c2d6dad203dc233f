"""The gravity model of every head by least squares within query rows, from sums that stream past (ours).

    logit[query, key] = effect(query) + log mass(type of the key) − k log r + rest,   1 ≤ r ≤ W

Query effects are free, and within a query's row log weights and logits differ by a constant: this *is* the logarithm of
attention = effect(query) · mass(type) · r^−k, every pair counted alike. Three models are nested: that one; the *product
form*, a free field(r) in place of −k log r; and *type × distance*, where each type has besides an effect for every
octave of distance (and side, in an encoder), shrunk by a ridge. All are closed forms of the same sums, so that
intervals (groups of documents resampled), reliability (halves of the groups) and held-out shares (folds of the groups)
cost no further pass. With D the dummies of K distances, which every query that counts has once, D'MD = n (I − 11'/K).

Shapes: L layers, H heads, G groups, K distances (±1 … ±W in an encoder), T types and the rest, C cells (type × octave).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg, stats
from torch import Tensor

from agf_core.analysis.by_distance import by_kind, pairs
from agf_core.analysis.observe import Seen
from agf_core.analysis.split import ELIGIBLE
from agf_core.analysis.windows import Array, Scratch, Sums, Window, commonest, kinds

FOLDS = 4
HALVINGS = 10
RIDGES = (30.0, 300.0, 3000.0)  # pairs: the strength that holds out best is taken, which favours type × distance
FORMS = ("distance", "type", "gravity", "product", "interaction")  # of which the held-out R² is kept


@dataclass(frozen=True)
class Gravity:
    """What `GravitySums` found; natural-log units.

    exponent       (L, H) k, with low, high: 95 %, groups resampled; draws (S, L, H): the resamples
    profile        (L, H, W) the product form's field at r = 1 … W, mean 0; an encoder's two sides averaged
    types, masses  (T,) token ids; (L, H, T + 1) log masses of the product form, last all others; mean 0 over pairs
    keys           (T + 1,) pairs by type of the key; norm (L, H, T + 1) the mean length of its key vectors
    eligible       (L, H) distance alone explains ≥ 10 % of the logit variance within queries; distance_alone: the share
    halves         (2, L, H, T + 1) log masses of the first two halves of the groups
    icc            (halvings, L, H) intraclass correlation (consistency) of the named types' masses between halves
    r2             form of `FORMS` → (folds, L, H) held-out share of that variance
    variance       (L, H) of the logits within queries; rest (L, H): of what the product form leaves
    """

    exponent: Array
    low: Array
    high: Array
    draws: Array
    profile: Array
    types: Array
    masses: Array
    keys: Array
    norm: Array
    distance_alone: Array
    halves: Array
    icc: Array
    r2: dict[str, Array]
    variance: Array
    rest: Array
    queries: int
    groups: int

    @property
    def eligible(self) -> Array:
        found: Array = self.distance_alone >= ELIGIBLE
        return found

    def share(self, form: str = "product") -> Array:
        """(folds, L, H) held-out R² of a form over that of type × distance."""
        return np.divide(self.r2[form], self.r2["interaction"], out=np.full_like(self.r2[form], np.nan),
                         where=self.r2["interaction"] > 0)  # fmt: skip


class GravitySums:
    """A statistic for `observe`: see the module. types: ids, or how many of the commonest have a mass of their own.

    design: another one, of the same tokens, groups and types, whose sums over tokens serve this one too.
    """

    def __init__(self, window: int, types: int | Tensor, first: int = 4, *, design: GravitySums | None = None) -> None:
        self.window, self.causal, self.design = Window(window, first), True, design or self
        self.count = types if isinstance(types, int) else len(types)
        self.types = None if isinstance(types, int) else types
        if window < 2 or self.count < 2:
            raise ValueError(f"an exponent and masses need a window ≥ 2 and ≥ 2 types, got {window} and {self.count}")
        self._sums, self._scratch = Sums(), Scratch()

    def begin(self, tokens: Tensor, keep: Tensor) -> None:
        """Choose the types, unless they were given."""
        if self.types is None:
            self.types = commonest(tokens, keep, self.count)

    def distances(self) -> Array:
        """(K,) rising, without 0."""
        r = self.window.distances(self.causal)
        return r[r != 0]

    def octaves(self) -> Array:
        """(K,) the octave of each distance, behind and before the query apart."""
        r = self.distances()
        octave = np.floor(np.log2(np.abs(r))).astype(int)
        return np.unique(np.where(r < 0, -1 - octave, octave), return_inverse=True)[1]

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        assert self.types is not None, "call begin(tokens, keep) first"
        window, causal, size, add = self.window, seen.causal, len(self.types) + 1, self._sums.add
        self.causal, zero, others = causal, window.width, window.size(causal) - 1
        full = window.full(seen.keep, causal)  # (B, R)
        kind = kinds(self.types.to(seen.tokens.device), window.span(seen.tokens, causal))  # (B, R + K)
        y = self._scratch.get("y", tuple((view := window.view(seen.logits, causal)).shape), view)
        y.copy_(view)
        y[..., zero] = 0
        y -= y.sum(-1, keepdim=True) / others
        y[..., zero] = 0
        if not full.all():
            y *= full[:, None, :, None]
        cells, bins = self._cells(kind, causal)
        add("distance", seen.layer, seen.groups, y.sum(2))
        add("cell", seen.layer, seen.groups, by_kind(y.flatten(2), cells.flatten(1), size * bins))
        add("squares", seen.layer, seen.groups, torch.linalg.vector_norm(y, dim=(2, 3)).double() ** 2)
        once = torch.zeros_like(seen.groups)
        add("norm", seen.layer, once, by_kind(window.span(seen.key.norm(dim=-1).mT, causal).mT, kind, size))
        if seen.layer == 0 and self.design is self:
            add("occurrences", 0, once, torch.nn.functional.one_hot(kind, size).sum(1))
            add("queries", 0, seen.groups, full.sum(1))
            add("pairs", 0, seen.groups, pairs(full, kind, size, window, causal))
            for group in seen.groups.unique():
                of = cells[seen.groups == group][full[seen.groups == group]]  # (n, K + 1)
                counts = torch.zeros(len(of), size * bins + 1, device=of.device)
                others_of = torch.cat([of[:, :zero], of[:, zero + 1 :]], 1)
                counts.scatter_add_(1, others_of, torch.ones_like(others_of, dtype=counts.dtype))
                add("together", 0, group[None], (counts.T @ counts)[None, :-1, :-1])

    def _cells(self, kind: Tensor, causal: bool) -> tuple[Tensor, int]:
        """The cell of every pair of a query and a key of its window, (B, R, K + 1), distances falling; octaves."""
        octave = self.octaves()
        bins = int(octave.max()) + 1
        at = np.insert(octave[::-1], self.window.width, 0).copy()  # distance 0 adds nothing: its y is 0
        return kind.unfold(1, self.window.size(causal), 1) * bins + torch.from_numpy(at).to(kind.device), bins

    def result(self, resamples: int = 50, seed: int = 0) -> Gravity:
        """Solve for all heads, for every resampling, half and fold; ValueError where no query counts."""
        assert self.types is not None
        solver = _Solver(self)
        ones, groups = np.ones(solver.groups), solver.groups
        rng = np.random.default_rng(seed)
        power, product = solver.fit(ones, "gravity"), solver.fit(ones, "product")
        draws, icc, halves = [], [], []
        for _ in range(resamples if groups > 1 else 0):
            weights = rng.multinomial(groups, np.full(groups, 1 / groups)).astype(float)
            draws.append(solver.exponent(solver.fit(weights, "gravity")))
        for _ in range(HALVINGS if groups > 3 else 0):
            first = np.isin(np.arange(groups), rng.permutation(groups)[: groups // 2]).astype(float)
            halves = [solver.fit(w, "product")[1][..., :: solver.bins] for w in (first, 1 - first)]
            icc.append(_icc(*(h[..., :-1] for h in halves)))
        shape = power[0].shape[:2]
        k, spread = solver.exponent(power), np.full(shape, np.nan)
        if draws:  # Student's t and the bootstrap's missing n/(n-1): percentiles of few groups are too narrow
            spread = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1)) * np.std(draws, axis=0, ddof=1)
        yy = solver.total(ones, "squares")
        scale = np.maximum(yy, 1e-300)
        explained = solver.gain(ones, *product) / scale
        masses, field_ = product[1][..., :: solver.bins], product[0]
        keys = solver.keys(ones).sum(0)
        width = self.window.width
        both = field_ if self.causal else (field_[..., -width:] + field_[..., width - 1 :: -1]) / 2
        occurrences = np.maximum(self.design._sums.get("occurrences")[0, 0], 1)
        return Gravity(
            exponent=k, low=k - spread, high=k + spread, draws=np.array(draws).reshape(-1, *shape),
            profile=both - both.mean(-1, keepdims=True), types=self.types.cpu().numpy(),
            masses=masses - (masses @ keys / keys.sum())[..., None], keys=keys,
            norm=self._sums.get("norm")[:, 0] / occurrences,
            distance_alone=solver.gain(ones, *solver.fit(ones, "distance")) / scale,
            halves=np.array(halves) if halves else np.full((2, *masses.shape), np.nan),
            icc=np.array(icc).reshape(-1, *shape), r2=solver.held_out(rng),
            variance=yy / (solver.n(ones) * len(self.distances())), groups=groups, queries=int(solver.n(ones)),
            rest=(1 - explained) * yy / (solver.n(ones) * len(self.distances())),
        )  # fmt: skip


class _Solver:
    """Least squares from the sums, the groups counted `weights` (G,) times; a fit is (field (L, H, K), cells (L, H, C))
    with the same mass in all cells of a type unless the form is type × distance."""

    def __init__(self, sums: GravitySums) -> None:
        get, of_tokens, zero = sums._sums.get, sums.design._sums.get, sums.window.width
        assert sums.types is not None
        self.r, self.octave, self.size = sums.distances(), sums.octaves(), len(sums.types) + 1
        self.bins, self.slope = int(self.octave.max()) + 1, -np.log(np.abs(self.r))
        self.slope = self.slope - self.slope.mean()
        self.sums = {name: get(name).swapaxes(0, 1) for name in ("distance", "cell", "squares")}  # (G, L, H, …)
        self.sums["distance"] = np.delete(self.sums["distance"][..., ::-1], zero if not sums.causal else 0, axis=-1)
        number = of_tokens("pairs")[0][:, ::-1]
        self.number = np.delete(number, zero if not sums.causal else 0, axis=1)  # (G, K, T + 1)
        self.together, self.queries = of_tokens("together")[0], of_tokens("queries")[0]
        if not self.queries.sum():
            raise ValueError("no query has its whole window kept: there is no gravity to fit")
        there = self.queries > 0  # a fold or half of groups without queries could not be fitted
        if not there.all():
            self.sums = {name: a[there] for name, a in self.sums.items()}
            self.number, self.together, self.queries = (a[there] for a in (self.number, self.together, self.queries))
        self.groups = len(self.queries)
        self.inside = np.eye(self.bins)[self.octave]  # (K, bins)
        by_type = self.together.reshape(-1, self.size, self.bins, self.size, self.bins)
        self.together_types = by_type.sum((2, 4))
        self.cell_types = self.sums["cell"].reshape(*self.sums["cell"].shape[:3], self.size, self.bins).sum(-1)

    def n(self, weights: Array) -> float:
        return float(weights @ self.queries)

    def keys(self, weights: Array) -> Array:
        found: Array = np.tensordot(weights, self.number, 1)  # (K, T + 1)
        return found

    def total(self, weights: Array, name: str) -> Array:
        found: Array = np.tensordot(weights, self.sums[name], (0, 0))
        return found

    def _system(self, weights: Array, cells: bool) -> tuple[Array, Array, Array, Array]:
        """Gram matrix, cross products with distances (K, X) and counts of types, or of cells; right side (L, H, X)."""
        keys = self.keys(weights)
        if cells:
            keys = (keys[:, :, None] * self.inside[:, None]).reshape(len(keys), -1)
        count = keys.sum(0)
        together = np.tensordot(weights, self.together if cells else self.together_types, 1)
        x = np.tensordot(weights, self.sums["cell"] if cells else self.cell_types, (0, 0))
        return np.diag(count) - together / len(keys), keys - count / len(keys), count, x

    def basis(self, form: str) -> Array:
        """(K, f) orthonormal directions of the field, each orthogonal to a constant (or all of them, I)."""
        if form == "gravity":
            return self.slope[:, None] / np.linalg.norm(self.slope)
        return np.eye(len(self.r)) if form != "type" else np.zeros((len(self.r), 0))

    def fit(self, weights: Array, form: str, ridge: float = 0.0) -> tuple[Array, Array]:
        n, s, q = self.n(weights), self.total(weights, "distance"), self.basis(form)
        if form == "distance":
            return s / n, np.zeros((*s.shape[:2], self.size * self.bins))
        cells = form == "interaction"
        gram, cross, count, x = self._system(weights, cells)
        across, s = q.T @ cross, s @ q
        gram, right = gram - across.T @ across / n, x - s @ across / n
        if cells:  # the ridge draws every cell to the mean of its type's cells
            gram = gram + ridge * np.kron(np.eye(self.size), np.eye(self.bins) - 1 / self.bins)
        scale, w = max(gram.diagonal().max(), 1.0), count / np.linalg.norm(count)  # a constant added changes nothing
        gram = gram + scale * (np.outer(w, w) + np.diag(np.where(cells | (count > 0), 1e-10, 1.0)))
        solved = linalg.cho_solve(linalg.cho_factor(gram), right.reshape(-1, right.shape[-1]).T).T.reshape(right.shape)
        found = (s - solved @ across.T) / n @ q.T
        return found, solved if cells else np.repeat(solved, self.bins, axis=-1)

    def exponent(self, fit: tuple[Array, Array]) -> Array:
        found: Array = fit[0] @ self.slope / (self.slope @ self.slope)
        return found

    def gain(self, weights: Array, field_: Array, mass: Array, system: tuple[Array, ...] | None = None) -> Array:
        """(L, H) by how much a fit lowers the sum of squares of these groups, which need not be those it was fitted to.

        Each query's own effect is fitted to it always: it is the normaliser.
        """
        gram, cross, _, x = system or self._system(weights, True)
        s, n = self.total(weights, "distance"), self.n(weights)
        squares = n * ((field_ - field_.mean(-1, keepdims=True)) ** 2).sum(-1)
        squares = squares + 2 * ((field_ @ cross) * mass).sum(-1) + ((mass @ gram) * mass).sum(-1)
        found: Array = 2 * ((field_ * s).sum(-1) + (mass * x).sum(-1)) - squares
        return found

    def held_out(self, rng: np.random.Generator) -> dict[str, Array]:
        """Form → (folds, L, H) R² on groups that the fit has not seen; the ridge that does best over all folds."""
        folds = rng.permutation(self.groups) % min(FOLDS, self.groups)
        shape = self.sums["squares"].shape[1:]
        if self.groups < 2:
            return {form: np.full((1, *shape), np.nan) for form in FORMS}
        gains: dict[tuple[str, float], list[Array]] = {}
        for fold in range(folds.max() + 1):
            test, train = (folds == fold).astype(float), (folds != fold).astype(float)
            system = self._system(test, True)
            for form in FORMS:
                for ridge in RIDGES if form == "interaction" else (0.0,):
                    gain = self.gain(test, *self.fit(train, form, ridge), system)
                    gains.setdefault((form, ridge), []).append(gain / np.maximum(self.total(test, "squares"), 1e-300))
        found = {form: np.array(gains[form, 0.0]) for form in FORMS[:-1]}
        # No interaction at all, a ridge of ∞, stands among the rivals.
        rivals = np.array([found["product"], *(gains["interaction", r] for r in RIDGES)])
        best = rivals.mean(1).argmax(0)
        return found | {"interaction": np.take_along_axis(rivals, best[None, None], 0)[0]}


def _icc(a: Array, b: Array) -> Array:
    """Intraclass correlation of two measurements (…, T) of each type: two-way, consistency (a mass has no level)."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    between = 2 * (((a + b) / 2) ** 2).sum(-1) / (a.shape[-1] - 1)
    within = ((a - b) ** 2).sum(-1) / (2 * (a.shape[-1] - 1))
    found: Array = (between - within) / np.maximum(between + within, 1e-300)
    return found
