"""The claims of the two papers, how each is tested, and the criterion that returns the verdict.

The sentences in `quote` are the abstracts' own words (AGF: arXiv 2603.04805, ids A; embedding space: arXiv 2308.10874,
ids M). Tests and criteria are ours, and were fixed before the confirmatory runs: the ledger shows the commits that
touched this file. Standard library only, so that the book's driver can read it.

The rule, for every part of a claim: *supported* if the estimate meets the threshold and its 95 % interval excludes the
null; *not supported* if the interval excludes the threshold; else *inconclusive*. A criterion says how its parts
combine. Fewer than eight seeds (models, heads) or the smoke profile carry no verdict: *too small to tell*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from agf_core import provenance

SUPPORTED = "supported"
NOT_SUPPORTED = "not supported"
MIXED = "mixed"
INCONCLUSIVE = "inconclusive"
BY_CONSTRUCTION = "true by construction"
TOO_SMALL = "too small to tell"
NOT_RUN = "not run"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, MIXED, INCONCLUSIVE, BY_CONSTRUCTION, TOO_SMALL, NOT_RUN)

MIN_N = 8  # seeds, models or heads behind a verdict: rule of evidence 6
DELTA = 0.5  # δ: percent of held-out loss that counts as a difference

Interval = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One estimate that a criterion asks for.

    `threshold` and `null` are in the estimate's own unit; the claim says that the effect lies above the threshold
    (below it if `above` is false). Where the claim names no null, the whole interval must meet the threshold. The
    interval decides against the claim when it excludes the threshold, or `against` where the claim names that apart.
    """

    threshold: float
    null: float | None = None
    above: bool = True
    against: float | None = None

    def verdict(self, effect: float, ci: Interval) -> str:
        sign = 1 if self.above else -1
        low, high = sorted((sign * ci[0], sign * ci[1]))
        threshold = sign * self.threshold
        excludes_null = low >= threshold if self.null is None else low > sign * self.null
        if sign * effect >= threshold and excludes_null:
            return SUPPORTED
        against = threshold if self.against is None else sign * self.against
        return NOT_SUPPORTED if high < against else INCONCLUSIVE

    def __str__(self) -> str:
        null = "" if self.null is None else f", interval excludes {self.null:g}"
        return f"{'≥' if self.above else '≤'} {self.threshold:g}{null}"


@dataclass(frozen=True)
class Band:
    """One estimate whose whole interval must lie inside [low, high]; outside it altogether: not supported."""

    low: float
    high: float

    def verdict(self, effect: float, ci: Interval) -> str:
        if self.low <= ci[0] and ci[1] <= self.high:
            return SUPPORTED
        return NOT_SUPPORTED if ci[1] < self.low or ci[0] > self.high else INCONCLUSIVE

    def __str__(self) -> str:
        return f"interval inside [{self.low:g}, {self.high:g}]"


def every(verdicts: Mapping[str, str]) -> str:
    """All parts supported; one that is not supported decides against the claim."""
    values = set(verdicts.values())
    if values == {SUPPORTED}:
        return SUPPORTED
    return NOT_SUPPORTED if NOT_SUPPORTED in values else INCONCLUSIVE


def mixed_if_one(verdicts: Mapping[str, str]) -> str:
    """Like `every`, but *mixed* where some parts are supported and all others are not supported."""
    return MIXED if set(verdicts.values()) == {SUPPORTED, NOT_SUPPORTED} else every(verdicts)


def _a3(verdicts: Mapping[str, str]) -> str:
    """Too few eligible heads make the share of power laws among them a statement about a minority: *mixed*."""
    return MIXED if verdicts["eligible"] != SUPPORTED else verdicts["share"]


def _m5(verdicts: Mapping[str, str]) -> str:
    """*Mixed* only where association is redundant on the rest of the text and not on recall."""
    recall = {verdicts["recall tokens"], verdicts["multi-query recall"]}
    return MIXED if verdicts["rest"] == SUPPORTED and NOT_SUPPORTED in recall else every(verdicts)


def _m6(verdicts: Mapping[str, str]) -> str:
    """The split into two kinds of operation always sums to the whole; only the remainder could contradict it."""
    return BY_CONSTRUCTION if verdicts["unassigned"] == SUPPORTED else verdicts["unassigned"]


def _m7(verdicts: Mapping[str, str]) -> str:
    """Two halves, probing and retrieval (which has two conditions); *mixed* if one half holds and the other fails."""
    retrieval = every({k: v for k, v in verdicts.items() if k != "probe selectivity"})
    return mixed_if_one({"probes": verdicts["probe selectivity"], "retrieval": retrieval})


