"""Known answers for every instrument of the chapter `paths`, and what its rules say of known worlds (ours)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from agf_core.analysis import concepts, in_context, known_sources, next_vector, proximity
from agf_core.analysis import operating as rules
from agf_core.analysis.contrasts import mean
from agf_core.analysis.operating import Draw, characteristics
from agf_core.claims import SUPPORTED
from agf_core.figures import Estimate
from agf_core.sources.finite_tasks import Tasks
from agf_core.sources.hidden import hmm

# Claim → world → (is the claim true there?, the true effects). Of M3: percent at every diversity, the largest first.
WORLDS: dict[str, dict[str, tuple[bool, dict[str, float]]]] = {
    "M1": {
        "history adds 0": (True, {"added R²": 0.0}),
        "history adds 7.5": (False, {"added R²": 7.5}),
        "history adds 15": (False, {"added R²": 15.0}),
    },
    "M2": {
        "0.97 of the KL goes, slope 1": (True, {"KL removed": 0.97, "slope": 1.0}),
        "0.85 of the KL goes, slope 1": (False, {"KL removed": 0.85, "slope": 1.0}),
        "0.97 of the KL goes, slope 0.85": (False, {"KL removed": 0.97, "slope": 0.85}),
    },
    "M3": {
        "0 % at every diversity": (True, {"largest": 0.0, "rest": 0.0}),
        "7.5 % at every diversity": (False, {"largest": 7.5, "rest": 7.5}),
        "20 % at one, 0 % elsewhere": (False, {"largest": 20.0, "rest": 0.0}),
    },
    "M4": {
        "ρ = 0.40": (True, {"ρ": 0.40, "above": 0.40}),
        "ρ = 0.20": (False, {"ρ": 0.20, "above": 0.20}),
        "ρ = 0.40, shuffled too": (False, {"ρ": 0.40, "above": 0.0}),
    },
    "M7": {
        "both halves": (True, {"probe selectivity": 20.0, "retrieval closes": 0.6, "lead on TF-IDF": 0.1}),
        "neither": (False, {"probe selectivity": 5.0, "retrieval closes": 0.1, "lead on TF-IDF": -0.1}),
        "closes 0.6, no lead": (False, {"probe selectivity": 20.0, "retrieval closes": 0.6, "lead on TF-IDF": 0.0}),
    },
}


def normal_world(found: Mapping[str, Estimate], effect: Mapping[str, float], n: int) -> Draw:
    """Draws of estimates and Student intervals about true effects, as uncertain as those measured; normal scatter."""
    t = float(stats.t.ppf(0.975, n - 1))
    error = {p: (e.high - e.low) / 2 / t for p, e in found.items()}

    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        value = {p: effect[p] + error[p] * rng.standard_normal() for p in found}
        half = {p: t * error[p] * np.sqrt(rng.chisquare(n - 1) / (n - 1)) for p in found}
        return value, {p: (value[p] - half[p], value[p] + half[p]) for p in found}

    return draw


def diversity_world(beats: pd.DataFrame, largest: float, rest: float) -> Draw:
    """Tables of seeds × diversities as scattered as the measured one, through M3's own choice of a diversity."""
    apart = (beats - beats.mean()).to_numpy() * np.sqrt(len(beats) / max(1, len(beats) - 1))
    planted = np.full(apart.shape[1], rest)
    planted[0] = largest

    def draw(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        noise = rng.standard_normal((len(apart), len(apart))) @ apart / np.sqrt(len(apart))  # the seeds' covariance
        e = mean(in_context.chosen_by_others(planted + noise))
        return {"beats mixture by": e.value}, {"beats mixture by": (e.low, e.high)}

    return draw


def worlds(id: str, found: Mapping[str, Estimate], n: int, beats: pd.DataFrame | None, trials: int) -> pd.DataFrame:
    """What a claim's rule says of `WORLDS`, with the scatter that was measured; columns of `characteristics` and
    true."""
    draws: dict[str, Draw] = {}
    for name, (_, effect) in WORLDS[id].items():
        if id == "M3":
            assert beats is not None
            draws[name] = diversity_world(beats, **effect)
        elif id == "M4":
            parts = {p: effect["ρ" if p.endswith("ρ") else "above"] for p in found}
            draws[name] = normal_world(found, parts, n)
        else:
            draws[name] = normal_world(found, effect, n)
    return characteristics(id, draws, trials).assign(true=[t for t, _ in WORLDS[id].values()])


def powerless(table: pd.DataFrame) -> str:
    """Why a rule cannot decide with so much scatter; "" where it can."""
    return rules.powerless(*power(table), "where the claim is true")


def power(table: pd.DataFrame) -> tuple[float, float]:
    """How often a rule says *supported*: at least where the claim is true, at most where it is false."""
    return float(table.loc[table["true"], SUPPORTED].min()), float(table.loc[~table["true"], SUPPORTED].max())


def known_answers(profile: str, seed: int = 0) -> pd.DataFrame:
    """claim, what, planted, found: every instrument on a case whose answer is known; seconds."""
    rows = [
        ("M1", f"{world}: points the history adds", *pair) for world, *pair in next_vector.calibration(profile, seed)
    ]
    rng = np.random.default_rng(seed)
    source = hmm(8, states=16, concentration=0.05, seed=seed)
    tokens = source.draw(rng, 64, 33)
    for name, reader, removed, slope in (
        ("the source itself", source.predict(tokens)[:, :-1], 1.0, 1.0),
        ("the unigram", np.broadcast_to(source.unigram, (64, 32, 8)), 0.0, None),
    ):
        found = known_sources.compare(source, tokens, reader)
        rows.append(("M2", f"{name}: share of the KL removed", removed, found["removed"]))
        if slope is not None:
            rows.append(("M2", f"{name}: slope", slope, found["slope"]["32"]))
    tasks = Tasks("urn", 8, seed=seed)
    tokens, laws = tasks.sample(rng, 64, 32, 8, unseen=True)
    found = in_context.compare(tasks, tokens, laws, tasks.mixture(tokens, 8))
    rows.append(("M3", "the mixture itself: beats it by, %", 0.0, 100 * (1 - _ratio(found["model"], found["mixture"]))))
    found = in_context.compare(tasks, tokens, laws, tasks.prior(tokens, 8))
    best = 100 * (1 - _ratio(found["prior"], found["mixture"]))
    rows.append(("M3", "the prior, which learns in context: beats it by, %", best,
                 100 * (1 - _ratio(found["model"], found["mixture"]))))  # fmt: skip
    p, common = rng.dirichlet(np.full(40, 0.5)), rng.dirichlet(np.full(40, 0.5))
    unit = np.eye(40)
    for name, c, want in (("log p", np.log(p), 1.0), ("log unigram", np.log(common), 0.0)):
        rows.append(("M4", f"context vectors made of {name}: partial ρ", want, proximity.partial(unit @ c, p, common)))
    kinds, words = np.arange(200) % 4, np.repeat(np.arange(200), 4)
    for name, size, want in (("a direction for each class", 4.0, 100.0), ("no direction", 0.0, 25.0)):
        vectors = rng.standard_normal((len(words), 16))
        vectors[np.arange(len(words)), kinds[words]] += size
        both = concepts.probe(vectors, words, kinds, seed)
        rows.append(("M7", f"{name}: accuracy of the probe, %", want, 100 * both["accuracy"]))
        rows.append(("M7", f"{name}: accuracy of its control, %", 25.0, 100 * both["control"]))
    return pd.DataFrame(rows, columns=["claim", "what", "planted", "found"])


def _ratio(a: list[float], b: list[float]) -> float:
    return float(np.mean(a) / np.mean(b))
