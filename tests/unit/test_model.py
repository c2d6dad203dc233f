"""The Transformer: shapes, causality, cached decoding, taps and masks, for every encoding and cells of the plane."""

import math

import pytest
import torch

from agf_core.encodings import ENCODINGS
from agf_core.model import TAPPED, Cache, ModelConfig, Transformer

SIZES = {"vocab_size": 30, "dim": 16, "layers": 2, "heads": 2, "context": 16}
DISTANCE = torch.arange(12)[:, None] - torch.arange(12)
CELLS = [
    {"law": "table", "placement": "weight", "start": "matched"},
    {"law": "distances", "placement": "logit", "start": "steep"},
    {"law": "mlp", "placement": "score", "start": "matched"},
    {"law": "exponential", "placement": "score"},
    {"law": "stretched_exponential", "placement": "weight", "share": True},
]
EVERY = [{"encoding": name} for name in ENCODINGS]
EVERY += [{"encoding": "field", "encoding_options": cell} for cell in CELLS]


def label(given):
    return "-".join([given["encoding"], *map(str, given.get("encoding_options", {}).values())])


every = pytest.mark.parametrize("given", EVERY, ids=label)


def build(seed=0, double=True, **given):
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**{**SIZES, **given})).eval().requires_grad_(False)
    return model.double() if double else model


