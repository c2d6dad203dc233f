"""Training: a pure function of its configuration, resumed exactly, stopped when it diverges."""

import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from agf_core import training
from agf_core.encodings import ENCODINGS
from agf_core.model import ModelConfig
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.training import Diverged, TrainConfig, build_model, field_numbers, optimizer, train

DATA = DataConfig("bytes", "generated:power:tokens=20000")
MODEL = {"vocab_size": 256, "dim": 16, "layers": 2, "heads": 2, "context": 16}
SHORT = TrainConfig(tokens=20 * 4 * 16, batch=4, seed=3)  # 20 steps


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(config=SHORT, encoding="agf", data=DATA, **given):
    made = load_data(data)
    model = ModelConfig(**{**MODEL, "vocab_size": made.vocab_size}, encoding=encoding)
    return train(model, made, config, **given)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


class Stop(Exception):
    """Raised where a run is to be cut off."""


def stopping_at(place):
    def progress(step, steps, loss):
        if step == place:
            raise Stop

    return progress


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """A checkpoint of step 8 of `run()`."""
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    with pytest.raises(Stop):
        run(checkpoint=tmp_path / "run.safetensors", progress=stopping_at(9))
    return tmp_path / "run.safetensors"


# --- configuration


def test_steps_and_rates():
    config = TrainConfig(tokens=10_000, batch=10, rate=1.0, warmup=0.1)
    assert config.steps(10) == 100 and config.steps(10**6) == 1
    rates = [config.rate_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)  # never 0: no step is lost
    assert rates[10] == 1 and np.diff(rates[10:]).max() < 0
    middle = 10 + 45
    assert rates[middle] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3) and min(rates[10:]) > 0.1
    flat = TrainConfig(tokens=10_000, batch=10, rate=1.0, warmup=0.1, schedule="constant")
    assert [flat.rate_at(step, 100) for step in (9, 10, 50, 99)] == [1.0] * 4
    assert TrainConfig(warmup=0).rate_at(0, 1) == TrainConfig().rate
    for total in range(1, 30):
        assert all(0 < TrainConfig().rate_at(step, total) <= TrainConfig().rate for step in range(total))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose from cosine, constant"),
        ({"precision": "float16"}, "unknown precision 'float16'; choose from float32, bfloat16"),
        ({"tokens": 0}, "tokens must be positive, got 0"),
        ({"rate": -1.0}, "rate must be positive"),
        ({"rate": math.nan}, "rate must be positive, got nan"),
        ({"warmup": 1.0}, "expected 0 ≤ warmup < 1"),
        ({"seed": -1}, "got 0.05, 0.1, -1"),
    ],
)
def test_wrong_configurations_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**given)
    with pytest.raises(TypeError, match="epochs"):
        TrainConfig(epochs=3)


@pytest.mark.parametrize("name", ENCODINGS)
def test_weight_decay_spares_norms_and_whatever_belongs_to_the_encoding(name):
    model = build_model(ModelConfig(**MODEL, encoding=name, outputs=5), 0)
    decayed, others = optimizer(model, TrainConfig(weight_decay=0.2)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.2, 0.0)
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    found = {names.pop(id(p)) for p in decayed["params"]}
    assert found == {n for n, p in model.named_parameters() if p.dim() == 2 and not n.startswith("encoding.")}
    assert {names.pop(id(p)) for p in others["params"]} >= {"norm.weight", "blocks.1.norm2.weight"} and not names


def test_weights_are_drawn_from_the_seed():
    config = ModelConfig(**MODEL, encoding="kerple_log")  # whose own start is random
    first = build_model(config, 1)
    assert same(first, build_model(config, 1)) and not same(first, build_model(config, 2))


# --- runs


def test_the_same_call_gives_the_same_bits():
    one, two = run(), run()
    assert same(one[0], two[0]) and one[1] == two[1]
    assert not one[0].training
    assert not same(one[0], run(TrainConfig(tokens=SHORT.tokens, batch=4, seed=4))[0])
    curve = one[1]["curve"]
    assert [tokens for tokens, _ in curve] == [64 * (i + 1) for i in range(20)]
    assert all(math.isfinite(loss) for _, loss in curve)


def test_the_curve_has_about_a_hundred_points_and_calls_progress():
    seen = []
    _, history = run(TrainConfig(tokens=250 * 16, batch=1), progress=lambda *a: seen.append(a))
    assert [step for step, *_ in seen] == list(range(2, 251, 2)) and {steps for _, steps, _ in seen} == {250}
    assert [round(loss, 5) for *_, loss in seen] == [loss for _, loss in history["curve"]]


def test_loss_falls_below_the_unigram_entropy():
    data = load_data(DATA)
    share = np.bincount(data.heldout("test", 16, 2**14)[1].ravel(), minlength=256)
    share = share[share > 0] / share.sum()
    _, history = run(TrainConfig(tokens=60_000, batch=16, rate=1e-2))
    entropy = -(share * np.log(share)).sum()
    assert history["curve"][0][1] == pytest.approx(math.log(256), abs=0.2)  # before it knows anything
    assert history["curve"][-1][1] < entropy - 0.1


