"""The Triton kernels compile for real GPUs, without one: they fit the shared memory, and main loops spill little."""

import os

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

from agf_core.analysis import kernels_compile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (kernels_compile.TOOLS / "ptxas").exists(), reason="no ptxas in the triton package"),
]


@pytest.mark.parametrize(
    ("target", "dim", "dtype", "placement", "masked"),
    [
        (90, 64, "bf16", "logit", True),
        (90, 128, "bf16", "weight", False),
        (89, 64, "bf16", "logit", False),
    ],
)
def test_main_loops_spill_little(target, dim, dtype, placement, masked):
    for name, kernel, tile, given in kernels_compile.variants(target, dim, dtype, placement, masked):
        if name == "dq, 0 parameters":
            continue  # less than the other two
        found = kernels_compile.resources(kernel, tile, given, target, dtype)
        assert found.shared <= kernels_compile.SHARED[target], f"{name}: {found}"
        # The tiles of dq for 9.0 were the fastest measured on an H200, ahead of others that spill nothing.
        limit = 1 if name == "diagonal" or (name.startswith("dq") and target == 90) else 0.25
        assert found.spills < limit, f"{name}: {found}"


@pytest.mark.parametrize(("target", "dtype"), [(75, "fp16"), (80, "fp32")])
def test_the_rest_compiles_too(target, dtype):
    for name, kernel, tile, given in kernels_compile.variants(target, 64, dtype):
        if name in ("forward", "dq, 1 parameters", "dk, dv", "diagonal"):
            found = kernels_compile.resources(kernel, tile, given, target, dtype)
            assert found.shared <= kernels_compile.SHARED[target], f"{name}: {found}"
