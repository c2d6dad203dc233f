"""Training data by one interface: texts as bytes, words or tags, split by document, and generated data. (Ours.)

1. *Split.* By document, 90/5/5 of the tokens, the same for bytes, words and tags (see `splits`). A split's stream is
   its documents in the order in which they were dealt.
2. *Train.* Each epoch cuts the stream into consecutive windows of `length` from an offset in [0, length) and shuffles
   them; both are drawn from (seed, epoch). Batch number `step` is thus a function of its arguments: a resumed run
   sees the same data.
3. *Held out.* Consecutive windows from the start of the split's stream, the same for everybody.

| kind | a token is | its target | chance |
|---|---|---|---|
| bytes | a byte: tokens joined by spaces, documents by line breaks | the next byte | share of the commonest byte |
| words | one of the commonest lower-case types, else its tag's symbol | the next word | share of the commonest symbol |
| tags | as in words | its universal tag | share of the commonest tag |
| recall | a key or a value (see `synthetic`) | a query key's value | commonest of the values given: `recall_chance` |
| copy | a symbol or the separator (see `synthetic`) | the next symbol, second half | 1 / symbols, the string unseen |
| echo | a symbol (see `echo`) | the next symbol | 1 / symbols, the past unseen |
| hidden | a symbol of a known source (see `hidden`) | the next symbol | share of the commonest symbol |
| tasks | a symbol (see `finite_tasks`) | the next symbol | 1 / symbols, the sequence unseen |

Shares are those of the train split, of hidden the source's own. The test split of tasks has *unseen* tasks, one for
each sequence; train and valid have those of the pool. For copy, counting the string's symbols and ticking off those
already copied beats chance without knowing any place: 0.38 for 64 symbols of an alphabet of 4, less for longer strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from . import echo, finite_tasks, hidden
from .load import load_text
from .splits import SPLITS, Spans, split_documents
from .synthetic import IGNORE, Tokens, copy, recall, recall_chance
from .text import Text

GENERATED = ("recall", "copy", "echo", "hidden", "tasks")
KINDS = ("bytes", "words", "tags", *GENERATED)
UNIVERSAL_TAGS = (".", "ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "VERB", "X")  # sorted
NOMINAL = {"train": 2**20, "valid": 2**16, "test": 2**16}  # tokens of a synthetic task, which has no end
Stream = tuple[np.ndarray, np.ndarray]  # inputs (N,), targets (N,): small integers
_Draw = Callable[[np.random.Generator, int, int], tuple[Tokens, Tokens]]  # (generator, batch, length)

__all__ = [
    "IGNORE", "KINDS", "SPLITS", "UNIVERSAL_TAGS", "Data", "DataConfig", "best_loss", "load_data", "repeated_bigrams",
]  # fmt: skip


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    kind        one of `KINDS`
    corpus      a name or path for `load_text`; "" for recall and copy; for echo, hidden and tasks a law (below)
    vocabulary  words, tags: how many types are symbols of their own, by their count in the train split
    pairs       recall: key-value pairs of a sequence
    symbols     recall: number of keys, and of values (≥ pairs); copy, echo, hidden, tasks: alphabet, small in copy

    A law of echo: "power:exponent=1.5", or "exponential:rate=0.1:max_gap=64:chance=0.8" (see `echo.Echo`); of hidden:
    "hmm:states=8:concentration=0.2:seed=0" or "brackets:depth=4:open=0.5:seed=0"; of tasks: `urn:tasks=32:seed=0` or
    "chain:…" (tasks=0: endlessly many). Raises ValueError for a value out of its range, with the choices.
    """

    kind: str = "bytes"
    corpus: str = "brown"
    vocabulary: int = 4096
    pairs: int = 8
    symbols: int = 32

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.kind in ("echo", "hidden", "tasks"):
            {"echo": echo.parse, "hidden": hidden.check, "tasks": finite_tasks.parse}[self.kind](self.corpus)
        elif (self.corpus == "") != (self.kind in ("recall", "copy")):
            wanted = "corpus=''" if self.corpus else "a corpus: a name or path for load_text"
            raise ValueError(f"kind {self.kind!r} takes {wanted}, got {self.corpus!r}")
        least = {"vocabulary": 1, "pairs": 1, "symbols": max(2, self.pairs if self.kind == "recall" else 0)}
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")


