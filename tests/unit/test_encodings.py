"""Encodings by themselves: the registry, options and errors, matched starts, and what holds for any size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core.attention import PLACEMENTS, attend
from agf_core.encodings import EMBEDDING_STD, ENCODINGS, LAWS, STARTS, build, options
from agf_core.encodings.matched import nearest_exponential, nearest_stretched, nearest_table, unit_target
from agf_core.fields import MlpField, PowerField, TableField, alibi_slopes

SIZE = {"layers": 3, "heads": 4, "dim": 32, "context": 40}
DECOUPLED = [name for name in ENCODINGS if "share" in options(name)]


def distance(context=40):
    return torch.arange(context)


def agf(heads=4, context=40):
    """AGF's log g, (H, context)."""
    return -torch.linspace(0.25, 2, heads).unsqueeze(-1) * torch.log1p(distance(context))


def count(encoding):
    return sum(p.numel() for p in encoding.parameters())


def test_the_registry_is_the_contract():
    names = "nope sinusoidal learned untied rotary alibi t5 fire kerple_log kerple_power agf agf_score agf_weight"
    assert list(ENCODINGS) == names.split()
    families = {name: entry.family for name, entry in ENCODINGS.items()}
    assert [name for name in families if families[name] == "entangled"] == ["sinusoidal", "learned", "rotary"]
    assert [name for name in families if families[name] == "none"] == ["nope"]
    assert [name for name, entry in ENCODINGS.items() if entry.limit] == ["learned"]
    assert all(entry.description and entry.source and entry.extra for entry in ENCODINGS.values())


@pytest.mark.parametrize("name", ENCODINGS)
def test_one_interface(name):
    encoding = build(name, **SIZE)
    assert encoding.family == ENCODINGS[name].family
    assert encoding.placement == {"agf_score": "score", "agf_weight": "weight"}.get(name, "logit")
    x, positions = torch.randn(2, 10, 32), distance(10)
    assert encoding.embed(x, offset=7).shape == x.shape
    assert torch.equal(encoding.embed(x), x) == (name not in ("sinusoidal", "learned"))
    q, k = torch.randn(2, 4, 10, 8), torch.randn(2, 2, 10, 8)
    turned = encoding.rotate(q, k, positions, positions)
    if name == "untied":
        assert [t.shape for t in turned] == [(2, 4, 10, 16), (2, 4, 10, 16)]
    else:
        assert [t.shape for t in turned] == [q.shape, k.shape]
        assert torch.equal(turned[0], q) == (name != "rotary")
    for layer in range(3):
        field = encoding.field(layer)
        assert (field is None) == (name not in DECOUPLED)
        if field is not None:
            assert field.log_weight(distance()).shape == (4, 40)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nope", 0),
        ("sinusoidal", 0),
        ("rotary", 0),
        ("learned", 40 * 32),
        ("untied", 40 * 32 + 2 * 32 + 2 * 32 * 32),
        ("alibi", 0),
        ("t5", 4 * 32),
        ("fire", 3 * (4 * 33 + 65)),
        ("kerple_log", 3 * 2 * 4),
        ("kerple_power", 3 * 2 * 4),
        ("agf", 3 * 4),
        ("agf_score", 3 * 4),
        ("agf_weight", 3 * 4),
    ],
)
def test_parameters_are_the_encodings_own(name, expected):
    assert count(build(name, **SIZE)) == expected


def test_layers_have_fields_of_their_own_unless_shared():
    for name in DECOUPLED:
        shared = name in ("t5", "alibi")
        encoding = build(name, **SIZE)
        assert (encoding.field(0) is encoding.field(2)) == shared
        other = build(name, share=not shared, **SIZE)
        assert (other.field(0) is other.field(2)) == (not shared)
    with pytest.raises(IndexError):
        build("agf", **SIZE).field(3)
    assert build("alibi", trainable=True, **SIZE).field(0) is not build("alibi", trainable=True, **SIZE).field(1)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("law", LAWS)
def test_every_cell_of_the_plane(law, placement):
    encoding = build("field", law=law, placement=placement, start="matched", **SIZE)
    q, k, v = torch.randn(3, 2, 4, 12, 8).unbind()
    attend(q, k, v, field=encoding.field(1), placement=encoding.placement).sum().backward()
    gradients = [p.grad for p in encoding.field(1).parameters()]
    assert gradients and all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert all(p.grad is None for p in encoding.field(0).parameters())


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("law", LAWS)
def test_frozen_means_no_gradient(law, start):
    for directional in (False, True):
        frozen = build("field", law=law, start=start, trainable=False, directional=directional, **SIZE)
        assert not any(p.requires_grad for p in frozen.parameters())
        assert not frozen.field(0).log_weight(distance()).requires_grad
    assert all(p.requires_grad for p in build("field", law=law, start=start, **SIZE).parameters())


