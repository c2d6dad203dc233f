"""How much a text depends on its own past, by distance, and which field that predicts: nothing is trained here. (Ours.)

*Measured*: the mutual information of two symbols r apart, I(r) = Σ p(a, b) log2 [p(a, b) / p(a) p(b)], in bits. From
counts it comes out too large by about (cells) / (2 pairs), which at great distances is all there is. So we subtract
what the same stream gives at shifts far beyond any dependence; Miller and Madow's (1955) count of occupied cells is the
other correction, and smaller, since it takes the pairs of a dependent stream for independent ones. Intervals leave out
one block of the stream at a time (jackknife). What is left at all distances in a text, above the floor, is that its
documents differ: knowing one symbol tells a little about which document this is. Near the floor only lucky distances
are told, which flattens a slope that is read off them.

*Predicted*: write z_t for the symbol as standardised indicators (1[x = a] - p(a)) / √p(a), and C(r) = E[z_t z_(t-r)'].
With p(a, b) = p(a) p(b) (1 + e), Σ p(a) p(b) (1 + e) ln (1 + e) = ½ Σ p(a) p(b) e² + O(e³), so that to second order

    I(r) = |C(r)|² / (2 ln 2)     (chi-square / 2N, in bits; |·| the Frobenius norm)

and a source that copies with weights P(r) (`sources.echo`; C(r) = ρ(r) · 1) has, to first order in the chance of
copying, ρ(r) = c P(r). Hence the two predictions, fixed before any training:

    total     log g(r) = ½ log I(r) + constant
    direct    the field of the best linear predictor with one field and one map, z_t ≈ M Σ_r g(r) z_(t-r), g ≥ 0: least
              squares from C(0..W) alone, M and g in turn. Copies of copies count once, with their own distance.

`total` is right only for weak dependence. For echo with chance .8 and 32 symbols (log g against log (1 + distance),
1 to 31) planted exponents of .5, 1, 1.5 and 2 come out of the exact I(r) as .10, .24, .44 and .74: in order, but far
too flat, since what ties distant symbols are chains of short copies. At chance .2 they are .40, .84, 1.35 and 1.92.
`direct` finds them within .06 from 2 million symbols, at either chance, when W holds all of the dependence (64), and
.34, .80, 1.31 and 1.84 when W holds half of it. Neither knows what an attention head can do beside mixing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, special, stats

Array = npt.NDArray[np.float64]
CORRECTIONS = ("shifts", "miller-madow")
PREDICTIONS = ("total", "direct")
SHIFTS = 24  # far shifts, for the correction and the floor
PER_CELL = 5  # pairs a cell, on average: with fewer the correction is as large as what it corrects (Cochran's rule)
ERRORS = 4.0  # standard errors, as `direct_weights` estimates them, that a direct weight must lie above 0


@dataclass(frozen=True, eq=False)
class Dependence:
    """Mutual information by distance; made by `dependence`.

    r, bits, low, high   distance 1..W; I(r), corrected (it may be below 0), and its 95 % interval, in bits, (W,)
    floor                what one distance in W · 20 exceeds without any dependence, in bits
    pairs, symbols       pairs counted at each distance; kinds of symbols
    correlation          C(r), r = 0..W, (W + 1, symbols, symbols)
    """

    r: npt.NDArray[np.int64]
    bits: Array
    low: Array
    high: Array
    floor: float
    pairs: int
    symbols: int
    correction: str
    correlation: Array = field(repr=False)

    @property
    def told(self) -> npt.NDArray[np.bool_]:
        """Distances whose I(r) is above the floor, and its interval above 0, (W,)."""
        return (self.bits > self.floor) & (self.low > 0)


def dependence(
    stream: npt.ArrayLike, window: int, blocks: int = 20, seed: int = 0, *,
    correction: str = "shifts", limit: int | None = None, commonest: int | None = None,
) -> Dependence:  # fmt: skip
    """I(r) of a stream of symbols, r = 1..window, over the same later symbols at every r.

    Args:
        stream: (N,) whole numbers from 0; where it joins documents, pairs across the joins are few and counted in.
        blocks: consecutive parts that are left out in turn, for the interval.
        seed: of the shifts;  correction: one of `CORRECTIONS`.
        limit: how many symbols are read, from the start.
        commonest: so many symbols are kept and the others taken for one; words need it, and I(r) then is a lower bound.

    Raises ValueError for a stream of another shape, one too short, or one with fewer than 5 pairs a cell: there the
    bias is larger than what is measured, whatever the correction.
    """
    x = np.asarray(stream)[:limit]
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.size and x.min() < 0):
        raise ValueError(f"the stream must be (N,) whole numbers from 0, got shape {x.shape}, {x.dtype}")
    if correction not in CORRECTIONS:
        raise ValueError(f"unknown correction {correction!r}; expected one of {', '.join(CORRECTIONS)}")
    if window < 1 or blocks < 2 or len(x) < 10 * window * (SHIFTS + 1):
        least = f"window ≥ 1, blocks ≥ 2 and {10 * (SHIFTS + 1)} symbols for each distance of the window"
        raise ValueError(f"expected {least}, got window {window}, blocks {blocks}, {len(x)} symbols")
    x, size = _renumber(x, commonest)
    if size < 2:
        raise ValueError("the stream holds one kind of symbol: there is nothing to depend on")
    pairs = len(x) - window
    if PER_CELL * size**2 > pairs:
        raise ValueError(
            f"{size} symbols have {size**2:,} pairs of kinds, for {pairs:,} pairs seen: fewer than {PER_CELL} each, "
            f"and bias would drown I(r); take more text, or commonest={max(1, int((pairs / PER_CELL) ** 0.5) - 1)}"
        )
    edges = np.linspace(window, len(x), blocks + 1).astype(int)
    shifts = len(x) * (np.arange(1, SHIFTS + 1) + np.random.default_rng(seed).random(SHIFTS) / 2) / (SHIFTS + 1)
    null = np.array([_bits(_tables(x, int(s), edges, size).sum(axis=0)) for s in shifts])
    bits, spread = np.empty(window), np.empty(window)
    correlation = np.empty((window + 1, size, size))
    p = np.bincount(x, minlength=size) / len(x)
    correlation[0] = np.eye(size) - np.sqrt(np.outer(p, p))
    for r in range(1, window + 1):
        parts = _tables(x, r, edges, size)
        counts = parts.sum(axis=0)
        without = np.array([_bits(counts - part) for part in parts])
        bits[r - 1] = _bits(counts) - (null.mean() if correction == "shifts" else _miller_madow(counts))
        spread[r - 1] = np.sqrt((blocks - 1) * without.var())
        first, second = counts.sum(axis=1), counts.sum(axis=0)
        product = np.outer(first, second) / pairs
        # A symbol seen in the stream's first places alone is never a later one: nothing expected, nothing found.
        correlation[r] = (counts - product) / np.sqrt(np.where(product > 0, product * pairs, 1))
    reach = stats.t.ppf(0.975, blocks - 1) * spread
    # Without dependence 2N·I is about a chi-square times a constant, so a gamma: skewed for few symbols.
    shape = null.mean() ** 2 / null.var(ddof=1)
    floor = stats.gamma.ppf(1 - 0.05 / window, shape, scale=null.mean() / shape) - null.mean()
    return Dependence(
        np.arange(1, window + 1), bits, bits - reach, bits + reach, float(floor), pairs, size, correction, correlation
    )


def predicted_field(
    found: Dependence, prediction: str = "total", *, ahead: int = 1
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """(log g, usable), each (W - ahead,): the field at attention distances 1..W - ahead that the text predicts.

    A place that predicts the symbol `ahead` places on (1 for the next one, 0 for a tag of its own) finds what lies r
    before *that* at distance r - ahead. log g is natural, centred over the usable distances and nan at the others:
    usable are those where I(r) is told and, for "direct", the weight lies 4 standard errors above 0. See the module for
    what the predictions are. Raises ValueError for another prediction.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"unknown prediction {prediction!r}; expected one of {', '.join(PREDICTIONS)}")
    if not 0 <= ahead < len(found.r):
        raise ValueError(f"ahead must lie in 0..{len(found.r) - 1}, got {ahead}")
    if prediction == "total":
        weight, usable = np.sqrt(np.maximum(found.bits, 0)), found.told & (found.bits > 0)
    else:
        weight, error = direct_weights(found)
        usable = found.told & (weight > ERRORS * error)
    log_field = np.log(weight, out=np.full(len(weight), np.nan), where=usable)[ahead:]
    if usable[ahead:].any():
        log_field -= np.nanmean(log_field)
    return log_field, usable[ahead:]


