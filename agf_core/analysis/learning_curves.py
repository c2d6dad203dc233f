"""Do learning and forgetting follow the same law? Claims A4 and A5, from the runs of `curve_grids` (ours).

Learning: held-out loss by kind of byte against tokens at a constant rate (`curve_laws`). Forgetting: recall against
lag in models of text, and of languages whose retention is known (`forgetting`, `forgetting_laws`). Beside them, with no
part in a verdict: the pooled curve, a cosine's curve, exponents as they form, likeness of seeds, human savings.
Pictures are in `learning_figures` and `forgetting_figures`, sentences in `learning_prose` and `forgetting_prose`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from agf_core.analysis import chapter_runs, curve_grids, curve_laws, forgetting, forgetting_laws, grids, measured
from agf_core.analysis import operating as rules
from agf_core.analysis.contrasts import mean
from agf_core.analysis.curve_laws import Curves
from agf_core.analysis.forgetting import Recall, Reminder
from agf_core.analysis.operating import characteristics
from agf_core.claims import CLAIMS, SUPPORTED
from agf_core.figures import Estimate
from agf_core.fitting.laws import Array
from agf_core.runs import Record, RunConfig, reference_runs
from agf_core.sources.datasets import load_data
from agf_core.training import build_model

PARTS = ("learning_curves-learning", "learning_curves-echoes", "accuracy-bytes")  # stored runs that the page reads
TRIALS = {"smoke": 20, "cpu": 100, "full": 300}
NOISE = 0.03  # nats: of recall where none was measured
NEAR = 0.5  # nats: recall at the nearest lag that A5's rule is tried with


@dataclass(frozen=True)
class Results:
    """What one profile's runs give.

    curves    every kind of byte in every run, and scores: `curve_laws.score`
    recalls   kind of model of text → a `Recall` a model; echoes: the same by (language, kind)
    made, ids, failed: commits, machines, dates; the runs; a line for each that diverged
    """

    profile: str
    curves: Curves
    recalls: dict[str, list[Recall]]
    echoes: dict[tuple[str, str], list[Recall]]
    made: str = ""
    ids: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()

    @cached_property
    def scores(self) -> pd.DataFrame:
        """`curve_laws.score` of the curves."""
        return curve_laws.score(self.curves) if len(self.curves.loss) else pd.DataFrame()

    @cached_property
    def pooled(self) -> curve_laws.Pooled | None:
        """All curves in one, by the held-out targets of each: the loss of the whole text's common bytes."""
        c = self.curves
        return curve_laws.pool(c, c.about["targets"].to_numpy()) if len(c.loss) else None

    @property
    def a4(self) -> Estimate | None:
        """The share of curves that the power law predicts better; None without curves."""
        return curve_laws.share(self.scores) if len(self.scores) else None

    @property
    def a5(self) -> Estimate | None:
        """Power's error over the exponential's; None where too few models remember for an interval."""
        found = forgetting_laws.ratio([forgetting_laws.score(r) for part in self.recalls.values() for r in part])
        return found if found and np.isfinite([found.value, found.low, found.high]).all() else None

    @property
    def remembering(self) -> int:
        """Models of text that remember an item."""
        return sum(bool(forgetting_laws.remembered(r).any()) for part in self.recalls.values() for r in part)


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, the reference runs (None where none are stored), and what stands beside them.

    worlds     claim → operating characteristics of its rule
    known      what the instrument finds of predictors whose recall is known: predictor, lag, planted, found, ratio
    untrained  the forgetting curve of a model of bytes that learned nothing
    forming    seed, layer, head, tokens, exponent: AGF's exponents through training, reference runs of `accuracy`
    schedules  schedule, tokens, loss (nats, training, mean over seeds): rotary models at a constant rate and a cosine;
               seeds, and slope, low, high: `late_slope` over seeds
    human      savings of four learners
    """

    here: Results
    reference: Results | None
    corpus: str
    worlds: dict[str, pd.DataFrame]
    known: pd.DataFrame
    untrained: Recall
    forming: pd.DataFrame
    schedules: pd.DataFrame
    human: forgetting_laws.Human

    @property
    def learning(self) -> Results:
        """Which runs carry A4: the reference runs, where their curves are stored."""
        return self.here if self.reference is None or not len(self.reference.curves.loss) else self.reference

    @property
    def retention(self) -> Results:
        """Which models carry A5: the reference runs, where their forgetting is measured."""
        return self.here if self.reference is None or not any(self.reference.recalls.values()) else self.reference

    @property
    def copying(self) -> Results:
        """Which models of languages of copies are shown."""
        return self.here if self.reference is None or not any(self.reference.echoes.values()) else self.reference

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids


def measure(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> Page:
    """Train what is missing, measure forgetting, and read everything; minutes in `cpu` where nothing is trained yet."""
    asked = curve_grids.learning_curves(profile, corpus, seed)
    records = chapter_runs.records(asked, PARTS)
    text, languages = curve_grids.forgetting(profile, corpus, seed), curve_grids.echoes(profile, seed)
    looked = [*grids.flat(text), *grids.flat(languages)]
    here = collect(profile, records, measured.of("forgetting", looked, forgetting.measure), corpus, seed)
    stored, full = reference_runs(), curve_grids.learning_curves("full")
    reference = None
    if here.ids <= set(stored) and profile == "full":
        reference = here
    elif any(c.id in stored for c in grids.flat(curve_grids.learning("full"))):
        there = measured.stored("forgetting")
        reference = collect("full", {c.id: stored[c.id] for c in full if c.id in stored}, there)
    names = [r["provenance"]["text"]["name"] for r in records.values() if r["provenance"]["text"]]
    page = Page(here, reference, names[0] if names else corpus, {}, known(), untrained(profile, corpus, seed),
                forming(), schedules(reference or here), forgetting_laws.human())  # fmt: skip
    page.worlds.update(operating(page, TRIALS[profile], seed))
    return page


def collect(
    profile: str, records: Mapping[str, Record], recalls: Mapping[str, Any], corpus: str = grids.CORPUS, seed: int = 0
) -> Results:
    """The tables of whatever runs of a profile there are, and of what is measured of them, by the run's id."""

    def found(grid: Mapping[Any, Sequence[RunConfig]]) -> dict[Any, list[Recall]]:
        return {k: [Recall.from_dict(recalls[c.id]) for c in part if c.id in recalls] for k, part in grid.items()}

    learning = curve_grids.learning(profile, corpus, seed)
    runs = {k: [records[c.id] for c in part if c.id in records] for k, part in learning.items()}
    failed = tuple(
        f"{r['config']['model']['encoding']} on {r['config']['data']['kind']}, seed {r['config']['train']['seed']}: "
        f"{r['error']}" for r in records.values() if r["status"] == "failed"
    )  # fmt: skip
    return Results(
        profile, curve_laws.read(runs), found(curve_grids.forgetting(profile, corpus, seed)),
        found(curve_grids.echoes(profile, seed)), chapter_runs.made([r for part in runs.values() for r in part]),
        frozenset(records), failed,
    )  # fmt: skip