@dataclass(frozen=True, eq=False)
class Data:
    """Training and held-out windows of one task; made by `load_data`.

    vocab_size    number of input symbols;  symbols: their names ("a", "\\n"; "beautiful", "<NOUN>"; "k3", "v7")
    outputs       None: the target is a symbol; else the number of classes, named by `output_names`
    causal        whether a place may only look back (False for tags)
    chance        accuracy of the best guess that ignores what has to be found (see the module's table)
    source, licence, note: the text's ("" for the synthetic tasks), and its `Text.origin` (None for them)
    """

    config: DataConfig
    vocab_size: int
    outputs: int | None
    causal: bool
    chance: float
    source: str
    licence: str
    note: str
    symbols: list[str] = field(repr=False)
    output_names: list[str] = field(repr=False)
    origin: dict[str, Any] | None = field(default=None, repr=False)
    _streams: Mapping[str, Stream] = field(default_factory=dict, repr=False)
    _task: _Draw | None = field(default=None, repr=False)
    _unseen: _Draw | None = field(default=None, repr=False)  # the test split's, where it is another

    def size(self, split: str) -> int:
        """Tokens of a split; for generated data, which never end, the nominal number in `NOMINAL`."""
        _check_split(split)
        return NOMINAL[split] if self._task else len(self._streams[split][0])

    def epochs(self, tokens: int, length: int) -> float:
        """How often `tokens` tokens of training, in windows of `length`, go through the train split.

        0 for generated data: no sequence comes back by design.
        """
        return 0.0 if self._task else tokens / (self._windows(length) * length)

    def batch(self, step: int, batch: int, length: int, seed: int) -> tuple[Tokens, Tokens]:
        """Training batch number `step` ≥ 0: (inputs, targets), each int64 (batch, length). Pure in its arguments.

        Every epoch holds the same number of windows, each used once; a batch may reach into the next epoch. Raises
        ValueError for a train split shorter than two windows.
        """
        if min(step, seed) < 0 or min(batch, length) < 1:
            got = f"step {step}, batch {batch}, length {length}, seed {seed}"
            raise ValueError(f"step and seed start at 0, batch and length at 1; got {got}")
        if self._task:
            return self._task(_rng(seed, 0, step), batch, length)
        windows = self._windows(length)
        numbers = np.arange(step * batch, (step + 1) * batch)
        starts = np.empty(batch, np.int64)
        for epoch in np.unique(numbers // windows).tolist():
            here = numbers // windows == epoch
            starts[here] = _epoch(seed, epoch, windows, length)[numbers[here] % windows]
        return self._cut("train", starts, length)

    def heldout(self, split: str, length: int, tokens: int) -> tuple[Tokens, Tokens]:
        """(inputs, targets), each int64 (n, length): at most `tokens` tokens of a split, but at least one window.

        Consecutive windows from the start of the split's stream; of generated data, fixed draws of a generator that
        training never uses. Raises ValueError for a split shorter than one window.
        """
        _check_split(split)
        if length < 1:
            raise ValueError(f"length starts at 1, got {length}")
        wanted = max(1, tokens // length)
        if self._task:
            draw = self._unseen if self._unseen and split == "test" else self._task
            return draw(_rng(0, 1 + SPLITS.index(split)), wanted, length)
        size = len(self._streams[split][0])
        there = self._usable(split) // length
        if there < 1:
            raise ValueError(f"the {split} split holds {size} tokens: too few for one window of {length} with targets")
        return self._cut(split, np.arange(min(wanted, there)) * length, length)

    def _windows(self, length: int) -> int:
        # With any offset below `length` so many windows fit: an epoch must not be longer for one seed than another.
        windows = (self._usable("train") - length + 1) // length
        if windows < 1:
            size = self.size("train")
            raise ValueError(f"the train split holds {size} tokens: too few for windows of {length} at any offset")
        return windows

    def _usable(self, split: str) -> int:
        return len(self._streams[split][0]) - (self.outputs is None)  # the last token has no next one

    def _cut(self, split: str, starts: np.ndarray, length: int) -> tuple[Tokens, Tokens]:
        inputs, targets = self._streams[split]
        places = starts[:, None] + np.arange(length)
        return inputs[places].astype(np.int64), targets[places + (self.outputs is None)].astype(np.int64)


@lru_cache(maxsize=4)
def load_data(config: DataConfig) -> Data:
    """The data of a configuration; the last four stay in memory.

    Raises ValueError for a text too short to split, or without tags for kind "tags"; else as `load_text`.
    """
    if config.kind in GENERATED:
        return _synthetic(config)
    text = load_text(config.corpus)
    spans, note = split_documents(text)
    make = {"bytes": _bytes, "words": _words, "tags": _tags}[config.kind]
    streams, symbols, names = make(text, spans, config.vocabulary)
    chance = np.bincount(streams["train"][1]).max() / len(streams["train"][1])
    return Data(
        config, len(symbols), len(names) or None, not names, float(chance), text.source, text.licence,
        "; ".join(filter(None, (text.note, note))), symbols, names, text.origin, streams,
    )  # fmt: skip


def best_loss(config: DataConfig, length: int, tokens: int, split: str = "test") -> echo.BestLoss:
    """Echo: nats per token that no model undercuts on `heldout(split, length, tokens)`, and what one head can reach.

    Both know the law; see `echo.BestLoss`. Raises ValueError for another kind of data.
    """
    if config.kind != "echo":
        raise ValueError(f"the best loss is known for kind 'echo', not for {config.kind!r}")
    _check_split(split)
    law, rng = echo.parse(config.corpus), _rng(0, 1 + SPLITS.index(split))
    return law.best_loss(rng, max(1, tokens // length), length, symbols=config.symbols)


def repeated_bigrams(tokens: npt.ArrayLike, targets: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
    """Where the target completes a bigram (token, target) that occurred earlier in the same window: "recall tokens".

    tokens, targets: (n, length), next-token data as `Data.heldout` gives them; returns bool (n, length). Without
    targets they are the tokens one place on, and the last place, whose target is not known, is False.
    """
    tokens = np.asarray(tokens)
    if targets is None:
        inner = repeated_bigrams(tokens[:, :-1], tokens[:, 1:])
        return np.pad(inner, ((0, 0), (0, 1)))
    targets = np.asarray(targets)
    bigram = tokens * (targets.max(initial=0) + 1) + targets
    order = np.argsort(bigram, axis=1, kind="stable")  # stable: the first of equals is the earliest
    ordered = np.take_along_axis(bigram, order, axis=1)
    again = np.zeros(bigram.shape, bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


Made = tuple[dict[str, Stream], list[str], list[str]]  # streams, names of the symbols, names of the outputs


def _bytes(text: Text, spans: Spans, vocabulary: int) -> Made:
    joined = {name: "\n".join(" ".join(text.tokens[s]) for s in parts).encode() for name, parts in spans.items()}
    streams = {name: np.frombuffer(raw, np.uint8) for name, raw in joined.items()}
    return {name: (raw, raw) for name, raw in streams.items()}, [repr(bytes([i]))[2:-1] for i in range(256)], []


def _words(text: Text, spans: Spans, vocabulary: int) -> Made:
    types, codes = text.vocabulary
    train = np.concatenate([codes[s] for s in spans["train"]])
    seen, first, count = np.unique(train, return_index=True, return_counts=True)
    kept = seen[np.lexsort((first, -count))][:vocabulary]
    symbol = np.full(len(types), -1, np.int32)
    symbol[kept] = np.arange(len(kept))
    symbols = symbol[codes]
    rare = np.full(len(codes), len(kept), np.int32) if text.tags is None else len(kept) + _tag_numbers(text)
    symbols = np.where(symbols < 0, rare, symbols).astype(np.int32)
    # All twelve tags, used or not: the size of the model must not depend on the corpus.
    rest = ["<unk>"] if text.tags is None else [f"<{tag}>" for tag in UNIVERSAL_TAGS]
    streams = {name: np.concatenate([symbols[s] for s in parts]) for name, parts in spans.items()}
    return {name: (s, s) for name, s in streams.items()}, [types[i] for i in kept] + rest, []


def _tags(text: Text, spans: Spans, vocabulary: int) -> Made:
    if text.tags is None:
        raise ValueError(f"{text.name} has no tags, which kind 'tags' needs; brown, treebank and generated have them")
    words, symbols, _ = _words(text, spans, vocabulary)
    numbers = _tag_numbers(text)
    streams = {name: (words[name][0], np.concatenate([numbers[s] for s in parts])) for name, parts in spans.items()}
    return streams, symbols, list(UNIVERSAL_TAGS)


def _tag_numbers(text: Text) -> np.ndarray:
    names, codes = text.tag_codes
    return np.array([UNIVERSAL_TAGS.index(tag) for tag in names], np.int32)[codes]


def _synthetic(config: DataConfig) -> Data:
    numbers, unseen = range(config.symbols), None
    task: Callable[..., tuple[Tokens, Tokens]]
    if config.kind == "hidden":
        known = hidden.source(config.corpus, config.symbols)
        symbols, chance, task = [f"s{i}" for i in numbers], float(known.unigram.max()), known.task
        if config.corpus.startswith("brackets"):
            symbols = [f"{side}{i}" for i in range(config.symbols // 2) for side in "()"]
    elif config.kind == "tasks":
        symbols, chance = [f"s{i}" for i in numbers], 1 / config.symbols
        task = partial(finite_tasks.parse(config.corpus).task, symbols=config.symbols)
        unseen = partial(task, unseen=True)
    elif config.kind == "recall":
        symbols = [f"{part}{i}" for part in "kv" for i in numbers]
        chance = recall_chance(config.pairs, config.symbols)
        task = partial(recall, pairs=config.pairs, symbols=config.symbols)
    else:
        symbols, chance = [f"s{i}" for i in numbers], 1 / config.symbols
        task = partial(copy if config.kind == "copy" else echo.parse(config.corpus).task, symbols=config.symbols)
        symbols += ["|"] if config.kind == "copy" else []
    return Data(config, len(symbols), None, True, chance, "", "", "", symbols, [], _task=task, _unseen=unseen)


@lru_cache(maxsize=8)
def _epoch(seed: int, epoch: int, windows: int, length: int) -> np.ndarray:
    """Where the windows of an epoch start, shuffled, (windows,)."""
    rng = _rng(seed, 0, epoch)
    starts = rng.integers(length) + length * rng.permutation(windows)
    starts.setflags(write=False)  # shared by all who ask
    return starts


def _rng(seed: int, *key: int) -> np.random.Generator:
    # Training draws under keys (0, step), held-out data under (1,), (2,), (3,): different streams whatever the seed.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
