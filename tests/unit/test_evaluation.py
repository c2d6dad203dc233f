"""Held-out metrics against losses computed by hand, one target at a time."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from agf_core import evaluation
from agf_core.evaluation import evaluate
from agf_core.model import ModelConfig
from agf_core.sources.datasets import IGNORE, DataConfig, load_data
from agf_core.training import build_model

CORPUS = "generated:power:tokens=20000"
CONFIGS = {
    "bytes": DataConfig("bytes", CORPUS),
    "words": DataConfig("words", CORPUS, vocabulary=100),
    "tags": DataConfig("tags", CORPUS, vocabulary=100),
    "recall": DataConfig("recall", "", pairs=3, symbols=6),
    "copy": DataConfig("copy", "", symbols=4),
}
LENGTH, TOKENS = 24, 240


def build(kind):
    data = load_data(CONFIGS[kind])
    shape = {"vocab_size": data.vocab_size, "outputs": data.outputs, "causal": data.causal}
    model = build_model(ModelConfig(**shape, dim=16, layers=2, heads=2, context=LENGTH, encoding="agf"), 0).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # a start so small would find every symbol as likely as any other
    return model, data


@torch.no_grad()
def by_hand(model, data, split="test", length=LENGTH, tokens=TOKENS):
    """(losses, hits), (n, length) each, NaN where there is no target: log(sum(exp(logits))) - logit of the target."""
    inputs, targets = data.heldout(split, length, tokens)
    losses, hits = np.full(targets.shape, math.nan), np.full(targets.shape, math.nan)
    for i, j in np.argwhere(targets != IGNORE):
        seen = inputs[i, : j + 1] if data.causal else inputs[i]
        logits = model(torch.from_numpy(seen)[None])[0, j].double().numpy()
        losses[i, j] = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[targets[i, j]]
        hits[i, j] = logits.argmax() == targets[i, j]
    return losses, hits


@pytest.mark.parametrize("kind", CONFIGS)
def test_loss_and_accuracy_are_those_computed_by_hand(kind):
    model, data = build(kind)
    found = evaluate(model, data, "test", LENGTH, TOKENS)
    losses, hits = by_hand(model, data)
    assert found["loss"] == pytest.approx(np.nanmean(losses), rel=2e-5)
    assert found["accuracy"] == pytest.approx(np.nanmean(hits), rel=2e-5)
    assert found["targets"] == np.isfinite(losses).sum()
    assert (found["targets"] == losses.size) == (kind not in ("recall", "copy"))
    assert ("recall" in found) == ("rest" in found) == (kind in ("bytes", "words"))
    assert "symbols" not in found


@pytest.mark.parametrize("kind", CONFIGS)
def test_bins_of_positions_cover_every_target_and_average_to_the_loss(kind):
    model, data = build(kind)
    found = evaluate(model, data, "valid", LENGTH, TOKENS)
    losses, _ = by_hand(model, data, "valid")
    starts = [lo for lo, _ in found["positions"]]
    assert starts == sorted(set(starts)) and set(starts) <= {0, 1, 2, 3, 4, 6, 8, 11, 16, 23}
    if found["targets"] == losses.size:
        assert starts == [0, 1, 2, 3, 4, 6, 8, 11, 16, 23]
    total = 0.0
    for (lo, mean), hi in zip(found["positions"], [*starts[1:], LENGTH]):
        here = losses[:, lo:hi][np.isfinite(losses[:, lo:hi])]
        assert mean == pytest.approx(here.mean(), rel=2e-5)
        total += mean * len(here) / found["targets"]
    assert total == pytest.approx(found["loss"], rel=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 100, 128])
def test_bins_end_at_any_length(length):
    losses = np.arange(2.0 * length).reshape(2, length)
    bins = evaluation._by_position(losses, np.ones(losses.shape, bool))
    edges = [lo for lo, _ in bins] + [length]
    assert edges[0] == 0 and all(lo < hi for lo, hi in itertools.pairwise(edges))
    means = [mean * (hi - lo) for (_, mean), lo, hi in zip(bins, edges, edges[1:])]
    assert sum(means) / length == pytest.approx(losses.mean(), rel=1e-4)


def test_repeated_bigrams_and_the_rest_are_apart():
    model, data = build("bytes")
    found = evaluate(model, data, "test", LENGTH, TOKENS)
    losses, _ = by_hand(model, data)
    inputs, targets = data.heldout("test", LENGTH, TOKENS)
    repeated = np.zeros(losses.shape, bool)
    for i, row in enumerate(zip(inputs, targets)):
        pairs = list(zip(*row))
        repeated[i] = [pair in pairs[:j] for j, pair in enumerate(pairs)]
    for name, where in (("recall", repeated), ("rest", ~repeated)):
        loss, number = found[name]
        assert number == where.sum() > 0 and loss == pytest.approx(losses[where].mean(), rel=2e-5)


def test_nothing_repeated_is_none():
    model, data = build("words")
    found = evaluate(model, data, "test", 1, 30)
    assert found["recall"] == [None, 0] and found["rest"] == [found["loss"], 30] and found["positions"][0][0] == 0


def test_losses_by_symbol_add_up_and_are_json():
    model, data = build("words")
    found = evaluate(model, data, "test", LENGTH, TOKENS, by_symbol=True)
    losses, _ = by_hand(model, data)
    _, targets = data.heldout("test", LENGTH, TOKENS)
    assert found["symbols"].keys() == {str(i) for i in np.unique(targets)}
    for name, (total, number) in found["symbols"].items():
        assert number == (targets == int(name)).sum()
        assert total == pytest.approx(losses[targets == int(name)].sum(), rel=2e-5)
    assert json.loads(json.dumps(found)) == found


def test_windows_of_any_length_and_passes_of_any_size_give_the_same(monkeypatch):
    model, data = build("bytes")
    whole = evaluate(model, data, "test", 60, TOKENS)  # longer than the context
    assert whole["loss"] == pytest.approx(by_hand(model, data, length=60)[0].mean(), rel=2e-5)
    for at_once in (1, 130):
        monkeypatch.setattr(evaluation, "AT_ONCE", at_once)
        part = evaluate(model, data, "test", 60, TOKENS)
        assert part["loss"] == pytest.approx(whole["loss"], rel=1e-5) and part["recall"][1] == whole["recall"][1]


def test_wrong_splits_and_lengths_are_refused():
    model, data = build("bytes")
    with pytest.raises(ValueError, match="unknown split 'dev'; expected one of train, valid, test"):
        evaluate(model, data, "dev", LENGTH, TOKENS)
    with pytest.raises(ValueError, match="too few for one window of 1000000"):
        evaluate(model, data, "test", 10**6, TOKENS)
