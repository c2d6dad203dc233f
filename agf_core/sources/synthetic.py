"""Two tasks whose answer lies in the sequence itself: recall by content and copying by position.

recall  multi-query associative recall, after Arora et al. 2023 ("Zoology", arXiv 2312.04927). Layout:

            k1 v1 k2 v2 … kP vP | q v q v q v …      targets: the value at each q, IGNORE elsewhere

        The P keys are distinct, the values are drawn independently, and each query is one of the P keys, drawn
        independently. Keys are symbols 0..S-1, values S..2S-1. What differs from theirs: queries stand back to back,
        with no filler between; each is followed by its answer, as in language modelling; a key may be asked again
        (then the earlier answer serves as well as the pair); values may coincide. Queries are independent of one
        another, rather than a permutation of the keys, so that nobody can guess by ticking off the values already
        given. Pair j (from 0) stands at places 2j and 2j + 1 and the queries at 2P, 2P + 2, …: a query lies an even
        distance behind its key and an odd one behind its value, each pair equally likely to be meant.
copy    (ours; a usual test) m = length // 2 symbols drawn independently, a separator, the same m symbols again:

            s1 s2 … sm | s1 s2 … sm                  targets: the next symbol from the separator on, else IGNORE

        The answer always lies m places behind the query. With an alphabet far smaller than m the last few symbols
        occur many times with different successors, so content cannot tell which place is meant, and position must;
        with more symbols than m each is nearly unique, and looking up "what followed this symbol" solves the task.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

IGNORE = -100  # a target that does not count (the default of torch's cross-entropy)
Tokens = npt.NDArray[np.int64]


def recall(rng: np.random.Generator, batch: int, length: int, *, pairs: int, symbols: int) -> tuple[Tokens, Tokens]:
    """(inputs, targets), each (batch, length); ValueError for a length below 2 * pairs + 2."""
    if length < 2 * pairs + 2:
        raise ValueError(f"recall of {pairs} pairs takes a length of at least {2 * pairs + 2}, got {length}")
    keys = rng.permuted(np.tile(np.arange(symbols), (batch, 1)), axis=1)[:, :pairs]
    values = symbols + rng.integers(0, symbols, (batch, pairs))
    asked = rng.integers(0, pairs, (batch, (length - 2 * pairs + 1) // 2))
    shown = np.concatenate([np.tile(np.arange(pairs), (batch, 1)), asked], axis=1)  # which pair stands where
    both = [np.take_along_axis(keys, shown, axis=1), np.take_along_axis(values, shown, axis=1)]
    inputs = np.stack(both, axis=2).reshape(batch, -1)  # an odd length leaves the last query without its answer
    targets = np.full_like(inputs, IGNORE)
    targets[:, 2 * pairs :: 2] = inputs[:, 2 * pairs + 1 :: 2]
    return inputs[:, :length], targets[:, :length]


def recall_chance(pairs: int, symbols: int) -> float:
    """Accuracy of the best guess that knows which values were given, but not to which keys: E[M] / pairs.

    M is how often the commonest of `pairs` values drawn from `symbols` occurs. E[M] is the sum over m of 1 - P(M ≤ m),
    and P(M ≤ m) that of `symbols` independent Poisson counts, none above m, given that they sum to `pairs`. It is
    above 1 / pairs (0.21 for 8 pairs and 32 symbols) because values may coincide.
    """
    rate = pairs / symbols
    poisson = np.cumprod([math.exp(-rate), *(rate / k for k in range(1, pairs + 1))])
    total = _power(poisson, symbols)[pairs]
    at_most = [_power(np.where(np.arange(pairs + 1) <= m, poisson, 0.0), symbols)[pairs] for m in range(pairs)]
    return float(sum(1 - p / total for p in at_most) / pairs)


def copy(rng: np.random.Generator, batch: int, length: int, *, symbols: int) -> tuple[Tokens, Tokens]:
    """(inputs, targets), each (batch, length), length // 2 targets a row; ValueError for a length below 4."""
    if length < 4:
        raise ValueError(f"copy takes a length of at least 4, got {length}")
    half = length // 2
    string = rng.integers(0, symbols, (batch, half))
    bar, end = np.full((batch, 1), symbols), np.full((batch, 1), IGNORE)
    whole = np.concatenate([string, bar, string, end], axis=1)
    targets = whole[:, 1 : length + 1].copy()
    targets[:, :half] = IGNORE
    return whole[:, :length], targets


def _power(distribution: np.ndarray, times: int) -> np.ndarray:
    """The distribution of a sum of `times` independent counts, kept to the counts given, by repeated squaring."""
    size, result = len(distribution), np.eye(1, len(distribution))[0]
    while times:
        if times & 1:
            result = np.convolve(result, distribution)[:size]
        distribution, times = np.convolve(distribution, distribution)[:size], times >> 1
    return result
