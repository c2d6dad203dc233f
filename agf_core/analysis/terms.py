"""What is mixed when position is added to meaning: the four terms of a head's scores q·k (ours).

    q = constant + what + where, k likewise;  q·k = what·what + what·where + where·what + where·where (q first)

- *Mean by position*, for any layer of any model: where = the mean of q over the *other* texts at this position, less
  the constant; what = the rest. Exact as algebra; that position acts only through such means is an assumption.
- *Exact*, at the first layer of a model that adds position to the embedding: where = what position puts into q through
  LayerNorm, linear once its own standard deviation is given. That deviation, token-type vectors and biases are not
  where.

The query's constant, the mean of q over queries and texts, knows neither token nor place, so it goes with the key that
it meets: constant·what is what·what, constant·where is where·where. The key's constant is the same for every key of a
query, and softmax does not see it. (After rotary, q and k are turned by their positions, so their means are too.)

Shares: covariance of a term with the score over the score's variance, within query rows and over the windows of
`windows`. They sum to 1; one is negative where a term works against the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from agf_core.analysis.observe import Seen, Statistic, observe
from agf_core.analysis.windows import Array, Sums, Window
from agf_core.model import Block, Transformer

TERMS = ("what·what", "what·where", "where·what", "where·where")
BY_POSITION, EXACT = "mean by position", "exact"


@dataclass(frozen=True)
class Terms:
    """What `FourTerms` found; L layers (1 when exact), H heads.

    shares       (L, H, 4) of the variance of q·k within query rows, in the order of `TERMS`; NaN where no score varies
    low, high    (L, H, 4) 95 % interval, groups of documents resampled, means by position kept; NaN with one group
    spread       (L, H) standard deviation of the association within query rows, nats
    method       `BY_POSITION` or `EXACT`
    queries, groups  how many queries counted, and groups of documents
    """

    shares: Array
    low: Array
    high: Array
    spread: Array
    method: str
    queries: int
    groups: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, rounded to 5 digits; None for what is not a number."""

        def plain(value: Any) -> Any:
            if isinstance(value, list):
                return [plain(v) for v in value]
            return None if np.isnan(value) else float(f"{value:.5g}")

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {n: plain(v.tolist()) if isinstance(v, np.ndarray) else v for n, v in values.items()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Terms:
        """The result of `to_dict`; ValueError for other keys."""
        names = [item.name for item in fields(cls)]
        if set(stored) != set(names):
            raise ValueError(f"expected the keys {', '.join(names)}, got {', '.join(stored)}")
        values: dict[str, Any] = {n: np.array(v, float) if isinstance(v, list) else v for n, v in stored.items()}
        return cls(**values)


class Positions:
    """First pass: sums of q and k over texts, by layer and position."""

    def __init__(self) -> None:
        self.sums: dict[int, Tensor] = {}  # (2, H, N, d) float64: q and k
        self.count = torch.zeros(0)  # (N,) texts with a kept token there

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        both = torch.stack([seen.query, seen.key]).double() * seen.keep[:, None, :, None]
        self.sums[seen.layer] = self.sums.get(seen.layer, 0) + both.sum(1)
        if seen.layer == 0:
            self.count = seen.keep.sum(0) + (self.count if len(self.count) else 0)

    def parts(self, seen: Seen, window: Window) -> tuple[Tensor, Tensor]:
        """The constants of q and k, (2, B, H, 1, d), and their means by position less them, (2, B, H, N, d).

        All are means over the *other* texts: with its own among them, what a text says would count as where, the more
        so, the fewer the texts.
        """
        if seen.layer not in self.sums:
            raise ValueError("no means by position yet: hand `Positions` to `observe` first")
        if (self.count == 1).any() or not self.count.any():
            raise ValueError(
                f"means by position need two texts with a kept token wherever one has it; of the {len(self.count)} "
                f"positions {int((self.count == 1).sum())} have one text"
            )
        low, high = window.rows(len(self.count), seen.causal)
        kept = seen.keep[:, None, :, None].double()
        own = torch.stack([seen.query, seen.key]).double() * kept
        count = self.count[:, None].clamp(min=2)  # a position that nobody keeps is in no window
        others = (self.sums[seen.layer][:, None] - own) / (count - kept)
        constant = others[..., low:high, :][..., self.count[low:high] > 0, :].mean(-2, keepdim=True)
        return constant, others - constant


class FourTerms:
    """Second pass: covariances of the terms with the score, by group of documents.

    positions: the first pass, which gives the constants and, without `exact`, where. ValueError from `update` where the
    first pass is missing or has fewer than two texts at some position, or sequences are too short for the window.
    """

    def __init__(self, positions: Positions, window: int, first: int = 4, exact: FirstLayer | None = None) -> None:
        self.positions, self.window, self.exact = positions, Window(window, first), exact
        self._sums = Sums()

    def update(self, seen: Seen) -> None:
        """Add one layer of a few sequences."""
        if self.exact is not None and seen.layer > 0:
            return
        window, causal = self.window, seen.causal
        constant, where = self.positions.parts(seen, window)
        if self.exact is not None:
            where = self.exact(seen.tokens, window.rows(seen.tokens.shape[1], causal))
        q, k = (
            torch.stack([seen.query, seen.key]).double() - constant
        )  # the key's, equal for all keys, is gone for good
        (c, _), (q_where, k_where) = constant, where
        pairs = (
            (q - q_where + c, k - k_where),
            (q - q_where, k_where),
            (q_where, k - k_where),
            (q_where + c, k_where),
        )
        full = window.full(seen.keep, causal)
        score = self._centred((q + c).float() @ k.float().mT, full, causal)
        terms = [(window.view(a.float() @ b.float().mT, causal) * score).sum((-1, -2)) for a, b in pairs]
        add = self._sums.add
        add("terms", seen.layer, seen.groups, torch.stack(terms, dim=-1))  # (B, H, 4)
        association = self._centred(seen.association, full, causal)
        add("squares", seen.layer, seen.groups, (association**2).sum((-1, -2)))
        add("queries", seen.layer, seen.groups, full.sum(1))
        add("scores", seen.layer, seen.groups, full.sum(1) * (window.size(causal) - 1))

    def _centred(self, scores: Tensor, full: Tensor, causal: bool) -> Tensor:
        """Windows of (B, H, N, N), each query's own mean taken out, the query itself and windows not full 0."""
        zero = self.window.width
        band = self.window.view(scores.contiguous(), causal).clone()
        band[..., zero] = 0
        band -= band.sum(-1, keepdim=True) / (band.shape[-1] - 1)
        band[..., zero] = 0
        return band * full[:, None, :, None]

    def result(self, resamples: int = 200, seed: int = 0) -> Terms:
        """Shares, and their intervals from resampled groups."""
        terms, squares, queries = (self._sums.get(n) for n in ("terms", "squares", "queries"))  # (L, G, H, 4), …
        queries = queries[0]
        if not queries.sum():
            raise ValueError("no query has its whole window kept: no terms to compare")
        groups = len(queries)
        moves = squares.sum(1) > 0  # (L, H): without association, q and k are there but nothing comes of them

        def shares(weights: Array) -> Array:
            sums = np.tensordot(weights, terms, (0, 1))  # (L, H, 4)
            total = sums.sum(-1)
            known = moves & (total > 0)
            return np.where(known[..., None], sums / np.where(known, total, 1)[..., None], np.nan)

        found = shares(np.ones(groups))
        half = np.full(found.shape, np.nan)
        if groups > 1 and resamples > 1:
            rng = np.random.default_rng(seed)
            draws = rng.multinomial(groups, np.full(groups, 1 / groups), resamples)
            spread = np.std([shares(d.astype(float)) for d in draws if d @ queries], axis=0, ddof=1)
            # As in `split`: percentiles of few groups are too narrow.
            half = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1)) * spread
        deviation = np.sqrt(squares.sum(1) / self._sums.get("scores")[0].sum())
        method = BY_POSITION if self.exact is None else EXACT
        return Terms(found, found - half, found + half, deviation, method, int(queries.sum()), groups)


