"""What is mixed when position is added to meaning? Two splits of every head, on the runs of `field_grids` (ours).

*Four terms* (`terms`): how much of q·k is meaning with meaning, place with place, and the two cross terms that adding
position to meaning makes. *Field × association* (`split`): how much of what enters the softmax depends on distance
alone, on the key's type alone, and on neither. Claim A1 is read from the runs of `accuracy`, which retrain each pair:
taking terms out of a finished model would test something it never saw. One head is taken apart in `head_apart`;
pictures are in `decomposition_figures`, sentences in `decomposition_prose`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agf_core.analysis import accuracy, chapter_runs, field_grids, grids, heads, pretrained
from agf_core.analysis.contrasts import mean
from agf_core.analysis.head_apart import Apart, take_apart
from agf_core.analysis.heads import Heads
from agf_core.analysis.split import PARTS as PARTS_OF
from agf_core.analysis.split import Split
from agf_core.analysis.terms import TERMS, four_terms
from agf_core.figures import Estimate
from agf_core.model import Transformer
from agf_core.runs import Record, RunConfig, Store, reference_runs, run_grid
from agf_core.sources import load_text
from agf_core.sources.datasets import load_data
from agf_core.training import build_model

ABSOLUTE, FREE = field_grids.ABSOLUTE, field_grids.FREE
KINDS = (*ABSOLUTE, "untied", "rotary", "t5", "agf", *FREE, "nope")
PARTS = [*accuracy.PARTS, *(f"field-{part}" for part in ("free", "without", "absolute", "decoupled", "stopped"))]
UNTRAINED, RANDOM, UNIFORM = "untrained", "random tokens", "uniform attention"  # controls
ELSEWHERE = {"text": "pretrained", RANDOM: f"pretrained, {RANDOM}", UNTRAINED: f"pretrained, {UNTRAINED}"}
LENGTH, WINDOW = 128, 32  # of the pretrained model's input; on both sides of a query in an encoder
RESAMPLES = 50  # of groups: the interval's half width to a tenth
TOKENS = {"smoke": 2_048, "cpu": 8_192, "full": 65_536}  # that pass through the pretrained model, for each input


@dataclass(frozen=True)
class Results:
    """What one profile's models give.

    heads     kind (of `KINDS`) → one `Heads` a seed;  seeds: those of the first kind
    stopped   tokens → one `Heads` a seed of a model with learned positions, stopped there
    failed    a line for each run that diverged
    """

    profile: str
    heads: dict[str, list[Heads]]
    stopped: dict[int, list[Heads]]
    made: str = ""
    ids: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        """Models with learned positions."""
        return len(self.heads.get(ABSOLUTE[0], []))


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, the reference runs (None where none are stored), and what stands beside them.

    untrained   models with learned positions before their training, on this text
    controls    `RANDOM` (a trained model on tokens in no order) and `UNIFORM` (no position, no association)
    elsewhere   the pretrained model's heads by input, keys of `ELSEWHERE`; empty, and `missing` says why
    pairs       the runs of claim A1
    """

    here: Results
    reference: Results | None
    untrained: list[Heads]
    controls: dict[str, list[Heads]]
    elsewhere: dict[str, Heads]
    name: str
    missing: str
    apart: Apart
    pairs: accuracy.Page
    source: str = ""

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids

    def of(self, kind: str) -> list[Heads]:
        """The heads of a kind of model: of the reference runs where these are stored, else of the runs here."""
        stored = {} if self.reference is None else self.reference.heads
        return stored.get(kind) or self.here.heads.get(kind, [])

    @property
    def stopped(self) -> dict[int, list[Heads]]:
        """Tokens → heads through training, likewise; 0: untrained."""
        stored = {} if self.reference is None else self.reference.stopped
        return {0: self.untrained, **(stored or self.here.stopped)}


