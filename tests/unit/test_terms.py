"""The four terms of q·k: planted heads whose shares we chose; the exact split against algebra and transformers."""

import json

import numpy as np
import pytest
import torch

from agf_core.analysis.observe import observe
from agf_core.analysis.terms import BY_POSITION, EXACT, TERMS, FourTerms, Positions, Terms, first_layer, four_terms
from agf_core.model import ModelConfig, Transformer

LENGTH, WINDOW, FIRST = 40, 16, 4


def model_of(encoding="learned", *, layers=2, seed=0, **more):
    torch.manual_seed(seed)
    sizes = {"vocab_size": 50, "dim": 32, "layers": layers, "heads": 2, "context": LENGTH}
    model = Transformer(ModelConfig(**sizes, encoding=encoding, **more))
    if encoding == "learned":
        torch.nn.init.normal_(model.encoding.table.weight)
        torch.nn.init.normal_(model.embedding.weight)
    return model


def some_tokens(texts=60, seed=0):
    return torch.randint(0, 50, (texts, LENGTH), generator=torch.Generator().manual_seed(seed))


class Planted:
    """One layer whose q and k we choose, as `observe` would hand it."""

    def __init__(self, what, where, constant, causal=True):
        q, k = what + where + constant[:, None, None, None]  # (2, texts, H, N, d)
        scores = (q @ k.mT).float() / q.shape[-1] ** 0.5
        texts, length = q.shape[0], q.shape[2]
        self.layer, self.query, self.key, self.association, self.causal = 0, q, k, scores, causal
        self.tokens, self.sequence = torch.zeros(texts, length, dtype=torch.int64), torch.arange(texts)
        self.groups, self.keep = torch.arange(texts) % 6, torch.ones(texts, length, dtype=torch.bool)


