"""Filtering and aggregation: a sub-layer's Jacobian, split by a classification fixed beforehand (ours; claim M6).

| operation | Transformer | recurrent net | convolution | class |
|---|---|---|---|---|
| linear map, bias, embedding, head, residual path | all | all | all | filtering |
| sum over positions with constant weights | the field | | the kernel | filtering |
| sum over positions with weights made from the data | softmax attention | gates z and r | | aggregation |
| pointwise function of one position | GELU, norm | tanh | ReLU | neither |

The Jacobian J(x) of a sub-layer (its last position's output by all positions' inputs) over inputs x of a text is

    filtering     E J, what does not depend on the data
    aggregation   what varies with x while every pointwise function is held at its mean derivative: weights made from
                  the data, and how they change with it
    unassigned    the rest: what the pointwise functions' own bends do, alone or together with the weights

Filtering is orthogonal to the rest, E |J|^2 = |E J|^2 + E |J - E J|^2; aggregation and unassigned are so only where one
of them is absent, and twice their inner product is given as `cross`. All four are estimated without bias and sum to 1.
Read otherwise, "a fixed function is a filter", nothing could ever be left: that reading is true by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agf_core.analysis import mixing_grids
from agf_core.analysis.sequence_nets import KINDS, SequenceNet, causal, trained
from agf_core.model import Block, Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import load_data

NETS = ("transformer", *KINDS)
INPUTS, LENGTH = 48, 32  # stretches of text at which Jacobians are taken, and their tokens
SHARE = 16  # the other two nets are trained on the Transformer's tokens divided by this
FEW = {"smoke": 1, "cpu": 1, "full": 8}  # models that are measured


@dataclass
class Bends:
    """Pointwise functions on their way through a sub-layer: as they are, or held at their mean derivative.

    Called with a name, a function of (…, D) that treats positions alike, and its argument. While `noting`, the mean
    derivative over all positions is kept: (D,) for an elementwise function, else (D, D).
    """

    mode: str = "free"  # free, noting, held
    means: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, f: Callable[[Tensor], Tensor], x: Tensor, elementwise: bool = True) -> Tensor:
        if self.mode == "noting":
            derivative = _derivative(f, x.detach().flatten(0, -2), elementwise)
            count = self.counts.get(name, 0)
            self.means[name] = (self.means.get(name, derivative) * count + derivative) / (count + 1)
            self.counts[name] = count + 1
        if self.mode != "held":
            return f(x)
        moved, mean = x - x.detach(), self.means[name]
        return f(x).detach() + (moved * mean if elementwise else moved @ mean.mT)


def _derivative(f: Callable[[Tensor], Tensor], x: Tensor, elementwise: bool) -> Tensor:
    """Mean over rows (n, D) of f's derivative."""
    with torch.enable_grad():
        x = x.requires_grad_()
        y = f(x)
        if elementwise:
            return torch.autograd.grad(y.sum(), x)[0].mean(0)
        rows = [torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0].mean(0) for i in range(y.shape[1])]
        return torch.stack(rows)


Sub = Callable[[Tensor, Bends], Tensor]  # (S, N, D) -> (S, D): the last position's output


@dataclass(frozen=True)
class Parts:
    """Shares of E |J|^2 that sum to 1, E |J|^2 itself, and with the residual path's identity added."""

    filtering: float
    aggregation: float
    unassigned: float
    cross: float
    norm: float
    with_residual: float

    def to_list(self) -> list[float]:
        """JSON-ready, five digits."""
        return [float(f"{x:.5g}") for x in vars(self).values()]


def split(sub: Sub, x: Tensor) -> Parts:
    """The classification of one sub-layer at inputs x (S, N, D), S ≥ 2."""
    bends, count = Bends("noting"), len(x)
    with torch.no_grad():
        sub(x, bends)
    bends.mode = "free"
    whole = jacobian(sub, x, bends)  # (S, D, N, D)
    bends.mode = "held"
    held = jacobian(sub, x, bends)
    mean, unbiased = whole.mean(0), count / (count - 1)
    norm = _square(whole)
    filtering = (count * _square(mean[None]) - norm) / (count - 1)
    aggregated = held - held.mean(0)
    aggregation, rest = unbiased * _square(aggregated), unbiased * _square(whole - mean - aggregated)
    own = mean[:, -1]  # by the last position's own input, on which the residual path acts
    identity = norm + 2 * float(own.diagonal().double().sum()) + len(own)
    shares = [filtering, aggregation, rest, norm - filtering - aggregation - rest]
    filtered, gathered, left, cross = (s / norm for s in shares)
    return Parts(filtered, gathered, left, cross, norm, identity)


def _square(j: Tensor) -> float:
    """Mean over the first dimension of the squared Frobenius norm."""
    return float((j.double() ** 2).sum() / len(j))


