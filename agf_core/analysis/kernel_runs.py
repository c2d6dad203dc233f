"""Who is compared in the appendix `kernels`, and how: the same tensors, interleaved rounds, peaks of memory (ours)."""

from __future__ import annotations

import ctypes
import gc
import platform
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from agf_core.attention import attend
from agf_core.attention.convolution import convolve
from agf_core.fields import Field, PowerField

PEERS = {
    "plain": "SDPA, no field",
    "dense": "SDPA, dense learned bias",
    "alibi": "SDPA, ALiBi from transformers",
    "flex": "FlexAttention, frozen field",
}
OURS = {
    "frozen": "attend, frozen field",
    "logit": "attend, trained field",
    "score": "attend, trained, placed score",
    "weight": "attend, trained, placed weight",
}
NAMES = PEERS | OURS
BY_SCORES, BY_FFT = "field alone, by attention", "field alone, by FFT"  # without association, the same result
DENSE = ("dense", "alibi")  # their memory grows with the square of the length
BATCH, HEADS, DIM = 1, 8, 64  # kernels.md's shape
Run = Callable[[], Tensor]


def inputs(length: int, on: str = "cpu", heads: int = HEADS, dim: int = DIM) -> list[Tensor]:
    """q, k, v (trained) and the gradient of the output, (1, heads, length, dim) float32, the same for every length."""
    torch.manual_seed(0)
    return [torch.randn(BATCH, heads, length, dim, device=on).requires_grad_(i < 3) for i in range(4)]


def prepare(name: str, q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> tuple[Run, list[Tensor]]:
    """A call of `name` on these tensors, and what it trains besides them.

    ModuleNotFoundError where `alibi` lacks transformers; whatever the compiler says where `flex` can't be compiled.
    """
    heads, length = q.shape[1], q.shape[2]
    if name == "plain":
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal), []
    if name in DENSE:
        bias = _dense_bias(name, heads, length).to(q.device)
        trained = [bias.requires_grad_()] if name == "dense" else []
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias), trained
    field = PowerField(heads, trainable=name not in ("frozen", "flex")).to(q.device)
    placement = name if name in ("score", "weight") else "logit"
    backend = "flex" if name == "flex" else "auto"
    run = lambda: attend(q, k, v, field=field, placement=placement, causal=causal, backend=backend)  # noqa: E731
    return run, list(field.parameters())


def _dense_bias(name: str, heads: int, length: int) -> Tensor:
    """(1, H, N, N) with -inf for the future: what a bias costs when it is written out."""
    position = torch.arange(length)
    if name == "alibi":
        from transformers.models.bloom.modeling_bloom import build_alibi_tensor

        bias = build_alibi_tensor(torch.ones(1, length), heads, torch.float32).view(1, heads, 1, length)
    else:
        bias = torch.zeros(1, heads, 1, length)
    return bias.masked_fill(position[:, None] < position, -torch.inf)


def trainable(name: str, on: str) -> bool:
    return not (name == "flex" and on == "cpu")


def one_pass(name: str, tensors: list[Tensor], training: bool, causal: bool = True) -> Callable[[], None]:
    """Forward alone (inference), or forward and backward with every gradient; on a GPU waits for the end."""
    q, k, v, grad = tensors
    run, trained = prepare(name, q, k, v, causal=causal)
    wait = torch.cuda.synchronize if grad.is_cuda else lambda: None

    def forward() -> None:
        with torch.no_grad():
            run()
        wait()

    def both() -> None:
        torch.autograd.grad(run(), [q, k, v, *trained], grad)
        wait()

    return both if training else forward


def alone(q: Tensor, k: Tensor, v: Tensor, field: Field) -> dict[str, Callable[[Tensor], Tensor]]:
    """Mixing by a field without association, as functions of v: by attention whose scores are 0, and by FFT."""
    return {BY_SCORES: lambda x: attend(q, k, x, field=field, scale=0.0), BY_FFT: lambda x: convolve(x, field=field)}


def pass_of(
    mix: Callable[[Tensor], Tensor], v: Tensor, grad: Tensor, training: bool, trained: Sequence[Tensor] = ()
) -> Callable[[], None]:
    """`mix` of v alone, or with the gradients of v and of what is trained besides; on a GPU waits for the end."""
    wait = torch.cuda.synchronize if grad.is_cuda else lambda: None

    def forward() -> None:
        with torch.no_grad():
            mix(v)
        wait()

    def both() -> None:
        x = v.detach().requires_grad_()
        torch.autograd.grad(mix(x), [x, *trained], grad)
        wait()

    return both if training else forward


def interleave(calls: dict[str, Callable[[], None]], rounds: int, seed: int = 0) -> pd.DataFrame:
    """Seconds of every call, a row a round; all warmed up first, the order drawn anew each round."""
    draw = random.Random(seed)
    for call in calls.values():
        call()
        call()
    rows = []
    for _ in range(rounds):
        row = {}
        for name in draw.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[name]()
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows, columns=list(calls))


def usable(names: Iterable[str], on: str) -> tuple[list[str], dict[str, str]]:
    """Which of `names` run here, and for the others why not."""
    good, why = [], {}
    for name in names:
        try:
            one_pass(name, inputs(64, on), training=False)()
            good.append(name)
        except Exception as error:  # what a missing package or compiler raises differs, and is only reported
            why[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:200]
    return good, why


def peak_memory(work: Callable[[], None], on: str = "cpu") -> float:
    """MB by which `work` raises the peak above what is held before; NaN where the system does not tell (Linux does)."""
    gc.collect()
    if on == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # hand back what earlier work freed, or it would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        return float("nan")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def matmul_rate(rounds: int = 60, on: str = "cpu") -> float:
    """FLOP a second of a large float32 product here, at its best: the ceiling that times are drawn against."""
    a, out = torch.randn(1024, 1024, device=on), torch.empty(1024, 1024, device=on)
    wait = torch.cuda.synchronize if on == "cuda" else lambda: None
    taken = interleave({"mm": lambda: (torch.mm(a, a, out=out), wait())[1]}, rounds)
    return 2 * 1024**3 / taken["mm"].min()


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
