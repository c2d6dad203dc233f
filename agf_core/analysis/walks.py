"""The walk of a model's context vectors: whether it needs memory (M1), and what it looks like (ours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from agf_core.analysis import next_vector, path_grids
from agf_core.analysis.contrasts import mean
from agf_core.analysis.streams import context_vectors, rounded, streams, windows
from agf_core.figures import Estimate
from agf_core.model import Transformer, generate
from agf_core.runs import RunConfig
from agf_core.sources.datasets import load_data

SAMPLE = 512  # windows that the planes are fitted to
DRAWN = 3  # passages whose paths through the layers are drawn
PROMPT, WALKED, WALKS = 16, 16, 6  # tokens read, tokens generated, continuations of one prompt
WORDS = "words"  # the kind that carries M1; the others are beside it


def configs(profile: str, corpus: str = path_grids.grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """The runs that are measured here: of words, of a first-order source, and a few of sources with a memory."""
    beside = [c for kind in path_grids.SOURCES for c in path_grids.known(profile, kind, seed)[: path_grids.OTHERS]]
    return [*path_grids.tied(profile, corpus, seed), *path_grids.markov(profile, seed), *beside]


def measure(model: Transformer, config: RunConfig) -> dict[str, Any]:
    """next: `next_vector.measure`; of words also walk: see `walk`. JSON-ready."""
    data = load_data(config.data)
    found: dict[str, Any] = {"next": next_vector.measure(model, data, config.split, path_grids.profile_of(config))}
    if config.data.kind == WORDS:
        held = windows(data, config.split, model.config.context, SAMPLE)
        found["walk"] = walk(model, held, config.train.seed)
    return found


def walk(model: Transformer, held: Tensor, seed: int) -> dict[str, Any]:
    """Paths in the plane of the first two principal components; held (B, N): windows of held-out text.

    layers     passages × (layers + 2) × places × 2: through the layers (embedding, every layer, context vector), in the
               plane of all streams, each layer's divided by its own mean length
    explained  shares of variance of that plane, then of the plane of context vectors
    steps      walks × tokens × 2: context vectors, from the prompt on, of `WALKS` continuations of one prompt
    read       how many of these tokens were read, not generated
    spread     mean squared distance of the walks' context vectors from their mean, from the prompt's last token on, as
               a share of that of unrelated context vectors
    """
    every = streams(model, held)
    scaled = [s / s.norm(dim=-1).mean() for s in every]
    flat = torch.cat([s.flatten(0, 1) for s in scaled])
    plane, explained = principal(flat)
    layers = torch.stack([(s[:DRAWN, :PROMPT] - flat.mean(0)) @ plane for s in scaled], 1)
    context = every[-1].flatten(0, 1)
    own, share = principal(context)
    prompt = held[:1, :PROMPT].repeat(WALKS, 1)
    walked = context_vectors(model, generate(model, prompt, WALKED, generator=torch.Generator().manual_seed(seed)))
    apart = (walked - walked.mean(0)).square().sum(-1).mean(0) * WALKS / (WALKS - 1)
    scale = (context - context.mean(0)).square().sum(-1).mean()
    return {
        "layers": rounded(layers), "explained": [*rounded(explained), *rounded(share)],
        "steps": rounded((walked - context.mean(0)) @ own), "read": PROMPT,
        "spread": rounded(apart[PROMPT - 1 :] / scale),
    }  # fmt: skip


def principal(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal directions (d, 2) of vectors (n, d), and their shares of the variance (2,)."""
    apart = (vectors - vectors.mean(0)).double()
    value, direction = torch.linalg.eigh(apart.T @ apart)
    return direction[:, [-1, -2]].float(), (value[[-1, -2]] / value.sum()).float()


def table(found: Mapping[str, Mapping[str, Any]], configs: Sequence[RunConfig]) -> pd.DataFrame:
    """One row a measured model: kind (words, markov, hmm, brackets), seed, token, now, history (R² in points of these
    predictors), added, room."""
    names = ["token", "now", "history", "added", "room"]
    rows = [
        (kind_of(c), c.train.seed, *(found[c.id]["next"][k] for k in names)) for c in configs if c.id in found
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["kind", "seed", *names])


def kind_of(config: RunConfig) -> str:
    """words, markov, hmm or brackets."""
    named = {"words": WORDS, "tasks": "markov"}
    return named.get(config.data.kind) or config.data.corpus.partition(":")[0]


def estimate(models: pd.DataFrame, kind: str = WORDS, value: str = "added") -> Estimate:
    """Mean over seeds, in points of R²."""
    return mean(models.loc[models["kind"] == kind, value], "points")
