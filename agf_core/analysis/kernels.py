"""What a distance field costs: time, memory and error of `attend` beside its peers (appendix `kernels`, `make bench`).

    python -m agf_core.analysis.kernels [--quick] [--out FILE]

Everything that is compared is interleaved in one run, in an order drawn anew each round, and compared as the median of
the rounds' own ratios: a machine that slows down slows both. The targets C1 to C4 were set before the code was written;
FFT, that mixing by a field alone is no slower by FFT than by attention, later (ours).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

import agf_core
from agf_core.analysis.kernel_runs import (
    BATCH,
    BY_FFT,
    BY_SCORES,
    DENSE,
    DIM,
    HEADS,
    NAMES,
    OURS,
    alone,
    inputs,
    interleave,
    matmul_rate,
    one_pass,
    pass_of,
    peak_memory,
    processor,
    trainable,
    usable,
)
from agf_core.attention import attend, reference
from agf_core.attention.problem import check
from agf_core.fields import PowerField
from agf_core.figures import Estimate
from agf_core.provenance import commit, device
from agf_core.sources.tables import data_path, read_stored

LONGEST_DENSE = 4096  # N; a dense bias of 8 heads and its gradient take 1 GB there
BUSY = 0.5  # load average above which two threads no longer find two free cores
TARGET_LENGTH = 2048
LENGTHS = [128, 256, 512, 1024, 2048, 4096, 8192]
SIZES = {  # profile: lengths, rounds, length at which C4 is measured (0: it is not)
    "smoke": ([64, 128, 256], 3, 0),
    "cpu": ([128, 256, 512, 1024, 2048], 7, 8192),
    "full": (LENGTHS, 15, 8192),
}
LIMITS = {"C1": 1.15, "C2": 1.06, "C3": 1.5, "C3 dense": 0.35, "C4": 64.0, "FFT": 1.0, "FFT trained": 1.0}
STORED = "kernels-{device}.json"
VERDICTS = ("met", "not met", "undecided")


def times(names: list[str], lengths: Iterable[int], rounds: int, on: str = "cpu") -> pd.DataFrame:
    """Columns length, pass (forward, training), name, seconds (median), best (minimum)."""
    rows = []
    for length in lengths:
        for training in (False, True):
            tensors = inputs(length, on)
            who = [
                n for n in names if (trainable(n, on) or not training) and (n not in DENSE or length <= LONGEST_DENSE)
            ]
            calls = {n: one_pass(n, tensors, training) for n in who}
            taken = interleave(calls, rounds if length <= 2048 else max(3, rounds // 3))
            what = "training" if training else "forward"
            rows += [(length, what, n, taken[n].median(), taken[n].min()) for n in who]
    return pd.DataFrame(rows, columns=["length", "pass", "name", "seconds", "best"])


def memory(names: list[str], lengths: Iterable[int], on: str = "cpu") -> pd.DataFrame:
    """Columns length, name, mb: peak of one forward and backward, the gradients of q, k, v left out."""
    rows = []
    for length in lengths:
        for name in names:
            if not trainable(name, on) or (name in DENSE and length > LONGEST_DENSE):
                continue
            tensors = inputs(length, on)
            # Made inside: a bias that is written out is part of the price.
            peak = peak_memory(partial(_whole_step, name, tensors), on)
            rows.append((length, name, peak - 3 * tensors[0].numel() * 4 / 2**20))
    return pd.DataFrame(rows, columns=["length", "name", "mb"])


def _whole_step(name: str, tensors: list[torch.Tensor]) -> None:
    one_pass(name, tensors, training=True)()


def errors(lengths: Iterable[int], heads: int = 2) -> pd.DataFrame:
    """Columns length, name, what (output, dq, dk, dv, d exponent), error: largest, relative to the largest exact value.

    Exact is the literal definition in float64; `plain` stands for what float32 costs without a field.
    """
    rows = []
    for length in lengths:
        *qkv, grad = inputs(length, heads=heads)
        for name in ("plain", *[n for n in OURS if n != "frozen"]):
            found = []
            for dtype in (torch.float64, torch.float32):
                x = [t.detach().to(dtype).requires_grad_() for t in qkv]
                field = None if name == "plain" else PowerField(heads).to(dtype)
                placement = "logit" if field is None else name
                trained = [] if field is None else list(field.parameters())
                exact = dtype == torch.float64
                problem = check(x[0], x[1], x[2], field, placement, True, None, None)
                out = reference.run(problem) if exact else attend(x[0], x[1], x[2], field=field, placement=placement)
                found.append([out, *torch.autograd.grad(out, [*x, *trained], grad.to(dtype))])
            for what, exact_value, value in zip(("output", "dq", "dk", "dv", "d exponent"), *found):
                relative = (value.double() - exact_value).abs().max() / exact_value.abs().max()
                rows.append((length, name, what, relative.item()))
    return pd.DataFrame(rows, columns=["length", "name", "what", "error"])


def targets(rounds: int, length: int = TARGET_LENGTH, long: int = 8192) -> pd.DataFrame:
    """C1 to C4 and FFT here: columns target, what, value, low, high, best, limit.

    value is the median of the rounds' ratios, low and high its 95 % interval; C4 is one peak, in MB.
    """
    tensors = inputs(length)
    fast = {
        "plain": one_pass("plain", tensors, False),
        "ours": one_pass("logit", tensors, False),
        "plain both ways": one_pass("plain", tensors, False, causal=False),
        "ours both ways": one_pass("logit", tensors, False, causal=False),
    }
    train = {name: one_pass(name, tensors, True) for name in ("plain", "logit")}
    forward, training = interleave(fast, 2 * rounds), interleave(train, 2 * rounds)
    dense = interleave({n: one_pass(n, tensors, True) for n in ("dense", "logit")}, max(2, rounds // 4))
    by_fft, by_fft_trained = (interleave(_alone(tensors, t), rounds) for t in (False, True))

    def row(target: str, what: str, table: pd.DataFrame, ours: str, peer: str) -> tuple[Any, ...]:
        ratios = table[ours] / table[peer]
        best = table[ours].min() / table[peer].min()
        return target, what, ratios.median(), *median_interval(ratios), best, LIMITS[target]

    rows = [
        row("C1", "forward, causal / SDPA", forward, "ours", "plain"),
        row("C2", "forward, bidirectional / SDPA", forward, "ours both ways", "plain both ways"),
        row("C3", "forward + backward with dk / SDPA", training, "logit", "plain"),
        row("C3 dense", "the same / SDPA with a dense learned bias", dense, "logit", "dense"),
    ]
    if long:
        extra = float(memory(["logit"], [long])["mb"].iloc[0])
        rows.append(("C4", f"extra memory at N = {long}, MB", *[extra] * 4, LIMITS["C4"]))
    rows += [
        row("FFT", "field alone, forward, by FFT / by attention", by_fft, BY_FFT, BY_SCORES),
        row("FFT trained", "the same, forward + backward with dk", by_fft_trained, BY_FFT, BY_SCORES),
    ]
    return pd.DataFrame(rows, columns=["target", "what", "value", "low", "high", "best", "limit"])


def _alone(tensors: list[torch.Tensor], training: bool) -> dict[str, Callable[[], None]]:
    """Passes of a field without association, by attention and by FFT, with the gradients of v and of the exponents."""
    q, k, v, grad = (t.detach() for t in tensors)
    field = PowerField(HEADS).to(v.device)
    return {n: pass_of(mix, v, grad, training, list(field.parameters())) for n, mix in alone(q, k, v, field).items()}


def median_interval(values: Iterable[float]) -> tuple[float, float]:
    """95 % interval of a median from order statistics, whatever the distribution; all of the range for few values."""
    ordered = np.sort(np.fromiter(values, dtype=float))
    k = max(1, int(stats.binom.ppf(0.025, len(ordered), 0.5)))
    return float(ordered[k - 1]), float(ordered[-k])


def verdict(row: dict[str, Any]) -> str:
    """A target is met or not where its interval lies on one side of the limit."""
    return "met" if row["high"] <= row["limit"] else "not met" if row["low"] > row["limit"] else "undecided"


def limit_seconds(lengths: Iterable[int], training: bool, rate: float) -> np.ndarray:
    """Two products forwards, five more backwards, over the half of the scores that is not the future."""
    products = 7 if training else 2
    return products * BATCH * HEADS * DIM * np.asarray(list(lengths), dtype=float) ** 2 / rate


def measure(lengths: list[int], rounds: int, names: Iterable[str] = tuple(NAMES), long: int = 8192) -> dict[str, Any]:
    """The whole benchmark, JSON-ready: tables as lists of rows. `long` 0 leaves C4 out."""
    on = "cuda" if torch.cuda.is_available() else "cpu"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    good, missing = usable(names, on)
    tables = {
        "times": times(good, lengths, rounds, on),
        "memory": memory(good, lengths, on),
        "errors": errors([n for n in lengths if n <= 1024]),
        "targets": targets(rounds, min(TARGET_LENGTH, max(lengths)), long),
    }
    return {
        "device": device(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "agf_core": agf_core.__version__},
        "commit": commit(),
        "shape": {"batch": BATCH, "heads": HEADS, "dim": DIM, "dtype": "float32"},
        "rounds": rounds,
        "load": load,
        "matmul_rate": matmul_rate(on=on),
        "missing": missing,
        **{name: table.to_dict("records") for name, table in tables.items()},
    }


def run(profile: str) -> dict[str, Any]:
    """The reader's own run, of the size that a profile allows; without FlexAttention, which compiles for minutes."""
    lengths, rounds, long = SIZES[profile]
    names = ("plain", "dense", "logit") if profile == "smoke" else ("plain", "dense", "alibi", *OURS)
    return measure(lengths, rounds, names, long)


