"""Which law predicts a head's field at distances it was not fitted to? The measurement behind claim A3 (ours).

Each law, log g(r) = a + log law(r), is fitted by least squares to a profile on the near half of its distances (r ≤ W/2;
W = N/2 for a model trained at length N) and predicts the far half *with the amplitude as fitted*: the error is the mean
square of log g there. An exponential is a limit of both other laws, and a power law nearly one of the stretched
exponential: a fit at such an edge differs from its limit by noise alone. So a law beats a rival only by a margin, the
exponential, the simpler law, keeps what is not won from it, and a shifted power law whose scale is far beyond the
distances *is* an exponential. Without the last, one exponential head in five passes for a power law.

`worlds` puts the claim's rule to the test on known answers, with the `residuals` of measured profiles for noise: the
rule's power depends on them (all worlds at 0.03 nat, a quarter at 0.1), its false verdicts hardly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from agf_core.analysis.clusters import clustered
from agf_core.analysis.operating import Draw
from agf_core.claims import Interval
from agf_core.figures import Estimate
from agf_core.fitting import CurveFits, fit_curves
from agf_core.fitting.laws import Array

RIVALS = ("shifted_power", "exponential", "stretched_exponential")
LAWS = (*RIVALS, "power")  # the plain power law is shown and decides nothing
MARGIN = 0.1  # of a rival's held-out error (mean square): less is a tie
EDGE = 100  # times the farthest distance: with a larger scale, a shifted power law is an exponential within 1 %
ROUNDING = 1e-10  # a mean square below this is rounding or the edge of a fit's range, not evidence
WINNERS = (*RIVALS, "undecided", "none")


@dataclass(frozen=True)
class Scores:
    """One row a head in `table`; `margin` as used, `fitted` and `scored`: the distances of the two halves.

    Columns: model, head, eligible, error_<law> (mean square of log g, held out; power for show), winner (one of
    `WINNERS`), tie (bool: the winner is the exponential, but does not beat both rivals by the margin: it is kept as the
    simpler law), wins (bool: the shifted power law beats both rivals and decays), decays, exponent and scale (tokens)
    of the shifted power law, steepness (its local exponent at the geometric middle of the fitted distances),
    power_exponent (of the plain law), rate (1/token, exponential), shape (stretched), limit ("power" or
    "exponential" where the shifted power law ended as that law, within 1 %; else "").
    """

    table: pd.DataFrame
    margin: float
    fitted: Array
    scored: Array

    def summary(self) -> pd.DataFrame:
        """Eligible heads by winner: winner, heads, share."""
        chosen = self.table.loc[self.table["eligible"], "winner"]
        heads = np.array([int((chosen == winner).sum()) for winner in WINNERS])
        return pd.DataFrame({"winner": WINNERS, "heads": heads, "share": heads / max(len(chosen), 1)})


def score(
    profiles: ArrayLike, models: ArrayLike | None = None, eligible: ArrayLike | None = None, *,
    heads: ArrayLike | None = None, sigma: ArrayLike | None = None, usable: ArrayLike | None = None,
    margin: float = MARGIN,
) -> Scores:
    """Fit every law on the near half of the distances, score it on the far half.

    Args:
        profiles: (S, W) log field (nat) at r = 1 … W; a constant added to a row changes nothing.
        models: (S,) the model of each row (default: all of one model). eligible: (S,) bool (default: all).
        heads: (S,) names for the table (default: the row's number within its model).
        sigma: (S, W) or (W,) standard errors of the profiles (nat): they weight the fit, never the score.
        usable: (W,) bool: distances to leave out are False.

    A head that rises with distance, or is flat, is scored like any other and its winner is "none": it is no decay, and
    counts against every law. So does a row with a nan (its errors are infinite).

    Raises ValueError on wrong shapes, or fewer than five distances to fit and one to score.
    """
    values = np.asarray(profiles, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"profiles must have shape (S, W), got {values.shape}")
    count, window = values.shape
    model = np.zeros(count, dtype=int) if models is None else np.asarray(models)
    able = np.ones(count, dtype=bool) if eligible is None else np.asarray(eligible, dtype=bool)
    use = np.ones(window, dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    if model.shape != (count,) or able.shape != (count,) or use.shape != (window,):
        raise ValueError(
            f"profiles (S, W) = {values.shape} need models and eligible ({count},) and usable ({window},), "
            f"got {model.shape}, {able.shape} and {use.shape}"
        )
    values = values - values[:, use].mean(axis=1, keepdims=True)  # no law depends on the level, but exp() does
    r = np.arange(1.0, window + 1)
    near, far = use & (r <= window / 2), use & (r > window / 2)
    if near.sum() < 5 or not far.any():
        raise ValueError(f"needs ≥ 5 usable distances to fit, 1 to score; got {near.sum()} and {far.sum()} of {window}")
    fits = {law: fit(values, near, law, sigma) for law in LAWS}
    error = {law: np.maximum(_error(fits[law], values[:, far], r[far]), ROUNDING) for law in LAWS}
    power = fits["shifted_power"].params
    decays = power["exponent"] > 0  # nan: False
    middle = np.exp(np.log(r[near]).mean())
    beats = {a: np.all([error[a] < (1 - margin) * error[b] for b in RIVALS if b != a], axis=0) for a in RIVALS}
    kept = np.all([error[b] >= (1 - margin) * error["exponential"] for b in RIVALS], axis=0)  # nothing won from it
    scale = power["scale"]
    limit = np.select([scale > EDGE * window, scale < r[near][0] / EDGE], ["exponential", "power"], "")
    won = beats["shifted_power"] & (limit != "exponential")
    winner = np.select(
        [~decays, won, kept | beats["shifted_power"], beats["stretched_exponential"]],
        ["none", "shifted_power", "exponential", "stretched_exponential"], "undecided",
    )  # fmt: skip
    table = pd.DataFrame({
        "model": model, "head": pd.Series(model).groupby(model).cumcount() if heads is None else np.asarray(heads),
        "eligible": able, **{f"error_{law}": error[law] for law in LAWS}, "winner": winner,
        "tie": (winner == "exponential") & ~beats["exponential"], "wins": winner == "shifted_power", "decays": decays,
        "exponent": power["exponent"], "scale": scale,
        "steepness": power["exponent"] * middle / (middle + scale),
        "power_exponent": fits["power"].params["exponent"], "rate": fits["exponential"].params["rate"],
        "shape": fits["stretched_exponential"].params["shape"],
        "limit": limit,
    })  # fmt: skip
    return Scores(table, margin, r[near], r[far])


def fit(profiles: Array, where: ArrayLike, law: str, sigma: ArrayLike | None = None) -> CurveFits:
    """One law fitted to the distances `where` (W,) bool of profiles (S, W), in log space, amplitude free."""
    mask = np.asarray(where, dtype=bool)
    y = np.exp(profiles[:, mask])
    errors = None
    if sigma is not None:  # of y; a row with a nan is not fitted, but its errors are checked
        wide = np.broadcast_to(np.asarray(sigma, dtype=float), profiles.shape)[:, mask]
        errors = wide * np.where(np.isfinite(y), y, 1.0)
    return fit_curves(np.flatnonzero(mask) + 1.0, y, law, errors, intervals=False)


def predict(fits: CurveFits, r: Array) -> Array:
    """log g at r (m,) as fitted, (S, m): logarithms, so that a steep law is not lost to underflow."""
    curve, _ = replace(fits.problem, u=r * np.exp(-fits.problem.log_mean)).model(fits.theta)
    return curve


def _error(fits: CurveFits, seen: Array, r: Array) -> Array:
    square: Array = ((predict(fits, r) - seen) ** 2).mean(axis=1)
    return np.where(np.isfinite(square), square, np.inf)


def share(scores: Scores) -> dict[str, Estimate]:
    """Claim A3's two estimates: "share" of eligible heads whose power law beats both rivals, "eligible" of all heads.

    Both clustered by model. Without any eligible head nothing is known of their share: 0.5 [0, 1].
    """
    table = scores.table
    able = table[table["eligible"]].groupby("model")["wins"].agg(["sum", "size"])
    every = table.groupby("model")["eligible"].agg(["sum", "size"])
    return {
        "share": clustered(able["sum"].to_numpy(), able["size"].to_numpy()),
        "eligible": clustered(every["sum"].to_numpy(), every["size"].to_numpy()),
    }


def residuals(profiles: ArrayLike) -> Array:
    """What the best of the three laws leaves of each profile over its whole window (S, W), nat: noise for `worlds`."""
    values = np.asarray(profiles, dtype=float)
    values = values[np.isfinite(values).all(axis=1)]
    values = values - values.mean(axis=1, keepdims=True)
    r = np.arange(1.0, values.shape[1] + 1)
    left = np.stack([values - predict(fit(values, r > 0, law), r) for law in RIVALS])
    return left[(left**2).sum(axis=2).argmin(axis=0), np.arange(len(values))]


def worlds(
    *, models: int = 8, heads: int = 8, window: int = 64, noise: float = 0.03, residuals: ArrayLike | None = None,
    pool: int = 100, margin: float = MARGIN, seed: int = 0,
) -> dict[str, Draw]:
    """Worlds of known truth for `operating.characteristics("A3", …)`: `models` of `heads` heads, scored by `score`.

    Every head falls as much over the window as a shifted power law of exponent .3–2 and scale .5–4 tokens would, by the
    world's law: power, exponential, stretched (shape .3–.9); half of the heads, or half of the models, power and the
    rest exponential; few eligible (power, but three heads in ten eligible). Exponent, scale and shape are half the
    model's and half the head's. Errors are whole rows of `residuals` (S, window) with a random sign, or of standard
    deviation `noise` (nat), half of the variance smooth. Each world's `pool` of models is scored once;
    trials draw from it.
    """
    rows = None if residuals is None else np.asarray(residuals, dtype=float)
    if rows is not None and (rows.ndim != 2 or rows.shape[1] != window or not np.isfinite(rows).all()):
        raise ValueError(f"residuals must be finite and of shape (S, {window}), got {rows.shape}")
    rng = np.random.default_rng(seed)
    found: dict[str, Draw] = {}
    for name in ("power", "exponential", "stretched", "half of the heads", "half of the models", "few eligible"):
        law = {"power": 0, "few eligible": 0, "exponential": 1, "stretched": 2}.get(name)
        if law is not None:
            kind = np.full((pool, heads), law)
        else:
            kind = rng.integers(0, 2, (pool, heads if name == "half of the heads" else 1)) + np.zeros((1, heads), int)
        profiles = planted(kind, window, rng) + _noise(pool * heads, window, noise, rows, rng)
        able = rng.random(pool * heads) < (0.3 if name == "few eligible" else 1.0)
        scores = score(profiles, np.repeat(np.arange(pool), heads), able, margin=margin)
        found[name] = _drawer(scores, models)
    return found


def planted(kind: NDArray[np.int64], window: int, rng: np.random.Generator) -> Array:
    """Noiseless profiles (M · H, window) of heads of the laws `RIVALS[kind]`, kind (M, H): see `worlds`."""
    count, heads = kind.shape
    own = (rng.random((3, count, 1)) + rng.random((3, count, heads))) / 2
    own = np.where(own < 0.5, 2 * own**2, 1 - 2 * (1 - own) ** 2)  # half the model's, half the head's; uniform
    exponent, scale, shape = 0.3 + 1.7 * own[0], 0.5 * 8 ** own[1], 0.3 + 0.6 * own[2]
    r = np.arange(1.0, window + 1)
    power = exponent[..., None] * np.log1p(r / scale[..., None])
    fall = power[..., -1:]
    other = fall * (r / window) ** np.where(kind == 1, 1.0, shape)[..., None]
    profiles: Array = -np.where(kind[..., None] == 0, power, other).reshape(-1, window)
    return profiles


def _noise(count: int, window: int, level: float, rows: Array | None, rng: np.random.Generator) -> Array:
    if rows is not None:
        return rows[rng.integers(len(rows), size=count)] * rng.choice([-1.0, 1.0], (count, 1))
    kernel = np.hanning(window // 4 + 3)
    draws = rng.standard_normal((count, window + len(kernel) - 1))
    smooth = np.lib.stride_tricks.sliding_window_view(draws, len(kernel), axis=1) @ (kernel / np.sqrt(kernel @ kernel))
    return level * (smooth + rng.standard_normal((count, window))) / np.sqrt(2)


def usual_share(draw: Draw, trials: int, seed: int = 0) -> float:
    """The median of claim A3's share over the draws that `operating.characteristics` takes from one of `worlds`."""
    rng = np.random.default_rng(seed)
    return float(np.median([draw(rng)[0]["share"] for _ in range(trials)]))


def _drawer(scores: Scores, models: int) -> Draw:
    table = scores.table
    able, wins = (table.assign(hit=hit).groupby("model")["hit"].sum().to_numpy()
                  for hit in (table["eligible"], table["eligible"] & table["wins"]))  # fmt: skip
    size = table.groupby("model").size().to_numpy()

    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Interval]]:
        some = rng.integers(len(size), size=models)
        found = {"share": clustered(wins[some], able[some]), "eligible": clustered(able[some], size[some])}
        return {k: e.value for k, e in found.items()}, {k: (e.low, e.high) for k, e in found.items()}

    return draw
