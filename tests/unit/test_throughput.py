"""The throughput benchmark on a stand-in for nanoGPT: what it runs and says (what it measures is never asserted)."""

import json

import pytest
import torch

from agf_core.analysis import throughput
from agf_core.analysis.throughput import OURS, PEER, Size
from agf_core.encodings import ENCODINGS
from agf_core.model import ModelConfig
from agf_core.sources.tables import data_path
from agf_core.training import TrainConfig, train

TINY = Size(layers=1, dim=16, heads=2, length=8, batch=2, vocab=11)
STAND_IN = """
from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    asked = []

    def __init__(self, config):
        super().__init__()
        print("number of parameters: few")
        self.asked.append(config)
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, tokens, targets):
        logits = self.table(tokens)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        self.asked.append((weight_decay, learning_rate, betas, device_type))
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas)
"""


@pytest.fixture
def model_py(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(STAND_IN)
    return path


def test_both_are_given_the_same_shape_and_get_a_row_each(model_py, capsys):
    module = throughput.load_nanogpt(model_py)
    threads = torch.get_num_threads()
    rows = throughput.compare(TINY, 1, 3, ["agf"], module)
    assert torch.get_num_threads() == threads and capsys.readouterr().out == ""
    config, settings = module.GPT.asked
    assert vars(config) == {"block_size": 8, "vocab_size": 11, "n_layer": 1, "n_head": 2, "n_embd": 16,
                            "dropout": 0.0, "bias": False}  # fmt: skip
    assert settings == (0.1, TrainConfig().rate, (0.9, 0.95), "cpu")
    assert [row["name"] for row in rows] == [OURS, "agf", PEER]
    assert all(row["low"] <= row["relative"] <= row["high"] and row["tokens_per_second"] > 0 for row in rows)
    ours, _, peer = rows
    assert ours["low"] == ours["relative"] == ours["high"] == 1
    assert peer["ratio_low"] <= peer["ratio"] <= peer["ratio_high"]


def test_ratios_are_those_of_the_rounds(monkeypatch):
    """Steps of known length: ours takes twice as long in every round, however long rounds are."""
    import pandas as pd

    seconds = pd.DataFrame({OURS: [2.0, 4.0, 20.0], "agf": [4.0, 8.0, 40.0], PEER: [1.0, 2.0, 10.0]})
    monkeypatch.setattr(throughput, "interleave", lambda calls, rounds: seconds)
    monkeypatch.setattr(throughput, "nanogpt_step", lambda *_: None)
    _, agf, peer = throughput.compare(TINY, 1, 3, ["agf"], nanogpt=torch)
    assert (agf["relative"], agf["low"], agf["high"]) == (0.5, 0.5, 0.5) and agf["tokens_per_second"] == 16 / 8
    assert (peer["ratio_low"], peer["ratio"], peer["ratio_high"]) == (0.5, 0.5, 0.5)
    assert throughput.verdict(peer) == "not met"


@pytest.mark.parametrize(("low", "high", "word"), [(1.0, 1.1, "met"), (0.9, 1.1, "undecided"), (0.8, 0.99, "not met")])
def test_the_limit_is_met_where_the_interval_says_so(low, high, word):
    assert throughput.verdict({"ratio_low": low, "ratio_high": high, "limit": 1.0}) == word


def test_a_step_is_one_of_trainings_own():
    """What is timed leaves the weights that `train` leaves, bit for bit."""

    class Fixed:  # every batch the same
        config = TrainConfig()  # any dataclass: the identity of a checkpoint, which there is none of

        def batch(self, *_):
            return tokens.numpy(), targets.numpy()

    torch.manual_seed(1)
    tokens, targets = torch.randint(11, (2, 2, 8))
    config = TrainConfig(tokens=3 * 16, batch=2, schedule="constant", warmup=0.0)
    trained, _ = train(ModelConfig(11, 16, 1, 2, context=8, encoding="agf"), Fixed(), config)
    seen = []
    built = throughput.build_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "build_model", lambda *a, **k: seen.append(built(*a, **k)) or seen[0])
        step = throughput.our_step("agf", TINY, tokens, targets)
    for _ in range(3):
        step()
    for name, value in trained.state_dict().items():
        assert torch.equal(value, seen[0].state_dict()[name]), name


def test_the_command_writes_json_and_says_what_it_found(model_py, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "SIZES", (TINY,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "training-cpu.json"
    assert throughput.main(["--quick", "--nanogpt", str(model_py), "--out", str(out)]) == 0
    result, text = json.loads(out.read_text()), capsys.readouterr().out
    assert {row["name"] for row in result["rows"]} == {*ENCODINGS, PEER}
    assert {row["threads"] for row in result["rows"]} == {1, torch.get_num_threads()}
    for key in ("commit", "device", "processor", "python", "torch", "rounds", "load"):
        assert key in result
    assert len(result["nanogpt_sha256"]) == 64 and "limit 1.00: " in text and str(out) in text
    without = {**result, "nanogpt_sha256": None, "rows": [r for r in result["rows"] if r["name"] != PEER]}
    assert "make bench NANOGPT=path/to/nanoGPT/model.py adds it" in throughput.report(without)


@pytest.mark.parametrize("name", ["nowhere.py", "model.txt"])
def test_a_missing_file_is_said(name, tmp_path):
    (tmp_path / "model.txt").write_text(STAND_IN)
    with pytest.raises(ValueError, match=rf"no Python file .*{name}: expected the model.py of a copy of nanoGPT"):
        throughput.main(["--quick", "--nanogpt", str(tmp_path / name)])


def test_the_stored_run_is_one_or_none():
    found = throughput.stored()
    assert (found is None) == (not data_path("bench", "training-cpu.json").is_file())
    assert found is None or PEER in {row["name"] for row in found["rows"]}
