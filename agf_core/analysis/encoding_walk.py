"""How far does data-independent mixing go? Claims M5 and M6, from the runs of `mixing_grids` (ours).

Retrained models whose mixing does not look at the data, beside full attention: loss on repeated bigrams (recall tokens)
and on the rest, multi-query recall, three sizes. Beside them, from the weights of the full models: attention replaced
(`replaced`), and each sub-layer's Jacobian split into filtering and aggregation (`jacobian`). Tables and
estimates are in `mixing_results`, calibrations and the convolution's timing in `mixing_checks`, pictures in
`mixing_figures`, sentences in `mixing_prose` and `filtering_prose`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agf_core.analysis import chapter_runs, grids, jacobian, measured, mixing_checks, mixing_grids, replaced
from agf_core.analysis import operating as rules
from agf_core.analysis.mixing_checks import HALF, TRUE, allowed
from agf_core.analysis.mixing_grids import FULL
from agf_core.analysis.mixing_results import (
    DIM,
    RECALL,
    VALUES,
    Results,
    by_seed,
    collect,
    differences,
    estimates,
    excess,
    unassigned,
)
from agf_core.claims import SUPPORTED
from agf_core.figures import Estimate
from agf_core.runs import RunConfig, reference_runs

PARTS = [g for g in mixing_grids.GRIDS if g.startswith("walk-")]
STORED = ("accuracy-bytes", "field-free", *PARTS, "replaced", "jacobian")  # files on which the page depends


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, and the reference runs (None where none are stored).

    worlds, worlds6  what the rules of M5 and M6 say where the truth is known; known  sub-layers whose split is known;
    speed            see `mixing_checks.speed`; error  float32's, of the convolution, by field
    """

    here: Results
    reference: Results | None
    corpus: str
    worlds: pd.DataFrame
    worlds6: pd.DataFrame
    known: pd.DataFrame
    speed: pd.DataFrame
    error: dict[str, float]

    @property
    def deciding(self) -> Results:
        """Which runs carry M5's verdict: the reference runs, where there are any."""
        return self.here if self.reference is None or not self.reference.decides else self.reference

    @property
    def stored(self) -> bool:
        return self.deciding is self.reference

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids

    def part(self, name: str) -> Results:
        """Who has `name` ("replaced", "jacobians"): the reference runs, or else the runs here."""
        return self.here if self.reference is None or getattr(self.reference, name).empty else self.reference


def runs(profile: str) -> list[RunConfig]:
    """What the driver trains before the chapter starts."""
    return mixing_grids.encoding_walk(profile)


def measure(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> Page:
    """Train what is missing, and read everything; minutes in `cpu` where nothing is trained yet."""
    configs = mixing_grids.encoding_walk(profile, corpus, seed)
    records = chapter_runs.records(configs, STORED)
    found = {m: measured.of(m, module.configs(profile, corpus, seed), module.measure)
             for m, module in (("replaced", replaced), ("jacobian", jacobian))}  # fmt: skip
    here, stored = collect(profile, records, found, corpus, seed), reference_runs()
    reference = None
    if here.ids <= set(stored):
        reference = here
    elif any(c.id in stored for part in PARTS for c in mixing_grids.GRIDS[part]("full")):
        reference = collect("full", stored, {m: measured.stored(m) for m in found})
    names = [text["name"] for r in records.values() if (text := r["provenance"]["text"])]
    decides = here if reference is None or not reference.decides else reference
    jacobians = here if reference is None or reference.jacobians.empty else reference
    trials = 100 if profile == "smoke" else 1000  # near the thresholds a few percent must be told apart
    return Page(
        here, reference, names[0] if names else corpus, mixing_checks.worlds(decides, trials, seed),
        mixing_checks.worlds6(jacobians, trials, seed), mixing_checks.known_splits(seed),
        mixing_checks.speed(profile), mixing_checks.precision(seed),
    )  # fmt: skip


def vacuous(results: Results) -> str:
    """Why there is nothing that could be called redundant here; "" where full attention has learned to mix.

    It must beat uniform mixing by twice what M5 allows to lose, on either kind of token, and know more of multi-query
    recall than half of what chance leaves: else two models that learned nothing would be as good as each other.
    """
    least = allowed(RECALL)
    for part, value in VALUES.items():
        gain = excess(results, "uniform", value)
        if gain.empty or not gain.mean() >= 2 * least:
            found = "nothing is known" if gain.empty else f"it is {gain.mean():.1f} %"
            return (f"full attention must gain {2 * least:g} % on uniform mixing before losing {least:g} % means "
                    f"anything; on {part} {found}")  # fmt: skip
    known, chance = (by_seed(results.recall, FULL, value, mixing_grids.WIDTH) for value in ("accuracy", "chance"))
    if known.empty or not (known > (1 + chance) / 2).all():
        return "full attention itself has not learned multi-query recall in every model"
    return ""


def powerless(worlds: pd.DataFrame) -> str:
    """Why M5's rule cannot decide with seeds that scatter like these; "" where it can."""
    share = worlds.set_index("world")[SUPPORTED]
    power, false = share[TRUE], share.drop([TRUE, HALF]).max()
    return rules.powerless(power, false, "in which nothing is lost", "of those in which too much is")


def evidence(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for M5; None where a part has no interval."""
    deciding, found = page.deciding, estimates(page.deciding)
    if not all(np.isfinite([e.value, e.low, e.high]).all() for e in found.values()):
        return None
    size, corpus = mixing_grids.SIZES[deciding.profile], grids.CORPUS if page.stored else page.corpus
    tokens = grids.SIZES[deciding.profile].tokens["bytes"]
    return {
        "id": "M5", "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()},
        "n": min(map(len, differences(deciding).values())), "unit": "percent of loss, percent of loss, share; n: seeds",
        "scope": f"small models trained here ({grids.BODY['layers']} layers, of {DIM} on {tokens / 1e6:.3g} M bytes of "
                 f"{corpus}, of {mixing_grids.WIDTH} on {size.recall / 1e6:.3g} M tokens of recall)",
        "profile": deciding.profile, "runs": deciding.made if page.stored else "",
        "here": agreement(page) if page.stored else "", "too_small": vacuous(deciding) or powerless(page.worlds),
    }  # fmt: skip


def agreement(page: Page, id: str = "M5") -> str:
    """How the run here compares with the reference runs, part by part."""
    if page.same:
        return "these are the reference runs."
    if page.here.profile == "smoke":
        return "too small to tell."
    there = page.reference or page.here
    return rules.agreement(id, *(most(r) if id == "M6" else estimates(r) for r in (page.here, there)))


def most(results: Results) -> dict[str, Estimate]:
    """M6's part: the net that leaves most; empty unless all three nets are measured."""
    found = unassigned(results)
    return {"unassigned": max(found.values(), key=lambda e: e.value)} if set(found) == set(jacobian.NETS) else {}


def evidence6(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for M6: the net that leaves most; None where it has no interval."""
    results = page.part("jacobians")
    e = most(results).get("unassigned")
    if e is None or not np.isfinite([e.value, e.low, e.high]).all():
        return None
    stored = results is page.reference
    return {
        "id": "M6", "effect": e.value, "ci": (e.low, e.high), "n": int(results.jacobians["seed"].nunique()),
        "unit": "percent of the norm; n: seeds, three nets each",
        "scope": f"small nets trained here on bytes of {grids.CORPUS if stored else page.corpus}",
        "profile": results.profile, "runs": results.made if stored else "",
        "here": agreement(page, "M6") if stored else "",
    }  # fmt: skip
