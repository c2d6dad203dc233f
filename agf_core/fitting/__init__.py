"""Fitting decay laws: to curves, to counts, to flows between places. Knows nothing of models or texts.

- y against x by least squares: `fit_curve`, `fit_curves` (many series), `compare_curves`, `score_holdout`
- a distribution by maximum likelihood: `fit_counts`, `compare_counts`, `likelihood_ratio`, `goodness_of_fit`
- flows between places: `fit_gravity`, `compare_gravity`, `stream_gravity` (many heads of attention, text by text)
- learning and forgetting: `fit_loss`, `compare_forgetting`, `fsrs_retention`, `GammaMixture`
"""

from agf_core.fitting.compare import akaike_weights, compare_curves, compare_series, score_holdout
from agf_core.fitting.count_compare import Goodness, Ratio, compare_counts, goodness_of_fit, likelihood_ratio
from agf_core.fitting.count_laws import COUNT_LAWS
from agf_core.fitting.counts import CountFit, fit_counts
from agf_core.fitting.curves import fit_curve, fit_curves
from agf_core.fitting.gravity import GRAVITY_LAWS, compare_gravity, fit_gravity, stream_gravity
from agf_core.fitting.gravity_result import GravityFit
from agf_core.fitting.laws import LAWS
from agf_core.fitting.learning import (
    GammaMixture,
    compare_forgetting,
    compare_loss,
    ebbinghaus,
    fit_gamma_mixture,
    fit_loss,
    fsrs_retention,
    fsrs_to_shifted_power,
    shifted_power_to_fsrs,
)
from agf_core.fitting.results import CurveFit, CurveFits

__all__ = [
    "COUNT_LAWS", "GRAVITY_LAWS", "LAWS", "CountFit", "CurveFit", "CurveFits", "GammaMixture", "Goodness", "GravityFit",
    "Ratio", "akaike_weights", "compare_counts", "compare_curves", "compare_forgetting", "compare_gravity",
    "compare_loss", "compare_series", "ebbinghaus", "fit_counts", "fit_curve", "fit_curves", "fit_gamma_mixture",
    "fit_gravity", "fit_loss", "fsrs_retention", "fsrs_to_shifted_power", "goodness_of_fit", "likelihood_ratio",
    "score_holdout", "shifted_power_to_fsrs", "stream_gravity",
]  # fmt: skip
