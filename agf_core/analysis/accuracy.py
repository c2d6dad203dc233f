"""Does decoupling win, and past the training length? Claims A1 and A2, measured from the runs of `grids` (ours).

`measure` makes what the profile lacks, reads the reference runs beside it, and returns one page's worth of tables. The
tables' columns are those of `contrasts.table`; pictures are in `accuracy_figures`, sentences in `accuracy_prose`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from agf_core.analysis import chapter_runs, grids, throughput
from agf_core.analysis.accuracy_words import called, rivals
from agf_core.analysis.contrasts import by_length, by_position, contrast, differences, mean, table
from agf_core.analysis.operating import characteristics, seed_world
from agf_core.claims import DELTA
from agf_core.encodings import ENCODINGS
from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig, reference_runs

LEARNED_BITS = 0.1  # full attention must be so much better than its field alone, or association was not learned
PAIRS = {"learned → untied": ("untied", "learned"), "rotary → table": ("t5", "rotary")}  # A1: decoupled, entangled
AGF, TWIN = "agf", "kerple_log"  # one family: their pair is the A/A null
UNITS = ("bytes", "words")
PARTS = [g for g in grids.GRIDS if g.startswith("accuracy-")]


def runs(profile: str) -> list[RunConfig]:
    """What the driver trains before the chapter starts."""
    return grids.GRIDS["accuracy"](profile)


@dataclass(frozen=True)
class Results:
    """Tables of one profile's runs; `tasks` by name (bytes, words, tags, recall, copy), each as `contrasts.table`.

    published, plane: the same columns, on bytes; plane's names are (law, placement, trainable)
    lengths    name, multiple, loss (bits a byte), low, high, excess (over the loss at the training length), beyond
    positions  name, position (first of a bin), loss: within the training length; both from the chosen starts
    failed     one line for each run that diverged
    """

    profile: str
    tasks: dict[str, pd.DataFrame]
    published: pd.DataFrame
    plane: pd.DataFrame
    lengths: pd.DataFrame
    positions: pd.DataFrame
    failed: list[str]
    made: str
    ids: frozenset[str] = frozenset()

    @property
    def gate(self) -> Estimate:
        """Bits a byte by which AGF with association beats its field alone, trained alike."""
        losses = self.tasks["bytes"].pivot_table(index="seed", columns="name", values="loss")
        if not {AGF, grids.FIELD_ONLY} <= set(losses):
            return Estimate(np.nan, np.nan, np.nan)
        return mean((losses[grids.FIELD_ONLY] - losses[AGF]).dropna())

    @property
    def learned(self) -> bool:
        return bool(self.gate.value >= LEARNED_BITS)

    def contest(self, unit: str) -> pd.DataFrame:
        """The runs that a claim compares: of every prevailing encoding those from its chosen start."""
        runs = self.tasks[unit]
        if unit != "bytes":
            return runs
        other = [n for n in grids.PREVAILING if grids.chosen_start(n, unit) == "published"]
        parts = [runs[~runs["name"].isin(other)], self.published[self.published["name"].isin(other)]]
        return pd.concat([p for p in parts if len(p)], ignore_index=True)

    def seeds(self, unit: str = "bytes") -> int:
        """Seeds that every encoding of a claim has, on one unit."""
        needed = {AGF, *grids.PREVAILING} | ({TWIN, "untied"} if unit == "bytes" else set())
        counts = self.contest(unit).groupby("name")["seed"].nunique()
        return int(min((counts.get(name, 0) for name in needed), default=0))


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, and the reference runs (None where none are stored)."""

    here: Results
    reference: Results | None
    corpus: str

    @property
    def deciding(self) -> Results:
        """Which runs carry the verdicts: the reference runs, where there are any."""
        return self.here if self.reference is None else self.reference

    def task(self, name: str) -> pd.DataFrame:
        """Its runs among the deciding ones, or those here where reference runs of it are not stored."""
        return self.deciding.tasks[name] if len(self.deciding.tasks[name]) else self.here.tasks[name]

    @property
    def plane(self) -> pd.DataFrame:
        """The plane, likewise."""
        return self.deciding.plane if len(self.deciding.plane) else self.here.plane

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids


