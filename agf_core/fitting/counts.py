"""Fit decay laws to distributions by maximum likelihood: samples, weighted values, or a histogram.

Source: Clauset, Shalizi & Newman 2009 (SIAM Review 51, 661): the likelihoods, xmin by Kolmogorov-Smirnov distance and
the bootstrap; `powerlaw` (Alstott et al. 2014) is the oracle in the tests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from agf_core.fitting.count_fit import Setting, maximise
from agf_core.fitting.count_laws import COUNT_LAWS
from agf_core.fitting.count_result import CountFit
from agf_core.fitting.histogram import Histogram, histogram
from agf_core.fitting.laws import INF
from agf_core.fitting.validate import check_laws
from agf_core.fitting.xmin import find_xmin


def fit_counts(
    samples: ArrayLike,
    law: str = "power",
    xmin: float | None = None,
    *,
    weights: ArrayLike | None = None,
    xmax: float | None = None,
    discrete: bool = True,
    intervals: bool = True,
) -> CountFit:
    """Fit one law to the tail xmin <= x <= xmax; exponent > 0 is decay.

    Args:
        samples: (n,) values > 0, whole numbers if discrete; with `weights` (n,) a histogram: value i counts weights[i]
            times. Intervals take the weights as numbers of independent observations.
        law: one of `COUNT_LAWS`.
        xmin: where the law begins. None: for "power" the value of smallest Kolmogorov-Smirnov distance, for other laws
            the smallest sample.
        xmax: a known maximum of the *possible* values (not just of the sample): the law ends there. Values above it are
            left out. None: the law goes on for ever.
        discrete: whole numbers (sums) or real ones (integrals).
        intervals: False skips the profile-likelihood intervals (they become nan).

    Raises ValueError on unknown laws, values that are not positive or not whole, an xmin beyond the data, too few
    values. An optimum that was not reached or lies at the edge of its range is flagged.
    """
    check_laws(law, COUNT_LAWS)
    data = histogram(samples, weights, discrete)
    return fit_histogram(data, law, xmin, xmax=xmax, discrete=discrete, intervals=intervals)


def fit_histogram(
    data: Histogram, law: str, xmin: float | None, *, xmax: float | None, discrete: bool, intervals: bool = True
) -> CountFit:
    """`fit_counts` on a histogram that has been checked."""
    setting = settle(data, law, xmin, xmax, discrete)
    found = maximise(setting, intervals=intervals)
    names = setting.law.parameters
    flags = []
    if found.edge:
        flags.append("estimate at the edge of its range: the data prefer a limiting law (parameters not separate)")
    elif not found.converged:
        flags.append("the optimum was not reached; do not use these numbers")
    if setting.tail.total < 50:
        flags.append(f"only {setting.tail.total:g} values in the tail: too few to tell laws apart")
    return CountFit(
        law=law,
        params=dict(zip(names, map(float, found.params), strict=True)),
        ci=dict(zip(names, found.bounds, strict=True)),
        xmin=setting.xmin, xmax=setting.xmax, ks=setting.ks(found.params), loglik=found.loglik,
        n_tail=setting.tail.total, n=data.total, discrete=discrete, flags=tuple(flags), setting=setting,
    )


def settle(data: Histogram, law: str, xmin: float | None, xmax: float | None, discrete: bool) -> Setting:
    """Fix the support: check xmin and xmax against the data, search xmin if it is None and the law is a power."""
    end = INF if xmax is None else float(xmax)
    largest, smallest = data.values[-1], data.values[0]
    if not end > smallest:
        raise ValueError(f"xmax = {end:g} is not above the smallest sample {smallest:g}; give a larger xmax or None")
    if xmin is None:
        start = find_xmin(data, end, discrete) if law == "power" else float(smallest)
    else:
        start = float(xmin)
        if not 0 < start < np.inf:
            raise ValueError(f"xmin must be a positive number or None, got {xmin}")
        if discrete and start != np.floor(start):
            raise ValueError(f"xmin must be a whole number for discrete data, got {xmin}")
        if start >= min(largest, end):
            raise ValueError(
                f"xmin = {start:g} is beyond the data: the largest sample (up to xmax) is {min(largest, end):g}; "
                f"give a smaller xmin, or None to search it"
            )
    tail = data.tail(start, end)
    chosen = COUNT_LAWS[law]
    need = len(chosen.parameters) + 1
    if len(tail.values) < need:
        raise ValueError(
            f"too few distinct values: law {law!r} needs at least {need} between xmin = {start:g} and xmax, "
            f"got {len(tail.values)}; give a smaller xmin or more data"
        )
    return Setting(chosen, tail, start, end, discrete)
