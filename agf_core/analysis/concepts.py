"""M7: do context vectors hold concepts? Probes on words never probed before, and retrieval by pooled vectors (ours).

*Probes.* Multinomial logistic regression from the context vector at a word to its class (noun, verb, adjective, adverb:
the word's commonest tag). Word types are split into five parts; each is asked about after a fit on the other four, so
that no probe can know its word. *Control task* (Hewitt & Liang 2019, arXiv 1909.03368): the same words, each type with
a class drawn at random. *Selectivity*: accuracy less that of the control; accuracy is the mean over classes. It is
measured in the untrained model too, whose vectors also show a word's neighbours. Beside it, two properties nearer to
meaning: whether a noun ends in s (mostly: more than one), and what a noun names (a person, a place, a time, a part of
the body: data/reference/noun_fields.csv).

*Retrieval.* A window's first half asks for its second half, among four: its own, that of the next window (mostly the
same document), and those of two windows elsewhere; chance .25. *Pooled*: the mean context vector of the half that asks
and of the half that is offered, each read alone, both less the mean of all, by cosine; *dot*: the same without that
correction, by dot product, as the paper's author ranks endings. *Model*: log p(half | first half) - log p(half),
for halves differ in how likely they are by themselves; the first symbol of a half that is read alone has its frequency
for its probability. *TF-IDF*: cosine of counts, weighted by the logarithm of how rare a symbol is in windows of the
train split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import optimize, special
from torch import Tensor
from torch.nn import functional as F

from agf_core.analysis.streams import context_vectors, stream
from agf_core.analysis.windows import Array
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources import load_text, read_table
from agf_core.sources.datasets import Data
from agf_core.sources.splits import split_documents

CLASSES = ("NOUN", "VERB", "ADJ", "ADV")
PURE, TIMES = 0.9, 8  # a word's share of its commonest tag, at least; occurrences of a word, at most
LEAST = 20  # word types of a class
NAMED = "what a noun names"
FOLDS = 5
RIDGE = 1e-3  # of a probe, per example
ITEMS = {"smoke": 16, "cpu": 240, "full": 800}
GROUPS = 20  # consecutive stretches of the held-out documents, which intervals resample
CHANCE = 0.25


def measure(
    model: Transformer, data: Data, windows: Tensor, contexts: tuple[Tensor, Tensor], config: RunConfig, profile: str
) -> dict[str, Any]:  # fmt: skip
    """probes: property → model → {accuracy, control} (None for a text without tags); types: how many;
    retrieval: see `retrieval`. JSON-ready."""
    found: dict[str, Any] = {"probes": {}, "types": 0}
    for name, kinds in properties(config, data).items():
        where = occurrences(windows.numpy(), kinds, config.train.seed)
        found["types"] = max(found["types"], len(np.unique(where[1])))
        if len(where[0]):
            found["probes"][name] = {
                which: probe(c.flatten(0, 1)[where[0]].numpy(), where[1], kinds, config.train.seed)
                for which, c in zip(("trained", "untrained"), contexts)
            }
    found["retrieval"] = retrieval(model, data, windows, ITEMS[profile], config.train.seed)
    return found


def properties(config: RunConfig, data: Data) -> dict[str, Array]:
    """Property → (V,) class of each word, -1 for none; from the tags of the train split; nothing without tags."""
    text = load_text(config.data.corpus)
    if text.tags is None:
        return {}
    number = {s: i for i, s in enumerate(data.symbols)}
    types, codes = text.vocabulary
    names, tags = text.tag_codes
    train = np.concatenate([np.arange(s.start, s.stop) for s in split_documents(text)[0]["train"]])
    count = np.zeros((len(types), len(names)), np.int64)
    np.add.at(count, (codes[train], tags[train]), 1)
    word_class, plural, field = (np.full(data.vocab_size, -1) for _ in range(3))
    for i, word in enumerate(types):
        if word not in number or not count[i].sum():
            continue
        top = count[i].argmax()
        if count[i, top] >= PURE * count[i].sum() and names[top] in CLASSES:
            word_class[number[word]] = CLASSES.index(names[top])
            if names[top] == "NOUN":
                plural[number[word]] = int(word.endswith("s") and not word.endswith("ss"))
    table = read_table("noun_fields")
    known = {number[w]: f for w, f in zip(table["word"], pd.factorize(table["names"], sort=True)[0]) if w in number}
    field[list(known)] = list(known.values())
    return {"word class": word_class, "more than one": plural, NAMED: field}


def occurrences(tokens: Array, kinds: Array, seed: int) -> tuple[Array, Array]:
    """(places among B · N, the word at each): at most `TIMES` of a word, of classes with `LEAST` words or more; the
    first half of a window, which has little before it, is left out."""
    flat = np.where(np.arange(tokens.shape[1]) < tokens.shape[1] // 2, -1, tokens).ravel()
    order = np.random.default_rng(seed).permutation(len(flat))
    order = order[(flat[order] >= 0) & (kinds[flat[order]] >= 0)]
    by_word = order[np.argsort(flat[order], kind="stable")]
    word = flat[by_word]
    rank = np.arange(len(word)) - np.searchsorted(word, word)
    by_word, word = by_word[rank < TIMES], word[rank < TIMES]
    there = np.unique(word)
    classes, number = np.unique(kinds[there], return_counts=True)
    kept = np.isin(kinds[word], classes[number >= LEAST])
    few = len(classes[number >= LEAST]) < 2
    return (by_word[:0], word[:0]) if few else (by_word[kept], word[kept])


def probe(vectors: Array, words: Array, kinds: Array, seed: int) -> dict[str, float]:
    """accuracy and control of a probe of vectors (n, d) at words (n,), on types that it was not fitted to."""
    rng = np.random.default_rng(seed)
    types, of = np.unique(words, return_inverse=True)
    label = np.unique(kinds[types], return_inverse=True)[1]
    part = rng.permutation(len(types)) % FOLDS
    vectors = (vectors - vectors.mean(0)) / vectors.std(0).clip(1e-9)
    found = {}
    for name, y in (("accuracy", label), ("control", rng.permutation(label))):
        said = np.empty(len(of), int)
        for fold in range(FOLDS):
            asked = part[of] == fold
            weights = logistic(vectors[~asked], y[of][~asked])
            said[asked] = (np.c_[vectors[asked], np.ones(asked.sum())] @ weights).argmax(1)
        right = said == y[of]
        found[name] = round(float(np.mean([right[y[of] == k].mean() for k in np.unique(y)])), 5)
    return found


def logistic(x: Array, y: Array, ridge: float = RIDGE) -> Array:
    """Multinomial logistic regression with a ridge, every class with the same weight: (d + 1, K), intercepts last."""
    classes = int(y.max()) + 1
    x1, one = np.c_[x, np.ones(len(x))], np.eye(classes)[y]
    weight = (1 / np.bincount(y, minlength=classes))[y] / classes

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(-1, classes)
        log = special.log_softmax(x1 @ w, axis=1)
        slope = x1.T @ (weight[:, None] * (np.exp(log) - one))
        slope[:-1] += ridge * w[:-1]
        return float(-(weight * log[np.arange(len(y)), y]).sum() + ridge / 2 * (w[:-1] ** 2).sum()), slope.ravel()

    start = np.zeros(x1.shape[1] * classes)
    return np.asarray(optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x).reshape(
        -1, classes
    )


def candidates(count: int, items: int, seed: int) -> tuple[Array, Array]:
    """(windows that ask (I,), windows whose second half is offered (I, 4)): its own first, the next, two elsewhere."""
    rng = np.random.default_rng(seed)
    asks = np.sort(rng.permutation(count - 1)[:items])
    far = (asks[:, None] + rng.integers(count // 4, count - count // 4, (len(asks), 2))) % count
    return asks, np.c_[asks, asks + 1, far]


def retrieval(model: Transformer, data: Data, windows: Tensor, items: int, seed: int) -> dict[str, list[int]]:
    """Hits by way (pooled, dot, model, tfidf) and `items`, by stretch of the documents: (G,) counts each."""
    half = windows.shape[1] // 2
    asks, offered = candidates(len(windows), items, seed)
    group = asks * GROUPS // len(windows)
    first, second = windows[:, :half], windows[:, half:]
    pooled = [context_vectors(model, part).mean(1) for part in (first, second)]
    middle = torch.cat(pooled).mean(0)
    a, b = (F.normalize(p - middle, dim=-1).numpy() for p in pooled)
    ways = {"pooled": np.einsum("id,icd->ic", a[asks], b[offered]), "tfidf": tf_idf(data, windows, asks, offered)}
    ways["dot"] = np.einsum("id,icd->ic", *(p.numpy()[which] for p, which in zip(pooled, (asks, offered))))
    common = np.log(1.0 + np.bincount(stream(data), minlength=data.vocab_size))
    alone = log_p(model, second).sum(1) + (common - np.log(np.exp(common).sum()))[second[:, 0].numpy()]
    both = torch.cat([first[asks].repeat_interleave(4, 0), second[offered.ravel()]], 1)
    given = log_p(model, both)[:, -half:].sum(1).reshape(-1, 4)
    ways["model"] = given - alone[offered]
    hits = {name: np.bincount(group[_first(score)], minlength=GROUPS).tolist() for name, score in ways.items()}
    return {**hits, "items": np.bincount(group, minlength=GROUPS).tolist()}


def _first(score: Array) -> Array:
    """Where the first of four scores is the largest; a tie is lost."""
    return np.asarray((score[:, :1] > score[:, 1:]).all(1))


@torch.no_grad()
def log_p(model: Transformer, tokens: Tensor, rows: int = 32) -> Array:
    """log p of every token but the first, given those before it: (B, N - 1) nats."""
    found = []
    for part in tokens.split(rows):
        log = model(part)[:, :-1].log_softmax(-1)
        found.append(log.gather(2, part[:, 1:, None])[..., 0])
    return np.asarray(torch.cat(found).numpy())


def tf_idf(data: Data, windows: Tensor, asks: Array, offered: Array) -> Array:
    """Cosine of weighted counts of both halves, (I, 4)."""
    half, text = windows.shape[1] // 2, stream(data)
    documents = text[: len(text) // half * half].reshape(-1, half)
    has = np.zeros(data.vocab_size)
    for part in np.array_split(documents, max(1, len(documents) // 4096)):
        rows = np.repeat(np.arange(len(part)), half)
        once = np.unique(rows * data.vocab_size + part.ravel()) % data.vocab_size
        has += np.bincount(once, minlength=data.vocab_size)
    idf = np.log((1 + len(documents)) / (1 + has))
    tokens = windows.numpy()

    def vectors(which: Array, part: slice) -> Array:
        table = np.zeros((len(which), data.vocab_size), np.float32)
        np.add.at(table, (np.arange(len(which))[:, None], tokens[which, part]), 1)
        table *= idf
        return table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-9)

    asked = vectors(asks, slice(None, half))
    return np.stack([(asked * vectors(offered[:, k], slice(half, None))).sum(1) for k in range(4)], 1)
