"""Gravity: flow = mass of the origin · mass of the destination · g(distance), by Poisson pseudo-likelihood.

For attention the origin is the query's row (its effect is the softmax normaliser, never a finding) and the destination
the key's token *type*, over many texts. With one effect per key *position* instead, any field e^(-m r) of r = i - j
would vanish into the effects: `fit_gravity` refuses a distance that the effects span, and reports otherwise which
share of the distance they leave over. Source: Santos Silva & Tenreyro 2006 (Poisson pseudo-likelihood of gravity);
the causal trap is ours (DESIGN, rules of evidence 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from agf_core.fitting.flow_data import gather, stream
from agf_core.fitting.flows import Flows
from agf_core.fitting.gravity_result import GravityFit
from agf_core.fitting.laws import INF, REACH, Array
from agf_core.fitting.ppml import Columns, Poisson, distance_share, fit_poisson
from agf_core.fitting.results import Interval
from agf_core.fitting.validate import check_laws

GRAVITY_LAWS = ("power", "shifted_power", "exponential", "steps")
# Below this share of its variance a distance is a combination of the effects, up to rounding.
SPANNED = 1e-6


@dataclass(frozen=True)
class _Law:
    """How a law enters the likelihood: columns, starting points, and names of the written parameters."""

    columns: Columns
    starts: list[Array]
    names: tuple[str, ...]
    # theta -> the written parameters (a scale as its logarithm), their derivatives, whether at an edge; None: theta
    written: Callable[[Array], tuple[Array, Array, bool]] | None = None
    bounds: tuple[Array, Array] | None = None


def fit_gravity(
    flow: ArrayLike,
    origin: ArrayLike,
    destination: ArrayLike,
    distance: ArrayLike,
    law: str = "power",
    *,
    include: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    edges: Sequence[float] | None = None,
    parts: bool = True,
) -> GravityFit:
    """Fit one gravity model; exponent > 0 is decay.

    Args:
        flow: >= 0, zeros allowed, any units. One of: long (P,); a matrix (N, M); blocks (B, N, M), such as texts.
        origin, destination: labels of any kind. Long: (P,). Matrix: (N,) and (M,). Blocks: (B, N) and (B, M).
        distance: long (P,), else (N, M), shared by all blocks. Pairs with a distance that is nan or not positive take
            no part (a query does not attract itself, nor the future).
        law: power r^-k, shifted_power (1 + r/x0)^-k, exponential e^(-m r), or steps (a free table).
        include: bool, shape of distance: further pairs to leave out (the first keys, special tokens) are False.
        cluster: what varies independently. Long: labels (P,), default the origins; matrix: (N,), default the rows;
            blocks: always the blocks.
        edges: for steps, ascending limits; step s covers edges[s] <= r < edges[s + 1], beyond them pairs take no part.
            Default 1, 2, 4, 8, …
        parts: also fit the model without its distance, origins and destinations, for `shares`.

    Raises ValueError on unknown laws, shapes that do not match, negative or nan flows, fewer than two clusters, and
    on a distance that the origin and destination effects span.
    """
    check_laws(law, GRAVITY_LAWS)
    flows, labels, steps = gather(flow, origin, destination, distance, include, cluster, law, edges)
    return _fit(flows, labels, law, steps, parts, check=True)


def stream_gravity(
    texts: Iterable[tuple[ArrayLike, ArrayLike]],
    distance: ArrayLike,
    law: str = "power",
    *,
    include: ArrayLike | None = None,
    edges: Sequence[float] | None = None,
    parts: bool = True,
) -> list[GravityFit]:
    """Fit H gravity models (heads) to attention that arrives text by text and is never stored; one fit per head.

    Args:
        texts: yields (flow (H, N, M), destination labels (M,)), one text at a time; every row of every text is an
            origin of its own; texts are the clusters.
        distance, include: (N, M), shared by all texts. The rest as in `fit_gravity`.
    """
    check_laws(law, GRAVITY_LAWS)
    heads, labels, steps = stream(texts, distance, include, law, edges)
    return [_fit(flows, labels, law, steps, parts, check=h == 0) for h, flows in enumerate(heads)]


def compare_gravity(
    flow: ArrayLike,
    origin: ArrayLike,
    destination: ArrayLike,
    distance: ArrayLike,
    laws: Iterable[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Fit several laws (power, shifted_power, exponential if None) to the same flows; smallest deviance first.

    Columns: law, deviance, excess (over the smallest, relative to that of equal flows), residual_share, flags, then the
    parameters. Attention is not a count, so no information criterion is offered: read `excess`, or hold out texts.
    """
    rows = []
    for law in check_laws(laws if laws is not None else GRAVITY_LAWS[:3], GRAVITY_LAWS):
        fit = fit_gravity(flow, origin, destination, distance, law, **{**options, "parts": False})
        head = {"law": law, "deviance": fit.deviance, "residual_share": fit.residual_share}
        rows.append({**head, "null": fit.null_deviance, "flags": "; ".join(fit.flags), **fit.params})
    table = pd.DataFrame(rows).sort_values("deviance", kind="stable", ignore_index=True)
    table.insert(2, "excess", (table["deviance"] - table["deviance"].min()) / table["null"])
    return table.drop(columns="null")


