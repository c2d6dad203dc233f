"""A language model's forgetting curve: how likely an item is at a probe, by how long ago it was last there (ours).

An item (a word; for models of bytes its letters) is written over a stretch of filler at lag L before the probe place.
All else stays: the same fillers at every lag, the same last tokens before the probe, and the same length. Recall at a
lag is what this does to the item's log-odds at the probe, against another item of the same length in its place:

    recall(L) = log-odds(item | item at L) − log-odds(item | another item at L)       nats, mean over fillers

A word's probability is the product of its bytes'. Fillers are held-out text as it stands; in the language `echo`, where
nothing but copies tells one symbol from another, they are even draws of symbols that are no items. There the answer is
known for the best predictor, and `Reminder` is that predictor: it, and planted laws, calibrate the instrument.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from agf_core.analysis import curve_grids
from agf_core.fitting.laws import Array
from agf_core.model import Cache, Transformer
from agf_core.runs import RunConfig
from agf_core.sources import echo
from agf_core.sources.datasets import Data, load_data

REACH = 0.8  # of the context: the farthest lag in text
BEFORE = (1, 4)  # tokens before the probe that are never written over, its own context: symbols, bytes
SPACE = 32
LENGTH = 5  # letters of a byte model's items
CONTROLS = 3  # other items in an item's place
ROWS = 128  # texts at a time
SYMBOLS = 32  # of a language of copies: what `DataConfig` takes by default


@dataclass(frozen=True)
class Design:
    """How many items, lags and fillers."""

    items: int
    lags: int
    fillers: int


def design(config: RunConfig) -> Design:
    """As much as the run's held-out tokens say of its profile."""
    if config.heldout < 2**13:
        return Design(6, 9, 8)
    return Design(12, 9, 24) if config.heldout < 2**16 else Design(24, 12, 32)


Stimuli = tuple[Tensor, Tensor, tuple[str, ...]]  # fillers (F, C), items (I, m), the items' names


class Model(Protocol):
    """What the instrument asks of a model: logits (B, N, V) of tokens (B, N), with a cache where items are long."""

    def __call__(self, tokens: Tensor, *, cache: Cache | None = None) -> Tensor: ...


class Reminder:
    """p(s | past) = floor + Σ_r gains[r-1] · 1[s stood r places back], for `symbols` symbols: no training, no context.

    The best predictor of the language `echo`: gains c·P(r), floor (1 − c)/symbols. `of_recall` plants a curve instead.
    """

    def __init__(self, gains: Array, symbols: int) -> None:
        self.gains, self.symbols = torch.as_tensor(gains, dtype=torch.float64), symbols
        self.floor = (1 - float(self.gains.sum())) / symbols
        if self.floor <= 0 or (self.gains < 0).any():
            raise ValueError(f"gains must be ≥ 0 and sum to less than 1, got a sum of {float(self.gains.sum()):.3g}")

    @classmethod
    def of_recall(cls, recall: Array, symbols: int) -> Reminder:
        """The predictor whose recall at lag 1, 2, … is `recall` (nats, ≥ 0)."""
        low, high = 0.0, 1 / symbols
        for _ in range(60):  # the floor at which all probabilities sum to one
            floor = (low + high) / 2
            gains = _sigmoid(np.log(floor / (1 - floor)) + recall) - floor
            low, high = (floor, high) if symbols * floor + gains.sum() < 1 else (low, floor)
        return cls(gains, symbols)

    @classmethod
    def best(cls, law: str, symbols: int = SYMBOLS) -> Reminder:
        """The best predictor of a language `echo` (its specification, as in "power:exponent=1")."""
        about = echo.parse(law)
        return cls(about.chance * about.weights, symbols)

    def recall(self, lags: Array) -> Array:
        """What the instrument must find, exactly: nats at `lags`, 0 beyond the gains."""
        at = np.concatenate([self.gains.numpy(), [0.0]])[np.minimum(np.asarray(lags, dtype=int) - 1, len(self.gains))]
        return np.asarray(_logit(self.floor + at) - _logit(np.asarray(self.floor)))

    def __call__(self, tokens: Tensor, *, cache: Cache | None = None) -> Tensor:
        # Only the last place is asked for: (B, 1, V). Places before the first token repeat no symbol: the floor's.
        batch, length = tokens.shape
        p = torch.full((batch, self.symbols), self.floor, dtype=torch.float64)
        reach = min(length, len(self.gains))
        p.scatter_add_(1, tokens.flip(1)[:, :reach], self.gains[:reach].expand(batch, -1))
        return p.log()[:, None]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _logit(p: Array) -> Array:
    return np.asarray(np.log(p) - np.log1p(-p))


