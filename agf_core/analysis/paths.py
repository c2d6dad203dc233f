"""Is generation a walk along likely paths, in a space of concepts? Claims M1 to M4 and M7, put together (ours).

What is measured: of known sources in `known_sources` (M2), of finitely many tasks in `in_context` (M3), of walks in
`walks` and `next_vector` (M1), of models of words in `word_space`, `proximity` (M4) and `concepts` (M7). Known answers
and the rules' operating characteristics: `path_calibration`; models: `path_grids`; pictures: `paths_figures`;
sentences: `paths_prose`, `space_prose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from agf_core.analysis import (
    chapter_runs,
    grids,
    in_context,
    known_sources,
    measured,
    path_calibration,
    path_grids,
    walks,
    word_space,
)
from agf_core.analysis import operating as rules
from agf_core.analysis.accuracy_words import known
from agf_core.analysis.operating import foretold
from agf_core.analysis.windows import Array
from agf_core.claims import CLAIMS
from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig, reference_runs

CLAIMED = ("M1", "M2", "M3", "M4", "M7")
MEASURED = {"known_sources": known_sources, "in_context": in_context, "walks": walks, "word_space": word_space}
PARTS = (*(g for g in path_grids.GRIDS if g != "paths"), "accuracy-words", *MEASURED)
TRIALS = {"smoke": 40, "cpu": 400, "full": 1000}
Found = Mapping[str, Mapping[str, Any]]  # run id → what was measured


def runs(profile: str) -> list[RunConfig]:
    """What the driver trains before the chapter starts."""
    return path_grids.paths(profile)


@dataclass(frozen=True)
class Results:
    """What one profile's runs give.

    known     columns of `known_sources.table`; paths: kind → [log p of truth, of model] of some paths of its first
              model;  through: columns of `known_sources.through`
    tasks     columns of `in_context.table`;  places: tasks → reader → (N,) error by place, mean over seeds
    walks     columns of `walks.table`;  walk: the first model's `walks.walk`, or None
    near      columns of `word_space.nearness`;  example: embeddings → of one context, [log p, cosine, log unigram]
    probes, hits: see `word_space`
    made, ids, failed: commits, machines, dates; the runs; a line for each that diverged
    """

    profile: str
    corpus: str
    known: pd.DataFrame
    paths: dict[str, Array]
    through: pd.DataFrame
    tasks: pd.DataFrame
    places: dict[int, dict[str, Array]]
    walks: pd.DataFrame
    walk: dict[str, Any] | None
    near: pd.DataFrame
    example: dict[str, Array]
    probes: pd.DataFrame
    hits: dict[str, Array]
    made: str = ""
    ids: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Claim → part → estimate; a claim is absent where nothing of it was measured."""
        found: dict[str, dict[str, Estimate]] = {}
        if (self.walks["kind"] == walks.WORDS).any():
            found["M1"] = {"added R²": walks.estimate(self.walks)}
        if (two := known_sources.estimates(self.known)) is not None:
            found["M2"] = two
        if len(self.tasks):
            found["M3"] = {"beats mixture by": in_context.estimate(self.tasks)}
        if set(self.near["embeddings"]) == {"tied", "untied"}:
            found["M4"] = word_space.m4(self.near)
        if len(self.probes) and self.hits["items"].sum():
            found["M7"] = word_space.m7(self.probes, self.hits)
        return found

    def seeds(self, id: str) -> int:
        """Independent repetitions behind a claim: seeds, of whichever kind has fewest."""
        counts = {
            "M1": [(self.walks["kind"] == walks.WORDS).sum()],
            "M2": self.known.groupby("kind")["seed"].nunique().tolist(),
            "M3": [len(in_context.by_diversity(self.tasks).dropna())],
            "M4": self.near.groupby("embeddings")["seed"].nunique().tolist(),
            "M7": [self.probes["seed"].nunique()],
        }
        return int(min(counts[id], default=0))


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, and the reference runs (None where none are measured).

    answers   columns of `path_calibration.known_answers`
    worlds    claim → what its rule says where the truth is known, with the deciding runs' own scatter
    """

    here: Results
    reference: Results | None
    answers: pd.DataFrame
    worlds: dict[str, pd.DataFrame]

    def deciding(self, id: str) -> Results:
        """Which runs carry a claim's verdict: the reference runs, where they have it."""
        stored = self.reference
        return stored if stored is not None and id in stored.estimates else self.here

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids


