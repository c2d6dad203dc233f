"""A trainable power field in a Hugging Face model: the five lines of `with_field`, and a few steps of training.

    python examples/huggingface.py

Any decoder whose layers hold a `self_attn` works alike, a pretrained one too (`AutoModelForCausalLM.from_pretrained`).
A field comes on top of what the model has: Llama keeps its rotary positions.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import flash_attention_mask

from agf_core.attention.huggingface import field_attention
from agf_core.fields import PowerField


def with_field(model: LlamaForCausalLM) -> LlamaForCausalLM:
    AttentionInterface.register("agf", field_attention)
    AttentionMaskInterface.register("agf", flash_attention_mask)  # padding as (batch, keys)
    model.set_attn_implementation("agf")
    for layer in model.model.layers:
        layer.self_attn.field = PowerField(model.config.num_attention_heads).to(model.device)
    return model


def small_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def main() -> None:
    model = with_field(small_model())
    before = [layer.self_attn.field.exponent.tolist() for layer in model.model.layers]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(30):
        tokens = torch.randint(1, 64, (8, 1)) + torch.arange(48) * 3  # counting in threes
        loss = model(tokens % 63 + 1, labels=tokens % 63 + 1).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    for i, (layer, start) in enumerate(zip(model.model.layers, before)):
        now = layer.self_attn.field.exponent.tolist()
        print(f"layer {i}: exponents", ", ".join(f"{a:.2f} -> {b:.2f}" for a, b in zip(start, now)))


if __name__ == "__main__":
    main()