@dataclass(frozen=True)
class Recall:
    """mean, se (items, lags): nats, over fillers; lags (tokens); items: their names."""

    mean: Array
    se: Array
    lags: Array
    items: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, five digits."""
        rows = {n: [[float(f"{v:.5g}") for v in row] for row in getattr(self, n)] for n in ("mean", "se")}
        return {**rows, "lags": self.lags.tolist(), "items": list(self.items)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Recall:
        """The inverse of `to_dict`."""
        mean, se, lags = (np.array(given[n]) for n in ("mean", "se", "lags"))
        return cls(mean, se, lags, tuple(given["items"]))


@torch.no_grad()
def recall(
    model: Model, fillers: Tensor, items: Tensor, lags: Array, names: tuple[str, ...], margin: int = 0
) -> Recall:
    """The forgetting curves of `items` (I, m) in `fillers` (F, C), whose end is the probe place.

    lags (K,): tokens from the item's first symbol back from the probe place. margin: 1 writes a space on both sides of
    an item. Raises ValueError for a lag that would write over the probe's context or past the filler's start.
    """
    (count, size), length = items.shape, fillers.shape[1]
    low, high = nearest(size, margin), length - margin
    if lags.min() < low or lags.max() > high or count < 2:
        raise ValueError(f"needs ≥ 2 items and lags in {low}..{high} for items of {size}; got {count} and {lags}")
    scored = (np.arange(count)[:, None] - np.arange(min(CONTROLS, count - 1) + 1)) % count  # (I, S): where item i is
    odds = np.empty((count, len(lags), scored.shape[1], len(fillers)))  # of an item: placed itself, then others
    for j, lag in enumerate(lags.tolist()):
        text, at = fillers.repeat(count, 1, 1), length - lag  # (I, F, C)
        if margin:
            text[..., [at - 1, at + size]] = SPACE
        text[..., at : at + size] = items[:, None]
        asked = items[scored].repeat_interleave(len(fillers), 0)  # (I · F, S, m)
        found = _scores(model, text.flatten(0, 1), asked).reshape(count, len(fillers), -1)
        for k in range(scored.shape[1]):
            odds[scored[:, k], j, k] = found[:, :, k]
    gain = odds[:, :, 0] - odds[:, :, 1:].mean(2)  # (I, K, F)
    return Recall(gain.mean(2), gain.std(2, ddof=1) / np.sqrt(gain.shape[2]), np.asarray(lags), names)


def nearest(size: int, margin: int) -> int:
    """The nearest lag that leaves the probe's own context as it is."""
    return size + BEFORE[margin]