def test_kerple_log_is_agf_with_its_scale_trained():
    agf_field, kerple = build("agf", **SIZE).field(0), build("kerple_log", start="matched", **SIZE).field(0)
    assert isinstance(agf_field, PowerField) and isinstance(kerple, PowerField)
    torch.testing.assert_close(agf_field.log_weight(distance()), kerple.log_weight(distance()))
    assert [name for name, _ in kerple.named_parameters()] == ["_exponent.raw", "_scale.raw"]
    assert [name for name, _ in agf_field.named_parameters()] == ["_exponent.raw"]


@pytest.mark.parametrize("name", ["agf", "agf_score", "agf_weight", "kerple_log"])
def test_exact_matches(name):
    field = build(name, start="matched", **SIZE).field(2)
    torch.testing.assert_close(field.log_weight(distance()), agf())


@given(
    context=st.integers(1, 700),
    heads=st.integers(1, 9),
    width=st.integers(1, 40),
    seed=st.integers(0, 1000),
    directional=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_mlp_and_distances_match_exactly(context, heads, width, seed, directional):
    torch.manual_seed(seed)
    size = {"layers": 1, "heads": heads, "dim": heads, "context": context}
    target, r = agf(heads, context), distance(context)
    for own in ({"law": "mlp", "width": width}, {"law": "distances"}):
        field = build("field", start="matched", directional=directional, **own, **size).field(0)
        torch.testing.assert_close(field.log_weight(r), target, rtol=1e-4, atol=1e-4)
        if directional:  # the heads in reverse order
            future = field.log_weight(-r)
            torch.testing.assert_close(future[:, 1:], target.flip(0)[:, 1:], rtol=1e-4, atol=1e-4)


def weighted_error(log_g, context):
    _r, target, weight = unit_target(context)
    return float((weight * (log_g + target) ** 2).sum())


@given(context=st.integers(3, 3000), nudge=st.floats(-0.2, 0.2).filter(lambda x: abs(x) > 1e-3))
@settings(max_examples=40, deadline=None)
def test_no_neighbour_is_nearer(context, nudge):
    """A changed rate, shape or table entry only adds to the weighted error."""
    r, target, weight = unit_target(context)
    m = nearest_exponential(context)
    assert weighted_error(-m * (1 + nudge) * r, context) > weighted_error(-m * r, context)
    a, p = nearest_stretched(context)
    best = weighted_error(-a * r**p, context)
    assert best < weighted_error(-m * r, context) + 1e-12  # the exponential is one of its family
    assert weighted_error(-a * (1 + nudge) * r**p, context) > best
    shape = min(1.99, max(0.01, p * (1 + nudge)))
    basis = r**shape
    rate = (weight * basis * target).sum() / (weight * basis**2).sum()
    assert weighted_error(-rate * basis, context) > best
    table = TableField(1)
    unit = nearest_table(table, context)
    bucket = table.bucket(r)
    moved = unit.clone()
    moved[bucket[context // 2]] += nudge
    assert weighted_error(-moved[bucket], context) > weighted_error(-unit[bucket], context)


@pytest.mark.parametrize("context", [1, 2, 17, 64, 128, 500])
@pytest.mark.parametrize("directional", [False, True])
def test_every_bucket_gets_a_sensible_entry(context, directional):
    """Buckets beyond the context take the mean of their own distances, and none is left at 0."""
    encoding = build("t5", layers=1, heads=2, dim=4, context=context, start="matched", directional=directional)
    r = torch.arange(5000)
    log_g = encoding.field(0).log_weight(r)
    assert (log_g[:, 1:] < 0).all() and (log_g.diff() <= 1e-6).all()
    near = r[:80]  # before the last bucket, which averages over all that is farther
    torch.testing.assert_close(log_g[1, :80], -2 * torch.log1p(near), rtol=0.1, atol=0.3)


def test_a_table_with_unread_buckets_stays_finite():
    encoding = build("t5", size=64, max_distance=40, start="matched", **SIZE)
    assert torch.isfinite(encoding.field(0).table).all()


@pytest.mark.parametrize("law", LAWS)
def test_flat_and_steep(law):
    r = distance()
    flat = build("field", law=law, start="flat", **SIZE).field(0).log_weight(r)
    assert flat.abs().max() < 0.06
    if law in ("table", "distances", "mlp"):
        assert not flat.any()
    matched, steep = (build("field", law=law, start=s, **SIZE).field(0).log_weight(r) for s in ("matched", "steep"))
    torch.testing.assert_close(steep, 2 * matched, rtol=1e-4, atol=1e-4)


def test_published_starts():
    assert torch.equal(build("alibi", **SIZE).field(0).rate, alibi_slopes(4))
    assert not build("t5", **SIZE).field(0).table.any()
    assert not build("field", law="distances", **SIZE).field(0).table.any()
    torch.testing.assert_close(build("agf", **SIZE).field(1).exponent, torch.linspace(0.25, 2, 4))
    fire = build("fire", **SIZE).field(0)
    assert isinstance(fire, MlpField)
    torch.testing.assert_close(fire.rate, torch.tensor(0.1))
    torch.testing.assert_close(fire.threshold, torch.tensor(40.0))
    weight = build("learned", layers=1, heads=1, dim=64, context=500).table.weight
    assert weight.std().item() == pytest.approx(EMBEDDING_STD, rel=0.03)


@pytest.mark.parametrize("name", ["agf", "alibi"])
def test_two_sides_can_be_told_apart(name):
    field = build(name, directional=True, **SIZE).field(0)
    left, right = field.log_weight(distance()), field.log_weight(-distance())
    torch.testing.assert_close(right[:, 1:], left.flip(0)[:, 1:])
    assert not torch.allclose(left, right)


def test_laws_take_planted_values():
    field = build("field", law="power", exponent=1.5, scale=3.0, trainable=False, **SIZE).field(0)
    torch.testing.assert_close(field.log_weight(distance()), (-1.5 * torch.log1p(distance() / 3)).expand(4, -1))
    stretched = build("kerple_power", rate=0.5, shape=1.5, **SIZE).field(2)
    torch.testing.assert_close(stretched.log_weight(distance()), (-0.5 * distance() ** 1.5).expand(4, -1))
    assert build("field", law="table", size=8, max_distance=20, **SIZE).field(0).table.shape == (4, 8)
    assert build("field", law="mlp", width=5, **SIZE).field(0).mlps[0][0].weight.shape == (5, 1)
    given_rate = build("alibi", rate=torch.tensor([0.1, 0.2, 0.3, 0.4]), start="matched", **SIZE).field(0).rate
    torch.testing.assert_close(given_rate, torch.tensor([0.1, 0.2, 0.3, 0.4]))


@pytest.mark.parametrize("name", ["fire", "kerple_log", "kerple_power", "learned", "untied"])
def test_random_starts_follow_the_seed(name):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in build(name, **SIZE).parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@given(
    length=st.integers(1, 20),
    heads=st.integers(1, 3),
    half=st.integers(1, 8),
    shift=st.integers(-500, 500),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_rotary_keeps_lengths_and_knows_only_the_distance(length, heads, half, shift, seed):
    torch.manual_seed(seed)
    encoding = build("rotary", layers=1, heads=heads, dim=2 * half * heads, context=20)
    q, k = torch.randn(2, 1, heads, length, 2 * half, dtype=torch.float64).unbind()
    positions = torch.randint(0, 500, (length,))
    turned = encoding.rotate(q, k, positions, positions)
    for before, after in zip((q, k), turned, strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
    shifted = encoding.rotate(q, k, positions + shift, positions + shift)
    scores, moved = (a @ b.transpose(-1, -2) for a, b in (turned, shifted))
    torch.testing.assert_close(scores, moved, rtol=1e-8, atol=1e-8)


@given(offset=st.integers(0, 25), length=st.integers(0, 15), dim=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_an_offset_is_a_slice(offset, length, dim):
    x = torch.randn(2, 40, dim)
    for name, own in [("learned", {}), ("sinusoidal", {}), ("sinusoidal", {"start": "matched"}), ("nope", {})]:
        encoding = build(name, layers=1, heads=1, dim=dim, context=40, **own)
        part = slice(offset, offset + length)
        torch.testing.assert_close(encoding.embed(x[:, part], offset), encoding.embed(x)[:, part])


def test_rotate_and_untied_in_decoding():
    """The last query alone, with a cache of keys, gets what it got in the whole sequence."""
    for name in ("rotary", "untied"):
        encoding = build(name, **SIZE)
        q, k = torch.randn(2, 2, 4, 12, 8).unbind()
        whole_q, whole_k = encoding.rotate(q, k, distance(12), distance(12))
        last_q, all_k = encoding.rotate(q[:, :, -1:], k, torch.tensor([11]), distance(12))
        torch.testing.assert_close(last_q, whole_q[:, :, -1:])
        torch.testing.assert_close(all_k, whole_k)


def test_matched_waves_are_as_large_as_a_learned_table():
    zeros = torch.zeros(1, 300, 64)
    waves = build("sinusoidal", start="matched", layers=1, heads=1, dim=64, context=300).embed(zeros)
    assert float(waves.square().mean().sqrt()) == pytest.approx(EMBEDDING_STD, rel=1e-5)
    published = build("sinusoidal", layers=1, heads=1, dim=64, context=300)
    torch.testing.assert_close(waves, published.embed(zeros) * EMBEDDING_STD * math.sqrt(2))
    torch.testing.assert_close(published.embed(zeros + 1) - published.embed(zeros), torch.full_like(zeros, 8.0))


def test_beyond_the_training_length():
    x, far = torch.zeros(1, 8, 32), torch.arange(36, 44)
    with pytest.raises(ValueError, match="learned positions end at 40, the training length; the input needs 44"):
        build("learned", **SIZE).embed(x, offset=36)
    untied = build("untied", **SIZE)
    q = torch.randn(1, 4, 8, 8)
    position_part = untied.rotate(q, q, far, far)[0][..., 8:]
    torch.testing.assert_close(position_part[:, :, 3:], position_part[:, :, 3:4].expand(-1, -1, 5, -1))
    for name, entry in ENCODINGS.items():
        if not entry.limit:
            encoding = build(name, **SIZE)
            encoding.embed(x, offset=4000)
            q, _k = encoding.rotate(q[..., :8], q[..., :8], far, far)
            keys = torch.randn(1, 4, 50, q.shape[-1])
            out = attend(q, keys, keys, field=encoding.field(0), placement=encoding.placement)
            assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ENCODINGS)
def test_dtypes_are_kept(name, dtype):
    encoding = build(name, **SIZE).to(dtype)
    assert encoding.embed(torch.zeros(1, 5, 32, dtype=dtype)).dtype == dtype
    q = torch.randn(1, 4, 5, 8, dtype=dtype)
    assert {t.dtype for t in encoding.rotate(q, q, distance(5), distance(5))} == {dtype}


@pytest.mark.parametrize("name", ENCODINGS)
def test_compiles_in_one_graph(name):
    encoding = build(name, **SIZE)

    def step(x, q, k, positions):
        field = encoding.field(1)
        table = x if field is None else field.log_weight(positions)
        return encoding.embed(x), *encoding.rotate(q, k, positions, positions), table

    inputs = torch.randn(1, 6, 32), torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8), torch.arange(6)
    torch.compiler.reset()  # or `step` of one test counts as a recompilation of another's
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for ours, want in zip(compiled(*inputs), step(*inputs), strict=True):
        torch.testing.assert_close(ours, want)


@pytest.mark.parametrize("name", ENCODINGS)
def test_state_round_trip(name):
    source, copy = build(name, **SIZE), build(name, **SIZE)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter += 0.1
    copy.load_state_dict(source.state_dict())
    for ours, want in zip(copy.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, want)


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"name": "rope"}, "unknown encoding 'rope'; choose from nope, sinusoidal, .*agf_weight, field"),
        ({"name": "field"}, "unknown law ''; choose from power, shifted_power, .*mlp"),
        ({"name": "field", "law": "cubic", "exponent": 1.0}, "unknown law 'cubic'; choose from power"),
        (
            {"name": "field", "law": "power", "placement": "sum"},
            "unknown placement 'sum'; choose from logit, score, weight",
        ),
        ({"name": "agf", "start": "warm"}, "unknown start 'warm'; choose from published, matched, flat, steep"),
        ({"name": "sinusoidal", "start": "flat"}, "unknown start 'flat'; choose from published, matched"),
        ({"name": "agf", "rate": 1.0}, "agf has no option rate; choose from start, .*share, exponent, scale"),
        ({"name": "agf", "law": "mlp"}, "agf has no option law"),
        ({"name": "agf", "placement": "score"}, "agf has no option placement"),
        (
            {"name": "field", "law": "mlp", "heat": 1, "exponent": 2},
            "field has no option heat, exponent; choose .*share, width",
        ),
        ({"name": "rotary", "start": "matched"}, "rotary has no option start; choose from base"),
        ({"name": "rotary", "base": 0.5}, "base must exceed 1, got 0.5"),
        ({"name": "rotary", "dim": 12}, "dim 12 / heads 4 = 3 is odd"),
        ({"name": "learned", "start": "matched"}, "learned has no option start; choose from none"),
        ({"name": "nope", "size": 3}, "nope has no option size; choose from none"),
        ({"name": "untied", "dim": 30}, "dim 30 is no multiple of heads 4"),
        ({"name": "agf", "context": 0}, "context must be a positive integer, got 0"),
        ({"name": "agf", "layers": 1.5}, "layers must be a positive integer, got 1.5"),
        ({"name": "agf", "exponent": -1.0}, "exponent must lie"),
        ({"name": "t5", "size": 1}, "cannot have size 1"),
        ({"name": "fire", "width": 0}, "width must be at least 1"),
    ],
)
def test_errors_list_the_choices(given_options, message):
    with pytest.raises(ValueError, match=message):
        build(**{**SIZE, **given_options})
