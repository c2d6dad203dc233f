"""M3: can nothing be learned in context? Models pre-trained on finitely many tasks, asked about new ones (ours).

After Raventós et al. 2023 (arXiv 2306.15063); sources and Bayesian readers: `sources.finite_tasks`. Where context only
narrows what training has stored, a model of T tasks is at best the Bayes mixture over these T. On tasks that it has
never seen, whatever beats the mixture has been learned from the context. Error: KL(task ‖ reader) per token, all places
of a sequence from the first on; exact but for the tasks drawn. *Beats by*: percent of the mixture's error.

Two guards. Where the mixture is sure and wrong, whoever is less sure beats it without learning anything: the best
*tempered* mixture (evidence to a power that is chosen on the very sequences, in its favour; to the power 0 it does not
look at the context) and a reader to whom all symbols are alike say by how much. And the diversity "where it beats it
most" is a maximum over noise: every seed takes the diversity at which the *other* seeds' models beat the mixture most,
so that no seed chooses for itself; n counts seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from agf_core.analysis import path_grids
from agf_core.analysis.contrasts import mean
from agf_core.analysis.known_sources import _round, kl, predictions
from agf_core.analysis.windows import Array
from agf_core.claims import CLAIMS
from agf_core.figures import Estimate
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.finite_tasks import Tasks, parse

SEQUENCES = {"smoke": 64, "cpu": 384, "full": 768}
TEMPERS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.0)
DRAWS = 12  # key of the generator


def configs(profile: str, seed: int = 0) -> list[RunConfig]:
    """The runs that are measured here."""
    return [c for part in path_grids.pools(profile, seed).values() for c in part]


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """A model beside both Bayesian readers, JSON-ready: see `compare`; `seen`: on tasks of the pool."""
    tasks, symbols = parse(config.data.corpus), config.data.symbols
    count = SEQUENCES[path_grids.profile_of(config)]
    rng = np.random.default_rng(np.random.SeedSequence(config.train.seed, spawn_key=(DRAWS,)))
    found = {}
    for name, unseen in (("unseen", True), ("seen", False)):
        tokens, laws = tasks.sample(rng, count, int(config.model["context"]), symbols, unseen)
        found[name] = compare(tasks, tokens, laws, predictions(model, tokens))
    return found


def compare(tasks: Tasks, tokens: Array, laws: Array, model: Array) -> dict[str, Any]:
    """Errors in nats per token on sequences (B, N) of known laws: of a reader's predictions (B, N, V), and of others.

    model, mixture, prior: (N,) by place, mean over sequences (of an endless pool the mixture is the prior);
    tempered: the least mean error of a tempered mixture (None for an endless pool);  even: of a reader to whom all
    symbols are alike
    """
    truth, symbols = tasks.truth(tokens, laws), laws.shape[-1]
    prior = kl(truth, tasks.prior(tokens, symbols)).mean(0)
    mixture, tempered = prior, None
    if tasks.tasks:
        each = [kl(truth, tasks.mixture(tokens, symbols, temper)).mean(0) for temper in TEMPERS]
        mixture, tempered = each[0], _round(min(e.mean() for e in each))
    curves = {"model": kl(truth, model).mean(0), "mixture": mixture, "prior": prior}
    return {name: [_round(x) for x in curve] for name, curve in curves.items()} | {
        "tempered": tempered, "even": _round(kl(truth, np.full(truth.shape, 1 / symbols)).mean())}  # fmt: skip


def table(found: Mapping[str, Mapping[str, Any]], configs: Sequence[RunConfig]) -> pd.DataFrame:
    """One row a measured model: tasks, seed, model, mixture, prior, tempered, even (nats per token on unseen tasks),
    beats (% of the mixture's error), late (the same, second half of the places), blurred (% by which the best tempered
    mixture beats it), and seen_model, seen_mixture, seen_prior (on tasks of the pool)."""
    rows = []
    for config in configs:
        if (m := found.get(config.id)) is None:
            continue
        tasks = parse(config.data.corpus).tasks
        new = {k: np.array(m["unseen"][k]) for k in ("model", "mixture", "prior")}
        half = len(new["model"]) // 2
        whole = {k: v.mean() for k, v in new.items()}
        tempered = m["unseen"]["tempered"] if tasks else np.nan
        rows.append({
            "tasks": tasks, "seed": config.train.seed, **whole, "tempered": tempered, "even": m["unseen"]["even"],
            "beats": 100 * (1 - whole["model"] / whole["mixture"]),
            "late": 100 * (1 - new["model"][half:].mean() / new["mixture"][half:].mean()),
            "blurred": 100 * (1 - tempered / whole["mixture"]),
            **{f"seen_{k}": float(np.mean(m["seen"][k])) for k in new},
        })  # fmt: skip
    names = ["tasks", "seed", "model", "mixture", "prior", "tempered", "even", "beats", "late", "blurred", "seen_model",
             "seen_mixture", "seen_prior"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def at_most(beats: pd.DataFrame) -> pd.Series:
    """Seed → what its model beats the mixture by, at the diversity where the other seeds' models do most.

    beats: seeds by diversities. Empty for fewer than two seeds that have every diversity.
    """
    whole = beats.dropna()
    return pd.Series(chosen_by_others(whole.to_numpy()), whole.index) if len(whole) > 1 else pd.Series(dtype=float)


def chosen_by_others(values: Array) -> Array:
    """(S,) of values (S, D): of every row the column whose mean over the other rows is the largest."""
    return np.asarray(values[np.arange(len(values)), (values.sum(0) - values).argmax(1)])


def by_diversity(models: pd.DataFrame, value: str = "beats") -> pd.DataFrame:
    """Seeds by diversities, the endless pool left out: the mixture over it is the prior."""
    finite = models[models["tasks"] > 0]
    return finite.pivot_table(index="seed", columns="tasks", values=value)


def estimate(models: pd.DataFrame) -> Estimate:
    """M3's only part: percent by which models beat the mixture where they beat it most."""
    return mean(at_most(by_diversity(models)), "%")


def peak(models: pd.DataFrame) -> int | None:
    """The diversity at which models beat the mixture most, in the mean of all seeds."""
    means = by_diversity(models).mean()
    return int(means.idxmax()) if len(means) else None


def shows_nothing(models: pd.DataFrame) -> str:
    """Why beating the mixture is no sign of learning, at the diversity of the peak; "" where it is one, or where it is
    not beaten by more than M3 allows."""
    at = models[models["tasks"] == peak(models)]
    least = at[["tempered", "even"]].min(axis=1).mean()
    allowed = CLAIMS["M3"].criterion.parts["beats mixture by"].threshold  # type: ignore[union-attr]
    if at.empty or at["beats"].mean() <= allowed or at["model"].mean() < least:
        return ""
    return (f"where models beat the mixture most, readers who learn nothing beat it as well (error {least:.3f}, the "
            f"models' {at['model'].mean():.3f})")  # fmt: skip
