"""Calibrations of the chapter `encoding_walk`: its rules on worlds of known truth, splits whose answer is known, and
the convolution's time and error beside attention's (ours).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agf_core.analysis import jacobian
from agf_core.analysis.kernel_runs import BY_FFT, BY_SCORES, alone, interleave, pass_of
from agf_core.analysis.kernels import median_interval
from agf_core.analysis.mixing_results import QUERIES, RECALL, REST, Results, differences, percent
from agf_core.analysis.operating import Draw, characteristics, seed_world
from agf_core.attention import attend
from agf_core.attention.convolution import convolve
from agf_core.claims import CLAIMS, Part
from agf_core.fields import ExponentialField, Field, PowerField

SCATTER = {RECALL: 1.0, REST: 1.0, QUERIES: 0.02}  # of seeds, assumed where there are fewer than three
TRUE, HALF = "nothing is lost", "half of what is allowed is lost"
PLANTED = {  # world → what the field alone loses on recall tokens and on the rest (%), and its share of recall
    TRUE: (0.0, 0.0, 1.0),
    HALF: (1.0, 1.0, 0.95),
    "recall tokens: just too much": (2.0, 0.0, 1.0),
    "all three: just too much": (2.0, 2.0, 0.9),
    "multi-query recall: half": (0.0, 0.0, 0.5),
    "recall of both kinds: much": (6.0, 0.0, 0.5),
    "everywhere: much": (6.0, 6.0, 0.5),
}
PLANTED6 = {"1 % in each net": (1.0, 1.0, 1.0), "5 % in one net": (5.0, 1.0, 1.0), "20 % in one net": (20.0, 1.0, 1.0)}
SEEDS = 8
LENGTHS = {"smoke": (64, 128, 256), "cpu": (64, 128, 256, 512, 1024, 2048), "full": tuple(2**i for i in range(6, 13))}
ROUNDS = {"smoke": 3, "cpu": 8, "full": 16}  # more for short texts, fewer for long ones
HEADS, WIDTH = 4, 16  # of the chapter's models
PLAIN = "full attention"


def _enough(values: np.ndarray, part: str) -> np.ndarray:
    """The seeds' own differences; where they are fewer than three, Gaussian ones of an assumed scatter."""
    x = np.asarray(values, float)
    known = len(x) > 2 and np.isfinite(x).all()
    return x if known else SCATTER[part] * np.random.default_rng(0).standard_normal(SEEDS)


def worlds(results: Results, trials: int, seed: int) -> pd.DataFrame:
    """What M5's rule says of eight seeds that scatter as these do."""
    found = differences(results)
    scatter = {part: _enough(values.to_numpy(), part) for part, values in found.items()}
    if len({len(v) for v in scatter.values()}) > 1:
        scatter = {part: v[: min(map(len, scatter.values()))] for part, v in scatter.items()}
    drawn = {name: seed_world(scatter, dict(zip((RECALL, REST, QUERIES), effect)), SEEDS)
             for name, effect in PLANTED.items()}  # fmt: skip
    return characteristics("M5", drawn, trials, seed)