def stored(on: str = "cpu") -> dict[str, Any] | None:
    """The reference run kept with the library, or None."""
    found: dict[str, Any] | None = read_stored("bench", STORED.format(device=on))
    return found


def in_words(result: dict[str, Any], where: str) -> str:
    """The targets as a sentence or two, from the figures alone."""
    value = {row["target"]: Estimate(row["value"], row["low"], row["high"]) for row in result["targets"]}
    length = min(TARGET_LENGTH, _longest(result))
    text = (
        f"{where} ({result['processor']}, {result['threads']} threads), at N = {length}: with a trained power field "
        f"placed on the logits, attention takes {value['C1']:.2f} × the time of attention without any field forwards, "
        f"and {value['C3']:.2f} × forwards and backwards with every gradient. A bias that is written out and learned "
        f"takes {value['C3'].value / value['C3 dense'].value:.1f} ×. "
    )
    if "C4" in value and np.isfinite(value["C4"].value):
        text += f"At the longest text the pass took {value['C4'].value:.0f} MB beside its gradients. "
    if is_settled(result):
        said = {w: [f"{r['target']} ({r['what']})" for r in result["targets"] if verdict(r) == w] for w in VERDICTS}
        text += "Targets, " + "; ".join(f"{word}: {', '.join(said[word]) or 'none'}" for word in VERDICTS) + "."
    else:
        text += f"The targets are set at N = {TARGET_LENGTH}: this run is too small to tell."
    if result["load"] and result["load"] > BUSY:
        text += f" Other work kept {result['load']:.1f} cores busy meanwhile, which lengthens these times unevenly."
    return text