@dataclass(frozen=True)
class Criterion:
    """The estimates a claim needs, by name, the rule that combines their verdicts, and both in words."""

    text: str
    parts: Mapping[str, Part | Band]
    combine: Callable[[Mapping[str, str]], str] = every

    def verdict(self, effect: Mapping[str, float], ci: Mapping[str, Interval]) -> tuple[str, dict[str, str]]:
        each = {name: part.verdict(effect[name], ci[name]) for name, part in self.parts.items()}
        return self.combine(each), each


@dataclass(frozen=True)
class Claim:
    """One claim: the abstract's words, the objection a reviewer will raise, our test and criterion, the chapters."""

    id: str
    quote: str
    objection: str
    test: str
    criterion: Criterion
    chapters: tuple[str, ...]


_ENCODINGS = ("sinusoidal", "learned", "rotary", "alibi", "t5")

CLAIMS: dict[str, Claim] = {
    c.id: c
    for c in (
        Claim(
            "A1",
            "decoupling positional encodings from semantic embeddings, we optimize the model architecture",
            "Decoupling is confounded with relative/absolute; removing terms afterwards is off-distribution.",
            "Two matched, retrained pairs, learned → untied (absolute) and rotary → table (relative), tuned as for A2: "
            "percent of held-out loss that decoupling saves, paired by seed.",
            Criterion(
                "decoupling lowers held-out loss by ≥ δ = 0.5 % in both pairs, ≥ 8 seeds; mixed if in one",
                {"learned → untied": Part(DELTA, 0.0), "rotary → table": Part(DELTA, 0.0)},
                mixed_if_one,
            ),
            ("accuracy", "decomposition"),
        ),
        Claim(
            "A2",
            "achieve superior accuracy compared to prevailing encoding methods",
            "Our formula; bytes favour local fields; tuning; the starting field.",
            "Percent of held-out loss by which AGF beats each of sinusoidal, learned, rotary, ALiBi and T5, on bytes "
            "and on words, tuned alike on seeds and documents of their own: every rival at its best rate and from the "
            "better of its published start and the one nearest to AGF's; AGF against KERPLE-log is the A/A pair.",
            Criterion(
                "AGF beats each of the five by ≥ δ = 0.5 % on bytes and on words (intersection–union); the A/A pair's "
                "interval lies inside ± δ",
                {
                    **{f"{u}: {e}": Part(DELTA, 0.0) for u in ("bytes", "words") for e in _ENCODINGS},
                    "A/A": Band(-DELTA, DELTA),
                },
            ),
            ("accuracy",),
        ),
        Claim(
            "A3",
            "A Power-Law Interpretation of Positional Correlation",
            "Identification, window, pooling; a model with an imposed law proves nothing.",
            "Free-field and rotary or no-position models: laws fitted on r ≤ N/4, scored on N/4–N/2; share of eligible "
            "heads (distance explains ≥ 10 % of the logits' variance) where the shifted power law beats both the "
            "exponential and the stretched exponential, clustered by model.",
            Criterion(
                "≥ 67 % of eligible heads (null 50 %); mixed if < 50 % of heads are eligible",
                {"share": Part(0.67, 0.5), "eligible": Part(0.5, 0.0)},
                _a3,
            ),
            ("power_vs_exp",),
        ),
        Claim(
            "A4",
            "intrinsic consistency with learning … curves",
            "The cosine schedule shapes the curve; averaging makes power laws.",
            "Constant learning rate; share of per-type, per-run loss curves whose held-out last third the power law "
            "predicts better than the exponential. The pooled curve carries no verdict.",
            Criterion("≥ 67 % of curves (null 50 %)", {"share": Part(0.67, 0.5)}),
            ("learning_curves",),
        ),
        Claim(
            "A5",
            "… and stability curves",
            "'Stability' is not defined in the abstract; a model with a power field forgets by a power law circularly.",
            "Read as retention: in free-field and rotary models, recall log-odds of an item against lag with equal "
            "fillers; held-out error of the power law over the exponential's, per item, then pooled.",
            Criterion("ratio ≤ 0.9 (null 1)", {"error ratio": Part(0.9, 1.0, above=False)}),
            ("learning_curves",),
        ),
        Claim(
            "A6",
            "empirical alignment with Newton's Law of Universal Gravitation",
            "Query mass is the softmax normaliser; superposition fails because softmax competes; the window picks the "
            "exponent.",
            "The gravity model per head: exponent of distance, reliability of key masses, product form against a "
            "type × distance model, cross-validated.",
            Criterion(
                "all of: pooled exponent's interval inside [1.75, 2.25], ≥ 50 % of eligible heads' intervals contain "
                "2; key masses reliable across documents, ICC ≥ 0.8; product form ≥ 90 % of the deviance that the "
                "type × distance model explains",
                {
                    "exponent": Band(1.75, 2.25),
                    "heads with 2 inside": Part(0.5),
                    "mass ICC": Part(0.8),
                    "product form": Part(0.9),
                },
            ),
            ("newton",),
        ),
        Claim(
            "A7",
            "Part-of-Speech VS Attention (figure 2)",
            "Class is frequency, syntactic distance and sinks.",
            "Held-out deviance that class-pair terms add beyond distance × frequency × sentence position, labels "
            "permuted over word types within frequency bins; share of heads where they add ≥ 2 %.",
            Criterion(
                "≥ 2 % in ≥ 50 % of heads, on each of two corpora",
                {"first corpus": Part(0.5), "second corpus": Part(0.5)},
            ),
            ("parts_of_speech",),
        ),
        Claim(
            "M1",
            "Intelligent behaviours map to paths in Embedding Space which, the Transformer random-walks through during "
            "inferencing",
            "Sampling is a walk by definition; a random walk should mean Markov.",
            "Predicting the next context vector: points of held-out R² that the full history adds over the current "
            "vector and the next token.",
            Criterion("≤ 5 points", {"added R²": Part(5.0, above=False)}),
            ("paths",),
        ),
        Claim(
            "M2",
            "LM training learns a probability distribution over all possible paths",
            "Real beats shuffled cannot fail.",
            "Known sources (grammar, hidden Markov): share of the unigram model's KL to the truth that training "
            "removes; slope of log p(model) on log p(truth) over held-out paths.",
            Criterion(
                "KL falls by ≥ 90 %; slope's interval inside [0.9, 1.1]",
                {"KL removed": Part(0.9), "slope": Band(0.9, 1.1)},
            ),
            ("paths",),
        ),
        Claim(
            "M3",
            "No learning can take place in-context; context only narrows the subset of paths sampled during decoding",
            "Frozen weights are definitional; entropy falls with context in any good model.",
            "Finite-task pre-training (after Raventós et al. 2023): on unseen tasks, percent by which the error beats "
            "the Bayes mixture over the training tasks, at the diversity where it beats it most.",
            Criterion(
                "≤ 5 %; not supported where the interval lies above 10 %",
                {"beats mixture by": Part(5.0, above=False, against=10.0)},
            ),
            ("paths",),
        ),
        Claim(
            "M4",
            "it's proximity to a token-vector reflects its co-occurrence and conditioned probability",
            "The logit is log p; frequency.",
            "Cosine, not logit; held-out contexts seen ≥ 50 times: partial Spearman correlation with the corpus's "
            "p(w | context) given log unigram, tied and untied embeddings.",
            Criterion(
                "≥ 0.30, and above untrained and shuffled, for tied and for untied embeddings",
                {
                    **{f"{e} ρ": Part(0.30, 0.0) for e in ("tied", "untied")},
                    **{f"{e} above {c}": Part(0.0) for e in ("tied", "untied") for c in ("untrained", "shuffled")},
                },
            ),
            ("paths",),
        ),
        Claim(
            "M5",
            "Attention contributes a - potentially redundant - association-bias to this process",
            "Tiny byte models are n-grams; recovery from the no-mixing floor flatters.",
            "Retrained field-only models at equal parameters: excess loss (%) on recall tokens (repeated bigrams) and "
            "on the rest; multi-query recall accuracy as a share of full attention's.",
            Criterion(
                "within 2 % of the full loss on recall tokens and on the rest, and ≥ 90 % of full multi-query recall; "
                "mixed if only on the rest",
                {
                    "recall tokens": Part(2.0, above=False),
                    "rest": Part(2.0, above=False),
                    "multi-query recall": Part(0.9),
                },
                _m5,
            ),
            ("encoding_walk",),
        ),
        Claim(
            "M6",
            "filtering (data independent) and aggregation (data dependent). This generalization unifies Transformers "
            "with other sequence models",
            "A Jacobian split always sums to 100 %.",
            "Shares of each sub-layer's Jacobian; falsifiable part: percent of its norm that a classification fixed "
            "beforehand for Transformer, recurrent net and convolution leaves unassigned (the largest of the three).",
            Criterion(
                "true by construction, if ≤ 5 % of each Jacobian's norm stays unassigned",
                {"unassigned": Part(5.0, above=False)},
                _m6,
            ),
            ("encoding_walk",),
        ),
        Claim(
            "M7",
            "concept-space theory",
            "Probes memorise; retrieval is lexical overlap.",
            "Probe selectivity (control task, disjoint word types), points above untrained; pooled-context retrieval: "
            "share of (model − chance) that it closes, and its lead on TF-IDF.",
            Criterion(
                "selectivity ≥ 10 points above untrained, and retrieval closes ≥ 20 % and beats TF-IDF; mixed if one",
                {
                    "probe selectivity": Part(10.0, 0.0),
                    "retrieval closes": Part(0.2, 0.0),
                    "lead on TF-IDF": Part(0.0),
                },
                _m7,
            ),
            ("paths",),
        ),
    )
}


