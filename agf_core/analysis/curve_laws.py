"""Which law does a learning curve follow? The scores behind claim A4 (ours).

Held-out loss of one kind of token in one run, against tokens of training at a constant rate, at times even in log
tokens. A power law A·t^−b + E and an exponential A·e^(−t/τ) + E, three numbers each, are fitted by least squares to the
first two thirds of the points and predict the last third, the last two of six doublings. A law has the curve if it errs
less there by a tenth or more (root mean square, nats). Nearer is a tie: single curves are noisy, and without a margin a
world in which half of the curves are power laws would pass for one in which two thirds are. Ties count, and so does a
curve that does not fall over its fitted part: both are nobody's.

Pooling comes after. The mean of exponentials with different rates is no exponential; with Gamma-distributed rates it is
a shifted power law (`fitting.GammaMixture`; Heathcote, Brown & Mewhort 2000). `pool` fits the pooled curve, and asks
what it would look like if every curve in it were exactly the exponential that fits it best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from agf_core.analysis.clusters import clustered
from agf_core.analysis.operating import Draw
from agf_core.claims import Interval
from agf_core.figures import Estimate
from agf_core.fitting import CurveFits, fit_curves
from agf_core.fitting.laws import Array
from agf_core.runs import Record

LAWS = ("power", "exponential")
FITTED = 2 / 3  # of the points of a curve
MARGIN = 0.1  # of the other law's error: less is a tie
WINNERS = (*LAWS, "undecided", "none")
LEAST = 1 / 500  # of the held-out targets: a rarer type has no curve of its own


@dataclass(frozen=True)
class Curves:
    """tokens (K,); loss (S, K), nats a target; about: one row a curve: model, kind, seed, symbol, targets."""

    tokens: Array
    loss: Array
    about: pd.DataFrame

    @property
    def fitted(self) -> int:
        """How many of the points are fitted."""
        return round(FITTED * len(self.tokens))

    def of(self, where: ArrayLike) -> Curves:
        """Some of the curves, by a mask (S,)."""
        mask = np.asarray(where, dtype=bool)
        return Curves(self.tokens, self.loss[mask], self.about[mask].reset_index(drop=True))


def read(records: Mapping[str, Sequence[Record]]) -> Curves:
    """The curves of every type common enough, by kind of model: runs that finished and were watched on the way.

    Without any, a `Curves` of no curves. Runs watched at other times than the first are left out.
    """
    tokens, number = np.empty(0), 0
    rows: list[list[float]] = []
    about = []
    for kind, runs in records.items():
        for record in runs:
            if record["status"] != "ok" or not record.get("through"):
                continue
            at = np.array([t for t, _ in record["through"]], dtype=float)
            if rows and (len(at) != len(tokens) or (at != tokens).any()):
                continue
            tokens, last = at, record["through"][-1][1]
            least = LEAST * sum(n for _, n in last.values())
            for symbol, (_, targets) in last.items():
                if targets >= least:
                    rows.append([seen[symbol][0] / seen[symbol][1] for _, seen in record["through"]])
                    about.append((number, kind, record["config"]["train"]["seed"], int(symbol), targets))
            number += 1
    table = pd.DataFrame(about, columns=["model", "kind", "seed", "symbol", "targets"])
    return Curves(tokens, np.array(rows).reshape(len(rows), len(tokens)), table)


def fit(tokens: Array, loss: Array, law: str) -> CurveFits:
    """One law with its asymptote, fitted to curves (S, K) in linear space."""
    return fit_curves(tokens, loss, law, space="linear", asymptote=True, intervals=False)


def score(curves: Curves) -> pd.DataFrame:
    """One row a curve: `about`, error_<law> (root mean square on the last third, nats), falls, winner (of `WINNERS`;
    "none" does not fall), exponent, time (τ, tokens) and floor_<law>: as fitted."""
    k, t = curves.fitted, curves.tokens
    table = curves.about.copy()
    fits = {law: fit(t[:k], curves.loss[:, :k], law) for law in LAWS}
    for law, found in fits.items():
        left = found.predict(t[k:]) - curves.loss[:, k:]
        error = np.sqrt((left**2).mean(1))
        table[f"error_{law}"] = np.where(np.isfinite(error), error, np.inf)
        table[f"floor_{law}"] = found.params["asymptote"]
    third = max(1, k // 3)
    table["falls"] = curves.loss[:, :third].mean(1) > curves.loss[:, k - third : k].mean(1)
    table["exponent"], table["time"] = fits["power"].params["exponent"], 1 / fits["exponential"].params["rate"]
    power, exponential = (table[f"error_{law}"] for law in LAWS)
    ahead = [~table["falls"], power <= (1 - MARGIN) * exponential, exponential <= (1 - MARGIN) * power]
    table["winner"] = np.select(ahead, ["none", *LAWS], "undecided")
    return table


def over_runs(curves: Curves) -> pd.DataFrame:
    """`score` of each kind of byte's mean curve over the runs of a kind of model: less noise, and pooled over runs."""
    groups = curves.about.groupby(["kind", "symbol"], sort=False)
    rows = [(curves.loss[index].mean(0), curves.about.loc[index[0]]) for index in groups.indices.values()]
    about = pd.DataFrame([row for _, row in rows]).reset_index(drop=True)
    return score(Curves(curves.tokens, np.array([mean for mean, _ in rows]), about))


def share(scores: pd.DataFrame, winner: str = "power") -> Estimate:
    """The share of all curves that a law has, clustered by run."""
    each = (scores["winner"] == winner).groupby(scores["model"]).agg(["sum", "size"])
    return clustered(each["sum"].to_numpy(), each["size"].to_numpy())