def is_settled(result: dict[str, Any]) -> bool:
    """Whether a run reached the length that the targets are set at."""
    return _longest(result) >= TARGET_LENGTH


def _longest(result: dict[str, Any]) -> int:
    return max(row["length"] for row in result["times"])


def report(result: dict[str, Any]) -> str:
    """The targets as lines, each beside its limit, and what could not run here."""
    lines = [f"{result['processor']}, {result['threads']} threads, torch {result['versions']['torch']}"]
    for row in result["targets"]:
        word = verdict(row) if is_settled(result) else "too small to tell"
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        measured = f"{row['target']:12}{row['what']:44}{row['value']:7.3f} {interval:17}"
        lines.append(f"{measured} limit {row['limit']:5.2f}  {word}")
    if result["load"] and result["load"] > BUSY:
        lines.append(f"other work kept {result['load']:.1f} cores busy: these figures say little; run it again alone")
    lines += [f"not run: {NAMES[name]} ({why})" for name, why in result["missing"].items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short lengths and few rounds, to try it out")
    parser.add_argument("--out", type=Path, help="where the JSON goes (default: data/bench/kernels-<device>.json)")
    options = parser.parse_args(arguments)
    quick = options.quick
    result = measure([128, 256, 512] if quick else LENGTHS, 5 if quick else 15, long=0 if quick else 8192)
    on = "cuda" if torch.cuda.is_available() else "cpu"
    out = options.out or data_path("bench", STORED.format(device=on))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    print(report(result))
    print(f"written to {out}")
    if on == "cuda" and not quick:  # the fused kernels have targets of their own
        command = [sys.executable, "-m", "agf_core.analysis.kernels_gpu", "--out", str(out.parent / "kernels-gpu.json")]
        return subprocess.run(command, check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
