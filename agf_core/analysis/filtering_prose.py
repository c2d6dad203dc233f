"""The sentences of the chapter `encoding_walk` on attention that is replaced, on filtering and aggregation, and on the
convolution's time (ours).
"""

from __future__ import annotations

import numpy as np

from agf_core.analysis import jacobian, replaced
from agf_core.analysis import mixing_results as of
from agf_core.analysis.accuracy_words import shown
from agf_core.analysis.contrasts import mean
from agf_core.analysis.encoding_walk import Page
from agf_core.analysis.filtering_figures import NETS, WAYS
from agf_core.analysis.kernel_runs import BY_SCORES
from agf_core.analysis.mixing_checks import PLAIN, crossover
from agf_core.analysis.mixing_grids import FIELD
from agf_core.analysis.mixing_results import DIM, Results


def replacing(results: Results) -> str:
    """What full models lose when attention is replaced, and in which layer."""
    found = results.replaced
    own = found[(found["encoding"] == "agf") & (found["dim"] == DIM)]
    if own.empty:
        return "No model's weights are here to replace anything in."
    rows = []
    for way in (w for w in WAYS if w in set(own["way"])):
        at = own[own["way"] == way].groupby("layer")[["recall", "rest"]]
        every = {c: mean(at.get_group(replaced.EVERY)[c]) for c in ("recall", "rest")}
        rows.append(f"{WAYS[way]}: {shown(every['recall'], '.1f')} % on recall tokens, {shown(every['rest'], '.1f')} % "
                    "on the rest")  # fmt: skip
    single = own[own["layer"] != replaced.EVERY].groupby("layer")[["recall", "rest"]].mean().mean(axis=1)
    text = f"Loss added in AGF of width {DIM} when attention is replaced in all layers by {'; '.join(rows)}."
    if len(single) > 1:
        text += f" Layer {single.idxmax()} is missed most, layer {single.idxmin()} least."
    retrained = of.excess(results, FIELD, "recall").mean()
    field = own[(own["way"] == "field") & (own["layer"] == replaced.EVERY)]["recall"].mean()
    if np.isfinite([retrained, field]).all():
        text += (
            f" On recall tokens a model that was trained without association loses {retrained:.1f} %, one that loses "
            f"it afterwards {field:.1f} %."
        )
    return text


def known_splits(page: Page) -> str:
    """Whether the split finds what is known."""
    t = page.known
    found = t["filtering"] + t["aggregation"]  # where both are there
    for kind in set(t["expects"]) - {"two"}:
        found = found.where(t["expects"] != kind, t[kind])
    return (
        f"Shares that should be 1 come out within {(found - 1).abs().max():.1%} of it in {len(t)} sub-layers. Each "
        "input is read with its mirror image, so that means which are 0 are exactly 0."
    )


def left_over(results: Results) -> str:
    """What stays unassigned in each net."""
    found = of.unassigned(results)
    if not found:
        return "No Jacobian is measured here."
    said = "; ".join(f"{NETS[n]} {shown(e, '.0f')} %" for n, e in found.items())
    return f"Of the norm of a sub-layer's Jacobian, on average, so much is neither filtering nor aggregation: {said}."


def jacobians(results: Results) -> str:
    """Where the remainder sits."""
    t = results.jacobians
    if t.empty:
        return "No Jacobian is measured here."
    means = t.astype(dict.fromkeys(("filtering", "aggregation", "unassigned", "cross"), float)).groupby(
        ["net", "sub"], sort=False)[["filtering", "aggregation", "unassigned", "cross"]].mean()  # fmt: skip
    net, sub = means["unassigned"].idxmax()
    attention = means[[n == jacobian.NETS[0] and s.startswith("attention") for n, s in means.index]]
    text = (
        f"{left_over(results)} Most of it is in {NETS[net]}, {sub}: {means['unassigned'].max():.0%} of the "
        "squared norm. "
    )
    if len(attention):
        kinds = " and ".join(f"{r['aggregation']:.0%} aggregation beside {r['filtering']:.0%} filtering"
                             for _, r in attention.iterrows())  # fmt: skip
        text += f"Attention itself, layer by layer: {kinds}. "
    res = t.assign(**{c: t[c].astype(float) for c in ("unassigned", "norm", "with_residual")})
    sums = res.assign(own=res["unassigned"] * res["norm"]).groupby("net")[["own", "with_residual"]].sum()
    with_path = {n: 100 * np.sqrt(sums.loc[n, "own"] / sums.loc[n, "with_residual"]) for n in sums.index if n != "gru"}
    said = ", ".join(f"{NETS[n]} {v:.0f} %" for n, v in with_path.items())
    cross, squared = means["cross"].abs().max(), means["unassigned"].groupby("net").mean()
    return text + (
        f"As a share of the squared norm, the mean of a net is at most {squared.max():.0%} ({NETS[squared.idxmax()]}). "
        f"Counted with the residual path, all sub-layers of a net in one: {said} (the GRU has none). Bends and weights "
        f"together (twice their inner product) account for up to {cross:.0%} of a sub-layer's squared norm."
    )


def speed(page: Page) -> str:
    """From which length on a convolution is quicker, and how exact it is."""
    t, said = page.speed, []
    for what, called in (("forward", "forwards"), ("training", "forwards and backwards")):
        last = t[(t["pass"] == what) & t["ratio"].notna()].iloc[-1]
        at, plain = crossover(t, what, BY_SCORES), crossover(t, what, PLAIN)
        said.append(
            f"{called}, it takes {1 / last['ratio']:.2f} [{1 / last['high']:.2f}, {1 / last['low']:.2f}] of the time "
            f"that `attend` takes for the same at N = {last['length']:.0f}; it is quicker "
            + (f"from N = {at} on" if at else "at no length measured")
            + (f", and quicker than full attention without a field from N = {plain} on" if plain else
               ", and than full attention without a field at no length measured")
        )  # fmt: skip
    errors = "; ".join(f"{name}: {e:.1e}" for name, e in page.error.items())
    return (
        f"Measured on this page, beside whatever else ran: {'; '.join(said)}. Largest error in float32, relative to "
        f"the largest value: {errors}."
    )
