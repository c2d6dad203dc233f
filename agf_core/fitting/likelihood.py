"""Maximum likelihood in one or two dimensions, and profile bounds: for histograms, where one evaluation of the cost
takes the number of bins.

Damped Newton steps with numerical derivatives; Nelder-Mead only where they fail. A profile follows the one other
coordinate with Brent's method, which no curved ridge can trap. Source: standard; the arrangement is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from agf_core.fitting.laws import Array

Cost = Callable[[Array], float]
OUTSIDE = 1e12  # a cost for where the law does not exist: Brent's method needs numbers
STEP = 1e-4  # of the numerical derivatives, in coordinates of order one


@dataclass(frozen=True)
class Optimum:
    """theta (p,), the cost there, whether nothing is left to gain there, and whether a direction there is flat."""

    theta: Array
    cost: float
    converged: bool
    flat: bool = False


def derivatives(cost: Cost, theta: Array, step: Array) -> tuple[Array, Array]:
    """Central differences: gradient (p,) and Hessian (p, p); not finite where the cost is infinite nearby."""
    size = len(theta)
    gradient, hessian = np.zeros(size), np.zeros((size, size))
    here = cost(theta)
    unit = np.diag(step)
    for i in range(size):
        up, down = cost(theta + unit[i]), cost(theta - unit[i])
        with np.errstate(invalid="ignore"):
            gradient[i] = (up - down) / (2 * step[i])
            hessian[i, i] = (up - 2 * here + down) / step[i] ** 2
            for j in range(i):
                both = cost(theta + unit[i] + unit[j]) + cost(theta - unit[i] - unit[j])
                cross = cost(theta + unit[i] - unit[j]) + cost(theta - unit[i] + unit[j])
                hessian[i, j] = hessian[j, i] = (both - cross) / (4 * step[i] * step[j])
    return gradient, hessian


def minimise_cost(cost: Cost, guesses: list[Array], low: Array, high: Array) -> Optimum:
    """The lowest of the optima reached from the guesses. `cost` is a mean, of order one; it may return inf or nan."""

    def boxed(theta: Array) -> float:
        if ((theta < low) | (theta > high)).any():
            return np.inf
        value = cost(theta)
        return value if np.isfinite(value) else np.inf

    found = [_newton(boxed, np.clip(guess, low + 1e-3, high - 1e-3)) for guess in guesses]
    best = min(found, key=lambda f: f.cost)
    if best.converged:
        return best
    rough = optimize.minimize(
        boxed, best.theta, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-13, "maxfev": 600}
    )
    return min(_newton(boxed, rough.x), best, key=lambda f: f.cost)


def _newton(cost: Cost, theta: Array) -> Optimum:
    value, damping = cost(theta), 0.0
    if not np.isfinite(value):
        return Optimum(theta, np.inf, False)
    for _ in range(60):
        step = STEP * np.maximum(1.0, np.abs(theta))
        gradient, hessian = derivatives(cost, theta, step)
        if not np.isfinite(hessian).all() or not np.isfinite(gradient).all():
            return Optimum(theta, value, False)
        least = np.linalg.eigvalsh(hessian).min()
        while True:
            matrix = hessian + max(damping, 1e-6 - least) * np.eye(len(theta)) if damping or least <= 0 else hessian
            move = -np.linalg.solve(matrix, gradient)
            new = cost(theta + move)
            if new <= value or damping > 1e8:
                break
            damping = max(10 * damping, 1e-4 * max(np.abs(np.diag(hessian)).max(), 1e-6))
        promised = -float(gradient @ move)
        if new <= value:
            theta, value, damping = theta + move, new, damping / 10 if damping > 1e-6 else 0.0
        # 1e-13 of a mean cost is far below the rise that bounds an interval, even for a million samples.
        if promised < 1e-13 * max(1.0, abs(value)) or damping > 1e8:
            return Optimum(theta, value, promised < 1e-9, bool(least < 1e-6))
    return Optimum(theta, value, False)


def profile_bounds(
    cost: Cost, theta: Array, least: float, index: int, rise: float, low: Array, high: Array,
) -> tuple[float, float]:
    """Where the cost, minimised over the other coordinate, is `least` + rise: low, high; infinite if nowhere.

    theta (p,) is the optimum with cost `least`, p one or two; low, high (p,) the box.
    """
    step = STEP * np.maximum(1.0, np.abs(theta))
    _, hessian = derivatives(cost, theta, step)
    if not np.isfinite(hessian).all():
        return np.nan, np.nan
    curvature = hessian[index, index]
    if len(theta) == 2 and hessian[1 - index, 1 - index] > 0:
        curvature -= hessian[0, 1] ** 2 / hessian[1 - index, 1 - index]
    unit = np.sqrt(2 * rise / curvature) if curvature > 0 else 0.1
    low_end = _end(cost, theta, least, index, rise, -min(unit, 1.0), low[index] - theta[index], low, high)
    high_end = _end(cost, theta, least, index, rise, min(unit, 1.0), high[index] - theta[index], low, high)
    return theta[index] + low_end, theta[index] + high_end


def _end(
    cost: Cost, theta: Array, least: float, index: int, rise: float, first: float, room: float, low: Array, high: Array,
) -> float:
    """Signed distance from theta[index] at which the profile has risen; infinite if it has not at the box's edge."""
    known = {0.0: theta[1 - index]} if len(theta) == 2 else {}

    def excess(distance: float) -> float:
        at = theta.copy()
        at[index] += distance
        value = _other(cost, at, index, known, distance, low, high) if known else cost(at)
        # The root of the rise is nearly linear in the distance, which root finding likes.
        return float(np.sqrt(max(value - least, 0.0) / rise) - 1) if np.isfinite(value) else 1e3

    near, inside, far = 0.0, -1.0, first if abs(first) < abs(room) else room
    while (outside := excess(far)) < 0:
        if far == room:
            return float(np.sign(first) * np.inf)
        near, inside, far = far, outside, far * min(max(1.1 / (outside + 1 + 1e-9), 1.2), 3.0)
        far = far if abs(far) < abs(room) else room
    at = far
    for _ in range(40):
        fraction = min(max(inside / (inside - outside), 0.02), 0.98)
        at = near + fraction * (far - near)
        value = excess(at)
        if abs(value) < 1e-5 or abs(far - near) < 1e-9 * abs(far):
            break
        near, inside, far, outside = (at, value, far, outside) if value < 0 else (near, inside, at, value)
    return at


def _other(
    cost: Cost, at: Array, index: int, known: dict[float, float], distance: float, low: Array, high: Array,
) -> float:
    """The cost minimised over the other coordinate, from where it was at the nearest distance looked at so far."""
    other = 1 - index
    nearest = sorted(known, key=lambda d: abs(d - distance))[:2]
    start = known[nearest[0]]
    if len(nearest) == 2:
        slope = (known[nearest[1]] - start) / (nearest[1] - nearest[0])
        start = start + slope * (distance - nearest[0])
    start = float(np.clip(start, low[other] + 1e-6, high[other] - 1e-6))

    def along(v: float) -> float:
        if not low[other] <= v <= high[other]:
            return OUTSIDE
        full = at.copy()
        full[other] = v
        value = cost(full)
        return value if np.isfinite(value) else OUTSIDE

    span = 0.02 * max(1.0, abs(start))
    found = optimize.minimize_scalar(along, bracket=(start, start + span), method="brent", options={"xtol": 1e-6})
    known[distance] = float(found.x)
    return float(found.fun)
