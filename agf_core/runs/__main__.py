"""Make the runs that chapters need, or reference runs, also on a bare machine: torch, numpy, safetensors (ours).

    python -m agf_core.runs accuracy --profile cpu                 # what the chapter needs and does not have yet
    python -m agf_core.runs accuracy --text speeches.txt --device cuda --out accuracy-gpu.json
    torchrun --nproc-per-node 4 -m agf_core.runs accuracy --device cuda
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import torch
from torch import distributed

from agf_core.runs import pack, run_grid, with_text


def main(arguments: list[str] | None = None) -> int:
    # The chapters' tables of runs: asked for by name, since nothing here depends on them.
    GRIDS = importlib.import_module("agf_core.analysis.all_grids").GRIDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="*", help=f"one or more of {', '.join(GRIDS)}")
    parser.add_argument("--profile", default="cpu", choices=("smoke", "cpu", "full"))
    parser.add_argument("--text", type=Path, help="a UTF-8 file in place of each run's corpus (not for tags)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, …")
    parser.add_argument("--workers", type=int, help="runs side by side (default: one a core; one on a GPU)")
    parser.add_argument("--dask", metavar="ADDRESS", help="make the runs on this Dask cluster")
    parser.add_argument("--out", type=Path, help="also pack the records into this file, as reference runs")
    parser.add_argument("--own", action="store_true", help="make them here even where a reference run is stored")
    options = parser.parse_args(arguments)
    unknown = [g for g in options.grid if g not in GRIDS]
    if unknown or not options.grid:
        what = f"unknown grid {unknown[0]!r}" if unknown else "no grid is named"
        parser.error(f"{what}; choose from {', '.join(GRIDS)}")
    if options.text and not options.text.is_file():
        parser.error(f"no text file {options.text}")
    configs = [c for g in options.grid for c in GRIDS[g](options.profile)]
    if options.text:
        path = str(options.text.resolve())
        configs = [with_text(c, path) for c in configs if c.data.kind != "tags"]  # a file has none
    if options.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself bit by bit only so
        torch.use_deterministic_algorithms(True)
    device, rank = _join(options.device)
    client = None
    if options.dask:
        from dask.distributed import Client

        client = Client(options.dask)
    executor = client.get_executor() if client else None
    say = (lambda line: print(f"  {line}", flush=True)) if rank == 0 else None
    own = options.own or options.out is not None
    try:
        records = run_grid(configs, executor=executor, workers=options.workers, device=device, own=own, say=say)
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; the same command goes on from there", file=sys.stderr)
        return 130
    finally:
        if client:
            client.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()
    if options.out and rank == 0:
        pack({r["id"]: r for r in records}.values(), options.out)
        print(f"packed {len(records)} runs into {options.out}")
    return 0  # a run that diverged is a result, and was named above


def _join(device: str) -> tuple[str, int]:
    """Under torchrun: join the other processes; the device of this one, and its rank."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device, 0
    on_gpu = device.startswith("cuda")
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    if on_gpu:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    return device, distributed.get_rank()


if __name__ == "__main__":
    sys.exit(main())
