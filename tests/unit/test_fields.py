"""Fields by themselves: shapes, precision, domains, two sides, errors that name the choices, and the picture."""

import copy

import pytest
import torch

from agf_core.fields import (
    ExponentialField,
    Field,
    MlpField,
    PowerField,
    StretchedExponentialField,
    TableField,
    alibi_slopes,
)

LAWS = [PowerField, ExponentialField, StretchedExponentialField, TableField, MlpField]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("directional", [False, True])
def test_shape_and_precision(law, directional):
    field = law(3, directional=directional)
    distance = torch.arange(-6, 6).view(3, 4)
    assert field.log_weight(distance).shape == (3, 3, 4)
    assert field.log_weight(distance).dtype == torch.float32
    assert field.log_weight(distance.double()).dtype == torch.float64
    assert copy.deepcopy(field).double().log_weight(distance).dtype == torch.float64
    assert field.bfloat16().log_weight(distance).dtype == torch.float32


@pytest.mark.parametrize("law", LAWS)
def test_symmetric_or_directional(law):
    distance = torch.arange(1, 50)
    symmetric = law(4)
    assert torch.equal(symmetric.log_weight(distance), symmetric.log_weight(-distance))
    directional = law(4, directional=True)
    with torch.no_grad():
        for name, value in directional.named_parameters():
            if not name.startswith("mlps") and value.dim() > 0:
                value[1] += 1  # the future's set
            elif name.startswith("mlps.1"):
                value += 1
    if any(value.requires_grad for value in directional.parameters()):
        assert not torch.allclose(directional.log_weight(distance), directional.log_weight(-distance))
        at_zero = directional.log_weight(torch.tensor([0]))  # distance 0 is the past's
        torch.testing.assert_close(at_zero, directional.log_weight(torch.tensor([1e-6]), torch.tensor([0])))


def test_directional_parameters_are_past_then_future():
    field = PowerField(2, exponent=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), trainable=False, directional=True)
    expected = torch.tensor([[-3.0, -1.0], [-4.0, -2.0]]) * torch.log(torch.tensor(2.0))
    torch.testing.assert_close(field.log_weight(torch.tensor([-1, 1])), expected)


def test_power_defaults_and_domain():
    field = PowerField(8)
    torch.testing.assert_close(field.exponent, torch.linspace(0.25, 2, 8))
    torch.testing.assert_close(field.scale, torch.ones(8))
    assert [p.requires_grad for p in field.parameters()] == [True]
    assert len(list(PowerField(8, trainable_scale=True).parameters())) == 2
    assert not list(PowerField(8, trainable=False).parameters())
    optimiser = torch.optim.SGD(field.parameters(), lr=100.0)
    field.exponent.sum().backward()
    optimiser.step()
    assert (field.exponent > 0).all() and (field.exponent < 1e-3).all()  # no step leaves the domain


def test_fixed_values_are_kept_exactly():
    rate = torch.tensor([0.1, 0.7])
    assert torch.equal(ExponentialField(2, rate=rate).rate, rate)
    assert torch.equal(ExponentialField(8).rate, alibi_slopes(8))
    torch.testing.assert_close(ExponentialField(2, rate=rate, trainable=True).rate, rate)


def test_stretched_starts_as_alibi_and_bounds_its_shape():
    distance = torch.arange(30)
    torch.testing.assert_close(
        StretchedExponentialField(8).log_weight(distance), ExponentialField(8).log_weight(distance)
    )
    field = StretchedExponentialField(2, shape=1.9)
    with torch.no_grad():
        field._shape.raw += 50
    assert (field.shape <= 2).all()
    field.log_weight(distance).sum().backward()  # r = 0 is where r^p has no log
    assert all(torch.isfinite(p.grad).all() for p in field.parameters())


