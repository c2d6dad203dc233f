"""Filtering and aggregation: Jacobians against torch's, splits whose answer is known, the sub-layers of real nets."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian as torchs
from torch.nn import functional as F

from agf_core.analysis import jacobian, mixing_checks
from agf_core.analysis.jacobian import Bends, split
from agf_core.analysis.sequence_nets import KINDS, SequenceNet, causal, trained
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.training import TrainConfig

SYMBOLS, LENGTH, DIM = 11, 7, 8


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def transformer(**options):
    sizes = {"vocab_size": SYMBOLS, "dim": DIM, "layers": 2, "heads": 2, "context": LENGTH}
    return Transformer(ModelConfig(**{**sizes, **options})).eval()


def tokens(count=12):
    return torch.randint(SYMBOLS, (count, LENGTH), generator=torch.Generator().manual_seed(3))


# Jacobians


@pytest.mark.parametrize("name", ["attention", "mlp", "gru", "tcn"])
def test_jacobians_are_torchs(name):
    model, nets = transformer(), {kind: SequenceNet(kind, SYMBOLS, DIM, 1) for kind in KINDS}
    subs = {"attention": jacobian.attention_of(model.blocks[0], model), "mlp": jacobian.mlp_of(model.blocks[1]),
            "gru": jacobian.gru_of(nets["gru"].layers[0]),
            "tcn": jacobian.convolution_of(nets["tcn"].layers[0])}  # fmt: skip
    x = torch.randn(3, LENGTH, DIM)
    found = jacobian.jacobian(subs[name], x, Bends())
    for s in range(3):
        theirs = torchs(lambda one: subs[name](one[None], Bends())[0], x[s])
        torch.testing.assert_close(found[s], theirs, rtol=1e-9, atol=1e-12)


def test_the_steps_of_a_recurrent_layer_are_torchs():
    net, x = SequenceNet("gru", SYMBOLS, DIM, 1), torch.randn(3, LENGTH, DIM)
    theirs = net.layers[0](x)[0][:, -1]
    torch.testing.assert_close(jacobian.gru_of(net.layers[0])(x, Bends()), theirs)
    x = x.requires_grad_()
    ours, other = (torch.autograd.grad(f(x).sum(), x)[0] for f in (
        lambda x: jacobian.gru_of(net.layers[0])(x, Bends()), lambda x: net.layers[0](x)[0][:, -1]))  # fmt: skip
    torch.testing.assert_close(ours, other)


def test_sub_layers_are_the_models_own():
    model, ids, seen = transformer(), tokens(), {}
    model(ids, tap=lambda layer, name, t: seen.update({(layer, name): t}))
    for i, block in enumerate(model.blocks):
        x = seen[i - 1, "residual"] if i else seen[-1, "embed"]
        torch.testing.assert_close(jacobian.attention_of(block, model)(x, Bends()), seen[i, "mixed"][:, -1])
        torch.testing.assert_close(jacobian.mlp_of(block)(x + seen[i, "mixed"], Bends()), seen[i, "mlp"][:, -1])
    for kind in KINDS:
        net = SequenceNet(kind, SYMBOLS, DIM, 2)
        x, after = net.streams(ids)[:2]
        make = jacobian.gru_of if kind == "gru" else jacobian.convolution_of
        add = 0 if kind == "gru" else x[:, -1]
        torch.testing.assert_close(make(net.layers[0])(x, Bends()) + add, after[:, -1])


def test_a_convolution_sees_no_future():
    net = SequenceNet("tcn", SYMBOLS, DIM, 1)
    x = torch.randn(1, LENGTH, DIM, requires_grad=True)
    gradient = torch.autograd.grad(causal(net.layers[0], x)[0, 3].sum(), x)[0][0]
    assert not gradient[4:].any() and gradient[:4].any()


# The split


def test_known_splits():
    table = mixing_checks.known_splits().set_index("sub")
    for name in ("linear convolution", "attention, weights frozen"):
        assert table.loc[name, "filtering"] == pytest.approx(1, abs=1e-12)
    for row in table.itertuples():
        share = row.filtering + row.aggregation if row.expects == "two" else getattr(row, row.expects)
        assert share == pytest.approx(1, abs=0.02)  # means over finitely many texts
        assert row.filtering + row.aggregation + row.unassigned + row.cross == pytest.approx(1)
    assert table.loc["attention by data, no norm", "unassigned"] == pytest.approx(0, abs=1e-12)
    assert table.loc["attention by data, no norm", "aggregation"] > 0.1


def test_shares_are_the_definition():
    """By explicit means over inputs, with the biased estimator's correction written out."""
    w, x = torch.randn(DIM, DIM), torch.randn(50, LENGTH, DIM)

    def sub(x, bends):
        weights = torch.softmax(x[:, -1:] @ x.mT, -1)
        return bends("gelu", F.gelu, (weights @ x)[:, 0] @ w)

    bends = Bends("noting")
    sub(x, bends)
    u = ((torch.softmax(x[:, -1:] @ x.mT, -1) @ x)[:, 0] @ w).requires_grad_()
    torch.testing.assert_close(bends.means["gelu"], torch.autograd.grad(F.gelu(u).sum(), u)[0].mean(0))
    whole = jacobian.jacobian(sub, x, Bends())
    held = jacobian.jacobian(sub, x, Bends("held", bends.means))
    a = held - held.mean(0)
    rest = whole - whole.mean(0) - a
    found, norm = split(sub, x), float((whole**2).sum() / 50)
    assert found.norm == pytest.approx(norm)
    assert found.aggregation == pytest.approx(float((a**2).sum()) / 49 / norm)
    assert found.unassigned == pytest.approx(float((rest**2).sum()) / 49 / norm)
    varying = float(((whole - whole.mean(0)) ** 2).sum()) / 49
    assert found.filtering == pytest.approx(1 - varying / norm)
    own = whole + torch.nn.functional.pad(torch.eye(DIM)[:, None], (0, 0, LENGTH - 1, 0))
    assert found.with_residual == pytest.approx(float((own**2).sum()) / 50)


