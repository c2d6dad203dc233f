"""Operating characteristics: how often a claim's rule says what, in worlds whose truth we choose (ours).

Any claim: give `characteristics` a function that draws one world's estimates and intervals, and it asks the criterion
itself, `claims.CLAIMS[id].criterion`, what it says. For training claims a world is a table of losses resampled from the
seeds' own scatter, with a planted effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.claims import CLAIMS, MIN_N, SUPPORTED, TOO_SMALL, VERDICTS, Band, Interval
from agf_core.figures import Estimate

POWER, FALSE = 0.8, 0.05  # what a rule must promise before it may decide: claims.md, operating characteristics
Draw = Callable[[np.random.Generator], tuple[Mapping[str, float], Mapping[str, Interval]]]


def characteristics(id: str, worlds: Mapping[str, Draw], trials: int = 400, seed: int = 0) -> pd.DataFrame:
    """Share of each verdict by world: columns world, one for each verdict that occurs (0 … 1), and supported always."""
    criterion, rows = CLAIMS[id].criterion, []
    for name, draw in worlds.items():
        rng = np.random.default_rng(seed)
        words = [criterion.verdict(*draw(rng))[0] for _ in range(trials)]
        rows.append({"world": name, **{v: words.count(v) / trials for v in VERDICTS if v in words or v == SUPPORTED}})
    return pd.DataFrame(rows).fillna(0.0)


def foretold(evidence: Mapping[str, Any] | None) -> str:
    """The verdict that `claims.report` will print for these arguments; *too small to tell* where there are none."""
    if not evidence or evidence["profile"] == "smoke" or evidence["n"] < MIN_N or evidence.get("too_small"):
        return TOO_SMALL
    criterion = CLAIMS[evidence["id"]].criterion
    values = (x if isinstance(x, Mapping) else dict.fromkeys(criterion.parts, x) for x in
              (evidence["effect"], evidence["ci"]))  # fmt: skip
    return criterion.verdict(*values)[0]


def agreement(id: str, here: Mapping[str, Estimate], there: Mapping[str, Estimate]) -> str:
    """Part by part, whether the runs here lie on the same side of what the criterion asks as the reference runs.

    They disagree only where their interval lies on the other side, too: one seed alone contradicts nothing.
    """
    said = []
    for name, part in CLAIMS[id].criterion.parts.items():
        if not all(name in found and np.isfinite(found[name].value) for found in (here, there)):
            said.append(f"{name}: not measured here, or with too few seeds")
            continue
        own, other = here[name], there[name]
        meets = [part.low <= x <= part.high if isinstance(part, Band) else (x >= part.threshold) == part.above
                 for x in (own.value, other.value, own.low, own.high)]  # fmt: skip
        clear = np.isfinite([own.low, own.high]).all() and len({meets[0], *meets[2:]}) == 1
        word = "agrees" if meets[0] == meets[1] else "disagrees" if clear else "too small to tell"
        said.append(f"{name}: {word} (here {own.value:.3g}, there {other.value:.3g})")
    return f"on which side of its threshold each part lies, {'; '.join(said)}."


def powerless(power: float, false: float, true: str, others: str = "of the others") -> str:
    """Why a rule cannot decide that says *supported* in a share `power` of the worlds `true` (a clause) and in up to
    `false` of `others`; "" where it can."""
    if power >= POWER and false <= FALSE:
        return ""
    return (
        f"the rule says *{SUPPORTED}* in {power:.0%} of the worlds {true}, and in up to {false:.0%} {others}; it would "
        f"need ≥ {POWER:.0%} and ≤ {FALSE:.0%}"
    )


def seed_world(scatter: Mapping[str, np.ndarray], effect: Mapping[str, float], seeds: int) -> Draw:
    """Draws of paired seed tables: part → estimate and Student's interval, when the true effects are `effect`.

    `scatter`: part → the seeds' own differences, whose mean is taken out. A smoothed bootstrap: seeds are resampled
    whole, so that parts which share a model keep their correlation, and every draw is moved by Gaussian noise of the
    same covariance (Silverman's width), then scaled back to the seeds' own variance. Without the noise eight seeds
    repeat one another so often that Student's interval fails three times as often as it does.
    """
    parts = list(scatter)
    length = min(len(scatter[p]) for p in parts)
    centred = np.stack([np.asarray(scatter[p][:length]) - np.mean(scatter[p][:length]) for p in parts])
    centred *= np.sqrt(length / (length - 1))
    width = (4 / (3 * length)) ** 0.2
    quantile = float(stats.t.ppf(0.975, seeds - 1))
    planted = np.array([effect[p] for p in parts])

    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, Interval]]:
        noise = centred @ rng.standard_normal((length, seeds)) / np.sqrt(length)  # the covariance of the seeds
        moved = centred[:, rng.integers(length, size=seeds)] + width * noise
        sample = moved / np.sqrt(1 + width**2) + planted[:, None]
        value = sample.mean(1)
        half = quantile * sample.std(1, ddof=1) / np.sqrt(seeds)
        return dict(zip(parts, value.tolist())), dict(zip(parts, zip((value - half).tolist(), (value + half).tolist())))

    return draw
