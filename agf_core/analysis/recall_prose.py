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
    rows, share = [], {}
    for dim in sorted(set(results.recall["dim"])):
        full = of.by_seed(results.recall, FULL, "accuracy", dim)
        own, chance = of.by_seed(results.recall, FIELD, "accuracy", dim), results.recall["chance"].iloc[0]
        share[dim] = mean((own / full).dropna())
        learned = int((full > (1 + chance) / 2).sum())
        rows.append(f"{dim}, where {learned} of {len(full)} learn it with association, {shown(share[dim])}")
    if not rows:
        return "Multi-query recall is not measured here."
    text = f"Accuracy of the field alone as a share of full attention's, by width: {'; '.join(rows)}."
    if len(share) < 2 or not all(map(known, share.values())):
        return text
    asked = f"the {allowed(QUERIES):.0%} that M5 asks"
    for verb, dims in (
        ("has", [str(d) for d, e in share.items() if e.low >= allowed(QUERIES)]),
        ("lacks", [str(d) for d, e in share.items() if e.high < allowed(QUERIES)]),
        ("may or may not have", [str(d) for d, e in share.items() if e.low < allowed(QUERIES) <= e.high]),
    ):
        text += f" It {verb} {asked} at {listed(dims)}." if dims else ""
    first, last = share[min(share)], share[max(share)]
    if last.high < first.low:
        return text + " Wider models learn to look up more surely, and so lose more without association."
    return text + " Whether wider models lose more cannot be told: where all learn it, the accuracy is at its ceiling."
