"""M4: is a token vector near a context vector as the corpus has the token after that context? (Ours.)

A *context* is the word before (or the two before) that the train split has 50 times or more. Its vector is the mean of
the unit context vectors at its occurrences in held-out documents; cosine with a word's token vector is set against the
train split's p(w | context), over the words that follow it there at all, as Spearman's partial correlation given log
unigram frequency; mean over contexts. Cosine, not the logit, for the logit is trained to be log p: lengths of token
vectors, where frequency can hide, do not count. Words alone count, not the symbols that stand for rare ones.

Which token vectors: those the logits are made with. In an untied model these are the output vectors, fixed beforehand;
input vectors, which no context vector ever meets, stand beside them. *Untrained*: the same model before its first step.
*Shuffled*: the trained model's token vectors change places among words of like frequency. *Resampled*: counts drawn
anew from p(w | context) against itself, over the words drawn: what so few counts leave of a perfect correlation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from agf_core.analysis.streams import stream
from agf_core.analysis.windows import Array
from agf_core.sources.datasets import Data

WINDOWS = {"smoke": 64, "cpu": 512, "full": 4096}  # held-out, of the model's context; of Brown there are 900
SEEN, AGAIN = 50, 5  # least occurrences of a context in the train split, and in the held-out documents
FOLLOWERS = 20  # least number of words that follow it
MOST = 400  # contexts, those that occur most often
BINS = 20  # of word frequency, within which token vectors change places
SHOWN = 150  # words of the commonest context that are kept for the picture


def measure(data: Data, tokens: Array, contexts: tuple[Tensor, Tensor], vectors: tuple[Tensor, ...], seed: int) -> Any:
    """ρ by length of the context ("1", "2": words) and by kind, JSON-ready.

    tokens (B, N); contexts: context vectors (B, N, d), trained and untrained; vectors (V, d): token vectors, input
    vectors, token vectors untrained. Kinds: trained, untrained, shuffled, input, product (the logit), resampled.
    count: contexts; example: log p, cosine, log unigram of the words after the commonest context.
    """
    text = stream(data)
    words = np.flatnonzero([not (s.startswith("<") and s.endswith(">")) for s in data.symbols])
    unigram = np.bincount(text, minlength=data.vocab_size)
    output, given, fresh = vectors
    moved = output[_shuffle(words, unigram, seed)]
    unit = {"trained": _unit(output), "untrained": _unit(fresh), "shuffled": _unit(moved), "input": _unit(given),
            "product": output.numpy()}  # fmt: skip
    found: dict[str, Any] = {}
    rng = np.random.default_rng(seed)
    for length in (1, 2):
        rows, example = [], None
        for where, follows in followed(text, tokens, length, words):
            one = [_unit(c.flatten(0, 1)[where]).mean(0) for c in contexts]
            number = np.flatnonzero(follows)
            p, common = follows[number], unigram[number]
            rho = {k: partial(v[number] @ one[k == "untrained"], p, common) for k, v in unit.items()}
            drawn = rng.multinomial(p.sum(), p / p.sum())
            rho["resampled"] = partial(drawn[drawn > 0], p[drawn > 0], common[drawn > 0])
            rows.append(rho)
            if example is None:
                kept = rng.permutation(len(number))[:SHOWN]
                columns = np.log(p / p.sum()), unit["trained"][number] @ one[0], np.log(common / unigram.sum())
                example = [[round(float(x[i]), 4) for x in columns] for i in kept]
        means = {k: round(float(np.mean([r[k] for r in rows])), 5) for k in rows[0]} if rows else {}
        found[str(length)] = {**means, "count": len(rows)} | ({"example": example} if length == 1 and rows else {})
    return found


def followed(text: Array, tokens: Array, length: int, words: Array) -> list[tuple[Array, Array]]:
    """Contexts of `length` words, commonest in `tokens` (B, N) first: (places among B · N, counts of what follows in
    the train split (V,), words alone)."""
    size = int(max(text.max(), tokens.max())) + 1
    plain = np.zeros(size, bool)
    plain[words[words < size]] = True
    keys, at = _keys(text, length, size), _keys(tokens, length, size)
    after = text[length:]
    keys = keys[: len(after)]
    order = np.argsort(keys, kind="stable")
    kinds, start, count = np.unique(keys[order], return_index=True, return_counts=True)
    here, places, number = np.unique(at.ravel(), return_inverse=True, return_counts=True)
    place = np.arange(tokens.size).reshape(tokens.shape)[:, length - 1 :].ravel()
    found: list[tuple[Array, Array]] = []
    for i in np.argsort(-number, kind="stable"):
        k = np.searchsorted(kinds, here[i])
        known = k < len(kinds) and kinds[k] == here[i] and count[k] >= SEEN
        parts = [here[i] // size**j % size for j in range(length)]
        if number[i] < AGAIN or len(found) == MOST:
            break
        if not known or not plain[parts].all():
            continue
        then = after[order[start[k] : start[k] + count[k]]]
        follows = np.bincount(then, minlength=size) * plain
        if (follows > 0).sum() >= FOLLOWERS:
            found.append((place[places == i], follows))
    return found


def _keys(tokens: Array, length: int, size: int) -> Array:
    """The context that ends at every place from the `length`-th on, as one number."""
    tokens = tokens.astype(np.int64)
    whole = tokens.shape[-1] - length + 1
    parts = [tokens[..., length - 1 - j : length - 1 - j + whole] * size**j for j in range(length)]
    return np.sum(parts, axis=0)


def partial(x: Array, y: Array, given: Array) -> float:
    """Spearman's partial correlation of x and y, (n,) each, given a third; 0 where one of them is constant."""
    ranks = np.stack([stats.rankdata(v) for v in (x, y, given)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return 0.0
    r = np.corrcoef(ranks)
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)) if rest > 1e-12 else 0.0


def _shuffle(words: Array, unigram: Array, seed: int) -> Array:
    """An order of the symbols in which words of like frequency have changed places."""
    order, rng = np.arange(len(unigram)), np.random.default_rng(seed)
    ranked = words[np.argsort(-unigram[words], kind="stable")]
    for part in np.array_split(ranked, BINS):
        order[part] = rng.permutation(part)
    return order


def _unit(vectors: Tensor) -> Array:
    return np.asarray(torch.nn.functional.normalize(vectors, dim=-1).numpy())
