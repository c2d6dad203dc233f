"""How a word's company thins out with distance: the collocation-distance curve and its law. (Ours.)

For a word w and distances r = 1..R:

1. *Occurrences*: those with R tokens of their own document after them, the same ones at every r.
2. *Partners*: word types that stand within R after w oftener than chance by Dunning's G² (1993; as for a Poisson
   count), whatever the distance. They are chosen on nine tenths of the documents and counted on the tenth
   (cross-fit), so that choosing them cannot manufacture an excess. Types commoner than `COMMON` are left out: after
   an adjective they mark syntax, not company.
3. *Chance*: the partners' rate in the same document away from w (more than R tokens from any occurrence); in a tagged
   text times how much oftener partners are among words of the class that stands at r, so that "a noun follows an
   adjective" is not taken for company.
4. *Excess* y(r) = partners at distance r per occurrence − chance: 0 at every r if w were scattered over its documents.
   Intervals resample documents, the partners held fixed.
5. *Law*: A r^-k and A e^(-m r), each without and with a floor above 0 (the topic of the passage), by weighted least
   squares in linear space; within a family the better AICc counts. A law is called when its AICc leads by `MARGIN` and
   `AGREE` of the resamples agree, else the word is undecided; `planted.operate` shows how often that is right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agf_core.fitting import fit_curves
from agf_core.sources import Text

Array = npt.NDArray[Any]  # float64 unless said otherwise

INTERVAL = [0.025, 0.975]
FOLDS = 10
G2 = 3.84  # 5 % for one type; the cross-fit, not this threshold, guards against chance partners
COMMON = 1e-3  # of the text's tokens
AGREE = 0.9
MARGIN = 4.0
ELIGIBLE = 3.0
BATCH = 20_000  # series fitted at once: bounds the memory
REACH = (-2.0, 10.0)  # exponents and rates beyond say no more than "not determined"
CALLS = ("power", "exponential", "undecided")


@dataclass(frozen=True)
class Collocation:
    """One word. hits (D, R), chance (D, R), occurrences (D,): sums by document."""

    word: str
    total: int  # occurrences in the text
    occurrences: Array
    hits: Array
    chance: Array
    partners: list[str]  # those most folds agree on, strongest first

    @property
    def used(self) -> int:
        """Occurrences with the whole window behind them."""
        return int(self.occurrences.sum())

    def excess(self, weights: Array) -> Array:
        """Excess partners per occurrence, (B, R), for document weights (B, D)."""
        number = np.maximum(weights @ self.occurrences, 1.0)
        return (weights @ (self.hits - self.chance)) / number[:, None]


def collocation(text: Text, word: str, window: int, seed: int = 0) -> Collocation:
    """The collocation-distance counts of a lower-cased `word` that occurs in `text`; window R in tokens."""
    types, codes = text.vocabulary
    me, document, count = types.index(word), text.document_of, len(text.documents)
    everywhere = np.flatnonzero(codes == me)
    end = np.append(text.documents, len(text))[1:]
    at = everywhere[everywhere + window < end[document[everywhere]]]
    where = document[at]
    occurrences = np.bincount(where, minlength=count).astype(float)
    if len(at) == 0:
        return Collocation(word, len(everywhere), occurrences, np.zeros((count, window)), np.zeros((count, window)), [])

    fold_of = np.full(count, -1)
    documents = np.random.default_rng(seed).permutation(np.unique(where))
    fold_of[documents] = np.arange(len(documents)) % FOLDS
    follow = codes[at[:, None] + np.arange(1, window + 1)]
    kinds, kind = np.unique(follow, return_inverse=True)
    kind = kind.reshape(follow.shape)

    spots = _away(text, everywhere, window, fold_of >= 0)
    spot_doc = document[spots]
    rate = occurrences / np.maximum(np.bincount(spot_doc, minlength=count), 1)
    number_of = np.full(len(types), -1)
    number_of[kinds] = np.arange(len(kinds))
    spot_kind, weight = number_of[codes[spots]], rate[spot_doc]
    known = spot_kind >= 0

    fold, size = fold_of[where], FOLDS * len(kinds)
    cell = fold_of[spot_doc[known]] * len(kinds) + spot_kind[known]
    chosen, strength = _partners(
        np.bincount((fold[:, None] * len(kinds) + kind).ravel(), minlength=size).reshape(FOLDS, -1),
        np.bincount(cell, weight[known] * window, minlength=size).reshape(FOLDS, -1),
        # A type that never stands elsewhere in these documents still has its rate in the whole text.
        (len(at) - np.bincount(fold, minlength=FOLDS))[:, None] * window * text.counts[kinds] / len(codes),
    )
    chosen &= (text.counts[kinds] < COMMON * len(codes)) & (kinds != me)
    hits, chance = np.zeros((count, window)), np.zeros((count, window))
    np.add.at(hits, where, chosen[fold[:, None], kind])
    partner = np.where(known, chosen[fold_of[spot_doc], spot_kind], False) * weight
    per_place = np.bincount(spot_doc, partner, minlength=count) / np.maximum(occurrences, 1)
    np.add.at(chance, where, per_place[where, None] * _class_lift(text, spots, weight, partner, at, window))
    agreed = np.flatnonzero(chosen.sum(axis=0) > FOLDS / 2)
    best = agreed[np.argsort(-strength[agreed], kind="stable")]
    return Collocation(word, len(everywhere), occurrences, hits, chance, [types[kinds[i]] for i in best])


def _away(text: Text, everywhere: Array, window: int, documents: Array) -> Array:
    """Positions in the marked `documents` (D,) more than `window` tokens from every position of `everywhere`."""
    away = documents[text.document_of]
    for shift in range(-window, window + 1):
        away[np.clip(everywhere + shift, 0, len(away) - 1)] = False
    return np.flatnonzero(away)


def _class_lift(text: Text, spots: Array, weight: Array, partner: Array, at: Array, window: int) -> Array:
    """How much likelier than anywhere a partner is, by chance, among words of the class at each place, (n, R)."""
    if text.tags is None or partner.sum() == 0:
        return np.ones((len(at), window))
    names, tag = text.tag_codes
    of_class = np.bincount(tag[spots], weight, minlength=len(names))
    share = np.bincount(tag[spots], partner, minlength=len(names)) / np.maximum(of_class, 1e-12)
    return (share / (partner.sum() / weight.sum()))[tag[at[:, None] + np.arange(1, window + 1)]]


def _partners(observed: Array, expected: Array, anywhere: Array) -> tuple[Array, Array]:
    """Partners (folds, kinds) chosen on the other folds, and counts above chance (kinds,); inputs are sums by fold."""
    seen = observed.sum(axis=0) - observed
    chance = np.maximum(expected.sum(axis=0) - expected, anywhere)
    chance = np.maximum(chance, 1e-12)
    g2 = 2 * (seen * np.log(np.where(seen > 0, seen, chance) / chance) - (seen - chance))
    return (seen > chance) & (seen >= 2) & (g2 > G2), (observed - expected).sum(axis=0)


@dataclass(frozen=True)
class Laws:
    """Laws of S words by B resamples; column 0 of exponent, rate and lead is the estimate itself.

    y, sigma, low, high (S, R): excess per occurrence, its standard error, 95 % interval;  exponent, rate (S, 1 + B);
    lead (S, 1 + B): AICc of the best exponential less that of the best power (> 0: power);  curves: law -> (S, R);
    eligible (S,): whether the whole window's excess is `ELIGIBLE` standard errors above none;
    held_out (S, 2): weighted mean square at even r of power and exponential fitted at odd r
    """

    words: list[str]
    y: Array
    sigma: Array
    low: Array
    high: Array
    exponent: Array
    rate: Array
    lead: Array
    curves: dict[str, Array]
    held_out: Array
    eligible: Array

    def support(self) -> Array:
        """Share of the resamples in which the power law leads, (S,); one that could not be fitted counts half."""
        lead = self.lead[:, 1:]
        return np.where(np.isnan(lead), 0.5, lead > 0).mean(axis=1)

    def calls(self) -> list[str]:
        """The call for each word, one of `CALLS`: by `MARGIN` and `AGREE`."""
        power = (self.support() >= AGREE) & (self.lead[:, 0] >= MARGIN)
        exponential = (self.support() <= 1 - AGREE) & (self.lead[:, 0] <= -MARGIN)
        return [CALLS[0] if p else CALLS[1] if e else CALLS[2] for p, e in zip(power, exponential)]

    def interval(self, name: str = "exponent") -> Array:
        """95 % intervals (S, 2) of "exponent" or "rate"."""
        return quantile(getattr(self, name)[:, 1:], INTERVAL, axis=1).T


def quantile(values: npt.ArrayLike, q: float | list[float], axis: int | None = None) -> Array:
    """Quantiles without the nans (words with nothing to fit); nan where nothing else is there."""
    array = np.asarray(values, dtype=float)
    empty = np.isnan(array).all(axis=axis, keepdims=True)
    result: Array = np.nanquantile(np.where(empty, 0.0, array), q, axis=axis)
    return np.where(np.squeeze(empty, axis=axis), np.nan, result)


def document_weights(documents: int, resamples: int, seed: int) -> Array:
    """Row 0 all ones, then `resamples` draws of the documents with replacement: (1 + B, D)."""
    draws = np.random.default_rng(seed).multinomial(documents, np.full(documents, 1 / documents), size=resamples)
    return np.vstack([np.ones((1, documents)), draws]).astype(float)


def laws(items: Sequence[Collocation], weights: Array) -> Laws:
    """Both families fitted to every word and every resample of the documents (`document_weights`), in batches."""
    excess = np.stack([item.excess(weights) for item in items])  # (S, 1 + B, R)
    r = np.arange(1, excess.shape[2] + 1)
    sigma = _errors(r, excess, items)
    series, sigmas = excess.reshape(-1, len(r)), np.repeat(sigma, excess.shape[1], axis=0)
    shape = excess.shape[:2]
    fitted = {law: _family(r, series, sigmas, law) for law in CALLS[:2]}
    odd = r % 2 == 1
    held_out = []
    for law in CALLS[:2]:
        predicted = _family(r[odd], excess[:, 0, odd], sigma[:, odd], law, at=r[~odd])[2]
        held_out.append((((predicted - excess[:, 0, ~odd]) / sigma[:, ~odd]) ** 2).mean(axis=1))
    low, high = np.quantile(excess[:, 1:], INTERVAL, axis=1)
    # Where nothing was counted, nothing varies between resamples: the standard error still knows of Poisson's noise.
    low, high = np.minimum(low, excess[:, 0] - 1.96 * sigma), np.maximum(high, excess[:, 0] + 1.96 * sigma)
    total: Array = excess.sum(axis=2)
    error = np.maximum(total[:, 1:].std(axis=1), np.sqrt((sigma**2).sum(axis=1)))
    return Laws(
        words=[item.word for item in items],
        y=excess[:, 0], sigma=sigma, low=low, high=high,
        exponent=fitted["power"][1].reshape(shape), rate=fitted["exponential"][1].reshape(shape),
        lead=(fitted["exponential"][0] - fitted["power"][0]).reshape(shape),
        curves={law: fitted[law][2].reshape(*shape, -1)[:, 0] for law in CALLS[:2]},
        held_out=np.stack(held_out, axis=1),
        eligible=np.greater(total[:, 0], ELIGIBLE * error),
    )  # fmt: skip


def _errors(r: Array, excess: Array, items: Sequence[Collocation]) -> Array:
    """Standard errors (S, R): Poisson counts around the fitted curve, times the overdispersion of the resamples.

    The spread of the resamples itself is small wherever the count happened to be small; weights made from it would
    drag the curve down there and steepen every law.
    """
    used = np.array([max(item.used, 1) for item in items])[:, None]
    chance = np.array([item.chance.sum(axis=0) for item in items]) / used
    spread, least = excess[:, 1:].var(axis=1), (chance + 1 / used) / used
    variance = np.maximum(spread, least)
    for _ in range(2):
        curves = [_family(r, excess[:, 0], np.sqrt(variance), law)[2] for law in CALLS[:2]]
        with np.errstate(invalid="ignore"):
            level = np.nan_to_num(np.clip(np.mean(curves, axis=0), 0.0, 1.0)) + chance
        poisson = np.maximum(level / used, least)
        variance = poisson * np.maximum(spread.sum(axis=1) / poisson.sum(axis=1), 1.0)[:, None]
    return np.sqrt(variance)


def _family(r: Array, y: Array, sigma: Array, law: str, at: Array | None = None) -> tuple[Array, Array, Array]:
    """(AICc, exponent or rate, curve) of the better of the law without and with a floor, for each series of y."""
    if len(y) > BATCH:
        parts = [_family(r, y[i : i + BATCH], sigma[i : i + BATCH], law, at) for i in range(0, len(y), BATCH)]
        aicc, value, curve = (np.concatenate(columns) for columns in zip(*parts))
        return aicc, value, curve
    name = {"power": "exponent", "exponential": "rate"}[law]
    some = np.asarray((y > 0).any(axis=1))
    y = np.where(some[:, None], y, np.nan)  # no partner at any distance: nothing to fit, and the fit says so with nan
    with np.errstate(over="ignore", invalid="ignore"):  # pure noise can ask for any amplitude
        fits = [
            fit_curves(r, y, law, sigma, space="linear", asymptote=floor, absolute_sigma=True, intervals=False)
            for floor in (False, len(r) > 4)  # three parameters need more points than four
        ]
        plain, risen = (fit.predict(r if at is None else at) for fit in fits)
    floor_at = fits[1].params.get("asymptote", np.zeros(len(y)))
    floored = (fits[1].aicc < fits[0].aicc) & (floor_at > 0)  # company cannot fall below none
    return (
        np.where(floored, fits[1].aicc, fits[0].aicc),
        np.clip(np.where(floored, fits[1].params[name], fits[0].params[name]), *REACH),
        np.where(floored[:, None], risen, plain),
    )


def combine(items: Sequence[Collocation], name: str) -> Collocation:
    """The counts of several words of one text added up, as one word: what pooling first would fit."""
    return Collocation(
        name, sum(item.total for item in items), np.sum([item.occurrences for item in items], axis=0),
        np.sum([item.hits for item in items], axis=0), np.sum([item.chance for item in items], axis=0), [],
    )  # fmt: skip


def concatenate(items: Sequence[Collocation], name: str) -> Collocation:
    """The counts of words of different texts, document after document, as one word."""
    return Collocation(
        name, sum(item.total for item in items), np.concatenate([item.occurrences for item in items]),
        np.concatenate([item.hits for item in items]), np.concatenate([item.chance for item in items]), [],
    )  # fmt: skip