def test_tables_repeat_their_last_entry():
    every = TableField(2, 4, "every", initial=torch.arange(8.0).view(2, 4))
    torch.testing.assert_close(every.log_weight(torch.tensor([0, 3, 4, 99]))[1], torch.tensor([4.0, 7.0, 7.0, 7.0]))
    assert TableField(2, 32).bucket(torch.tensor([0, 15, 16, 127, 128, 10**6])).tolist() == [0, 15, 16, 31, 31, 31]


def test_only_fire_past_its_threshold_needs_the_query():
    field = MlpField(2, threshold=16)
    assert not any(law(2).needs_query(10**6) for law in LAWS[:4])
    assert not field.needs_query(17) and field.needs_query(18)
    distance = torch.arange(20)
    with pytest.raises(ValueError, match=r"distance 19 exceeds the threshold 16"):
        field.log_weight(distance)
    near, far = field.log_weight(distance, torch.tensor(19)), field.log_weight(distance, torch.tensor(40))
    assert not torch.allclose(near, far)
    torch.testing.assert_close(
        field.log_weight(distance, torch.tensor(3)), field.log_weight(distance, torch.tensor(16))
    )
    assert MlpField(2, threshold=16, trainable_threshold=True).needs_query(18)


def test_fire_ignores_autocast():
    field, distance = MlpField(2), torch.arange(100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = field.log_weight(distance)
    assert torch.equal(coarse, field.log_weight(distance))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerField(0), "heads must be a positive integer, got 0"),
        (lambda: PowerField(2, exponent=-1.0), r"exponent must lie in \(0, inf\), got \[-1.0, -1.0\]"),
        (lambda: PowerField(2, exponent=float("nan")), "exponent must lie"),
        (lambda: PowerField(2, exponent=[1.0, 2.0, 3.0]), r"exponent of shape \(3,\) does not fit the field's \(2,\)"),
        (lambda: PowerField(2, scale=0.0), "scale must lie"),
        (lambda: StretchedExponentialField(2, shape=2.5), r"shape must lie in \(0, 2\)"),
        (lambda: TableField(2, buckets="t6"), "unknown buckets 't6'; choose from t5, every"),
        (lambda: TableField(2, 0, "every"), "cannot have size 0"),
        (lambda: TableField(2, 32, max_distance=16), "must exceed the exact buckets"),
        (
            lambda: TableField(2, 8, initial=torch.zeros(3, 8)),
            r"initial of shape \(3, 8\) does not fit",
        ),
        (lambda: MlpField(2, threshold=-1), "threshold must lie"),
        (lambda: MlpField(2, width=0), "width must be at least 1"),
    ],
)
def test_errors_name_what_was_given(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("law", LAWS)
def test_round_trip_of_the_state(law):
    field, other = law(3), law(3)
    with torch.no_grad():
        for value in field.parameters():
            value += 0.5
    other.load_state_dict(field.state_dict())
    distance = torch.arange(100)
    assert torch.equal(field.log_weight(distance), other.log_weight(distance))


@pytest.mark.parametrize("law", LAWS)
def test_a_field_draws_itself(law):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    field = law(3, directional=True)
    ax = field.plot(max_distance=600)  # past FIRE's threshold, too
    lines = ax.get_lines()
    assert len(lines) == 6
    torch.testing.assert_close(
        torch.as_tensor(lines[0].get_ydata()[:100]), field.log_weight(torch.arange(1, 101))[0].exp().detach()
    )
    plt.close(ax.figure)


def test_the_base_class_is_no_law():
    with pytest.raises(NotImplementedError):
        Field(2).log_weight(torch.arange(3))


def test_a_tables_gain_moves_it_faster_and_changes_nothing_else():
    initial = torch.linspace(-3, 0, 8).expand(2, 8)
    plain, quick = (TableField(2, 8, "every", initial=initial, gain=gain) for gain in (1.0, 10.0))
    distance = torch.arange(12)
    torch.testing.assert_close(plain.log_weight(distance), quick.log_weight(distance))
    torch.testing.assert_close(quick.table, plain.table / 10)
    with pytest.raises(ValueError, match="gain must be positive"):
        TableField(2, gain=0.0)
