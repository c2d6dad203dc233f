"""From arrays and streams to the layouts of `flows`: checks, label codes, distance classes, running sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from agf_core.fitting.flows import BlockFlows, Flows, LongFlows
from agf_core.fitting.laws import Array

Mask = NDArray[np.bool_]


def gather(
    flow: ArrayLike, origin: ArrayLike, destination: ArrayLike, distance: ArrayLike, include: ArrayLike | None,
    cluster: ArrayLike | None, law: str, edges: Sequence[float] | None,
) -> tuple[Flows, list[Any], Array]:
    """Flows in a layout, the destination labels in the order of their codes, and the steps' edges."""
    values, r = np.asarray(flow, dtype=float), np.asarray(distance, dtype=float)
    from_, to = np.asarray(origin), np.asarray(destination)
    keep, steps = _participants(r, include, law, edges)
    if values.ndim == 3:
        _shapes(values.shape[1:] == r.shape and from_.shape == values.shape[:2] and to.shape == values.shape[::2],
                "blocks (B, N, M)", "(B, N), (B, M) and (N, M)", values, from_, to, r)
        if cluster is not None:
            raise ValueError("blocks are their own clusters; give long arrays for other clusters")
        if len(values) > 1:
            _check_flow(values[:, keep])
            return _blocks(values, from_, to, r, keep, steps)
        values, from_, to = values[0], from_[0], to[0]
    if values.ndim == 2 and from_.ndim == 1:
        _shapes(values.shape == r.shape and from_.shape == values.shape[:1] and to.shape == values.shape[1:],
                "a matrix (N, M)", "(N,), (M,) and (N, M)", values, from_, to, r)
        groups = np.arange(len(from_)) if cluster is None else np.asarray(cluster)
        _shapes(groups.shape == from_.shape, "a matrix (N, M)", "clusters (N,)", values, groups)
        groups, from_ = (np.broadcast_to(a[:, None], r.shape) for a in (groups, from_))
        to = np.broadcast_to(to, r.shape)
    else:
        _shapes(values.shape == from_.shape == to.shape == r.shape, "long arrays", "the flow's shape (P,)",
                values, from_, to, r)
        groups = from_ if cluster is None else np.asarray(cluster)
        _shapes(groups.shape == values.shape, "long arrays", "clusters (P,)", values, groups)
    _check_flow(values[keep])
    return _long(values[keep], from_[keep], to[keep], r[keep], groups[keep], steps)


def stream(
    texts: Iterable[tuple[ArrayLike, ArrayLike]], distance: ArrayLike, include: ArrayLike | None, law: str,
    edges: Sequence[float] | None,
) -> tuple[list[BlockFlows], list[Any], Array]:
    """One `BlockFlows` per head from (flow (H, N, M), labels (M,)) per text, holding one text at a time."""
    r = np.asarray(distance, dtype=float)
    keep, steps = _participants(r, include, law, edges)
    classes = _Classes(r, keep)
    sums: list[tuple[Array, Array, Array, Array]] = []
    labels = []
    for t, (flow, label) in enumerate(texts):
        values, types = np.asarray(flow), np.asarray(label)
        if values.ndim != 3 or values.shape[1:] != r.shape or types.shape != r.shape[1:]:
            raise ValueError(
                f"text {t}: expected flow (H, {r.shape[0]}, {r.shape[1]}) and {r.shape[1]} labels, "
                f"got {values.shape} and {types.shape}"
            )
        if sums and len(values) != len(sums[0][0]):
            raise ValueError(f"text {t} has {len(values)} heads, the first one had {len(sums[0][0])}")
        sums.append(classes.sums(values))
        labels.append(types)
    if len(sums) < 2:
        raise ValueError(f"the texts are the clusters: at least 2 are needed, got {len(sums)}")
    codes, names = _codes(np.concatenate(labels))
    rows, columns, by_class, logs = (np.stack(part, axis=1) for part in zip(*sums, strict=True))  # (H, B, …)
    origin = np.arange(rows[0].size).reshape(rows[0].shape)
    heads = [
        BlockFlows(
            rows[h], columns[h], by_class[h], float(logs[h].sum()), origin, codes.reshape(len(labels), -1),
            classes.klass, classes.distances, origin.size, len(names),
        )
        for h in range(len(rows))
    ]
    return heads, names, steps


