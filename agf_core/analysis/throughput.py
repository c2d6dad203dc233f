"""Training throughput beside nanoGPT's, and what each encoding costs: the speed columns of the book (`make bench`).

    python -m agf_core.analysis.throughput [--nanogpt path/to/nanoGPT/model.py] [--quick] [--out FILE]

A step is forward, loss, backward, clipping and AdamW, as `training.train` does it and as nanoGPT's train.py does it
with its own model, loss and optimiser; neither is compiled, and the data are the same. All are interleaved in an order
drawn anew each round and compared by the rounds' own ratios. nanoGPT's code is not ours to ship: github.com/karpathy.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from agf_core.analysis.kernel_runs import interleave, processor
from agf_core.analysis.kernels import BUSY, median_interval
from agf_core.encodings import ENCODINGS
from agf_core.model import ModelConfig
from agf_core.provenance import provenance
from agf_core.sources.datasets import IGNORE
from agf_core.sources.tables import data_path, read_stored
from agf_core.training import TrainConfig, build_model, optimizer

OURS = "learned"  # nanoGPT's own encoding: the rest of the model is the same in both
PEER = "nanoGPT"
LIMIT = 1.0  # tokens a second, ours / nanoGPT's
STORED = "training-{device}.json"
Step = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """What both train; `precision` as in `TrainConfig`."""

    layers: int
    dim: int
    heads: int
    length: int
    batch: int
    vocab: int = 256
    precision: str = "float32"

    def __str__(self) -> str:
        return f"{self.layers} × {self.dim}, length {self.length}, batch {self.batch}, {self.precision}"


SIZES = (Size(2, 64, 4, 128, 8), Size(2, 64, 4, 128, 32), Size(4, 128, 4, 256, 8))
GPT2 = Size(12, 768, 12, 1024, 8, 50304, "bfloat16")  # on a GPU only
GPT2_NAMES = (OURS, "rotary", "alibi", "t5", "agf")  # fewer: each takes 2 GB for its weights and AdamW's moments


def load_nanogpt(path: Path) -> ModuleType:
    """nanoGPT's model.py as a module; ValueError where it is not."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"no Python file {path}: expected the model.py of a copy of nanoGPT")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def our_step(name: str, size: Size, inputs: Tensor, targets: Tensor) -> Step:
    """One step of our Transformer with the encoding `name`, as in `training.train`."""
    shape = ModelConfig(size.vocab, size.dim, size.layers, size.heads, context=size.length, encoding=name)
    model, config = build_model(shape, seed=0).to(inputs.device).train(), TrainConfig()

    def loss() -> Tensor:
        return F.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)

    return _step(loss, model, optimizer(model, config), config.clip, size)


def nanogpt_step(module: ModuleType, size: Size, inputs: Tensor, targets: Tensor) -> Step:
    """One step of nanoGPT, as in its train.py: bias and dropout off, its optimiser and clipping, our learning rate."""
    shape = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.dim, "block_size": size.length}
    with redirect_stdout(io.StringIO()):  # it reports its size
        model = module.GPT(module.GPTConfig(**shape, vocab_size=size.vocab, dropout=0.0, bias=False))
        model = model.to(inputs.device).train()
        adam = model.configure_optimizers(0.1, TrainConfig().rate, (0.9, 0.95), inputs.device.type)
    return _step(lambda: model(inputs, targets)[1], model, adam, 1.0, size)


def _step(loss: Callable[[], Tensor], model: nn.Module, adam: Optimizer, clip: float, size: Size) -> Step:
    on = next(model.parameters()).device.type

    def step() -> None:
        with torch.autocast(on, torch.bfloat16, enabled=size.precision == "bfloat16"):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if on == "cuda":
            torch.cuda.synchronize()

    return step


