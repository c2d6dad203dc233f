"""Known sources: streams of symbols from finitely many hidden states, whose every path has a known probability.

In state i the source emits symbol x and goes to state j with probability A[i, x, j]. Two of them:

hmm       a hidden Markov source (Rabiner 1989, Proc. IEEE 77(2), 257-286): A[i, x, j] = E[i, x] T[i, j], rows of E
          and T drawn from Dirichlet laws, one move in twenty to any state
brackets  nested brackets of K kinds, at most D deep, whose state is the stack of open ones. A limit of depth makes a
          finite-state source of the context-free language: Σ_d K^d states. At depth 0 it opens, at depth D it closes,
          between it opens with probability `open`; which kind, depends on the bracket around it (drawn from a Dirichlet
          law); what closes is the one that was opened last. Symbol 2k opens and 2k + 1 closes kind k.

A stream starts in its stationary law, so that a window of it is like any other. The forward algorithm, scaled at every
symbol so that nothing underflows, gives the exact probability of the next symbol, and so of a path:

    α_0 = π,   p(x_t | x_<t) = α_t A[:, x_t, :] 1,   α_(t+1) = α_t A[:, x_t, :] / p(x_t | x_<t).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .specs import read, within
from .synthetic import Tokens

Array = npt.NDArray[np.float64]
OPTIONS: dict[str, dict[str, type]] = {
    "hmm": {"states": int, "concentration": float, "seed": int},
    "brackets": {"depth": int, "open": float, "seed": int},
}
RANGES = {"states": (1, 400), "concentration": (0.01, 100), "depth": (1, 12), "open": (0.01, 0.99), "seed": (0, 2**32)}
MOST = 400  # states of a bracket source
SLIP = 0.05  # of the hidden Markov source's moves go anywhere, so that no state is a trap


@dataclass(frozen=True, eq=False)
class Hidden:
    """A source; `step` (S, V, S): probability to emit a symbol and to go to a state, from a state."""

    step: Array

    @property
    def symbols(self) -> int:
        """Size of the alphabet, V."""
        return self.step.shape[1]

    @cached_property
    def start(self) -> Array:
        """The stationary law π of the states, (S,)."""
        states = len(self.step)
        flow = self.step.sum(1).T - np.eye(states)
        found = np.linalg.lstsq(np.vstack([flow, np.ones(states)]), np.eye(states + 1)[-1], rcond=None)[0]
        return np.maximum(found, 0) / np.maximum(found, 0).sum()

    @cached_property
    def unigram(self) -> Array:
        """How often each symbol occurs, (V,)."""
        return self.start @ self.step.sum(2)

    @cached_property
    def _cumulative(self) -> Array:
        total = np.cumsum(self.step.reshape(len(self.step), -1), axis=1)
        return total / total[:, -1:]

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> Tokens:
        """(batch, length) symbols."""
        state = np.searchsorted(np.cumsum(self.start)[:-1], rng.random(batch), side="right")
        found = np.empty((batch, length), np.int64)
        for t, u in enumerate(rng.random((length, batch))):
            both = (u[:, None] >= self._cumulative[state]).sum(1)
            found[:, t], state = np.divmod(both, len(self.step))
        return found

    def task(self, rng: np.random.Generator, batch: int, length: int) -> tuple[Tokens, Tokens]:
        """(inputs, targets), each (batch, length): every target is the next symbol."""
        stream = self.draw(rng, batch, length + 1)
        return stream[:, :-1].copy(), stream[:, 1:].copy()

    def predict(self, tokens: npt.ArrayLike) -> Array:
        """p(x_(t+1) = v | x_0 … x_t), (B, N, V) of tokens (B, N): what no model surpasses.

        Zeros after a path that the source cannot take. ValueError for tokens that are not of the alphabet.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or tokens.min(initial=0) < 0 or tokens.max(initial=0) >= self.symbols:
            raise ValueError(f"tokens must be (batch, length) below {self.symbols}, got {tokens.shape} of "
                             f"{tokens.min(initial=0)}..{tokens.max(initial=0)}")  # fmt: skip
        emit, alpha = self.step.sum(2), np.tile(self.start, (len(tokens), 1))
        found = np.empty((*tokens.shape, self.symbols))
        for t, here in enumerate(tokens.T):
            for x in np.unique(here):
                alpha[here == x] = alpha[here == x] @ self.step[:, x]
            total = alpha.sum(1, keepdims=True)
            alpha = np.divide(alpha, total, out=np.zeros_like(alpha), where=total > 0)
            found[:, t] = alpha @ emit
        return found

    def log_probability(self, tokens: npt.ArrayLike) -> Array:
        """log p(x_t | x_<t) in nats, (B, N); a path's is the sum. -inf from where the source cannot go on."""
        tokens = np.asarray(tokens)
        after = self.predict(tokens)[:, :-1]
        first = np.broadcast_to(self.unigram, (len(tokens), 1, self.symbols))
        p = np.take_along_axis(np.concatenate([first, after], axis=1), tokens[..., None], axis=2)[..., 0]
        with np.errstate(divide="ignore"):
            return np.log(p)

    def best_loss(self, inputs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
        """Nats per target of the true predictions that see the window alone: the floor of a model on these draws."""
        p = np.take_along_axis(self.predict(inputs), np.asarray(targets)[..., None], axis=2)
        return -float(np.log(p).mean())


def hmm(symbols: int, states: int = 8, concentration: float = 0.2, seed: int = 0) -> Hidden:
    """A hidden Markov source; the smaller `concentration`, the more each state keeps to few symbols and few states."""
    rng = np.random.default_rng(seed)
    moves = SLIP / states + (1 - SLIP) * rng.dirichlet(np.full(states, concentration), states)
    emits = rng.dirichlet(np.full(symbols, concentration), states)
    return Hidden(emits[:, :, None] * moves[:, None, :])


def brackets(symbols: int, depth: int = 4, open: float = 0.5, seed: int = 0) -> Hidden:
    """Nested brackets; ValueError for an odd number of symbols or for more than 400 stacks."""
    kinds, odd = divmod(symbols, 2)
    count = sum(kinds**d for d in range(depth + 1))
    if odd or count > MOST:
        raise ValueError(f"brackets take an even number of symbols and at most {MOST} stacks; "
                         f"got {symbols} symbols, {count} stacks of depth ≤ {depth}")  # fmt: skip
    inside = np.random.default_rng(seed).dirichlet(np.ones(kinds), kinds + 1)  # the last row: around it is nothing
    stacks: list[tuple[int, ...]] = [()]
    for stack in stacks:
        if len(stack) < depth:
            stacks.extend((*stack, kind) for kind in range(kinds))  # the list grows while it is read
    number = {stack: i for i, stack in enumerate(stacks)}
    step = np.zeros((len(stacks), symbols, len(stacks)))
    for stack, i in number.items():
        opens = 1.0 if not stack else 0.0 if len(stack) == depth else open
        if opens:
            for kind, p in enumerate(inside[stack[-1] if stack else kinds]):
                step[i, 2 * kind, number[(*stack, kind)]] = opens * p
        if stack:
            step[i, 2 * stack[-1] + 1, number[stack[:-1]]] = 1 - opens
    return Hidden(step)


@lru_cache(maxsize=32)
def source(spec: str, symbols: int) -> Hidden:
    """ "hmm:states=8:seed=3" or "brackets:depth=4" over an alphabet; ValueError as `check`."""
    name, options = check(spec)
    return (hmm if name == "hmm" else brackets)(symbols, **options)


def check(spec: str) -> tuple[str, dict[str, Any]]:
    """(name, options) of a specification; ValueError names what is wrong and lists the choices."""
    name, options = read("hidden", spec, OPTIONS)
    within(RANGES, options)
    return name, options
