"""Do the Triton kernels compile for real GPUs, and into what? No GPU is needed: ptxas comes with the triton package.

    python -m agf_core.analysis.kernels_compile            # a table for every kernel, head size, dtype and device

For each kernel as `attend` would launch it: registers per thread, bytes of local memory per thread (spilled registers),
shared memory per program, and for the main loop the instructions and the accesses to spilled registers per score.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from agf_core.attention.triton_backward import delta_kernel, dkdv_kernel, dq_kernel
from agf_core.attention.triton_decode import decode_kernel, merge_kernel
from agf_core.attention.triton_diagonal import diagonal_kernel
from agf_core.attention.triton_forward import forward_kernel
from agf_core.attention.triton_pairs import pairs_kernel, sums_kernel
from agf_core.attention.triton_table import PAD
from agf_core.attention.triton_tiles import Tile, tiles

SHARED = {75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448}  # bytes a program may have
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_FLOATS = "table_ptr lse_ptr delta_ptr sums_ptr d1_ptr d2_ptr base_ptr rate_ptr bend_ptr part_ptr pairs_ptr"
_SINGLE = {"drate_ptr", "dbend_ptr"} | set(_FLOATS.split())
_UNEVEN = {"heads", "groups", "repeat", "scale"}  # no multiples of 16, unlike addresses and strides


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes; the last two per score of the main loop and thread, 0 without a loop."""

    registers: int
    local: int
    shared: int
    instructions: float
    spills: float


def variants(target: int, dim: int, dtype: str, placement: str = "logit", masked: bool = False) -> Iterator[Any]:
    """(name, kernel, tile, compile-time arguments) of every kernel for that device, head size and dtype."""
    used = tiles(divmod(target, 10), dim, DTYPES[dtype], placement == "weight")
    shared = {"DIM": dim, "FIELD": placement, "CAUSAL": True, "MASKED": masked, "PAD": PAD, "PRECISION": used.precision}
    shared["DIRECT"] = used.direct
    yield "forward", forward_kernel, used.forward, shared
    for count in (0, 1, 2) if placement != "none" else (0,):
        yield f"dq, {count} parameters", dq_kernel, used.dq, shared | {"PARAMS": count}
    yield "dk, dv", dkdv_kernel, used.dkdv, shared
    if placement != "none":
        yield "diagonal", diagonal_kernel, used.diagonal, shared | {"SIDE": used.diagonal.rows}
    law = "none" if placement == "none" else "power"
    yield "decode", decode_kernel, used.decode, shared | {"LAW": law, "WEIGHT": placement == "weight"}
    if placement != "none":
        every = {"LAW": law, "WEIGHT": placement == "weight", "RISING": True, "D1": True, "D2": True, "BLOCK": 1024}
        yield "pairs", pairs_kernel, Tile(1024, 1, 4, 1), shared | every
        yield "sums", sums_kernel, Tile(256, 1, 4, 1), shared | every | {"PARAMS": 2, "BLOCK": 256}
    yield "delta", delta_kernel, Tile(64, 0, 4, 1), shared
    yield "merge", merge_kernel, Tile(16, 16, 4, 1), shared | {"STEP": 16}


def resources(kernel: Any, tile: Tile, given: dict[str, Any], target: int, dtype: str) -> Resources:
    """Compile for sm_`target` and read the machine code."""
    absent = set()
    if not given["MASKED"]:
        absent.add("keep_ptr")
    if given["FIELD"] == "none":
        absent.add("table_ptr")
    few = given.get("PARAMS", 0)
    absent |= {"d2_ptr"} if few < 2 else set()
    absent |= {"d1_ptr"} if few < 1 or given["FIELD"] != "weight" else set()
    absent |= {"sums_ptr"} if few < 1 and "PARAMS" in given else set()
    absent |= {"base_ptr"} if given.get("LAW") == "power" else set()
    absent |= {"base_ptr", "rate_ptr", "bend_ptr"} if given.get("LAW") == "none" else set()
    given = {"ROWS": tile.rows, "COLS": tile.cols} | given
    signature, constants, divisible = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name in given or name in absent:
            signature[name] = "constexpr"
            constants[(i,)] = given.get(name)
            continue
        if name.endswith("_ptr"):
            signature[name] = "*i1" if name == "keep_ptr" else "*fp32" if name in _SINGLE else f"*{dtype}"
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
        if name not in _UNEVEN and name not in (kernel.do_not_specialize or ()):
            divisible[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, divisible)
    options: dict[str, Any] = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
    options |= {"maxnreg": tile.registers}
    compiled = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(compiled.asm["cubin"])
        usage = _tool("-res-usage", path)
        code = _tool("-sass", path)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    rows, cols = (given["SIDE"],) * 2 if "SIDE" in given else (given["ROWS"], given["COLS"])
    length, spills = _main_loop(code, scores=rows * cols / (32 * tile.warps))
    return Resources(int(found[1]), int(found[2]), compiled.metadata.shared, length, spills)


def _tool(option: str, path: Path) -> str:
    done = subprocess.run([TOOLS / "cuobjdump", option, path], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _main_loop(code: str, scores: float) -> tuple[float, float]:
    """Instructions, and loads and stores of local memory, per score: of the shortest loop with an exp2 per score."""
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", code, re.MULTILINE)
    where = {int(address, 16): i for i, (address, _) in enumerate(lines)}
    best = (0.0, 0.0)
    for i, (address, text) in enumerate(lines):
        jump = re.search(r"BRA.*0x([0-9a-f]+)", text)
        if not jump or int(jump[1], 16) >= int(address, 16) or int(jump[1], 16) not in where:
            continue
        body = lines[where[int(jump[1], 16)] : i + 1]
        kinds = Counter(re.sub(r"@!?U?P\d+ ", "", one).split()[0].split(".")[0] for _, one in body)
        if kinds["MUFU"] >= 0.9 * scores and (best[0] == 0 or len(body) / scores < best[0]):
            best = (len(body) / scores, (kinds["LDL"] + kinds["STL"]) / scores)
    return best


def main() -> None:
    """Print the table."""
    print(f"{'':44s}registers local  shared instructions spills (per score of the main loop)")
    for target, dtypes in {90: ("bf16", "fp32"), 80: ("bf16", "fp32"), 89: ("bf16",), 75: ("fp16", "fp32")}.items():
        for dtype, dim in itertools.product(dtypes, (64, 128)):
            for placement in ("none", "logit", "weight") if dtype != "fp32" else ("logit",):
                for name, kernel, tile, given in variants(target, dim, dtype, placement):
                    r = resources(kernel, tile, given, target, dtype)
                    what = f"sm_{target} {dtype} d{dim:<3d} {placement:6s} {name:16s} {tile.rows}x{tile.cols}"
                    fits = "" if r.shared <= SHARED[target] else "  more than there is"
                    numbers = f"{r.registers:9d} {r.local:5d} {r.shared:7d} {r.instructions:12.1f} {r.spills:6.2f}"
                    print(f"{what:44s}{numbers}{fits}", flush=True)


if __name__ == "__main__":
    main()