def _scores(model: Model, text: Tensor, items: Tensor) -> Array:
    """Log-odds (R, S) of items (R, S, m) as what follows text (R, C)."""
    parts = []
    for some, asked in zip(text.split(ROWS), items.split(ROWS)):
        cache = Cache() if items.shape[2] > 1 else None
        first = model(some, cache=cache)[:, -1].double().log_softmax(-1)  # (R, V)
        log = first.gather(-1, asked[..., 0])
        for s in range(asked.shape[1]) if cache is not None else ():
            own = Cache()
            own.layers = dict(cache.layers)  # type: ignore[union-attr]  # the text has been read once, for all items
            rest = model(asked[:, s, :-1], cache=own).double().log_softmax(-1)
            log[:, s] += rest.gather(-1, asked[:, s, 1:, None])[..., 0].sum(-1)
        parts.append(log - torch.log1p(-log.exp()))
    return torch.cat(parts).numpy()


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """The forgetting curves of a trained model, in text or symbols that it was not trained on."""
    data, wanted = load_data(config.data), design(config)
    context = int(config.model["context"])
    rng = np.random.default_rng(0)  # every model of a kind sees the same items in the same fillers
    farthest = REACH * context
    if config.data.kind == "echo":
        fillers, items, names = symbols(data, context, wanted, rng)
        farthest = min(farthest, echo.parse(config.data.corpus).max_gap)  # nothing is copied from farther back
    else:
        fillers, items, names = words(data, config.split, context, wanted, rng)
    margin = int(config.data.kind == "bytes")
    return recall(model, fillers, items, lags(items.shape[1], margin, farthest, wanted.lags), names, margin).to_dict()


def lags(size: int, margin: int, farthest: float, count: int) -> Array:
    """Lags (tokens), evenly in log from the nearest possible to the farthest."""
    return np.unique(np.round(np.geomspace(nearest(size, margin), farthest, count)).astype(int))


def symbols(data: Data, context: int, wanted: Design, rng: np.random.Generator) -> Stimuli:
    """Echo: a quarter of the symbols are items, the fillers are even draws of the others."""
    items = np.arange(data.vocab_size * 3 // 4, data.vocab_size)
    fillers = rng.integers(0, items[0], (wanted.fillers, context - 1))
    return torch.from_numpy(fillers), torch.from_numpy(items[:, None]), tuple(data.symbols[i] for i in items)


def words(data: Data, split: str, context: int, wanted: Design, rng: np.random.Generator) -> Stimuli:
    """Text: words of nearly one frequency in stretches of a split, for bytes of one length and before a space.

    Bytes: the commonest words of five letters, the very commonest left out. Words: those from the 300th in frequency
    on, of five letters or more. Common enough to be known, rare enough to be news.
    """
    stream = data.heldout(split, context, data.size(split))[0].ravel()
    if data.config.kind == "bytes":
        ranked = _common(data)[wanted.items // 2 :][: wanted.items]
        items, names = np.array([list(w) for w in ranked]), tuple(w.decode() for w in ranked)
        places = np.flatnonzero(stream == SPACE) + 1
    else:
        known = [i for i, w in enumerate(data.symbols[: data.config.vocabulary]) if w.isalpha() and len(w) >= LENGTH]
        chosen = [i for i in known if i >= 300][: wanted.items] or known[: wanted.items]
        items, names = np.array(chosen)[:, None], tuple(data.symbols[i] for i in chosen)
        places = np.arange(len(stream))
    length = context - items.shape[1]
    places = places[places >= length]
    chosen_places = rng.choice(places, min(wanted.fillers, len(places)), replace=False)
    windows = stream[chosen_places[:, None] - np.arange(length, 0, -1)]
    return torch.from_numpy(windows.astype(np.int64)), torch.from_numpy(items), names


@lru_cache(maxsize=4)
def _common(data: Data) -> list[bytes]:
    """The commonest words of the training text that may be items of a byte model."""
    train = data.heldout("train", 64, data.size("train"))[0].astype(np.uint8).tobytes()
    counted = Counter(w for w in train.split() if len(w) == LENGTH and w.isalpha() and w.islower())
    return [w for w, _ in counted.most_common(100)]


def configs(profile: str) -> list[RunConfig]:
    """The runs whose forgetting is measured for this profile."""
    return [c for grid in (curve_grids.forgetting, curve_grids.echoes) for part in grid(profile).values() for c in part]
