"""Which tile is fastest? The Triton kernels, timed with the best few of an earlier run (ours).

    python -m agf_core.analysis.kernels_tune --out FILE [--seconds S] [--processes P]

bfloat16, causal, N = 8192, width 2048, 16,384 tokens, head sizes 128 and 64. The launches are those that the operators
make, recorded and repeated with other tiles. Other processes compile into Triton's cache while this one times what is
ready, the essential first; what does not compile or start in time is written down with its reason and passed over.
TRITON_INTERPRET=1 and --rehearse run every line on a CPU.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend

from agf_core.analysis import gpu_timing as timing
from agf_core.attention import triton_backward, triton_forward, triton_op
from agf_core.attention.triton_tiles import Tile

KERNELS = {
    "forward": triton_forward.forward_kernel,
    "delta": triton_backward.delta_kernel,
    "dq": triton_backward.dq_kernel,
    "dkdv": triton_backward.dkdv_kernel,
}
PRODUCTS = {"forward": 4, "dq": 6, "dkdv": 8}  # FLOP per score and dimension
REPEAT = 10
# Rows, columns, warps, stages, perhaps registers: the best of a first run. CASES: placement, both parameters trained.
CANDIDATES: dict[tuple[str, int], list[tuple[int, ...]]] = {
    ("forward", 128): [(64, 64, 4, 3), (128, 128, 8, 2), (128, 64, 8, 3)],
    ("forward", 64): [(64, 64, 4, 3), (64, 64, 4, 3, 128), (128, 64, 4, 3), (128, 64, 8, 3)],
    ("dq", 128): [(64, 64, 4, 2), (128, 64, 8, 2), (64, 32, 4, 3)],
    ("dq", 64): [(64, 64, 4, 3), (64, 64, 4, 2, 168), (64, 32, 4, 3)],
    ("dkdv", 128): [(32, 64, 4, 3), (32, 128, 8, 2), (64, 64, 4, 2)],
    ("dkdv", 64): [(64, 64, 4, 3), (32, 128, 4, 2), (64, 64, 4, 2)],
}
CASES = {
    "forward": [("logit", False), ("none", False), ("weight", False)],
    "dq": [("logit", True), ("logit", False), ("weight", True)],
    "dkdv": [("logit", False), ("none", False), ("weight", False)],
}
Row = dict[str, Any]


class Recorder:
    """Stands in for a kernel: keeps the arguments of a launch, and launches nothing."""

    def __init__(self, name: str, into: dict[str, Any]) -> None:
        self.name, self.into = name, into

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*args: Any, **given: Any) -> None:
            self.into[self.name] = (grid[0], list(args), given)

        return launch


def record(dim: int, placement: str, trained: bool, rehearse: bool) -> dict[str, Any]:
    """(grid, arguments, options) by kernel, of one forward and backward pass."""
    device, length, batch, heads = ("cpu", 64, 1, 2) if rehearse else ("cuda", 8192, 2, 2048 // dim)
    q, k, v, grad = timing.inputs(batch, heads, heads, length, length, dim, device)
    field = None if placement == "none" else timing.power(heads, device, trained)
    found: dict[str, Any] = {}
    for name in KERNELS:
        setattr(triton_op, f"{name}_kernel", Recorder(name, found))
    try:
        out = timing.ours(q, k, v, field, "weight" if placement == "weight" else "logit")()
        torch.autograd.grad(out, [q, k, v, *(field.parameters() if field and trained else ())], grad)
    finally:
        for name, kernel in KERNELS.items():
            setattr(triton_op, f"{name}_kernel", kernel)
    return found


def retiled(name: str, launch: Any, tile: Tile) -> Any:
    """The launch with another tile. Sums go to a buffer that is large enough for all."""
    grid, args, given = launch
    if name == "delta":
        return launch
    side, own = ("COLS", tile.cols) if name == "dkdv" else ("ROWS", tile.rows)
    names = KERNELS[name].arg_names
    length = args[names.index("keys" if name == "dkdv" else "queries")]
    grid = grid // triton.cdiv(length, given[side]) * triton.cdiv(length, own)
    if name == "dq" and given["PARAMS"]:
        args = list(args)
        at = names.index("sums_ptr")
        args[at] = args[at].new_empty(2 * grid)
    options: Row = {"ROWS": tile.rows, "COLS": tile.cols, "num_warps": tile.warps, "num_stages": tile.stages}
    options |= {"maxnreg": tile.registers}
    return grid, args, given | options


def compile_one(name: str, grid: int, args: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: into Triton's cache; registers, spills and shared memory."""
    started = time.monotonic()
    try:
        made = KERNELS[name].warmup(*args, grid=(grid,), **given)
        made._init_handles()  # fails where shared memory does not suffice
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    seconds = time.monotonic() - started
    return {"registers": made.n_regs, "spills": made.n_spills, "shared": made.metadata.shared, "compiled": seconds}


