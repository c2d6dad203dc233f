"""M1: is the walk of context vectors Markov? The next one from the current one, and from all that went before (ours).

A walk is Markov if c_(t+1) is determined by c_t and the next token x_(t+1), up to what the history does not tell
either.
Three predictors of one kind, a network with a linear shortcut, and of one budget:

token    the input vector of x_(t+1) alone: a walk that forgets everything at every step
now      this, and c_t
history  these, and the streams after the embedding and after every layer but the last at the last four places, and
         their averages over all places so far, even and weighted by 1 / (1 + distance)

R² of the variance about the mean, held-out documents, all directions together; *added*: points of R² that the history
adds. The predictor is nonlinear, or what is only crooked would pass for memory. What is added is at least so much: a
stronger reader of the history would add more, up to 1 - R²(now), because the whole history and the next token *are* the
model's input and c_(t+1) is a function of them. Both bounds are shown.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from agf_core.analysis.streams import streams, windows
from agf_core.model import Transformer
from agf_core.sources.datasets import Data

WINDOWS = {"smoke": (48, 16), "cpu": (384, 128), "full": (1024, 512)}  # to fit, and held out
STEPS = {"smoke": 40, "cpu": 300, "full": 1000}
FIRST = 15  # places before have little history
RECENT = 4  # places whose streams the history shows one by one
WIDTH, BATCH, RATE, DECAY = 128, 256, 3e-3, 0.1
CHECKS = 12  # how often a fit is looked at on windows of its own; the best is kept


def measure(model: Transformer, data: Data, split: str, profile: str) -> dict[str, float]:
    """token, now, history: R² in points; added; room (100 - now): JSON-ready."""
    parts = []
    for which, count in zip(("train", split), WINDOWS[profile]):
        tokens = windows(data, which, model.config.context, count)
        *before, context = streams(model, tokens)
        follows = model.embedding(tokens).detach()
        parts.append(examples(context, follows, before[:-1]))
    return gain(parts[0], parts[1], STEPS[profile], seed=0, token=model.config.dim)


def examples(context: Tensor, follows: Tensor, before: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(now (n, ·), history (n, ·), next context vector (n, d)) of windows (B, N, ·), from place `FIRST` on.

    follows: the input vectors; before: what the history is told by.
    """
    length = context.shape[1]
    place = torch.arange(FIRST, length - 1)
    now = torch.cat([follows[:, place + 1], context[:, place]], -1)
    even = torch.tril(torch.ones(length, length))
    distance = (torch.arange(length)[:, None] - torch.arange(length)).clamp_min(0)
    mixes = [w / w.sum(1, keepdim=True) for w in (even, even / (1 + distance))]
    told = [s[:, place - r] for s in before for r in range(RECENT)] + [(m @ s)[:, place] for s in before for m in mixes]
    return now.flatten(0, 1), torch.cat(told, -1).flatten(0, 1), context[:, place + 1].flatten(0, 1)


Examples = tuple[Tensor, Tensor, Tensor]


def gain(fit: Examples, held: Examples, steps: int, seed: int, token: int = 0) -> dict[str, float]:
    """R² of the predictors on `held`, in points, and what the history adds; `token`: width of the input vectors, which
    come first, for the predictor that sees nothing else (0: none).

    Both `now` and `history` correct one first prediction from `now` by a second network: a history that says nothing
    costs nothing, and looks and budget are the same.
    """
    (x, more, y), (new, more_new, wanted) = fit, held
    spread = (wanted - wanted.mean(0)).square().sum()

    def points(predicted: Tensor) -> float:
        return round(100 * (1 - (wanted - predicted).square().sum() / spread).item(), 3)

    found = {}
    if token:
        found["token"] = points(fitted(x[:, :token], y, new[:, :token], steps, seed)[1])
    first, first_new = fitted(x, y, new, steps, seed)
    seen = {"now": (x, new), "history": (torch.cat([x, more], 1), torch.cat([new, more_new], 1))}
    for name, (given, given_new) in seen.items():
        found[name] = points(first_new + fitted(given, y - first, given_new, steps, seed + 1)[1])
    return {**found, "added": round(found["history"] - found["now"], 3), "room": round(100 - found["now"], 3)}


