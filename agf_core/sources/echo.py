"""Echo: a stream of symbols whose dependence on its past is exactly a planted law of distance.

Raftery's mixture transition distribution (1985, J. R. Stat. Soc. B 47, 528-539; identity as transition matrix): x_t is,
with probability c (`chance`), a copy of x_(t-r), r drawn from the law P(r), r = 1..max_gap, and else a fresh symbol,
drawn evenly from V. So

    p(x_t = a | past) = (1 - c) / V + c · Σ_r P(r) · 1[x_(t-r) = a]                                                (1)

is the best predictor: one head of attention without association, whose field is P. *Mind the step*: a place that
predicts the next symbol finds x_(t+1-r) at distance r - 1 of its own, so the planted r^-θ is AGF's (1 + d)^-θ over the
distances d = 0, 1, … between query and key.

A symbol equals its source's, its source's source's …, up to a fresh one, its *root*: two symbols are equal if they
share the root, and otherwise with probability 1/V. With ρ(r) for the probability that places r apart share one
(Yule and Walker's equations, ours for this case),

    ρ(0) = 1,   ρ(r) = c · Σ_j P(j) ρ(|r - j|),    P(x_t = a, x_(t-r) = b) = ρ(r) 1[a = b] / V + (1 - ρ(r)) / V²    (2)

so the dependence of pairs is known exactly as well (`same_root`, `pair_information`). It holds indirect dependence:
copies of copies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .generated import LAWS, gap_law
from .synthetic import Tokens

Curve = npt.NDArray[np.float64]
SETTLED = 1e-3  # share of chains of copies that may reach back beyond the warm-up
OPTION = {"power": "exponent", "exponential": "rate"}


class BestLoss(NamedTuple):
    """Cross-entropy in nats per token of two predictors that know the law, on the same draws.

    past    sees max_gap symbols whatever the window: no model does better, but for chance in the draws
    window  sees the window alone and takes every symbol before it for evenly distributed: what one head can do
    """

    past: float
    window: float


@dataclass(frozen=True)
class Echo:
    """The planted law; `parse` makes one from a specification. Raises ValueError for an option out of its range.

    law       "power" (P(r) ∝ r^-exponent) or "exponential" (P(r) ∝ e^(-rate r)), r = 1..max_gap
    chance    c, the probability that a symbol is a copy
    """

    law: str = "power"
    exponent: float = 1.0
    rate: float = 0.1
    max_gap: int = 64
    chance: float = 0.8

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ValueError(f"unknown law {self.law!r}; expected one of {', '.join(LAWS)}")
        ranges = {"exponent": (0.0, 10.0), "rate": (0.0, 10.0), "max_gap": (1, 1000), "chance": (0.0, 0.95)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low}..{high}, got {getattr(self, name)}")

    @cached_property
    def weights(self) -> Curve:
        """P(r), r = 1..max_gap."""
        return gap_law(self.law, self.max_gap, exponent=self.exponent, rate=self.rate)

    @cached_property
    def _cumulative(self) -> npt.NDArray[np.float32]:
        return np.cumsum(self.weights)[:-1].astype(np.float32)

    @cached_property
    def warm_up(self) -> int:
        """Symbols drawn before those that are shown: max_gap fresh ones and as many more as the law needs to settle.

        They are enough when fewer than one chain in a thousand (`SETTLED`) from the first symbol shown reaches back to
        the fresh ones. The chain stops at a place with probability c · P(r > places left), summed over the places.
        """
        visits, beyond = [1.0], np.append(1 - np.cumsum(self.weights), 0.0)  # beyond[k]: P(r > k + 1)
        while True:
            recent = np.array(visits[: -self.max_gap - 1 : -1])  # at the deepest place, one above, …
            left = np.concatenate([[1.0], beyond])[: len(recent)]
            if self.chance * float(recent @ left) <= SETTLED:
                return self.max_gap + len(visits)
            visits.append(self.chance * float(recent @ self.weights[: len(recent)]))

    def draw(self, rng: np.random.Generator, batch: int, length: int, symbols: int) -> Tokens:
        """(batch, max_gap + length) settled symbols below `symbols`: `length` and the past that they may copy."""
        shape = batch, self.warm_up + self.max_gap + length
        gap = 1 + np.searchsorted(self._cumulative, rng.random(shape, np.float32), side="right")
        copied = rng.random(shape, np.float32) < self.chance
        copied[:, : self.max_gap] = False
        root = np.arange(copied.size) - np.where(copied, gap, 0).ravel()
        # Jumping from each symbol's source to that source's source halves the way to the root: no loop over places.
        while (root != (further := root[root])).any():
            root = further
        return rng.integers(0, symbols, copied.size)[root].reshape(shape)[:, self.warm_up :]

    def task(self, rng: np.random.Generator, batch: int, length: int, *, symbols: int) -> tuple[Tokens, Tokens]:
        """(inputs, targets), each (batch, length): every target is the next symbol."""
        stream = self.draw(rng, batch, length + 1, symbols)[:, self.max_gap :]
        return stream[:, :-1].copy(), stream[:, 1:].copy()

    def best_loss(self, rng: np.random.Generator, batch: int, length: int, *, symbols: int) -> BestLoss:
        """What equation (1) loses on the same draws as `task` makes from the same generator."""
        stream = self.draw(rng, batch, length + 1, symbols)
        targets = stream[:, self.max_gap + 1 :]
        past = np.full(targets.shape, (1 - self.chance) / symbols)
        window = past.copy()
        for r, weight in enumerate(self.chance * self.weights, start=1):
            source = stream[:, self.max_gap + 1 - r : stream.shape[1] - r]
            found = weight * (source == targets)
            past += found
            found[:, : r - 1] = weight / symbols  # these sources lie before the window
            window += found
        return BestLoss(-float(np.log(past).mean()), -float(np.log(window).mean()))

    def same_root(self, window: int) -> Curve:
        """ρ(r) of equation (2), r = 1..window: the linear system up to max_gap, then its own recursion."""
        size = self.max_gap
        lag = np.abs(np.arange(1, size + 1)[:, None] - np.arange(1, size + 1))  # |r - j|
        system = np.eye(size)
        for j in range(size):  # ρ(|r - j|) is unknown but where r = j
            inner = lag[:, j] > 0
            np.subtract.at(system, (np.flatnonzero(inner), lag[inner, j] - 1), self.chance * self.weights[j])
        found = list(np.linalg.solve(system, self.chance * self.weights))
        while len(found) < window:
            found.append(self.chance * float(self.weights @ found[: -size - 1 : -1]))
        return np.array(found[:window])

    def pair_information(self, window: int, symbols: int) -> Curve:
        """Exact mutual information of x_t and x_(t-r) in bits, r = 1..window."""
        rho = self.same_root(window)
        same, other = rho / symbols + (1 - rho) / symbols**2, (1 - rho) / symbols**2
        return np.asarray(
            symbols * same * np.log2(same * symbols**2)
            + symbols * (symbols - 1) * other * np.log2(np.maximum(other, 1e-300) * symbols**2)
        )


def parse(spec: str) -> Echo:
    """ "power:exponent=1.5:max_gap=32" to an `Echo`; ValueError names what is wrong and lists the choices."""
    law, *parts = spec.split(":")
    if law not in LAWS:
        raise ValueError(f"echo {spec!r} starts with {law!r}; expected a law ({', '.join(LAWS)}), then options")
    kinds = {f.name: int if f.name == "max_gap" else float for f in fields(Echo) if f.name != "law"}
    kinds = {name: kind for name, kind in kinds.items() if name == OPTION[law] or name not in OPTION.values()}
    options: dict[str, float] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in kinds or not equals:
            raise ValueError(f"echo {spec!r}: {part!r} is none of {', '.join(kinds)} with =value")
        try:
            options[key] = kinds[key](value)
        except ValueError:
            raise ValueError(f"echo {spec!r}: {key} takes {kinds[key].__name__}, got {value!r}") from None
    return Echo(law, **options)  # type: ignore[arg-type]
