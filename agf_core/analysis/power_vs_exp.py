"""Which law does attention follow, and why? Claim A3, and what stands beside it, from the runs of `field_grids` (ours).

A3 is asked of heads that nobody gave a law: free fields (one number a distance) from a flat and from a steep start,
and models without a field. A head's profile is its field as `Split` finds it in the logits, whatever made it. Of free
fields only distances count at which both starts came to the same; where these are too few, free heads have no say, and
are only shown. Planted languages and texts are measured in `field_copies`, a pretrained model in `power_pretrained`;
pictures are in `power_figures`, `copies_figures` and `specification_figures`, sentences in `power_prose` and
`copies_prose`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from agf_core.analysis import chapter_runs, field_copies, field_grids, grids, heads, law_scores, power_pretrained
from agf_core.analysis import operating as rules
from agf_core.analysis.field_copies import Array, Texts, agreement, finished, log_fields
from agf_core.analysis.operating import characteristics
from agf_core.analysis.power_pretrained import Observed
from agf_core.analysis.split import SplitResult
from agf_core.claims import CLAIMS, SUPPORTED
from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig, reference_runs

FREE, WITHOUT = field_grids.FREE, field_grids.WITHOUT
KINDS = (*FREE, *WITHOUT)  # of models whose heads are scored: two starts of a free field, two without a field
PARTS = [g for g in field_grids.GRIDS if g.startswith("field-") and g not in ("field-absolute", "field-stopped")]
LEAST = 5  # distances on which a law is fitted: with fewer nothing is scored


def runs(profile: str) -> list[RunConfig]:
    """What the driver trains before the chapter starts."""
    return field_grids.GRIDS["power_vs_exp"](profile)


@dataclass(frozen=True)
class Results:
    """What one profile's runs give.

    free      start → (M, 127) each model's log field at r = 1 …, mean over its heads; agreed: `field_copies.agreement`
    scores    heads that count for A3, columns of `law_scores.Scores.table` with kind, seed, layer; None where no head
              is measured.  shown: the same for free heads on all distances, whether or not the starts agree on them
    profiles  (S, W) of the rows of `scores`, then `shown`
    exponents task, start, seed, layer, head, exponent, of every head of a free field, on bytes and on words
    languages, texts: see `field_copies`
    made, ids, failed, seeds: commits, machines, dates; the runs; a line for each that diverged; models of every kind
              whose heads are measured
    """

    profile: str
    free: dict[str, Array]
    agreed: pd.DataFrame
    scores: law_scores.Scores | None
    shown: law_scores.Scores | None
    profiles: tuple[Array, Array]
    exponents: pd.DataFrame
    languages: pd.DataFrame
    texts: Texts
    made: str = ""
    ids: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()
    seeds: int = 0

    @property
    def a3(self) -> dict[str, Estimate] | None:
        """The claim's estimates; None without heads."""
        return None if self.scores is None else law_scores.share(self.scores)


@dataclass(frozen=True)
class Page:
    """The runs of this profile and text, the reference runs (None where none are stored), and a model from elsewhere.

    model     the pretrained model's observation, or that of a model trained here; not_there: why the latter, or ""
    worlds    what A3's rule says where the truth is known, with the deciding heads' own scatter: see `worlds`
    """

    here: Results
    reference: Results | None
    corpus: str
    model: Observed
    not_there: str = ""
    worlds: pd.DataFrame | None = None

    @property
    def deciding(self) -> Results:
        """Which runs carry the verdict: the reference runs, where their heads are measured."""
        return self.here if self.reference is None or self.reference.scores is None else self.reference

    def part(self, name: str) -> Results:
        """The reference runs where they have the part ("languages", "texts", "free", "exponents"), or the runs here."""
        stored = self.reference
        if stored is None:
            return self.here
        found = {"texts": stored.texts.texts, "free": stored.agreed}.get(name)
        return stored if len(getattr(stored, name) if found is None else found) else self.here

    @property
    def same(self) -> bool:
        """Whether the runs here are the reference runs."""
        return self.reference is not None and self.here.ids == self.reference.ids

    @property
    def stored(self) -> bool:
        """Whether the deciding runs are stored ones."""
        return self.deciding is self.reference


def measure(
    profile: str, corpus: str = grids.CORPUS, window: int = 100, model_id: str = "minilm", seed: int = 0
) -> Page:
    """Train what is missing, and read everything; minutes in `cpu` where nothing is trained yet."""
    records = chapter_runs.records(field_grids.power_vs_exp(profile, corpus, seed), PARTS)
    scored = [c for part in models(profile, corpus, seed).values() for c in part]
    splits = {id: found.split for id, found in heads.of(scored).items()}
    limit = field_copies.LIMIT[profile]
    here, stored = collect(profile, records, splits, corpus, seed, limit), reference_runs()
    reference = None
    if here.ids <= set(stored):
        reference = here
    elif any(c.id in stored for c in field_grids.power_vs_exp("full")):
        reference = collect("full", stored, {id: found.split for id, found in heads.stored().items()}, limit=limit)
    names = [r["provenance"]["text"]["name"] for c in scored if (r := records.get(c.id)) and r["provenance"]["text"]]
    model, why = power_pretrained.measure(profile, corpus, window, model_id, seed)
    page = Page(here, reference, names[0] if names else corpus, model, why)
    trials, pool = (100, 30) if profile == "smoke" else (400, 100)
    return replace(page, worlds=worlds(page.deciding, trials, seed, pool))


