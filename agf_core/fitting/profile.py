"""Profile-likelihood intervals for many series at once.

The bound of a parameter is where the best fit with that parameter held fixed is worse than the best fit of all by a
set amount. The signed root of that rise is nearly linear in the parameter, so a bracketed secant on it needs few
refits; where the law is linear in the parameter it needs one. A side on which the rise is never reached is *open*
(infinite): the data cannot exclude the law's limit. Source: Venzon & Moolgavkar 1988 (the definition); method ours.
"""

from __future__ import annotations

import numpy as np

from agf_core.fitting.laws import Array
from agf_core.fitting.leastsquares import Penalty, Problem, minimise

TRIALS = 24
CLOSE = 1e-3  # in the root of the rise; the secant then leaves an error of its square


def profile(problem: Problem, theta: Array, square: Array, rise: Array, reach: Array) -> tuple[Array, Array]:
    """Bounds (S, P) low and high, on the readouts' profiling scale; -inf or inf where a side is open.

    theta (S, p), square (S,): the best fits; rise (S,): increase of the sum of squares at the bounds; reach (S, P):
    the distance of the bounds were the law linear (t times the standard error), the first guess.
    """
    series, count = len(theta), problem.count
    best, _ = problem.readouts(theta)
    which = np.tile(np.repeat(np.arange(count), 2), series)
    rows = np.repeat(np.arange(series), 2 * count)
    side = np.tile(np.array([-1.0, 1.0]), series * count)
    centre, unit = best[rows, which], reach[rows, which]
    # Without a usable guess (a coordinate at its edge) any step will do to begin with.
    unit = np.where(np.isfinite(unit) & (unit > 0), unit, 0.1 * (1 + np.abs(centre)))
    inner, inner_zeta = np.zeros_like(centre), np.zeros_like(centre)  # largest distance known to be inside
    outer, outer_zeta = np.full_like(centre, np.inf), np.full_like(centre, np.inf)
    distance, bound = unit.copy(), side * np.inf
    warm = theta[rows].copy()
    active = np.flatnonzero(np.isfinite(centre) & (rise[rows] > 0))
    for _ in range(TRIALS):
        target = centre[active] + side[active] * distance[active]
        # Stiff enough that the held parameter misses its target by a millionth of its error.
        penalty = Penalty(which[active], target, 1e6 * rise[rows[active]] / unit[active] ** 2)
        trial, cost, _ = minimise(problem, rows[active], warm[active], penalty, tolerance=1e-8, iterations=40)
        reached = problem.readouts(trial)[0][np.arange(len(active)), which[active]]
        gone = (reached - centre[active]) * side[active]
        zeta = np.sqrt(np.maximum(cost - square[rows[active]], 0.0) / rise[rows[active]])
        inside = zeta < 1
        keep_in, keep_out = active[inside], active[~inside]
        inner[keep_in], inner_zeta[keep_in] = gone[inside], zeta[inside]
        outer[keep_out], outer_zeta[keep_out] = gone[~inside], zeta[~inside]
        warm[keep_in] = trial[inside]
        done = np.abs(zeta - 1) < CLOSE
        # Held back by the edge of its range while the fit is still good enough: no bound on this side.
        edge = inside & (gone < 0.9 * distance[active])
        bound[active[done]] = centre[active[done]] + side[active[done]] * gone[done] / zeta[done]
        active = active[~(done | edge)]
        if not len(active):
            break
        distance[active] = _next(inner[active], inner_zeta[active], outer[active], outer_zeta[active])
    tight = active[np.isfinite(outer[active])]
    # A jump of the profile (two local optima) has no root: the bound is the jump.
    bound[tight] = centre[tight] + side[tight] * outer[tight]
    bound = bound.reshape(series, count, 2)
    return bound[:, :, 0], bound[:, :, 1]


def _next(inner: Array, inner_zeta: Array, outer: Array, outer_zeta: Array) -> Array:
    """Next distance to try: secant inside a bracket (kept off its ends), else outwards by at most threefold."""
    growth = np.clip(1.02 / np.maximum(inner_zeta, 1e-9), 1.05, 3.0)
    with np.errstate(invalid="ignore"):
        fraction = np.clip((1 - inner_zeta) / (outer_zeta - inner_zeta), 0.05, 0.95)
        return np.where(np.isfinite(outer), inner + fraction * (outer - inner), inner * growth)
