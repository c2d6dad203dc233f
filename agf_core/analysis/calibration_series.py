"""Series with a planted law: do intervals cover, is the right law chosen? (ours; appendix `calibration`)

The reader's run draws four laws at two sizes. `measure_all` draws all seven, at more sizes and in both spaces; it was
made once and is stored with the library: `python -m agf_core.analysis.calibration` makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agf_core import provenance
from agf_core.figures import Estimate
from agf_core.fitting import LAWS, compare_series, fit_curves
from agf_core.sources.load import remember
from agf_core.sources.locate import fingerprint
from agf_core.sources.tables import data_path


@dataclass(frozen=True)
class Size:
    """What a profile changes: how many data sets are drawn, and how large the planted attention is."""

    sets: int  # per law and size, for coverage and for the choice of law
    count_sets: int  # samples per exponent, for the exponents of counts
    texts: int
    length: int  # tokens of a text


SIZES = {"smoke": Size(100, 5, 4, 64), "cpu": Size(4000, 400, 8, 256), "full": Size(40_000, 2000, 16, 256)}
PLANTED: dict[str, dict[str, float]] = {
    "power": {"amplitude": 1.0, "exponent": 0.8},
    "shifted_power": {"amplitude": 1.0, "exponent": 1.5, "scale": 8.0},
    "exponential": {"amplitude": 1.0, "rate": 0.03},
    "stretched_exponential": {"amplitude": 1.0, "scale": 20.0, "shape": 0.6},
}
ALL: dict[str, dict[str, float]] = {
    **PLANTED,
    "lognormal": {"amplitude": 1.0, "mu": 1.5, "sigma": 1.2},
    "power_cutoff": {"amplitude": 1.0, "exponent": 0.6, "cutoff": 40.0},
    "two_regime": {"amplitude": 1.0, "exponent": 0.5, "exponent2": 1.6, "break_": 15.3},
}
POINTS = (20, 100)  # points of a series, 1 to 100 evenly in log x
FULL_POINTS = (10, 20, 50, 100)
NOISES = (0.05, 0.3, 1.0)  # standard deviation of the errors in the logarithm
STORED_SEED = 65_537  # of the stored run: not one that a reader is likely to run, whose data sets would be the same
ERROR = {"log": 0.1, "linear": 0.02}  # the errors for coverage; in linear space, of the curve's largest value
STORED = data_path("runs", "calibration.json")


def size_of(profile: str) -> Size:
    """The sizes of a profile; ValueError with the choices for an unknown one."""
    if profile not in SIZES:
        raise ValueError(f"unknown profile {profile!r}; choose one of: {', '.join(SIZES)}")
    return SIZES[profile]


def share_of(hits: int, of: int) -> Estimate:
    """A share with its exact (Clopper-Pearson) 95 % interval."""
    exact = stats.binomtest(hits, of).proportion_ci(0.95, "exact")
    return Estimate(hits / of, float(exact.low), float(exact.high))


def draw_series(
    law: str, points: int, noise: float, sets: int, seed: int, space: str = "log"
) -> tuple[np.ndarray, np.ndarray]:
    """x (points,), y (sets, points): a planted law with errors of standard deviation `noise`.

    They are multiplicative in log space, and in linear space additive, in units of the curve's largest value.
    """
    x = np.geomspace(1, 100, points)
    y = LAWS[law].evaluate(x, **ALL[law])
    error = noise * np.random.default_rng([seed, points, list(ALL).index(law)]).standard_normal((sets, points))
    return x, y * np.exp(error) if space == "log" else y + y.max() * error


def coverage(profile: str, seed: int) -> pd.DataFrame:
    """How often a 95 % interval contains the planted value, in log space: columns as in `cover`."""
    return cover(PLANTED, POINTS, ("log",), size_of(profile).sets, seed)


def cover(laws: Iterable[str], sizes: Iterable[int], spaces: Iterable[str], sets: int, seed: int) -> pd.DataFrame:
    """Coverage of every parameter: space, law, points, parameter, sets, coverage, low, high."""
    rows: list[dict[str, Any]] = []
    sizes, spaces = list(sizes), list(spaces)
    for law in laws:
        for points, space in ((p, s) for p in sizes for s in spaces):
            fits = fit_curves(*draw_series(law, points, ERROR[space], sets, seed, space), law, space=space)
            for name, value in ALL[law].items():
                share = share_of(int(((fits.low[name] <= value) & (value <= fits.high[name])).sum()), sets)
                rows.append({
                    "space": space, "law": law, "points": points, "parameter": name, "sets": sets,
                    "coverage": share.value, "low": share.low, "high": share.high,
                })  # fmt: skip
    return pd.DataFrame(rows)


def choice(profile: str, seed: int) -> pd.DataFrame:
    """Which law AICc chooses when one of four is planted: noise, planted, chosen, share (sums to 1 by planted law)."""
    return choose(PLANTED, max(50, size_of(profile).sets // 5), seed)


def choose(laws: Iterable[str], sets: int, seed: int) -> pd.DataFrame:
    """Series of 40 points of each law, offered to all of them: noise, planted, chosen, share."""
    rows, names = [], list(laws)
    for noise in NOISES:
        for law in names:
            table = compare_series(*draw_series(law, 40, noise, sets, seed), names)
            share = table[table["best"]]["law"].value_counts(normalize=True)
            rows += [{"noise": noise, "planted": law, "chosen": c, "share": share.get(c, 0.0)} for c in names]
    return pd.DataFrame(rows)


def measure_all(sets: int, choices: int, seed: int) -> dict[str, Any]:
    """The full tables, JSON-ready: seven laws, four sizes, both spaces."""
    provenance.begin({"sets": sets, "choices": choices, "seed": seed})
    tables = {
        "coverage": cover(ALL, FULL_POINTS, tuple(ERROR), sets, seed),
        "choice": choose(ALL, choices, seed),
    }
    records = {name: table.round(4).to_dict("records") for name, table in tables.items()}
    return {"provenance": provenance.provenance(), **records}


@dataclass(frozen=True)
class Stored:
    """The stored run: the tables of `cover` and `choose`, and where they come from."""

    coverage: pd.DataFrame
    choice: pd.DataFrame
    provenance: dict[str, Any]


def stored() -> Stored | None:
    """The reference run kept with the library, or None."""
    if not STORED.is_file():
        return None
    remember({"name": STORED.stem, "path": str(STORED), **fingerprint(STORED)})  # the page must notice a new one
    found = json.loads(STORED.read_text("utf-8"))
    return Stored(pd.DataFrame(found["coverage"]), pd.DataFrame(found["choice"]), found["provenance"])


def write(result: dict[str, Any], path: Path = STORED) -> None:
    """One record a line, so that a change can be read."""
    parts = []
    for name, value in result.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if isinstance(value, list) else ""
        parts.append(f" {json.dumps(name)}: " + (f"[\n  {rows}\n ]" if rows else json.dumps(value)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")