def compare(
    size: Size, threads: int, rounds: int, names: Iterable[str], nanogpt: ModuleType | None = None, on: str = "cpu"
) -> list[dict[str, Any]]:
    """A row for each of `names` (`learned` always among them) and for nanoGPT, with the size and number of threads.

    tokens_per_second from the median step; relative, low, high: speed over that of `learned`, median and 95 % interval
    of the rounds' ratios. nanoGPT's row has ratio, ratio_low, ratio_high besides, the other way round: ours over its.
    """
    torch.manual_seed(0)
    inputs, targets = torch.randint(size.vocab, (2, size.batch, size.length), device=on)
    calls = {name: our_step(name, size, inputs, targets) for name in dict.fromkeys((OURS, *names))}
    if nanogpt is not None:
        calls[PEER] = nanogpt_step(nanogpt, size, inputs, targets)
    before, rows = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    taken = interleave(calls, rounds)
    torch.set_num_threads(before)
    for name in calls:
        speed = taken[OURS] / taken[name]
        low, high = median_interval(speed)
        row = {**asdict(size), "size": str(size), "threads": threads, "name": name, "low": low, "high": high}
        row |= {"relative": speed.median(), "tokens_per_second": inputs.numel() / taken[name].median()}
        if name == PEER:
            row |= {"ratio": 1 / row["relative"], "ratio_low": 1 / high, "ratio_high": 1 / low, "limit": LIMIT}
        rows.append(row)
    return rows


def verdict(row: dict[str, Any]) -> str:
    """Of nanoGPT's row: met or not where the interval of ours / nanoGPT's lies on one side of the limit."""
    return "met" if row["ratio_low"] >= row["limit"] else "not met" if row["ratio_high"] < row["limit"] else "undecided"


def measure(nanogpt: ModuleType | None = None, quick: bool = False) -> dict[str, Any]:
    """The whole benchmark, JSON-ready: where and how it was made, and the rows of `compare`."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rounds, every = 5 if quick else 31, torch.get_num_threads()
    plan, threads = [(size, tuple(ENCODINGS)) for size in (SIZES[:1] if quick else SIZES)], sorted({1, every})
    if on_gpu := torch.cuda.is_available():
        plan, threads = [*plan, (GPT2, GPT2_NAMES)], [every]
    on = "cuda" if on_gpu else "cpu"
    rows = [row for size, names in plan for n in threads for row in compare(size, n, rounds, names, nanogpt, on)]
    about = {"processor": processor(), "torch": torch.__version__, "threads": every, "rounds": rounds, "load": load}
    source = nanogpt and hashlib.sha256(Path(str(nanogpt.__file__)).read_bytes()).hexdigest()
    return {**provenance(), **about, "nanogpt_sha256": source, "rows": rows}


def stored(on: str = "cpu") -> dict[str, Any] | None:
    """The reference run kept with the library, noted as read; None if there is none."""
    return read_stored("bench", STORED.format(device=on))


def report(result: dict[str, Any]) -> str:
    """What was measured, as lines: nanoGPT beside its limit, and each encoding beside `learned`."""
    lines = [f"{result['processor']}, torch {result['torch']}; tokens a second, and beside {OURS}"]
    where = None
    for row in result["rows"]:
        if where != (where := f"{row['size']}, {row['threads']} thread{'s'[: row['threads'] > 1]}"):
            lines.append(where)
        speed = f"{row['relative']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(f"  {row['name']:12} {row['tokens_per_second']:9,.0f}  {speed}")
        if row["name"] == PEER:
            ratio = f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]"
            lines.append(f"  {OURS} / {PEER} {ratio}, limit {row['limit']:.2f}: {verdict(row)}")
    if result["nanogpt_sha256"] is None:
        lines.append("nanoGPT is not among them: make bench NANOGPT=path/to/nanoGPT/model.py adds it")
    if result["load"] and result["load"] > BUSY:
        lines.append(f"other work kept {result['load']:.1f} cores busy: these figures say little; run it again alone")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="the model.py of a copy of nanoGPT, to measure beside ours")
    parser.add_argument("--quick", action="store_true", help="the smallest size and few rounds, to try it out")
    parser.add_argument("--out", type=Path, help="where the JSON goes (default: data/bench/training-<device>.json)")
    options = parser.parse_args(arguments)
    result = measure(options.nanogpt and load_nanogpt(options.nanogpt), options.quick)
    out = options.out or data_path("bench", STORED.format(device="cuda" if torch.cuda.is_available() else "cpu"))
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    print(report(result), f"written to {out}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
