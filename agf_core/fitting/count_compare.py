"""Which distribution? Vuong's likelihood-ratio test, information criteria, goodness of fit by parametric bootstrap.

Source: Vuong 1989; Clauset, Shalizi & Newman 2009, sections 4.1 (bootstrap) and 5 (ratios).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from agf_core.fitting.compare import ranked
from agf_core.fitting.count_laws import COUNT_LAWS
from agf_core.fitting.counts import CountFit, fit_histogram, settle
from agf_core.fitting.histogram import histogram
from agf_core.fitting.laws import INF, Array
from agf_core.fitting.validate import check_laws

# (smaller, larger): the larger law contains the smaller one, so that its likelihood cannot be lower.
NESTED = {
    ("power", "power_cutoff"), ("power", "shifted_power"), ("power", "two_regime"), ("exponential", "two_geometric"),
    ("exponential", "power_cutoff"), ("exponential", "shifted_power"),
}


@dataclass(frozen=True)
class Ratio:
    """Vuong's test of two laws on one tail: `value` > 0 prefers the first; p of the null that neither is closer.

    value: the log likelihood ratio over its standard error; total: the plain log likelihood ratio. nested: p is from
    chi-squared with the difference in parameters instead, since Vuong's p does not hold there.
    """

    first: str
    second: str
    value: float
    total: float
    p: float
    nested: bool


def likelihood_ratio(first: CountFit, second: CountFit) -> Ratio:
    """Compare two fits to the same tail (same data, xmin, xmax, discrete); ValueError if they are not."""
    same = (first.xmin, first.xmax, first.n_tail, first.discrete) == (
        second.xmin, second.xmax, second.n_tail, second.discrete
    )
    if not same:
        raise ValueError(
            f"likelihoods can only be compared on the same tail: xmin {first.xmin:g} and {second.xmin:g}, "
            f"n_tail {first.n_tail:g} and {second.n_tail:g}; fit both with the same xmin and xmax"
        )
    tail = first.setting.tail
    each = first.log_mass(tail.values) - second.log_mass(tail.values)
    total, n = float(tail.weight @ each), tail.total
    spread = np.sqrt(tail.weight @ (each - total / n) ** 2 / n)
    value = total / (np.sqrt(n) * spread) if spread > 1e-12 else 0.0
    nested = {(first.law, second.law), (second.law, first.law)} & NESTED
    if nested:
        freedom = abs(len(first.params) - len(second.params))
        p = float(stats.chi2.sf(2 * abs(total), freedom))
    else:
        p = float(special.erfc(abs(value) / np.sqrt(2)))
    return Ratio(first.law, second.law, float(value), total, p, bool(nested))


def compare_counts(
    samples: ArrayLike, laws: Iterable[str] | None = None, xmin: float | None = None, *,
    weights: ArrayLike | None = None, xmax: float | None = None, discrete: bool = True, reference: str = "power",
) -> pd.DataFrame:
    """Fit several laws (all if None) to one and the same tail; one row per law, best AICc first.

    xmin None: the power law's, by Kolmogorov-Smirnov distance. Columns: law, aicc, delta, weight, loglik, ratio
    (Vuong's normalised log likelihood ratio of `reference` over the law: > 0 prefers the reference), p, nested, ks,
    xmin, n_tail, flags, then one column per parameter. Errors as in `fit_counts`.
    """
    names = check_laws(laws, COUNT_LAWS)
    check_laws(reference, COUNT_LAWS)
    data = histogram(samples, weights, discrete)
    start = settle(data, "power", xmin, xmax, discrete).xmin
    fits = {
        law: fit_histogram(data, law, start, xmax=xmax, discrete=discrete, intervals=False)
        for law in dict.fromkeys([*names, reference])
    }
    rows = []
    for law in names:
        fit, ratio = fits[law], likelihood_ratio(fits[reference], fits[law])
        value, p = (ratio.value, ratio.p) if law != reference else (np.nan, np.nan)
        rows.append({
            "law": law, "aicc": fit.aicc, "loglik": fit.loglik, "ratio": value, "p": p, "nested": ratio.nested,
            "ks": fit.ks, "xmin": fit.xmin, "n_tail": fit.n_tail, "flags": "; ".join(fit.flags), **fit.params,
        })  # fmt: skip
    return ranked(rows)


@dataclass(frozen=True)
class Goodness:
    """p: share of synthetic sets that fit no better than the data (small: the law is ruled out).

    ks: the data's distance; simulated (B,): the synthetic sets'.
    """

    p: float
    ks: float
    simulated: Array


def goodness_of_fit(
    samples: ArrayLike, law: str = "power", xmin: float | None = None, *, weights: ArrayLike | None = None,
    xmax: float | None = None, discrete: bool = True, repeats: int = 200, seed: int = 0,
) -> Goodness:
    """Parametric bootstrap of the Kolmogorov-Smirnov distance (Clauset et al. 2009, section 4.1).

    Each synthetic set draws values below xmin from the data and values above it from the fitted law, and is fitted like
    the data, xmin included if it was searched. p has a standard error of at most 1 / (2 sqrt(repeats)). `weights` must
    be whole numbers: counts of samples.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    check_laws(law, COUNT_LAWS)
    data = histogram(samples, weights, discrete)
    if (data.weight != np.round(data.weight)).any():
        raise ValueError("the bootstrap draws samples: weights must be whole numbers of samples")
    fit = fit_histogram(data, law, xmin, xmax=xmax, discrete=discrete, intervals=False)
    rng = np.random.default_rng(seed)
    below = data.tail(0.0, np.nextafter(fit.xmin, 0.0))
    # Values above a known maximum take no part.
    size = int(fit.n_tail + (below.total if len(below.values) else 0))
    simulated = np.empty(repeats)
    for i in range(repeats):
        tail_size = int(rng.binomial(size, fit.n_tail / size))
        tail = fit.sample(tail_size, rng)
        if size > tail_size:
            rest = rng.choice(below.values, size - tail_size, p=below.weight / below.total)
            tail = np.concatenate([tail, rest])
        synthetic = histogram(tail, None, discrete)
        again = fit_histogram(
            synthetic, law, None if xmin is None and law == "power" else fit.xmin,
            xmax=None if fit.xmax == INF else fit.xmax, discrete=discrete, intervals=False,
        )
        simulated[i] = again.ks
    return Goodness(float((simulated >= fit.ks).mean()), fit.ks, simulated)
