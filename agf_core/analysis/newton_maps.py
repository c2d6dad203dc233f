"""What needs the attention maps themselves, of a few windows: gravity by Poisson pseudo-likelihood, and what an analogy
with gravity cannot have (ours).

A softmax has one total to give away: a query's mass multiplies every weight of its row and cancels, and two keys take
from each other. Both hold for any numbers, and are shown, not tested. Source of the estimator: Santos Silva & Tenreyro
2006, see `fitting.gravity`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from agf_core.analysis.gravity_sums import Gravity
from agf_core.analysis.observe import Seen
from agf_core.analysis.windows import Array, Window, kinds
from agf_core.fitting import stream_gravity

LEAST = 8  # queries that must see an occurrence of a key for it to count


class Kept:
    """The attention maps of a few windows, by their number among those observed: the only ones that are kept."""

    def __init__(self, windows: Tensor) -> None:
        self.windows, self._maps = windows, dict[int, list[Tensor]]()

    def update(self, seen: Seen) -> None:
        """Copy what is asked for."""
        if (of := torch.isin(seen.sequence, self.windows.to(seen.sequence.device))).any():
            self._maps.setdefault(seen.layer, []).append(seen.weights[of].cpu().clone())

    def maps(self) -> Tensor:
        """(L, B, H, N, N)."""
        return torch.stack([torch.cat(self._maps[layer]) for layer in sorted(self._maps)])


def _pairs(n: int, window: Window, causal: bool) -> tuple[Array, Array]:
    """Distances (N, N), and which pairs lie in the window of a query that has all of it."""
    low, high = window.rows(n, causal)
    query, key = np.indices((n, n))
    r = query - key if causal else np.abs(query - key)
    rows: Array = (query >= low) & (query < high) & (r >= 1) & (r <= window.width)
    return r, rows


def poisson(maps: Tensor, tokens: Tensor, keep: Tensor, gravity: Gravity, window: Window, causal: bool) -> pd.DataFrame:
    """Gravity by Poisson pseudo-likelihood on the weights of the kept windows, eligible heads: see `Page.poisson`.

    maps (L, B, H, N, N); tokens and keep (B, N): theirs.
    """
    count, n = maps.shape[1], maps.shape[-1]
    r, rows = _pairs(n, window, causal)
    rows &= np.asarray(keep.all(0))
    kind = kinds(torch.from_numpy(gravity.types), tokens).numpy()
    out = []
    for layer in np.flatnonzero(gravity.eligible.any(1)):
        able = np.flatnonzero(gravity.eligible[layer])
        texts = ((maps[layer, b, able].double().numpy(), kind[b]) for b in range(count))
        for head, fit in zip(able, stream_gravity(texts, np.where(rows, r, np.nan), include=rows, parts=False)):
            out.append((layer, head, fit.exponent, *fit.ci["exponent"], gravity.exponent[layer, head]))
    return pd.DataFrame(out, columns=["layer", "head", "poisson", "low", "high", "exponent"])


def superposition(
    maps: Tensor, gravity: Gravity, window: Window, causal: bool, seed: int, heads_shown: int = 6, queries: int = 60
) -> pd.DataFrame:
    """The two strongest keys of some queries: their weight at once, and the sum of what each has without the other.

    Newton's masses add up: together = apart. With e₁, e₂ and R the exponentials of the two and of the rest,
    (e₁ + e₂)/(e₁ + e₂ + R) < e₁/(e₁ + R) + e₂/(e₂ + R) for any numbers > 0.
    """
    rng, (low, high) = np.random.default_rng(seed), window.rows(maps.shape[-1], causal)
    able = np.argwhere(gravity.eligible)
    tables = []
    for layer, head in able[np.sort(rng.permutation(len(able))[:heads_shown])]:
        strongest = maps[layer, :, head, low:high].double().topk(2, -1)[0].reshape(-1, 2).numpy()
        strongest = strongest[rng.permutation(len(strongest))[:queries]]
        together = strongest.sum(1)
        rest = np.maximum(1 - together, 1e-12)
        apart = (strongest / (strongest + rest[:, None])).sum(1)
        tables.append(pd.DataFrame({"layer": layer, "head": head, "together": together, "apart": apart}))
    names = ["layer", "head", "together", "apart"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def shifted(maps: Tensor) -> float:
    """The largest change of any weight when a query's mass grows e⁵-fold: its logits all rise by 5."""
    one = maps[:, 0].double().clamp_min(1e-300)
    return float((torch.softmax(one.log() + 5.0, -1) - one / one.sum(-1, keepdim=True)).abs().max())


def at_occurrences(maps: Tensor, tokens: Tensor, gravity: Gravity, window: Window, causal: bool) -> float:
    """Of the variance that the product form leaves, the share that single occurrences of a key have, seen alike by all
    queries (one-way analysis of variance): median of the eligible heads, 0 without any."""
    r, rows = _pairs(maps.shape[-1], window, causal)
    kind, count = kinds(torch.from_numpy(gravity.types), tokens).numpy(), rows.sum(0)
    seen, shares = count >= LEAST, []
    for layer, head in np.argwhere(gravity.eligible):
        left = maps[layer, :, head].double().clamp_min(1e-300).log().numpy()
        left = left - gravity.masses[layer, head][kind][:, None]
        left = left - np.insert(gravity.profile[layer, head], 0, 0.0)[np.clip(r, 0, window.width)]
        own = np.where(rows, left, 0).sum(-1, keepdims=True) / np.maximum(rows.sum(1), 1)[:, None]
        left = np.where(rows, left - own, 0)[:, :, seen]  # (B, N, keys)
        by_key = left.sum(1) / count[seen]
        within = ((left - by_key[:, None]) ** 2 * rows[:, seen]).sum() / (len(left) * (count[seen] - 1).sum())
        between = max(0.0, float((by_key**2 - within / count[seen]).mean()))
        shares.append(between / (between + within))
    return float(np.median(shares)) if shares else 0.0