def known() -> pd.DataFrame:
    """The instrument on predictors whose recall is known: two languages' best, and planted power and exponential."""
    rng, reach = np.random.default_rng(0), 64  # as far back as a language of copies reaches
    lags = forgetting.lags(1, 0, reach, 12)
    far = np.arange(1.0, reach + 1)
    predictors = {
        "best for power copies": (Reminder.best("power:exponent=1"), forgetting.SYMBOLS),
        "best for exponential copies": (Reminder.best("exponential:rate=0.1"), forgetting.SYMBOLS),
        "planted power": (Reminder.of_recall(0.9 * far**-0.8, 512), 512),
        "planted exponential": (Reminder.of_recall(0.9 * np.exp(-far / 15), 512), 512),
    }
    rows = []
    for name, (predictor, symbols) in predictors.items():
        fillers = torch.from_numpy(rng.integers(0, symbols - 8, (4, reach)))
        items = torch.arange(symbols - 8, symbols)[:, None]
        found = forgetting.recall(predictor, fillers, items, lags, tuple("abcdefgh"))
        table = forgetting_laws.score(found)
        ratio = float(np.exp(np.log(table["ratio"]).mean()))
        for lag, planted, value in zip(lags, predictor.recall(lags), found.mean.mean(0)):
            rows.append((name, int(lag), float(planted), float(value), ratio))
    return pd.DataFrame(rows, columns=["predictor", "lag", "planted", "found", "ratio"])


def untrained(profile: str, corpus: str, seed: int) -> Recall:
    """What the instrument finds where nothing was learned: the first free-field model, before its first step."""
    config = curve_grids.forgetting(profile, corpus, seed)["free, bytes"][0]
    model = build_model(config.model_config(load_data(config.data)), config.train.seed).eval()
    return Recall.from_dict(forgetting.measure(model, config))


def forming() -> pd.DataFrame:
    """AGF's exponents through training, from the reference runs of `accuracy` on bytes; empty where none are stored."""
    stored, rows = reference_runs(), []
    for config in grids.bytes_runs("full")["agf"]:
        record = stored.get(config.id)
        if not record or record["status"] != "ok":
            continue
        step = config.train.batch * int(config.model["context"])
        for snapshot in record["fields"]:
            for layer, numbers in enumerate(snapshot["layers"]):
                for head, k in enumerate(numbers["exponent"]):
                    rows.append((config.train.seed, layer, head, snapshot["step"] * step, k))
    return pd.DataFrame(rows, columns=["seed", "layer", "head", "tokens", "exponent"])


