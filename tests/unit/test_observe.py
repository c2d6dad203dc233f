"""What `observe` hands over of our own model is what the model computes; everything is put back afterwards."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from agf_core.analysis import observe as module
from agf_core.analysis.observe import observe
from agf_core.attention import attention_weights
from agf_core.model import ModelConfig, Transformer

N = 20


class Keep:
    def __init__(self):
        self.seen = []

    def update(self, seen):
        self.seen.append(replace(seen, logits=seen.logits.clone(), weights=seen.weights.clone()))

    def whole(self, name, layer):
        return torch.cat([getattr(s, name) for s in self.seen if s.layer == layer])


def build(encoding="agf", **options):
    torch.manual_seed(0)
    config = {"dim": 32, "layers": 2, "heads": 4, "context": 16, "encoding": encoding} | options
    return Transformer(ModelConfig(vocab_size=11, **config))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("encoding", ["nope", "rotary", "untied", "agf", "agf_score", "agf_weight", "fire"])
def test_maps_are_those_of_the_model(encoding, causal, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2 * 4 * N * N)  # two sequences at once: a batch of 3 comes in parts
    model, keep = build(encoding, causal=causal, kv_heads=2), Keep()
    tokens = torch.randint(11, (5, N))
    observe(model, tokens, [keep], batch=3)
    placement = model.encoding.placement
    for layer in range(2):
        assert torch.equal(keep.whole("tokens", layer), tokens)
        assert torch.equal(keep.whole("sequence", layer), torch.arange(5))
        q, k, weights = (keep.whole(name, layer) for name in ("query", "key", "weights"))
        field = model.encoding.field(layer)
        expected = attention_weights(q, k, k, field=field, placement=placement, causal=causal)
        torch.testing.assert_close(weights, expected)
        logits, s = keep.whole("logits", layer), keep.whole("association", layer)
        torch.testing.assert_close(s, q @ k.mT / q.shape[-1] ** 0.5)
        r = torch.arange(N)[:, None] - torch.arange(N)
        if causal:
            logits = logits.masked_fill(r < 0, -torch.inf)
        again = logits.softmax(-1)
        if placement == "weight":
            again = again * field.log_weight(r).exp()
        torch.testing.assert_close(again, weights)
    assert not any(s.weights.requires_grad for s in keep.seen)
    assert {len(s.tokens) for s in keep.seen} == {1, 2}


def test_layers_build_on_each_other_and_the_mask_counts():
    model, keep, theirs = build("rotary"), Keep(), {}
    tokens, mask = torch.randint(11, (2, N)), torch.ones(2, N, dtype=torch.bool)
    mask[1, :7] = False

    def tap(layer, name, tensor):
        if name == "weights":
            theirs[layer] = tensor.detach()

    model(tokens, key_mask=mask, tap=tap)
    observe(model, tokens, [keep], mask=mask)
    for layer in range(2):
        torch.testing.assert_close(keep.whole("weights", layer), theirs[layer])
    assert keep.whole("weights", 1)[1, ..., :7].abs().max() == 0


def test_without_association_the_scores_are_zero():
    keep = Keep()
    observe(build("agf", association=False), torch.zeros(1, N, dtype=torch.int64), [keep])
    assert keep.whole("association", 0).abs().max() == 0 and keep.whole("logits", 0).std() > 0


def test_the_model_is_put_back_even_after_an_error():
    model = build().train()

    class Fails:
        def update(self, seen):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        observe(model, torch.zeros(1, N, dtype=torch.int64), [Fails()])
    assert model.training and "rotate" not in vars(model.encoding)


def test_statistics_are_told_beforehand_and_progress_is_said():
    told, said = [], []

    class Begins(Keep):
        def begin(self, tokens, keep):
            told.append((tokens.shape, bool(keep.all())))

    observe(build(), torch.zeros(5, N, dtype=torch.int64), [Begins()], batch=4, say=said.append)
    assert told == [((5, N), True)] and said == ["80 of 100 tokens", "100 of 100 tokens"]


def test_wrong_input_is_refused():
    model, tokens = build(), torch.zeros(3, N, dtype=torch.int64)
    for message, options in (
        (r"groups must be torch.int64 of shape \(3,\), got torch.int64 \(2,\)", {"groups": tokens[:2, 0]}),
        (r"keep must be torch.bool of shape \(3, 20\), got torch.int64", {"keep": tokens}),
        (r"groups must be ≥ 0 and batch ≥ 1, got 0 and 0", {"batch": 0}),
    ):
        with pytest.raises(ValueError, match=message):
            observe(model, tokens, [], **options)
    with pytest.raises(
        ValueError, match=r"tokens must be int64 of shape \(sequences, length\), got torch.int64 \(20,\)"
    ):
        observe(model, tokens[0], [])
    with pytest.raises(ValueError, match="cannot observe a Linear"):
        observe(nn.Linear(2, 2), tokens, [])