@dataclass(frozen=True)
class Pooled:
    """The mean of curves, and of the exponentials that fit them best.

    curve: tokens, seen, exponentials (their mean), then what each law, fitted to the first two thirds of either,
    predicts: power, exponential, power_of_them, exponential_of_them. errors: of ("seen", "exponentials"), law, error
    (root mean square on the last third, nats).
    """

    curve: pd.DataFrame
    errors: pd.DataFrame

    def error(self, of: str, law: str) -> float:
        """Root mean square on the last third, nats."""
        return float(self.errors.set_index(["of", "law"])["error"][of, law])

    def winner(self, of: str = "seen") -> str:
        """The law that errs less."""
        return min(LAWS, key=lambda law: self.error(of, law))


def pool(curves: Curves, weights: ArrayLike | None = None) -> Pooled:
    """Pool curves (their mean, or by weights (S,)) and ask what pooling does. ValueError for no curves."""
    if not len(curves.loss):
        raise ValueError("there are no curves to pool")
    k, t = curves.fitted, curves.tokens
    weight = np.ones(len(curves.loss)) if weights is None else np.asarray(weights, dtype=float)
    own = fit(t, curves.loss, "exponential").predict(t)
    usable = np.isfinite(own).all(1)
    if not usable.any():
        raise ValueError("no exponential fits any of the curves")
    means = {
        "seen": np.average(curves.loss, axis=0, weights=weight),
        "exponentials": np.average(own[usable], axis=0, weights=weight[usable]),
    }
    table, errors = pd.DataFrame({"tokens": t, **means}), []
    for of, mean in means.items():
        for law in LAWS:
            found = fit(t[:k], mean[None, :k], law).predict(t)[0]
            table[law if of == "seen" else f"{law}_of_them"] = found
            errors.append((of, law, float(np.sqrt(((found - mean)[k:] ** 2).mean()))))
    return Pooled(table, pd.DataFrame(errors, columns=["of", "law", "error"]))


def worlds(curves: Curves, models: int, *, copies: int = 3, seed: int = 0) -> dict[str, Draw]:
    """Worlds of known truth for `operating.characteristics("A4", …)`, as noisy as the measured curves.

    Every curve becomes the power law or the exponential that fits all of it best, with the residuals that the better of
    the two leaves: in other order within quarters of the curve (early points are noisier), signs drawn, widened for the
    fitted parameters. All of one law; half of the types; half of the runs. `copies` of every run are scored once,
    trials draw `models` of them.
    """
    t, rng = curves.tokens, np.random.default_rng(seed)
    fitted = {law: fit(t, curves.loss, law).predict(t) for law in LAWS}
    usable = np.isfinite(fitted["power"]).all(1) & np.isfinite(fitted["exponential"]).all(1)
    about = curves.about[usable].reset_index(drop=True)
    fitted = {law: f[usable] for law, f in fitted.items()}
    left = {law: curves.loss[usable] - fitted[law] for law in LAWS}
    better = (left["power"] ** 2).sum(1) < (left["exponential"] ** 2).sum(1)
    residuals = np.where(better[:, None], left["power"], left["exponential"]) * np.sqrt(len(t) / max(1, len(t) - 3))
    order = np.argsort(np.arange(len(t)) * 4 // len(t) + 0.999 * rng.random((copies, *residuals.shape)), axis=2)
    noise = np.take_along_axis(residuals[None], order, 2) * rng.choice([-1.0, 1.0], (copies, len(residuals), 1))
    many = pd.concat([about] * copies, ignore_index=True)
    won = {
        law: (score(Curves(t, (f + noise).reshape(-1, len(t)), many))["winner"] == "power").to_numpy()
        for law, f in fitted.items()
    }
    copy = np.repeat(np.arange(copies), len(about))
    lot = rng.random((copies, 1 + int(about[["symbol", "model"]].to_numpy().max(initial=0))))
    found: dict[str, Draw] = {}
    for name in ("power", "exponential", "half of the types", "half of the runs"):
        power = np.full(len(many), name == "power")
        if name.startswith("half"):
            by = many["symbol" if name.endswith("types") else "model"].to_numpy()
            there = np.unique(by)
            rank = lot[:, there].argsort(axis=1).argsort(axis=1)  # the lower half of the ranks gets the power law
            power = rank[copy, np.searchsorted(there, by)] < len(there) / 2
        hit = pd.Series(np.where(power, won["power"], won["exponential"]))
        each = hit.groupby([copy, many["model"].to_numpy()]).agg(["sum", "size"])
        found[name] = _drawer(each["sum"].to_numpy(), each["size"].to_numpy(), models)
    return found


def _drawer(hits: Array, sizes: Array, models: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Interval]]:
        some = rng.integers(len(hits), size=models)
        e = clustered(hits[some], sizes[some])
        return {"share": e.value}, {"share": (e.low, e.high)}

    return draw


def likeness(values: pd.DataFrame) -> dict[str, Any]:
    """Over a table of seeds (rows) by things (columns): spread within things and the intraclass correlation.

    sd: root mean variance over seeds, of a thing; between: SD of the things' means; icc: of one seed's values with
    another's (one-way random effects, Shrout & Fleiss 1979, ICC(1,1)); NaN with fewer than two seeds or things.
    """
    x = values.to_numpy(float)
    n, k = x.shape[1], x.shape[0]
    if n < 2 or k < 2:
        return {"sd": np.nan, "between": np.nan, "icc": np.nan}
    within = float(x.var(axis=0, ddof=1).mean())
    between = float(k * x.mean(axis=0).var(ddof=1))
    return {"sd": np.sqrt(within), "between": float(x.mean(axis=0).std(ddof=1)),
            "icc": (between - within) / (between + (k - 1) * within)}  # fmt: skip
