"""Are the Triton kernels right? Values and all gradients against autograd in float64, on a GPU or in the interpreter.

    python -m agf_core.analysis.kernels_check                       # on a GPU
    TRITON_INTERPRET=1 python -m agf_core.analysis.kernels_check    # on a CPU, the same cases on shorter lengths

Needs torch and triton only. The formula is written out here once more, without anything of `agf_core.attention`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agf_core.attention.problem import check
from agf_core.attention.triton import run, unsupported
from agf_core.fields import ExponentialField, Field, MlpField, PowerField, StretchedExponentialField, TableField

# Every field with `both` = False reads |r|; with True, it keeps two parameter sets.
FIELDS: dict[str, Callable[[int, bool], Field | None]] = {
    "none": lambda heads, both: None,
    "power": lambda heads, both: PowerField(heads, directional=both),
    "power, scale trained": lambda heads, both: PowerField(heads, scale=3.0, trainable_scale=True, directional=both),
    "power, frozen": lambda heads, both: PowerField(heads, trainable=False, directional=both),
    "exponential": lambda heads, both: ExponentialField(heads, trainable=True, directional=both),
    "stretched": lambda heads, both: StretchedExponentialField(heads, shape=0.7, directional=both),
    "table": lambda heads, both: _table(heads, both),
    "mlp": lambda heads, both: MlpField(heads, threshold=10_000, directional=both),
}
MASKS = ("none", "random", "left padding", "one row of the batch without keys")
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest entry
HALF = {"cuda": torch.bfloat16, "cpu": torch.float16}  # of --quick; the interpreter cannot multiply bfloat16
FIELD_TOLERANCE = {torch.float32: 5e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}  # few numbers, of cancelling sums


def _table(heads: int, both: bool) -> TableField:
    shape = (2, heads, 12) if both else (heads, 12)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    return TableField(heads, 12, max_distance=30, initial=start, directional=both)


@dataclass(frozen=True)
class Case:
    """One call: which field where, who sees whom, and sizes."""

    placement: str
    law: str
    causal: bool
    mask: str
    directional: bool
    heads: int
    groups: int
    queries: int
    keys: int
    dim: int
    dtype: torch.dtype
    transposed: bool
    scale: float | None
    grad: bool = True

    def __str__(self) -> str:
        shape = f"B2 H{self.heads}/{self.groups} N{self.queries} M{self.keys} d{self.dim}"
        side = ("causal " if self.causal else "") + ("directional " if self.directional else "")
        kind = "" if self.grad else "decode "
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{kind}{self.placement}, {self.law}, {side}mask {self.mask}, {shape} {dtype} scale {self.scale}"


def cases(device: str) -> Iterator[Case]:
    """Every placement × law × causality × mask; groups, lengths, sizes, dtypes and strides take turns."""
    gpu = device != "cpu"
    lengths = [(40, 40), (37, 37), (5, 53), (33, 50), (1, 40), (34, 34), (17, 17)]
    lengths = [(n * 8 - 3, m * 8 - 3) for n, m in lengths] if gpu else lengths
    across = [(50, 33), (23, 9), *lengths]  # without causality there may be more queries than keys
    sizes = itertools.cycle((64, 128, 32) if gpu else (32,) * 15 + (64,))
    dtypes = itertools.cycle((torch.bfloat16, torch.float16, torch.float32) if gpu else (torch.float32,))
    grouping = itertools.cycle([(2, 2), (2, 1), (1, 1), (4, 2), (1, 1), (3, 1), (2, 2)])
    turn = itertools.count()
    for placement, law, causal, mask in itertools.product(("logit", "weight"), FIELDS, (True, False), MASKS):
        if law == "none" and placement == "weight":
            continue
        i = next(turn)
        heads, groups = next(grouping)
        queries, keys = (lengths if causal else across)[i % 7]
        scale = (None, 0.4, -0.3, None)[i // 3 % 4]
        directional = i % 3 == 1
        case = Case(placement, law, causal, mask, directional, heads, groups, queries, keys, next(sizes),
                    next(dtypes), i % 2 == 0, scale)  # fmt: skip
        yield case
        if i % 2:
            few, many = ((1, 3, 5)[i % 3], (600 if i % 10 == 5 else 90))
            yield Case(placement, law, causal, mask, directional, heads, groups, few, many * (8 if gpu else 1),
                       case.dim, case.dtype, case.transposed, scale, grad=False)  # fmt: skip


def formula(q: Tensor, k: Tensor, v: Tensor, field: Field | None, case: Case, mask: Tensor | None) -> Tensor:
    """softmax(s + log g) V or (softmax(s) ⊙ g) V, by exponentials over their sum; rows without keys give zeros."""
    repeat = q.shape[1] // k.shape[1]
    position = torch.arange(case.keys - case.queries, case.keys, device=q.device)
    distance = position[:, None] - torch.arange(case.keys, device=q.device)  # (N, M)
    score = torch.einsum("bhnd,bhmd->bhnm", q, k.repeat_interleave(repeat, 1))
    score = score * (case.dim**-0.5 if case.scale is None else case.scale)
    log_g = torch.zeros((), dtype=q.dtype, device=q.device) if field is None else field.log_weight(distance.double())
    seen = distance >= 0 if case.causal else torch.ones_like(distance, dtype=torch.bool)
    seen = seen if mask is None else seen & mask[:, None, None, :]
    inside = score + log_g if case.placement == "logit" else score
    top = inside.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True).clamp(min=-1e300).detach()
    mass = torch.where(seen, torch.exp(torch.where(seen, inside - top, 0)), 0)
    total = mass.sum(-1, keepdim=True)
    share = mass / torch.where(total > 0, total, 1)
    share = share * log_g.exp() if case.placement == "weight" else share
    return torch.einsum("bhnm,bhmd->bhnd", share, v.repeat_interleave(repeat, 1))


def errors(case: Case, device: str, seed: int = 0) -> dict[str, float]:
    """Largest error of the output and of each gradient, over the largest entry of the exact one, over the tolerance."""
    random = torch.Generator(device).manual_seed(seed)
    torch.manual_seed(seed)  # an MLP's start

    def tensor(heads: int, length: int) -> Tensor:
        shape = (2, length, heads, case.dim) if case.transposed else (2, heads, length, case.dim)
        x = torch.randn(shape, generator=random, device=device).to(case.dtype)
        return x.transpose(1, 2) if case.transposed else x

    q, k, v = tensor(case.heads, case.queries), tensor(case.groups, case.keys), tensor(case.groups, case.keys)
    grad = tensor(case.heads, case.queries)
    mask = None
    if case.mask != "none":
        mask = torch.rand(2, case.keys, generator=random, device=device) > 0.4
        if case.mask == "left padding":
            mask = torch.arange(case.keys, device=device) >= torch.tensor([[case.keys // 2], [0]], device=device)
        elif case.mask.startswith("one row"):
            mask[0] = False
    field = FIELDS[case.law](case.heads, case.directional)
    field = None if field is None else field.to(device)
    exact_field = None if field is None else copy.deepcopy(field).double()
    inputs = [x.detach().requires_grad_(case.grad) for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_(case.grad) for x in (q, k, v)]
    with torch.set_grad_enabled(case.grad):
        problem = check(inputs[0], inputs[1], inputs[2], field, case.placement, case.causal, mask, case.scale)
        reason = unsupported(problem)
        if reason is not None:
            raise RuntimeError(reason)
        found = {"output": run(problem)}
        wanted = {"output": formula(exact[0], exact[1], exact[2], exact_field, case, mask)}
    if case.grad:
        names = ["dq", "dk", "dv"]
        ours, theirs = list(inputs), list(exact)
        for (name, mine), twin in zip(
            field.named_parameters() if field else (), exact_field.parameters() if exact_field else ()
        ):
            if mine.requires_grad:
                names.append(f"d {name}")
                ours.append(mine)
                theirs.append(twin)
        found |= zip(names, torch.autograd.grad(found["output"], ours, grad))
        wanted |= zip(names, torch.autograd.grad(wanted["output"], theirs, grad.double()))
    largest = max((_largest(wanted[name]) for name in wanted if name.startswith("d ")), default=0.0)
    # A constant in log g inside the softmax changes nothing. Its gradient, exactly 0, is found to be rounding:
    # two sums of dO ⊙ O cancel, and O is rounded in one of them, by eps at random (found: 0.43 eps of the norm).
    rounding = 2 * torch.finfo(case.dtype).eps * (grad.double() * wanted["output"]).norm().item()
    # Layers of one network take the same errors of dT along, and in a bias hardly anything else may be left.
    norms = {name: exact_one.norm().item() for name, exact_one in wanted.items() if _network(name)}
    result = {}
    for name, exact_one in wanted.items():
        own = name.startswith("d ")
        size = max(_largest(exact_one), 0.1 * largest if own else 0, 1e-3)  # one near 0 is measured by its sisters
        if _network(name):
            size = max(size, 0.25 * max(norm for other, norm in norms.items() if _network(other) == _network(name)))
        limit = (FIELD_TOLERANCE if own else TOLERANCE)[case.dtype] * size
        if own and _largest(exact_one) < 1e-9 * rounding:
            limit = max(limit, rounding)
        one = found[name]
        right = one.shape == exact_one.shape and bool(torch.isfinite(one).all())
        result[name] = _largest(one.double() - exact_one) / limit if right else float("inf")
    return result


def _network(name: str) -> str:
    """The network that a parameter's layer belongs to ("d mlps.0.2.bias": "d mlps.0"), or "" for any other."""
    parts = name.split(".")
    return ".".join(parts[:-2]) if len(parts) > 2 else ""