def models(profile: str, corpus: str = grids.CORPUS, seed: int = 0) -> dict[str, list[RunConfig]]:
    """Kind → the models whose heads are scored."""
    return {
        **{start: field_grids.free(profile, start, corpus, seed) for start in FREE},
        **{name: field_grids.named(profile, name, corpus, seed) for name in WITHOUT},
    }


def collect(
    profile: str, records: Mapping[str, Record], splits: Mapping[str, SplitResult], corpus: str = grids.CORPUS,
    seed: int = 0, limit: int = field_copies.LIMIT["full"],
) -> Results:  # fmt: skip
    """The tables of whatever runs of a profile there are, and of the splits of their heads, by the run's id.

    limit: bytes of a text whose dependence is counted.
    """
    asked = {c.id: c for c in field_grids.power_vs_exp(profile, corpus, seed)}
    found = {id: r for id, r in records.items() if id in asked}
    of_kind = {kind: finished(configs, found) for kind, configs in models(profile, corpus, seed).items()}
    free = {s: np.array([log_fields(r)[..., 1:].mean((0, 1)) for r in of_kind[s]]) for s in FREE}
    agreed = agreement(free) if all(len(f) for f in free.values()) else pd.DataFrame()
    counted, shown, profiles = _scores(of_kind, splits, agreed)
    failed = tuple(
        f"{r['config']['model']['encoding']} on {r['config']['data']['kind']} {r['config']['data']['corpus']}, seed "
        f"{r['config']['train']['seed']}: {r['error']}" for r in found.values() if r["status"] == "failed"
    )  # fmt: skip
    return Results(
        profile, free, agreed, counted, shown, profiles, _exponents(profile, found, corpus, seed),
        field_copies.languages(profile, found, seed), field_copies.texts(profile, found, seed, limit),
        chapter_runs.made(list(found.values())),
        frozenset(found), failed, min(sum(r["id"] in splits for r in part) for part in of_kind.values()),
    )  # fmt: skip


def _scores(
    of_kind: Mapping[str, Sequence[Record]], splits: Mapping[str, SplitResult], agreed: pd.DataFrame
) -> tuple[law_scores.Scores | None, law_scores.Scores | None, tuple[Array, Array]]:
    """(scores that count, free heads on all distances, profiles of both)."""
    parts, number = {}, 0
    for kind, records in of_kind.items():
        rows, profiles, about = [r for r in records if r["id"] in splits], [], []
        for record in rows:
            split = splits[record["id"]]
            layers, count, _ = split.profile.shape
            profiles.append(split.profile.reshape(layers * count, -1))
            layer, head = (a.ravel() for a in np.indices((layers, count)))
            about.append(pd.DataFrame({
                "model": number, "kind": kind, "seed": record["config"]["train"]["seed"], "layer": layer, "head": head,
                "eligible": split.eligible.ravel(),
            }))  # fmt: skip
            number += 1
        if rows:
            parts[kind] = np.concatenate(profiles), pd.concat(about, ignore_index=True)
    usable = None
    if len(agreed) and (free := [s for s in FREE if s in parts]):
        usable = agreed["agrees"].to_numpy()[: parts[free[0]][0].shape[1]]
    counted = [_scored(*part) for kind, part in parts.items() if kind in WITHOUT]
    if usable is not None and enough(usable):
        counted += [_scored(*part, usable=usable) for kind, part in parts.items() if kind in FREE]
    shown = [_scored(*part) for kind, part in parts.items() if kind in FREE]
    (first, one), (second, other) = _joined(counted), _joined(shown)
    return first, second, (one, other)


def enough(usable: Array) -> bool:
    """Whether laws can be fitted on the near half of the usable distances and scored on the far half."""
    half = len(usable) // 2
    return bool(usable[:half].sum() >= LEAST and usable[half:].any())


def _scored(profiles: Array, about: pd.DataFrame, usable: Array | None = None) -> tuple[law_scores.Scores, Array]:
    found = law_scores.score(profiles, about["model"], about["eligible"], heads=about["head"], usable=usable)
    table = found.table.assign(**{name: about[name].to_numpy() for name in ("kind", "seed", "layer")})
    return replace(found, table=table), profiles