class _Classes:
    """The distinct distances of a matrix, and the sums of a batch of flows over rows, columns and distances."""

    def __init__(self, r: Array, keep: Mask):
        self.keep = keep
        self.distances, inverse = np.unique(r[keep], return_inverse=True)
        self.klass = np.full(r.shape, -1)
        self.klass[keep] = inverse
        # Pairs sorted by class, so that one reduceat sums every class of every head.
        self.flat = np.flatnonzero(keep)[np.argsort(inverse, kind="stable")]
        self.firsts = np.searchsorted(np.sort(inverse), np.arange(len(self.distances)))

    def sums(self, flow: Array) -> tuple[Array, Array, Array, Array]:
        """flow (H, N, M) -> by row (H, N), by column (H, M), by class (H, R), sum of flow · log flow (H,)."""
        picked = flow.reshape(len(flow), -1)[:, self.flat].astype(float)
        _check_flow(picked)
        inside = np.where(self.keep, flow, 0)
        rows, columns = inside.sum(axis=2, dtype=float), inside.sum(axis=1, dtype=float)
        logs = np.log(picked, out=np.zeros_like(picked), where=picked > 0)
        return rows, columns, np.add.reduceat(picked, self.firsts, axis=1), np.einsum("hp,hp->h", picked, logs)


def _blocks(
    values: Array, origin: NDArray[Any], destination: NDArray[Any], r: Array, keep: Mask, steps: Array
) -> tuple[BlockFlows, list[Any], Array]:
    classes = _Classes(r, keep)
    rows, columns, by_class, logs = classes.sums(values)
    (from_, from_names), (to, to_names) = _codes(origin), _codes(destination)
    if len(from_names) == origin.size:
        from_ = np.arange(origin.size)  # rows that are all different stay in order: the layout's fast case
    blocks = BlockFlows(
        rows, columns, by_class, float(logs.sum()), from_.reshape(origin.shape), to.reshape(destination.shape),
        classes.klass, classes.distances, len(from_names), len(to_names),
    )
    return blocks, to_names, steps


def _long(
    values: Array, origin: NDArray[Any], destination: NDArray[Any], r: Array, groups: NDArray[Any], steps: Array,
) -> tuple[LongFlows, list[Any], Array]:
    (from_, from_names), (to, to_names), (group, group_names) = _codes(origin), _codes(destination), _codes(groups)
    if len(group_names) < 2:
        raise ValueError("a cluster-robust interval needs at least 2 clusters (by default the origins), got 1")
    distances, klass = np.unique(r, return_inverse=True)
    long = LongFlows(
        values, from_, to, klass, group, distances, len(from_names), len(to_names), len(group_names)
    )
    return long, to_names, steps


def _codes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    codes, names = pd.factorize(labels.ravel())
    if (codes < 0).any():
        raise ValueError("labels must not be missing (nan or None); give such places a label of their own")
    return codes.astype(np.int64), list(names)


def _participants(
    r: Array, include: ArrayLike | None, law: str, edges: Sequence[float] | None,
) -> tuple[Mask, Array]:
    """Which pairs take part, and the steps' edges."""
    keep = np.isfinite(r) & (r > 0)
    if include is not None:
        chosen = np.asarray(include)
        if chosen.dtype != bool or chosen.shape != r.shape:
            raise ValueError(f"include must be bool of distance's shape {r.shape}, got {chosen.dtype} {chosen.shape}")
        keep &= chosen
    steps = np.empty(0)
    if law == "steps":
        top = r[keep].max() if keep.any() else 2.0
        steps = np.asarray(edges if edges is not None else 2.0 ** np.arange(np.floor(np.log2(top)) + 2), dtype=float)
        if steps.ndim != 1 or len(steps) < 3 or (np.diff(steps) <= 0).any():
            raise ValueError(f"edges must be at least 3 ascending numbers, got {steps.tolist()}")
        keep &= (r >= steps[0]) & (r < steps[-1])
        filled = np.histogram(r[keep], steps)[0]
        if (filled == 0).any():
            empty = [f"[{steps[i]:g}, {steps[i + 1]:g})" for i in np.flatnonzero(filled == 0)]
            raise ValueError(f"no pair has a distance in the steps {', '.join(empty)}; give wider or fewer edges")
    if len(np.unique(r[keep])) < 2:
        raise ValueError(f"{int(keep.sum())} pairs take part (distance finite and > 0); they need 2 or more distances")
    return keep, steps


def _check_flow(values: Array) -> None:
    if not np.isfinite(values).all() or (values < 0).any():
        wrong = int((~np.isfinite(values) | (values < 0)).sum())
        raise ValueError(f"flow must be finite and >= 0; {wrong} of {values.size} values are not (nan or negative)")
    if not values.any():
        raise ValueError("every flow is zero: there is nothing to fit")


def _shapes(right: bool, form: str, wanted: str, *arrays: NDArray[Any]) -> None:
    if not right:
        got = ", ".join(str(a.shape) for a in arrays)
        raise ValueError(f"for {form} of flows, labels and distances must be {wanted}; got shapes {got}")
