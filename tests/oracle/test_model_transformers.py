"""The whole model against transformers' GPT-2, given the same weights: learned positions, exact GELU, no biases."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from agf_core.model import Cache, ModelConfig, Transformer, generate


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    ours = Transformer(ModelConfig(50, 32, 3, 4, context=24, encoding="learned"))
    options = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "activation_function": "gelu"}
    options |= {"bos_token_id": None, "eos_token_id": None}
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=24, n_embd=32, n_layer=3, n_head=4, **options))
    names = {"embedding.weight": "transformer.wte.weight", "encoding.table.weight": "transformer.wpe.weight"}
    names["norm.weight"] = "transformer.ln_f.weight"
    parts = {"norm1": "ln_1", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj"}
    parts |= {"norm2": "ln_2", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for i in range(3):
        names |= {f"blocks.{i}.{a}.weight": f"transformer.h.{i}.{b}.weight" for a, b in parts.items()}
    state = {n: torch.zeros_like(t) for n, t in theirs.state_dict().items()}  # biases stay 0
    for name, tensor in ours.state_dict().items():
        other = names.pop(name)
        if "norm" in name:
            torch.nn.init.normal_(tensor, 1, 0.3)  # a start of ones would hide a norm left out or swapped
        linear = other.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        state[other] = tensor.T if linear else tensor  # GPT-2's "Conv1D" is x W
    assert not names
    state["lm_head.weight"] = state["transformer.wte.weight"]
    theirs.load_state_dict(state)
    return ours.double().eval(), theirs.double().eval()


def test_logits_and_gradients_are_gpt2s(pair):
    ours, theirs = pair
    tokens = torch.randint(0, 50, (3, 24), generator=torch.Generator().manual_seed(1))
    got, want = ours(tokens), theirs(tokens).logits
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    for model, logits in ((ours, got), (theirs, want)):
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    body = theirs.transformer
    pairs = [
        (ours.embedding.weight.grad, body.wte.weight.grad),  # tied: from both ends
        (ours.encoding.table.weight.grad, body.wpe.weight.grad),
        (ours.blocks[0].attention.qkv.weight.grad.T, body.h[0].attn.c_attn.weight.grad),
        (ours.blocks[2].down.weight.grad.T, body.h[2].mlp.c_proj.weight.grad),
    ]
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_tapped_weights_are_gpt2s_attentions(pair):
    ours, theirs = pair
    theirs.set_attn_implementation("eager")
    tokens, seen = torch.arange(20)[None], {}
    with torch.no_grad():
        want = theirs(tokens, output_attentions=True, output_hidden_states=True)
        ours(tokens, tap=lambda layer, name, tensor: seen.update({(layer, name): tensor}))
    for layer in range(3):
        torch.testing.assert_close(seen[layer, "weights"], want.attentions[layer], rtol=1e-9, atol=1e-12)
        hidden = want.hidden_states[layer]  # what enters the layer
        residual = seen[-1, "embed"] if layer == 0 else seen[layer - 1, "residual"]
        torch.testing.assert_close(residual, hidden, rtol=1e-9, atol=1e-12)


def test_padded_batches_and_decoding_are_gpt2s(pair):
    ours, theirs = pair
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 9:] = False
    with torch.no_grad():
        want = theirs(tokens, attention_mask=mask.long()).logits
        torch.testing.assert_close(ours(tokens, key_mask=mask)[mask], want[mask], rtol=1e-9, atol=1e-9)
        first, cache = theirs(tokens[:, :7], use_cache=True), Cache()
        want = theirs(tokens[:, 7:], past_key_values=first.past_key_values).logits
        ours(tokens[:, :7], cache=cache)
        torch.testing.assert_close(ours(tokens[:, 7:], cache=cache), want, rtol=1e-9, atol=1e-9)
        greedy = theirs.generate(tokens, max_new_tokens=12, do_sample=False)
    assert torch.equal(generate(ours, tokens, 12, temperature=0), greedy)