def _fit(flows: Flows, labels: list[Any], law: str, edges: Array, parts: bool, check: bool) -> GravityFit:
    form = _law(law, flows.distances, edges)
    if check:
        share = distance_share(flows, form.columns, form.starts[0])
        if share < SPANNED:
            raise ValueError(
                f"the distance under law {law!r} is a combination of the origin and destination effects (share left "
                f"over: {share:.1e}), so that no exponent exists. With r = i - j this happens when every key position "
                f"has an effect of its own: use token types over several texts as destinations, or another law"
            )
    fits = [fit_poisson(flows, form.columns, start, form.bounds) for start in form.starts]
    best = min(fits, key=lambda f: f.deviance)
    without: dict[str, float] = {}
    if parts:
        for name, reduced in (("origin", flows.without_origin()), ("destination", flows.without_destination())):
            without[name] = fit_poisson(reduced, form.columns, best.theta, form.bounds).deviance
        without["distance"] = fit_poisson(flows, _no_columns, np.zeros(0)).deviance
    total = flows.by_origin().sum()
    null = 2 * (flows.flow_log_flow - total * np.log(total / flows.pairs))
    shares = {name: (value - best.deviance) / null for name, value in without.items()}
    params, ci, covariance, edge = _written(form, best, flows.clusters)
    flags = [] if best.converged else ["the optimum was not reached; do not use these numbers"]
    if best.share < 1e-2:
        flags.append(f"the effects leave only {best.share:.1e} of the distance's variance: the estimate is weak")
    if edge:
        flags.append("scale at the edge of its range: the flows prefer a limiting law (a power or an exponential)")
    mass = best.mass / np.exp(np.mean(np.log(best.mass[best.mass > 0])))
    return GravityFit(
        law=law, params=params, ci=ci,
        masses=pd.Series(mass, index=pd.Index(labels, name="destination"), name="mass"),
        deviance_explained=float(1 - best.deviance / null), shares=shares, residual_share=best.share,
        deviance=best.deviance, null_deviance=float(null), pairs=flows.pairs, clusters=flows.clusters,
        covariance=covariance, flags=tuple(flags), flows=flows, edges=edges,
    )


def _no_columns(theta: Array, r: Array) -> tuple[Array, Array]:
    return np.zeros(len(r)), np.zeros((0, len(r)))


def _law(law: str, r: Array, edges: Array) -> _Law:
    one = np.array([1.0])
    if law == "power":
        return _Law(lambda th, x: (-th[0] * np.log(x), -np.log(x)[None]), [one], ("exponent",))
    if law == "exponential":
        return _Law(lambda th, x: (-th[0] * x, -x[None]), [one / r.mean()], ("rate",))
    if law == "steps":
        step = np.digitize(r, edges) - 1
        inside = (np.arange(1, len(edges) - 1)[:, None] == step).astype(float)
        names = tuple(f"step_{a:g}" for a in edges[1:-1])
        return _Law(lambda th, x: (th @ inside, inside), [np.zeros(len(inside))], names)

    return _shifted(r)


def _shifted(r: Array) -> _Law:
    """(1 + r/x0)^-k in coordinates in which its limits, a power law and an exponential, are ordinary points.

    theta: the local exponent at the mean log distance, and log(x0) about it, held within 1,000 times the distances.
    """
    log_mean = float(np.log(r).mean())
    low, high = np.log(r.min()) - log_mean - REACH, np.log(r.max()) - log_mean + REACH

    def columns(theta: Array, x: Array) -> tuple[Array, Array]:
        q = 1 + np.exp(theta[1])
        z = (x * np.exp(-log_mean) - 1) / q
        by_w = theta[0] * (q - 1) * (z / (1 + z) - np.log1p(z))
        return -theta[0] * q * np.log1p(z), np.stack([-q * np.log1p(z), by_w])

    def written(theta: Array) -> tuple[Array, Array, bool]:
        w = theta[1]
        jac = np.array([[1 + np.exp(w), theta[0] * np.exp(w)], [0.0, 1.0]])
        return np.array([theta[0] * (1 + np.exp(w)), w + log_mean]), jac, not low < w < high

    starts = [np.array([0.5, 0.0])]
    bounds = np.array([-np.inf, low]), np.array([np.inf, high])
    return _Law(columns, starts, ("exponent", "scale"), written, bounds)


def _written(form: _Law, fit: Poisson, clusters: int) -> tuple[dict[str, float], dict[str, Interval], Array, bool]:
    """Parameters with cluster-robust intervals (t with clusters - 1 degrees of freedom), the covariance, at an edge?

    A scale is handled by its logarithm; at the edge of its range nothing is known of it but its side.
    """
    bread = np.linalg.pinv(fit.information, rcond=1e-13, hermitian=True)
    covariance: Array = bread @ (fit.scores.T @ fit.scores * clusters / (clusters - 1)) @ bread
    values, edge = fit.theta, False
    if form.written is not None:
        values, jac, edge = form.written(fit.theta)
        covariance = jac @ covariance @ jac.T
    half = stats.t.ppf(0.975, clusters - 1) * np.sqrt(np.diag(covariance))
    pairs = [(float(v - h), float(v + h)) for v, h in zip(values, half, strict=True)]
    params = dict(zip(form.names, map(float, values), strict=True))
    ci = dict(zip(form.names, pairs, strict=True))
    if "scale" in params:
        with np.errstate(over="ignore"):
            params["scale"] = float(np.exp(params["scale"]))
            ci["scale"] = (0.0, INF) if edge else (float(np.exp(ci["scale"][0])), float(np.exp(ci["scale"][1])))
    return params, ci, covariance, edge