def measure(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> Page:
    """Train what is missing, and read everything; minutes in `cpu` where nothing is trained yet."""
    records = chapter_runs.records(grids.accuracy(profile, corpus, seed), PARTS)
    here = collect(profile, records, corpus, seed)
    stored = reference_runs()
    reference = collect("full", stored) if all(c.id in stored for c in confirmatory()) else None
    texts = [r["provenance"]["text"]["name"] for r in records.values() if r["provenance"]["text"]]
    return Page(here, reference, texts[0] if texts else corpus)  # its name: no path, and what stood in for it


def confirmatory() -> list[RunConfig]:
    """Without these there are no reference runs to speak of; the tasks and the plane may be missing."""
    return [c for part in ("bytes", "published", "words") for c in grids.GRIDS[f"accuracy-{part}"]("full")]


def collect(profile: str, records: Mapping[str, Record], corpus: str = grids.CORPUS, seed: int = 0) -> Results:
    """The tables of whatever runs of a profile there are."""
    on_bytes = grids.bytes_runs(profile, corpus, seed)
    tasks = {t: grids.task_runs(t, profile, corpus, seed) for t in grids.TASKS if t != "bytes"}
    published, plane = grids.published_runs(profile, corpus, seed), grids.plane_runs(profile, corpus, seed)
    chosen = {
        n: published[n] if grids.chosen_start(n, "bytes") == "published" else configs for n, configs in on_bytes.items()
    }
    ids = {c.id for c in grids.accuracy(profile, corpus, seed)}
    found = {id: record for id, record in records.items() if id in ids}
    failed = [
        f"{called(r['config']['model']['encoding'])} on {r['config']['data']['kind']}, "
        f"seed {r['config']['train']['seed']}: {r['error']}" for r in found.values() if r["status"] == "failed"
    ]  # fmt: skip
    return Results(
        profile,
        {"bytes": table(on_bytes, found), **{t: table(g, found) for t, g in tasks.items()}},
        table(published, found),
        table(plane, found),
        by_length(chosen, found, grids.LENGTHS),
        by_position(chosen, found),
        failed,
        chapter_runs.made(list(found.values())),
        frozenset(found),
    )


def a1(results: Results) -> dict[str, Estimate]:
    """Part → percent of held-out loss on bytes that decoupling saves."""
    return {part: contrast(results.contest("bytes"), *pair) for part, pair in PAIRS.items()}


def a2(results: Results) -> dict[str, Estimate]:
    """Part → percent of held-out loss that AGF saves over each prevailing encoding, and the A/A pair's."""
    found = {f"{u}: {e}": contrast(results.contest(u), AGF, e) for u in UNITS for e in grids.PREVAILING}
    return {**found, "A/A": contrast(results.contest("bytes"), AGF, TWIN)}


ESTIMATES = {"A1": a1, "A2": a2}


def evidence(page: Page, id: str) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A1 or A2, from the runs that decide; None where a part has no interval."""
    deciding = page.deciding
    found = ESTIMATES[id](deciding)
    if not all(np.isfinite([e.value, e.low, e.high]).all() for e in found.values()):
        return None
    why = "" if deciding.learned else (
        f"full attention beats its field alone by {deciding.gate.value:.2f} bits a byte, less than {LEARNED_BITS}: "
        "association was not learned"
    )  # fmt: skip
    n = min(deciding.seeds(u) for u in (UNITS if id == "A2" else UNITS[:1]))
    size = grids.SIZES[deciding.profile].tokens
    body = f"{grids.BODY['layers']} layers of {grids.BODY['dim']}"
    text = f"{size['bytes'] / 1e6:.3g} M bytes" + (f" and {size['words'] / 1e6:.3g} M words" if id == "A2" else "")
    corpus = page.corpus if page.reference is None else grids.CORPUS
    return {
        "id": id,
        "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()},
        "n": n,
        "unit": "% of held-out loss",
        "scope": f"small models trained here ({body}, {text} of {corpus})",
        "profile": deciding.profile,
        "runs": "" if page.reference is None else page.reference.made,
        "here": "" if page.reference is None else agreement(page, id),
        "too_small": why,
    }


def agreement(page: Page, id: str) -> str:
    """How the runs here compare with the reference runs, part by part: the same side of zero, the other, or unclear."""
    assert page.reference is not None
    if page.same:
        return "these are the reference runs."
    if not page.here.learned:
        return f"too small to tell (association is worth {page.here.gate.value:.2f} bits a byte here)."
    words: dict[str, list[str]] = {"agrees": [], "disagrees": [], "too small to tell": []}
    there, here = ESTIMATES[id](page.reference), ESTIMATES[id](page.here)
    for part, e in here.items():
        if part == "A/A":
            continue
        clear = np.isfinite(e.low) and e.low * e.high > 0
        word = "too small to tell" if not clear else "agrees" if e.value * there[part].value > 0 else "disagrees"
        words[word].append(part)
    total = sum(map(len, words.values()))
    said = [f"{w} on {len(p)} of {total}" + (f" ({rivals(p)})" if w == "disagrees" else "") for w, p in words.items()]
    return "on which side of zero each part lies, it " + "; ".join(s for s, p in zip(said, words.values()) if p) + "."


def worlds(results: Results, id: str, effects: Sequence[float], trials: int, seed: int = 0) -> pd.DataFrame:
    """Operating characteristics of a claim's rule with these runs' own scatter: shares of verdicts, by true effect.

    Worlds: each effect planted in every part (the A/A pair stays null); `one fails`: all parts at the largest effect
    but one at 0; `A/A differs`: all parts at the largest effect, and the A/A pair apart by twice δ. Empty where a part
    has fewer than two seeds, or a run of it diverged.
    """
    pairs: dict[str, tuple[str, str, str]] = (
        {p: ("bytes", *pair) for p, pair in PAIRS.items()}
        if id == "A1"
        else {**{f"{u}: {e}": (u, AGF, e) for u in UNITS for e in grids.PREVAILING}, "A/A": ("bytes", AGF, TWIN)}
    )
    scatter = {p: differences(results.contest(u), a, b).to_numpy() for p, (u, a, b) in pairs.items()}
    seeds = min(len(x) for x in scatter.values())
    if seeds < 2 or not all(np.isfinite(x).all() for x in scatter.values()):
        return pd.DataFrame()  # no scatter to draw from

    def planted(effect: float, **other: float) -> Mapping[str, float]:
        return {p: other.get(p, 0.0 if p == "A/A" else effect) for p in scatter}

    first, most = next(iter(scatter)), max(effects)
    chosen = {f"{e:g}": planted(e) for e in effects} | {"one fails": planted(most, **{first: 0.0})}
    if id == "A2":
        chosen["A/A differs"] = planted(most, **{"A/A": 2 * DELTA})
    return characteristics(id, {w: seed_world(scatter, e, seeds) for w, e in chosen.items()}, trials, seed)


def tuning() -> pd.DataFrame:
    """The stored tuning runs: task, name, start, rate, seed, loss (bits a target on the valid documents), chosen."""
    parts = []
    for task in UNITS:
        found = table(grids.tuning(task), reference_runs())
        found["start"] = [name[1] for name in found["name"]]
        found["name"] = [name[0] for name in found["name"]]
        best = [
            (grids.chosen_start(n, task), grids.tuned_rate(n, task, s)) for n, s in zip(found["name"], found["start"])
        ]
        found["chosen"] = [pair == own for pair, own in zip(best, zip(found["start"], found["rate"]))]
        parts.append(found.assign(task=task))
    return pd.concat(parts, ignore_index=True)[["task", "name", "start", "rate", "seed", "loss", "chosen"]]


def speeds() -> dict[str, Estimate]:
    """Encoding → training throughput relative to `learned`, one thread, this chapter's smallest model, as `make bench`
    stored it; empty where it has not."""
    stored = throughput.stored()
    return {r["name"]: Estimate(r["relative"], r["low"], r["high"]) for r in (stored["rows"] if stored else ())
            if r["size"] == str(throughput.SIZES[0]) and r["threads"] == 1}  # fmt: skip


def family(name: str) -> str:
    """decoupled, entangled or none; `field only` is a decoupled field without association."""
    return "decoupled" if name == grids.FIELD_ONLY else ENCODINGS[name].family