def direct_weights(found: Dependence, rounds: int = 50) -> tuple[Array, Array]:
    """(g(r) ≥ 0 summing to 1, its standard error), each (W,): of the best predictor z_t ≈ M Σ_r g(r) z_(t-r).

    The error takes M for known and residuals for alike at all places; on echo with chance .8, whose copies are not, it
    is up to 1.9 times too small. Weights of distances beyond the window fall to its last ones: it should hold all of
    the dependence, and more than is used.
    """
    c = found.correlation
    window, size = len(c) - 1, found.symbols
    g = np.full(window, 1 / window)
    ridge = size / found.pairs * np.eye(size)  # C(0) has no inverse; this is the size of the noise in an eigenvalue
    for _ in range(rounds):
        lagged = np.correlate(g, g, mode="full")[window - 1 :]  # Σ g(r) g(r + s), s = 0..W - 1
        ahead = np.tensordot(lagged[1:], c[1:window], axes=1)
        spread = lagged[0] * c[0] + ahead + ahead.T
        m = linalg.solve(spread + ridge, np.tensordot(g, c[1:], axes=1).T, assume_a="sym").T
        a = linalg.toeplitz(np.einsum("ij,sji->s", m.T @ m, c[:window]))
        b = np.einsum("ij,rij->r", m, c[1:])
        # Least squares with g ≥ 0 from the normal equations: a = root' root.
        values, vectors = np.linalg.eigh(a)
        root = np.sqrt(np.maximum(values, values[-1] * 1e-10))
        new = optimize.nnls(root[:, None] * vectors.T, vectors.T @ b / root)[0]
        scale = new.sum()
        if scale == 0:  # nothing predicts
            return np.zeros(window), np.full(window, np.inf)
        step, g = np.abs(new / scale - g).max(), new / scale
        if step < 1e-8:
            break
    error = np.sqrt((vectors**2 / root**2).sum(axis=1) / found.pairs) / scale
    return g, error


