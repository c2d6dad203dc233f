"""Continuing a text: greedy against the full forward, drawn reproducibly, among the likeliest."""

import pytest
import torch

from agf_core.model import ModelConfig, Transformer, generate


def build(**given):
    torch.manual_seed(0)
    return Transformer(ModelConfig(30, 16, 2, 2, context=16, **given)).eval().double()


def text(batch=2, length=5):
    return torch.randint(0, 30, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["agf", "rotary", "untied", "sinusoidal", "fire"])
@torch.no_grad()
def test_generation_at_temperature_0_is_the_argmax_of_the_full_forward(name):
    model, tokens = build(encoding=name), text(length=5)
    want = tokens
    for _ in range(20):  # past the context
        want = torch.cat([want, model(want)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, tokens, 20, temperature=0), want)
    assert torch.equal(generate(model, tokens, 0), tokens)


def test_generation_is_reproducible_and_draws_among_the_likeliest():
    model, tokens = build(), text(64, length=3)

    def draw(seed, **options):
        return generate(model, tokens, 8, generator=torch.Generator().manual_seed(seed), **options)

    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    assert torch.equal(draw(0, top=1), generate(model, tokens, 8, temperature=0))
    assert torch.equal(draw(0, top=99), draw(0))
    drawn = draw(0, top=3)[:, 3:4]
    likeliest = model(tokens)[:, -1].topk(3).indices
    assert (drawn == likeliest).any(-1).all() and not (drawn == likeliest[:, :1]).all()
    assert torch.equal(draw(0, temperature=1e-6), generate(model, tokens, 8, temperature=0))


def test_generation_errors():
    for model in (build(causal=False), build(outputs=4)):
        with pytest.raises(ValueError, match="only a causal model"):
            generate(model, text(), 1)
    for wrong in ({"temperature": -1.0}, {"top": 0}):
        with pytest.raises(ValueError, match="expected temperature"):
            generate(build(), text(), 1, **wrong)