def test_the_fields_are_noted_as_they_form():
    model, history = run()
    steps = [snapshot["step"] for snapshot in history["fields"]]
    assert steps[:3] == [0, 1, 2] and steps[-1] == 20 and steps == sorted(set(steps))
    first, last = history["fields"][0]["layers"], history["fields"][-1]["layers"]
    assert first == [{"exponent": [0.25, 2.0], "scale": [1.0, 1.0]}] * 2
    assert last == field_numbers(model) != first
    assert field_numbers(build_model(ModelConfig(**MODEL, encoding="nope"), 0)) == [{}, {}]
    tables = field_numbers(build_model(ModelConfig(**MODEL, encoding="t5"), 0))
    assert [len(layer["table"]) for layer in tables] == [64, 64]


@pytest.mark.parametrize("encoding", ["fire", "untied"])
def test_bfloat16_by_autocast(encoding):
    model, history = run(TrainConfig(tokens=SHORT.tokens, batch=4, precision="bfloat16", seed=3), encoding)
    _, exact = run(encoding=encoding)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    losses, wanted = (np.array(h["curve"])[:, 1] for h in (history, exact))
    assert (losses != wanted).any() and abs(losses - wanted).max() < 0.1


def test_only_known_targets_count():
    data = DataConfig("recall", "", pairs=2, symbols=4)
    _, history = run(data=data)
    assert history["curve"][0][1] == pytest.approx(math.log(8), abs=0.3)


# --- checkpoints


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(cut_off):
    with safe_open(cut_off, "pt") as file:
        assert file.metadata()["step"] == "8"
    seen = []
    resumed = run(checkpoint=cut_off, progress=lambda step, *_: seen.append(step))
    assert seen == list(range(9, 21))
    whole = run()
    assert same(resumed[0], whole[0]) and resumed[1] == whole[1]
    again = run(checkpoint=cut_off, progress=stopping_at(20))  # finished: nothing is left to do
    assert same(again[0], whole[0]) and again[1] == whole[1]
    assert [p.name for p in cut_off.parent.iterdir()] == ["run.safetensors"]


def test_a_training_is_watched_on_its_way_and_not_disturbed(tmp_path, monkeypatch):
    def bias(model):
        assert not model.training
        return round(model.norm.weight.sum().item(), 6)

    plain, (model, history) = run(), run(watch=bias, times=4)
    assert same(plain[0], model) and history["curve"] == plain[1]["curve"] and "through" not in plain[1]
    assert [tokens // 64 for tokens, _ in history["through"]] == [1, 5, 20]  # 20 / 64 and 20 / 16 are both the first
    assert history["through"][-1][1] == bias(model)
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    with pytest.raises(Stop):
        run(watch=bias, times=4, checkpoint=tmp_path / "cut", progress=stopping_at(9))
    assert run(watch=bias, times=4, checkpoint=tmp_path / "cut")[1] == history


@pytest.mark.parametrize("given", [{"config": TrainConfig(tokens=SHORT.tokens, batch=4)}, {"version": "newer code"}])
def test_another_runs_checkpoint_is_not_gone_on_from(cut_off, given):
    seen = []
    resumed, _ = run(checkpoint=cut_off, progress=lambda step, *_: seen.append(step), **given)
    assert seen[0] == 1 and same(resumed, run(**given)[0])


@pytest.mark.parametrize("how", ["cut", "empty", "foreign"])
def test_a_damaged_checkpoint_is_set_aside(cut_off, how, capsys):
    if how == "foreign":
        save_file({"x": torch.zeros(2)}, cut_off)
    else:
        cut_off.write_bytes(cut_off.read_bytes()[: 1000 if how == "cut" else 0])
    resumed, _ = run(checkpoint=cut_off)
    assert same(resumed, run()[0])
    assert cut_off.with_name("run.safetensors.damaged").is_file()
    assert "run.safetensors is damaged" in capsys.readouterr().out


def test_a_run_that_diverges_stops_and_keeps_its_last_good_state(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    path = tmp_path / "run.safetensors"
    with pytest.raises(Diverged, match=r"loss nan by step \d+: .* try a lower rate") as caught:
        run(TrainConfig(tokens=SHORT.tokens, batch=4, rate=1e6), checkpoint=path)
    with safe_open(path, "pt") as file:
        assert int(file.metadata()["step"]) == caught.value.step - 1
    assert all(t.isfinite().all() for t in load_file(path).values())


def test_weights_that_are_spoilt_after_a_finite_loss_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    path = tmp_path / "run.safetensors"
    monkeypatch.setattr(TrainConfig, "rate_at", lambda self, step, steps: math.nan if step == steps - 1 else 1e-3)
    with pytest.raises(Diverged) as caught:
        run(checkpoint=path)
    assert caught.value.step == 20
    with safe_open(path, "pt") as file:
        assert file.metadata()["step"] == "19"


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    for name, value in (("is_initialized", True), ("get_rank", 0), ("get_world_size", 3)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with pytest.raises(ValueError, match="a batch of 4 sequences cannot be shared by 3 processes"):
        run()
