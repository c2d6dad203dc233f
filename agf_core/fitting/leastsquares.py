"""Weighted least squares for many series at once: one batched Levenberg-Marquardt loop.

All series share x. A *task* is one (series, start) pair or, when profiling, one (series, parameter, side): rows of the
same batch, so 144 heads cost little more than one. Starts come from a grid over the one nonlinear coordinate, where
the others follow by linear regression; no start is typed by the user. Source: ours; the algorithm is Marquardt 1963.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agf_core.fitting.laws import Array, CurveLaw

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """Series to fit by one law. u (n,) = x / e^log_mean; y, root_weight (S, n), both in units of the fitted space."""

    law: CurveLaw
    u: Array
    log_mean: float
    y: Array
    root_weight: Array
    log_space: bool
    asymptote: bool

    def take(self, keep: Rows) -> Problem:
        """The same problem for some of its series."""
        return replace(self, y=self.y[keep], root_weight=self.root_weight[keep])

    @property
    def size(self) -> int:
        """Number p of fitted coordinates, with the asymptote."""
        return self.law.size + self.asymptote

    def model(self, theta: Array) -> tuple[Array, Array]:
        """theta (T, p) -> fitted values (T, n) in the fitted space and their derivatives (T, p, n)."""
        q = len(self.law.lower)
        psi = theta[:, 1 + q] if self.law.slope else theta[:, 0]
        basis = self.law.basis(self.u, psi)
        log_curve = theta[:, :1] + np.matmul(theta[:, None, 1 : 1 + q], basis)[:, 0]
        jac = np.empty((len(theta), self.size, log_curve.shape[1]))
        jac[:, 0] = 1.0
        jac[:, 1 : 1 + q] = basis
        if self.law.slope:
            jac[:, 1 + q] = np.matmul(theta[:, None, 1 : 1 + q], self.law.slope(self.u, psi))[:, 0]
        if self.log_space and not self.asymptote:
            return log_curve, jac
        curve = np.exp(np.clip(log_curve, -700, 150))
        parts = self.size - self.asymptote
        if not self.log_space:
            jac[:, :parts] *= curve[:, None]
            jac[:, parts:] = 1.0
            return curve + (theta[:, -1:] if self.asymptote else 0.0), jac
        total = np.maximum(curve + theta[:, -1:], 1e-300)
        jac[:, :parts] *= (curve / total)[:, None]
        jac[:, parts] = 1.0 / total
        return np.log(total), jac

    def curve(self, x: Array, theta: Array) -> Array:
        """The curves of theta (T, p) at x (m,), in units of y: (T, m). Exact where an amplitude would overflow."""
        fitted, _ = replace(self, u=x * np.exp(-self.log_mean)).model(theta)
        return np.exp(fitted) if self.log_space else fitted

    def bounds(self) -> tuple[Array, Array]:
        """Box of the coordinates, (p,) each. In log space the asymptote is a floor: not below zero."""
        ends = [(-np.inf, np.inf), *zip(self.law.lower, self.law.upper, strict=True)]
        if self.law.psi_range:
            ends.append(self.law.psi_range(self.u))
        if self.asymptote:
            ends.append((0.0 if self.log_space else -np.inf, np.inf))
        lower, upper = np.array(ends).T
        return lower, upper

    def readouts(self, theta: Array) -> tuple[Array, Array]:
        """The written parameters on their profiling scale (T, P), and derivatives (T, P, p)."""
        values, grad = self.law.read(theta, self.log_mean)
        if self.asymptote:
            floor = np.zeros((len(theta), 1, self.size))
            floor[:, :, -1] = 1.0
            values, grad = np.append(values, theta[:, -1:], axis=1), np.append(grad, floor, axis=1)
        return values, grad

    @property
    def count(self) -> int:
        """Number P of written parameters."""
        return len(self.law.readouts) + self.asymptote


@dataclass(frozen=True)
class Penalty:
    """Holds one written parameter of every task near a target: weight (T,) times its squared deviation is added."""

    which: Rows
    target: Array
    weight: Array

    def take(self, keep: Rows) -> Penalty:
        return Penalty(self.which[keep], self.target[keep], self.weight[keep])


def _cost(problem: Problem, rows: Rows, theta: Array, penalty: Penalty | None) -> tuple[Array, Array, Array, Array]:
    """Sum of squares without the penalty, the whole cost, its half gradient (T, p), its Gauss-Newton Hessian."""
    # A trial far out may overflow: its cost is then not finite and it is not accepted.
    with np.errstate(over="ignore", invalid="ignore"):
        fitted, jac = problem.model(theta)
        residual = (fitted - problem.y[rows]) * problem.root_weight[rows]
        jac *= problem.root_weight[rows][:, None]
        gradient = np.matmul(jac, residual[:, :, None])[:, :, 0]
        hessian = np.matmul(jac, jac.transpose(0, 2, 1))
        total = square = np.einsum("tn,tn->t", residual, residual)
    if penalty is not None:
        values, grads = problem.readouts(theta)
        index = np.arange(len(theta))
        miss, grad = values[index, penalty.which] - penalty.target, grads[index, penalty.which]
        total = square + penalty.weight * miss**2
        gradient = gradient + (penalty.weight * miss)[:, None] * grad
        hessian = hessian + penalty.weight[:, None, None] * grad[:, :, None] * grad[:, None]
    return square, total, gradient, hessian


def solve(hessian: Array, gradient: Array, frozen: NDArray[np.bool_], damping: Array) -> Array:
    """Damped Newton step (T, p) with frozen coordinates left alone; scaled, so that units of y and x don't matter."""
    size = hessian.shape[1]
    scale = np.sqrt(np.einsum("tii->ti", hessian))
    # A direction without any effect on the fit stays where it is.
    frozen = frozen | (scale < 1e-150)
    scale = np.where(frozen, 1.0, scale)
    matrix = hessian / (scale[:, :, None] * scale[:, None])
    matrix = np.where(frozen[:, :, None] | frozen[:, None], 0.0, matrix)
    diagonal = np.where(frozen, 1.0, 1.0 + damping[:, None] + 1e-13)
    matrix[:, np.arange(size), np.arange(size)] = diagonal
    right = np.where(frozen, 0.0, -gradient / scale)
    return np.linalg.solve(matrix, right[:, :, None])[:, :, 0] / scale


