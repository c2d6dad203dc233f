"""The split on planted fields, masses and noise; against statsmodels' least squares with a dummy per query."""

import json

import numpy as np
import pytest
import statsmodels.api as sm
import torch

from agf_core.analysis.observe import Seen, observe
from agf_core.analysis.split import PARTS, Split, SplitResult
from agf_core.fitting import fit_curve
from agf_core.model import ModelConfig, Transformer

W, TYPES = 12, 6


def seen(logits, tokens, groups=None, keep=None, causal=True, layer=0):
    batch = len(tokens)
    masked = logits.masked_fill(~torch.ones(logits.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return Seen(
        layer=layer,
        logits=logits,
        association=logits,
        weights=(masked if causal else logits).softmax(-1),
        query=logits,
        key=logits,
        tokens=tokens,
        groups=torch.zeros(batch, dtype=torch.int64) if groups is None else groups,
        sequence=torch.arange(batch),
        keep=torch.ones_like(tokens, dtype=torch.bool) if keep is None else keep,
        causal=causal,
    )


def planted(rng, tokens, log_g, mass, noise, causal=True, heads=2):
    """effect(query) + log g(|r|) + mass(key type) + noise, (B, H, N, N)."""
    n = tokens.shape[1]
    r = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    y = log_g[r.clamp(max=len(log_g) - 1)] + mass[tokens][:, None, None]
    effect = torch.randn(len(tokens), heads, n, 1, generator=rng) * 3 - 20
    return (effect + y + noise * torch.randn(len(tokens), heads, n, n, generator=rng)).float()


@pytest.mark.parametrize("causal", [True, False])
def test_it_is_least_squares_with_a_dummy_per_query(causal):
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(TYPES + 2, (2, 34), generator=rng)
    keep = torch.ones_like(tokens, dtype=torch.bool)
    keep[1, 17 if causal else 33] = False
    y = planted(rng, tokens, -torch.arange(34.0).log1p(), torch.randn(9, generator=rng), 1.0)
    split = Split(4, torch.arange(TYPES), first=2)
    split.update(seen(y, tokens, keep=keep, causal=causal))
    found = split.result()

    rows = []
    for b in range(2):
        for i in range(34):
            behind = range(i + 1, i + 5) if not causal else ()
            window = [*range(i - 4, i), *behind]
            if min(window) >= 2 and max(window) < 34 and keep[b, [*window, i]].all():
                rows += [(b * 34 + i, i - j, min(int(tokens[b, j]), TYPES), float(y[b, 0, i, j])) for j in window]
    query, distance, kind, value = (np.array(c) for c in zip(*rows))
    assert found.queries == len(set(query))

    def fit(*factors):
        dummies = [np.eye(len(np.unique(f)))[np.unique(f, return_inverse=True)[1]] for f in (query, *factors)]
        columns = [dummies[0], *(d[:, 1:] for d in dummies[1:])]  # the first of each factor is the reference
        return sm.OLS(value, np.hstack(columns)).fit(), [d.shape[1] for d in columns]

    null, full, types, distances = (fit(*f)[0].ssr for f in ((), (distance, kind), (kind,), (distance,)))
    shares = found.shares.query("layer == 0 and head == 0").set_index("part").share
    assert shares["distance"] == pytest.approx((types - full) / null, abs=1e-5)
    assert shares["type"] == pytest.approx((distances - full) / null, abs=1e-5)
    assert shares["rest"] == pytest.approx(full / null, abs=1e-5)
    assert shares.sum() == pytest.approx(1)
    assert found.distance_alone[0, 0] == pytest.approx(1 - distances / null, abs=1e-5)

    model, (queries, k, _) = fit(distance, kind)
    field, mass = (np.append(0, p) for p in np.split(model.params[queries:], [k]))
    field = field - field.mean()
    expected = field if causal else (field[4:] + field[:4][::-1]) / 2
    np.testing.assert_allclose(found.profile[0, 0], expected, atol=1e-4)
    mass = mass - np.average(mass, weights=np.bincount(kind))
    np.testing.assert_allclose(found.masses[0, 0], mass, atol=1e-4)
    if not causal:
        np.testing.assert_allclose(found.profile_sides[:, 0, 0], [field[4:], field[:4][::-1]], atol=1e-4)
    assert np.isnan(found.profile_low).all(), "one group tells nothing about groups"


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("law", ["power", "exponential"])
def test_a_planted_field_and_its_masses_come_back(law, causal):
    rng = torch.Generator().manual_seed(1)
    r = torch.arange(65.0)
    log_g = -1.2 * r.clamp(min=1).log() if law == "power" else -0.15 * r
    mass = torch.linspace(-1, 1, TYPES)[torch.randperm(TYPES, generator=rng)]
    split = Split(24, TYPES)
    tokens = torch.randint(TYPES, (48, 64), generator=rng)
    split.begin(tokens, torch.ones_like(tokens, dtype=torch.bool))
    for group in range(8):
        part = tokens[group * 6 : group * 6 + 6]
        y = planted(rng, part, log_g, mass, 1.0)
        split.update(seen(y, part, torch.full((6,), group), causal=causal))
    found = split.result()
    distance = np.arange(1, 25)
    laws = {law: fit_curve(distance, np.exp(found.profile[0, 0]), law) for law in ("power", "exponential")}
    low, high = laws[law].ci["exponent" if law == "power" else "rate"]
    assert low < (1.2 if law == "power" else 0.15) < high
    assert min(laws, key=lambda name: laws[name].aicc) == law
    truth = log_g[1:25].numpy() - log_g[1:25].numpy().mean()
    covered = (found.profile_low <= truth) & (truth <= found.profile_high)
    assert covered.mean() > 0.8
    mean = (mass[found.types] * torch.bincount(tokens.flatten())[found.types]).sum() / tokens.numel()
    np.testing.assert_allclose(found.masses[0, 0, :-1], mass[found.types] - mean, atol=0.06)
    assert found.eligible.all() and found.groups == 8
    assert set(found.shares.part) == set(PARTS)


def test_intervals_cover():
    """200 points of 20 worlds whose documents differ in their field: 95 % nominal."""
    rng, covered = torch.Generator().manual_seed(2), []
    truth = -torch.arange(11.0).log1p()
    for _ in range(20):
        split = Split(10, torch.arange(TYPES), first=0)
        for group in range(10):
            tokens = torch.randint(TYPES, (2, 30), generator=rng)
            own = truth + 0.2 * torch.randn(11, generator=rng)
            y = planted(rng, tokens, own, torch.zeros(TYPES), 0.5, heads=1)
            split.update(seen(y, tokens, torch.full((2,), group)))
        found = split.result(resamples=100)
        centred = (truth[1:] - truth[1:].mean()).numpy()
        covered.append((found.profile_low[0, 0] <= centred) & (centred <= found.profile_high[0, 0]))
    assert 0.9 <= np.mean(covered) <= 0.99


class Planted(Transformer):
    """Scores replaced by masses of the keys' types and noise, before anybody sees them."""

    def forward(self, tokens, *, key_mask=None, cache=None, tap=None):
        rng = torch.Generator().manual_seed(int(tokens.sum()))

        def both(layer, name, tensor):
            if name == "scores":
                tensor = self.mass[tokens][:, None, None] + torch.randn(tensor.shape, generator=rng)
            other = tap(layer, name, tensor)
            return tensor if other is None else other

        return super().forward(tokens, key_mask=key_mask, cache=cache, tap=both)


def test_a_models_own_field_comes_back_beside_planted_masses():
    torch.manual_seed(0)
    model = Planted(ModelConfig(vocab_size=TYPES, dim=16, layers=2, heads=4, context=64, encoding="agf"))
    model.mass = torch.linspace(-1, 1, TYPES)
    tokens = torch.randint(TYPES, (64, 64))
    split = Split(24, torch.arange(TYPES))
    observe(model, tokens, [split], groups=torch.arange(64) // 8)
    found, r = split.result(), torch.arange(1, 25)
    for layer in range(2):
        truth = model.encoding.field(layer).log_weight(r).detach().numpy()
        truth -= truth.mean(-1, keepdims=True)
        np.testing.assert_allclose(found.profile[layer], truth, atol=0.06)
        covered = (found.profile_low[layer] <= truth) & (truth <= found.profile_high[layer])
        assert covered.mean() > 0.85
    spread = found.masses[..., :-1] - found.masses[..., :1]
    np.testing.assert_allclose(spread, np.broadcast_to(model.mass - model.mass[0], spread.shape), atol=0.05)
    assert found.profile_sides is None


def test_it_survives_the_store():
    rng = torch.Generator().manual_seed(3)
    split = Split(4, torch.arange(TYPES))
    for group, layer in ((0, 0), (0, 1), (2, 0), (2, 1)):  # group 1 is empty
        tokens = torch.randint(TYPES, (2, 30), generator=rng)
        y = planted(rng, tokens, torch.zeros(30), torch.zeros(TYPES), 1.0)
        split.update(seen(y, tokens, torch.full((2,), group), causal=False, layer=layer))
    found = split.result(resamples=20)
    assert found.profile.shape == (2, 2, 4) and found.profile_sides.shape == (2, 2, 2, 4)
    assert found.masses.shape == (2, 2, TYPES + 1) and found.shares.shape == (16, 6)
    again = SplitResult.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    np.testing.assert_allclose(again.profile, found.profile, rtol=1e-4)
    np.testing.assert_allclose(again.shares.low, found.shares.low, rtol=1e-4)
    assert again.eligible.dtype == bool and list(again.shares.part) == list(found.shares.part)
    assert again.to_dict() == found.to_dict()
    with pytest.raises(ValueError, match="expected the keys"):
        SplitResult.from_dict({"profile": []})


def test_one_group_is_stored_without_an_interval():
    tokens = torch.zeros(1, 20, dtype=torch.int64)
    split = Split(4, torch.arange(1))
    split.update(seen(torch.zeros(1, 1, 20, 20), tokens))
    found = split.result()
    assert not found.eligible.any() and found.shares.query("part == 'rest'").share.eq(1).all()
    again = SplitResult.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert np.isnan(again.profile_low).all() and again.profile_sides is None


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="at least one type"):
        Split(4, 0)
    with pytest.raises(ValueError, match="nothing was observed"):
        Split(4, torch.arange(2)).result()
    keep = torch.zeros(1, 20, dtype=torch.bool)
    split = Split(4, torch.arange(2))
    split.update(seen(torch.zeros(1, 1, 20, 20), torch.zeros(1, 20, dtype=torch.int64), keep=keep))
    with pytest.raises(ValueError, match="no query has its whole window"):
        split.result()
