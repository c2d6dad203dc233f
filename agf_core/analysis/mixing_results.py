"""What the runs of `encoding_walk` give: losses by mixing and size, multi-query recall, what replacing attention costs,
Jacobians; and the estimates that claims M5 and M6 ask for (ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import chapter_runs, grids, jacobian, mixing_grids, replaced
from agf_core.analysis.contrasts import BITS, at_length, mean
from agf_core.analysis.mixing_grids import FIELD, FULL, MIXINGS, WIDTH
from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig

DIM = grids.BODY["dim"]  # of the models that decide on text: at this width the rate was tuned
RECALL, REST, QUERIES = "recall tokens", "rest", "multi-query recall"  # the three parts of M5
VALUES = {RECALL: "recall", REST: "rest"}  # their columns of `Results.losses`
JACOBIAN = ("filtering", "aggregation", "unassigned", "cross", "norm", "with_residual")


@dataclass(frozen=True)
class Results:
    """What one profile's runs give.

    losses    name, dim, seed, loss, recall, rest (bits a byte), parameters, used (those that a forward pass touches)
    recall    name, dim, seed, accuracy, loss, chance: multi-query recall; it decides at 2 x `mixing_grids.WIDTH`
    random    name, seed, loss (bits a symbol), on tokens drawn independently
    replaced  encoding, dim, seed, way, layer ("1" …, "all"), recall, rest: percent of loss added, by model
    jacobians net, seed, sub, and `jacobian.Parts`
    made, ids, failed: commits, machines, dates; the runs; a line for each that diverged
    """

    profile: str
    losses: pd.DataFrame
    recall: pd.DataFrame
    random: pd.DataFrame
    replaced: pd.DataFrame
    jacobians: pd.DataFrame
    made: str = ""
    ids: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether every part of M5 has a model on either side."""
        return all(e is not None and np.isfinite(e.value) for e in estimates(self).values())


def collect(
    profile: str, records: Mapping[str, Record], weights: Mapping[str, Mapping[str, Any]],
    corpus: str = grids.CORPUS, seed: int = 0,
) -> Results:  # fmt: skip
    """The tables of whatever runs of a profile there are; weights: what `replaced` and `jacobian` found, by run id."""
    asked = {c.id for c in mixing_grids.encoding_walk(profile, corpus, seed)}
    found = {id: r for id, r in records.items() if id in asked}
    on_bytes = [(name, dim, config) for dim, grid in mixing_grids.sizes(profile, corpus, seed).items()
                for name, configs in grid.items() for config in configs]  # fmt: skip
    losses = [row for name, dim, c in on_bytes if (row := _loss(name, dim, found.get(c.id)))]
    recall = [row for dim in mixing_grids.DIMS for name, configs in mixing_grids.on_recall(profile, dim, seed).items()
              for c in configs if (row := _recall(name, dim, found.get(c.id)))]  # fmt: skip
    random = [(name, c.train.seed, BITS * r["measured"][str(c.model["context"])]["loss"]) for name, configs in
              mixing_grids.on_random(profile, seed).items() for c in configs
              if (r := found.get(c.id)) and r["status"] == "ok"]  # fmt: skip
    failed = tuple(
        f"{r['config']['model']['encoding']}, width {r['config']['model']['dim']}, on {r['config']['data']['kind']}, "
        f"seed {r['config']['train']['seed']}: {r['error']}" for r in found.values() if r["status"] == "failed"
    )  # fmt: skip
    return Results(
        profile,
        pd.DataFrame(losses, columns=["name", "dim", "seed", "loss", "recall", "rest", "parameters", "used"]),
        pd.DataFrame(recall, columns=["name", "dim", "seed", "accuracy", "loss", "chance"]),
        pd.DataFrame(random, columns=["name", "seed", "loss"]),
        _replaced(replaced.configs(profile, corpus, seed), weights.get("replaced", {})),
        _jacobians(jacobian.configs(profile, corpus, seed), weights.get("jacobian", {})),
        chapter_runs.made(list(found.values())), frozenset(found), failed,
    )  # fmt: skip


def _loss(name: str, dim: int, record: Record | None) -> tuple[Any, ...] | None:
    if record is None or record["status"] != "ok":
        return None
    about, total = at_length(record, 1), record["parameters"]["total"]
    assert about is not None
    model = record["config"]["model"]
    idle = 0 if model.get("association", True) else 2 * model["layers"] * dim**2  # q and k, which nothing reads
    bits = [BITS * x if x is not None else np.nan for x in (about["loss"], about["recall"][0], about["rest"][0])]
    return name, dim, record["config"]["train"]["seed"], *bits, total, total - idle


def _recall(name: str, dim: int, record: Record | None) -> tuple[Any, ...] | None:
    if record is None or record["status"] != "ok":
        return None
    about = at_length(record, 1)
    assert about is not None
    return name, dim, record["config"]["train"]["seed"], about["accuracy"], BITS * about["loss"], record["chance"]