def worlds6(results: Results, trials: int, seed: int) -> pd.DataFrame:
    """What M6's rule, which looks at the net that leaves most, says of eight seeds of each net."""
    each, scatter = percent(results), {}
    for net in jacobian.NETS:
        own = each[net].to_numpy() if net in each.index.get_level_values("net") else np.empty(0)
        scatter[net] = own if len(own) > 2 else np.random.default_rng(0).standard_normal(SEEDS)

    def most(draw: Draw) -> Draw:
        def one(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
            value, ci = draw(rng)
            net = max(value, key=lambda n: value[n])
            return {"unassigned": value[net]}, {"unassigned": ci[net]}

        return one

    drawn = {name: most(seed_world(scatter, dict(zip(jacobian.NETS, effect)), SEEDS))
             for name, effect in PLANTED6.items()}  # fmt: skip
    return characteristics("M6", drawn, trials, seed)


def known_splits(seed: int = 0) -> pd.DataFrame:
    """Sub-layers whose split is known: sub, filtering, aggregation, unassigned (shares), and expects, which of them is
    1 (or "two": filtering and aggregation together)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, kernel, maps = normal(40, 10, 6), normal(10), [normal(6, 6) / 6**0.5 for _ in range(4)]

    def by_data(x: Tensor) -> Tensor:
        """Attention without norm: the last query's weights."""
        return torch.softmax((x[:, -1:] @ maps[0]) @ (x @ maps[1]).mT / 6**0.5, -1)

    def gated(x: Tensor, _: jacobian.Bends) -> Tensor:
        """A sum with a gate for each position that has mean 0 over texts: only the data decide on it."""
        return (x[:, :, :1].detach().sign() * (x @ maps[2])).sum(1)

    def bent(x: Tensor, bends: jacobian.Bends) -> Tensor:
        """|x|, whose slope has mean 0: nothing of it is linear."""
        return bends("abs", torch.abs, x)[:, -1]

    subs: dict[str, tuple[jacobian.Sub, str]] = {
        "linear convolution": (lambda x, _: torch.einsum("n,snd->sd", kernel, x) @ maps[2], "filtering"),
        "attention, weights frozen": (lambda x, _: (torch.softmax(kernel, 0)[:, None] * (x @ maps[2])).sum(1),
                                      "filtering"),
        "attention by data, no norm": (lambda x, _: (by_data(x) @ x @ maps[2])[:, 0], "two"),
        "gates of mean 0": (gated, "aggregation"),
        "absolute value": (bent, "unassigned"),
    }  # fmt: skip
    # Every text with its mirror image, so that means over texts which are 0 are so exactly.
    both = torch.cat((x, -x))
    rows = []
    for name, (sub, expects) in subs.items():
        parts = jacobian.split(sub, both)
        rows.append((name, parts.filtering, parts.aggregation, parts.unassigned, parts.cross, expects))
    return pd.DataFrame(rows, columns=["sub", "filtering", "aggregation", "unassigned", "cross", "expects"])


def speed(profile: str, seed: int = 0) -> pd.DataFrame:
    """length, pass (forward, training), name, seconds (median), and for the FFT ratio, low, high: attention's time over
    the convolution's, median of rounds with its 95 % interval. Interleaved in an order drawn anew each round."""
    rows = []
    for length in LENGTHS[profile]:
        for what in ("forward", "training"):
            rounds = ROUNDS[profile] * 3 if length < 512 else ROUNDS[profile] if length < 2048 else ROUNDS[profile] // 2
            taken = interleave(_calls(length, what == "training"), rounds, seed)
            ratios = taken[BY_SCORES] / taken[BY_FFT]
            for name in taken:
                ratio = (ratios.median(), *median_interval(ratios)) if name == BY_FFT else (np.nan,) * 3
                rows.append((length, what, name, taken[name].median(), *ratio))
    return pd.DataFrame(rows, columns=["length", "pass", "name", "seconds", "ratio", "low", "high"])


def _calls(length: int, training: bool) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    q, k, v, grad = torch.randn(4, 4, HEADS, length, WIDTH).unbind()  # four sequences, as in training
    field = PowerField(HEADS)

    def plain(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, x, is_causal=True)

    found = {PLAIN: pass_of(plain, v, grad, training)}
    return found | {n: pass_of(mix, v, grad, training, list(field.parameters()))
                    for n, mix in alone(q, k, v, field).items()}  # fmt: skip


def precision(seed: int = 0, length: int = 512) -> dict[str, float]:
    """Field and way → largest error in float32, relative to the largest exact value."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(1, HEADS, length, WIDTH, generator=generator, dtype=torch.float64)
    fields: Mapping[str, Field] = {"power law with k up to 2": PowerField(HEADS),
                                   "exponential of rate 1": ExponentialField(HEADS, 1.0)}  # fmt: skip
    found = {}
    with torch.no_grad():
        for name, field in fields.items():
            exact = attend(0 * v, v, v, field=nn.Module.double(field))
            single, x = field.float(), v.float()
            for way, value in (("by FFT", convolve(x, field=single)),
                               ("by attention", attend(0 * x, x, x, field=single))):  # fmt: skip
                found[f"{way}, {name}"] = float((value - exact).abs().max() / exact.abs().max())
    return found


def crossover(table: pd.DataFrame, what: str, than: str = BY_SCORES) -> int | None:
    """The shortest length measured from which on the convolution is quicker in the median, or None."""
    part = table[table["pass"] == what].pivot_table(index="length", columns="name", values="seconds")
    slower = part.index[part[BY_FFT] >= part[than]]
    longer = [n for n in part.index if not len(slower) or n > slower.max()]
    return int(min(longer)) if longer else None


def allowed(part: str) -> float:
    """M5's threshold."""
    asks = CLAIMS["M5"].criterion.parts[part]
    assert isinstance(asks, Part)
    return asks.threshold
