"""Input checks of the fitting functions, in one place: what was wrong, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from agf_core.fitting.laws import LAWS, Array

SPACES = ("log", "linear")


def check_laws(laws: Iterable[str] | str | None, choices: Iterable[str]) -> list[str]:
    """The names asked for (all if None); ValueError with the choices on an unknown or repeated one."""
    known = list(choices)
    if laws is None:
        return known
    names = [laws] if isinstance(laws, str) else list(laws)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown law {name!r}; choose from: {', '.join(known)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"laws must be a list of different names, at least one; got {names}")
    return names


def check_curves(
    x: ArrayLike, y: ArrayLike, law: str, sigma: ArrayLike | None, *, space: str, asymptote: bool, strict: bool,
) -> tuple[Array, Array, Array | None, list[str | None]]:
    """x (n,), y (S, n), sigma (S, n) or None as float arrays, and per series what makes it unfittable (or None).

    strict: an unfittable series raises instead.
    """
    chosen = LAWS[check_laws(law, LAWS)[0]]
    if space not in SPACES:
        raise ValueError(f"unknown space {space!r}; choose one of: {', '.join(SPACES)}")
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x):
        shown = y.shape[1:] if strict and y.ndim == 2 else y.shape
        raise ValueError(f"x must have shape (n,) and y its length n along the last axis; got {x.shape} and {shown}")
    if not np.isfinite(x).all():
        raise ValueError(f"x has {int((~np.isfinite(x)).sum())} nan or infinite values; leave those points out")
    if (x < 0).any() or (chosen.needs_positive_x and (x == 0).any()):
        need = "> 0" if chosen.needs_positive_x else ">= 0"
        raise ValueError(f"law {law!r} needs x {need}; the smallest x is {x.min():g}. Leave those points out")
    needed = chosen.size + asymptote + 1
    if len(np.unique(x)) < needed:
        raise ValueError(
            f"too few points: law {law!r} has {needed - 1} parameters and needs at least {needed} different x, "
            f"got {len(np.unique(x))}. Give more points or a simpler law"
        )
    if sigma is not None:
        sigma = np.broadcast_to(np.asarray(sigma, dtype=float), y.shape)
        if not (np.isfinite(sigma) & (sigma > 0)).all():
            raise ValueError("sigma must be finite and > 0 everywhere; leave out points of unknown or zero error")
    bad = [_unfittable(series, space) for series in y]
    if strict and bad[0] is not None:
        raise ValueError(bad[0])
    return x, y, sigma, bad


def _unfittable(y: Array, space: str) -> str | None:
    lost = int((~np.isfinite(y)).sum())
    if lost:
        return f"y has {lost} of {len(y)} values that are nan or infinite; leave those points out"
    low = int((y <= 0).sum())
    if space == "log" and low:
        return (
            f"y has {low} of {len(y)} values <= 0, which have no logarithm; leave them out, or fit with "
            f"space='linear', or count data with fit_counts"
        )
    return None