class FirstLayer:
    """What position puts into q and k of the first layer: W γ (p' − mean p') / sd; made by `first_layer`.

    p' is a position's vector less the mean over the positions of the queries, sd LayerNorm's, of all that is added.
    added: tokens (B, N) -> (B, N, dim), what enters the norm;  position: N -> (N, dim);  weights: of q and of k.
    """

    def __init__(
        self,
        added: Callable[[Tensor], Tensor],
        position: Callable[[int], Tensor],
        norm: nn.LayerNorm,
        weights: tuple[Tensor, Tensor],
        heads: int,
    ) -> None:
        self.added, self.position, self.norm, self.weights, self.heads = added, position, norm, weights, heads

    def __call__(self, tokens: Tensor, rows: tuple[int, int]) -> Tensor:
        """tokens (B, N) -> (2, B, H, N, d) float64: the part of q and of k; rows: from and to before which query."""
        with torch.no_grad():
            x, p = self.added(tokens).double(), self.position(tokens.shape[1]).double()
            p = p - p[rows[0] : rows[1]].mean(0)
            sd = (x.var(-1, correction=0, keepdim=True) + self.norm.eps).sqrt()
            y = (p - p.mean(-1, keepdim=True)) / sd * self.norm.weight.double()  # (B, N, dim)
            parts = [(y @ w.double().T).unflatten(-1, (-1, y.shape[-1] // self.heads)) for w in self.weights]
            parts = [part.transpose(1, 2) for part in parts]
            return torch.stack([part.repeat_interleave(self.heads // part.shape[1], dim=1) for part in parts])


def first_layer(model: nn.Module) -> FirstLayer | None:
    """For our Transformer with learned or sinusoidal positions, GPT-2 and BERT; None for a model without such a sum."""
    if isinstance(model, Transformer):
        config, encoding, block = model.config, model.encoding, cast(Block, model.blocks[0])

        def ours(length: int) -> Tensor:  # `embed` is affine
            return encoding.embed(model.embedding.weight.new_zeros(1, length, config.dim))[0]

        if not ours(config.context).any():
            return None
        sizes = [n * config.dim // config.heads for n in (config.heads, config.groups)]
        q, k, _ = block.attention.qkv.weight.split([*sizes, sizes[1]])
        return FirstLayer(lambda t: encoding.embed(model.embedding(t)), ours, block.norm1, (q, k), config.heads)
    body: Any = getattr(model, "base_model", model)
    kind = getattr(getattr(model, "config", None), "model_type", "")
    if kind == "gpt2":
        q, k, _ = body.h[0].attn.c_attn.weight.T.chunk(3)
        table, heads = body.wpe.weight, body.config.n_head
        return FirstLayer(
            lambda t: body.wte(t) + table[: t.shape[1]], lambda n: table[:n], body.h[0].ln_1, (q, k), heads
        )
    if kind == "bert":
        e, own = body.embeddings, body.encoder.layer[0].attention.self
        table, sort, heads = e.position_embeddings.weight, e.token_type_embeddings.weight[0], own.num_attention_heads
        weights = own.query.weight, own.key.weight
        return FirstLayer(
            lambda t: e.word_embeddings(t) + sort + table[: t.shape[1]],
            lambda n: table[:n],
            e.LayerNorm,
            weights,
            heads,
        )
    return None


def four_terms(
    model: nn.Module,
    tokens: Tensor,
    window: int,
    first: int = 4,
    *,
    beside: Sequence[Statistic] = (),
    seed: int = 0,
    **how: Any,
) -> tuple[Terms, Terms | None]:
    """Both splits of a model's scores in two passes: mean by position, and exact where position is added (else None).

    tokens (S, N) int64; beside: other statistics for the second pass; `how`: groups, keep, mask, batch and say of
    `observe`. ValueError for sequences shorter than a window, or fewer than two of them.
    """
    if tokens.dim() == 2:  # too short a text is refused before the first pass
        Window(window, first).rows(tokens.shape[1], causal=True)
    positions, exact = Positions(), first_layer(model)
    observe(model, tokens, [positions], **how)
    split = [FourTerms(positions, window, first), *([FourTerms(positions, window, first, exact)] if exact else [])]
    observe(model, tokens, [*split, *beside], **how)
    found = [one.result(seed=seed) for one in split]
    return found[0], found[1] if exact else None
