"""Comparing trained models: tidy tables of runs, contrasts paired by seed, Holm's correction (ours).

Every contrast is the percent of held-out loss that one encoding saves over another, seed by seed: both models of a pair
start from the same weights (but for the encoding's own) and read the same text in the same order. The interval is
Student's, over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig

BITS = 1 / np.log(2)


def table(grid: Mapping[Any, Sequence[RunConfig]], records: Mapping[str, Record]) -> pd.DataFrame:
    """One row a run that there is: name (the grid's key), seed, loss (bits a target), accuracy, chance, targets, rate,
    parameters (trained numbers), own (those of the encoding), epochs, id. A run that diverged has an infinite loss."""
    rows = []
    for name, configs in grid.items():
        for config in configs:
            if (record := records.get(config.id)) is None:
                continue
            row = {"name": name, "seed": config.train.seed, "rate": config.train.rate, "id": config.id}
            if record["status"] == "ok":
                found = at_length(record, 1)
                assert found is not None
                row |= {"loss": found["loss"] * BITS, "accuracy": found["accuracy"], "targets": found["targets"],
                        "chance": record["chance"], "parameters": record["parameters"]["total"],
                        "own": record["parameters"]["encoding"], "epochs": record["epochs"]}  # fmt: skip
            else:
                row |= {"loss": np.inf, "accuracy": 0.0}
            rows.append(row)
    numbers = ["loss", "accuracy", "targets", "chance", "parameters", "own", "epochs"]
    found = pd.DataFrame(rows, columns=["name", "seed", "rate", "id", *numbers])
    return found.astype(dict.fromkeys(numbers, float))  # an empty table would have no numbers


def at_length(record: Record, multiple: int) -> dict[str, Any] | None:
    """What was measured at a multiple of the training length; None where the encoding is not defined."""
    found: dict[str, Any] | None = record["measured"][str(multiple * record["config"]["model"]["context"])]
    return found


def by_length(
    grid: Mapping[str, Sequence[RunConfig]], records: Mapping[str, Record], multiples: Sequence[int]
) -> pd.DataFrame:
    """The mean over seeds at multiples of the training length: name, multiple, loss (bits a target), low, high, excess
    (over the loss at the training length), excess_low, excess_high, beyond (see `evaluation.beyond_training`).

    An encoding has no row where it is not defined.
    """
    rows = []
    for name, configs in grid.items():
        there = [r for c in configs if (r := records.get(c.id)) and r["status"] == "ok"]
        for multiple in multiples:
            measured = [at_length(r, multiple) for r in there]
            if not there or any(m is None for m in measured):
                continue
            base = [at_length(r, 1)["loss"] * BITS for r in there]  # type: ignore[index]
            losses = [m["loss"] * BITS for m in measured if m]
            loss, excess = mean(losses), mean(np.subtract(losses, base))
            beyond = [m["beyond"] for m in measured if m and m.get("beyond") is not None]
            rows.append((name, multiple, loss.value, loss.low, loss.high, excess.value, excess.low, excess.high,
                         float(np.mean(beyond)) if beyond else np.nan))  # fmt: skip
    numbers = ["loss", "low", "high", "excess", "excess_low", "excess_high", "beyond"]
    return pd.DataFrame(rows, columns=["name", "multiple", *numbers]).astype(dict.fromkeys(numbers, float))


def by_position(grid: Mapping[str, Sequence[RunConfig]], records: Mapping[str, Record]) -> pd.DataFrame:
    """Within the training length: name, position (the first of a bin), loss (bits a target, mean over seeds)."""
    rows = []
    for name, configs in grid.items():
        there = [r for c in configs if (r := records.get(c.id)) and r["status"] == "ok"]
        bins = [at_length(r, 1)["positions"] for r in there]  # type: ignore[index]
        for same in zip(*bins):
            rows.append((name, same[0][0], float(np.mean([b[1] for b in same])) * BITS))
    return pd.DataFrame(rows, columns=["name", "position", "loss"])


def differences(runs: pd.DataFrame, better: Any, than: Any, value: str = "loss") -> pd.Series:
    """Percent of the loss of `than` that `better` saves, by seed; positive: `better` is better. Both must have it."""
    # By map: pandas would compare a name that is a tuple element by element.
    named = (runs[runs["name"].map(lambda n, name=name: n == name).astype(bool)] for name in (better, than))
    one, other = (found.set_index("seed")[value] for found in named)
    one, other = one.align(other, join="inner")
    return 100 * (other - one) / other


def mean(values: Iterable[float], unit: str = "") -> Estimate:
    """Mean with Student's 95 % interval; not a number for fewer than two values, or if one is not finite."""
    x = np.fromiter(values, float)
    if len(x) < 2 or not np.isfinite(x).all():
        return Estimate(float(x.mean()) if len(x) else np.nan, np.nan, np.nan, unit)
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Estimate(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, unit)


def contrast(runs: pd.DataFrame, better: Any, than: Any) -> Estimate:
    """The mean of `differences` with its interval, in percent of held-out loss."""
    return mean(differences(runs, better, than), "%")


def against(runs: pd.DataFrame, baseline: Any) -> pd.DataFrame:
    """Every encoding against one: name, saved (percent of the loss that `baseline` saves over it), low, high, n, p
    (two-sided, paired), p_holm (corrected for all of these comparisons)."""
    rows = []
    for name in dict.fromkeys(runs["name"]):
        if name == baseline:
            continue
        d = differences(runs, baseline, name)
        e = mean(d)
        known = len(d) > 1 and np.isfinite(d).all() and d.std() > 0
        p = float(stats.ttest_1samp(d, 0).pvalue) if known else np.nan
        rows.append((name, e.value, e.low, e.high, p, len(d)))
    out = pd.DataFrame(rows, columns=["name", "saved", "low", "high", "p", "n"])
    out["p_holm"] = holm(out["p"])
    return out


def holm(p: pd.Series) -> np.ndarray:
    """Holm's step-down correction; what is not a number stays so."""
    values = p.to_numpy(float)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known])]
    out = np.full(len(values), np.nan)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[i]))
        out[i] = running
    return out