class Predictor(nn.Module):
    """Two hidden layers beside a linear shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.straight = nn.Linear(inputs, outputs)
        self.crooked = nn.Sequential(
            nn.Linear(inputs, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.crooked(x)


def fitted(x: Tensor, y: Tensor, new: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """What a predictor of y (n, d) from x (n, ·) says of x and of `new` (m, ·).

    It starts at the mean. The last tenth of x is its own check: of `CHECKS` looks and the start the best is kept.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Predictor(x.shape[1], y.shape[1])
    for last in (net.straight, net.crooked[-1]):
        for p in last.parameters():
            nn.init.zeros_(p)
    middle, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    x, new = (x - middle) / scale, (new - middle) / scale
    centre, size = y.mean(0), y.std().clamp_min(1e-9)
    y = (y - centre) / size
    own = len(x) - max(1, len(x) // 10)
    rng = np.random.default_rng(seed)
    adam = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=max(1, steps))
    best, kept = np.inf, dict[str, Tensor]()
    for step in range(steps + 1):
        if step == steps or step % max(1, steps // CHECKS) == 0:
            with torch.no_grad():
                check = (net(x[own:]) - y[own:]).square().mean().item()
            if check < best:
                best, kept = check, {k: v.clone() for k, v in net.state_dict().items()}
        if step < steps:
            rows = torch.from_numpy(rng.integers(0, own, BATCH))
            loss = (net(x[rows]) - y[rows]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    net.load_state_dict(kept)
    with torch.no_grad():
        return net(x) * size + centre, net(new) * size + centre


def planted(memory: float, walks: int, seed: int, symbols: int = 50, dim: int = 16, length: int = 32) -> Examples:
    """A walk that needs `memory` (a share of its variance) of the token before the last, which c_t does not hold.

    c_t = √(1 - m) u[x_t] + √m V e[x_(t-2)], tokens independent: given c_t and x_(t+1), e[x_(t-1)] cannot be told.
    """
    vectors, rng = np.random.default_rng(99), np.random.default_rng(seed)
    u, e = (torch.from_numpy(vectors.standard_normal((symbols, dim))).float() for _ in range(2))
    v = e @ torch.from_numpy(vectors.standard_normal((dim, dim))).float() / dim**0.5
    tokens = torch.from_numpy(rng.integers(0, symbols, (walks, length)))
    context = (1 - memory) ** 0.5 * u[tokens]
    context[:, 2:] += memory**0.5 * v[tokens[:, :-2]]
    return examples(context, e[tokens], [e[tokens]])


def crooked(walks: int, seed: int, symbols: int = 50, dim: int = 16, length: int = 32) -> Examples:
    """A Markov walk that is not linear: c_(t+1) = tanh(A c_t + B e[x_(t+1)]); the history adds nothing."""
    vectors, rng = np.random.default_rng(98), np.random.default_rng(seed)
    a, b = (torch.from_numpy(vectors.standard_normal((dim, dim))).float() * s / dim**0.5 for s in (1.2, 1.5))
    e = torch.from_numpy(vectors.standard_normal((symbols, dim))).float()
    tokens = torch.from_numpy(rng.integers(0, symbols, (walks, length)))
    context = [torch.zeros(walks, dim)]
    for t in range(length):
        context.append(torch.tanh(context[-1] @ a.T + e[tokens[:, t]] @ b.T))
    return examples(torch.stack(context[1:], 1), e[tokens], [e[tokens]])


def calibration(profile: str, seed: int = 0) -> list[tuple[str, float, float]]:
    """(world, points planted, points found) of walks whose memory is known."""
    count, steps = {"smoke": (150, 100), "cpu": (200, 200), "full": (600, 500)}[profile]
    rows = []
    for memory in (0.0, 0.05, 0.1, 0.3):
        found = gain(planted(memory, count, seed), planted(memory, count, seed + 1), steps, seed)
        rows.append(("memory of one token", 100 * memory, found["added"]))
    found = gain(crooked(count, seed), crooked(count, seed + 1), steps, seed)
    return [*rows, ("Markov, not linear", 0.0, found["added"])]
