"""Learning and forgetting curves: loss against tokens, savings against time, FSRS, and the Gamma mixture.

The curves are the laws of `fit_curve`; this file holds what is specific: which space, whether an asymptote, how FSRS's
parameters translate, and the identity that a population of exponentials with Gamma-distributed rates averages to
*exactly* a shifted power law, which is why averaged curves cannot decide between the two.
Sources: Heathcote, Brown & Mewhort 2000 (averaging); FSRS v4.5 and v6 (open-spaced-repetition); the mixture is the
Laplace transform of the Gamma distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from agf_core.fitting.compare import compare_curves
from agf_core.fitting.curves import fit_curve
from agf_core.fitting.laws import Array
from agf_core.fitting.results import CurveFit

# What a loss or retention curve can sensibly be asked to follow; two regimes and a lognormal need more points.
CURVE_LAWS = ("power", "shifted_power", "exponential", "stretched_exponential")
FSRS_DECAY = 0.5  # v4.5; v6 learns it, about 0.1 to 0.8


def fit_loss(tokens: ArrayLike, loss: ArrayLike, law: str = "power", sigma: ArrayLike | None = None) -> CurveFit:
    """Loss against tokens seen, falling to an asymptote: loss = amplitude · g(tokens) + asymptote, in linear space.

    tokens (n,) > 0; loss (n,) in any unit; sigma as in `fit_curve`. Power is Hoffmann et al.'s B / D^beta + E.
    """
    return fit_curve(tokens, loss, law, sigma, space="linear", asymptote=True)


def compare_loss(tokens: ArrayLike, loss: ArrayLike, sigma: ArrayLike | None = None) -> pd.DataFrame:
    """`compare_curves` of the learning laws with asymptote, in linear space."""
    return compare_curves(tokens, loss, CURVE_LAWS, sigma, space="linear", asymptote=True)


def compare_forgetting(time: ArrayLike, retained: ArrayLike, space: str = "log") -> pd.DataFrame:
    """`compare_curves` of power and exponential on savings or recall against time: best AICc first."""
    return compare_curves(time, retained, ("power", "exponential"), space=space)


def ebbinghaus(minutes: ArrayLike, k: float = 1.84, c: float = 1.25) -> Array:
    """Ebbinghaus's own formula of 1885 for the share saved: k / ((log10 t)^c + k), t > 1 in minutes."""
    t = np.asarray(minutes, dtype=float)
    if (t <= 1).any():
        raise ValueError(f"Ebbinghaus's formula needs t > 1 minute; the smallest is {t.min():g}")
    return k / (np.log10(t) ** c + k)


def fsrs_retention(time: ArrayLike, stability: float, decay: float = FSRS_DECAY) -> Array:
    """FSRS: probability of recall after `time`, in units of `stability` (the time at which it is 90 %).

    R = (1 + f t/S)^-decay with f = 0.9^(-1/decay) - 1 (19/81 for a decay of one half).
    """
    shape = fsrs_to_shifted_power(stability, decay)
    return (1 + np.asarray(time, dtype=float) / shape["scale"]) ** -shape["exponent"]


def fsrs_to_shifted_power(stability: float, decay: float = FSRS_DECAY) -> dict[str, float]:
    """FSRS's (stability, decay) as the exponent and scale of a shifted power law of amplitude 1."""
    if not (stability > 0 and decay > 0):
        raise ValueError(f"stability and decay must be > 0, got {stability} and {decay}")
    return {"exponent": decay, "scale": stability / float(np.expm1(-np.log(0.9) / decay))}


def shifted_power_to_fsrs(exponent: float, scale: float) -> tuple[float, float]:
    """The inverse: (stability, decay) of a shifted power law; stability is where it has fallen to 90 %."""
    if not (exponent > 0 and scale > 0):
        raise ValueError(f"exponent and scale must be > 0 for a forgetting curve, got {exponent} and {scale}")
    return scale * float(np.expm1(-np.log(0.9) / exponent)), exponent


@dataclass(frozen=True)
class GammaMixture:
    """A population of exponentials e^(-rate · t) with Gamma rates: shape > 0 and scale theta > 0 (1 / time)."""

    shape: float
    theta: float

    def __post_init__(self) -> None:
        if not (self.shape > 0 and self.theta > 0):
            raise ValueError(f"a Gamma distribution needs shape > 0 and theta > 0, got {self.shape} and {self.theta}")

    def rates(self, size: int, rng: np.random.Generator) -> Array:
        """A population of rates: (size,)."""
        return rng.gamma(self.shape, self.theta, size)

    def pooled(self, time: ArrayLike) -> Array:
        """The mean of the population's curves: exactly (1 + theta t)^-shape."""
        return np.exp(-self.shape * np.log1p(self.theta * np.asarray(time, dtype=float)))

    def as_shifted_power(self) -> dict[str, float]:
        """The pooled curve's exponent and scale in the library's terms."""
        return {"exponent": self.shape, "scale": 1.0 / self.theta}


def fit_gamma_mixture(rates: ArrayLike) -> GammaMixture:
    """The Gamma distribution of a population of rates (n,) by maximum likelihood: predicts the pooled curve from it.

    Raises ValueError if rates are not positive or have no spread (then the pooled curve is an exponential).
    """
    values = np.asarray(rates, dtype=float)
    if values.ndim != 1 or len(values) < 3 or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"rates must be at least 3 finite values > 0 of shape (n,), got shape {values.shape}")
    if np.ptp(values) < 1e-5 * values.mean():
        raise ValueError("the rates have no spread: the pooled curve is the exponential itself, not a mixture")
    shape, _, theta = stats.gamma.fit(values, floc=0)
    return GammaMixture(float(shape), float(theta))
