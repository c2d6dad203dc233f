"""The vectors of models of words: their nearness to tokens (M4), and what they know of concepts (M7) (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import concepts, path_grids, proximity
from agf_core.analysis.contrasts import mean
from agf_core.analysis.streams import context_vectors, token_vectors, windows
from agf_core.analysis.windows import Array
from agf_core.claims import CLAIMS
from agf_core.figures import Estimate
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import load_data
from agf_core.training import build_model

Found = Mapping[str, Mapping[str, Any]]
WAYS = ("pooled", "dot", "tfidf", "model")


def configs(profile: str, corpus: str = path_grids.grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """The runs that are measured here."""
    return [c for part in path_grids.words(profile, corpus, seed).values() for c in part]


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """near: `proximity.measure`; of a tied model also concepts: `concepts.measure`. JSON-ready."""
    profile, data = path_grids.profile_of(config), load_data(config.data)
    fresh = build_model(config.model_config(data), config.train.seed).eval()
    vectors = (token_vectors(model), model.embedding.weight.detach(), token_vectors(fresh))
    held = windows(data, config.split, model.config.context, proximity.WINDOWS[profile])
    contexts = context_vectors(model, held), context_vectors(fresh, held)
    found = {"near": proximity.measure(data, held.numpy(), contexts, vectors, config.train.seed)}
    if model.head is None:
        found["concepts"] = concepts.measure(model, data, held, contexts, config, profile)
    return found


def nearness(found: Found, of: Mapping[str, Sequence[RunConfig]]) -> pd.DataFrame:
    """embeddings (tied, untied), seed, words (of the context), kind (see `proximity.measure`), rho, count."""
    rows = [
        (embeddings, c.train.seed, int(words), kind, float(rho), near["count"])
        for embeddings, configs in of.items() for c in configs if c.id in found
        for words, near in found[c.id]["near"].items() if near["count"]
        for kind, rho in near.items() if kind not in ("count", "example")
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["embeddings", "seed", "words", "kind", "rho", "count"])


def m4(near: pd.DataFrame, words: int = 1) -> dict[str, Estimate]:
    """The parts of M4, over seeds, for contexts of so many words."""
    found = {}
    for embeddings in ("tied", "untied"):
        one = near[(near["embeddings"] == embeddings) & (near["words"] == words)]
        rho = one.pivot_table(index="seed", columns="kind", values="rho").reindex(
            columns=["trained", "untrained", "shuffled"]
        )
        found[f"{embeddings} ρ"] = mean(rho["trained"])
        for control in ("untrained", "shuffled"):
            found[f"{embeddings} above {control}"] = mean(rho["trained"] - rho[control])
    return found


def probes(found: Found, configs: Sequence[RunConfig]) -> pd.DataFrame:
    """property, seed, model (trained, untrained), accuracy, control, selectivity, in points; empty without tags."""
    rows = [
        (name, c.train.seed, which, *(100 * one[k] for k in ("accuracy", "control")))
        for c in configs if c.id in found and "concepts" in found[c.id]
        for name, by in found[c.id]["concepts"]["probes"].items() for which, one in by.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["property", "seed", "model", "accuracy", "control"])
    return table.assign(selectivity=table["accuracy"] - table["control"])


def selectivity(table: pd.DataFrame, name: str = "word class") -> Estimate:
    """Points by which a trained model's selectivity lies above the untrained one's, over seeds."""
    one = table[table["property"] == name].pivot_table(index="seed", columns="model", values="selectivity")
    return mean((one["trained"] - one["untrained"]) if len(one) else [], "points")


def hits(found: Found, configs: Sequence[RunConfig]) -> dict[str, Array]:
    """Way (and items) → (M, G) counts of models by stretch of the documents."""
    there = [found[c.id]["concepts"]["retrieval"] for c in configs if c.id in found and "concepts" in found[c.id]]
    return {
        k: np.array([one[k] for one in there], float).reshape(len(there), concepts.GROUPS) for k in (*WAYS, "items")
    }


def rates(counts: Mapping[str, Array]) -> dict[str, float]:
    """Shares of items that each way gets right, and the two parts of M7's second half made of them."""
    total = counts["items"].sum()
    share = {k: float(counts[k].sum() / total) if total else np.nan for k in WAYS}
    above = share["model"] - concepts.CHANCE
    closes = (share["pooled"] - concepts.CHANCE) / above if above > 0 else np.nan
    return {**share, "retrieval closes": closes, "lead on TF-IDF": share["pooled"] - share["tfidf"]}


def retrieval(counts: Mapping[str, Array]) -> dict[str, Estimate]:
    """`rates` with 95 % intervals: jackknifed over models and over stretches of documents, the variances added.

    Models share the documents and their items differ, so neither alone would do. NaN for fewer than two models.
    """
    value = rates(counts)
    models, groups = counts["items"].shape
    if models < 2:
        return {k: Estimate(v, np.nan, np.nan) for k, v in value.items()}
    variance = dict.fromkeys(value, 0.0)
    for axis, size in ((0, models), (1, groups)):
        left = [rates({k: np.delete(c, i, axis) for k, c in counts.items()}) for i in range(size)]
        for k in value:
            variance[k] += (size - 1) / size * float(np.square([one[k] - value[k] for one in left]).sum())
    t = float(stats.t.ppf(0.975, min(models, groups) - 1))
    return {k: Estimate(v, v - t * variance[k] ** 0.5, v + t * variance[k] ** 0.5) for k, v in value.items()}


def m7(table: pd.DataFrame, counts: Mapping[str, Array]) -> dict[str, Estimate]:
    """The parts of M7."""
    found = {"probe selectivity": selectivity(table), **retrieval(counts)}
    return {part: found[part] for part in CLAIMS["M7"].criterion.parts}
