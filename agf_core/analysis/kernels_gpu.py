"""Test and measure the Triton kernels on a GPU: kernels.md's G1 to G11 in one unattended run of about 5 minutes.

    python -m agf_core.analysis.kernels_gpu [--out FILE] [--all-checks] [--skip-checks]

Needs torch 2.11 and triton 3.6 or newer, nothing else. First `kernels_check` (every case in one half precision;
`--all-checks`: in all, which takes longer), then all kernels into Triton's cache, both in parallel processes, since
compiling takes the time; then the benchmark, alone, the essential first. What is compared runs interleaved, and the
median of the rounds' ratios counts. Prints the targets and writes everything, with its provenance, to
data/bench/kernels-gpu.json, anew after every part, so that a run that is cut short keeps what it has.

TRITON_INTERPRET=1 and --rehearse run every line on a CPU, on sizes that say nothing about speed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton

from agf_core.analysis import gpu_timing as timing
from agf_core.analysis.gpu_bench import LONGER, Bench
from agf_core.provenance import provenance


def compile_part(bench: Bench, part: int, parts: int) -> None:
    """Every n-th piece of what `run` will call, into the caches on disk, where all processes find it."""
    dims = (128, 64)
    pieces: list[Callable[[], None]] = [partial(bench.flex, dim) for dim in dims]
    for dim, grouped in itertools.product(dims, (False, True)):
        for law, placement, trained in (
            (timing.power, "logit", True), (timing.power, "weight", True),
            (timing.table, "logit", True), (None, "logit", False),
        ):  # fmt: skip
            pieces.append(partial(compile_one, bench, dim, grouped, law, placement, trained))
    pieces += [bench.repeatability, *(partial(bench.errors, dim) for dim in dims)]
    pieces += [partial(bench.decoding, dim) for dim in dims]
    for piece in itertools.islice(pieces, part, None, parts):
        piece()


def compile_one(bench: Bench, dim: int, grouped: bool, law: Any, placement: str, trained: bool) -> None:
    """The kernels of one forward and backward pass. They are the same for every length."""
    _, heads, groups = bench.shape(dim, 512, grouped)
    q, k, v, grad = timing.inputs(1, heads, groups, 512, 512, dim, bench.device)
    field = law(heads, bench.device, trained) if law else None
    own = [p for p in field.parameters() if p.requires_grad] if field else []
    torch.autograd.grad(timing.ours(q, k, v, field, placement)(), [q, k, v, *own], grad)


def measurements(bench: Bench) -> Iterator[tuple[str, Callable[[], None]]]:
    """What to measure, each with its name, the essential first."""
    dims = (32,) if bench.rehearse else (128, 64)
    lengths = sorted(bench.lengths, key=lambda n: n != 8192)
    for length in lengths:
        for grouped, dim in itertools.product((False, True), dims):
            name = f"length {length}, head size {dim}{', grouped' if grouped else ''}"
            yield name, partial(bench.attention, dim, length, grouped)
        if length != lengths[0]:
            continue
        yield "repeatability", bench.repeatability
        for dim in dims:
            yield f"memory, head size {dim}", partial(bench.memory, dim, bench.lengths[-1])
            yield f"errors, head size {dim}", partial(bench.errors, dim)
            yield f"decoding, head size {dim}", partial(bench.decoding, dim)
        for dim in () if bench.rehearse else dims:
            yield f"flex, head size {dim}", partial(bench.flex, dim)
    for length, dim in itertools.product(() if bench.rehearse else LONGER, dims):
        yield f"length {length}, head size {dim}", partial(bench.longer, dim, length)


def write(bench: Bench, path: Path, checks: str) -> None:
    result = {
        "provenance": provenance(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "checks": checks,
        "ceilings": bench.ceilings,
        "targets": bench.rows,
        "notes": bench.notes,
        "times": bench.times,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> int:
    """Checks, benchmark, file; exit code 1 if a case was wrong or a measurement failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/bench/kernels-gpu.json"))
    parser.add_argument("--minutes", type=float, default=4.5, help="from the start; after that, nothing new is begun")
    parser.add_argument("--all-checks", action="store_true", help="in all dtypes and head sizes, not in one")
    parser.add_argument("--skip-checks", action="store_true")
    parser.add_argument("--part", default="", help="only compile every n-th piece from the i-th on: i/n")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, in Triton's interpreter, tiny")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        parser.error("no CUDA device here; TRITON_INTERPRET=1 with --rehearse runs every line on a CPU")
    started, parts = time.monotonic(), max(1, (os.cpu_count() or 1) - 2)
    if given.part:
        compile_part(Bench(given.rehearse, warm=True), *map(int, given.part.split("/")))
        return 0
    said = "skipped"
    if not given.skip_checks:
        quick = [] if given.all_checks else ["--quick"]
        said = timing.in_parts(["agf_core.analysis.kernels_check", *quick], parts, 3600 if given.all_checks else 150)
    print(said, f"{time.monotonic() - started:.0f} s", sep="\n", flush=True)
    if not given.rehearse:
        print(timing.in_parts(["agf_core.analysis.kernels_gpu"], parts, 100))
        print(f"compiled, {time.monotonic() - started:.0f} s", flush=True)
    torch.manual_seed(0)
    bench = Bench(given.rehearse)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    bench.ceilings = timing.ceilings(bench.device, 64 if bench.rehearse else 8192)
    failed = []
    for name, measurement in measurements(bench):
        if time.monotonic() > started + 60 * given.minutes:
            print(f"no time left for: {name}, and what comes after", flush=True)
            break
        try:
            measurement()
        except Exception as error:  # the rest may still be had
            failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:500]}", flush=True)
        write(bench, given.out, said)
    missed = [row for row in bench.rows if not row["value"] <= row["limit"]]
    print(f"{len(bench.rows) - len(missed)} of {len(bench.rows)} met, {time.monotonic() - started:.0f} s")
    right = given.skip_checks or all(", 0 wrong" in line for line in said.splitlines())
    return 0 if right and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
