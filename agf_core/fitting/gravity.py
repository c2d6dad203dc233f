"""Gravity: flow = mass of the origin · mass of the destination · g(distance), by Poisson pseudo-likelihood.

For attention the origin is the query's row (its effect is the softmax normaliser, never a finding) and the destination
the key's token *type*, over many texts. With one effect per key *position* instead, any field e^(-m r) of r = i - j
would vanish into the effects: `fit_gravity` refuses a distance that the effects span, and reports otherwise which
share of the distance they leave over. Source: Santos Silva & Tenreyro 2006 (Poisson pseudo-likelihood of gravity);
the causal trap is ours (DESIGN, rules of evidence 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from agf_core.fitting.flow_data import gather, stream
from agf_core.fitting.flows import Flows, without
from agf_core.fitting.gravity_result import GravityFit
from agf_core.fitting.laws import INF, LAWS, Array, CurveLaw
from agf_core.fitting.ppml import Columns, distance_share, fit_poisson
from agf_core.fitting.results import Interval
from agf_core.fitting.validate import check_laws

GRAVITY_LAWS = ("power", "shifted_power", "exponential", "steps")
# Below this share of its variance a distance is a combination of the effects, up to rounding.
SPANNED = 1e-6
# How a law enters the likelihood: columns, starting point, bounds of a law that is not log-linear.
Form = tuple[Columns, Array, tuple[Array, Array] | None]


def fit_gravity(
    flow: ArrayLike, origin: ArrayLike, destination: ArrayLike, distance: ArrayLike, law: str = "power", *,
    include: ArrayLike | None = None, cluster: ArrayLike | None = None, edges: Sequence[float] | None = None,
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
    texts: Iterable[tuple[ArrayLike, ArrayLike]], distance: ArrayLike, law: str = "power", *,
    include: ArrayLike | None = None, edges: Sequence[float] | None = None, parts: bool = True,
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
    flow: ArrayLike, origin: ArrayLike, destination: ArrayLike, distance: ArrayLike, laws: Iterable[str] | None = None,
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
    columns, start, bounds = _steps(flows.distances, edges) if law == "steps" else _curve(LAWS[law], flows.distances)
    if check:
        share = distance_share(flows, columns, start)
        if share < SPANNED:
            raise ValueError(
                f"the distance under law {law!r} is a combination of the origin and destination effects (share left "
                f"over: {share:.1e}), so that no exponent exists. With r = i - j this happens when every key position "
                f"has an effect of its own: use token types over several texts as destinations, or another law"
            )
    best = fit_poisson(flows, columns, start, bounds)
    total = flows.by_origin().sum()
    null = 2 * (flows.flow_log_flow - total * np.log(total / flows.pairs))
    shares: dict[str, float] = {}
    if parts:
        nothing = np.zeros(len(flows.distances)), np.zeros((0, len(flows.distances)))
        reduced = {p: fit_poisson(without(flows, p), columns, best.theta, bounds) for p in ("origin", "destination")}
        reduced["distance"] = fit_poisson(flows, lambda theta: nothing, np.zeros(0))
        shares = {name: (fit.deviance - best.deviance) / null for name, fit in reduced.items()}
    bread = np.linalg.pinv(best.information, rcond=1e-13, hermitian=True)
    covariance = bread @ (best.scores.T @ best.scores * flows.clusters / (flows.clusters - 1)) @ bread
    gradient = columns(best.theta)[1]
    deviation = np.sqrt(np.maximum(np.einsum("pr,pq,qr->r", gradient, covariance, gradient), 0.0))
    edge = bounds is not None and not bool(((bounds[0] < best.theta) & (best.theta < bounds[1])).all())
    flags = [] if best.converged else ["the optimum was not reached; do not use these numbers"]
    if best.share < 1e-2:
        flags.append(f"the effects leave only {best.share:.1e} of the distance's variance: the estimate is weak")
    if edge:
        flags.append("scale at the edge of its range: the flows prefer a limiting law (a power or an exponential)")
    params, ci, covariance = _written(law, flows, edges, best.theta, covariance, edge)
    mass = best.mass / np.exp(np.mean(np.log(best.mass[best.mass > 0])))
    return GravityFit(
        law=law, params=params, ci=ci, flags=tuple(flags),
        masses=pd.Series(mass, index=pd.Index(labels, name="destination"), name="mass"),
        deviance_explained=float(1 - best.deviance / null), shares=shares, residual_share=best.share,
        deviance=best.deviance, null_deviance=float(null), pairs=flows.pairs, clusters=flows.clusters,
        covariance=covariance, deviation=deviation, flows=flows, edges=edges,
    )


def _curve(law: CurveLaw, r: Array) -> Form:
    """A law of curves as columns of its coordinates (`laws`), without the level, which the effects absorb."""
    u, q = r / np.exp(np.log(r).mean()), len(law.lower)

    def columns(theta: Array) -> tuple[Array, Array]:
        basis = law.basis(u, theta[q:])[0]
        if law.slope is None:
            return theta @ basis, basis
        return theta[:q] @ basis, np.vstack([basis, theta[:q] @ law.slope(u, theta[q:])[0]])

    if law.psi_range is None:
        return columns, np.ones(q), None
    low, high = law.psi_range(u)
    # Half the slope at the middle of the range, where both limits are near.
    return columns, np.array([0.5, 0.0]), (np.array([-INF, low]), np.array([INF, high]))


def _steps(r: Array, edges: Array) -> Form:
    inside = (np.arange(1, len(edges) - 1)[:, None] == np.digitize(r, edges) - 1).astype(float)
    return lambda theta: (theta @ inside, inside), np.zeros(len(inside)), None


def _written(
    law: str, flows: Flows, edges: Array, theta: Array, covariance: Array, edge: bool
) -> tuple[dict[str, float], dict[str, Interval], Array]:
    """Parameters, their intervals (t with clusters - 1 degrees of freedom), their covariance (a scale by its log).

    At the edge of a scale's range nothing is known of it but its side.
    """
    quantile = float(stats.t.ppf(0.975, flows.clusters - 1))
    if law == "steps":
        half = quantile * np.sqrt(np.diag(covariance))
        names = [f"step_{a:g}" for a in edges[1:-1]]
        ci = {n: (float(v - h), float(v + h)) for n, v, h in zip(names, theta, half, strict=True)}
        return dict(zip(names, map(float, theta), strict=True)), ci, covariance
    log_mean = float(np.log(flows.distances).mean())
    values, jac = (part[0, 1:] for part in LAWS[law].read(np.append(0.0, theta)[None], log_mean))
    covariance = jac[:, 1:] @ covariance @ jac[:, 1:].T
    half = quantile * np.sqrt(np.diag(covariance))
    params, ci, units = {}, {}, []
    for readout, v, h in zip(LAWS[law].readouts[1:], values, half, strict=True):
        low, value, high = (float(readout.natural(at, log_mean)) for at in (v - h, v, v + h))
        params[readout.name] = value
        ci[readout.name] = (0.0, INF) if readout.name == "scale" and edge else (low, high)
        units.append(1.0 if readout.name == "scale" else float(readout.natural(np.array(1.0), log_mean)))
    return params, ci, covariance * np.outer(units, units)
