"""The measurements of the GPU benchmark, G1 to G11 of kernels.md, for `kernels_gpu` (ours). Needs torch and triton."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from agf_core.analysis import gpu_timing as timing
from agf_core.analysis.kernels_check import Case, formula
from agf_core.fields import ExponentialField

ROUNDS = 9
TOKENS = 16_384  # of a batch, as FlashAttention's own benchmark has it; so has the width
WIDTH = 2048
LENGTHS = (2048, 4096, 8192, 16_384)
LONGER = (32_768, 65_536, 131_072)
Row = dict[str, Any]


class Bench:
    """One run: `rows` are the targets, `notes` have no limit, `times` are all measurements behind both.

    `warm`: nothing is measured, what is called is only compiled.
    """

    def __init__(self, rehearse: bool, warm: bool = False) -> None:
        self.device = "cpu" if rehearse else "cuda"
        self.rehearse, self.warm = rehearse, warm
        self.rounds = 1 if rehearse else ROUNDS
        self.lengths = (64,) if rehearse else LENGTHS
        self.rows: list[Row] = []
        self.notes: list[Row] = []
        self.times: list[Row] = []
        self.ceilings: dict[str, float] = {}

    def shape(self, dim: int, length: int, grouped: bool) -> tuple[int, int, int]:
        """Batch, heads, key heads."""
        heads = 4 if self.rehearse else WIDTH // dim
        return max(1, (64 if self.rehearse else TOKENS) // length), heads, heads // 4 if grouped else heads

    def add(self, target: str, what: str, value: float, limit: float, **where: Any) -> None:
        if self.warm:
            return
        self.rows.append({"target": target, "what": what, "value": value, "limit": limit, **where})
        print(f"{target:4s} {what:44s} {value:8.3f}  (at most {limit:g})  {where}", flush=True)

    def note(self, what: str, value: float, **where: Any) -> None:
        self.notes.append({"what": what, "value": value, **where})
        print(f"     {what:44s} {value:8.3f}  {where}", flush=True)

    def rate(self, found: dict[str, list[float]], passes: str, **where: Any) -> None:
        """Note the part of one large product's FLOP/s: 2 products forwards, 5 backwards, half of the scores seen."""
        scores = where["batch"] * where["heads"] * where["length"] ** 2 / 2
        flop = {"forward": 4, "backward": 10}[passes] * scores * where["dim"]
        for name in ("plain", "logit", "flash", "cudnn"):
            if name in found:
                part = flop / statistics.median(found[name]) / self.ceilings["flops"]
                self.note(f"{passes}, {name}, of the product's FLOP/s", part, **where)

    def measure(self, calls: dict[str, timing.Call], **where: Any) -> dict[str, list[float]]:
        if self.warm:
            for call in calls.values():
                call()
            return {name: [1.0] for name in calls}
        found = timing.interleave(calls, self.rounds)
        self.times += [{"name": n, "seconds": statistics.median(t), "rounds": t, **where} for n, t in found.items()]
        return found

    def attention(self, dim: int, length: int, grouped: bool) -> None:
        """G1, G2, G4, G6, G7 at one size."""
        batch, heads, groups = self.shape(dim, length, grouped)
        where = {"dim": dim, "length": length, "batch": batch, "heads": heads, "groups": groups}
        q, k, v, grad = timing.inputs(batch, heads, groups, length, length, dim, self.device)
        frozen, trained = timing.power(heads, self.device, False), timing.power(heads, self.device, True)
        peers = [] if self.rehearse else [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]
        calls = {"plain": timing.ours(q, k, v, None), "logit": timing.ours(q, k, v, frozen)}
        calls["weight"] = timing.ours(q, k, v, frozen, "weight")
        calls["tables"] = timing.tables(q, frozen)
        calls |= {name: timing.sdpa(q, k, v, backend) for name, backend in peers}
        with torch.no_grad():
            found = self.measure(self.usable(calls), passes="forward", **where)
        self.add(
            "G1", "forward, field on / off", timing.ratio(found, "logit", "plain"), 1.05 if dim > 64 else 1.1, **where
        )
        for name, limit in (("flash", 0.9), ("cudnn", 1.35)):
            if name in found:
                self.add("G2", f"forward / {name}", timing.ratio(found, "logit", name), limit, **where)
        self.add("G7", "forward, weight / logit", timing.ratio(found, "weight", "logit"), 1.05, **where)
        self.note("forward, the tables alone / logit", timing.ratio(found, "tables", "logit"), **where)
        self.rate(found, "forward", **where)

        parameters = list(trained.parameters())
        free = timing.table(heads, self.device, True)
        steps = {
            "plain": timing.backward(timing.ours(q, k, v, None), [q, k, v], grad),
            "frozen": timing.backward(timing.ours(q, k, v, frozen), [q, k, v], grad),
            "logit": timing.backward(timing.ours(q, k, v, trained), [q, k, v, *parameters], grad),
            "weight": timing.backward(timing.ours(q, k, v, trained, "weight"), [q, k, v, *parameters], grad),
            "table": timing.backward(timing.ours(q, k, v, free), [q, k, v, *free.parameters()], grad),
        }
        if "flash" in found:
            steps["flash"] = timing.backward(calls["flash"], [q, k, v], grad)
        found = self.measure(steps, passes="backward", **where)
        self.add("G4", "backward, dk and dr0 / frozen", timing.ratio(found, "logit", "frozen"), 1.08, **where)
        if "flash" in found:
            limit = 1.3 if dim == 64 else 1.5
            self.add("G6", "backward, trained / flash, no field", timing.ratio(found, "logit", "flash"), limit, **where)
        self.add("G7", "backward, weight / logit", timing.ratio(found, "weight", "logit"), 1.1, **where)
        self.note("backward, field on, frozen / off", timing.ratio(found, "frozen", "plain"), **where)
        self.note("backward, free table, trained / frozen", timing.ratio(found, "table", "frozen"), **where)
        self.rate(found, "backward", **where)

    def flex(self, dim: int) -> None:
        """G3 and G5: beside FlexAttention, which compiles for every length, at 8,192."""
        batch, heads, groups = self.shape(dim, 8192, False)
        where = {"dim": dim, "length": 8192, "batch": batch, "heads": heads, "groups": groups}
        q, k, v, grad = timing.inputs(batch, heads, groups, 8192, 8192, dim, self.device)
        frozen, trained = timing.power(heads, self.device, False), timing.power(heads, self.device, True)
        slopes = ExponentialField(heads, trainable=True).to(self.device).rate.detach()
        calls = {"beside flex": timing.ours(q, k, v, frozen), "flex": timing.flex(q, k, v, slopes)}
        with torch.no_grad():
            found = self.measure(calls, passes="forward", **where)
        self.add("G3", "forward / flex", timing.ratio(found, "beside flex", "flex"), 0.9, **where)
        asked = slopes.clone().requires_grad_()
        own = [q, k, v, *trained.parameters()]
        calls = {"beside flex": timing.backward(timing.ours(q, k, v, trained), own, grad)}
        calls["flex"] = timing.backward(timing.flex(q, k, v, asked), [q, k, v, asked], grad)
        found = self.measure(calls, passes="backward", **where)
        self.add("G5", "backward, trained / flex trained", timing.ratio(found, "beside flex", "flex"), 0.5, **where)

    def usable(self, calls: dict[str, timing.Call]) -> dict[str, timing.Call]:
        """Without the peers that this machine's PyTorch cannot run; ours must run."""
        kept = {}
        for name, call in calls.items():
            try:
                call()
                kept[name] = call
            except RuntimeError as error:
                if name not in ("flash", "cudnn"):
                    raise
                print(f"no {name} here: {str(error).splitlines()[0]}", flush=True)
        return kept

    def decoding(self, dim: int) -> None:
        """G8: one query for each of many sequences, on a cache of 2 GB."""
        batch, heads, groups, keys = (
            (2, 4, 2, 600) if self.rehearse else (1 if self.warm else 16, 32, 8, 32_768 * 128 // dim)
        )
        q, k, v, _ = timing.inputs(batch, heads, groups, 1, keys, dim, self.device)
        field = timing.power(heads, self.device, True)
        with torch.no_grad():
            calls = {"off": timing.ours(q, k, v, None), "on": timing.ours(q, k, v, field)}
            where = {"dim": dim, "length": keys, "batch": batch, "heads": heads, "groups": groups}
            found = self.measure(calls, passes="decode", **where)
        if self.warm:
            return
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
        from agf_core.attention.triton_pairs import pairs_kernel, sums_kernel

        field = timing.power(4, self.device, True)

        def step(length: int) -> list[torch.Tensor]:
            torch.manual_seed(length)
            q, k, v, grad = timing.inputs(1, 4, 2, length, length, 64, self.device)
            return list(torch.autograd.grad(timing.ours(q, k, v, field)(), [q, k, v, *field.parameters()], grad))

        def compiled() -> int:
            kernels = () if self.rehearse else (forward_kernel, dq_kernel, dkdv_kernel, pairs_kernel, sums_kernel)
            return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

        first = 40 if self.rehearse else 1000
        step(first)
        before = compiled()
        same = [
            all(torch.equal(a, b) for a, b in zip(step(length), step(length)))
            for length in range(first + 1, first + (3 if self.rehearse else 1 if self.warm else 21))
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

    def longer(self, dim: int, length: int) -> None:
        """Curves of the appendix, beyond the targets' lengths: forward and backward."""
        batch, heads, groups = self.shape(dim, length, False)
        q, k, v, grad = timing.inputs(batch, heads, groups, length, length, dim, self.device)
        field = timing.power(heads, self.device, True)
        where = {"dim": dim, "length": length, "batch": batch, "heads": heads, "groups": groups}
        self.rounds = 3
        calls = {"logit": timing.ours(q, k, v, field), "flash": timing.sdpa(q, k, v, SDPBackend.FLASH_ATTENTION)}
        with torch.no_grad():
            self.measure(calls, passes="forward", **where)
        steps = {"logit": timing.backward(calls["logit"], [q, k, v, *field.parameters()], grad)}
        self.measure(steps, passes="backward", **where)
