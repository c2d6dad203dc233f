"""The sentences of the chapter `power_vs_exp` on one model that was trained elsewhere: who wins, how its exponent
hangs on the way of measuring, and what its heads pool to. Written from the runs, and exploratory (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from agf_core.analysis import law_scores, mixture
from agf_core.analysis.accuracy_words import shown, table
from agf_core.analysis.power_figures import WINNERS
from agf_core.analysis.power_pretrained import INPUTS, Observed
from agf_core.analysis.specification_figures import PUBLISHED

TIES = (
    f"A law wins only by more than the margin of {law_scores.MARGIN:.0%}; the exponential, the simplest, keeps what no "
    "rival wins from it, so heads called exponential include ties."
)
KEPT = "exponential kept (tie)"
COLUMNS = ["shifted power", "exponential wins", KEPT, "stretched exponential", "undecided", "does not fall"]


def _named(heads: pd.DataFrame) -> pd.Series:
    """A head's winner by name, one of `COLUMNS`: an exponential that wins apart from one that is kept."""
    names = heads["winner"].map({winner: name for winner, (_, name) in WINNERS.items()})
    names = names.where(heads["winner"] != "exponential", COLUMNS[1])
    return names.where(~heads["tie"].astype(bool), KEPT)


def model(observed: Observed, why: str = "") -> str:
    """Who wins in the model that was trained elsewhere, and in its controls."""
    rows = [["input", "heads", "eligible", "power law wins [95 %]", *COLUMNS[1:]]]
    for given in INPUTS:
        scores = observed.scores[given]
        found, able = law_scores.share(scores), scores.table[scores.table["eligible"]]
        share = _named(able).value_counts(normalize=True)
        rows.append([given, str(len(scores.table)), f"{len(able)}", shown(found["share"]) if len(able) else "–",
                     *(f"{share.get(name, 0):.0%}" if len(able) else "–" for name in COLUMNS[1:])])  # fmt: skip
    side = "which looks back only" if observed.causal else "which sees both sides; a head's two sides are averaged"
    return (
        (f"*{why}. A model trained here takes its place.*\n\n" if why else "")
        + f"{observed.name} ({observed.source}), {side}. Distances up to {observed.window}; one model, so "
        f"its intervals are wide: heads of one model are alike. {TIES}\n\n{table(rows)}"
    )


def in_short(observed: Observed) -> str:
    """Who wins in the only model that was trained elsewhere: one sentence for the short answer."""
    heads = observed.scores["text"].table
    able = heads[heads["eligible"]]
    whose = (
        f"No model from elsewhere is here; in {observed.name}" if observed.trained_here
        else f"In {observed.name}, the only model here that was trained elsewhere"
    )  # fmt: skip
    if not len(able):
        return f"{whose}, no head is eligible."
    share = _named(able).value_counts(normalize=True)
    power, wins, kept = (share.get(name, 0.0) for name in COLUMNS[:3])
    return (
        f"{whose}, the shifted power law wins {power:.0%} of {len(able)} eligible heads; {wins + kept:.0%} are called "
        f"exponential ({wins:.0%} won, {kept:.0%} ties that the simpler law keeps). Exploratory."
    )


def exponents(observed: Observed) -> str:
    """How far the exponent of one model hangs on how it is measured."""
    found = observed.curve["exponent"].dropna()
    if found.empty:
        return "No way of measuring the exponent of a pretrained model gave a number."
    low, middle, high = found.quantile([0.025, 0.5, 0.975])
    inside = found.between(*PUBLISHED).mean()
    whom = "a model trained here" if observed.trained_here else observed.name
    return (
        f"**One model, one exponent?** {len(found)} ways of measuring the exponent of {whom} give {middle:.2f}, from "
        f"{low:.2f} to {high:.2f} (95 % of them); {inside:.0%} lie within the {PUBLISHED[0]:g} to {PUBLISHED[1]:g} "
        "that is in print"
    ) + "."  # fmt: skip


def specifications(observed: Observed) -> str:
    """The range of exponents, and which choice makes most of it."""
    shares = observed.shares.sort_values("share", ascending=False)
    said = "; ".join(f"{row.factor} {row.share:.0%}" for row in shares.itertuples())
    return f"{exponents(observed)} Shares of their variance: {said}."


def pooled(observed: Observed) -> str:
    """Whether pooling exponential heads explains a power law here, and how far resampled heads agree on it."""
    if (found := observed.pooled) is None:
        return "Fewer than three eligible heads fall with distance, so there is nothing to pool."
    power, gamma = found.error("fitted shifted power"), found.error("gamma mixture")
    text = (
        f"Of {len(found.heads)} eligible heads, {shown(found.exponential, '.0%')} are called exponential one by one "
        f"(ties, {found.heads['tie'].mean():.0%} of all, included), and {shown(found.power, '.0%')} a shifted power "
        "law. "
        f"Held-out error of their pooled field (median over distances of the square of log g): one exponential "
        f"{found.error('single exponential'):.2g}, the heads' own exponentials "
        f"{found.error(mixture.CURVES[1]):.2g}, a shifted power law fitted to the pool {power:.2g}"
    )
    if np.isfinite(gamma):
        text += f", the Gamma distribution of the heads' rates, with nothing fitted, {gamma:.2g}"
    return f"{text}.\n\n{_cut()} {_resampled(found)}"


def _cut() -> str:
    return (
        f"Where most heads are power laws, pooling is not needed. There is a power law to explain if one exponential "
        f"misses the pool by more than {np.sqrt(mixture.BEND):.2f} nat and a shifted power law leaves at most "
        f"{mixture.BENT:.0%} of its error; pooling explains it if most heads are called exponential and the Gamma "
        f"distribution leaves less than {mixture.EXPLAINED:.0%}. A verdict stands if at least {mixture.AGREE:.0%} of "
        f"{mixture.RESAMPLES} resamples of the heads give it. Exploratory: no criterion was fixed beforehand."
    )


def _resampled(found: mixture.Mixture) -> str:
    if found.verdict != mixture.UNDECIDED:
        return f"So: **{found.verdict}** (in {found.agreed[found.verdict]:.0%} of the resamples)."
    said = [f'"{word}" in {share:.1%}' for word, share in found.agreed.items() if share]
    return f"So: **{mixture.UNDECIDED}**. The resamples say {', '.join(said)}."
