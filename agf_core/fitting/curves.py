"""Fit decay laws to curves: one series, or many that share x.

Weighted least squares in log space (multiplicative errors; the default) or linear space (additive errors). Intervals
are profile-likelihood ones at 95 %, R² and AICc belong to the space of the fit. Source: ours; AICc after Hurvich &
Tsai 1989; profile intervals after Venzon & Moolgavkar 1988.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from agf_core.fitting.laws import LAWS, Array
from agf_core.fitting.leastsquares import Problem, minimise, starts
from agf_core.fitting.profile import profile
from agf_core.fitting.results import CurveFit, CurveFits
from agf_core.fitting.validate import check_curves

LEVEL = 0.95
# A residual below this fraction of the data's own spread is rounding, not evidence: it bounds AICc on exact data.
ROUNDING = 1e-10
# A spread below this fraction of the level is rounding: the series is constant.
CONSTANT = 1e-12
CHUNK = 500


def fit_curve(
    x: ArrayLike, y: ArrayLike, law: str, sigma: ArrayLike | None = None, *, space: str = "log",
    asymptote: bool = False, absolute_sigma: bool = False, intervals: bool = True,
) -> CurveFit:
    """Fit one law to one series by weighted least squares; exponent > 0 is decay.

    Args:
        x, y: (n,), finite; x > 0 (>= 0 for laws defined there), y > 0 in log space.
        law: one of `LAWS`.
        sigma: (n,) or a number: standard errors of y in units of y; in log space they become sigma / y. By default
            only their ratios count and the residuals set the scale; `absolute_sigma=True` takes them literally.
        space: "log" (errors proportional to y) or "linear".
        asymptote: add a constant that the curve falls to (>= 0 in log space).
        intervals: False skips the profile intervals (they become nan).

    Raises ValueError on unknown names, wrong shapes, nan, too few points, values that the space or law cannot take.
    A constant series or an estimate at the edge of its range comes back with `flags` and `ok` False.
    """
    y = np.asarray(y, dtype=float)
    if y.ndim != 1:
        raise ValueError(f"y must be one series of shape (n,), not {y.shape}; use fit_curves for many series")
    sigmas = None if sigma is None else np.broadcast_to(np.asarray(sigma, dtype=float), y.shape)[None]
    check_curves(x, y[None], law, sigmas, space=space, asymptote=asymptote, strict=True)
    fits = fit_curves(
        x, y[None], law, sigmas,
        space=space, asymptote=asymptote, absolute_sigma=absolute_sigma, intervals=intervals,
    )
    return fits[0]


def fit_curves(
    x: ArrayLike, y: ArrayLike, law: str, sigma: ArrayLike | None = None, *, space: str = "log",
    asymptote: bool = False, absolute_sigma: bool = False, intervals: bool = True,
) -> CurveFits:
    """`fit_curve` for S series that share x: x (n,), y (S, n), sigma (n,) or (S, n). All series in one batch.

    A series that cannot be fitted (nan, non-positive in log space) does not stop the others: its numbers are nan and
    its flags say why. Errors that concern all series are raised as in `fit_curve`.
    """
    x, y, sigma, bad = check_curves(x, y, law, sigma, space=space, asymptote=asymptote, strict=False)
    good = np.array([b is None for b in bad])
    problem = _problem(x, y, law, sigma, good, space == "log", asymptote)
    parts = [_best(problem.take(chunk)) for chunk in _chunks(np.arange(len(y)))]
    theta, square, converged = (np.concatenate(part) for part in zip(*parts, strict=True))
    total, level = _spread(problem)
    constant = total <= CONSTANT**2 * level
    freedom = len(x) - problem.size
    variance = np.ones(len(y)) if absolute_sigma else square / freedom
    covariance = _covariance(problem, theta) * variance[:, None, None]
    quantile = float(stats.norm.ppf(0.5 + LEVEL / 2) if absolute_sigma else stats.t.ppf(0.5 + LEVEL / 2, freedom))
    h, gradient = problem.readouts(theta)
    low, high = np.full_like(h, np.nan), np.full_like(h, np.nan)
    if intervals:
        exact = square <= ROUNDING**2 * total
        low[exact] = high[exact] = h[exact]
        todo = np.flatnonzero(good & ~constant & ~exact)
        reach = quantile * np.sqrt(np.maximum(np.einsum("sja,sab,sjb->sj", gradient, covariance, gradient), 0.0))
        for s in _chunks(todo):
            low[s], high[s] = profile(problem.take(s), theta[s], square[s], quantile**2 * variance[s], reach[s])
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(constant, np.nan, 1 - square / total)
        aicc = _aicc(np.maximum(square, ROUNDING**2 * total), len(x), problem.size, absolute_sigma)
    aicc = np.where(constant, np.nan, aicc)
    params, lows, highs = _written(problem, h, low, high)
    for name, values in params.items():  # a constant series decays with exponent 0; it has no scale, shape and the like
        decay = name in ("exponent", "exponent2", "rate")
        values[constant] = 0.0 if decay else y.mean(axis=1)[constant] if name == "amplitude" else np.nan
        lows[name][constant] = highs[name][constant] = np.nan
    for values in (*params.values(), *lows.values(), *highs.values(), r2, aicc, square, theta):
        values[~good] = np.nan
    theta[constant & (y.mean(axis=1) <= 0)] = np.nan  # no positive amplitude passes there: no curve to predict from
    flags = tuple(
        (reason,) if reason is not None else _flags(problem, theta[s], bool(converged[s]), bool(constant[s]))
        for s, reason in enumerate(bad)
    )
    return CurveFits(
        law, params, lows, highs, r2, aicc, len(x), space, square, flags, problem, theta, covariance, quantile
    )


def _chunks(series: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """At most CHUNK series at a time: a batch of tens of thousands would need gigabytes and be no faster."""
    return [series[i : i + CHUNK] for i in range(0, len(series), CHUNK)]


def _problem(
    x: Array, y: Array, law: str, sigma: Array | None, good: NDArray[np.bool_], log_space: bool, asymptote: bool,
) -> Problem:
    """The batch in fitted coordinates; unfittable series get a fittable stand-in, their numbers are blanked later."""
    log_mean = float(np.log(x[x > 0]).mean())
    safe = np.where(good[:, None], y, 1.0 + np.arange(len(x)))
    errors = np.ones(y.shape) if sigma is None else sigma / safe if log_space else sigma
    root = np.where(good[:, None], 1.0 / errors, 1.0)
    target = np.log(safe) if log_space else safe
    return Problem(LAWS[law], x / np.exp(log_mean), log_mean, target, root, log_space, asymptote)


def _best(problem: Problem) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The best of several starts per series: theta (S, p), sum of squares (S,), converged (S,)."""
    linear = problem.log_space and not problem.asymptote and problem.law.slope is None
    begin = starts(problem, 1 if linear else 4)  # (S, K, p)
    series, count, size = begin.shape
    rows = np.repeat(np.arange(series), count)
    theta, square, converged = minimise(problem, rows, begin.reshape(-1, size))
    pick = np.arange(series) * count + square.reshape(series, count).argmin(axis=1)
    return theta[pick], square[pick], converged[pick]


