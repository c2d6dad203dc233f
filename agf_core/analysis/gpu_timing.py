"""Timing for the GPU benchmark: rounds that interleave, ceilings of the device, peers (ours). Needs torch only."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from agf_core.attention import attend
from agf_core.fields import Field, PowerField, TableField

Call = Callable[[], Any]
TARGET_MS = 20.0  # of repetitions in one measurement


def seconds(call: Call, repeat: int) -> float:
    """Of one call, from `repeat` of them between two events (on a CPU: by the clock)."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        return (time.perf_counter() - start) / repeat
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    for _ in range(repeat):
        call()
    end_event.record()
    torch.cuda.synchronize()
    return start_event.elapsed_time(end_event) / 1e3 / repeat


def interleave(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, in an order drawn anew every round; each has been warmed up before."""
    repeat = {}
    for name, call in calls.items():
        call()
        repeat[name] = max(1, min(100, int(TARGET_MS / 1e3 / max(1e-6, seconds(call, 2)))))
    order, draw = list(calls), random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        draw.shuffle(order)
        for name in order:
            found[name].append(seconds(calls[name], repeat[name]))
    return found


def ratio(found: dict[str, list[float]], ours: str, peer: str) -> float:
    """Median over the rounds of ours / peer."""
    return statistics.median(a / b for a, b in zip(found[ours], found[peer]))


def ceilings(device: str, size: int) -> dict[str, float]:
    """What this device reaches: bf16 products of random matrices (FLOP/s), copies (bytes read and written, per s)."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(size * size * 4, device=device)
    target = torch.empty_like(source)
    found = interleave({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, 7)
    return {
        "flops": 2 * size**3 / statistics.median(found["product"]),
        "bytes": 2 * source.numel() * 4 / statistics.median(found["copy"]),
    }


def inputs(batch: int, heads: int, groups: int, queries: int, keys: int, dim: int, device: str) -> list[Tensor]:
    """q, k, v (trained) and the gradient of the output; bfloat16 on a GPU."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    shapes = [(batch, heads, queries, dim), *[(batch, groups, keys, dim)] * 2, (batch, heads, queries, dim)]
    return [torch.randn(s, device=device).to(dtype).requires_grad_(i < 3) for i, s in enumerate(shapes)]


def ours(q: Tensor, k: Tensor, v: Tensor, field: Field | None, placement: str = "logit") -> Call:
    return partial(attend, q, k, v, field=field, placement=placement, backend="triton")


def tables(q: Tensor, field: Field) -> Call:
    """What `ours` spends on the field before its forward kernel starts."""
    from agf_core.attention.problem import check
    from agf_core.attention.triton_field import as_law
    from agf_core.attention.triton_pairs import pairs

    problem, (heads, length) = check(q, q, q, field, "logit", True, None, None), q.shape[1:3]
    return lambda: pairs(*as_law(problem), heads, length, length, False)


def sdpa(q: Tensor, k: Tensor, v: Tensor, backend: SDPBackend | None) -> Call:
    """PyTorch's own attention, by that backend alone (None: whichever it takes)."""

    def call() -> Tensor:
        with sdpa_kernel(backend) if backend is not None else nullcontext():
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])

    return call


def flex(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Call:
    """Compiled FlexAttention with ALiBi's slopes (H,), which it captures, and trains if they ask for it."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score - slopes[h] * (i - j)

    def past(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= j

    mask = create_block_mask(past, None, None, q.shape[2], k.shape[2], q.device)
    compiled = torch.compile(flex_attention, dynamic=False)
    return partial(compiled, q, k, v, score_mod=bias, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def backward(call: Call, tensors: list[Tensor], grad: Tensor) -> Call:
    """Only the backward pass of `call`, with respect to `tensors`; its forward pass is run once, now."""
    out = call()
    return lambda: torch.autograd.grad(out, tensors, grad, retain_graph=True)


def power(heads: int, device: str, trained: bool) -> PowerField:
    """AGF's field with an exponent and a scale per head."""
    return PowerField(heads, scale=4.0, trainable=trained, trainable_scale=trained).to(device)


def table(heads: int, device: str, trained: bool) -> TableField:
    """A field of free knots, whose gradient is a number for every distance."""
    field = TableField(heads, 64, max_distance=8192)
    return field.to(device).requires_grad_(trained)


def peak_bytes(call: Call) -> int:
    """Largest memory held during `call` beyond what was held before; 0 on a CPU, where nobody counts."""
    if not torch.cuda.is_available():
        call()
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def in_parts(command: list[str], parts: int, limit: float) -> str:
    """Run a module's command in parallel, one part each; the last line of each, or all of one that failed.

    What runs for more than `limit` seconds is ended, and says so.
    """
    running, until = [], time.monotonic() + limit
    for i in range(parts):
        whole = [sys.executable, "-m", *command, "--part", f"{i}/{parts}"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running.append(subprocess.Popen(whole, **pipes, start_new_session=True))
    said = []
    for process in running:
        try:
            text = process.communicate(timeout=max(0.1, until - time.monotonic()))[0].strip()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the compilers that it started, which hold the pipe open
            text = process.communicate()[0].strip() + f"\nended after {limit:.0f} s"
        said.append(text if process.returncode else "".join(text.splitlines()[-1:]))
    return "\n".join(line for line in said if line)
