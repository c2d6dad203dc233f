"""Sums by distance, type and class against loops; the known identity of uniform causal attention."""

import numpy as np
import pytest
import torch

from agf_core.analysis.by_distance import ByClassPair, ByDistance, ByType
from agf_core.analysis.observe import Seen, observe
from agf_core.analysis.windows import Sums, Window, commonest, kinds
from agf_core.fitting import fit_curve
from agf_core.model import ModelConfig, Transformer

N, W, FIRST, TYPES, HEADS = 24, 5, 2, 4, 3


@pytest.fixture(params=[True, False], ids=["causal", "encoder"])
def batches(request):
    """Three batches in two layers and groups 0 and 2, with dropped tokens."""
    causal, rng, out = request.param, torch.Generator().manual_seed(0), []
    for group in (0, 2, 2):
        tokens = torch.randint(TYPES + 2, (2, N), generator=rng)
        keep = torch.ones(2, N, dtype=torch.bool)
        keep[:, 0] = keep[0, 13] = False
        for layer in range(2):
            logits = 3 * torch.randn(2, HEADS, N, N, generator=rng)
            visible = torch.ones(N, N, dtype=torch.bool)
            visible = visible.tril() if causal else visible
            weights = logits.masked_fill(~visible, -torch.inf).softmax(-1)
            groups, sequence = torch.full((2,), group), torch.arange(2) + 2 * (len(out) // 2)
            maps = (logits, logits, weights, logits, logits)
            out.append(Seen(layer, *maps, tokens, groups, sequence, keep, causal))
    return out


def entries(seen):
    """(sequence in the batch, query, key) of every pair that counts, r = 0 included."""
    reach = 0 if seen.causal else W
    for b in range(len(seen.tokens)):
        for i in range(W + FIRST, N - reach):
            window = range(i - W, i + reach + 1)
            if all(seen.keep[b, j] for j in window):
                yield from ((b, i, j) for j in window)


def test_means_are_those_of_a_loop(batches):
    by = ByDistance(W, FIRST)
    for seen in batches:
        by.update(seen)
    causal = batches[0].causal
    assert list(by.distances) == list(range(0 if causal else -W, W + 1))
    for layer in range(2):
        for group in (0, 2):
            for at, r in enumerate(by.distances):
                of = [s for s in batches if s.layer == layer and s.groups[0] == group]
                pairs = [(s, b, i, j) for s in of for b, i, j in entries(s) if i - j == r]
                assert by.queries[group] == len(pairs)
                weight = np.mean([s.weights[b, :, i, j].numpy() for s, b, i, j in pairs], axis=0)
                log = np.mean([s.weights[b, :, i, j].log().numpy() for s, b, i, j in pairs], axis=0)
                logit = np.mean([s.logits[b, :, i, j].numpy() for s, b, i, j in pairs], axis=0)
                np.testing.assert_allclose(by.weight(by_group=True)[group, layer, :, at], weight, rtol=1e-5)
                np.testing.assert_allclose(by.log_weight(by_group=True)[group, layer, :, at], log, rtol=1e-5)
                np.testing.assert_allclose(by.logit(by_group=True)[group, layer, :, at], logit, rtol=1e-4, atol=1e-5)
                all_kept = [
                    s.weights[b, :, i, i - r].numpy()
                    for s in of
                    for b in range(2)
                    for i in range(N)
                    if 0 <= i - r < N and s.keep[b, i] and s.keep[b, i - r]
                ]
                found = by.careless(by_group=True)[group, layer, :, at]
                np.testing.assert_allclose(found, np.mean(all_kept, axis=0), rtol=1e-5)
    assert by.queries[1] == 0 and np.isnan(by.weight(by_group=True)[1]).all()
    pooled = np.nansum(by.weight(by_group=True) * by.queries[:, None, None, None], axis=0) / by.queries.sum()
    np.testing.assert_allclose(by.weight(), pooled)


def test_types_receive_what_a_loop_finds(batches):
    by = ByType(torch.arange(TYPES), W, FIRST)
    total = np.zeros((2, HEADS, TYPES + 1))
    mean, number = np.zeros((2, HEADS, 2 * W + 1)), np.zeros((2 * W + 1, TYPES + 1))
    for seen in batches:
        by.update(seen)
        for b, i, j in entries(seen):
            kind = min(int(seen.tokens[b, j]), TYPES)
            mean[seen.layer, :, i - j + W] += seen.weights[b, :, i, j].numpy()
            if i != j:
                total[seen.layer, :, kind] += seen.weights[b, :, i, j].numpy()
                number[i - j + W, kind] += seen.layer == 0
    queries = number[2 * W].sum()
    np.testing.assert_allclose(by.received(), total, rtol=1e-5)
    np.testing.assert_allclose(by.expected(), mean / queries @ number, rtol=1e-5)
    np.testing.assert_allclose(by.keys.sum(0), number.sum(0))
    np.testing.assert_allclose(by.received(by_group=True).sum(0), total, rtol=1e-5)
    np.testing.assert_allclose(by.expected(by_group=True)[:, 0].sum(-1), by.received(by_group=True)[:, 0].sum(-1))
    np.testing.assert_allclose(by.expected().sum(-1), total.sum(-1), rtol=1e-5)


@pytest.mark.parametrize("by_occurrence", [False, True])
def test_class_pairs_exchange_what_a_loop_finds(batches, by_occurrence):
    classes = torch.tensor([0, 1, 2, 1, 0, -1])  # of the 6 token ids; type 5 has none
    of_tokens = torch.cat([classes[seen.tokens] for seen in batches if seen.layer == 0])
    by = ByClassPair(of_tokens if by_occurrence else classes, 3, W, FIRST)
    total, number = np.zeros((2, HEADS, 3, 3)), np.zeros((2 * W + 1, 3, 3))
    mean, rows = np.zeros((2, HEADS, 2 * W + 1)), 0
    for seen in batches:
        by.update(seen)
        for b, i, j in entries(seen):
            if i == j:
                rows += seen.layer == 0
                continue
            mean[seen.layer, :, i - j + W] += seen.weights[b, :, i, j].numpy()
            c, d = int(classes[seen.tokens[b, i]]), int(classes[seen.tokens[b, j]])
            if min(c, d) >= 0:
                total[seen.layer, :, c, d] += seen.weights[b, :, i, j].numpy()
                number[i - j + W, c, d] += seen.layer == 0
    np.testing.assert_allclose(by.received(), total, rtol=1e-5)
    np.testing.assert_allclose(by.expected(), np.einsum("lhk,kcd->lhcd", mean / rows, number), rtol=1e-5)
    np.testing.assert_allclose(by.pairs.sum(0), number.sum(0))
    np.testing.assert_allclose(by.received(by_group=True).sum(0), total, rtol=1e-5)
    assert by.expected(by_group=True).shape == (3, 2, HEADS, 3, 3)


def test_uniform_causal_attention_looks_like_a_power_law_when_averaged_carelessly():
    """Known identity (claims.md): 0.30 with R² .98 at N = 256, W = 100; 0.000 with the whole window behind."""
    config = ModelConfig(8, 8, 1, 2, context=256, encoding="nope", association=False)
    by = ByDistance(100)
    observe(Transformer(config), torch.randint(8, (2, 256)), [by])
    r = np.arange(1, 101)
    careless, honest = (fit_curve(r, y[0, 0, 1:], "power") for y in (by.careless(), by.weight()))
    assert careless.params["exponent"] == pytest.approx(0.30, abs=0.005)
    assert careless.r2 == pytest.approx(0.98, abs=0.005)
    assert abs(honest.params["exponent"]) < 0.001
    np.testing.assert_allclose(by.log_weight()[0, 0], by.log_weight()[0, 0, 0], rtol=1e-6)


def test_a_field_alone_is_seen_as_it_is():
    model = Transformer(ModelConfig(8, 8, 1, 2, context=256, encoding="agf", association=False))
    by = ByDistance(40)
    observe(model, torch.randint(8, (2, 128)), [by])
    truth = model.encoding.field(0).log_weight(torch.arange(41)).detach().numpy()
    for found in (by.log_weight()[0], by.logit()[0], np.log(by.weight()[0])):
        np.testing.assert_allclose(found - found[:, :1], truth, atol=2e-5)


def test_windows_are_checked():
    with pytest.raises(ValueError, match="width ≥ 1"):
        Window(0)
    with pytest.raises(
        ValueError, match="24 tokens have no query with a window of 20 tokens before it after the first 4"
    ):
        Window(20).rows(24, causal=True)
    with pytest.raises(ValueError, match="on both sides"):
        Window(10).rows(24, causal=False)
    with pytest.raises(ValueError, match="contiguous square maps"):
        Window(4).view(torch.zeros(1, 1, 20, 20).mT, causal=True)
    with pytest.raises(ValueError, match="nothing was observed"):
        Sums().get("weight")
    with pytest.raises(ValueError, match="classes must be int64"):
        ByClassPair(torch.tensor([0, 3]), 3, W)


def test_kinds_and_the_commonest():
    tokens = torch.tensor([[5, 5, 9, 9, 9, 1, 7]])
    ids = commonest(tokens, tokens != 7, 2)
    assert ids.tolist() == [9, 5]
    assert kinds(ids, tokens).tolist() == [[1, 1, 0, 0, 0, 2, 2]]
