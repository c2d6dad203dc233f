"""Which law does forgetting follow? The scores behind claim A5, and human forgetting beside them (ours).

Recall against lag, item by item: a power law A·L^−k and an exponential A·e^(−L/τ), two numbers each, are fitted to the
nearer two thirds of the lags by least squares weighted by the means' standard errors, and predict the farther third.
An item counts if it is remembered: its recall's interval lies above 0 at each of the three nearest lags (three in a
row: less than once in ten thousand items that are not remembered), and at the nearest its odds are up by a tenth or
more: a word in the place of another moves the next words' odds a little for other reasons than that it is remembered.
As many items as pass this test upside down, recall below 0, pass it by chance: no memory does that.
An item's number is the power law's error over the exponential's; these are averaged in logarithms within a model, then
over models, which are the clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis.contrasts import mean
from agf_core.analysis.forgetting import Recall
from agf_core.analysis.operating import Draw
from agf_core.claims import Interval
from agf_core.figures import Estimate
from agf_core.fitting import compare_forgetting, fit_curve, fit_curves, shifted_power_to_fsrs
from agf_core.fitting.laws import Array
from agf_core.sources.tables import read_table

LAWS = ("power", "exponential")
FITTED = 2 / 3  # of the lags, the nearer ones
NEAREST = 3  # lags at which a remembered item's recall lies above 0
LEAST = float(np.log(1.1))  # nats: recall of a remembered item at the nearest lag
Z = float(stats.norm.ppf(0.975))
ROUNDING = 1e-6  # nats: a smaller error is rounding, not evidence
SERIES = ("Ebbinghaus", "Mack", "Seitz", "Dros")


def remembered(found: Recall) -> Array:
    """Which items are remembered, (I,) bool."""
    near = slice(0, NEAREST)
    above = (found.mean[:, near] - Z * found.se[:, near] > 0).all(1)
    return np.asarray(above & (found.mean[:, 0] >= LEAST))


def mirrored(found: Recall) -> Array:
    """Which items pass that test upside down, (I,) bool."""
    return remembered(replace(found, mean=-found.mean))


def by_chance(kinds: Mapping[str, Sequence[Recall]]) -> str:
    """Why the remembered items may be none: not clearly more of them than of mirrored ones; "" where there are."""
    every = [r for part in kinds.values() for r in part]
    held, upside = (int(sum(test(r).sum() for r in every)) for test in (remembered, mirrored))
    if not held or stats.binomtest(held, held + upside, alternative="greater").pvalue < 0.025:
        return ""
    return (
        f"{held} curves pass the test for being remembered, and {upside} pass it upside down, which no memory does: "
        "what passes may be chance"
    )


def score(found: Recall) -> pd.DataFrame:
    """One row an item: item, remembered; where it is, error_<law> (root mean square at far lags, nats), ratio (power
    over exponential), exponent, time (τ, tokens); else NaN."""
    k = round(FITTED * len(found.lags))
    table = pd.DataFrame({"item": found.items, "remembered": remembered(found)})
    numbers = ["error_power", "error_exponential", "exponent", "rate"]
    table[numbers] = np.nan
    if (held := table["remembered"].to_numpy()).any():
        lags, mean, sigma = found.lags.astype(float), found.mean[held], np.maximum(found.se[held, :k], ROUNDING)
        for law, name in zip(LAWS, ("exponent", "rate")):
            fits = fit_curves(lags[:k], mean[:, :k], law, sigma, space="linear", intervals=False)
            error = np.sqrt(((fits.predict(lags[k:]) - mean[:, k:]) ** 2).mean(1))
            table.loc[held, f"error_{law}"] = np.maximum(error, ROUNDING)
            table.loc[held, name] = fits.params[name]
    table["time"] = 1 / table.pop("rate")
    table["ratio"] = table["error_power"] / table["error_exponential"]
    return table


def ratio(scores: Sequence[pd.DataFrame]) -> Estimate | None:
    """Power's error over the exponential's: geometric mean over remembered items, then over models, with Student's
    interval over models; None where no model remembers an item."""
    logs = [np.log(s["ratio"].dropna()).mean() for s in scores if s["ratio"].notna().any()]
    if not logs:
        return None
    e = mean(np.array(logs))
    return Estimate(*np.exp([e.value, e.low, e.high]).tolist())


def worlds(
    se: Array, lags: Array, models: int, *, items: int = 24, copies: int = 60, near: float = 0.5, seed: int = 0
) -> dict[str, Draw]:
    """Worlds for `operating.characteristics("A5", …)`: items whose recall falls by a law that we choose.

    se (K,): noise at each lag (nats), as measured. Recall at the nearest lag is `near` (nats) give or take half; the
    exponent is .5–2, and an exponential falls as much over the fitted lags as such a power law. All of one law, or half
    of the models. A model that remembers no item does not take part; where none does, nothing is decided: [0.5, 2].
    """
    rng, lags = np.random.default_rng(seed), np.asarray(lags, dtype=float)
    names = tuple(str(i) for i in range(items))
    logs: dict[str, list[float]] = {law: [] for law in LAWS}
    end = lags[round(FITTED * len(lags)) - 1] / lags[0]
    for law in LAWS:
        for _ in range(copies):
            first = near * rng.uniform(0.5, 1.5, (items, 1))
            k = rng.uniform(0.5, 2, (items, 1))
            fall = k * np.log(lags / lags[0]) if law == "power" else k * np.log(end) * (lags / lags[0] - 1) / (end - 1)
            curve = first * np.exp(-fall) + se * rng.standard_normal((items, len(lags)))
            found = score(Recall(curve, np.broadcast_to(se, curve.shape), lags, names))["ratio"].dropna()
            logs[law].append(float(np.log(found).mean()) if len(found) else np.nan)
    pools = {law: np.array(logs[law]) for law in LAWS}
    return {
        "power": _drawer(pools["power"], pools["power"], models),
        "exponential": _drawer(pools["exponential"], pools["exponential"], models),
        "half of the models": _drawer(pools["power"], pools["exponential"], models),
    }


def _drawer(first: Array, second: Array, models: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Interval]]:
        half = models // 2
        logs = np.concatenate([rng.choice(first, models - half), rng.choice(second, half)])
        e = mean(logs[np.isfinite(logs)])
        if not np.isfinite([e.value, e.low, e.high]).all():
            return {"error ratio": 1.0}, {"error ratio": (0.5, 2.0)}
        return {"error ratio": float(np.exp(e.value))}, {"error ratio": (float(np.exp(e.low)), float(np.exp(e.high)))}

    return draw


@dataclass(frozen=True)
class Human:
    """The savings of four learners and the laws fitted to them in log space.

    data: minutes, then a column a series. fits: series, law, exponent or rate with low and high, r2, aicc_lead (of the
    power law, > 0: it is ahead), winner. stability: series, scale (minutes), exponent, stability: of a shifted power
    law, read as FSRS does: the time at which recall is 90 % of what it is at once; NaN where it has no scale.
    """

    data: pd.DataFrame
    fits: pd.DataFrame
    stability: pd.DataFrame


def human() -> Human:
    """Ebbinghaus, his three replications, and FSRS's stability of each."""
    data, rows, stable = read_table("savings"), [], []
    minutes = data["minutes"].to_numpy(float)
    for series in SERIES:
        kept = data[series].to_numpy(float)
        table = compare_forgetting(minutes, kept).set_index("law")
        lead = float(table["aicc"]["exponential"] - table["aicc"]["power"])
        for law, name in (("power", "exponent"), ("exponential", "rate")):
            fit = fit_curve(minutes, kept, law)
            rows.append((series, law, fit.params[name], *fit.ci[name], fit.r2, lead, LAWS[lead <= 0]))
        shifted = fit_curve(minutes, kept, "shifted_power", intervals=False)
        scale, exponent = shifted.params["scale"], shifted.params["exponent"]
        usable = shifted.ok and exponent > 0 and scale > 0
        stability = shifted_power_to_fsrs(exponent, scale)[0] if usable else np.nan
        stable.append((series, scale if usable else np.nan, exponent, stability))
    columns = ["series", "law", "value", "low", "high", "r2", "aicc_lead", "winner"]
    return Human(data, pd.DataFrame(rows, columns=columns),
                 pd.DataFrame(stable, columns=["series", "scale", "exponent", "stability"]))  # fmt: skip