def schedules(results: Results) -> pd.DataFrame:
    """Training loss of rotary models at a constant rate and with a cosine, mean over seeds; see `Page`."""
    stored, tables = reference_runs(), []
    grid = {"constant": curve_grids.learning(results.profile)["rotary"], "cosine": grids.bytes_runs("full")["rotary"]}
    for schedule, configs in grid.items():
        curves = [r["curve"] for c in configs if (r := stored.get(c.id)) and r["status"] == "ok"]
        if curves:
            table = pd.DataFrame(np.mean(curves, axis=0), columns=["tokens", "loss"])
            e = mean(np.array([late_slope(*np.array(c, dtype=float).T) for c in curves]))
            tables.append(table.assign(schedule=schedule, seeds=len(curves), slope=e.value, low=e.low, high=e.high))
    empty = pd.DataFrame(columns=["tokens", "loss", "schedule", "seeds", "slope", "low", "high"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def late_slope(tokens: Array, loss: Array) -> float:
    """By which power of tokens a curve's loss falls over its last two doublings."""
    late = tokens >= tokens[-1] / 4
    return float(np.polyfit(np.log(tokens[late]), np.log(loss[late]), 1)[0])


def operating(page: Page, trials: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """What the two rules say of worlds whose truth is known, with the noise of the runs that decide."""
    found = {}
    curves = page.learning.curves
    if len(curves.loss):
        models = int(curves.about["model"].nunique())
        copies = max(2, 48 // models) if trials > TRIALS["smoke"] else 2
        found["A4"] = characteristics("A4", curve_laws.worlds(curves, models, copies=copies, seed=seed), trials, seed)
    every = [r for kind, part in page.retention.recalls.items() if kind.endswith("bytes") for r in part]
    se = np.median([r.se for r in every], axis=(0, 1)) if every else np.full(12, NOISE)
    lags = every[0].lags if every else forgetting.lags(forgetting.LENGTH, 1, forgetting.REACH * 128, 12)
    items = len(every[0].mean) if every else 24
    worlds = forgetting_laws.worlds(se, lags, max(2, len(every)), items=items, copies=max(20, trials // 4), near=NEAR,
                                    seed=seed)  # fmt: skip
    found["A5"] = characteristics("A5", worlds, trials, seed)
    return found


def powerless(worlds: pd.DataFrame | None) -> str:
    """Why a rule cannot decide with noise of this size; "" where it can (or was not tried)."""
    if worlds is None:
        return ""
    share = worlds.set_index("world")[SUPPORTED]
    power, false = share["power"], share.drop("power").max()
    return rules.powerless(power, false, "with this noise in which the power law is true")


def evidence(page: Page, claim: str) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A4 or A5, from the runs that decide; None where nothing can be said."""
    results = page.learning if claim == "A4" else page.retention
    e = results.a4 if claim == "A4" else results.a5
    if e is None:
        return None
    stored = results is page.reference
    part = next(iter(CLAIMS[claim].criterion.parts))
    tokens = curve_grids.SIZES[results.profile].tokens
    chance = forgetting_laws.by_chance(results.recalls) if claim == "A5" else ""
    text = grids.CORPUS if stored else page.corpus
    about = {"A4": f"{tokens / 1e6:.3g} M bytes at a constant rate", "A5": "recall of words"}[claim]
    return {
        "id": claim, "effect": {part: e.value}, "ci": {part: (e.low, e.high)},
        "n": int(results.scores["model"].nunique()) if claim == "A4" else results.remembering,
        "unit": "share of curves" if claim == "A4" else "error ratio",
        "scope": f"small models trained here ({grids.BODY['layers']} layers of {grids.BODY['dim']}; {about}; {text})",
        "profile": results.profile, "runs": results.made if stored else "",
        "here": agreement(page, claim) if stored else "", "too_small": powerless(page.worlds.get(claim)) or chance,
    }  # fmt: skip


def agreement(page: Page, claim: str) -> str:
    """How the runs here compare with the reference runs."""
    if page.same:
        return "these are the reference runs."
    assert page.reference is not None
    own, there = (getattr(r, claim.lower()) for r in (page.here, page.reference))
    null = getattr(next(iter(CLAIMS[claim].criterion.parts.values())), "null", None)
    if own is None or there is None or page.here.profile == "smoke" or null is None:
        return "too small to tell."
    side = [0 if e.low <= null <= e.high else int(np.sign(e.value - null)) for e in (own, there)]
    word = "too small to tell" if not side[0] else "agrees" if side[0] == side[1] else "disagrees"
    return f"on which side of {null:g} it lies: {word} (here {own.value:.2f}, there {there.value:.2f})."
