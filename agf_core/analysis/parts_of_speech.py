"""Which classes attract attention, beyond distance and frequency? Claim A7, and what stands beside it (ours).

A model that others trained carries the verdict, on two texts with tags: it reads words as they are, while a word model
trained here reads every rare word as the symbol of its class (`class_models`). That was decided before any head of
either was measured on these texts. Least squares: `class_terms`; labels and permutations: `word_classes`; the map of
attention: `class_map`; the rule on planted heads: `class_worlds`; taggers: `tagger`. Pictures:
`parts_of_speech_figures`; sentences: `parts_of_speech_prose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from agf_core.analysis import (
    chapter_runs,
    class_grids,
    class_models,
    class_worlds,
    grids,
    measured,
    power_pretrained,
    pretrained,
    tagger,
    word_classes,
)  # fmt: skip
from agf_core.analysis import operating as rules
from agf_core.analysis.class_map import ClassMap, ClassWeights
from agf_core.analysis.class_terms import ClassTerms, Design, Terms
from agf_core.analysis.clusters import clustered
from agf_core.analysis.contrasts import mean
from agf_core.analysis.observe import observe
from agf_core.analysis.operating import characteristics
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.analysis.windows import Array
from agf_core.analysis.word_classes import Classes, Read
from agf_core.claims import CLAIMS
from agf_core.figures import Estimate
from agf_core.runs import RunConfig, Store, reference_runs, run_grid
from agf_core.sources import Text
from agf_core.sources.datasets import UNIVERSAL_TAGS, load_data
from agf_core.training import build_model

TOKENS = {"smoke": 3_072, "cpu": 24_576, "full": 98_304}  # of each text; a third of them of the controls
PERMUTATIONS = {"smoke": 4, "cpu": 20, "full": 50}
CONTROL = 5  # permuted labellings of a control
RESAMPLES = {"smoke": 20, "cpu": 100, "full": 200}
TRIALS = {"smoke": 50, "cpu": 300, "full": 1000}
FIRST, SECOND = CLAIMS["A7"].criterion.parts  # of the two texts
PARTS = ("accuracy-words", "accuracy-tasks", "field-words", "parts_of_speech-second")  # reference runs that are shown


@dataclass(frozen=True)
class Page:
    """Everything the chapter shows.

    texts    part of the criterion (`FIRST`, `SECOND`) → the name of the text;  notes: what is to be said of them
    terms    (part, input of `INPUTS`) → `Terms`; the controls on the first text alone
    maps     part → `ClassMap`;  spread: part, class, share (of the tokens that are read)
    layer    which layer the map shows, -1: all
    planted  see `class_worlds.recovered`;  worlds: operating characteristics of A7's rule
    words    runs ("here" or "reference"), part, kind, model, layer, head, base, excess, low, high: word models' heads
    tagged   runs, encoding, seed, by ("class" or "distance"), what, right, floor, number: taggers' occurrences
    made     commits, machines, dates of the reference runs among them, or ""
    missing  why another model took the pretrained one's place, or ""
    """

    profile: str
    name: str
    source: str
    causal: bool
    window: int
    layer: int
    texts: dict[str, str]
    notes: tuple[str, ...]
    terms: dict[tuple[str, str], Terms]
    maps: dict[str, ClassMap]
    spread: pd.DataFrame
    planted: pd.DataFrame
    worlds: pd.DataFrame
    words: pd.DataFrame
    tagged: pd.DataFrame
    made: str = ""
    missing: str = ""

    def text(self, part: str = FIRST) -> Terms:
        """The heads on a text as it is."""
        return self.terms[part, INPUTS[0]]


def runs(profile: str) -> list[RunConfig]:
    """What the driver trains before the chapter starts."""
    return class_grids.GRIDS["parts_of_speech"](profile)


@dataclass(frozen=True)
class Model:
    """A model, its untrained twin, and how it reads a text, whose words have these tags."""

    model: nn.Module
    fresh: nn.Module
    read: Read
    text: Text
    tag: Array
    names: tuple[str, ...]
    window: int
    causal: bool
    note: str


def measure(
    profile: str, corpus: str = grids.CORPUS, window: int = 32, layer: int = -1, model_id: str = "minilm",
    seed: int = 0,
) -> Page:  # fmt: skip
    """Look at the model on both texts, plant heads, and read the runs; a minute in `cpu`, where these are there.

    ValueError for a layer that the model does not have, or a text without tags where none can be guessed.
    """
    chapter_runs.records(class_grids.parts_of_speech(profile, corpus, seed), PARTS)
    named = {FIRST: corpus, SECOND: class_grids.second(corpus)}
    one = None if (why := pretrained.missing(model_id)) else pretrained.load(model_id)
    terms, maps, spread, texts, notes = {}, {}, [], {}, []
    for part, name in named.items():
        given = _stand_in(profile, name, window, seed) if one is None else _pretrained(profile, name, window, one, seed)
        about = word_classes.classes(given.read, given.text, given.tag, given.names, PERMUTATIONS[profile], seed)
        design = Design(about, given.read.keep, given.read.groups, given.window, given.causal)
        statistics = ClassTerms(design), ClassWeights(design)
        observe(given.model, given.read.tokens, statistics, groups=given.read.groups, keep=given.read.keep)
        terms[part, INPUTS[0]], maps[part] = statistics[0].result(), statistics[1].result(RESAMPLES[profile], seed)
        maps[part].mass(layer)  # a layer that the model does not have is refused before the rest is computed
        spread += [(part, *row) for row in word_classes.shares(given.read, about).items()]
        texts[part] = given.text.name
        notes += [f"of {given.text.name}, {given.note}"] if given.note else []
        if part == FIRST:
            terms |= {(part, which): t for which, t in _controls(given, about, seed).items()}
            pools = class_worlds.pools(given.read, design, terms[part, INPUTS[0]], seed)
            shown = given.window, given.causal
    worlds = class_worlds.draws(pools, terms[FIRST, INPUTS[0]].enough.shape, share)
    words, tagged, made = _runs(profile, corpus, seed)
    name, source = (one.name, one.source) if one else ("a word model with rotary positions", "trained for this page")
    return Page(
        profile, name, source, shown[1], shown[0], layer, texts, tuple(notes), terms, maps,
        pd.DataFrame(spread, columns=["part", "class", "share"]), class_worlds.recovered(pools),
        characteristics("A7", worlds, TRIALS[profile], seed), words, tagged, made, why,
    )  # fmt: skip


def _pretrained(profile: str, corpus: str, window: int, one: pretrained.Pretrained, seed: int) -> Model:
    text, tag, names, note = word_classes.tags(corpus)
    length = power_pretrained._length(window, one.causal)
    read = word_classes.aligned(one, text, length, max(8, TOKENS[profile] // length))
    fresh = pretrained.untrained(one, seed).model
    return Model(one.model, fresh, read, text, tag, names, window, one.causal, note)


def _stand_in(profile: str, corpus: str, window: int, seed: int) -> Model:
    """A word model trained here, where the pretrained one cannot be had."""
    config = class_grids.words(profile, corpus, seed)["rotary"][0]
    run_grid([config], own=True)
    text, tag, names, note = word_classes.tags(corpus)
    read, _ = class_models.seen(config)
    fresh = build_model(config.model_config(load_data(config.data)), seed)
    window = min(window, int(config.model["context"]) // 2)
    return Model(Store().model(config), fresh, read, text, tag, names, window, True, note)


def _controls(given: Model, about: Classes, seed: int) -> dict[str, Terms]:
    """The same heads on the tokens in no order, and untrained heads; of every third window."""
    read, some = given.read, slice(None, None, 3)
    drawn, moved = word_classes.without_order(read, about, seed)
    found = {}
    for which, model, tokens, labels in ((INPUTS[1], given.model, drawn, moved), (INPUTS[2], given.fresh, read.tokens,
                                                                                  about)):  # fmt: skip
        part = replace(labels, labels=labels.labels[: 2 + CONTROL, some],
                       **{n: getattr(labels, n)[some] for n in ("bins", "place", "sentence", "word")})  # fmt: skip
        statistic = ClassTerms(Design(part, read.keep[some], read.groups[some], given.window, given.causal))
        observe(model, tokens[some], [statistic], groups=read.groups[some], keep=read.keep[some])
        found[which] = statistic.result()
    return found


def share(enough: Array, layer: Array) -> Estimate:
    """Share of heads (n,) in which classes add enough, with its interval: heads of a layer (n,) are alike."""
    which = np.unique(layer)
    return clustered([enough[layer == i].sum() for i in which], [(layer == i).sum() for i in which])


def of_heads(terms: Terms) -> Estimate:
    """`share` of all heads of a model."""
    enough = terms.enough
    return share(enough.ravel(), np.repeat(np.arange(len(enough)), enough.shape[1]))


def estimates(page: Page) -> dict[str, Estimate]:
    """The two parts of A7."""
    return {part: of_heads(page.text(part)) for part in (FIRST, SECOND)}


def evidence(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A7; None where the model that carries it is not here."""
    if page.missing:
        return None
    found, kind = estimates(page), "causal model" if page.causal else "sentence encoder"
    same = page.texts[FIRST] == page.texts[SECOND]
    return {
        "id": "A7", "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()}, "n": int(page.text().enough.size),
        "unit": "share of heads; n counts heads of one model, layers are the clusters",
        "scope": f"one {kind}, {page.name}, on {page.texts[FIRST]} and {page.texts[SECOND]}, distances "
                 f"1–{page.window}", "profile": page.profile,
        "too_small": "only one of the two texts can be had here" if same else powerless(page.worlds),
    }  # fmt: skip


