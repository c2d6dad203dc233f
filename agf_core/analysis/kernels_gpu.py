"""Test and measure the Triton kernels on a GPU: kernels.md's G1 to G11 in one unattended run of at most 8 minutes.

    python -m agf_core.analysis.kernels_gpu [--out FILE] [--skip-checks]

Needs torch 2.11 and triton 3.6 or newer, nothing else. First every case of `kernels_check`, in parallel processes,
since compiling takes the time; then the benchmark, alone. What is compared runs interleaved, and the median of the
rounds' ratios counts. Prints the targets and writes everything, with its provenance, to data/bench/kernels-gpu.json.

TRITON_INTERPRET=1 and --rehearse run every line on a CPU, on sizes that say nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch.nn.attention import SDPBackend

from agf_core.analysis import gpu_timing as timing
from agf_core.analysis.kernels_check import Case, formula
from agf_core.fields import ExponentialField
from agf_core.provenance import provenance

ROUNDS = 9
TOKENS = 16_384  # of a batch, as FlashAttention's own benchmark has it; so has the width
WIDTH = 2048
LENGTHS = (2048, 4096, 8192, 16_384)
LONGER = (32_768, 65_536, 131_072)
Row = dict[str, Any]


class Bench:
    """One run: `rows` are the targets, `times` every measurement behind them and the curves of the appendix."""

    def __init__(self, rehearse: bool) -> None:
        self.device = "cpu" if rehearse else "cuda"
        self.rehearse = rehearse
        self.rounds = 1 if rehearse else ROUNDS
        self.lengths = (64,) if rehearse else LENGTHS
        self.rows: list[Row] = []
        self.times: list[Row] = []
        self.ceilings = timing.ceilings(self.device, 64 if rehearse else 8192)

    def shape(self, dim: int, length: int, grouped: bool) -> tuple[int, int, int]:
        """Batch, heads, key heads."""
        heads = 4 if self.rehearse else WIDTH // dim
        return max(1, (64 if self.rehearse else TOKENS) // length), heads, heads // 4 if grouped else heads

    def add(self, target: str, what: str, value: float, limit: float, **where: Any) -> None:
        self.rows.append({"target": target, "what": what, "value": value, "limit": limit, **where})
        print(f"{target:4s} {what:44s} {value:8.3f}  (at most {limit:g})  {where}", flush=True)

    def measure(self, calls: dict[str, timing.Call], **where: Any) -> dict[str, list[float]]:
        found = timing.interleave(calls, self.rounds)
        self.times += [{"name": n, "seconds": statistics.median(t), "rounds": t, **where} for n, t in found.items()]
        return found

    def attention(self, dim: int, length: int, grouped: bool) -> None:
        """G1 to G7 at one size; FlexAttention, which compiles for every length, at 8,192 only."""
        batch, heads, groups = self.shape(dim, length, grouped)
        where = {"dim": dim, "length": length, "batch": batch, "heads": heads, "groups": groups}
        q, k, v, grad = timing.inputs(batch, heads, groups, length, length, dim, self.device)
        frozen, trained = timing.power(heads, self.device, False), timing.power(heads, self.device, True)
        peers = [] if self.rehearse else [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]
        calls = {"plain": timing.ours(q, k, v, None), "logit": timing.ours(q, k, v, frozen)}
        calls["weight"] = timing.ours(q, k, v, frozen, "weight")
        calls |= {name: timing.sdpa(q, k, v, backend) for name, backend in peers}
        slopes = ExponentialField(heads, trainable=True).to(self.device).rate.detach()
        with_flex = length == 8192 and not grouped and not self.rehearse
        if with_flex:
            calls["flex"] = timing.flex(q, k, v, slopes)
        with torch.no_grad():
            found = self.measure(self.usable(calls), passes="forward", **where)
        self.add(
            "G1", "forward, field on / off", timing.ratio(found, "logit", "plain"), 1.05 if dim > 64 else 1.1, **where
        )
        for name, target, limit in (("flash", "G2", 0.9), ("cudnn", "G2", 1.35), ("flex", "G3", 0.9)):
            if name in found:
                self.add(target, f"forward / {name}", timing.ratio(found, "logit", name), limit, **where)
        self.add("G7", "forward, weight / logit", timing.ratio(found, "weight", "logit"), 1.05, **where)

        parameters = list(trained.parameters())
        steps = {
            "frozen": timing.backward(timing.ours(q, k, v, frozen), [q, k, v], grad),
            "logit": timing.backward(timing.ours(q, k, v, trained), [q, k, v, *parameters], grad),
            "weight": timing.backward(timing.ours(q, k, v, trained, "weight"), [q, k, v, *parameters], grad),
        }
        if "flash" in found:
            steps["flash"] = timing.backward(calls["flash"], [q, k, v], grad)
        if with_flex:
            asked = slopes.clone().requires_grad_()
            steps["flex"] = timing.backward(timing.flex(q, k, v, asked), [q, k, v, asked], grad)
        found = self.measure(steps, passes="backward", **where)
        self.add("G4", "backward, dk and dr0 / frozen", timing.ratio(found, "logit", "frozen"), 1.08, **where)
        if with_flex:
            self.add("G5", "backward, trained / flex trained", timing.ratio(found, "logit", "flex"), 0.5, **where)
        if "flash" in found:
            limit = 1.3 if dim == 64 else 1.5
            self.add("G6", "backward, trained / flash, no field", timing.ratio(found, "logit", "flash"), limit, **where)
        self.add("G7", "backward, weight / logit", timing.ratio(found, "weight", "logit"), 1.1, **where)

    def usable(self, calls: dict[str, timing.Call]) -> dict[str, timing.Call]:
        """Without the peers that this machine's PyTorch cannot run; ours must run."""
        kept = {}
        for name, call in calls.items():
            try:
                call()
                kept[name] = call
            except RuntimeError as error:
                if name not in ("flash", "cudnn", "flex"):
                    raise
                print(f"no {name} here: {str(error).splitlines()[0]}", flush=True)
        return kept

    def decoding(self, dim: int) -> None:
        """G8: one query for each of many sequences, on a cache of 2 GB."""
        batch, heads, groups, keys = (2, 4, 2, 600) if self.rehearse else (16, 32, 8, 32_768 * 128 // dim)
        q, k, v, _ = timing.inputs(batch, heads, groups, 1, keys, dim, self.device)
        field = timing.power(heads, self.device, True)
        with torch.no_grad():
            calls = {"off": timing.ours(q, k, v, None), "on": timing.ours(q, k, v, field)}
            where = {"dim": dim, "length": keys, "batch": batch, "heads": heads, "groups": groups}
            found = self.measure(calls, passes="decode", **where)
        moved = 2 * k.numel() * k.element_size() / statistics.median(found["on"])
        self.add("G8", "decode, field on / off", timing.ratio(found, "on", "off"), 1.03, **where)
        self.add("G8", "copy's bandwidth / decode's", self.ceilings["bytes"] / moved, 1 / 0.75, **where)

    def memory(self, dim: int, length: int) -> None:
        """G9: peak of one forward and backward pass, in MB beyond 1.05 times that of PyTorch's flash attention."""
        batch, heads, groups = self.shape(dim, length, False)
        q, k, v, grad = timing.inputs(batch, heads, groups, length, length, dim, self.device)
        field = timing.power(heads, self.device, True)
        tensors = [q, k, v, *field.parameters()]
        flash = timing.sdpa(q, k, v, None if self.rehearse else SDPBackend.FLASH_ATTENTION)
        ours, plain = (
            timing.peak_bytes(lambda call=call, wrt=wrt: torch.autograd.grad(call(), wrt, grad))  # type: ignore[misc]
            for call, wrt in ((timing.ours(q, k, v, field), tensors), (flash, [q, k, v]))
        )
        self.add("G9", "MB beyond 1.05 × flash", (ours - 1.05 * plain) / 2**20, 16, dim=dim, length=length)

    def repeatability(self) -> None:
        """G10: kernels compiled for 20 lengths that are new, and whether all gradients repeat bitwise."""
        from agf_core.attention.triton_backward import dkdv_kernel, dq_kernel
        from agf_core.attention.triton_forward import forward_kernel

        field = timing.power(4, self.device, True)

        def step(length: int) -> list[torch.Tensor]:
            torch.manual_seed(length)
            q, k, v, grad = timing.inputs(1, 4, 2, length, length, 64, self.device)
            return list(torch.autograd.grad(timing.ours(q, k, v, field)(), [q, k, v, *field.parameters()], grad))

        def compiled() -> int:
            kernels = () if self.rehearse else (forward_kernel, dq_kernel, dkdv_kernel)
            return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

        first = 40 if self.rehearse else 1000
        step(first)
        before = compiled()
        same = [
            all(torch.equal(a, b) for a, b in zip(step(length), step(length)))
            for length in range(first + 1, first + (3 if self.rehearse else 21))
        ]
        self.add("G10", "compilations for 20 new lengths", compiled() - before, 0)
        self.add("G10", "lengths whose gradients changed on repeating", same.count(False), 0)

    def errors(self, dim: int) -> None:
        """G11: error (2-norm) against float64, over that of PyTorch's attention without a field; dk and dr0 alone."""
        length = 64 if self.rehearse else 2048
        q, k, v, grad = timing.inputs(1, 4, 4, length, length, dim, self.device)
        field = timing.power(4, self.device, True)
        exact_field = timing.power(4, self.device, True).double()
        x = [t.detach().double().requires_grad_() for t in (q, k, v)]
        case = Case("logit", "power", True, "none", False, 4, 4, length, length, dim, q.dtype, False, None)
        worst = {}
        for name, call, own, exact_own in (
            ("ours", timing.ours(q, k, v, field), field, exact_field),
            ("sdpa", timing.sdpa(q, k, v, None), None, None),
        ):
            out, exact = call(), formula(x[0], x[1], x[2], exact_own, case, None)
            tensors = [q, k, v, *(own.parameters() if own else ())]
            twins = [*x, *(exact_own.parameters() if exact_own else ())]
            found = [out, *torch.autograd.grad(out, tensors, grad)]
            wanted = [exact, *torch.autograd.grad(exact, twins, grad.double())]
            far = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, wanted)]
            worst[name] = far
        for what, mine, theirs in zip(("output", "dq", "dk", "dv"), worst["ours"], worst["sdpa"]):
            self.add("G11", f"error of {what} / SDPA's", mine / theirs, 1.2, dim=dim)
        for what, mine in zip(("exponent", "scale"), worst["ours"][4:]):
            self.add("G11", f"relative error of d {what}", mine, 1e-3, dim=dim)

    def longer(self, dim: int) -> Iterator[None]:
        """Curves of the appendix, up to what fits: forward and backward at lengths beyond the targets'."""
        for length in () if self.rehearse else LONGER:
            batch, heads, groups = self.shape(dim, length, False)
            q, k, v, grad = timing.inputs(batch, heads, groups, length, length, dim, self.device)
            field = timing.power(heads, self.device, True)
            where = {"dim": dim, "length": length, "batch": batch, "heads": heads, "groups": groups}
            self.rounds = 3
            with torch.no_grad():
                calls = {"logit": timing.ours(q, k, v, field)}
                calls["flash"] = timing.sdpa(q, k, v, SDPBackend.FLASH_ATTENTION)
                self.measure(calls, passes="forward", **where)
            step = timing.backward(timing.ours(q, k, v, field), [q, k, v, *field.parameters()], grad)
            self.measure({"logit": step}, passes="backward", **where)
            yield

    def run(self, until: float) -> None:
        """Everything, the essential first; what would end after `until` (by `time.monotonic`) is left out."""
        dims = (32,) if self.rehearse else (128, 64)
        self.repeatability()
        for dim in dims:
            self.errors(dim)
            self.decoding(dim)
            self.memory(dim, self.lengths[-1])
        for length in sorted(self.lengths, key=lambda n: n != 8192):
            for dim in dims:
                for grouped in (False, True):
                    if time.monotonic() > until:
                        print(f"no time left for length {length}, head size {dim}, grouped {grouped}", flush=True)
                        return
                    self.attention(dim, length, grouped)
        for dim in dims:
            for _ in self.longer(dim):
                if time.monotonic() > until:
                    return