def stability(found: Recall) -> tuple[float, float]:
    """(lag at which an item's recall is half of its nearest, in tokens; of the nearest recall, nats) of a mean curve.

    In the spirit of FSRS's stability, which is where recall is 90 %: log-odds have no 100 %, so the nearest lag is the
    whole. Linear between lags in log lag; infinite where it never falls so far; NaN without recall there.
    """
    curve, log = found.mean.mean(0), np.log(found.lags)
    if not curve[0] > 0:
        return np.nan, float(curve[0])
    below = np.flatnonzero(curve < curve[0] / 2)
    if not len(below):
        return np.inf, float(curve[0])
    j = int(below[0])
    share = (curve[j - 1] - curve[0] / 2) / (curve[j - 1] - curve[j])
    return float(np.exp(log[j - 1] + share * (log[j] - log[j - 1]))), float(curve[0])


def summary(kinds: Mapping[str, Sequence[Recall]]) -> pd.DataFrame:
    """One row a kind: models, items (scored in all), remembered, mirrored, nearest (nats, mean) with its interval, the
    lag, ratio with its interval."""
    rows = []
    for kind, found in kinds.items():
        if not found:
            continue
        scores = [score(r) for r in found]
        near = mean(np.array([r.mean[:, 0].mean() for r in found]))
        e = ratio(scores) or Estimate(np.nan, np.nan, np.nan)
        held, upside = (int(sum(test(r).sum() for r in found)) for test in (remembered, mirrored))
        rows.append((kind, len(found), sum(map(len, scores)), held, upside, near.value,
                     near.low, near.high, int(found[0].lags[0]), e.value, e.low, e.high))  # fmt: skip
    columns = ["kind", "models", "items", "remembered", "mirrored", "nearest", "nearest_low", "nearest_high", "lag"]
    return pd.DataFrame(rows, columns=[*columns, "ratio", "low", "high"])
