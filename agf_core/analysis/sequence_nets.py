"""A recurrent net and a convolution, small enough to train on a page beside the Transformer (ours).

    gru    two layers of gated recurrent units (Cho et al. 2014, 1406.1078), torch's own
    tcn    causal convolutions with ReLU and a residual path, as in Bai et al. 2018 (1803.01271), without its weight
           norm, dropout and dilation

Both read bytes and predict the next: embedding, layers, a head of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agf_core.sources.datasets import Data
from agf_core.training import TrainConfig

KINDS = ("gru", "tcn")
RATE = 4e-3
KERNEL = 8  # bytes that a convolution sees


class SequenceNet(nn.Module):
    """tokens (B, N) -> logits (B, N, symbols); `layers` map (B, N, dim) to (B, N, dim)."""

    def __init__(self, kind: str, symbols: int, dim: int, layers: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; choose from {', '.join(KINDS)}")
        self.kind = kind
        self.embedding = nn.Embedding(symbols, dim)
        make: Any = (lambda: nn.GRU(dim, dim, batch_first=True)) if kind == "gru" else (
            lambda: nn.Conv1d(dim, dim, KERNEL))  # fmt: skip
        self.layers = nn.ModuleList(make() for _ in range(layers))
        self.head = nn.Linear(dim, symbols)

    def streams(self, tokens: Tensor) -> list[Tensor]:
        """What enters each layer, and what leaves the last."""
        found = [self.embedding(tokens)]
        for layer in self.layers:
            x = found[-1]
            found.append(layer(x)[0] if self.kind == "gru" else x + F.relu(causal(layer, x)))
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.streams(tokens)[-1])


def causal(layer: Any, x: Tensor) -> Tensor:
    """What a Conv1d makes of (B, N, dim) without seeing the future."""
    out: Tensor = layer(F.pad(x.mT, (layer.kernel_size[0] - 1, 0)))
    return out.mT


def trained(kind: str, data: Data, dim: int, layers: int, context: int, tokens: int, seed: int) -> SequenceNet:
    """A net trained on `tokens` tokens with the schedule of all models here, in evaluation mode."""
    config = TrainConfig(tokens, 8, RATE, seed=seed)
    torch.manual_seed(seed)
    net = SequenceNet(kind, data.vocab_size, dim, layers)
    adam, steps = torch.optim.AdamW(net.parameters(), lr=RATE, betas=(0.9, 0.99)), config.steps(context)
    for step in range(steps):
        adam.param_groups[0]["lr"] = config.rate_at(step, steps)
        inputs, targets = (torch.from_numpy(a) for a in data.batch(step, config.batch, context, seed))
        loss = F.cross_entropy(net(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
    return net.eval()