def minimise(
    problem: Problem, rows: Rows, theta: Array, penalty: Penalty | None = None, *, tolerance: float = 1e-11,
    iterations: int = 200,
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Least squares from theta (T, p) for the series rows (T,): theta, sum of squares (T,), converged (T,)."""
    lower, upper = problem.bounds()
    best = np.clip(theta, lower, upper)
    square, total, gradient, hessian = _cost(problem, rows, best, penalty)
    damping = np.full(len(best), 1e-8)
    converged = np.zeros(len(best), dtype=bool)
    active = np.arange(len(best))
    rounding = 1e-28 * np.einsum("tn,tn->t", problem.root_weight[rows] ** 2, 1.0 + problem.y[rows] ** 2)
    for _ in range(iterations):
        at = best[active]
        out = ((at <= lower) & (gradient[active] > 0)) | ((at >= upper) & (gradient[active] < 0))
        step = solve(hessian[active], gradient[active], out, damping[active])
        trial = np.clip(at + step, lower, upper)
        held = penalty.take(active) if penalty is not None else None
        new_square, new_total, new_gradient, new_hessian = _cost(problem, rows[active], trial, held)
        promised = -np.einsum("tp,tp->t", gradient[active], step)
        accept = new_total <= total[active]
        moved, stuck = active[accept], active[~accept]
        best[moved], square[moved], total[moved] = trial[accept], new_square[accept], new_total[accept]
        gradient[moved], hessian[moved] = new_gradient[accept], new_hessian[accept]
        damping[moved] = np.maximum(damping[moved] * 0.1, 1e-12)
        damping[stuck] = np.maximum(damping[stuck] * 10, 1e-6)
        # Nothing left to gain, or (at a kink, or at rounding) nothing gained however short the step.
        small = (promised <= tolerance * total[active]) | (damping[active] > 1e10) | (total[active] <= rounding[active])
        converged[active[small]] = True
        active = active[~small]
        if not len(active):
            break
    return best, square, converged


def starts(problem: Problem, count: int) -> Array:
    """The `count` best grid starts of every series: (S, count, p), by regression at each grid point."""
    law, q = problem.law, len(problem.law.lower)
    low, high = problem.bounds()
    grid = np.linspace(low[1 + q], high[1 + q], 41) if law.slope else np.zeros(1)
    basis = np.broadcast_to(law.basis(problem.u, grid), (len(grid), q, len(problem.u)))
    design = np.concatenate([np.ones((len(grid), 1, len(problem.u))), basis], axis=1)  # (G, 1 + q, n)
    pairs = np.einsum("gan,gbn->ngab", design, design).reshape(len(problem.u), -1)
    found, costs = [], []
    for floor in _floors(problem):
        log_y, weight = _logarithms(problem, floor)
        gram = (weight @ pairs).reshape(-1, len(grid), 1 + q, 1 + q)
        moment = np.einsum("sn,gan->sga", weight * log_y, design)
        ridge = 1e-10 * np.einsum("sgaa->sg", gram) + 1e-280  # never singular, even if every weight is zero
        gram = gram + ridge[..., None, None] * np.eye(1 + q)
        theta = np.linalg.solve(gram, moment[..., None])[..., 0]
        theta[..., 1:] = np.clip(theta[..., 1:], low[1 : 1 + q], high[1 : 1 + q])
        # The level again, since clipping the coefficients moves the curve.
        curve = np.einsum("sga,gan->sgn", theta[..., 1:], basis)
        theta[..., 0] = ((log_y[:, None] - curve) * weight[:, None]).sum(-1) / (weight.sum(-1)[:, None] + 1e-280)
        more = [grid[None, :, None]] * (law.slope is not None) + [floor[:, None, None]] * problem.asymptote
        full = np.concatenate([theta, *(np.broadcast_to(m, (*theta.shape[:2], 1)) for m in more)], axis=-1)
        rows = np.repeat(np.arange(len(problem.y)), len(grid))
        fitted, _ = problem.model(full.reshape(-1, problem.size))
        residual = (fitted - problem.y[rows]) * problem.root_weight[rows]
        found.append(full)
        costs.append((residual**2).sum(-1).reshape(full.shape[:2]))
    cost, theta = np.concatenate(costs, axis=1), np.concatenate(found, axis=1)
    cost = np.where(np.isfinite(cost), cost, np.inf)
    order = np.argsort(cost, axis=1)[:, :count]
    return np.take_along_axis(theta, order[:, :, None], axis=1)


def _floors(problem: Problem) -> list[Array]:
    """Trial asymptotes (S,) each: 0 alone without an asymptote."""
    if not problem.asymptote:
        return [np.zeros(len(problem.y))]
    y = np.exp(problem.y) if problem.log_space else problem.y
    smallest, spread = y.min(axis=1), np.ptp(y, axis=1)
    if problem.log_space:
        return [f * smallest for f in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 0.99)]
    return [smallest - f * spread for f in (1.0, 0.3, 0.1, 0.03, 0.003, -0.05, -0.2)]


def _logarithms(problem: Problem, floor: Array) -> tuple[Array, Array]:
    """log(y - floor) and the weights under which its regression mimics the fit in the problem's own space."""
    if problem.log_space and not problem.asymptote:
        return problem.y, problem.root_weight**2
    y = np.exp(problem.y) if problem.log_space else problem.y
    above = y - floor[:, None]
    positive = above > 0
    log_y = np.log(np.where(positive, above, 1.0))
    relative = above / y if problem.log_space else above
    return log_y, np.where(positive, (problem.root_weight * relative) ** 2, 0.0)
