"""The heads of one model that was trained elsewhere, on a text, beside two controls (ours).

The same measurement as for models trained here: a head's profile is its field as `Split` finds it, laws are fitted on
its near half and scored on its far half. Controls: the same architecture with weights drawn anew, and the trained model
on tokens drawn independently of each other. Where the package with the model is not installed, a model trained here
without a field takes its place, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from agf_core.analysis import field_grids, law_scores, mixture, pretrained, specifications
from agf_core.analysis.by_distance import ByDistance
from agf_core.analysis.observe import observe
from agf_core.analysis.split import Split, SplitResult
from agf_core.runs import Store, run_grid
from agf_core.sources import load_text
from agf_core.sources.datasets import load_data
from agf_core.training import build_model

INPUTS = ("text", "random tokens", "untrained")
TOKENS = {"smoke": 4_096, "cpu": 32_768, "full": 200_000}  # that pass through the model, for each input
TYPES = 200  # commonest kinds of token that have a mass of their own
GROUPS = 16  # of windows, where documents are not known: what intervals resample
ROOM = 64  # queries a sequence, at least, that have their whole window

Array = np.ndarray


@dataclass(frozen=True)
class Observed:
    """What one model's heads look like on each of `INPUTS`.

    name, source, causal; window (the largest distance, tokens); trained_here: whether it is a stand-in
    scores    input → `law_scores.Scores`, with `layer` in the table; profiles: input → (S, W), their rows
    curve     `specifications.curve`: an exponent for every way of measuring it;  shares: `specifications.attributed`
    pooled    `mixture.mixture` of the text's eligible heads, None where there are too few
    """

    name: str
    source: str
    causal: bool
    window: int
    trained_here: bool
    scores: dict[str, law_scores.Scores]
    profiles: dict[str, Array]
    curve: pd.DataFrame
    shares: pd.DataFrame
    pooled: mixture.Mixture | None


def measure(profile: str, corpus: str, window: int, model_id: str, seed: int) -> tuple[Observed, str]:
    """The model on its three inputs, and why another model took its place ("" if none did)."""
    if why := pretrained.missing(model_id):
        return _stand_in(profile, corpus, window, seed), why
    found = pretrained.load(model_id)
    length = _length(window, found.causal)
    count = max(2, TOKENS[profile] // length)
    tokens, keep, groups = pretrained.tokens(found, load_text(corpus), length, count)
    drawn = _without_order(tokens, keep, seed)
    inputs = ((found, tokens), (found, drawn), (pretrained.untrained(found, seed), tokens))
    seen = {name: look(m.model, given, window, keep, groups) for name, (m, given) in zip(INPUTS, inputs)}
    return observed(found.name, found.source, found.causal, window, False, seen), ""


def _length(window: int, causal: bool) -> int:
    """Tokens a sequence: the whole window on the sides that a query sees, and room for queries."""
    return max(128, (1 if causal else 2) * window + ROOM)


def _stand_in(profile: str, corpus: str, window: int, seed: int) -> Observed:
    config = field_grids.named(profile, field_grids.WITHOUT[0], corpus, seed)[0]
    run_grid([config], own=True)
    model, data, context = Store().model(config), load_data(config.data), int(config.model["context"])
    window = min(window, context // 2)
    tokens = torch.from_numpy(data.heldout("train", context, TOKENS[profile])[0])
    keep = torch.ones_like(tokens, dtype=torch.bool)
    drawn = _without_order(tokens, keep, seed)
    groups = torch.arange(len(tokens)) * GROUPS // len(tokens)
    fresh = build_model(config.model_config(data), seed)
    inputs = ((model, tokens), (model, drawn), (fresh, tokens))
    seen = {name: look(m, given, window, keep, groups) for name, (m, given) in zip(INPUTS, inputs)}
    name = f"a model with {config.model['encoding']} positions, trained here"
    return observed(name, "trained for this page", True, window, True, seen)


def _without_order(tokens: Tensor, keep: Tensor, seed: int) -> Tensor:
    """The same tokens, each anywhere in any window: as `pretrained.random_tokens`, without reading the text again."""
    own, drawn = tokens[keep], tokens.clone()
    drawn[keep] = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))]
    return drawn


@dataclass(frozen=True)
class Look:
    """One model on one input; maps by distance 0 … W, an encoder's two sides averaged, (L, H, W + 1)."""

    split: SplitResult
    weight: Array
    log_weight: Array
    careless: Array


def look(model: nn.Module, tokens: Tensor, window: int, keep: Tensor, groups: Tensor) -> Look:
    """Pass tokens through a model once, and take its profiles and its means by distance."""
    split, distance = Split(window, TYPES), ByDistance(window)
    observe(model, tokens, [split, distance], groups=groups, keep=keep)
    means = (distance.weight(), distance.log_weight(), distance.careless())
    return Look(split.result(resamples=50), *(a if distance.causal else _both(a) for a in means))


def _both(values: Array) -> Array:
    """(L, H, 2W + 1) at -W … W to (L, H, W + 1)."""
    middle = values.shape[-1] // 2
    out: Array = (values[..., middle:] + values[..., middle::-1]) / 2
    return out


def observed(
    name: str, source: str, causal: bool, window: int, trained_here: bool, seen: dict[str, Look]
) -> Observed:
    """Score the profiles, and measure the exponent in every way."""
    scores, profiles = {}, {}
    for given, one in seen.items():
        layers, count, width = one.split.profile.shape
        profiles[given] = one.split.profile.reshape(layers * count, width)
        layer, head = (a.ravel() for a in np.indices((layers, count)))
        found = law_scores.score(profiles[given], eligible=one.split.eligible.ravel(), heads=head)
        scores[given] = replace(found, table=found.table.assign(layer=layer))
    curve = specifications.curve(_specified(seen), seen["text"].split.eligible)
    able = seen["text"].split.eligible.ravel()
    try:
        pooled = mixture.mixture(profiles["text"][able]) if able.any() else None
    except ValueError:  # fewer than three heads fall with distance
        pooled = None
    shares = specifications.attributed(curve)
    return Observed(name, source, causal, window, trained_here, scores, profiles, curve, shares, pooled)


def _specified(seen: dict[str, Look]) -> dict[tuple[str, str], tuple[Array, Array | None]]:
    """Means by distance as `specifications.curve` takes them, of queries with the whole window and carelessly."""
    found: dict[tuple[str, str], tuple[Array, Array | None]] = {}
    for given in INPUTS[:2]:
        found[given, "whole window"] = seen[given].weight, seen[given].log_weight
        found[given, "careless"] = seen[given].careless, None
    return found
