"""Poisson pseudo-maximum likelihood with two sets of effects: the engine under `fit_gravity`.

mean flow = origin effect · destination effect · exp(columns(distance) · theta). Origin effects are concentrated out in
closed form, destination effects and theta follow by Newton steps; the destination block of the Hessian is solved by
conjugate gradients, which needs only products with the kernel, never a matrix of labels. Zero flows are fine, and the
flows need not be counts. Source: Santos Silva & Tenreyro 2006 (the estimator); Frisch-Waugh-Lovell for the covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agf_core.fitting.flows import Flows
from agf_core.fitting.laws import Array

# theta (p,) -> log g at the flows' distances (R,), its derivatives (p, R)
Columns = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Poisson:
    """A fitted model: theta (p,), log_mass (W,), loglik up to a constant, deviance; the efficient information (p, p)
    of theta, `partial` the same relative to no effects at all (p,), and the score of every cluster (C, p)."""

    theta: Array
    mass: Array
    deviance: float
    information: Array
    share: float
    scores: Array
    converged: bool


class _State:
    """Everything that follows from (log_mass, theta): kernel, effects, fitted sums."""

    def __init__(self, flows: Flows, sums: tuple[Array, Array, Array], columns: Columns, mass: Array, theta: Array):
        self.flows, self.theta, self.mass = flows, theta, mass
        self.out, self.into, self.at_distance = sums
        self.log_g, self.columns = columns(theta)
        self.kernel = flows.spread(np.exp(self.log_g))
        reach = flows.to_origin(self.kernel, mass[None])[0]
        live = (self.out > 0) & (reach > 0)
        self.effect = np.divide(self.out, reach, out=np.zeros_like(reach), where=live)
        self.per_out = np.divide(1.0, self.out, out=np.zeros_like(reach), where=live)
        with np.errstate(divide="ignore"):
            log_mass = np.where(self.into > 0, np.log(mass), 0.0)
            log_reach = np.where(live, np.log(reach), 0.0)
        self.loglik = float(self.into @ log_mass + self.at_distance @ self.log_g - self.out @ log_reach)
        if not (np.isfinite(self.log_g).all() and (live | (self.out == 0)).all()):
            self.loglik = -np.inf

    def expected_into(self) -> Array:
        return self.mass * self.flows.to_destination(self.kernel, self.effect[None])[0]

    def curvature(self, v: Array) -> Array:
        """Destination block of the information times v (k, W), without its diagonal part."""
        means = self.effect * self.flows.to_origin(self.kernel, self.mass * v) * self.per_out
        back: Array = self.mass * self.flows.to_destination(self.kernel, self.effect * means)
        return back

    def blocks(self) -> tuple[Array, Array, Array, Array]:
        """Score of theta (p,), cross information (p, W), own information (p, p), column means by origin (p, O)."""
        flows, p = self.flows, len(self.columns)
        kernels = [flows.spread(np.exp(self.log_g) * c) for c in self.columns]
        sums = [self.effect * flows.to_origin(k, self.mass[None])[0] for k in kernels]
        means = np.array([s * self.per_out for s in sums]).reshape(p, len(self.out))
        fitted = flows.to_distance(self.kernel, self.effect, self.mass)
        score = self.columns @ (self.at_distance - fitted)
        into = np.array([flows.to_destination(k, self.effect[None])[0] for k in kernels]).reshape(p, len(self.into))
        cross = self.mass * into
        if p:
            cross = cross - self.mass * flows.to_destination(self.kernel, self.effect * means)
        own = (self.columns * fitted) @ self.columns.T - (means * self.out) @ means.T
        return score, cross, own, means


def fit_poisson(
    flows: Flows, columns: Columns, theta: Array, bounds: tuple[Array, Array] | None = None, iterations: int = 80,
) -> Poisson:
    """Maximise the concentrated likelihood from theta (p,). bounds: for a law that is not log-linear; its steps are
    damped, at most one unit long, and kept inside them."""
    low, high = bounds if bounds is not None else (np.full(len(theta), -np.inf), np.full(len(theta), np.inf))
    sums = flows.by_origin(), flows.by_destination(), flows.by_distance()
    state = _settled(_State(flows, sums, columns, np.where(sums[1] > 0, 1.0, 0.0), theta), columns)
    damping, converged = 1e-3 if bounds is not None else 0.0, False
    promised, total = np.inf, sums[0].sum()
    for _ in range(iterations):
        expected = state.expected_into()
        score, cross, own, _ = state.blocks()
        # Far from the optimum a rough direction is as good as an exact one.
        tolerance = 1e-8 if promised < 1e-3 * total else 1e-3
        solved = _conjugate_gradients(state, expected, np.vstack([(state.into - expected)[None], cross]), tolerance)
        efficient = own - cross @ solved[1:].T
        right = score - cross @ solved[0]
        outward = ((state.theta <= low) & (right < 0)) | ((state.theta >= high) & (right > 0))
        move = _solve(efficient, np.where(outward, 0.0, right), damping, outward)
        if bounds is not None:
            move = move / max(1.0, np.abs(move).max())
        shift = solved[0] - move @ solved[1:]
        promised = float(right @ move + (state.into - expected) @ solved[0])
        new, length = state, 1.0
        for _ in range(30):
            log_step = np.clip(length * shift, -20, 20)
            theta = np.clip(state.theta + length * move, low, high)
            new = _State(flows, sums, columns, state.mass * np.exp(log_step), theta)
            if new.loglik >= state.loglik - 1e-12 * abs(state.loglik):
                break
            length /= 2
            damping = 10 * damping
        damping = damping / 10 if length == 1.0 else damping
        state = new
        if promised < 1e-11 * total and tolerance < 1e-3:
            converged = True
            break
    return _summary(state, converged)


def _solve(information: Array, right: Array, damping: float, held: NDArray[np.bool_]) -> Array:
    """Damped step; a coordinate that is held, or about which nothing is known, stays where it is."""
    scale = np.sqrt(np.maximum(np.diag(information), 0.0))
    live = ~held & (scale > 1e-12 * scale.max(initial=0.0))
    scale = np.where(live, scale, 1.0)
    unit = np.where(np.outer(live, live), information / np.outer(scale, scale), 0.0) + damping * np.eye(len(right))
    step: Array = np.where(live, np.linalg.lstsq(unit, np.where(live, right, 0.0) / scale, rcond=1e-13)[0], 0.0)
    return step / scale


def _settled(state: _State, columns: Columns) -> _State:
    """A few rounds of proportional fitting: a cheap way to the neighbourhood of the optimum."""
    for _ in range(4):
        expected = state.expected_into()
        ratio = np.divide(state.into, expected, out=np.zeros_like(expected), where=expected > 0)
        sums = state.out, state.into, state.at_distance
        state = _State(state.flows, sums, columns, state.mass * ratio, state.theta)
    return state


def _conjugate_gradients(state: _State, diagonal: Array, right: Array, tolerance: float) -> Array:
    """Solve the destination block for several right-hand sides (k, W); it is singular along the constant, as they are.

    Labels without flow have no effect to solve for.
    """
    live = diagonal > 0
    scale = np.sqrt(np.where(live, diagonal, 1.0))
    b = np.where(live, right / scale, 0.0)
    unit = np.where(live, scale, 0.0)
    unit /= max(np.linalg.norm(unit), 1e-300)
    b = b - (b @ unit)[:, None] * unit
    x, r = np.zeros_like(b), b
    d, size = r, np.einsum("kw,kw->k", r, r)
    goal = tolerance**2 * np.maximum(size, 1e-300)
    for _ in range(20 * len(scale) + 50):
        if (size <= goal).all():
            break
        v = np.where(live, d / scale, 0.0)
        image = np.where(live, d - state.curvature(v) / scale, 0.0)
        bend = np.einsum("kw,kw->k", d, image)
        step = np.where((bend > 0) & (size > goal), size / np.maximum(bend, 1e-300), 0.0)
        x, r = x + step[:, None] * d, r - step[:, None] * image
        if not step.any():
            break
        new = np.einsum("kw,kw->k", r, r)
        d = r + (new / np.maximum(size, 1e-300))[:, None] * d
        size = new
    return np.where(live, x / scale, 0.0)


def efficient_information(state: _State) -> tuple[Array, Array, float]:
    """Information of theta once the effects have had their share, the destination parts (p, W), and the share left.

    The share is the least, over directions of theta, of the variance of the columns that the effects do not explain.
    """
    expected = state.expected_into()
    _, cross, own, _ = state.blocks()
    solved = _conjugate_gradients(state, expected, cross, 1e-11)
    left = own - cross @ solved.T
    fitted = state.flows.to_distance(state.kernel, state.effect, state.mass)
    means = state.columns @ fitted / fitted.sum()
    plain = (state.columns * fitted) @ state.columns.T - fitted.sum() * np.outer(means, means)
    scale = np.sqrt(np.maximum(np.diag(plain), 1e-300))
    left_unit, plain_unit = left / np.outer(scale, scale), plain / np.outer(scale, scale)
    shares = np.linalg.eigvals(np.linalg.solve(plain_unit + 1e-12 * np.eye(len(scale)), left_unit)).real
    return left, solved, float(max(shares.min(), 0.0)) if len(scale) else 1.0


def _summary(state: _State, converged: bool) -> Poisson:
    flows, p = state.flows, len(state.theta)
    left, solved, share = efficient_information(state) if p else (np.zeros((0, 0)), np.zeros((0, 0)), 1.0)
    scores = np.zeros((flows.clusters, p))
    for k in range(p):
        kernel = flows.spread(np.exp(state.log_g) * state.columns[k])
        with_b = flows.to_origin(state.kernel, (state.mass * solved[k])[None])[0]
        a = (state.effect * flows.to_origin(kernel, state.mass[None])[0] - state.effect * with_b) * state.per_out
        model = (
            flows.to_cluster(kernel, state.effect, state.mass)
            - flows.to_cluster(state.kernel, state.effect * a, state.mass)
            - flows.to_cluster(state.kernel, state.effect, state.mass * solved[k])
        )
        scores[:, k] = flows.flow_to_cluster(state.columns[k], a, solved[k]) - model
    with np.errstate(divide="ignore"):
        log_effect = np.where(state.effect > 0, np.log(state.effect), 0.0)
        log_mass = np.where(state.mass > 0, np.log(state.mass), 0.0)
    fitted = state.out @ log_effect + state.into @ log_mass + state.at_distance @ state.log_g
    deviance = 2 * (flows.flow_log_flow - float(fitted))
    return Poisson(state.theta, state.mass, deviance, left, share, scores, converged)


def distance_share(flows: Flows, columns: Columns, theta: Array) -> float:
    """Share of the distance columns' variance that effects leave over, on the bare support (all pairs alike)."""
    sums = flows.by_origin(), flows.by_destination(), flows.by_distance()
    flat = np.zeros(len(flows.distances)), columns(theta)[1]
    state = _State(flows, sums, lambda t: flat, np.where(sums[1] > 0, 1.0, 0.0), theta)
    return efficient_information(state)[2]