def planted(sizes, *, texts=400, seed=0, causal=True, constant=0.0):
    """what and where of q and k with standard deviations sizes (2, 2): of what in q, k; of where in q, k."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    (wq, wk), (pq, pk) = sizes
    what = torch.stack([wq * draw(texts, 2, LENGTH, 16), wk * draw(texts, 2, LENGTH, 16)])
    where = torch.stack([pq * draw(1, 2, LENGTH, 16), pk * draw(1, 2, LENGTH, 16)])
    return Planted(what, where, constant * draw(2, 16), causal)


def measured(seen, window=WINDOW):
    positions = Positions()
    positions.update(seen)
    found = FourTerms(positions, window, FIRST)
    found.update(seen)
    return found.result()


@pytest.mark.parametrize("causal", [True, False])
def test_planted_shares_come_back(causal):
    sizes = ((1.0, 0.7), (0.5, 1.2))
    found = measured(planted(sizes, causal=causal), window=WINDOW if causal else 8)
    # Within a row, the variance of a·b over independent keys b of sd s is |a|² s²: shares are products of variances.
    (wq, wk), (pq, pk) = np.square(sizes)
    expected = np.array([wq * wk, wq * pk, pq * wk, pq * pk])
    assert found.shares.sum(-1) == pytest.approx(1)
    # One draw of 40 positions: where·where varies by what these happen to be.
    assert found.shares.mean((0, 1)) == pytest.approx(expected / expected.sum(), abs=0.06)
    assert (found.low < found.shares).all() and (found.high > found.shares).all()
    assert found.method == BY_POSITION and found.groups == 6


def test_a_constant_goes_with_the_key_that_it_meets():
    none = ((0.0, 1.0), (0.0, 0.0))  # a query that is constant alone, keys that know their token alone
    assert measured(planted(none, constant=1.0)).shares == pytest.approx(np.tile([1.0, 0, 0, 0], (1, 2, 1)), abs=0.02)
    none = ((0.0, 0.0), (0.0, 1.0))
    assert measured(planted(none, constant=1.0)).shares == pytest.approx(np.tile([0, 0, 0, 1.0], (1, 2, 1)), abs=1e-9)


def test_few_texts_do_not_turn_meaning_into_position():
    """With the text itself in the mean, 1/8 of the meaning would count as where in q and in k."""
    found = [measured(planted(((1.0, 1.0), (0.0, 0.0)), texts=8, seed=s)).shares for s in range(12)]
    assert np.mean(found, axis=(0, 1, 2)) == pytest.approx([1, 0, 0, 0], abs=0.08)


def test_intervals_cover():
    """Groups of documents differ in how much meaning their keys carry; the truth is what very many groups say."""
    rng = torch.Generator().manual_seed(5)
    where = torch.randn(2, 1, 2, LENGTH, 16, generator=rng, dtype=torch.float64)  # the same throughout

    def one(groups, texts):
        what = torch.randn(2, texts, 2, LENGTH, 16, generator=rng, dtype=torch.float64)
        group = torch.arange(texts) % groups
        what[1] *= torch.randn(groups, generator=rng, dtype=torch.float64).mul(0.4).exp()[group, None, None, None]
        seen = Planted(what, where, torch.zeros(2, 16, dtype=torch.float64))
        seen.groups = group
        return measured(seen)

    truth = one(600, 600).shares
    found = [one(12, 48) for _ in range(30)]
    assert np.mean([(f.low <= truth) & (truth <= f.high) for f in found]) > 0.85


def written_out(model, tokens, rows):
    """The first layer's terms by hand, fp64: each part carried through LayerNorm on its own, every score multiplied."""
    m = model.double()
    block, c = m.blocks[0], m.config
    content, p = m.embedding(tokens), m.encoding.table.weight
    p_mean = p[rows].mean(0)
    x = content + p
    mu, sd = x.mean(-1, keepdim=True), (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose((x - mu) / sd * block.norm1.weight, block.norm1(x))
    q, k = [w.unflatten(0, (c.heads, -1)) for w in block.attention.qkv.weight.split(c.dim)[:2]]

    def carried(part, weight):
        y = (part - part.mean(-1, keepdim=True)) / sd * block.norm1.weight
        return torch.einsum("bnc,hdc->bhnd", y, weight)

    where = [carried((p - p_mean).expand_as(x), w) for w in (q, k)]
    what = [carried((content + p_mean), w) for w in (q, k)]
    whole = torch.einsum("bnc,hdc->bhnd", block.norm1(x), q)
    assert torch.allclose(what[0] + where[0], whole)
    constant = ((whole.sum(0) - whole) / (len(whole) - 1))[:, :, rows].mean(2, keepdim=True)  # of the other texts
    terms = ((what[0], what[1]), (what[0] - constant, where[1]), (where[0], what[1]), (where[0] + constant, where[1]))
    return torch.stack([a @ b.mT for a, b in terms])


def test_exact_is_the_algebra_of_the_first_layer_in_fp64():
    model, tokens = model_of(), some_tokens()
    torch.nn.init.uniform_(model.blocks[0].norm1.weight, 0.5, 1.5)
    _, exact = four_terms(model, tokens, WINDOW, FIRST, groups=torch.arange(60) % 5)
    with torch.no_grad():
        terms = written_out(model, tokens, slice(FIRST + WINDOW, LENGTH))
    sums = torch.zeros(4, 2, dtype=torch.float64)
    for n in range(FIRST + WINDOW, LENGTH):
        row = terms[..., n, n - WINDOW : n]  # (4, B, H, W)
        row = row - row.mean(-1, keepdim=True)
        sums += (row * row.sum(0)).sum((1, 3))
    shares = (sums / sums.sum(0)).T
    assert exact.shares[0] == pytest.approx(shares.numpy(), abs=2e-5)
    assert exact.method == EXACT and exact.queries == 60 * (LENGTH - FIRST - WINDOW)


def test_mean_by_position_equals_exact_where_position_and_content_are_independent():
    mean, exact = four_terms(model_of(layers=1), some_tokens(600), WINDOW, FIRST)
    assert mean.shares.shape == exact.shares.shape == (1, 2, 4)
    assert mean.shares == pytest.approx(exact.shares, abs=0.03)
    assert (exact.shares > 0.1).all()  # all four are there to be found


def test_without_positions_no_where_and_without_content_no_what():
    model = model_of()
    torch.nn.init.constant_(model.encoding.table.weight, 0.3)  # the same vector everywhere tells nothing of where
    _, exact = four_terms(model, some_tokens(), WINDOW, FIRST)
    assert exact.shares[..., 1:] == pytest.approx(np.zeros((1, 2, 3)), abs=1e-6)
    model = model_of()
    torch.nn.init.ones_(model.embedding.weight)
    # LayerNorm's deviation, never where, differs from place to place: it is all that is left of meaning.
    for found, tolerance in zip(four_terms(model, some_tokens(), WINDOW, FIRST), (1e-5, 5e-3)):
        assert found.shares[0] == pytest.approx(np.tile([0, 0, 0, 1.0], (2, 1)), abs=tolerance)


@pytest.mark.parametrize("encoding", ["sinusoidal", "rotary", "untied", "agf", "nope"])
def test_every_encoding_has_a_split_by_mean_and_only_added_positions_an_exact_one(encoding):
    more = {"kv_heads": 1} if encoding != "untied" else {}
    mean, exact = four_terms(model_of(encoding, **more), some_tokens(), WINDOW, FIRST, groups=torch.arange(60) % 5)
    assert mean.shares.shape == (2, 2, 4) and mean.shares.sum(-1) == pytest.approx(1)
    assert np.isfinite(mean.low).all() and (mean.spread > 0).all()
    assert (exact is None) == (encoding != "sinusoidal")
    if exact is not None:
        assert mean.shares[0] == pytest.approx(exact.shares[0], abs=0.1)
    if encoding == "nope":  # nothing tells the first layer where it is
        assert mean.shares[0, :, 0] == pytest.approx(1, abs=0.1)


def test_uniform_attention_leaves_nothing_to_explain():
    mean, _ = four_terms(model_of("nope", association=False), some_tokens(), WINDOW, FIRST, groups=torch.arange(60) % 5)
    assert (mean.spread == 0).all() and np.isnan(mean.shares).all() and np.isnan(mean.low).all()


def transformers_model(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=2)
        model = transformers.GPT2Model(config)
    else:
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        )
        model = transformers.BertModel(config)
    for p in model.parameters():
        if p.dim() == 1:
            torch.nn.init.uniform_(p, 0.5, 1.5)  # scales and biases that would show
        else:
            torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_exact_is_what_transformers_models_do_with_position(kind):
    """q with its positions less q with one position everywhere, both at the same deviation, is where."""
    model, tokens = transformers_model(kind), some_tokens(8)
    rows = (8, 30)
    exact = first_layer(model)
    table = model.wpe.weight if kind == "gpt2" else model.embeddings.position_embeddings.weight
    norm = model.h[0].ln_1 if kind == "gpt2" else model.embeddings.LayerNorm

    class Watch:
        def update(self, seen):
            if seen.layer == 0:
                self.both = torch.stack([seen.query, seen.key]).double()

    watch = Watch()
    observe(model, tokens, [watch])
    with torch.no_grad():
        x = exact.added(tokens).double()
        sd = (x.var(-1, correction=0) + norm.eps).sqrt()
        where, seen = exact(tokens, rows), watch.both
        kept = table.clone()
        table[:LENGTH] = kept[rows[0] : rows[1]].mean(0)
        flat = exact.added(tokens).double()
        gain = ((flat.var(-1, correction=0) + norm.eps).sqrt() / sd)[None, :, None, :, None]
        observe(model, tokens, [watch])
        bias = model.h[0].attn.c_attn.bias.view(3, 2, 1, 16)[:2] if kind == "gpt2" else torch.stack(
            [getattr(model.encoder.layer[0].attention.self, n).bias.view(2, 1, 16) for n in ("query", "key")]
        )  # fmt: skip
        # Biases, LayerNorm's and the projection's, are not divided by the deviation.
        w = torch.stack([p.double().unflatten(0, (2, 16)) for p in exact.weights])
        fixed = bias.double()[:, None] + (w @ norm.bias.double()[:, None])[..., 0][:, None, :, None]
        content = (watch.both - fixed) * gain + fixed
    assert torch.allclose(content + where, seen, atol=2e-5)