def checks(parts: int) -> str:
    """Run `kernels_check` in parallel; the last line of each part, and any wrong case."""
    command = [sys.executable, "-m", "agf_core.analysis.kernels_check"]
    running = [
        subprocess.Popen(
            [*command, "--part", f"{i}/{parts}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for i in range(parts)
    ]
    said = [process.communicate()[0] for process in running]
    return "\n".join(
        text.strip() if process.returncode else text.strip().splitlines()[-1] for process, text in zip(running, said)
    )


def main() -> int:
    """Checks, benchmark, file; exit code 1 if a case was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/bench/kernels-gpu.json"))
    parser.add_argument("--minutes", type=float, default=7.5, help="after that, nothing new is begun")
    parser.add_argument("--skip-checks", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, in Triton's interpreter, tiny")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        parser.error("no CUDA device here; TRITON_INTERPRET=1 with --rehearse runs every line on a CPU")
    started = time.monotonic()
    said = "skipped" if given.skip_checks else checks(min(12, os.cpu_count() or 1))
    print(said, flush=True)
    torch.manual_seed(0)
    bench = Bench(given.rehearse)
    bench.run(started + 60 * given.minutes)
    missed = [row for row in bench.rows if not row["value"] <= row["limit"]]
    print(f"{len(bench.rows) - len(missed)} of {len(bench.rows)} met, {time.monotonic() - started:.0f} s")
    result = {
        "provenance": provenance(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "checks": said,
        "ceilings": bench.ceilings,
        "targets": bench.rows,
        "times": bench.times,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if ", 0 wrong" not in said and not given.skip_checks else 0


if __name__ == "__main__":
    sys.exit(main())