def _joined(parts: list[tuple[law_scores.Scores, Array]]) -> tuple[law_scores.Scores | None, Array]:
    if not parts:
        return None, np.empty((0, 0))
    table = pd.concat([s.table for s, _ in parts], ignore_index=True)
    return replace(parts[0][0], table=table), np.concatenate([p for _, p in parts])


def _exponents(profile: str, records: Mapping[str, Record], corpus: str, seed: int) -> pd.DataFrame:
    """Every head of a free field that carries, on bytes and on words: task, start, seed, layer, head, exponent."""
    rows = []
    for task in ("bytes", "words"):
        for start in FREE:
            for record in finished(field_grids.free(profile, start, corpus, seed, task), records):
                fields = log_fields(record)
                exponent = field_copies.exponents(fields).power
                for layer, head in np.argwhere(field_copies.carry(fields)):
                    rows.append((task, start, record["config"]["train"]["seed"], layer, head, exponent[layer, head]))
    return pd.DataFrame(rows, columns=["task", "start", "seed", "layer", "head", "exponent"])


def by_kind(scores: law_scores.Scores) -> pd.DataFrame:
    """kind, models, heads, eligible (share), share, low, high (of eligible heads that the power law wins), exponent
    (median local steepness of eligible heads), and a share of eligible heads for each winner."""
    rows = []
    for kind, part in scores.table.groupby("kind", sort=False):
        own, able = law_scores.share(replace(scores, table=part)), part[part["eligible"]]
        winners = able["winner"].value_counts(normalize=True)
        rows.append({"kind": kind, "models": part["model"].nunique(), "heads": len(part),
                     "eligible": own["eligible"].value, "share": own["share"].value, "low": own["share"].low,
                     "high": own["share"].high, "exponent": able["steepness"].median(),
                     **{w: winners.get(w, 0.0) for w in law_scores.WINNERS}})  # fmt: skip
    return pd.DataFrame(rows)


def evidence(page: Page) -> dict[str, Any] | None:
    """The arguments of `claims.report` for A3, from the runs that decide; None without heads."""
    deciding = page.deciding
    if (found := deciding.a3) is None or deciding.scores is None:
        return None
    size = field_grids.SIZES[deciding.profile].heads[0]
    body = f"{grids.BODY['layers']} layers of {grids.BODY['dim']}"
    return {
        "id": "A3",
        "effect": {p: e.value for p, e in found.items()},
        "ci": {p: (e.low, e.high) for p, e in found.items()},
        "n": deciding.seeds,
        "unit": "share of heads",
        "scope": f"small models trained here ({body}, {size / 1e6:.3g} M bytes of "
                 f"{grids.CORPUS if page.stored else page.corpus})",
        "profile": deciding.profile,
        "runs": deciding.made if page.stored else "",
        "here": agreement_here(page) if page.stored else "",
        "too_small": powerless(page.worlds),
    }  # fmt: skip


def agreement_here(page: Page) -> str:
    """How the heads of the run here compare with those of the reference runs."""
    if page.same:
        return "these are the reference runs."
    assert page.reference is not None and page.reference.a3 is not None
    here, there, part = page.here.a3, page.reference.a3["share"], CLAIMS["A3"].criterion.parts["share"]
    if here is None or page.here.profile == "smoke":
        return "too small to tell (no trained head is measured here)."
    own, null = here["share"], getattr(part, "null", 0.5)
    side = [0 if e.low <= null <= e.high else int(np.sign(e.value - null)) for e in (own, there)]
    word = "too small to tell" if not side[0] else "agrees" if side[0] == side[1] else "disagrees"
    return f"on which side of {null:.0%} the share of power laws lies: {word} (here {own:.2f}, there {there:.2f})."


def powerless(worlds: pd.DataFrame | None) -> str:
    """Why the rule cannot decide with heads that scatter like these; "" where it can (or was not put to the test)."""
    if worlds is None:
        return ""
    share = worlds.set_index("world")[SUPPORTED]
    power, false = share["power"], share.drop("power").max()
    return rules.powerless(power, false, "with heads that scatter as these do in which all are power laws")


def worlds(results: Results, trials: int = 400, seed: int = 0, pool: int = 100) -> pd.DataFrame:
    """Operating characteristics of A3's rule, noise: the eligible heads' residuals (without any, `law_scores`' own);
    share: the median over the same draws of the claim's share."""
    rows = results.profiles[0]
    if results.scores is not None:
        rows = rows[results.scores.table["eligible"].to_numpy(bool)]
    usable = len(rows) > 1 and np.isfinite(rows).all()
    options: dict[str, Any] = {"window": rows.shape[1], "residuals": law_scores.residuals(rows)} if usable else {}
    drawn = law_scores.worlds(models=max(8, results.seeds * len(WITHOUT)), seed=seed, pool=pool, **options)
    found = characteristics("A3", drawn, trials, seed)
    return found.assign(share=[law_scores.usual_share(draw, trials, seed) for draw in drawn.values()])