def test_transformers_models_have_both_splits_and_keep_is_heeded():
    model, tokens = transformers_model("bert"), some_tokens(40)
    keep = torch.ones_like(tokens, dtype=torch.bool)
    keep[:20, -1] = keep[:, 0] = False  # in the windows of the last queries alone; the first is in none
    mean, exact = four_terms(model, tokens, 8, FIRST, keep=keep, groups=torch.arange(40) % 5)
    assert mean.shares.shape == (2, 2, 4) and exact.shares.shape == (1, 2, 4)
    rows = LENGTH - FIRST - 16
    assert mean.queries == 40 * rows - 20
    assert mean.shares[0] == pytest.approx(exact.shares[0], abs=0.12)


def test_terms_survive_storage():
    found, _ = four_terms(model_of("nope", association=False), some_tokens(), WINDOW, FIRST)
    other = measured(planted(((1.0, 0.7), (0.5, 1.2)), texts=20))
    for one in (found, other):
        again = Terms.from_dict(json.loads(json.dumps(one.to_dict())))
        assert again.shares == pytest.approx(one.shares, rel=1e-4, nan_ok=True) and again.method == one.method
        assert again.low.shape == one.low.shape and again.queries == one.queries
    with pytest.raises(ValueError, match="expected the keys shares, low"):
        Terms.from_dict({"shares": []})
    assert len(TERMS) == 4


def test_what_cannot_be_split_is_refused():
    model, tokens = model_of(), some_tokens()
    with pytest.raises(ValueError, match="no query with a window of 40"):
        four_terms(model, tokens, LENGTH, FIRST)
    with pytest.raises(ValueError, match="of the 40 positions 40 have one text"):
        four_terms(model, tokens[:1], WINDOW, FIRST)
    with pytest.raises(ValueError, match="hand `Positions` to `observe` first"):
        observe(model, tokens, [FourTerms(Positions(), WINDOW)])
    with pytest.raises(ValueError, match="first"):
        FourTerms(Positions(), WINDOW).result()
    assert first_layer(torch.nn.Linear(2, 2)) is None