def text(batch=2, length=12, seed=1):
    return torch.randint(0, SIZES["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(seed))


def changed(tokens, place):
    other = tokens.clone()
    other[:, place] = (other[:, place] + 7) % SIZES["vocab_size"]
    return other


def close(got, want, double=True):
    tolerance = 1e-10 if double else 1e-5
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


class Watch(dict):
    """A tap that keeps what it sees and puts `given[name]` in its place."""

    def __init__(self, **given):
        super().__init__()
        self.given = given

    def __call__(self, layer, name, tensor):
        self[layer, name] = tensor
        return self.given[name](tensor) if name in self.given else None


@every
@pytest.mark.parametrize("causal", [True, False], ids=["decoder", "encoder"])
def test_a_later_token_changes_earlier_logits_in_an_encoder_only(given, causal):
    model, tokens = build(causal=causal, **given), text()
    logits = model(tokens)
    assert logits.shape == (2, 12, 30) and logits.isfinite().all()
    moved = (model(changed(tokens, 8)) - logits).abs().amax((0, 2))  # (N,)
    assert (moved[8:] > 1e-6).all()
    if causal:
        assert moved[:8].max() < 1e-12
    else:
        assert (moved[:8] > 1e-6).all()


@every
@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize("double", [True, False], ids=["fp64", "fp32"])
def test_decoding_with_a_cache_is_the_full_forward(given, kv_heads, double):
    model, tokens = build(double=double, kv_heads=kv_heads, **given), text()
    want = model(tokens)
    for chunks in ([1] * 12, [5, 1, 4, 2]):
        cache = Cache()
        parts = [model(part, cache=cache) for part in tokens.split(chunks, dim=1)]
        close(torch.cat(parts, dim=1), want, double)
        assert cache.length == 12
    heads = model.config.heads if given["encoding"] == "untied" else model.config.groups
    assert cache.layers[1][0].shape[:3] == (2, heads, 12)


@every
def test_input_longer_than_the_context(given):
    model, tokens = build(**given), text(length=40)
    cache = Cache()
    if given["encoding"] == "learned":
        with pytest.raises(ValueError, match=r"end at 16.*needs 40"):
            model(tokens)
        model(tokens[:, :16], cache=cache)
        with pytest.raises(ValueError, match=r"end at 16.*needs 17"):
            model(tokens[:, 16:17], cache=cache)
        assert cache.length == 16
        return
    want = model(tokens)
    assert want.shape == (2, 40, 30) and want.isfinite().all()
    close(model(tokens[:, :30]), want[:, :30])
    close(torch.cat([model(t, cache=cache) for t in tokens.split([10, 20, 1, 9], dim=1)], dim=1), want)


@every
def test_a_tap_sees_everything_and_changes_nothing(given):
    model, tokens, watch = build(kv_heads=1, **given), text(), Watch()
    close(model(tokens, tap=watch), model(tokens))
    shapes = dict.fromkeys(TAPPED, (2, 12, 16)) | dict.fromkeys(("scores", "weights"), (2, 2, 12, 12))
    seen = [(-1, "embed")] + [(layer, name) for layer in (0, 1) for name in TAPPED if name != "embed"]
    assert {key: tuple(t.shape) for key, t in watch.items()} == {key: shapes[key[1]] for key in seen}
    close(watch[1, "residual"], watch[0, "residual"] + watch[1, "mixed"] + watch[1, "mlp"])
    assert (watch[0, "weights"].triu(1) == 0).all()
    if model.encoding.placement != "weight":
        close(watch[0, "weights"].sum(-1), torch.ones(2, 2, 12).double())


def test_a_tap_reads_the_association_without_the_field():
    plain, field = Watch(), Watch()
    build(encoding="nope")(text(), tap=plain)
    build(encoding="agf")(text(), tap=field)
    close(field[0, "scores"], plain[0, "scores"])
    log_g = -torch.tensor([0.25, 2]).view(2, 1, 1) * DISTANCE.clamp(min=0).log1p()
    want = (plain[0, "scores"] + log_g).masked_fill(DISTANCE < 0, -math.inf).softmax(-1)
    torch.testing.assert_close(field[0, "weights"], want, rtol=1e-6, atol=1e-7)  # the field's table is float32


@pytest.mark.parametrize("name", ENCODINGS)
def test_what_a_tap_returns_is_used(name):
    model, tokens = build(encoding=name), text()
    uniform = torch.ones(12, 12).double().tril()
    uniform = (uniform / uniform.sum(-1, keepdim=True)).expand(2, 2, 12, 12)
    field_only = build(encoding=name, association=False)(tokens)
    close(model(tokens, tap=Watch(scores=torch.zeros_like)), field_only)
    if model.encoding.field(0) is None:
        close(model(tokens, tap=Watch(weights=lambda _: uniform)), field_only)
    silent = Watch(mixed=torch.zeros_like, mlp=torch.zeros_like)
    model(tokens, tap=silent)
    close(silent[1, "residual"], silent[-1, "embed"])
    for part in ("embed", "residual"):
        logits = model(tokens, tap=Watch(**{part: torch.zeros_like}))
        assert part == "embed" or (logits == 0).all()
        assert not torch.allclose(logits, model(tokens))


@every
def test_without_association_the_field_alone_mixes(given):
    model, watch = build(association=False, **given), Watch()
    logits = model(text(), tap=watch)
    close(logits, model(text()))
    allowed = DISTANCE >= 0
    for layer in (0, 1):
        field, placement = model.encoding.field(layer), model.encoding.placement
        log_g = torch.zeros(2, 12, 12) if field is None else field.log_weight(DISTANCE.clamp(min=0))
        uniform = allowed / allowed.sum(-1, keepdim=True)
        want = {
            "logit": log_g.masked_fill(~allowed, -math.inf).softmax(-1),
            "score": uniform.expand(2, 12, 12),
            "weight": uniform * log_g.exp(),
        }[placement]
        torch.testing.assert_close(watch[layer, "weights"], want.double().expand(2, 2, 12, 12), rtol=1e-5, atol=1e-6)
        assert (watch[layer, "scores"] == 0).all()


@pytest.mark.parametrize("name", ["nope", "agf", "untied", "rotary", "fire"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_masked_key_has_no_influence(name, causal):
    model, tokens = build(encoding=name, causal=causal), text()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, 3] = False
    logits, others = model(tokens, key_mask=mask), [n for n in range(12) if n != 3]
    close(logits[:, others], model(changed(tokens, 3), key_mask=mask)[:, others])
    assert not torch.allclose(logits, model(tokens))
    watch = Watch()
    close(model(tokens, key_mask=mask, tap=watch), logits)
    assert (watch[1, "weights"][..., 3] == 0).all()
    if causal:  # over cached and new tokens
        cache = Cache()
        close(model(tokens[:, :7], key_mask=mask[:, :7], cache=cache), logits[:, :7])
        close(model(tokens[:, 7:], key_mask=mask, cache=cache), logits[:, 7:])


def test_all_encodings_start_from_the_same_weights():
    def outside(model):
        return {n: t for n, t in model.state_dict().items() if not n.startswith("encoding.")}

    first = outside(build(3, encoding="nope"))
    for given in EVERY:
        here = outside(build(3, **given))
        assert here.keys() == first.keys() and all(torch.equal(here[n], first[n]) for n in first)
    assert not torch.equal(build(4).embedding.weight, first["embedding.weight"])


def test_embeddings_are_tied_unless_outputs_are_given():
    tied, classes = build(encoding="agf"), build(encoding="agf", outputs=5, causal=False)
    assert classes(text()).shape == (2, 12, 5) and classes.head.weight.shape == (5, 16)
    watch = Watch()
    close(tied(text(), tap=watch), tied.norm(watch[1, "residual"]) @ tied.embedding.weight.T)
    blocks = 2 * (4 * 16 * 16 + 8 * 16 * 16 + 2 * 16) + 16  # attention, MLP, norms; the last norm
    for model in (tied, classes):
        model.requires_grad_(True)
    assert tied.count() == {"total": 30 * 16 + blocks + 4, "encoding": 4}  # an exponent a head and layer
    assert classes.count() == {"total": 35 * 16 + blocks + 4, "encoding": 4}
    untied = build(encoding="agf", tied=False)
    close(untied(text(), tap=watch), untied.norm(watch[1, "residual"]) @ untied.head.weight.T)
    assert untied.requires_grad_(True).count()["total"] == tied.count()["total"] + 30 * 16
    frozen = Transformer(ModelConfig(**SIZES, encoding="alibi"))
    assert frozen.count() == {"total": 30 * 16 + blocks, "encoding": 0}
    grouped = Transformer(ModelConfig(**SIZES, encoding="nope", kv_heads=1))
    assert grouped.count()["total"] == 30 * 16 + blocks - 2 * 2 * 16 * 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dim": 0}, "dim must be a positive integer, got 0"),
        ({"layers": 1.5}, "layers must be a positive integer, got 1.5"),
        ({"heads": True}, "heads must be a positive integer, got True"),
        ({"outputs": 0}, "outputs must be a positive integer"),
        ({"heads": 3}, "dim 16 must be an even multiple of the 3 heads"),
        ({"heads": 16}, "dim 16 must be an even multiple of the 16 heads"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads 3 must divide the 4 heads"),
    ],
)
def test_wrong_sizes_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**SIZES, **given})


def test_wrong_input_is_refused():
    with pytest.raises(TypeError, match="depth"):
        ModelConfig(**SIZES, depth=2)
    with pytest.raises(ValueError, match="unknown encoding 'rope'; choose from nope"):
        build(encoding="rope")
    with pytest.raises(ValueError, match="agf has no option base; choose from start"):
        build(encoding_options={"base": 10})
    with pytest.raises(ValueError, match=r"int64 of shape \(batch, length\), got torch.int64 \(12,\)"):
        build()(text()[0])
    with pytest.raises(ValueError, match=r"got torch.float32 \(2, 12\)"):
        build()(text().float())
    with pytest.raises(ValueError, match="cache needs a causal model"):
        build(causal=False)(text(), cache=Cache())
    with pytest.raises(ValueError, match=r"key_mask must be bool of shape \(2, 12\)"):
        build()(text(), key_mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\(2, 12, 8\) for mlp of layer 0, not \(2, 12, 16\)"):
        build()(text(), tap=Watch(mlp=lambda t: t[..., :8]))
