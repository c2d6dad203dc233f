"""The sentences of the chapter `encoding_walk` on multi-query recall, written from the runs (ours)."""

from __future__ import annotations

from agf_core.analysis import mixing_grids
from agf_core.analysis import mixing_results as of
from agf_core.analysis.accuracy_words import known, listed, shown
from agf_core.analysis.contrasts import mean
from agf_core.analysis.mixing_checks import allowed
from agf_core.analysis.mixing_figures import NAMES
from agf_core.analysis.mixing_grids import FIELD, FULL, MIXINGS
from agf_core.analysis.mixing_results import QUERIES, Results


def queries(results: Results) -> str:
    """Multi-query recall, chance taken off."""
    part = {n: of.above_chance(results, n) for n in MIXINGS if n != FULL and len(of.above_chance(results, n))}
    if results.recall.empty:
        return "Multi-query recall is not measured here."
    if not part:
        return "Full attention is not above chance here, so no share of what it can says anything."
    task, chance = mixing_grids.TASK, results.recall["chance"].iloc[0]
    plain = of.differences(results)[QUERIES].mean()
    said = "; ".join(f"{NAMES[n]} {shown(mean(v))}" for n, v in part.items())
    return (
        f"{task.pairs} pairs of {task.symbols} keys and as many values; the best guess that knows the values but not "
        f"whose they are is right in {chance:.0%}. As a share of full attention's accuracy the field alone has "
        f"{plain:.2f}, which flatters; chance taken off: {said}."
    )


def wider(results: Results) -> str:
    """Multi-query recall of the field alone, by width, and whether models that learn it better lose more."""
    rows, share, sure = [], {}, []
    for dim in sorted(set(results.recall["dim"])):
        full = of.by_seed(results.recall, FULL, "accuracy", dim)
        own, chance = of.by_seed(results.recall, FIELD, "accuracy", dim), results.recall["chance"].iloc[0]
        share[dim] = mean((own / full).dropna())
        learned = int((full > (1 + chance) / 2).sum())
        sure += [dim] if learned == len(full) else []
        rows.append(f"{dim}, where {learned} of {len(full)} learn it with association, {shown(share[dim])}")
    if not rows:
        return "Multi-query recall is not measured here."
    text = f"Accuracy of the field alone as a share of full attention's, pair by pair, by width: {'; '.join(rows)}."
    if len(share) < 2 or not all(map(known, share.values())):
        return text
    asked = f"the {allowed(QUERIES):.0%} that M5 asks"
    for verb, dims in (
        ("has", [str(d) for d, e in share.items() if e.low >= allowed(QUERIES)]),
        ("lacks", [str(d) for d, e in share.items() if e.high < allowed(QUERIES)]),
        ("may or may not have", [str(d) for d, e in share.items() if e.low < allowed(QUERIES) <= e.high]),
    ):
        text += f" It {verb} {asked} at {listed(dims)}." if dims else ""
    if unsure := [d for d in share if d not in sure]:
        text += f" At {listed(map(str, unsure))} the models that did not learn it have nothing to lose."
    if len(sure) > 1:
        least, most = (f(share[d].value for d in sure) for f in (min, max))
        text += f" At those at which all learn it ({listed(map(str, sure))}) the share differs by {most - least:.3f}."
    return text