def _largest(x: Tensor) -> float:
    return x.abs().max().item()


def main() -> int:
    """Run all cases, or those whose description contains `--only`; exit code 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose description contains this")
    parser.add_argument("--part", default="0/1", help="every n-th case from the i-th on: i/n, to share them out")
    parser.add_argument("--quick", action="store_true", help="all in one half precision and head size: few kernels")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first, step = map(int, given.part.split("/"))
    started, count, failed = time.perf_counter(), 0, 0
    for case in itertools.islice(cases(device), first, None, step):
        if given.only not in str(case):
            continue
        if given.quick:  # every field, placement, mask and grouping, by few kernels: compiling takes the time
            case = replace(case, dim=64 if device == "cuda" else 32, dtype=HALF[device])
        count += 1
        try:
            found = errors(case, device)
        except Exception as error:  # one that does not compile is one wrong case
            found = {f"{type(error).__name__}: {error}"[-500:]: float("inf")}
        worst = max(found, key=lambda name: found[name])
        wrong = {name: f"{error:.2g}" for name, error in found.items() if not error <= 1}
        failed += bool(wrong)
        if wrong or given.verbose:
            print(f"{'WRONG' if wrong else 'right'}  {case}: {wrong or f'{worst} {found[worst]:.2g} of the tolerance'}")
    print(f"{count} cases on {device}, {failed} wrong, {time.perf_counter() - started:.0f} s")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