def _replaced(configs: Sequence[RunConfig], found: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for config in configs:
        if (one := found.get(config.id)) is None:
            continue
        own = one["trained"][replaced.EVERY]
        about = config.model["encoding"], config.model["dim"], config.train.seed
        for way in (w for w in replaced.WAYS if w in one):
            for layer, losses in one[way].items():
                name = layer if layer == replaced.EVERY else str(int(layer) + 1)
                added = [100 * (x / y - 1) if x and y else np.nan for x, y in zip(losses[1:], own[1:])]
                rows.append((*about, way, name, *added))
    return pd.DataFrame(rows, columns=["encoding", "dim", "seed", "way", "layer", "recall", "rest"])


def _jacobians(configs: Sequence[RunConfig], found: Mapping[str, Any]) -> pd.DataFrame:
    rows = [(net, c.train.seed, sub, *parts) for c in configs for net, subs in found.get(c.id, {}).items()
            for sub, parts in subs.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["net", "seed", "sub", *JACOBIAN])


def by_seed(table: pd.DataFrame, name: str, value: str, dim: int | None = None) -> pd.Series:
    """A mixing's values by seed."""
    part = table[table["name"] == name]
    if dim is not None:
        part = part[part["dim"] == dim]
    return part.set_index("seed")[value].astype(float)


def excess(results: Results, name: str, value: str, dim: int = DIM, than: str = FULL) -> pd.Series:
    """Percent of loss by which a mixing exceeds another, full attention by default, by seed."""
    own, full = by_seed(results.losses, name, value, dim), by_seed(results.losses, than, value, dim)
    return (100 * (own / full - 1)).dropna()


def differences(results: Results) -> dict[str, pd.Series]:
    """The three parts of M5, by seed."""
    own, full = (by_seed(results.recall, name, "accuracy", WIDTH) for name in (FIELD, FULL))
    return {RECALL: excess(results, FIELD, "recall"), REST: excess(results, FIELD, "rest"),
            QUERIES: (own / full).dropna()}  # fmt: skip


def estimates(results: Results) -> dict[str, Estimate]:
    """The three parts of M5, mean over seeds with Student's interval."""
    return {part: mean(values) for part, values in differences(results).items()}


def at_random(results: Results, name: str) -> pd.Series:
    """Percent of loss by which a mixing exceeds full attention on random tokens, by seed: nothing, if all is well."""
    own, full = by_seed(results.random, name, "loss"), by_seed(results.random, FULL, "loss")
    return (100 * (own / full - 1)).dropna()


def above_chance(results: Results, name: str, dim: int = WIDTH) -> pd.Series:
    """Multi-query recall as a share of full attention's, chance taken off both, by seed."""
    chance = by_seed(results.recall, FULL, "chance", dim)
    own, full = (by_seed(results.recall, n, "accuracy", dim) - chance for n in (name, FULL))
    return (own / full.where(full > 0)).dropna()


def percent(results: Results) -> pd.Series:
    """(net, seed) → percent of its sub-layers' Jacobians' norm that is unassigned, their mean."""
    table = results.jacobians
    of_norm = 100 * np.sqrt(table["unassigned"].astype(float).clip(lower=0))
    return of_norm.groupby([table["net"], table["seed"]]).mean()


def unassigned(results: Results) -> dict[str, Estimate]:
    """Net → mean of `percent` over seeds."""
    each = percent(results)
    return {net: mean(each[net]) for net in jacobian.NETS if net in each.index.get_level_values("net")}


def recovered(results: Results) -> pd.DataFrame:
    """How much of the way from uniform mixing to full attention each mixing goes: name, on, value, low, high, n.

    1: as good as full attention. Losses at 2 x `DIM`; of multi-query recall, accuracy at 2 x `WIDTH`.
    """
    rows = []
    for part, table, value, dim in ((RECALL, results.losses, "recall", DIM), (REST, results.losses, "rest", DIM),
                                    (QUERIES, results.recall, "accuracy", WIDTH)):  # fmt: skip
        low, high = (by_seed(table, n, value, dim) for n in ("uniform", FULL))
        for name in MIXINGS:
            share = ((by_seed(table, name, value, dim) - low) / (high - low)).replace([np.inf, -np.inf], np.nan)
            if len(share := share.dropna()) and name not in ("uniform", FULL):
                e = mean(share)
                rows.append((name, part, e.value, e.low, e.high, len(share)))
    return pd.DataFrame(rows, columns=["name", "on", "value", "low", "high", "n"])


def slopes(results: Results) -> dict[str, Estimate]:
    """Points of excess loss of the field alone that a doubling of the parameters adds, by least squares over runs."""
    found = {}
    size = results.losses.groupby("dim")["parameters"].max()
    for part, value in VALUES.items():
        each = {dim: excess(results, FIELD, value, dim) for dim in size.index}
        y = np.concatenate([e.to_numpy() for e in each.values()]) if each else np.empty(0)
        x = np.concatenate([np.full(len(e), np.log2(size[d])) for d, e in each.items()]) if each else np.empty(0)
        if len(np.unique(x)) < 3:
            found[part] = Estimate(np.nan, np.nan, np.nan)
            continue
        fit = stats.linregress(x, y)
        half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
        known = len(x) > 3
        found[part] = Estimate(float(fit.slope), *((fit.slope - half, fit.slope + half) if known else (np.nan, np.nan)))
    return found
