"""Sequences of finitely many tasks, and the two Bayesian readers between whom a model must choose.

After Raventós et al. 2023 (arXiv 2306.15063), who draw a task for every sequence from a pool of T regression tasks,
and ask on *unseen* tasks whether a model has kept the pool or learns the task in its context. Here (ours) a task is a
law of symbols, drawn from a Dirichlet law with concentration c:

urn    one law for all places: a sequence is independent draws from it
chain  a law for every symbol that may stand before: a Markov chain, which starts with an evenly drawn symbol

After symbols x_1 … x_n two predictors are exact,

    mixture   Σ_τ w_τ p_τ(x | x_n),  w_τ ∝ Π p_τ(x_i | x_(i-1)): the pool is all there is; context only narrows it
    prior     (n_x + c) / (n + c V): the pool is forgotten; the task is learned from the context alone

with n_x the symbols so far (of a chain: after the same symbol). `mixture` is best on the pool, `prior` on new tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .specs import read, within
from .synthetic import Tokens

Array = npt.NDArray[np.float64]
LAWS = ("urn", "chain")
ROWS = 64  # sequences at a time: what a posterior over a large pool takes of memory


@dataclass(frozen=True)
class Tasks:
    """The pool; `parse` makes one from a specification. Raises ValueError for an option out of its range.

    law       "urn" or "chain";  tasks: how many there are, T (0: a new one for every sequence)
    concentration  c of the Dirichlet law: 1 draws evenly from all laws of symbols
    """

    law: str = "urn"
    tasks: int = 32
    concentration: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ValueError(f"unknown law {self.law!r}; expected one of {', '.join(LAWS)}")
        within({"tasks": (0, 2**16), "concentration": (0.01, 100), "seed": (0, 2**32)}, vars(self))

    def _laws(self, rng: np.random.Generator, count: int, symbols: int) -> Array:
        before = symbols if self.law == "chain" else 1
        return rng.dirichlet(np.full(symbols, self.concentration), (count, before))

    def pool(self, symbols: int) -> Array:
        """The laws of the T tasks, (T, 1 or V, V): the last axis sums to 1, the one before is the symbol before."""
        return _pool(self, symbols)

    def sample(
        self, rng: np.random.Generator, batch: int, length: int, symbols: int, unseen: bool = False
    ) -> tuple[Tokens, Array]:
        """(batch, length) symbols, and the law of each sequence (batch, 1 or V, V), from the pool or (`unseen`) new."""
        if unseen or not self.tasks:
            laws = self._laws(rng, batch, symbols)
        else:
            laws = self.pool(symbols)[rng.integers(self.tasks, size=batch)]
        steps = np.cumsum(laws, axis=2)
        steps /= steps[..., -1:]
        found, rows = np.empty((batch, length), np.int64), np.arange(batch)
        for t, u in enumerate(rng.random((length, batch))):
            if self.law == "chain" and t == 0:
                found[:, 0] = (u * symbols).astype(np.int64)
                continue
            step = steps[rows, found[:, t - 1]] if self.law == "chain" else steps[:, 0]
            found[:, t] = (u[:, None] >= step).sum(1)
        return found, laws

    def task(
        self, rng: np.random.Generator, batch: int, length: int, *, symbols: int, unseen: bool = False
    ) -> tuple[Tokens, Tokens]:
        """(inputs, targets), each (batch, length): every target is the next symbol."""
        stream = self.sample(rng, batch, length + 1, symbols, unseen)[0]
        return stream[:, :-1].copy(), stream[:, 1:].copy()

    def truth(self, tokens: Tokens, laws: Array) -> Array:
        """p(x | the task) after each symbol, (B, N, V) of tokens (B, N) and their laws (B, 1 or V, V)."""
        if self.law == "urn":
            return np.broadcast_to(laws, (*tokens.shape, laws.shape[-1]))
        return np.take_along_axis(laws, tokens[..., None], axis=1)

    def mixture(self, tokens: Tokens, symbols: int, temper: float = 1.0) -> Array:
        """What a Bayesian who knows the pool, and nothing else, expects next, (B, N, V); ValueError for an endless one.

        `temper` < 1 takes the evidence to that power: a reader who narrows the pool more slowly, but still has nothing
        but mixtures of its tasks.
        """
        if not self.tasks:
            raise ValueError("an endless pool has no mixture of its tasks: its mixture is the prior")
        pool = self.pool(symbols)
        with np.errstate(divide="ignore"):
            log = temper * np.log(pool)
        return np.concatenate([self._mixed(tokens[i : i + ROWS], pool, log) for i in range(0, len(tokens), ROWS)])

    def _mixed(self, tokens: Tokens, pool: Array, log: Array) -> Array:
        if self.law == "urn":
            seen = np.moveaxis(log[:, 0, tokens], 0, 2)  # (B, N, T)
        else:
            seen = np.moveaxis(log[:, tokens[:, :-1], tokens[:, 1:]], 0, 2)
            seen = np.concatenate([np.zeros((len(tokens), 1, len(pool))), seen], axis=1)
        weight = np.cumsum(seen, axis=1)
        weight = np.exp(weight - weight.max(axis=2, keepdims=True))
        weight /= weight.sum(axis=2, keepdims=True)
        if self.law == "urn":
            return np.asarray(weight @ pool[:, 0])
        found = np.empty((*tokens.shape, pool.shape[-1]))
        for x in range(pool.shape[-1]):
            found[tokens == x] = weight[tokens == x] @ pool[:, x]
        return found

    def prior(self, tokens: Tokens, symbols: int) -> Array:
        """What a Bayesian expects next who knows how tasks are drawn, but none of them, (B, N, V)."""
        one = np.eye(symbols)[tokens]  # (B, N, V)
        if self.law == "urn":
            count = np.cumsum(one, axis=1)
        else:
            pairs = one[:, :-1, :, None] * one[:, 1:, None, :]
            pairs = np.concatenate([np.zeros_like(pairs[:, :1]), np.cumsum(pairs, axis=1)], axis=1)
            count = np.take_along_axis(pairs, tokens[..., None, None], axis=2)[:, :, 0]
        count = count + self.concentration
        return np.asarray(count / count.sum(axis=2, keepdims=True))


@lru_cache(maxsize=8)
def _pool(tasks: Tasks, symbols: int) -> Array:
    found = tasks._laws(np.random.default_rng(np.random.SeedSequence(tasks.seed)), tasks.tasks, symbols)
    found.setflags(write=False)  # shared by all who ask
    return found


def parse(spec: str) -> Tasks:
    """`urn:tasks=32:seed=3` to `Tasks`; ValueError names what is wrong and lists the choices."""
    kinds = {f.name: float if f.name == "concentration" else int for f in fields(Tasks) if f.name != "law"}
    law, options = read("tasks", spec, dict.fromkeys(LAWS, kinds))
    return Tasks(law, **options)