def jacobian(sub: Sub, x: Tensor, bends: Bends) -> Tensor:
    """d sub(x)[s, c] / d x[s], (S, D out, N, D): samples do not meet, so one backward pass serves all of them."""
    x = x.detach().requires_grad_()
    out = sub(x, bends)
    rows = [torch.autograd.grad(out[:, c].sum(), x, retain_graph=True)[0] for c in range(out.shape[1])]
    return torch.stack(rows, 1)


# The sub-layers of each net


def attention_of(block: Block, model: Transformer) -> Sub:
    """What a block's attention adds."""

    def sub(x: Tensor, bends: Bends) -> Tensor:
        position = torch.arange(x.shape[1])
        normed = bends("norm", block.norm1, x, elementwise=False)
        # A tap asks for attention as it is defined, which autograd can go back through again and again.
        return block.attention(normed, model.encoding, position, None, None, lambda *_: None)[:, -1]

    return sub


def mlp_of(block: Block) -> Sub:
    """What a block's two linear maps with a GELU between them add."""

    def sub(x: Tensor, bends: Bends) -> Tensor:
        normed = bends("norm", block.norm2, x[:, -1:], elementwise=False)
        return block.down(bends("gelu", F.gelu, block.up(normed)))[:, -1]

    return sub


def gru_of(layer: Any) -> Sub:
    """One recurrent layer (nn.GRU), step by step; z and r weigh positions, the candidate's tanh is pointwise."""

    def sub(x: Tensor, bends: Bends) -> Tensor:
        h, inputs = x.new_zeros(len(x), layer.hidden_size), x @ layer.weight_ih_l0.mT + layer.bias_ih_l0
        for step in range(x.shape[1]):
            r, z, n = inputs[:, step].chunk(3, -1)
            of_r, of_z, of_n = (h @ layer.weight_hh_l0.mT + layer.bias_hh_l0).chunk(3, -1)
            r, z = torch.sigmoid(r + of_r), torch.sigmoid(z + of_z)
            h = (1 - z) * bends("tanh", torch.tanh, n + r * of_n) + z * h
        return h

    return sub


def convolution_of(layer: nn.Conv1d) -> Sub:
    """One causal convolution and its ReLU."""
    return lambda x, bends: bends("relu", F.relu, causal(layer, x))[:, -1]


def of_transformer(model: Transformer, tokens: Tensor) -> dict[str, Parts]:
    """Sub-layer → parts, at a text's stretches (S, N)."""
    streams: dict[tuple[int, str], Tensor] = {}
    with torch.no_grad():
        model(tokens, tap=lambda layer, name, t: streams.update({(layer, name): t}))
    found = {}
    for i, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        x = streams[i - 1, "residual"] if i else streams[-1, "embed"]
        found[f"attention {i + 1}"] = split(attention_of(block, model), x)
        found[f"MLP {i + 1}"] = split(mlp_of(block), (x + streams[i, "mixed"])[:, -1:])
    return found


def of_net(net: SequenceNet, tokens: Tensor) -> dict[str, Parts]:
    """The same of a recurrent net or a convolution."""
    with torch.no_grad():
        streams = net.streams(tokens)
    make: Any = gru_of if net.kind == "gru" else convolution_of
    name = "recurrence" if net.kind == "gru" else "convolution"
    return {f"{name} {i + 1}": split(make(layer), streams[i]) for i, layer in enumerate(net.layers)}


def measure(model: Transformer, config: RunConfig) -> dict[str, dict[str, list[float]]]:
    """Net → sub-layer → `Parts`, JSON-ready: a trained Transformer, and beside it a recurrent net and a convolution of
    its width and depth, trained on the same text with the same seed. Some ten seconds."""
    data, body, tokens = load_data(config.data), model.config, config.train.tokens
    length = min(LENGTH, body.context)
    inputs = min(INPUTS, max(8, config.heldout // 512))
    windows = data.heldout(config.split, body.context, config.heldout)[0]
    chosen = torch.from_numpy(windows[:: max(1, len(windows) // inputs)][:inputs, :length].copy())
    found = {NETS[0]: of_transformer(model, chosen)}
    for kind in KINDS:
        net = trained(kind, data, body.dim, body.layers, body.context, tokens // SHARE, config.train.seed)
        found[kind] = of_net(net, chosen)
    return {net: {name: parts.to_list() for name, parts in subs.items()} for net, subs in found.items()}


def configs(profile: str, corpus: str = mixing_grids.grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """Full models of two layers of 64."""
    full = mixing_grids.on_bytes(profile, mixing_grids.grids.BODY["dim"], corpus, seed)[mixing_grids.FULL]
    return full[: FEW[profile]]
