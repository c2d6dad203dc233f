"""A walk through the embedding space: a few sentences, step by step, with association or field switched off (ours).

The residual stream x of every word is followed through its 2 L + 2 steps: its own vector, what each layer's attention
and then its MLP have added, and the final norm, from which the next word is read. At each step the tokens nearest to it
are found by cosine in the full space, and all is projected on one plane: principal components of vectors of length one
(so that distances are cosines), half of the weight to the token vectors, half to the streams of held-out text.

The switches act on a trained model, in every layer: scores set to 0, or log g set to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from agf_core.analysis import atlas_grids
from agf_core.analysis.accuracy_words import called
from agf_core.model import Transformer
from agf_core.runs import RunConfig, Store, run_grid
from agf_core.sources.datasets import UNIVERSAL_TAGS, Data, load_data
from agf_core.sources.load import load_text
from agf_core.sources.splits import split_documents
from agf_core.sources.text import Text

SWITCHES = ("everything", "field only", "association only")
WORDS = (6, 14)  # of a sentence, without its punctuation
SENTENCES = 8
NEAREST = 5
QUOTES = frozenset("\"'“”‘’«»`") | {"``", "''"}
OTHERS = {"<unk>": "(another word)"}
COMMON = 80  # tokens drawn on the map
UNIT = 1000  # coordinates are stored in thousandths
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sentence:
    """words (N) as written; symbols (N,) as the model reads them; follows: the symbol after the last word."""

    words: list[str]
    symbols: Tensor
    follows: int

    @property
    def targets(self) -> Tensor:
        """The symbol after each word, (N,)."""
        return torch.cat([self.symbols[1:], torch.tensor([self.follows])])


@dataclass(frozen=True)
class Walk:
    """states (S, N, dim), S = 2 L + 2 steps; weights (L, H, N, N): from each word to itself and those before it;
    logits (N, V)."""

    states: Tensor
    weights: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Plane:
    """middle (dim,) and axes (dim, 2) of the projection of vectors of length one; shares (2,) of their variance."""

    middle: Tensor
    axes: Tensor
    shares: Array

    def of(self, vectors: Tensor) -> Array:
        """(…, dim) -> (…, 2)."""
        return ((F.normalize(vectors, dim=-1) - self.middle) @ self.axes).numpy()


@dataclass(frozen=True)
class Atlas:
    """What the page shows.

    walks   one list a sentence, one walk a switch
    loss    nats a held-out word, by switch
    reading (S, 2): share of held-out places whose nearest token is the word itself; the true next word
    """

    config: RunConfig
    profile: str
    data: Data
    vectors: Tensor
    exponents: list[list[float]]
    plane: Plane
    sentences: list[Sentence]
    walks: list[list[Walk]]
    loss: dict[str, float]
    reading: Array
    places: int

    @property
    def steps(self) -> list[str]:
        """Names of the steps."""
        return steps(int(self.config.model["layers"]))

    @property
    def about(self) -> str:
        """Which model this is, in words."""
        model, train = self.config.model, self.config.train
        return (
            f"Model: {called(model.get('encoding', 'agf'))}, {model['layers']} layers of width {model['dim']}, "
            f"{model['heads']} heads, trained where this page was made (profile {self.profile}, seed {train.seed}) on "
            f"{train.tokens:,} words. Text: {self.data.source}; {self.data.licence}. Each sentence is read alone, from "
            "its first word."
        )

    def to_dict(self) -> dict[str, Any]:
        """What the interactive figure reads: JSON-ready, whole numbers (thousandths, cosines and weights in %)."""
        walks = [w for walks in self.walks for w in walks]
        named = [nearest(w.states, self.vectors)[0] for w in walks] + [w.logits.topk(NEAREST).indices for w in walks]
        named += [s.targets for s in self.sentences]
        count = min(COMMON, len(self.vectors))
        shown = [*range(count), *(t for t in torch.cat([n.flatten() for n in named]).unique().tolist() if t >= count)]
        index = {token: i for i, token in enumerate(shown)}
        xy = _whole(self.plane.of(self.vectors[shown]), UNIT)
        return {
            "steps": self.steps,
            "switches": list(SWITCHES),
            "axes": [round(float(s), 4) for s in self.plane.shares],
            "tokens": [[OTHERS.get(name := self.data.symbols[t], name), *p] for t, p in zip(shown, xy)],
            "common": count,
            "vocabulary": len(self.vectors),
            "exponents": self.exponents,
            "about": self.about,
            "sentences": [
                {"words": s.words, "next": [index[t] for t in s.targets.tolist()], "read": self._read(s),
                 "walks": [self._walk(w, s, index) for w in walks]}
                for s, walks in zip(self.sentences, self.walks)
            ],
        }  # fmt: skip

    def _read(self, sentence: Sentence) -> list[str]:
        """What the model reads in the place of words that it does not know; "" for the others."""
        names = [self.data.symbols[t] for t in sentence.symbols.tolist()]
        return ["" if name == word.lower() else name for name, word in zip(names, sentence.words)]

    def _walk(self, walk: Walk, sentence: Sentence, index: dict[int, int]) -> dict[str, Any]:
        tokens, cosine = nearest(walk.states, self.vectors)
        chance = walk.logits.softmax(-1)
        best = chance.topk(NEAREST)
        below = np.tril_indices(len(sentence.words))
        return {
            "path": _whole(self.plane.of(walk.states), UNIT),
            "near": [[[index[t] for t in word] for word in step] for step in tokens.tolist()],
            "cosine": _whole(cosine.numpy(), 100),
            "rank": rank(walk.states, self.vectors, sentence.targets).tolist(),
            "top": [[index[t] for t in word] for word in best.indices.tolist()],
            "chance": _whole(best.values.numpy(), 1000),
            "true": _whole(chance.gather(1, sentence.targets[:, None])[:, 0].numpy(), 1000),
            "weights": [[_whole(head[below].numpy(), 100) for head in layer] for layer in walk.weights],
        }


def _whole(values: Array, unit: int) -> list[Any]:
    return np.rint(np.asarray(values) * unit).astype(int).tolist()


def steps(layers: int) -> list[str]:
    """Names of the 2 L + 2 steps of the residual stream."""
    inner = [f"layer {n} {part}" for n in range(1, layers + 1) for part in ("attention", "MLP")]
    return ["embedding", *inner, "final norm"]


@torch.no_grad()
def walk(model: Transformer, tokens: Tensor, switch: str = SWITCHES[0]) -> Walk:
    """The residual streams of one sequence (N,) with a switch of `SWITCHES`; ValueError for another or an encoder."""
    if switch not in SWITCHES:
        raise ValueError(f"unknown switch {switch!r}; choose from {', '.join(SWITCHES)}")
    if not model.config.causal:
        raise ValueError("the atlas follows the next word: it needs a causal model")
    states: list[Tensor] = []
    weights: list[Tensor] = []
    scores: list[Tensor] = []
    future = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)

    def tap(layer: int, name: str, tensor: Tensor) -> Tensor | None:
        changed: Tensor | None = None
        if name == "embed":
            states.append(tensor[0])
        elif name in ("mixed", "mlp"):
            states.append(states[-1] + tensor[0])
        elif name == "scores":
            scores.append(tensor)
            changed = torch.zeros_like(tensor) if switch == "field only" else None
        elif name == "weights":
            if switch == "association only":  # log g = 0: the same at every placement
                changed = scores[-1].masked_fill(future, -torch.inf).softmax(-1)
            weights.append((tensor if changed is None else changed)[0])
        return changed

    logits = model(tokens[None], tap=tap)[0]
    return Walk(torch.stack([*states, model.norm(states[-1])]), torch.stack(weights), logits)


def cosines(states: Tensor, vectors: Tensor) -> Tensor:
    """(…, dim) against (V, dim): (…, V)."""
    return F.normalize(states, dim=-1) @ F.normalize(vectors, dim=-1).T


def nearest(states: Tensor, vectors: Tensor, count: int = NEAREST) -> tuple[Tensor, Tensor]:
    """Tokens (…, count) whose vectors have the highest cosine with each state, and these cosines."""
    found = cosines(states, vectors).topk(count, dim=-1)
    return found.indices, found.values


def rank(states: Tensor, vectors: Tensor, tokens: Tensor) -> Tensor:
    """How many tokens are at least as near as `tokens` (N,) to states (S, N, dim): (S, N), 1 = the nearest."""
    near = cosines(states, vectors)
    own = near.gather(-1, tokens.expand(near.shape[:-1])[..., None])
    return (near >= own).sum(-1)


def plane(vectors: Tensor, states: Tensor) -> Plane:
    """Two principal components of token vectors (V, dim) and states (M, dim), each family with half of the weight."""
    both = F.normalize(torch.cat([vectors, states]).double(), dim=-1)
    weight = torch.cat([torch.full((len(part),), 0.5 / len(part)) for part in (vectors, states)]).double()
    middle = weight @ both
    inside = both - middle
    values, axes = torch.linalg.eigh(inside.T @ (weight[:, None] * inside))
    axes = axes[:, [-1, -2]]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # a component's sign means nothing: fix it
    shares = (values[[-1, -2]] / values.sum()).numpy()
    return Plane(middle.float(), axes.float(), shares)


def choose(text: Text, data: Data, split: str, count: int = SENTENCES) -> list[Sentence]:
    """Sentences of held-out documents to walk through: whole, of 6 to 14 words, none of them in the train split.

    Without quotation marks, which often end in another sentence; of the third whose rarest word is commonest, one from
    each of `count` stretches. ValueError if there is none.
    """
    spans, _ = split_documents(text)
    index = {name: i for i, name in enumerate(data.symbols)}
    ends = np.append(text.sentences[1:], len(text))
    train = {tuple(text.tokens[a:b]) for s in spans["train"] for a, b in _within(text, ends, s)}
    known = data.vocab_size - (len(UNIVERSAL_TAGS) if text.tags else 1)

    def symbol(place: int) -> int:
        rare = known + UNIVERSAL_TAGS.index(text.tags[place]) if text.tags else known
        return index.get(text.tokens[place].lower(), rare)

    found: dict[tuple[str, ...], Sentence] = {}
    for a, b in (pair for s in spans[split] for pair in _within(text, ends, s)):
        words = tuple(text.tokens[a:b])
        long = WORDS[0] <= sum(any(map(str.isalnum, w)) for w in words) <= WORDS[1]
        if long and b < len(text) and words not in train and QUOTES.isdisjoint(words):
            symbols = torch.tensor([symbol(i) for i in range(a, b + 1)])
            found.setdefault(words, Sentence(list(words), symbols[:-1], int(symbols[-1])))
    if not found:
        have = f"{WORDS[0]} to {WORDS[1]} words that is not among the train documents"
        raise ValueError(f"{text.name}: no sentence of its {split} documents has {have}; choose another text")
    rarest = [int(s.symbols.max()) for s in found.values()]  # symbols are numbered by falling count
    bound = sorted(rarest)[min(len(rarest), max(count, len(rarest) // 3)) - 1]
    fit = [s for s, r in zip(found.values(), rarest) if r <= bound]
    count = min(count, len(fit))
    return [fit[i * len(fit) // count] for i in range(count)]


def _within(text: Text, ends: Array, span: slice) -> list[tuple[int, int]]:
    first, last = np.searchsorted(text.sentences, [span.start, span.stop])
    return list(zip(text.sentences[first:last].tolist(), ends[first:last].tolist()))


def measure(profile: str, corpus: str = atlas_grids.CORPUS, seed: int = 0) -> Atlas | None:
    """Train the model (or find it) and walk through the sentences; None if its training diverged."""
    config = atlas_grids.configuration(profile, corpus, seed)
    [record] = run_grid([config], own=True)
    return atlas(Store().model(config), config, profile) if record["status"] == "ok" else None


def atlas(model: Transformer, config: RunConfig, profile: str) -> Atlas:
    """The atlas of a causal model of words whose embeddings are its output."""
    data, text = load_data(config.data), load_text(config.data.corpus)
    vectors = model.embedding.weight.detach()
    inputs, targets = map(torch.from_numpy, data.heldout(config.split, int(config.model["context"]), config.heldout))
    loss = {}
    for switch in reversed(SWITCHES):  # everything last: its streams are kept
        walks = [walk(model, line, switch) for line in inputs]
        loss[switch] = float(F.cross_entropy(torch.cat([w.logits for w in walks]), targets.flatten()))
    states = torch.cat([w.states for w in walks], dim=1)  # (S, places, dim)
    first = nearest(states, vectors, 1)[0][..., 0]
    reading = [(first == word.flatten()).float().mean(1).numpy() for word in (inputs, targets)]
    sentences = choose(text, data, config.split)
    walked = [[walk(model, s.symbols, switch) for switch in SWITCHES] for s in sentences]
    fields = [model.encoding.field(layer) for layer in range(model.config.layers)]
    powers = [getattr(f, "exponent", torch.zeros(0)).detach().flatten().tolist() for f in fields]
    exponents = [[round(k, 2) for k in layer] for layer in powers]
    found = plane(vectors, states.flatten(0, 1))
    return Atlas(config, profile, data, vectors, exponents, found, sentences, walked,
                 {s: loss[s] for s in SWITCHES}, np.stack(reading, 1), targets.numel())  # fmt: skip
