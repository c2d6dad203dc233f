"""Is it gravity? Claim A6 on the heads of a model that others trained, beside controls and planted heads (ours).

Every head gets the gravity model of `gravity_sums`: least squares of logits within query rows decides, because within a
row log weights *are* logits, a softmax has no zero flows, eligibility is defined by the same variance, and intervals,
halves and folds are closed forms of the same sums. Poisson pseudo-likelihood on the weights (`fitting.stream_gravity`)
is fitted beside it to a few windows, whose maps are kept (`newton_maps`); the rule is tried on heads put together from
known masses and exponents (`newton_worlds`). Pictures: `newton_figures`; sentences: `newton_prose`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from agf_core.analysis import calibration, field_grids, heads, newton_worlds, power_pretrained, pretrained
from agf_core.analysis import operating as rules
from agf_core.analysis.clusters import clustered
from agf_core.analysis.contrasts import mean
from agf_core.analysis.gravity_sums import Gravity, GravitySums
from agf_core.analysis.newton_maps import Kept, at_occurrences, poisson, shifted, superposition
from agf_core.analysis.observe import observe
from agf_core.analysis.operating import characteristics
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.windows import Array, Window
from agf_core.claims import CLAIMS, SUPPORTED
from agf_core.figures import Estimate
from agf_core.runs import Store, run_grid
from agf_core.sources import Text, load_text
from agf_core.sources.datasets import load_data
from agf_core.training import build_model

TOKENS = {
    "smoke": 3_072,
    "cpu": 24_576,
    "full": 131_072,
}  # that pass through the model; a third of them of the controls
TYPES = {"smoke": 32, "cpu": 100, "full": 100}
SAMPLE = {"smoke": 4, "cpu": 12, "full": 12}  # windows whose maps are kept, for the Poisson fit and for superposition
TRIALS = {"smoke": 50, "cpu": 300, "full": 1000}
TRAINED = ("flat", "steep", "rotary", "nope", "learned")  # models trained here in which nobody imposed a law
NEWTON = 2.0
SMOOTH = 5.0  # how many observations the unigram is worth in the surprisal given the word before


@dataclass(frozen=True)
class Page:
    """Everything the chapter shows.

    found      input (`INPUTS`: text, random tokens, untrained) → `Gravity`
    types      one row a named type: token, frequency (nat, log share), surprisal (nat, given the token before), kind
    relations  layer, head (eligible ones), frequency, surprisal, norm: rank correlations of log mass with the type's;
               kind: share of the masses' variance between word classes, adjusted (NaN without tags)
    trained    kind, models, heads (eligible), exponent, low, high (over models) of reference models trained here
    poisson    layer, head, poisson, low, high, exponent: both estimators, eligible heads
    pulls      layer, head, together, apart: two strongest keys of a query against the rest, at once and one by one
    shift      the largest change of any weight when a query's mass is multiplied by e^5
    occurrence share of what mass and distance leave that belongs to single occurrences of a key, median head
    planted    world, layer, head, planted, exponent, low, high, mass (correlation of found with planted log masses),
               product (the product form's share)
    worlds     operating characteristics of A6's rule
    missing    why another model took the pretrained one's place, or ""
    """

    profile: str
    name: str
    source: str
    corpus: str
    causal: bool
    window: int
    found: dict[str, Gravity]
    types: pd.DataFrame
    relations: pd.DataFrame
    trained: pd.DataFrame
    poisson: pd.DataFrame
    pulls: pd.DataFrame
    shift: float
    occurrence: float
    planted: pd.DataFrame
    worlds: pd.DataFrame
    planets: tuple[pd.DataFrame, Estimate, Estimate]
    missing: str = ""

    @property
    def text(self) -> Gravity:
        """The trained model on the text."""
        return self.found["text"]


def measure(profile: str, corpus: str = "brown", window: int = 32, model_id: str = "minilm", seed: int = 0) -> Page:
    """Look at the model on its three inputs, plant worlds, and fit everything; half a minute in `cpu`.

    ValueError for a text too short for the model's windows.
    """
    model, fresh, tokens, keep, groups, text, about = _model(profile, corpus, window, model_id, seed)
    window = about["window"]
    drawn, some = power_pretrained._without_order(tokens, keep, seed), slice(None, None, 3)
    few = max(2, min(SAMPLE[profile], SAMPLE[profile] * 128**2 // tokens.shape[1] ** 2))  # 64 MB of a model like MiniLM
    few_of = torch.linspace(0, len(tokens) - 1, few).round().long()
    kept = Kept(few_of)
    sums = GravitySums(window, TYPES[profile])
    observe(model, tokens, [sums, kept], groups=groups, keep=keep)
    found = {INPUTS[0]: sums.result(seed=seed)}
    for given, body, ids in ((INPUTS[1], model, drawn), (INPUTS[2], fresh, tokens)):
        control = GravitySums(window, TYPES[profile])
        observe(body, ids[some], [control], groups=groups[some], keep=keep[some])
        found[given] = control.result(seed=seed)
    gravity, maps = found[INPUTS[0]], kept.maps()
    types = properties(gravity, tokens, keep, text, about.pop("tokenizer"))
    inside = Window(window), about["causal"]
    occurrence = at_occurrences(maps, tokens[few_of], gravity, *inside)
    pools = newton_worlds.pools(gravity, occurrence, tokens, keep, groups, about["causal"], window, seed, sums)
    return Page(
        profile=profile, corpus=corpus, **about, found=found, types=types, relations=relations(gravity, types),
        trained=trained(), poisson=poisson(maps, tokens[few_of], keep[few_of], gravity, *inside),
        pulls=superposition(maps, gravity, *inside, seed), shift=shifted(maps), occurrence=occurrence,
        planted=newton_worlds.recovered(pools),
        worlds=characteristics("A6", newton_worlds.draws(pools, gravity, estimates), TRIALS[profile], seed),
        planets=calibration.kepler(),
    )  # fmt: skip


def _model(profile: str, corpus: str, window: int, model_id: str, seed: int) -> tuple[Any, ...]:
    """(model, untrained twin, tokens, keep, groups, text or None, about); trained here where the package is missing."""
    if why := pretrained.missing(model_id):
        config = field_grids.named(profile, field_grids.WITHOUT[0], corpus, seed)[0]
        run_grid([config], own=True)
        data, context = load_data(config.data), int(config.model["context"])
        tokens = torch.from_numpy(data.heldout("train", context, TOKENS[profile])[0])
        groups = torch.arange(len(tokens)) * pretrained.GROUPS // len(tokens)
        fresh = build_model(config.model_config(data), seed)
        about = {"name": f"a model with {config.model['encoding']} positions, trained here", "causal": True,
                 "source": "trained for this page", "window": min(window, context // 2), "missing": why,
                 "tokenizer": None}  # fmt: skip
        return Store().model(config), fresh, tokens, torch.ones_like(tokens, dtype=torch.bool), groups, None, about
    one, text = pretrained.load(model_id), load_text(corpus)
    length = power_pretrained._length(window, one.causal)
    tokens, keep, groups = pretrained.tokens(one, text, length, max(8, TOKENS[profile] // length))
    about = {"name": one.name, "source": one.source, "causal": one.causal, "window": window, "missing": "",
             "tokenizer": one.tokenizer}  # fmt: skip
    return one.model, pretrained.untrained(one, seed).model, tokens, keep, groups, text, about


def pooled(values: Array, layer: Array, between_documents: float = 0.0) -> Estimate:
    """Mean over heads (n,) with a 95 % interval: heads of a layer are alike, so layers are the clusters; the variance
    that the choice of documents makes is added to theirs."""
    of = [values[layer == one] for one in np.unique(layer)]
    value = float(values.mean())
    if len(of) < 2:
        return Estimate(value, np.nan, np.nan)
    apart = sum((part - value).sum() ** 2 for part in of) / len(values) ** 2 * len(of) / (len(of) - 1)
    half = float(stats.t.ppf(0.975, len(of) - 1) * np.sqrt(apart + between_documents))
    return Estimate(value, value - half, value + half)


def estimates(gravity: Gravity, chosen: Array | None = None, layer: Array | None = None) -> dict[str, Estimate]:
    """The four parts of A6, of the eligible heads, or of `chosen` (n,) heads (flat) that count as of `layer` (n,)."""
    if chosen is None:
        chosen = np.flatnonzero(gravity.eligible)
        layer = chosen // gravity.eligible.shape[1]
    if not len(chosen):
        return dict.fromkeys(CLAIMS["A6"].criterion.parts, Estimate(np.nan, np.nan, np.nan))
    assert layer is not None
    k, low, high = (a.ravel()[chosen] for a in (gravity.exponent, gravity.low, gravity.high))
    inside, clusters = (low <= NEWTON) & (high >= NEWTON), np.unique(layer)
    hits = clustered([inside[layer == c].sum() for c in clusters], [(layer == c).sum() for c in clusters])

    def spread(rows: Array, factor: float) -> float:
        """Variance of the mean over heads between resamples, halvings or folds."""
        means = rows.reshape(len(rows), -1)[:, chosen].mean(1)
        return float(factor * means.var(ddof=1)) if len(means) > 1 else 0.0

    groups, share = gravity.groups, gravity.share()
    icc = gravity.icc.mean(0) if len(gravity.icc) else np.full_like(gravity.exponent, np.nan)
    return {
        "exponent": pooled(k, layer, spread(gravity.draws, groups / max(1, groups - 1))),
        "heads with 2 inside": hits,
        "mass ICC": pooled(icc.ravel()[chosen], layer, spread(gravity.icc, 1.0)),
        "product form": pooled(share.mean(0).ravel()[chosen], layer, spread(share, 1 / len(share))),
    }


def evidence(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A6; None where too few heads are eligible for an interval."""
    found = estimates(page.text)
    if not all(np.isfinite([e.value, e.low, e.high]).all() for e in found.values()):
        return None
    kind = "causal model" if page.causal else "sentence encoder"
    return {
        "id": "A6", "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()}, "n": int(page.text.eligible.sum()),
        "unit": "exponent, or a share; n counts eligible heads of one model, layers are the clusters",
        "scope": f"one {kind}, {page.name}, on {page.corpus}, distances 1–{page.window}", "profile": page.profile,
        "too_small": powerless(page.worlds),
    }  # fmt: skip


def powerless(worlds: pd.DataFrame) -> str:
    """Why the rule cannot decide with this text and these heads; "" where it can."""
    share = worlds.set_index("world")[SUPPORTED]
    power, false = share[newton_worlds.TRUE], share.drop(newton_worlds.TRUE).max()
    return rules.powerless(power, false, "in which every head is gravity")


def by_window(gravity: Gravity) -> pd.DataFrame:
    """window, layer, head, exponent of eligible heads: the same field, looked at no farther than `window`."""
    rows, width = [], gravity.profile.shape[-1]
    for w in sorted({*(2**i for i in range(2, 9) if 2**i < width), width}):
        p = -np.log(np.arange(1.0, w + 1))
        p -= p.mean()
        k = gravity.profile[..., :w] @ p / (p @ p)
        rows += [(w, i, h, k[i, h]) for i, h in np.argwhere(gravity.eligible)]
    return pd.DataFrame(rows, columns=["window", "layer", "head", "exponent"])


def properties(gravity: Gravity, tokens: Tensor, keep: Tensor, text: Text | None, tokenizer: Any) -> pd.DataFrame:
    """What is known of every named type without the model: see `Page.types`. Surprisal leaves its own token out."""
    ids, known = tokens.numpy(), keep.numpy()
    both = known[:, 1:] & known[:, :-1]
    before, after = ids[:, :-1][both], ids[:, 1:][both]
    code, pair = np.unique(before * (ids.max() + 1) + after, return_inverse=True, return_counts=True)[1:]
    number, starts = np.bincount(ids[known], minlength=ids.max() + 1), np.bincount(before, minlength=ids.max() + 1)
    unigram = number / number.sum()
    p = (pair[code] - 1 + SMOOTH * unigram[after]) / (starts[before] - 1 + SMOOTH)
    table = pd.DataFrame({"type": after, "surprisal": -np.log(p)}).groupby("type")["surprisal"].mean()
    named = [str(t) for t in gravity.types] if tokenizer is None else tokenizer.convert_ids_to_tokens(
        gravity.types.tolist())  # fmt: skip
    words, classes = [str(n).lower().lstrip("Ġ▁") for n in named], dict[str, str]()
    if text is not None and text.tags is not None:
        asked, counts = set(words), Counter[tuple[str, str]]()
        counts.update((w, tag) for w, tag in zip(map(str.lower, text.tokens), text.tags) if w in asked)
        classes = {w: tag for (w, tag), _ in reversed(counts.most_common())}  # the commonest is written last
    kind = [classes.get(w, "piece" if classes else "") for w in words]
    return pd.DataFrame({"type": gravity.types, "token": named, "frequency": np.log(unigram[gravity.types]),
                         "surprisal": table.reindex(gravity.types).to_numpy(), "kind": kind})  # fmt: skip


def relations(gravity: Gravity, types: pd.DataFrame) -> pd.DataFrame:
    """How every eligible head's masses go with what is known of their types: see `Page.relations`."""
    rows, names = [], ["layer", "head", "frequency", "surprisal", "norm", "kind"]
    inside = np.unique(types["kind"], return_inverse=True)[1]
    for layer, head in np.argwhere(gravity.eligible):
        mass = gravity.masses[layer, head, :-1]
        known = types.assign(norm=gravity.norm[layer, head, :-1])
        rho = [_rank_correlation(mass, known[name].to_numpy()) for name in names[2:5]]
        count = np.bincount(inside)
        means = np.bincount(inside, mass) / count
        within = ((mass - means[inside]) ** 2).sum() / max(1, len(mass) - len(count))
        share = 1 - within / mass.var(ddof=1) if len(count) > 1 else np.nan
        rows.append((layer, head, *rho, share))
    return pd.DataFrame(rows, columns=names)


def _rank_correlation(a: Array, b: Array) -> float:
    """Spearman's, without what is not known; NaN for a constant, such as the length of keys that a norm has made."""
    there = np.isfinite(a) & np.isfinite(b)
    constant = there.sum() < 3 or np.ptp(a[there]) < 1e-9 or np.ptp(b[there]) < 1e-9
    return np.nan if constant else float(stats.spearmanr(a[there], b[there]).statistic)


def trained() -> pd.DataFrame:
    """Exponents of the reference models of `TRAINED`, whose heads are stored: see `Page.trained`; may be empty."""
    rows, stored = [], heads.stored()
    for kind in TRAINED:
        configs = (field_grids.free if kind in field_grids.FREE else field_grids.named)("full", kind)
        means, count = [], 0
        for one in (stored[c.id].split for c in configs if c.id in stored):
            p = -np.log(np.arange(1.0, one.profile.shape[-1] + 1))
            p -= p.mean()
            if one.eligible.any():
                means.append(float((one.profile @ p / (p @ p))[one.eligible].mean()))
            count += int(one.eligible.sum())
        if means:
            e = mean(means)
            rows.append((kind, len(means), count, e.value, e.low, e.high))
    return pd.DataFrame(rows, columns=["kind", "models", "heads", "exponent", "low", "high"])