@dataclass(frozen=True)
class Verdict:
    """What `report` returns: the criterion's word for one run of one claim, with all it was drawn from."""

    id: str
    verdict: str
    parts: dict[str, str]
    effect: dict[str, float]
    ci: dict[str, Interval]
    n: int
    unit: str
    profile: str
    scope: str
    runs: str = ""
    here: str = ""
    why: str = ""

    def _repr_markdown_(self) -> str:
        claim = CLAIMS[self.id]
        rows = "\n".join(
            f"| {name} | {self.effect[name]:.3g} [{self.ci[name][0]:.3g}, {self.ci[name][1]:.3g}] | "
            f"{claim.criterion.parts[name]} | {self.parts[name]} |"
            for name in self.effect
        )
        runs = f"; reference runs: {self.runs}" if self.runs else ""
        return (
            f"**{self.id}: {self.verdict}.** “{claim.quote}” — criterion: {claim.criterion.text}. "
            f"n = {self.n}; scope: {self.scope}{runs}.\n\n"
            f"| part | estimate [95 %] ({self.unit}) | asks | verdict |\n|---|---|---|---|\n{rows}\n"
            + (f"\n**Why no verdict:** {self.why}\n" if self.why else "")
            + (f"\n**The run here:** {self.here}\n" if self.here else "")
        )