def _spread(problem: Problem) -> tuple[Array, Array]:
    """Weighted sums of squares about the mean and about zero, (S,) each."""
    weight = problem.root_weight**2
    mean = (weight * problem.y).sum(1) / weight.sum(1)
    total: Array = (weight * (problem.y - mean[:, None]) ** 2).sum(1)
    size = np.exp(problem.y) if problem.log_space else problem.y
    # In log space a spread is already relative to the level.
    level: Array = weight.sum(1) if problem.log_space else (weight * size**2).sum(1)
    return total, level


def _covariance(problem: Problem, theta: Array) -> Array:
    """Inverse Gauss-Newton matrices (S, p, p); zero for coordinates held at an edge of their range."""
    _, jac = problem.model(theta)
    jac = jac * problem.root_weight[:, None]
    hessian = np.matmul(jac, jac.transpose(0, 2, 1))
    lower, upper = problem.bounds()
    scale = np.sqrt(np.einsum("sii->si", hessian))
    free = (theta > lower) & (theta < upper) & (scale > 0)
    scale = np.where(free, scale, 1.0)
    both = free[:, :, None] & free[:, None]
    unit = np.where(both, hessian / (scale[:, :, None] * scale[:, None]), 0.0)
    inverse: Array = np.linalg.pinv(unit, rcond=1e-13, hermitian=True) / (scale[:, :, None] * scale[:, None])
    return np.where(both, inverse, 0.0)


def _aicc(square: Array, n: int, size: int, absolute: bool) -> Array:
    """AICc up to a constant shared by all laws on the same data; inf where n is too small for the correction."""
    k = size if absolute else size + 1  # the residual variance is a parameter too
    fit = square if absolute else n * np.log(square / n)
    if n - k - 1 <= 0:
        return np.full_like(square, np.inf)
    corrected: Array = fit + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    return corrected


def _written(problem: Problem, h: Array, low: Array, high: Array) -> tuple[dict[str, Array], ...]:
    """From the profiling scale to the written parameters: values, lower and upper bounds by name."""
    params, lows, highs = {}, {}, {}
    for j, readout in enumerate(problem.law.readouts):
        ends = []
        for bound, side in ((low[:, j], 0), (high[:, j], 1)):
            finite = np.where(np.isfinite(bound), bound, h[:, j])
            ends.append(np.where(np.isinf(bound), readout.open[side], readout.natural(finite, problem.log_mean)))
            ends[-1][np.isnan(bound)] = np.nan
        params[readout.name] = readout.natural(h[:, j], problem.log_mean).copy()
        lows[readout.name], highs[readout.name] = np.minimum(*ends), np.maximum(*ends)
    if problem.asymptote:
        floor = 0.0 if problem.log_space else -np.inf
        params["asymptote"] = h[:, -1].copy()
        lows["asymptote"], highs["asymptote"] = np.maximum(low[:, -1], floor), high[:, -1].copy()
    return params, lows, highs


def _flags(problem: Problem, theta: Array, converged: bool, constant: bool) -> tuple[str, ...]:
    if constant:
        return ("constant series: the decay is 0, R² is not defined and no law can be preferred",)
    flags = [] if converged else ["the optimum was not reached; do not use these numbers"]
    if len(problem.u) - problem.size - 2 <= 0:
        flags.append(f"only {len(problem.u)} points for {problem.size} parameters: AICc is not defined (infinite)")
    lower, upper = problem.bounds()
    edge = (theta <= lower) | (theta >= upper)
    if problem.asymptote and problem.log_space:
        edge[-1] = False  # no floor at all is an answer, not a failure
    if edge.any():
        flags.append("estimate at the edge of its range: the data prefer a limiting law (parameters not separate)")
    return tuple(flags)
