"""The sentences of the chapter `paths` on vectors of words: nearness (M4) and concepts (M7) (ours)."""

from __future__ import annotations

from agf_core.analysis import word_space
from agf_core.analysis.accuracy_words import known, shown, table
from agf_core.analysis.concepts import NAMED
from agf_core.analysis.contrasts import mean
from agf_core.analysis.paths import Page
from agf_core.claims import CLAIMS
from agf_core.figures import Estimate


def near(page: Page) -> str:
    """M4 in a sentence."""
    found = page.deciding("M4").estimates.get("M4")
    if not found:
        return "No pair of tied and untied models of words is measured."
    asked = CLAIMS["M4"].criterion.parts["untied ρ"].threshold  # type: ignore[union-attr]
    return (
        f"Partial rank correlation of cosine with p(w | context) given frequency, of which {asked:g} is asked: tied "
        f"{shown(found['tied ρ'], '.3f')}, untied {shown(found['untied ρ'], '.3f')}; above the untrained model by "
        f"{shown(found['tied above untrained'])} and "
        f"{shown(found['untied above untrained'])}."
    )


def concepts(page: Page) -> str:
    """M7 in a sentence."""
    results = page.deciding("M7")
    if not results.hits["items"].sum():
        return "No model of words is measured."
    ways = word_space.retrieval(results.hits)
    probes = (
        f"Probes of words never probed before: selectivity above the untrained model's by "
        f"{shown(word_space.selectivity(results.probes), '.1f')}. "
        if len(results.probes) else "The text has no tags, so nothing is probed. "
    )  # fmt: skip
    return (
        f"{probes}Of four continuations, pooled context vectors find {_share(ways['pooled'])}, the model's own log p "
        f"{_share(ways['model'])}, TF-IDF {_share(ways['tfidf'])}; chance is 25 %."
    )


def _share(e: Estimate) -> str:
    return shown(Estimate(100 * e.value, 100 * e.low, 100 * e.high, "%"), ".1f")


def vectors(page: Page) -> str:
    """M4 by length of context and kind."""
    results = page.deciding("M4")
    kinds = ("trained", "untrained", "shuffled", "input", "product", "resampled")
    rows = [["embeddings", "context", "contexts", *kinds]]
    for (embeddings, words), one in results.near.groupby(["embeddings", "words"], sort=False):
        cells = [shown(mean(one.loc[one["kind"] == k, "rho"]), ".3f") for k in kinds]
        rows.append([embeddings, "one word" if words == 1 else "two words", f"{one['count'].mean():.0f}", *cells])
    if len(rows) == 1:
        return "No context is frequent enough here to be measured."
    return (
        "Partial rank correlations. *Resampled* is what counts as few as these leave of a perfect correlation; the "
        f"*product* is the logit, which is trained to be log p.\n\n{table(rows)}"
    )


def probed(page: Page) -> str:
    """M7 in a table."""
    results = page.deciding("M7")
    rows = [["property", "model", "accuracy, %", "control, %", "selectivity, points"]]
    for (name, model), one in results.probes.groupby(["property", "model"], sort=False):
        rows.append([name, model, *(shown(mean(one[k]), ".1f") for k in ("accuracy", "control", "selectivity"))])
    text = table(rows) if len(rows) > 1 else "The text has no tags, so nothing is probed."
    if known(named := word_space.selectivity(results.probes, NAMED)):
        text += (
            "\n\nWhat a noun names (a person, a place, a time, a part of the body) is nearest to a concept: there "
            f"selectivity lies above the untrained model's by {shown(named, '.1f')}. Exploratory: our list of nouns, "
            "made when the verdict was known."
        )
    if not results.hits["items"].sum():
        return text
    ways = word_space.retrieval(results.hits)
    e = ways["lead on TF-IDF"]
    ahead = Estimate(100 * e.value, 100 * e.low, 100 * e.high)
    behind = Estimate(-ahead.value, -ahead.high, -ahead.low)
    lead = f"lead TF-IDF by {shown(ahead, '.1f')}" if e.value > 0 else f"trail TF-IDF by {shown(behind, '.1f')}"
    return (
        f"{text}\n\nRetrieval: pooled vectors close {shown(ways['retrieval closes'])} of what lies between chance and "
        f"the model's own log p, and {lead} (points of items). "
        "Where the model's own log p is hardly above chance, the first is a ratio of small numbers. By dot product, as "
        f"the paper's author ranks endings, pooled vectors find {_share(ways['dot'])}."
    )
