"""Every attention map of a model, handed to statistics as it passes; nothing is kept (ours).

    by_distance = ByDistance(window=100)
    observe(model, tokens, [by_distance], groups=groups, keep=keep)

One mechanism for all analyses and both kinds of model. Our Transformer is seen through its `tap`; a Hugging Face model
through `transformers`' attention interface: a function of ours that writes scores, softmax and mix out takes the place
of theirs, for the time of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agf_core.analysis.windows import Scratch
from agf_core.model import Transformer

AT_ONCE = 1 << 21  # scores handed over at once: 8 MB a map, so that what follows finds them in the cache
NAME = "agf_core_observe"


@dataclass(frozen=True)
class Seen:
    """One layer of a few sequences, as it passes. B sequences, H heads, N tokens, d per head; maps are float32.

    The maps' memory is used again for the next: copy what is to be kept.

    layer        counted from 0; every sequence passes layer 0 first, once
    logits       (B, H, N, N) what enters the softmax before masking; by placement: s + log g, s·g, s
    association  (B, H, N, N) s, without the field; the same tensor where there is none
    weights      (B, H, N, N) what multiplies the values: after the softmax, and after g at placement `weight`
    query, key   (B, H, N, d) as handed to attention, after rotation; grouped keys repeated
    tokens       (B, N) int64
    groups       (B,) int64 number of the group of documents, 0 … G - 1
    sequence     (B,) int64 number of the sequence among those handed to `observe`
    keep         (B, N) bool real, non-special tokens
    causal       whether queries see no later key
    """

    layer: int
    logits: Tensor
    association: Tensor
    weights: Tensor
    query: Tensor
    key: Tensor
    tokens: Tensor
    groups: Tensor
    sequence: Tensor
    keep: Tensor
    causal: bool


class Statistic(Protocol):
    """What `observe` fills. With a method `begin(tokens, keep)`, it is told beforehand what will come."""

    def update(self, seen: Seen) -> None:
        """Add to the sums; keep no map."""


@torch.no_grad()
def observe(
    model: nn.Module,
    tokens: Tensor,
    statistics: Sequence[Statistic],
    *,
    groups: Tensor | None = None,
    keep: Tensor | None = None,
    mask: Tensor | None = None,
    batch: int = 16,
    say: Callable[[str], object] | None = None,
) -> None:
    """Pass `tokens` (S, N) int64 through the model and hand each layer's attention to every statistic.

    model: our Transformer or a Hugging Face model with self-attention alone; put in evaluation mode for the call.
    groups (S,) int64: the group of documents of each sequence, what intervals resample; default one group.
    keep (S, N) bool: real, non-special tokens; default all. mask (S, N) bool: what takes part in attention (special
    tokens do, padding does not); default all. batch: sequences at a time. say: is told how far it is.

    ValueError for wrong shapes or a model that cannot be seen; NotImplementedError for one that does more to
    scores than add a mask (soft caps, sinks).
    """
    if tokens.dim() != 2 or tokens.dtype != torch.int64 or not tokens.numel():
        raise ValueError(f"tokens must be int64 of shape (sequences, length), got {tokens.dtype} {tuple(tokens.shape)}")
    size, length = tokens.shape
    groups = torch.zeros(size, dtype=torch.int64) if groups is None else groups
    keep = torch.ones(size, length, dtype=torch.bool) if keep is None else keep
    for name, given, dtype, shape in (
        ("groups", groups, torch.int64, (size,)),
        ("keep", keep, torch.bool, (size, length)),
        ("mask", mask, torch.bool, (size, length)),
    ):
        if given is not None and (given.dtype != dtype or given.shape != shape):
            raise ValueError(f"{name} must be {dtype} of shape {shape}, got {given.dtype} {tuple(given.shape)}")
    if groups.min() < 0 or batch < 1:
        raise ValueError(f"groups must be ≥ 0 and batch ≥ 1, got {int(groups.min())} and {batch}")
    for statistic in statistics:
        if hasattr(statistic, "begin"):
            statistic.begin(tokens, keep)

    device, scratch = next(model.parameters()).device, Scratch()
    training, sequence = model.training, torch.arange(size)
    model.eval()
    try:
        with _ours(model) if isinstance(model, Transformer) else _theirs(model) as run:
            for start in range(0, size, batch):
                part = slice(start, start + batch)
                rows = _Rows(*(t[part].to(device) for t in (tokens, groups, sequence, keep)))
                run(_Pass(statistics, rows, scratch), None if mask is None else mask[part].to(device))
                if say is not None:
                    say(f"{min(start + batch, size) * length:,} of {size * length:,} tokens")
    finally:
        model.train(training)


@dataclass(frozen=True)
class _Rows:
    tokens: Tensor
    groups: Tensor
    sequence: Tensor
    keep: Tensor


class _Pass:
    """One batch on its way through the layers."""

    def __init__(self, statistics: Sequence[Statistic], rows: _Rows, scratch: Scratch) -> None:
        self.statistics, self.rows, self.scratch = statistics, rows, scratch
        self.layer = 0

    def parts(self, heads: int) -> Iterator[slice]:
        """The batch in slices of about AT_ONCE scores."""
        size, length = self.rows.tokens.shape
        step = max(1, AT_ONCE // (heads * length * length))
        return (slice(start, start + step) for start in range(0, size, step))

    def hand(self, part: slice, causal: bool, **tensors: Tensor) -> None:
        rows = {name: value[part] for name, value in vars(self.rows).items()}
        seen = Seen(layer=self.layer, causal=causal, **tensors, **rows)
        for statistic in self.statistics:
            statistic.update(seen)


Run = Callable[[_Pass, "Tensor | None"], None]


@contextmanager
def _ours(model: Transformer) -> Iterator[Run]:
    config, encoding = model.config, model.encoding
    turned: list[Tensor] = []
    rotate = encoding.rotate

    def remember(q: Tensor, k: Tensor, q_pos: Tensor, k_pos: Tensor) -> tuple[Tensor, Tensor]:
        turned[:] = rotate(q, k, q_pos, k_pos)
        return turned[0], turned[1]

    def run(now: _Pass, mask: Tensor | None) -> None:
        kept: dict[str, Tensor] = {}

        def tap(layer: int, name: str, tensor: Tensor) -> None:
            if name == "scores":
                kept["scores"] = tensor.float()
            elif name == "weights":
                scores, now.layer = kept.pop("scores"), layer
                log_g = _log_field(model, layer, scores)
                query, key = turned
                for part in now.parts(config.heads):
                    s = scores[part]
                    logits = s if log_g is None else s + log_g if encoding.placement == "logit" else s * log_g.exp()
                    now.hand(
                        part,
                        config.causal,
                        logits=logits,
                        association=s,
                        weights=tensor[part].float(),
                        query=query[part],
                        key=_repeated(key[part], config.heads),
                    )

        model(now.rows.tokens, key_mask=mask, tap=tap)

    encoding.rotate = remember  # type: ignore[method-assign]  # on this instance, until the end
    try:
        yield run
    finally:
        del encoding.rotate


def _log_field(model: Transformer, layer: int, scores: Tensor) -> Tensor | None:
    """log g (H, N, N) of a layer where it changes what enters the softmax, else None."""
    field = model.encoding.field(layer)
    if field is None or model.encoding.placement == "weight":
        return None
    position = torch.arange(scores.shape[-1], device=scores.device)
    query = position[:, None] if field.needs_query(len(position)) else None
    return field.log_weight(position[:, None] - position, query).float()


def _repeated(key: Tensor, heads: int) -> Tensor:
    """(B, G, N, d) -> (B, H, N, d)."""
    return key if key.shape[1] == heads else key.repeat_interleave(heads // key.shape[1], dim=1)


_NOW: ContextVar[_Pass] = ContextVar(NAME)


@contextmanager
def _theirs(model: Any) -> Iterator[Run]:
    try:
        from transformers import AttentionInterface, PreTrainedModel
        from transformers.masking_utils import AttentionMaskInterface, eager_mask
    except ImportError as error:
        raise ValueError(f"cannot observe a {type(model).__name__}: {error}; pip install transformers") from error
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"cannot observe a {type(model).__name__}; choose a Transformer or a transformers model")
    if model.config.is_encoder_decoder or not model._can_set_attn_implementation():
        raise ValueError(f"cannot observe a {type(model).__name__}: it needs self-attention through AttentionInterface")
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    before, body = model.config._attn_implementation, model.base_model  # the body: a vocabulary of logits is not needed
    model.set_attn_implementation(NAME)

    def run(now: _Pass, mask: Tensor | None) -> None:
        token = _NOW.set(now)
        try:
            body(now.rows.tokens, attention_mask=mask, use_cache=False)
        finally:
            _NOW.reset(token)
        if now.layer == 0:
            raise ValueError(f"a {type(model).__name__} never called its attention interface: it cannot be observed")

    try:
        yield run
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' eager attention, a few sequences at a time: (B, N, H, d)."""
    now, heads = _NOW.get(), query.shape[1]
    changed = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if changed or key.shape[2] != query.shape[2]:
        raise NotImplementedError(f"cannot observe {', '.join(changed) or 'attention to other keys than the queries'}")
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", True)) if causal is None else causal
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = torch.empty_like(query)
    for part in now.parts(heads):
        q, k = query[part], _repeated(key[part], heads)
        shape = (*q.shape[:3], q.shape[2])
        logits, weights = (now.scratch.get(name, shape, query.float()[:0]) for name in ("logits", "weights"))
        torch.bmm((scaling * q.float()).flatten(0, 1), k.float().flatten(0, 1).mT, out=logits.flatten(0, 1))
        torch.softmax(logits if attention_mask is None else logits + attention_mask[part], -1, out=weights)
        out[part] = (weights @ _repeated(value[part], heads).float()).to(out.dtype)
        now.hand(part, causal, logits=logits, association=logits, weights=weights, query=q, key=k)
    now.layer += 1
    return out.transpose(1, 2), None
