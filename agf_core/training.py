"""Train one model on one kind of data, and evaluate it: AdamW, warm-up, cosine or constant rate, exact resume (ours).

A run is a pure function of its configuration: weights and data come from `seed` alone, so metrics are bit-identical on
one machine with one number of threads, resumed or not. Under `torchrun` each process takes its share of every batch.
Imports torch, numpy and safetensors only.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from agf_core.model import ModelConfig, Transformer
from agf_core.sources.datasets import IGNORE, Data

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
CURVE = 100  # points of the loss curve
EARLIEST = 1 / 64  # of the budget: the first of the times at which a training is watched
SNAPSHOTS = 16  # times at which the fields' parameters are noted, evenly in log(step)
SAVE_EVERY = 60.0  # seconds between checkpoints
FIELD_NUMBERS = ("exponent", "scale", "rate", "shape", "table")

Progress = Callable[[int, int, float], None]  # step, steps, loss
_DRAWING = threading.Lock()  # runs in threads of one process (Dask) share torch's generator


class Diverged(RuntimeError):
    """The loss is no number any more; `step` says since when, the checkpoint holds the last good state."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"loss {loss} by step {step}: the run was stopped; try a lower rate")
        self.step = step


@dataclass(frozen=True)
class TrainConfig:
    """How to train: `tokens` positions in steps of `batch` sequences of the model's `context`.

    rate     peak learning rate, after `warmup` (a share of the steps), then cosine to a tenth of it, or constant
    weight_decay  of matrices; never of norms, nor of anything that belongs to the encoding
    clip     largest norm of the gradient
    precision  float32, or bfloat16 by autocast
    """

    tokens: int = 1_000_000
    batch: int = 16
    rate: float = 3e-3
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, choices in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(choices)}")
        for name in ("tokens", "batch", "rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if not 0 <= self.warmup < 1 or self.weight_decay < 0 or not 0 <= self.seed < 2**32:
            raise ValueError("expected 0 ≤ warmup < 1, weight_decay ≥ 0, 0 ≤ seed < 2³²; "
                             f"got {self.warmup}, {self.weight_decay}, {self.seed}")  # fmt: skip

    def steps(self, length: int) -> int:
        return max(1, round(self.tokens / (self.batch * length)))

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step, 0-based."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        if self.schedule == "constant":
            return self.rate
        done = (step - warm) / max(1, steps - warm)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def build_model(config: ModelConfig, seed: int) -> Transformer:
    """The model with the weights that `seed` draws."""
    with _DRAWING:
        torch.manual_seed(seed)
        return Transformer(config)


def optimizer(model: Transformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW, fused; decay for matrices outside the encoding only."""
    own = {id(p) for p in model.encoding.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() >= 2 and id(p) not in own]
    others = [p for p in trained if p.dim() < 2 or id(p) in own]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), fused=True)


def train(
    model_config: ModelConfig,
    data: Data,
    config: TrainConfig,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    version: str = "",
    progress: Progress | None = None,
    watch: Callable[[Transformer], Any] | None = None,
    times: int = 0,
) -> tuple[Transformer, dict[str, Any]]:
    """A trained model and its history: the loss curve (nats a target) and the fields' parameters through time.

    `checkpoint`: a safetensors file, written once a minute, from which the same call goes on exactly; `version` says
    what else the result depends on (code, text): one of another version is not gone on from. `progress` is called at
    every point of the curve. Diverged when the loss, or a weight, is not finite.
    """
    model = build_model(model_config, config.seed).to(device)
    adam = optimizer(model, config)
    length, steps = model_config.context, config.steps(model_config.context)
    parts = [asdict(model_config), asdict(data.config), asdict(config), version, times]
    identity = json.dumps(parts, sort_keys=True, default=dict)
    step, history = _resume(checkpoint, identity, model, adam)
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    if config.batch % world:
        raise ValueError(f"a batch of {config.batch} sequences cannot be shared by {world} processes")
    forward: nn.Module = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    every, snapshots, watched = max(1, steps // CURVE), _snapshots(steps), _watched(steps, times if watch else 0)
    losses: list[Tensor] = []
    saved = time.monotonic()
    if step == 0:
        history["fields"].append({"step": 0, "layers": field_numbers(model)})
    model.train()
    while step < steps:
        for group in adam.param_groups:
            group["lr"] = config.rate_at(step, steps)
        inputs, targets = (
            torch.from_numpy(a[rank::world]).to(device) for a in data.batch(step, config.batch, length, config.seed)
        )
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = forward(inputs)
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        step += 1
        if step in snapshots:
            history["fields"].append({"step": step, "layers": field_numbers(model, tables=step == steps)})
        if watch and step in watched:
            seen = watch(model.eval())
            model.train()
            history.setdefault("through", []).append([step * config.batch * length, seen])
        if step % every == 0 or step == steps:
            mean = _mean(losses)
            if not all(p.isfinite().all() for p in model.parameters()):
                mean = math.nan  # the step after a finite loss can still spoil the weights, and the checkpoint
            if not math.isfinite(mean):
                raise Diverged(step, mean)
            history["curve"].append([step * config.batch * length, round(mean, 5)])
            losses.clear()
            if progress:
                progress(step, steps, mean)
            if checkpoint and rank == 0 and (step == steps or time.monotonic() - saved > SAVE_EVERY):
                _save(checkpoint, identity, model, adam, step, history)
                saved = time.monotonic()
    return model.eval(), history


def _mean(losses: list[Tensor]) -> float:
    total = torch.stack(losses).mean()
    if distributed.is_initialized():
        distributed.all_reduce(total, distributed.ReduceOp.SUM)
        total /= distributed.get_world_size()
    return total.item()


def _snapshots(steps: int) -> set[int]:
    return {round(steps ** (i / (SNAPSHOTS - 1))) for i in range(SNAPSHOTS)} if steps > 1 else {1}


def _watched(steps: int, times: int) -> set[int]:
    return {max(1, round(steps * EARLIEST ** (1 - i / max(1, times - 1)))) for i in range(times)}


def field_numbers(model: Transformer, tables: bool = True) -> list[dict[str, Any]]:
    """What each layer's field is made of (exponent, scale, rate, shape, table: whatever it has), as lists.

    Tables, long as they are, are left out unless asked for.
    """
    layers = []
    for layer in range(model.config.layers):
        law = model.encoding.field(layer)
        names = [n for n in FIELD_NUMBERS if law is not None and hasattr(law, n) and (tables or n != "table")]
        found = {n: getattr(law, n).detach() for n in names}
        layers.append({n: [round(x, 5) for x in v.flatten().tolist()] for n, v in found.items()})
    return layers


def _save(
    path: Path, identity: str, model: Transformer, adam: torch.optim.AdamW, step: int, history: dict[str, Any]
) -> None:
    tensors = {f"model.{n}": t.contiguous() for n, t in model.state_dict().items()}
    for i, state in adam.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{n}": t for n, t in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(tensors, part, {"identity": identity, "step": str(step), "history": json.dumps(history)})
    part.replace(path)


def _resume(
    path: Path | None, identity: str, model: Transformer, adam: torch.optim.AdamW
) -> tuple[int, dict[str, Any]]:
    """(step, history) of a checkpoint of the same run, its state loaded; else a fresh start."""
    fresh: tuple[int, dict[str, Any]] = 0, {"curve": [], "fields": []}
    if path is None or not path.is_file():
        return fresh
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            if about["identity"] != identity:
                return fresh
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # cut off while it was written, or no checkpoint at all
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.replace(path.with_name(path.name + ".damaged"))
        print(f"note: {path.name} is damaged ({error}); set aside, the run starts anew", flush=True)
        return fresh
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, i, key = name.split(".", 2)
            state.setdefault(int(i), {})[key] = tensor
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    return int(about["step"]), json.loads(about["history"])
