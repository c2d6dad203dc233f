"""One Transformer, decoder or encoder, pre-norm, tied embeddings; how it knows position is `encodings`' affair (ours).

    model = Transformer(ModelConfig(vocab_size=256, dim=64, layers=2, heads=4, context=128, encoding="agf"))
    logits = model(tokens)                                    # (B, N) -> (B, N, 256)
    more = generate(model, tokens, 100, temperature=0.8)      # (B, N + 100), with a cache of keys and values

Shapes: B batch, N tokens, M keys (cached ones included), H query heads, G key heads, d = dim / H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agf_core import encodings
from agf_core.attention import attend, reference
from agf_core.attention.problem import check
from agf_core.encodings import EMBEDDING_STD, Encoding

Tap = Callable[[int, str, Tensor], "Tensor | None"]
TAPPED = ("embed", "scores", "weights", "mixed", "mlp", "residual")


@dataclass(frozen=True)
class ModelConfig:
    """One model. `context` is the training length; `outputs` None: a logit for every symbol, the embeddings tied, or
    with `tied` False from vectors of its own.

    `encoding` and `encoding_options`: see `encodings.build`. `association` False: scores are 0 and the field alone
    mixes (without a field: uniform attention); the parameters stay, so that sizes compare.
    """

    vocab_size: int
    dim: int
    layers: int
    heads: int
    kv_heads: int | None = None
    context: int = field(kw_only=True)
    encoding: str = "agf"
    encoding_options: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = True
    outputs: int | None = None
    association: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        sizes = {n: getattr(self, n) for n in ("vocab_size", "dim", "layers", "heads", "context")}
        sizes |= {n: v for n in ("kv_heads", "outputs") if (v := getattr(self, n)) is not None}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ValueError(f"dim {self.dim} must be an even multiple of the {self.heads} heads")
        if self.heads % self.groups:
            raise ValueError(f"kv_heads {self.kv_heads} must divide the {self.heads} heads")

    @property
    def groups(self) -> int:
        """Key heads G."""
        return self.heads if self.kv_heads is None else self.kv_heads


class Cache:
    """Keys and values of every layer for tokens already read, (B, G, M, d) each; empty at first."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        """Tokens already read, M."""
        return self.layers[0][1].shape[2] if self.layers else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append to a layer and return all of it."""
        if layer in self.layers:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.layers[layer], (k, v)))
        self.layers[layer] = k, v
        return k, v


