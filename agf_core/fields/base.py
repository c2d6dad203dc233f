"""What every field shares: signed distances, one or two parameter sets, precision, and its own picture (ours)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # matplotlib is needed only by those who draw
    from matplotlib.axes import Axes


class Field(nn.Module):
    """log g_h(r) for `heads` heads at distance r = query - key, in tokens.

    A symmetric field reads |r|. A directional one keeps two parameter sets, the first for the past (r >= 0), the second
    for the future (r < 0); its parameters have a leading dimension of 2. A subclass gives `_law`.
    """

    def __init__(self, heads: int, directional: bool = False) -> None:
        super().__init__()
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1:
            raise ValueError(f"heads must be a positive integer, got {heads!r}")
        self.heads = heads
        self.directional = directional

    @property
    def _parameter_shape(self) -> tuple[int, ...]:
        """Leading shape of the parameters: (H,), or (2, H) when directional."""
        return (2, self.heads) if self.directional else (self.heads,)

    def log_weight(self, distance: Tensor, query: Tensor | None = None) -> Tensor:
        """log g, shape (H, *distance.shape), for signed distances in tokens (any shape, integer or floating).

        float64 if the distance or a parameter is, else float32. `query`, the position of the query, broadcastable to
        `distance`, matters only where `needs_query` says so.
        """
        r = distance.to(self._dtype(distance)).abs()
        if not self.directional:
            return self._law(r, query, ())
        future = self._law(r, query, (1,))
        return torch.where(distance < 0, future, self._law(r, query, (0,)))

    def needs_query(self, length: int) -> bool:
        """Whether log g depends on the query's position, too, for positions below `length`."""
        return False

    def _law(self, r: Tensor, query: Tensor | None, side: tuple[int, ...]) -> Tensor:
        """log g of the non-negative r for one parameter set: index a parameter with `side` to get its (H, …)."""
        raise NotImplementedError

    def _dtype(self, distance: Tensor) -> torch.dtype:
        tensors = [distance, *self.parameters(), *self.buffers()]
        return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32

    def plot(self, ax: Axes | None = None, max_distance: int = 1024, **style: Any) -> Axes:
        """Draw g_h(r) of every head, r from 1 to `max_distance`, on log axes; the future dashed where it differs."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots()[1]
        device = next((t.device for t in [*self.parameters(), *self.buffers()]), None)
        with torch.no_grad():
            r = torch.arange(1, max_distance + 1, device=device)
            query = r if self.needs_query(max_distance + 1) else None  # the earliest query that has such a distance
            past = self.log_weight(r, query).exp().cpu()
            future = self.log_weight(-r, query).exp().cpu() if self.directional else None
        for head in range(self.heads):
            colour = plt.get_cmap("viridis")(head / max(1, self.heads - 1))
            ax.plot(r.cpu(), past[head], color=colour, label=f"head {head}", **style)
            if future is not None:
                ax.plot(r.cpu(), future[head], color=colour, linestyle="--", **style)
        ax.set(xscale="log", yscale="log", xlabel="distance r (tokens)", ylabel="g(r)")
        return ax

    def extra_repr(self) -> str:
        return f"heads={self.heads}, directional={self.directional}"


def per_head(value: Tensor, r: Tensor) -> Tensor:
    """(H,) -> (H, 1, …, 1) in r's dtype, so that it broadcasts against r behind a leading head dimension."""
    return value.to(r.dtype).reshape(-1, *[1] * r.dim())