def test_a_norms_mean_derivative_is_a_matrix():
    norm, x = torch.nn.LayerNorm(DIM, bias=False), torch.randn(30, LENGTH, DIM)
    bends = Bends("noting")
    bends("norm", norm, x, elementwise=False)
    rows = torch.stack([torchs(norm, row) for row in x.flatten(0, 1)])
    torch.testing.assert_close(bends.means["norm"], rows.mean(0))
    bends.mode = "held"
    y = x.clone().requires_grad_()
    torch.testing.assert_close(bends("norm", norm, y, elementwise=False), norm(x))
    torch.testing.assert_close(torch.autograd.grad(bends("norm", norm, y, elementwise=False)[0, 0, 2], y)[0][0, 0],
                               rows.mean(0)[2])  # fmt: skip


def test_a_field_alone_only_filters_but_for_its_norm():
    """Association off and no norm: attention by a field is one linear map."""
    model = transformer(association=False)
    for block in model.blocks:
        block.norm1 = torch.nn.Identity()
    found = jacobian.of_transformer(model, tokens())
    assert found["attention 1"].filtering == pytest.approx(1, abs=1e-9)
    full = transformer()
    assert jacobian.of_transformer(full, tokens())["attention 1"].aggregation > 0


def test_a_mean_over_calls_is_a_mean():
    bends = Bends("noting")
    for scale in (1.0, 2.0, 6.0):
        bends("line", lambda x, s=scale: s * x, torch.randn(4, 3))
    torch.testing.assert_close(bends.means["line"], torch.full((3,), 3.0))


# What a chapter measures


def test_measure_is_json_ready_and_the_same_again():
    torch.set_default_dtype(torch.float32)
    data = DataConfig(corpus="generated:power:tokens=4000:documents=40")
    model = {"dim": 8, "layers": 2, "heads": 2, "context": 16}
    config = RunConfig(model, data, TrainConfig(16 * 2048, 4, seed=1), heldout=4096)
    net = Transformer(config.model_config(load_data(data))).eval()
    one, two = jacobian.measure(net, config), jacobian.measure(net, config)
    assert one == two and set(one) == set(jacobian.NETS)
    assert list(one["transformer"]) == ["attention 1", "MLP 1", "attention 2", "MLP 2"]
    for subs in one.values():
        for parts in subs.values():
            assert len(parts) == 6 and np.isfinite(parts).all() and sum(parts[:4]) == pytest.approx(1, abs=1e-3)
    for kind, sub in (("gru", "recurrence 1"), ("tcn", "convolution 1")):
        assert one[kind][sub][2] > 1e-4  # pointwise functions bend
    assert one["tcn"]["convolution 1"][1] == pytest.approx(0, abs=1e-6)  # and a convolution aggregates nothing


def test_nets_learn():
    torch.set_default_dtype(torch.float32)
    data = load_data(DataConfig(corpus="generated:power:tokens=4000:documents=40"))
    inputs, targets = (torch.from_numpy(a) for a in data.heldout("valid", 32, 1024))
    for kind in KINDS:
        with torch.enable_grad():
            nets = [trained(kind, data, 16, 1, 32, n, 0) for n in (256, 12_000)]
        with torch.no_grad():
            early, late = (float(F.cross_entropy(net(inputs).flatten(0, 1), targets.flatten())) for net in nets)
        assert late < early - 0.5
    with pytest.raises(ValueError, match="unknown kind 'lstm'"):
        SequenceNet("lstm", 4, 4, 1)
