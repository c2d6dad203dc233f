"""Attention of a trained model replaced by something that does not look at the data, nothing retrained (ours).

    field      scores set to 0: the field alone mixes (without a field: uniformly)
    mean       the weights that each head gives from each query to each distance, averaged over training documents
    shuffled   scores dealt anew among the keys that a query may see; the field stays, what is attended to does not

The mean is PAPA's constant attention (2211.03495), without its fine-tuning. One layer at a time, and all at once.
Losses on held-out text, on repeated bigrams and on the rest. What the retrained models of `mixing_grids` lose is a
matter of what *can* be learned without association; this is what *was* learned with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agf_core.analysis import mixing_grids
from agf_core.evaluation import evaluate
from agf_core.model import Tap, Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import Data, load_data

WAYS = ("field", "mean", "shuffled")
EVERY = "all"  # layers
SHARE = 4  # of the run's held-out tokens, one in so many is read; as many training tokens make the means
LEAST = 1024  # tokens
FEW = {"smoke": 1, "cpu": 1, "full": 8}  # models of a size that are measured


class Replaced(nn.Module):
    """A model whose attention goes through `tap`, for `evaluate`."""

    def __init__(self, model: Transformer, tap: Tap | None) -> None:
        super().__init__()
        self.model, self.tap, self.config, self.encoding = model, tap, model.config, model.encoding

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, tap=self.tap)


def tap(way: str, layers: Iterable[int], means: Mapping[int, Tensor], seed: int = 0) -> Tap:
    """What puts `way` in the place of attention in these layers. ValueError for an unknown way."""
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r}; choose from {', '.join(WAYS)}")
    chosen, generator = set(layers), torch.Generator().manual_seed(seed)

    def put(layer: int, name: str, tensor: Tensor) -> Tensor | None:
        if layer not in chosen or name != ("weights" if way == "mean" else "scores"):
            return None
        if way == "mean":
            return means[layer].to(tensor).expand_as(tensor)
        return torch.zeros_like(tensor) if way == "field" else shuffled(tensor, generator)

    return put


def shuffled(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Scores (B, H, N, N) dealt anew among the keys 0 … i of every query i; those of the future stay where they are."""
    length = scores.shape[-1]
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    draw = torch.rand(scores.shape, generator=generator)
    # The future sorts behind the past, and among itself in its own order.
    order = torch.where(ahead, 1 + torch.arange(length) / length, draw).argsort(-1)
    return scores.gather(-1, order.to(scores.device))


@torch.no_grad()
def mean_weights(model: Transformer, tokens: Tensor, rows: int = 32) -> dict[int, Tensor]:
    """Layer → attention weights (H, N, N) averaged over sequences (S, N): by head, query and so by distance."""
    total: dict[int, Tensor] = {}

    def add(layer: int, name: str, tensor: Tensor) -> None:
        if name == "weights":
            total[layer] = total.get(layer, torch.zeros(())) + tensor.double().sum(0)

    for part in tokens.split(rows):
        model(part, tap=add)
    return {layer: (t / len(tokens)).float() for layer, t in total.items()}


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """{way: {layers: [loss, on recall tokens, on the rest]}}, nats a target, and "trained" for the model as it is.

    `layers`: each one's number, or `EVERY`. Without a field there is no way "field". JSON-ready.
    """
    data, context = load_data(config.data), int(config.model["context"])
    tokens = max(LEAST, config.heldout // SHARE)
    read = torch.from_numpy(data.heldout("train", context, tokens)[0])
    means = mean_weights(model, read)
    ways = [w for w in WAYS if w != "field" or model.encoding.field(0) is not None]
    layers = {str(i): (i,) for i in range(model.config.layers)} | {EVERY: tuple(range(model.config.layers))}
    found: dict[str, Any] = {"trained": {EVERY: losses(model, data, config, tokens, None)}}
    for way in ways:
        found[way] = {
            name: losses(model, data, config, tokens, tap(way, which, means)) for name, which in layers.items()
        }
    return found


def losses(model: Transformer, data: Data, config: RunConfig, tokens: int, put: Tap | None) -> list[float | None]:
    """[loss, on recall tokens, on the rest] on held-out text, nats a target."""
    found = evaluate(Replaced(model, put), data, config.split, int(config.model["context"]), tokens)  # type: ignore[arg-type]
    return [round(found["loss"], 5), *(found[n][0] and round(found[n][0], 5) for n in ("recall", "rest"))]


def configs(profile: str, corpus: str = mixing_grids.grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """Full models of every size, and some with rotary positions."""
    of_size = [grid[mixing_grids.FULL] for grid in mixing_grids.sizes(profile, corpus, seed).values()]
    return [c for part in (*of_size, mixing_grids.rotary(profile, corpus, seed)) for c in part[: FEW[profile]]]