def powerless(worlds: pd.DataFrame) -> str:
    """Why the rule cannot decide with this text and these heads; "" where it can."""
    power, false = class_worlds.told(worlds)
    return rules.powerless(power, false, "in which classes count in 9 of 10 heads", "of the false ones")


def _runs(profile: str, corpus: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """(heads of word models, occurrences of taggers, where the reference runs among them come from)."""
    words, tagged, stored = [], [], []
    for origin in dict.fromkeys(("full", profile)):
        runs = "reference" if origin == "full" else "here"
        parts = {FIRST: class_grids.words(origin, corpus, seed), SECOND: class_grids.second_words(origin, corpus, seed)}
        for part, kinds in parts.items():
            for kind, configs in kinds.items():
                words += [_heads(runs, part, kind, *pair) for pair in _of("class_models", configs, origin == profile)]
        for encoding, configs in class_grids.tags(origin, corpus, seed).items():
            for config, found in _of("tagger", configs, origin == profile):
                tagged.append(_occurrences(runs, encoding, config, found))
        stored += [c.id for c in class_grids.parts_of_speech(origin, corpus, seed)] if origin == "full" else []
    reference = [r for id, r in reference_runs().items() if id in stored]
    columns = ["runs", "part", "kind", "model", "layer", "head", "base", "excess", "low", "high"]
    heads = pd.concat(words, ignore_index=True) if words else pd.DataFrame(columns=columns)
    columns = ["runs", "encoding", "seed", "by", "what", "right", "floor", "number"]
    occurrences = pd.concat(tagged, ignore_index=True) if tagged else pd.DataFrame(columns=columns)
    return heads, occurrences, chapter_runs.made(reference)


def _of(name: str, configs: list[RunConfig], own: bool) -> list[tuple[RunConfig, Mapping[str, Any]]]:
    """What was measured of some runs: in this profile from their weights or as stored, of others as stored."""
    module = {"class_models": class_models, "tagger": tagger}[name]
    found = measured.of(name, configs, module.measure) if own else measured.stored(name)
    return [(c, found[c.id]) for c in configs if c.id in found]


def _heads(runs: str, part: str, kind: str, config: RunConfig, found: Mapping[str, Any]) -> pd.DataFrame:
    arrays = {name: np.array(found[name]) for name in ("base", "excess", "low", "high")}
    layer, head = (a.ravel() for a in np.indices(arrays["excess"].shape))
    return pd.DataFrame({"runs": runs, "part": part, "kind": kind, "model": config.train.seed, "layer": layer,
                         "head": head, **{name: a.ravel() for name, a in arrays.items()}})  # fmt: skip


def _occurrences(runs: str, encoding: str, config: RunConfig, found: Mapping[str, Any]) -> pd.DataFrame:
    names = {"class": ("classes", UNIVERSAL_TAGS), "distance": ("kinds", tagger.KINDS)}
    rows = [(by, what, *counts) for by, (key, whats) in names.items() for what, counts in zip(whats, found[key])]
    table = pd.DataFrame(rows, columns=["by", "what", "right", "floor", "number"])
    return table.assign(runs=runs, encoding=encoding, seed=config.train.seed)


BINS = {"1": (1,), "2": (2,), "3–4": (3, 4), "5–8": (5, 6, 7, 8), "no place": (tagger.UNDECIDED,),
        "one tag": (tagger.CLEAR,)}  # fmt: skip


def accuracy(page: Page, by: str) -> pd.DataFrame:
    """Taggers by "class" or by "distance": runs, encoding ("commonest tag" is the floor), what, accuracy, low, high
    (over seeds), number (occurrences)."""
    table = page.tagged[page.tagged["by"] == by]
    if by == "distance":
        of = {kind: name for name, kinds in BINS.items() for kind in kinds}
        table = table.assign(what=table["what"].map(of))
    keys = ["runs", "encoding", "seed", "what"]
    sums = table.groupby(keys, sort=False)[["right", "floor", "number"]].sum().reset_index()
    sums = sums[sums["number"] > 0]
    rows = []
    for (runs, what), part in sums.groupby(["runs", "what"], sort=False):
        floor = (part["floor"] / part["number"]).mean()
        rows.append((runs, "commonest tag", what, floor, np.nan, np.nan, part["number"].max()))
        for encoding, own in part.groupby("encoding", sort=False):
            e = mean(own["right"] / own["number"])
            rows.append((runs, encoding, what, e.value, e.low, e.high, own["number"].max()))
    return pd.DataFrame(rows, columns=["runs", "encoding", "what", "accuracy", "low", "high", "number"])


def best_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table with a column runs: the reference runs where there are any, else those made here."""
    stored = table[table["runs"] == "reference"]
    return stored if len(stored) else table
