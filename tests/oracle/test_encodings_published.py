"""Encodings as built, against code and formulas that are not ours.

transformers' Llama, XLM, GPT-2, BLOOM and T5; the formulas of TUPE, KERPLE and FIRE in fp64; SciPy for matched starts.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats
from transformers import BloomConfig, GPT2Config, GPT2Model, LlamaConfig, T5Config
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings

from agf_core.attention import attend, attention_weights
from agf_core.encodings import build

SIZE = {"layers": 2, "heads": 4, "dim": 64, "context": 128}


def signed(queries, keys):
    """query - key, (N, M), the last query at the last key."""
    return (torch.arange(queries) + keys - queries)[:, None] - torch.arange(keys)


def softmax_causal(scores):
    n, m = scores.shape[-2:]
    return scores.masked_fill(signed(n, m) < 0, -math.inf).softmax(-1)


@pytest.mark.parametrize(("base", "kv_heads", "start"), [(10000.0, 4, 0), (10000.0, 2, 77), (500.0, 1, 3000)])
def test_rotary_is_llamas(base, kv_heads, start):
    # transformers 4 reads rope_theta, 5 reads rope_parameters: give each what it knows.
    rope = {"rope_type": "default", "rope_theta": base}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_theta=base, max_position_embeddings=4096)
    if hasattr(config, "rope_parameters"):
        config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_parameters=rope, max_position_embeddings=4096)
    q, k = torch.randn(2, 4, 33, 16), torch.randn(2, kv_heads, 33, 16)
    positions = torch.arange(start, start + 33)
    cos, sin = LlamaRotaryEmbedding(config)(q, positions[None])
    expected = apply_rotary_pos_emb(q, k, cos, sin)
    ours = build("rotary", base=base, **SIZE).rotate(q, k, positions, positions)
    for got, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", [64, 10])
def test_sinusoidal_is_xlms_and_the_papers(dim):
    positions = 200
    waves = build("sinusoidal", layers=1, heads=1, dim=dim, context=8).embed(
        torch.zeros(1, positions, dim, dtype=torch.float64)
    )[0]
    expected = torch.tensor(
        [
            [(math.sin, math.cos)[i % 2](pos / 10000 ** ((i - i % 2) / dim)) for i in range(dim)]
            for pos in range(positions)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(waves, expected, rtol=1e-10, atol=1e-11)
    xlm = torch.empty(positions, dim)
    create_sinusoidal_embeddings(positions, dim, xlm)
    torch.testing.assert_close(waves.float(), xlm.detach(), rtol=1e-5, atol=1e-5)
    x = torch.randn(3, positions, dim, dtype=torch.float64)
    single = build("sinusoidal", layers=1, heads=1, dim=dim, context=8).embed(x.float())
    torch.testing.assert_close(single.double(), x * math.sqrt(dim) + expected, rtol=1e-5, atol=1e-4)


def test_learned_is_gpt2s():
    gpt2 = GPT2Model(GPT2Config(vocab_size=50, n_positions=30, n_embd=64, n_layer=0, n_head=1)).eval()
    encoding = build("learned", layers=1, heads=1, dim=64, context=30)
    with torch.no_grad():
        encoding.table.weight.copy_(gpt2.wpe.weight)
        tokens = torch.randint(0, 50, (2, 25))
        ours = gpt2.ln_f(encoding.embed(gpt2.wte(tokens)))
        torch.testing.assert_close(ours, gpt2(tokens).last_hidden_state)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_untied_is_tupes_formula(kv_heads):
    """softmax((q·k + LN(p_i) U_Q · LN(p_j) U_K) / sqrt(2d)), term by term in fp64, values and gradients."""
    torch.manual_seed(kv_heads)
    heads, d, n = 4, 5, 7
    encoding = build("untied", layers=1, heads=heads, dim=heads * d, context=n).double()
    with torch.no_grad():
        for parameter in encoding.parameters():
            parameter.normal_()
    q, k = (torch.randn(2, h, n, d, dtype=torch.float64, requires_grad=True) for h in (heads, kv_heads))
    positions = torch.arange(n)
    wide_q, wide_k = encoding.rotate(q, k, positions, positions)
    ours = attention_weights(wide_q, wide_k, wide_k)

    p = encoding.table.weight
    p = (p - p.mean(-1, keepdim=True)) / torch.sqrt(p.var(-1, keepdim=True, unbiased=False) + encoding.norm.eps)
    p = p * encoding.norm.weight + encoding.norm.bias
    rows = []
    for h in range(heads):
        own = slice(h * d, (h + 1) * d)  # this head's rows of U
        position = (p @ encoding.query.weight[own].T) @ (p @ encoding.key.weight[own].T).T
        content = q[:, h] @ k[:, h // (heads // kv_heads)].transpose(-1, -2)
        rows.append((content + position) / math.sqrt(2 * d))
    expected = softmax_causal(torch.stack(rows, dim=1))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    mix, parameters = torch.randn_like(ours), [q, k, *encoding.parameters()]
    got = torch.autograd.grad((ours * mix).sum(), parameters)
    want = torch.autograd.grad((expected * mix).sum(), parameters)
    for ours_grad, grad in zip(got, want, strict=True):
        torch.testing.assert_close(ours_grad, grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_attends_as_bloom(heads):
    assert BloomConfig().model_type == "bloom"
    q, k, v = torch.randn(3, 2, heads, 30, 8).unbind()
    encoding = build("alibi", layers=1, heads=heads, dim=8 * heads, context=30)
    alibi = build_alibi_tensor(torch.ones(2, 30), heads, torch.float32).view(2, heads, 1, 30)
    expected = softmax_causal(q @ k.transpose(-1, -2) / math.sqrt(8) + alibi) @ v
    torch.testing.assert_close(attend(q, k, v, field=encoding.field(0)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("directional", [False, True])
def test_t5_is_t5s_bias(directional):
    config = T5Config(d_model=64, num_heads=4, d_kv=16, is_decoder=not directional)
    t5 = T5Attention(config, has_relative_attention_bias=True)
    encoding = build("t5", directional=directional, **SIZE)
    table = t5.relative_attention_bias.weight.detach().T  # (H, 32): the encoder's past, then its future
    with torch.no_grad():
        target = encoding.field(0).table
        target.copy_(table.view(4, 2, 16).transpose(0, 1) if directional else table)
        bias = t5.compute_bias(150, 150)[0]
    distance = signed(150, 150)
    seen = torch.ones_like(distance, dtype=torch.bool) if directional else distance >= 0
    for layer in range(2):
        torch.testing.assert_close(encoding.field(layer).log_weight(distance)[:, seen], bias[:, seen])


def test_kerple_starts_where_its_code_does():
    """p uniform in (0, 2), a uniform in (0, 1), clamped at 0.01 (both kernels of the authors' repository)."""
    torch.manual_seed(0)
    size = {"layers": 1, "heads": 4000, "dim": 4000, "context": 16}
    log, power = build("kerple_log", **size).field(0), build("kerple_power", **size).field(0)
    draws = {"log p": log.exponent / 2, "log a": 1 / log.scale, "power p": power.shape / 2, "power a": power.rate}
    for name, draw in draws.items():
        draw = draw.detach().numpy()
        assert draw.min() > 0.0049 and draw.max() < 1, name
        assert stats.kstest(draw, "uniform").pvalue > 1e-3, name
    r = torch.arange(0, 500, 7)
    p, a = (x.detach().double()[:, None] for x in (log.exponent, 1 / log.scale))
    torch.testing.assert_close(log.log_weight(r).double(), -p * torch.log(1 + a * r), rtol=1e-4, atol=1e-5)


def test_fire_is_its_formula():
    encoding = build("fire", **SIZE)
    for layer in range(2):
        field = encoding.field(layer)
        w1, b1, w2, b2 = (p.detach().double().numpy() for p in field.mlps.parameters())
        for i in (5, 128, 300):
            r = np.arange(i + 1)
            x = np.log(0.1 * r + 1) / np.log(0.1 * max(128, i) + 1)
            expected = w2 @ np.maximum(w1 * x + b1[:, None], 0) + b2[:, None]
            ours = field.log_weight(torch.from_numpy(r), torch.tensor(i)).detach().numpy()
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    assert encoding.field(0).mlps[0][0].weight[0] != encoding.field(1).mlps[0][0].weight[0]


@pytest.mark.parametrize("name", ["agf", "agf_score", "agf_weight"])
def test_agf_places_a_power_law(name):
    q, k, v = torch.randn(3, 1, 4, 20, 16, dtype=torch.float64).unbind()
    encoding = build(name, **SIZE)
    ours = attention_weights(q, k, v, field=encoding.field(0), placement=encoding.placement)
    exponent = torch.tensor([0.25 + 1.75 * h / 3 for h in range(4)], dtype=torch.float64)
    g = (1 + signed(20, 20).clamp(min=0).double()) ** -exponent[:, None, None]
    scores = q @ k.transpose(-1, -2) / 4
    expected = {
        "agf": lambda: softmax_causal(scores + g.log()),
        "agf_score": lambda: softmax_causal(scores * g),
        "agf_weight": lambda: softmax_causal(scores) * g,
    }[name]()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("context", [16, 128, 1024])
def test_matched_starts_are_scipys_least_squares(context):
    r = np.arange(context)
    sigma, k = np.sqrt(1.0 + r), np.linspace(0.25, 2, 4)
    size = {"layers": 1, "heads": 4, "dim": 4, "context": context, "start": "matched"}
    exponential = build("alibi", **size).field(0)
    stretched = build("kerple_power", **size).field(0)
    for h in range(4):
        target = k[h] * np.log1p(r)
        (m,), _ = optimize.curve_fit(lambda x, m: m * x, r, target, p0=[0.1], sigma=sigma)
        assert float(exponential.rate[h]) == pytest.approx(m, rel=1e-5)
        (a, p), _ = optimize.curve_fit(lambda x, a, p: a * x**p, r, target, p0=[1, 0.5], sigma=sigma)
        assert float(stretched.rate[h].detach()) == pytest.approx(a, rel=1e-4)
        assert float(stretched.shape[h].detach()) == pytest.approx(p, rel=1e-4)


@pytest.mark.parametrize("directional", [False, True])
def test_matched_tables_are_bucket_means(directional):
    context = 200
    field = build("t5", layers=1, heads=3, dim=3, context=context, start="matched", directional=directional).field(0)
    r = np.arange(context)
    bucket = T5Attention._relative_position_bucket(-torch.arange(context), directional, 32, 128).numpy()
    frame = pd.DataFrame({"bucket": bucket, "weight": 1 / (1 + r), "weighted": np.log1p(r) / (1 + r)})
    sums = frame.groupby("bucket").sum()
    means = -(sums["weighted"] / sums["weight"]).to_numpy()
    k = np.linspace(0.25, 2, 3)
    past, future = field.table.detach() if directional else (field.table.detach(), None)
    np.testing.assert_allclose(past, k[:, None] * means, rtol=1e-5, atol=1e-6)
    if future is not None:
        np.testing.assert_allclose(future, k[::-1, None] * means, rtol=1e-5, atol=1e-6)