def _renumber(x: np.ndarray, commonest: int | None) -> tuple[npt.NDArray[np.int64], int]:
    """Symbols in use by falling count from 0, those beyond `commonest` as one; and how many there are."""
    counts = np.bincount(x)
    order = np.argsort(-counts, kind="stable")
    used = int((counts > 0).sum())
    kept = used if commonest is None else min(commonest, used)
    number = np.full(len(counts), kept, np.int64)
    number[order[:kept]] = np.arange(kept)
    return number[x], kept + (kept < used)


def _tables(x: npt.NDArray[np.int64], shift: int, edges: np.ndarray, size: int) -> npt.NDArray[np.int64]:
    """Counts of (x_t, x_(t-shift)), circular, for t in each block: (blocks, size, size)."""
    tables = np.empty((len(edges) - 1, size, size), np.int64)
    for table, a, b in zip(tables, edges, edges[1:]):
        earlier = x[a - shift : b - shift] if a >= shift else x.take(np.arange(a - shift, b - shift), mode="wrap")
        table[:] = np.bincount(x[a:b] * size + earlier, minlength=size * size).reshape(size, size)
    return tables


def _bits(counts: npt.NDArray[np.int64]) -> float:
    """The mutual information of a table of counts, as it is, in bits."""
    total = counts.sum()
    both, columns, rows = (special.xlogy(n, n).sum() for n in (counts, counts.sum(axis=0), counts.sum(axis=1)))
    return float(((both - columns - rows) / total + np.log(total)) / np.log(2))


def _miller_madow(counts: npt.NDArray[np.int64]) -> float:
    """The bias of `_bits` by the occupied cells: (cells - rows - columns + 1) / 2N nats, in bits."""
    occupied = [int((n > 0).sum()) for n in (counts, counts.sum(axis=0), counts.sum(axis=1))]
    return (occupied[0] - occupied[1] - occupied[2] + 1) / (2 * counts.sum() * np.log(2))