def pairs(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> list[RunConfig]:
    """The runs of `accuracy` that claim A1 and its gate read."""
    named, published = grids.bytes_runs(profile, corpus, seed), grids.published_runs(profile, corpus, seed)
    asked = {n for pair in accuracy.PAIRS.values() for n in pair} | {accuracy.AGF, grids.FIELD_ONLY}
    other = [n for n in asked if n in published and grids.chosen_start(n, "bytes") == "published"]
    return [c for n in sorted(asked) for c in named[n]] + [c for n in other for c in published[n]]


def models(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Kind → the models whose heads are measured."""
    return {
        kind: (field_grids.free if kind in FREE else field_grids.named)(profile, kind, corpus, seed) for kind in KINDS
    }


def measure(profile: str, corpus: str = grids.CORPUS, seed: int = 0, model_id: str = "minilm") -> Page:
    """Train what is missing, and measure everything; minutes in `cpu` where nothing is trained yet.

    ValueError for a text too short for the models' windows, or for the pretrained model's.
    """
    wanted = models(profile, corpus, seed)
    asked = [*field_grids.decomposition(profile, corpus, seed), *pairs(profile, corpus, seed)]
    records = chapter_runs.records(asked, PARTS)
    stopped = field_grids.stopped(profile, corpus, seed)
    measured = heads.of([c for part in (wanted, stopped) for c in grids.flat(part)])
    here = collect(profile, measured, records, corpus, seed)
    reference = here if here.ids <= set(heads.stored()) else collect("full", heads.stored(), reference_runs())
    texts = [r["provenance"]["text"]["name"] for r in records.values() if r["provenance"]["text"]]
    fresh = stopped[max(stopped)]
    seeds = range(seed, seed + (1 if profile == "smoke" else field_grids.OTHERS))
    untrained = [heads.measured(_untrained(fresh[0], s), fresh[0]) for s in seeds]
    found, name, source, missing = elsewhere(profile, corpus, seed, model_id)
    return Page(
        here, reference if reference.heads else None, untrained,
        controls(wanted, seed), found, name, missing, take_apart(measured, wanted),
        _pairs(profile, records, corpus, seed, texts[0] if texts else corpus), source,
    )  # fmt: skip


def collect(
    profile: str, found: Mapping[str, Heads], records: Mapping[str, Record], corpus: str = grids.CORPUS, seed: int = 0
) -> Results:
    """The heads of whatever models of a profile are measured, by the run's id."""
    kinds, stops = models(profile, corpus, seed), field_grids.stopped(profile, corpus, seed)
    of_kind = {k: [found[c.id] for c in configs if c.id in found] for k, configs in kinds.items()}
    through = {t: [found[c.id] for c in configs if c.id in found] for t, configs in sorted(stops.items())}
    ids = {c.id for part in (kinds, stops) for c in grids.flat(part)} & set(found)
    about = [records[id] for id in sorted(ids) if id in records]
    asked = {c.id for c in field_grids.decomposition(profile, corpus, seed)}
    failed = tuple(
        f"{r['config']['model']['encoding']}, seed {r['config']['train']['seed']}: {r['error']}"
        for id, r in records.items() if id in asked and r["status"] == "failed"
    )  # fmt: skip
    return Results(
        profile, {k: h for k, h in of_kind.items() if h}, {t: h for t, h in through.items() if h},
        chapter_runs.made(about), frozenset(ids), failed,
    )  # fmt: skip


def look(model: nn.Module, tokens: Tensor, window: int, groups: Tensor, keep: Tensor | None = None) -> Heads:
    """Both splits of a model that is no run: tokens (S, N), groups (S,), keep (S, N)."""
    split = Split(window, heads.TYPES)
    terms = four_terms(model, tokens, window, beside=[split], groups=groups, keep=keep)
    return Heads(split.result(RESAMPLES), *terms)


def controls(wanted: Mapping[str, list[RunConfig]], seed: int) -> dict[str, list[Heads]]:
    """A trained model on its held-out tokens in random order, and uniform attention on them as they are."""
    config, plain = wanted[ABSOLUTE[0]][0], wanted["nope"][0]
    run_grid([config], own=True)  # reference runs keep no weights
    tokens, groups = heads.heldout(config, max(heads.LEAST, config.heldout // 2))
    order = torch.randperm(tokens.numel(), generator=torch.Generator().manual_seed(seed))
    drawn, window = tokens.flatten()[order].view_as(tokens), tokens.shape[1] // 2
    uniform = RunConfig({**plain.model, "association": False}, plain.data, plain.train, heldout=plain.heldout)
    return {
        RANDOM: [look(Store().model(config), drawn, window, groups)],
        UNIFORM: [look(_untrained(uniform, seed), tokens, window, groups)],
    }


def _untrained(config: RunConfig, seed: int) -> Transformer:
    return build_model(config.model_config(load_data(config.data)), seed).eval()


def elsewhere(profile: str, corpus: str, seed: int, model_id: str) -> tuple[dict[str, Heads], str, str, str]:
    """(input → heads, name, source, "") of the pretrained model; or ({}, model_id, "", why it is not here)."""
    if why := pretrained.missing(model_id):
        return {}, model_id, "", why
    model = pretrained.load(model_id)
    tokens, keep, groups = pretrained.tokens(model, load_text(corpus), LENGTH, max(4, TOKENS[profile] // LENGTH))
    drawn = tokens.clone()
    drawn[keep] = tokens[keep][torch.randperm(int(keep.sum()), generator=torch.Generator().manual_seed(seed))]
    inputs = {"text": (model, tokens), RANDOM: (model, drawn), UNTRAINED: (pretrained.untrained(model, seed), tokens)}
    found = {name: look(m.model, given, WINDOW, groups, keep) for name, (m, given) in inputs.items()}
    return found, model.name, model.source, ""


def _pairs(profile: str, records: Mapping[str, Record], corpus: str, seed: int, name: str) -> accuracy.Page:
    """The runs of A1 as `accuracy` reads them, so that both chapters hand the claim the same; name: the text's."""
    here, stored = accuracy.collect(profile, records, corpus, seed), reference_runs()
    if not all(c.id in stored for c in accuracy.confirmatory()):
        return accuracy.Page(here, None, name)
    reference = accuracy.collect("full", stored)
    return accuracy.Page(reference if here.ids <= reference.ids else here, reference, name)


def evidence(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A1, as in `accuracy`; None where a part has no interval."""
    found = accuracy.evidence(page.pairs, "A1")
    if found and page.pairs.reference is None:
        tables = page.pairs.here.contest("bytes")
        names = {n for pair in accuracy.PAIRS.values() for n in pair}
        found["n"] = int(tables[tables["name"].isin(names)].groupby("name")["seed"].nunique().min())
    return found


def shares(models: Iterable[Heads], layer: int | None = None, *, exact: bool = False) -> dict[str, Estimate]:
    """Term, and "cross" (what·where + where·what) → mean over heads, then over models, with its 95 % interval.

    layer: one, counted from 0, or all; exact: of the exact split, where there is one. A single model's interval is over
    its heads.
    """
    tables = [t.shares for m in models if (t := m.exact if exact else m.terms) is not None]
    rows = _rows([(t if layer is None else t[layer]).reshape(-1, len(TERMS)) for t in tables], len(TERMS))
    found = {term: mean(rows[:, i]) for i, term in enumerate(TERMS)}
    return {**found, "cross": mean(rows[:, 1] + rows[:, 2])}


def parts(models: Iterable[Heads]) -> dict[str, Estimate]:
    """distance, type, shared, rest → mean over heads, then over models, with its interval as in `shares`."""
    rows = _rows([by_part(m) for m in models], len(PARTS_OF))
    return {part: mean(rows[:, i]) for i, part in enumerate(PARTS_OF)}


def by_part(model: Heads, column: str = "share") -> np.ndarray:
    """(heads of all layers, 4) in the order of `split.PARTS`."""
    table = model.split.shares.pivot_table(index=["layer", "head"], columns="part", values=column, dropna=False)
    return table[list(PARTS_OF)].to_numpy(float)


def _rows(tables: list[np.ndarray], width: int) -> np.ndarray:
    """What is averaged: the heads of a single model, the means over heads of several; without what is not a number."""
    known = [t[np.isfinite(t).all(-1)] for t in tables]
    known = [t for t in known if len(t)]
    return known[0] if len(known) == 1 else np.array([t.mean(0) for t in known]).reshape(-1, width)
