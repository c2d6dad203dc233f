"""Fitting decay laws: to curves, to counts, to flows between places. Knows nothing of models or texts.

    fit_curve, fit_curves, compare_curves    y against x by least squares
    fit_counts, compare_counts               a distribution, by maximum likelihood
"""

from agf_core.fitting.compare import akaike_weights, compare_curves, compare_series, score_holdout
from agf_core.fitting.curves import fit_curve, fit_curves
from agf_core.fitting.laws import LAWS
from agf_core.fitting.results import CurveFit, CurveFits

__all__ = [
    "LAWS", "CurveFit", "CurveFits", "akaike_weights", "compare_curves", "compare_series", "fit_curve", "fit_curves",
    "score_holdout",
]
