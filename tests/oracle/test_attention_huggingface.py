"""The Hugging Face example on a small random model: against transformers' own attention, padded, cached, trained."""

import importlib.util
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
SCRIPT = Path(__file__).parents[2] / "examples" / "huggingface.py"
SPEC = importlib.util.spec_from_file_location("huggingface_example", SCRIPT)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)


@pytest.fixture
def model():
    return example.with_field(example.small_model()).eval()


def test_a_flat_field_is_their_attention(model):
    tokens = torch.randint(1, 64, (2, 20))
    for layer in model.model.layers:
        layer.self_attn.field.requires_grad_(False)._exponent.raw.fill_(-40)  # k = e^-40
    expected = example.small_model().eval()(tokens).logits
    torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-4, atol=1e-5)


def test_the_field_is_a_bias_on_their_scores(model):
    """transformers' eager attention adds its mask to the scores: handed -k log(1 + r) per head, it agrees."""
    tokens = torch.randint(1, 64, (2, 20))
    plain = example.small_model().eval()
    plain.set_attn_implementation("eager")
    r = torch.arange(20)[:, None] - torch.arange(20)
    exponent = torch.linspace(0.25, 2.0, 4)[:, None, None]
    bias = torch.where(r >= 0, -exponent * torch.log1p(r.clamp(min=0).float()), -torch.inf)
    expected = plain(tokens, attention_mask=bias.expand(2, -1, -1, -1)).logits
    torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-4, atol=1e-5)


def test_left_padding_changes_nothing(model):
    tokens = torch.randint(1, 64, (1, 12))
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), tokens], dim=1)
    mask = torch.cat([torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 12, dtype=torch.long)], dim=1)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    found = model(padded, attention_mask=mask, position_ids=position).logits[:, 5:]
    torch.testing.assert_close(found, model(tokens).logits, rtol=1e-4, atol=1e-5)


def test_generation_with_a_cache_is_the_full_pass(model):
    tokens = torch.randint(1, 64, (2, 7))
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    with torch.no_grad():
        cached = model.generate(tokens, attention_mask=torch.ones_like(tokens), use_cache=True, **options)
        full = model.generate(tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **options)
    assert torch.equal(cached, full)


def test_dropout_and_windows_are_refused(model):
    q = torch.zeros(1, 4, 3, 16)
    for options in ({"dropout": 0.1}, {"sliding_window": 4}):
        with pytest.raises(NotImplementedError, match="no dropout"):
            example.field_attention(model.model.layers[0].self_attn, q, q, q, None, **options)


def test_the_example_runs(capsys):
    example.main()
    said = capsys.readouterr().out
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("step")]
    assert losses[-1] < 0.7 * losses[0] and "exponents 0.25 -> " in said
    assert "0.25 -> 0.25, 0.83 -> 0.83" not in said
