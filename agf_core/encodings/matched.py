"""Starts nearest to AGF's log g = -k log(1 + r), whatever the law (ours).

Nearest: least squares of log g over r = 0 … context - 1, weighted by 1/(1 + r), so that each octave of distance counts
alike. Every law here is linear in an amplitude, so the fit to log(1 + r) is made once and scaled by each head's k.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from agf_core.fields import MlpField, TableField


def unit_target(context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Distances r, log(1 + r) and their weights 1/(1 + r): float64 (context,), at least two."""
    r = torch.arange(max(2, context), dtype=torch.float64)
    return r, torch.log1p(r), 1 / (1 + r)


@lru_cache  # every layer asks for the same
def nearest_stretched(context: int) -> tuple[float, float]:
    """Rate a and shape p, 0 < p < 2, of the a r^p nearest to log(1 + r): p by a grid, then golden section; a exact."""
    r, target, weight = unit_target(context)

    def fit(p: Tensor) -> tuple[Tensor, Tensor]:
        """Best rate and its error for each p (P,)."""
        basis = r ** p.unsqueeze(-1)  # (P, context)
        rate = (weight * basis * target).sum(-1) / (weight * basis**2).sum(-1)
        return rate, (weight * (rate.unsqueeze(-1) * basis - target) ** 2).sum(-1)

    low, high, step = 0.005, 1.995, 0.005
    grid = torch.arange(low, high + step / 2, step, dtype=torch.float64)
    best = float(grid[fit(grid)[1].argmin()])
    low, high = max(low, best - step), min(high, best + step)
    for _ in range(40):  # each keeps 0.618 of the bracket
        inner = torch.tensor([high - 0.618034 * (high - low), low + 0.618034 * (high - low)], dtype=torch.float64)
        left, right = fit(inner)[1].tolist()
        low, high = (low, float(inner[1])) if left <= right else (float(inner[0]), high)
    shape = (low + high) / 2
    return float(fit(torch.tensor([shape], dtype=torch.float64))[0]), shape


def nearest_exponential(context: int) -> float:
    """Rate m of the m r nearest to log(1 + r)."""
    r, target, weight = unit_target(context)
    return float((weight * r * target).sum() / (weight * r**2).sum())


def nearest_table(table: TableField, context: int) -> Tensor:
    """The weighted mean of log(1 + r) in each of the table's buckets, (size,) float64.

    A bucket that no distance within the context reaches takes its mean from beyond it.
    """
    farthest = table.size if table.buckets == "every" else table.max_distance
    r, target, weight = unit_target(max(context, farthest))
    weight = torch.where(r < context, weight, 1e-9 * weight)
    bucket = table.bucket(r)
    total, mass = torch.zeros(2, table.size, dtype=torch.float64).unbind()
    total, mass = total.index_add(0, bucket, weight * target), mass.index_add(0, bucket, weight)
    return total / mass.clamp(min=1e-300)  # a bucket between two whole numbers is never read


@torch.no_grad()
def match_mlp(field: MlpField, exponents: Tensor) -> None:
    """Set the output layer, in place, so that log g = -k log(1 + r) exactly up to the threshold L; k (sides, H).

    At rate 1 the input is x = log(1 + r)/log(1 + L): log g is linear in x. Hidden units keep their random kinks, but
    for the first, made active everywhere so that a line is always within reach; the output's weights and bias are the
    solution of least norm.
    """
    x = torch.linspace(0, 1, 257, dtype=torch.float64).unsqueeze(-1)
    depth = torch.log1p(field.threshold.double())
    for mlp, k in zip(field.mlps, exponents.double(), strict=True):
        hidden, output = (layer for layer in mlp.children() if isinstance(layer, nn.Linear))
        hidden.weight[0] = hidden.weight[0].abs().clamp(min=0.1)
        hidden.bias[0] = hidden.bias[0].abs()
        units = torch.relu(x * hidden.weight.double().T + hidden.bias.double())
        design = torch.cat((units, torch.ones_like(x)), dim=-1)  # (257, width + 1)
        solution = torch.linalg.lstsq(design, -depth * x * k, driver="gelsd").solution  # (width + 1, H)
        output.weight.copy_(solution[:-1].T)
        output.bias.copy_(solution[-1])
