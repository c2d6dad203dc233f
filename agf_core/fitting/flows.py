"""Flows between labelled places, in the two layouts the gravity fit works on.

`LongFlows`: one entry per pair, any labels, any clusters. `BlockFlows`: many equal blocks (texts) that share one matrix
of distances, kept as sums: per block, over rows, over columns and over distances. These sums are sufficient for the
Poisson likelihood, its deviance and its cluster-robust covariance, so attention can be streamed and never stored.

Both offer the same few operations on a *kernel*: a value per distance class, spread over the pairs by `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agf_core.fitting.laws import Array

Index = NDArray[np.int64]


def total(codes: Index, weights: Array, size: int) -> Array:
    """Sum of the weights by code: (size,)."""
    return np.bincount(codes, weights, size).astype(float, copy=False)


@dataclass(frozen=True)
class LongFlows:
    """flow, origin, destination, klass, cluster: (P,) each, the last four as codes; distances (R,) of the classes."""

    flow: Array
    origin: Index
    destination: Index
    klass: Index
    cluster: Index
    distances: Array
    origins: int
    destinations: int
    clusters: int

    @property
    def pairs(self) -> int:
        return len(self.flow)

    @property
    def flow_log_flow(self) -> float:
        positive = self.flow[self.flow > 0]
        return float(positive @ np.log(positive))

    def by_origin(self) -> Array:
        return total(self.origin, self.flow, self.origins)

    def by_destination(self) -> Array:
        return total(self.destination, self.flow, self.destinations)

    def by_distance(self) -> Array:
        return total(self.klass, self.flow, len(self.distances))

    def spread(self, values: Array) -> Array:
        """Kernel from one value per distance class (R,)."""
        return values[self.klass]

    def to_origin(self, kernel: Array, v: Array) -> Array:
        """sum over pairs of kernel · v[destination], by origin: v (k, W) -> (k, O)."""
        return np.stack([total(self.origin, kernel * row[self.destination], self.origins) for row in v])

    def to_destination(self, kernel: Array, u: Array) -> Array:
        """sum over pairs of kernel · u[origin], by destination: u (k, O) -> (k, W)."""
        return np.stack([total(self.destination, kernel * row[self.origin], self.destinations) for row in u])

    def to_distance(self, kernel: Array, u: Array, v: Array) -> Array:
        """sum over pairs of u[origin] · kernel · v[destination], by distance class: (R,)."""
        return total(self.klass, u[self.origin] * kernel * v[self.destination], len(self.distances))

    def to_cluster(self, kernel: Array, u: Array, v: Array) -> Array:
        """sum over pairs of u[origin] · kernel · v[destination], by cluster: (C,)."""
        return total(self.cluster, u[self.origin] * kernel * v[self.destination], self.clusters)

    def flow_to_cluster(self, by_class: Array, u: Array, v: Array) -> Array:
        """sum of flow · (by_class[distance] - u[origin] - v[destination]), by cluster: (C,)."""
        value = by_class[self.klass] - u[self.origin] - v[self.destination]
        return total(self.cluster, self.flow * value, self.clusters)


@dataclass(frozen=True)
class BlockFlows:
    """B blocks of N rows and M columns: row_flow (B, N), column_flow (B, M), class_flow (B, R); each block a cluster.

    origin (B, N), destination (B, M): label codes. klass (N, M): distance class, -1 where a pair takes no part.
    """

    row_flow: Array
    column_flow: Array
    class_flow: Array
    flow_log_flow: float
    origin: Index
    destination: Index
    klass: Index
    distances: Array
    origins: int
    destinations: int

    @property
    def pairs(self) -> int:
        return len(self.row_flow) * int((self.klass >= 0).sum())

    @property
    def clusters(self) -> int:
        return len(self.row_flow)

    def by_origin(self) -> Array:
        return total(self.origin.ravel(), self.row_flow.ravel(), self.origins)

    def by_destination(self) -> Array:
        return total(self.destination.ravel(), self.column_flow.ravel(), self.destinations)

    def by_distance(self) -> Array:
        summed: Array = self.class_flow.sum(axis=0)
        return summed

    def spread(self, values: Array) -> Array:
        # One class more, of value 0, for the pairs that take no part (index -1).
        return np.append(values, 0.0)[self.klass]

    def to_origin(self, kernel: Array, v: Array) -> Array:
        k = len(v)
        rows = (v[:, self.destination].reshape(-1, kernel.shape[1]) @ kernel.T).reshape(k, -1)
        if self.origins == rows.shape[1]:  # every row its own label, in order
            return rows
        return np.stack([total(self.origin.ravel(), row, self.origins) for row in rows])

    def to_destination(self, kernel: Array, u: Array) -> Array:
        columns = (u[:, self.origin].reshape(-1, kernel.shape[0]) @ kernel).reshape(len(u), -1)
        return np.stack([total(self.destination.ravel(), c, self.destinations) for c in columns])

    def to_distance(self, kernel: Array, u: Array, v: Array) -> Array:
        fitted = kernel * (u[self.origin].T @ v[self.destination])
        return total(self.klass.ravel() + 1, fitted.ravel(), len(self.distances) + 1)[1:]

    def to_cluster(self, kernel: Array, u: Array, v: Array) -> Array:
        fitted: Array = (u[self.origin] * (v[self.destination] @ kernel.T)).sum(axis=1)
        return fitted

    def flow_to_cluster(self, by_class: Array, u: Array, v: Array) -> Array:
        rows, columns = self.row_flow * u[self.origin], self.column_flow * v[self.destination]
        return self.class_flow @ by_class - rows.sum(axis=1) - columns.sum(axis=1)


Flows = LongFlows | BlockFlows


def without(flows: Flows, part: str) -> Flows:
    """The same flows with one effect for all of `part`: "origin" or "destination"."""
    one: dict[str, Any] = {part: np.zeros_like(getattr(flows, part)), f"{part}s": 1}
    return replace(flows, **one)