def run(name: str, launch: Any) -> None:
    grid, args, given = launch
    KERNELS[name][(grid,)](*args, **given)


def measure(name: str, launch: Any, rehearse: bool) -> float:
    """Median seconds of ten launches, queued together so that nothing waits for Python."""
    run(name, launch)
    if rehearse:
        return timing.seconds(lambda: run(name, launch), 1)
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(REPEAT)]
    run(name, launch)
    for start, end in pairs:
        start.record()
        run(name, launch)
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3


def outputs(name: str, launch: Any) -> list[Tensor]:
    names = KERNELS[name].arg_names
    wanted = {"forward": ["out_ptr"], "dq": ["dq_ptr"], "dkdv": ["dk_ptr", "dv_ptr"]}[name]
    return [launch[1][names.index(n)] for n in wanted]


def apart(a: Tensor, b: Tensor) -> float:
    """Distance of two results, over the size of the second."""
    return ((a.float() - b.float()).norm() / b.float().norm()).item()


def peers(dim: int) -> list[Row]:
    """PyTorch's flash and cuDNN attention, forwards and backwards."""
    rows = []
    q, k, v, grad = timing.inputs(2, 2048 // dim, 2048 // dim, 8192, 8192, dim, "cuda")
    flop = q.shape[0] * q.shape[1] * 8192**2 / 2 * dim
    for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        try:
            call = timing.sdpa(q, k, v, backend)
            with torch.no_grad():
                forward = statistics.median(timing.interleave({"x": call}, 5)["x"])
            backward = statistics.median(timing.interleave({"x": timing.backward(call, [q, k, v], grad)}, 5)["x"])
        except RuntimeError as error:
            rows.append({"dim": dim, "kernel": name, "error": str(error)[:200]})
            continue
        for what, seconds, products in (("forward", forward, 4), ("backward", backward, 10)):
            rows.append({"dim": dim, "kernel": f"{name} {what}", "ms": 1e3 * seconds,
                         "tflops": products * flop / seconds / 1e12})  # fmt: skip
    return rows


def candidates(rehearse: bool) -> list[tuple[int, int, str, str, bool, Tile]]:
    """(order, head size, kernel, placement, both parameters trained, tile), the essential first."""
    found = []
    for (name, dim), tiles in CANDIDATES.items():
        for at, (placement, trained) in enumerate(CASES[name]):
            for i, tile in enumerate(tiles[:1] if rehearse else tiles):
                shape = Tile(32, 16, 4, 1) if rehearse else Tile(*tile)
                order = 4 * i + at + (6 if placement == "weight" and i else 0)
                found.append((order, 32 if rehearse else dim, name, placement, trained, shape))
    return sorted(found, key=lambda one: one[0])


def main() -> None:
    """Time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    torch.manual_seed(0)
    rows: list[Row] = []
    todo = candidates(given.rehearse)
    launches: dict[Any, Any] = {}
    for _, dim, _, placement, trained, *_ in todo:
        if (dim, placement, trained) not in launches:
            launches[dim, placement, trained] = record(dim, placement, trained, given.rehearse)
    waiting: list[tuple[Any, Any, Future[Row] | None]] = []
    context = multiprocessing.get_context("spawn")
    pool = None if given.rehearse else ProcessPoolExecutor(given.processes, context, os.setpgrp)
    for one in todo:
        _, dim, name, placement, trained, tile = one
        launch = retiled(name, launches[dim, placement, trained][name], tile)
        grid, args, options = launch
        bare = [x.dtype if isinstance(x, Tensor) else x for x in args]
        waiting.append((one, launch, pool.submit(compile_one, name, grid, bare, options) if pool else None))
    if not given.rehearse:
        for dim in (128, 64):
            rows += peers(dim)
            print(*rows[-4:], sep="\n", flush=True)
    exact: dict[Any, list[Tensor]] = {}
    ready: set[Any] = set()
    while waiting and time.monotonic() < until:
        done = next((w for w in waiting if w[2] is None or w[2].done()), None)
        if done is None:
            time.sleep(0.02)
            continue
        one, launch, future = done
        _, dim, name, placement, trained, tile = one
        case = (dim, placement, trained)
        if name != "forward" and case not in ready:  # lse and delta, with the operators' own tiles
            run("forward", launches[case]["forward"])
            run("delta", launches[case]["delta"])
            ready.add(case)
        waiting.remove(done)
        row: Row = {"dim": dim, "kernel": name, "placement": placement, "trained": trained}
        row |= {"tile": [tile.rows, tile.cols, tile.warps, tile.stages, tile.registers]}
        try:
            with suppress(BrokenProcessPool):  # then it is compiled here
                row |= future.result() if future else {}
            if "error" not in row:
                seconds = measure(name, launch, given.rehearse)
                queries = launch[1][KERNELS[name].arg_names.index("queries")]
                scores = launches[case]["forward"][1][0].shape[:2].numel() * queries**2 / 2
                row |= {"ms": 1e3 * seconds, "tflops": PRODUCTS[name] * scores * dim / seconds / 1e12}
                found = outputs(name, launch)
                want = exact.setdefault((*case, name), [x.clone() for x in found])
                row["apart"] = max(apart(a, b) for a, b in zip(found, want))
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:200]}"
        rows.append(row)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"torch": torch.__version__, "triton": triton.__version__, "rows": rows}
        given.out.write_text(json.dumps(result) + "\n")
    report(rows)
    print(f"{len(waiting)} not reached: {[w[0][1:] for w in waiting]}"[:2000])
    if pool:
        for process in list(pool._processes):  # one that compiles for minutes would hold the exit up
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)  # with its ptxas
        pool.shutdown(wait=False, cancel_futures=True)


def report(rows: list[Row]) -> None:
    """The fastest few of each case, and what failed."""
    for case in dict.fromkeys((r["dim"], r["kernel"], r["placement"], r["trained"]) for r in rows if "tile" in r):
        mine = [r for r in rows if "ms" in r and "tile" in r]
        mine = [r for r in mine if (r["dim"], r["kernel"], r["placement"], r["trained"]) == case]
        print("d{} {} {}{}".format(case[0], case[1], case[2], " trained" if case[3] else ""))
        for r in sorted(mine, key=lambda r: r["ms"]):
            tile = "{}x{} w{} s{} r{}".format(*r["tile"])
            print(f"  {tile:20s} {r['ms']:8.3f} ms {r['tflops']:7.1f} TF/s  apart {r['apart']:.1e}  "
                  f"regs {r.get('registers')} spills {r.get('spills')} shared {r.get('shared')}")  # fmt: skip
    for r in rows:
        if "error" in r:
            print("failed", {k: r[k] for k in r if k != "trained"})


if __name__ == "__main__":
    main()