def measure(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> Page:
    """Train what is missing, and measure everything; a minute in `cpu` where the models are trained."""
    records = chapter_runs.records(path_grids.paths(profile, corpus, seed), PARTS)
    own = {
        "known_sources": known_sources.configs(profile, seed),
        "in_context": in_context.configs(profile, seed),
        "walks": walks.configs(profile, corpus, seed),
        "word_space": word_space.configs(profile, corpus, seed),
    }
    found = {name: measured.of(name, configs, MEASURED[name].measure) for name, configs in own.items()}  # fmt: skip
    here = collect(profile, records, found, corpus, seed)
    stored = {name: measured.stored(name) for name in MEASURED}
    reference = collect("full", reference_runs(), stored) if any(stored.values()) else None
    if reference is not None and not reference.estimates:
        reference = None
    page = Page(here, reference, path_calibration.known_answers(profile), {})
    return Page(here, reference, page.answers, worlds(page, TRIALS[profile]))


def collect(
    profile: str, records: Mapping[str, Record], found: Mapping[str, Found], corpus: str = grids.CORPUS, seed: int = 0
) -> Results:
    """The tables of whatever runs of a profile there are, and of what was measured in them."""
    of_known, of_words = known_sources.configs(profile, seed), path_grids.words(profile, corpus, seed)
    sources, tasks, walked, words = (found[name] for name in MEASURED)
    asked = {c.id: c for c in path_grids.paths(profile, corpus, seed)}
    there = [records[id] for id in asked if id in records]
    walk = [walked[c.id]["walk"] for c in of_words["tied"] if "walk" in walked.get(c.id, {})]
    named = [r["provenance"]["text"]["name"] for r in there if r["provenance"]["text"]]
    return Results(
        profile, named[0] if named else corpus,
        known=known_sources.table(sources, of_known), paths=_paths(sources, of_known),
        through=known_sources.through(records, of_known),
        tasks=in_context.table(tasks, in_context.configs(profile, seed)), places=_places(tasks, profile, seed),
        walks=walks.table(walked, walks.configs(profile, corpus, seed)), walk=walk[0] if walk else None,
        near=word_space.nearness(words, of_words), example=_example(words, of_words),
        probes=word_space.probes(words, of_words["tied"]), hits=word_space.hits(words, of_words["tied"]),
        made=chapter_runs.made(there), ids=frozenset(r["id"] for r in there),
        failed=tuple(f"{r['config']['data']['kind']} {r['config']['data']['corpus']}, seed "
                     f"{r['config']['train']['seed']}: {r['error']}" for r in there if r["status"] == "failed"),
    )  # fmt: skip


def _paths(found: Found, configs: list[RunConfig]) -> dict[str, Array]:
    first: dict[str, Array] = {}
    for config in configs:
        if config.id in found:
            first.setdefault(walks.kind_of(config), np.array(found[config.id]["paths"]))
    return first


def _places(found: Found, profile: str, seed: int) -> dict[int, dict[str, Array]]:
    places = {}
    for tasks, configs in path_grids.pools(profile, seed).items():
        if there := [found[c.id]["unseen"] for c in configs if c.id in found]:
            readers = ("model", "mixture", "prior")
            places[tasks] = {k: np.mean([one[k] for one in there], axis=0) for k in readers}
    return places


def _example(found: Found, of: Mapping[str, list[RunConfig]]) -> dict[str, Array]:
    first: dict[str, Array] = {}
    for embeddings, configs in of.items():
        for config in configs:
            near = found.get(config.id, {}).get("near", {}).get("1", {})
            if "example" in near:
                first.setdefault(embeddings, np.array(near["example"]))
    return first


def worlds(page: Page, trials: int) -> dict[str, pd.DataFrame]:
    """Operating characteristics of every rule whose estimates have intervals."""
    made = {}
    for id in CLAIMED:
        results = page.deciding(id)
        found = results.estimates.get(id)
        if found and all(map(known, found.values())):
            beats = in_context.by_diversity(results.tasks).dropna() if id == "M3" else None
            made[id] = path_calibration.worlds(id, found, results.seeds(id), beats, trials)
    return made


UNITS = {"M1": "points of R²", "M2": "share; slope", "M3": "% of the mixture's error", "M4": "rank correlation",
         "M7": "points; share; share of items"}  # fmt: skip


def evidence(page: Page, id: str) -> dict[str, Any] | None:
    """The arguments of `claims.report`; None where the claim has no estimate with an interval."""
    results = page.deciding(id)
    found = results.estimates.get(id)
    if not found or not all(map(known, found.values())):
        return None
    return {
        "id": id, "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()},
        "n": results.seeds(id), "unit": f"{UNITS[id]}; n counts seeds", "scope": scope(results, id),
        "profile": results.profile, "runs": results.made if results is page.reference else "",
        "here": agreement(page, id) if results is page.reference else "", "too_small": why_not(page, id),
    }  # fmt: skip


def agreement(page: Page, id: str) -> str:
    """How the runs here compare with the reference runs, part by part."""
    if page.same:
        return "these are the reference runs."
    if page.here.profile == "smoke":
        return "too small to tell."
    return rules.agreement(id, page.here.estimates.get(id, {}), page.deciding(id).estimates[id])


def scope(results: Results, id: str) -> str:
    """What a verdict is about."""
    size, body = path_grids.SIZES[results.profile], f"{grids.BODY['layers']} layers of {grids.BODY['dim']}"
    tokens = {"M2": size.known, "M3": size.tasks}.get(id, grids.SIZES[results.profile].tokens["words"])
    data = {"M2": "symbols of hidden Markov sources and nested brackets", "M3": "symbols of urns"}
    if id == "M3":
        body = f"{path_grids.TASK_BODY['layers']} layer of {path_grids.TASK_BODY['dim']}"
    return f"small models trained here ({body}, {tokens / 1e6:.3g} M {data.get(id, f'words of {results.corpus}')})"


def why_not(page: Page, id: str) -> str:
    """Why these runs carry no verdict; "" where they do."""
    if id == "M1":
        found, room = page.deciding(id).estimates[id]["added R²"], walks.estimate(page.deciding(id).walks, value="room")
        asks = CLAIMS[id].criterion.parts["added R²"].threshold  # type: ignore[union-attr]
        if found.low < asks < room.high:
            return (f"the history was found to add {found:.2f}, but a better reader of it could add up to {room:.2f}: "
                    "between these bounds lies the threshold")  # fmt: skip
    if id == "M3" and (why := in_context.shows_nothing(page.deciding(id).tasks)):
        return why
    return path_calibration.powerless(page.worlds[id]) if id in page.worlds else ""


def word(page: Page, id: str) -> str:
    """The verdict that `claims.report` prints."""
    return foretold(evidence(page, id))