def report(
    id: str,
    effect: float | Mapping[str, float],
    ci: Interval | Mapping[str, Interval],
    n: int,
    unit: str,
    *,
    scope: str = "small models trained here",
    profile: str | None = None,
    runs: str = "",
    here: str = "",
    too_small: str = "",
) -> Verdict:
    """Hand a claim its estimates; the criterion returns the verdict, and a notebook shows it.

    Args:
        id: the claim, `A1` … `M7`.
        effect: the estimate, or one for each of the criterion's parts, by name.
        ci: its 95 % interval `(low, high)`, likewise.
        n: independent repetitions behind it (seeds, models, heads).
        unit: the estimates' unit, in words.
        scope: what the verdict is about.
        profile: of the runs that the estimates come from: `full` for stored reference runs, whatever the notebook's
            own profile; None takes the checked parameter, or `full` outside a notebook.
        runs: which stored runs these are, if they are stored: commit, device, date.
        too_small: why these runs carry no verdict, if they do not (beside fewer than eight repetitions, or smoke).
        here: a sentence on how the run here compares with them: agrees, disagrees or too small to tell, with numbers.

    Raises:
        ValueError: unknown claim, missing or surplus parts, an interval that is not finite or misses its estimate.
    """
    if id not in CLAIMS:
        raise ValueError(f"unknown claim {id!r}; the claims are {', '.join(CLAIMS)}")
    parts = CLAIMS[id].criterion.parts
    effects = dict(effect) if isinstance(effect, Mapping) else dict.fromkeys(list(parts)[:1], float(effect))
    intervals = dict(ci) if isinstance(ci, Mapping) else dict.fromkeys(list(parts)[:1], ci)
    for what, given in (("effect", effects), ("ci", intervals)):
        if set(given) != set(parts):
            raise ValueError(f"claim {id}: {what} has {sorted(given)}; the criterion asks for {sorted(parts)}")
    for name, value in effects.items():
        low, high = intervals[name]
        if not all(map(math.isfinite, (value, low, high))) or not low <= value <= high:
            raise ValueError(
                f"claim {id}, {name}: expected finite low ≤ estimate ≤ high, got {value} in [{low}, {high}]"
            )
    if profile is None:
        profile = str(provenance.parameters().get("profile", "full"))
    word, each = CLAIMS[id].criterion.verdict(effects, intervals)
    if profile == "smoke" or n < MIN_N or too_small:
        word = TOO_SMALL
    verdict = Verdict(id, word, each, effects, intervals, n, unit, profile, scope, runs, here, too_small)
    _show(verdict)
    return verdict


def _show(verdict: Verdict) -> None:
    """Into the notebook, with the record that the ledger reads; outside a notebook, nothing."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:  # a bare training machine has no IPython
        return
    if get_ipython() is None:
        return
    record = {"kind": "verdict", **asdict(verdict), "provenance": provenance.provenance()}
    text = verdict._repr_markdown_()
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata={"agf": record})
