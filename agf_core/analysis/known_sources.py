"""M2: does training learn the probabilities of all paths? Models of sources whose every path has a known one (ours).

What a model lacks is KL(truth ‖ model) per token, exactly: both laws of the next symbol are known after every path, so
nothing but the paths is sampled. Its scale is the unigram's, which knows how often each symbol occurs and no path; the
best reader of two symbols stands between. *Slope*: least squares of log p(model) on log p(truth) over held-out paths of
one length. Neither is measured with error (the truth is computed, the model is asked), so nothing attenuates it; paths
of several lengths would be strung out by their length alone. A slope below 1: the model makes likely paths less likely
than they are and unlikely ones likelier.

Every seed is another source of its kind. Each part of M2 is decided by the kind of source that does worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from agf_core.analysis import path_grids
from agf_core.analysis.contrasts import mean
from agf_core.analysis.windows import Array
from agf_core.figures import Estimate
from agf_core.model import Transformer
from agf_core.runs import Record, RunConfig
from agf_core.sources import hidden
from agf_core.sources.datasets import load_data

PATHS = {"smoke": 64, "cpu": 512, "full": 1024}
LENGTHS = (4, 8, 16, 32, 64)  # of paths, in symbols; the longest is the window, and decides
SHOWN = 60  # paths of a model that are kept for the picture
NEVER = 1e-12  # a probability below is an impossible continuation
DRAWS = 11  # key of the generator: held-out paths are drawn apart from training and from the test split


def configs(profile: str, seed: int = 0) -> list[RunConfig]:
    """The runs that are measured here."""
    return [c for kind in path_grids.SOURCES for c in path_grids.known(profile, kind, seed)]


def kl(truth: Array, model: Array) -> Array:
    """KL(truth ‖ model) in nats over the last axis; infinite where the model excludes what the truth does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(truth > 0, truth * (np.log(truth) - np.log(model)), 0.0)
    return np.asarray(each.sum(-1))


@torch.no_grad()
def predictions(model: Transformer, tokens: Array, rows: int = 128) -> Array:
    """p(next | tokens so far) of a model, (B, N, V) float64."""
    parts = [model(torch.from_numpy(tokens[i : i + rows])) for i in range(0, len(tokens), rows)]
    return torch.cat(parts).double().softmax(-1).numpy()


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """A model beside its source, JSON-ready: see `compare`."""
    source = hidden.source(config.data.corpus, config.data.symbols)
    rng = np.random.default_rng(np.random.SeedSequence(config.train.seed, spawn_key=(DRAWS,)))
    tokens = source.draw(rng, PATHS[path_grids.profile_of(config)], int(config.model["context"]) + 1)
    return compare(source, tokens, predictions(model, tokens[:, :-1]))


def compare(source: hidden.Hidden, tokens: Array, model: Array) -> dict[str, Any]:
    """Paths (B, N + 1) of a source, and a reader's predictions (B, N, V) after each symbol but the last.

    kl       nats per token;  unigram, bigram: of these readers;  removed: share of the unigram's
    by_place (N,) nats
    slope    length → least squares over paths of that length, from the start of the window on
    paths    [log p of the truth, of the model] of some whole windows, nats
    never    mean probability given to symbols that cannot follow; None where every symbol can
    """
    truth, targets = source.predict(tokens)[:, :-1], tokens[:, 1:, None]
    place = kl(truth, model).mean(0)
    unigram = kl(truth, np.broadcast_to(source.unigram, truth.shape)).mean()
    last = tokens[:, :-1]
    two = np.stack([truth[last == v].mean(0) if (last == v).any() else source.unigram for v in range(source.symbols)])
    both = [np.log(np.take_along_axis(p, targets, 2))[..., 0].cumsum(1) for p in (truth, model)]
    impossible = truth < NEVER
    return {
        "kl": _round(place.mean()), "unigram": _round(unigram), "bigram": _round(kl(truth, two[last]).mean()),
        "removed": _round(1 - place.mean() / unigram), "by_place": [_round(x) for x in place],
        "slope": {str(n): _round(slope(both[0][:, n - 1], both[1][:, n - 1])) for n in LENGTHS if n <= len(place)},
        "paths": [[_round(a), _round(b)] for a, b in zip(both[0][:SHOWN, -1], both[1][:SHOWN, -1])],
        "never": _round(np.where(impossible, model, 0).sum(-1).mean()) if impossible.any() else None,
    }  # fmt: skip


def slope(x: Array, y: Array) -> float:
    """Least squares of y on x, with an intercept."""
    apart = x - x.mean()
    return float(apart @ (y - y.mean()) / (apart @ apart))


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def table(found: Mapping[str, Mapping[str, Any]], configs: Sequence[RunConfig]) -> pd.DataFrame:
    """One row a measured model: kind (hmm or brackets), seed, kl, unigram, bigram, removed, slope (of whole windows),
    never."""
    rows = [
        (c.data.corpus.partition(":")[0], c.train.seed, *(m[k] for k in ("kl", "unigram", "bigram", "removed")),
         list(m["slope"].values())[-1], np.nan if m["never"] is None else m["never"])
        for c in configs if (m := found.get(c.id))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["kind", "seed", "kl", "unigram", "bigram", "removed", "slope", "never"])


def estimates(models: pd.DataFrame) -> dict[str, Estimate] | None:
    """The parts of M2, of the kind of source that does worse in each; None without models of every kind."""
    kinds = [part for _, part in models.groupby("kind", sort=False)]
    if len(kinds) < len(path_grids.SOURCES):
        return None
    removed = min((mean(part["removed"]) for part in kinds), key=lambda e: e.value)
    slopes = [mean(part["slope"]) for part in kinds]
    return {"KL removed": removed, "slope": max(slopes, key=_off)}


def _off(e: Estimate) -> float:
    """How far an interval, or the value without one, reaches from 1."""
    return float(np.nanmax([abs(e.value - 1), abs(e.low - 1), abs(e.high - 1)]))


def through(records: Mapping[str, Record], configs: Sequence[RunConfig]) -> pd.DataFrame:
    """kind, seed, tokens (of training), kl (nats per token, on the test split's windows, by the targets drawn)."""
    rows = []
    for config in configs:
        record = records.get(config.id)
        if not record or record["status"] != "ok":
            continue
        inputs, targets = load_data(config.data).heldout(config.split, int(config.model["context"]), config.heldout)
        floor = hidden.source(config.data.corpus, config.data.symbols).best_loss(inputs, targets)
        for tokens, symbols in record.get("through", []):
            total = np.array(list(symbols.values())).sum(0)
            rows.append((config.data.corpus.partition(":")[0], config.train.seed, tokens, total[0] / total[1] - floor))
    return pd.DataFrame(rows, columns=["kind", "seed", "tokens", "kl"])