class Attention(nn.Module):
    """Multi-head attention through `attend`; with a tap, through the definition that writes everything out."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.size = config.dim // config.heads
        self.qkv = nn.Linear(config.dim, (config.heads + 2 * config.groups) * self.size, bias=False)
        self.out = nn.Linear(config.dim, config.dim, bias=False)

    def forward(
        self, x: Tensor, encoding: Encoding, position: Tensor, mask: Tensor | None, cache: Cache | None, tap: Tap | None
    ) -> Tensor:
        config, (batch, length, _) = self.config, x.shape
        widths = [n * self.size for n in (config.heads, config.groups, config.groups)]
        parts = self.qkv(x).split(widths, dim=-1)  # before the heads are told apart: the gradients meet without a copy
        q, k, v = (part.unflatten(-1, (-1, self.size)).transpose(1, 2) for part in parts)  # (B, H or G, N, d)
        q, k = encoding.rotate(q, k, position, position)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        if k.shape[1] > v.shape[1]:  # an encoding whose keys differ from query head to query head
            v = v.repeat_interleave(k.shape[1] // v.shape[1], dim=1)
        if k.shape[3] > v.shape[3]:  # one that widens q and k
            v = F.pad(v, (0, k.shape[3] - v.shape[3]))
        call: dict[str, Any] = {
            "field": encoding.field(self.layer),
            "placement": encoding.placement,
            "causal": config.causal,
            "key_mask": mask,
            "scale": None if config.association else 0.0,
        }
        mixed = attend(q, k, v, **call) if tap is None else self._written_out(q, k, v, call, tap)
        return self.out(mixed[..., : self.size].transpose(1, 2).reshape(batch, length, -1))

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor, call: dict[str, Any], tap: Tap) -> Tensor:
        problem = check(q, k, v, **call)
        scores = tapped(tap, self.layer, "scores", reference.scores(problem))
        weights = reference.weights(problem, association=scores)
        return reference.mix(problem, tapped(tap, self.layer, "weights", weights))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(config.dim, bias=False) for _ in range(2))
        self.attention = Attention(config, layer)
        self.up = nn.Linear(config.dim, 4 * config.dim, bias=False)
        self.down = nn.Linear(4 * config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, tap: Tap | None, *call: Any) -> Tensor:
        layer = self.attention.layer
        x = x + tapped(tap, layer, "mixed", self.attention(self.norm1(x), *call, tap))
        x = x + tapped(tap, layer, "mlp", self.down(F.gelu(self.up(self.norm2(x)))))
        return tapped(tap, layer, "residual", x)


class Transformer(nn.Module):
    """The model of a `ModelConfig`; its weights are drawn from torch's global generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, bias=False)
        own = config.outputs or (None if config.tied else config.vocab_size)
        self.head = None if own is None else nn.Linear(config.dim, own, bias=False)
        self._initialise()  # before the encoding, so that all encodings start from the same weights
        sizes = {n: getattr(config, n) for n in ("layers", "heads", "dim", "context")}
        self.encoding = encodings.build(config.encoding, **sizes, **config.encoding_options)

    def _initialise(self) -> None:
        """Embeddings as small as GPT-2's; matrices by their width; what is added to the residual stream, less."""
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                depth = 2 * self.config.layers if name.endswith(("out", "down")) else 1
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features * depth))

    def forward(
        self,
        tokens: Tensor,
        *,
        key_mask: Tensor | None = None,
        cache: Cache | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """Logits (B, N, vocab_size or outputs) of `tokens` (B, N) int64.

        `cache`: the tokens continue what it has read, and are added to it. `key_mask` (B, M) bool over cached and new
        tokens, True = takes part. `tap(layer, name, tensor)` sees each tensor named in TAPPED and may return another
        one in its place: embed (B, N, dim; layer -1), scores (the association s) and weights (B, H, N, M), mixed, mlp
        (what a sub-layer adds) and residual (B, N, dim). Longer input than `context` is allowed, but for encodings that
        are not defined there. ValueError for tokens of another shape, or past such an encoding's end.
        """
        if tokens.dim() != 2 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens must be int64 of shape (batch, length), got {tokens.dtype} {tuple(tokens.shape)}")
        if cache is not None and not self.config.causal:
            raise ValueError("a cache needs a causal model: earlier tokens of an encoder see later ones")
        start = 0 if cache is None else cache.length
        position = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        x = tapped(tap, -1, "embed", self.encoding.embed(self.embedding(tokens), start))
        for block in self.blocks:
            x = block(x, tap, self.encoding, position, key_mask, cache)
        x = self.norm(x)
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def count(self) -> dict[str, int]:
        """Trained numbers: in all, of them the encoding's own."""
        parts = {"total": self, "encoding": self.encoding}
        return {n: sum(p.numel() for p in part.parameters() if p.requires_grad) for n, part in parts.items()}


def tapped(tap: Tap | None, layer: int, name: str, tensor: Tensor) -> Tensor:
    """The tensor, or what the tap puts in its place."""
    if tap is None:
        return tensor
    other = tap(layer, name, tensor)
    if other is not None and other.shape != tensor.shape:
        raise ValueError(f"tap returned {tuple(other.shape)} for {name} of layer {layer}, not {tuple(tensor.shape)}")
    return tensor if other is None else other


@torch.no_grad()
def generate(
    model: Transformer,
    tokens: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`tokens` (B, N) and `count` more drawn from the model, (B, N + count); keys and values are cached.

    `temperature` 0 takes the likeliest symbol; `top` draws among that many likeliest.
    """
    if not model.config.causal or model.config.outputs is not None:
        raise ValueError("only a causal model that predicts its own symbols can continue a text")
    if temperature < 0 or (top is not None and top < 1) or count < 0:
        raise ValueError(f"expected temperature ≥ 0, top ≥ 1, count ≥ 0; got {temperature}, {top}, {count}")
    cache, new = Cache(), tokens
    for _ in range(count):
        logits = model(new, cache=cache)[:, -1]  # (B, V)
        if temperature == 0:
            new = logits.argmax(-1, keepdim=True)
        else:
            if top is not None and top < logits.shape[-1]:
                least = logits.topk(top).values[:, -1:]
                logits = logits.masked_fill(logits < least, -torch.inf)
            new = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens
