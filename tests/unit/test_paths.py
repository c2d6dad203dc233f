"""The chapter `paths`: verdicts follow the estimates, and its page is written and drawn whatever the runs give."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.pyplot import close

from agf_core import claims
from agf_core.analysis import concepts, in_context, path_calibration, path_grids, paths
from agf_core.analysis import paths_figures as draw
from agf_core.analysis import paths_prose as prose
from agf_core.analysis import space_prose as space
from agf_core.analysis.paths import CLAIMED, Page, Results
from agf_core.claims import INCONCLUSIVE, MIXED, NOT_SUPPORTED, SUPPORTED, TOO_SMALL

SENTENCES = ("in_short", "answers", "operating", "drawn", "memory", "sources", "diversity", "vectors", "probed", "here",
             "meaning", "whose")  # fmt: skip
FIGURES = ("paths", "memory", "known", "tasks", "nearness", "concepts")
TRUE = {"added": 0.5, "room": 2.0, "removed": 0.97, "slope": 1.0, "beats": 0.0, "rho": 0.45, "selectivity": 40.0,
        "pooled": 0.6}  # fmt: skip
TASKS = ["tasks", "seed", "model", "mixture", "prior", "tempered", "even", "beats", "late", "blurred", "seen_model",
         "seen_mixture", "seen_prior"]  # fmt: skip
FALSE = {"added": 20.0, "room": 30.0, "removed": 0.7, "slope": 0.8, "beats": 30.0, "rho": 0.1, "selectivity": 2.0,
         "pooled": 0.26}  # fmt: skip


def results(profile="full", seeds=8, **true):
    """What runs with these effects would give, with a little scatter between seeds."""
    e, rng = {**TRUE, **true}, np.random.default_rng(0)

    def about(value, size=0.01):
        return value * (1 + size * rng.standard_normal())

    known, tasks, walked, near, probes = [], [], [], [], []
    for s in range(seeds):
        for kind in path_grids.SOURCES:
            known.append(
                (kind, s, 0.02, 0.5, 0.2, about(e["removed"]), about(e["slope"]), 0.01 if kind != "hmm" else np.nan)
            )
        for t in (*path_grids.POOLS, path_grids.ENDLESS):
            beats = about(e["beats"]) + 0.3 * rng.standard_normal() if t == 32 else 0.3 * rng.standard_normal()
            tasks.append((t, s, 0.2 * (1 - beats / 100), 0.2, 0.1, 0.19, 0.36, beats, beats, 5.0, 0.1, 0.09, 0.1))
        for kind in ("words", "markov"):
            walked.append(
                (kind, s, 90.0, 100 - e["room"], 100 - e["room"] + e["added"], about(e["added"]), about(e["room"]))
            )
        for embeddings in ("tied", "untied"):
            for words in (1, 2):
                for kind, rho in (("trained", e["rho"]), ("untrained", 0.0), ("shuffled", 0.01), ("input", 0.1),
                                  ("product", 0.5), ("resampled", 0.7)):  # fmt: skip
                    near.append((embeddings, s, words, kind, rho + 0.01 * rng.standard_normal(), 300))
        for model, accuracy in (("trained", 30 + e["selectivity"]), ("untrained", 30.0)):
            probes.append(("word class", s, model, accuracy + rng.standard_normal(), 30.0))
    items = np.full((seeds, concepts.GROUPS), 40.0)
    hits = {k: rng.binomial(40, p, items.shape).astype(float) for k, p in
            (("pooled", e["pooled"]), ("dot", 0.5), ("tfidf", 0.4), ("model", 0.8))}  # fmt: skip
    learned = [(k, s, t, 1 / t) for k in path_grids.SOURCES for s in range(seeds) for t in (64, 512, 4096)]
    probe = pd.DataFrame(probes, columns=["property", "seed", "model", "accuracy", "control"])
    curve = {k: np.linspace(0.3, v, 16) for k, v in (("model", 0.1), ("mixture", 0.2), ("prior", 0.05))}
    walk = {"layers": rng.standard_normal((3, 4, 16, 2)).tolist(), "explained": [0.4, 0.2, 0.3, 0.1], "read": 16,
            "steps": rng.standard_normal((6, 32, 2)).tolist(), "spread": [0.0, 0.5, 0.9, 1.0]}  # fmt: skip
    return Results(
        profile, "some text",
        known=pd.DataFrame(known, columns=["kind", "seed", "kl", "unigram", "bigram", "removed", "slope", "never"]),
        paths={k: rng.standard_normal((20, 2)) - 50 for k in path_grids.SOURCES},
        through=pd.DataFrame(learned, columns=["kind", "seed", "tokens", "kl"]),
        tasks=pd.DataFrame(tasks, columns=TASKS),
        places=dict.fromkeys(path_grids.POOLS, curve),
        walks=pd.DataFrame(walked, columns=["kind", "seed", "token", "now", "history", "added", "room"]), walk=walk,
        near=pd.DataFrame(near, columns=["embeddings", "seed", "words", "kind", "rho", "count"]),
        example={k: rng.standard_normal((30, 3)) for k in ("tied", "untied")},
        probes=probe.assign(selectivity=probe["accuracy"] - probe["control"]), hits={**hits, "items": items},
        made="code abc", ids=frozenset({profile}), failed=("words brown, seed 3: loss nan",),
    )  # fmt: skip


def nothing(profile="cpu"):
    """What is left where nothing was measured."""
    one = results(profile, 1)
    empty = {n: getattr(one, n)[:0] for n in ("known", "through", "tasks", "walks", "near", "probes")}
    hits = {k: v[:0] for k, v in one.hits.items()}
    return replace(one, **empty, paths={}, places={}, walk=None, example={}, hits=hits, ids=frozenset())


@pytest.fixture(scope="module")
def answers():
    table = pd.DataFrame({"claim": ["M1"], "what": ["a case"], "planted": [0.0], "found": [0.1]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_calibration.next_vector, "calibration", lambda *_: [("a walk", 0.0, 0.1)])
        found = path_calibration.known_answers("smoke")
    assert list(found.columns) == list(table.columns)
    return found


def page(answers, here, reference=None, trials=60):
    one = Page(here, reference, answers, {})
    return replace(one, worlds=paths.worlds(one, trials))


def test_known_answers_are_found(answers):
    for row in answers.itertuples():
        limit = 12 if row.claim == "M7" else 1e-3 if row.claim != "M1" else 1
        assert row.found == pytest.approx(row.planted, abs=limit), row.what


@pytest.mark.parametrize(("true", "verdict"), [(TRUE, SUPPORTED), (FALSE, NOT_SUPPORTED)])
def test_verdicts_follow_the_estimates(answers, true, verdict):
    one = page(answers, results(**true))
    for id in CLAIMED:
        evidence = paths.evidence(one, id)
        assert evidence["n"] == 8 and set(evidence["effect"]) == set(claims.CLAIMS[id].criterion.parts)
        assert paths.why_not(one, id) == "", id
        assert claims.report(**evidence).verdict == paths.word(one, id) == verdict, id
        small = page(answers, results("smoke", **true), trials=20)
        assert paths.word(small, id) == TOO_SMALL
    assert SUPPORTED in one.worlds["M3"] and in_context.peak(one.here.tasks) in path_grids.POOLS


def test_halves_of_m7_are_mixed_and_m4_needs_both_embeddings(answers):
    assert paths.word(page(answers, results(pooled=0.26)), "M7") == MIXED
    one = results()
    near = one.near.copy()
    near.loc[(near["embeddings"] == "untied") & (near["kind"] == "shuffled"), "rho"] = 0.9
    assert paths.word(page(answers, replace(one, near=near)), "M4") == NOT_SUPPORTED


def test_m1_is_not_decided_by_a_weak_reader_of_the_history(answers):
    one = page(answers, results(added=1.0, room=20.0))
    assert "better reader" in paths.why_not(one, "M1") and paths.word(one, "M1") == TOO_SMALL
    assert paths.word(page(answers, results(added=1.0, room=4.0)), "M1") == SUPPORTED
    assert paths.word(page(answers, results(added=12.0, room=20.0)), "M1") == NOT_SUPPORTED


def test_m3_is_not_decided_where_the_ignorant_beat_the_mixture(answers):
    one = results(beats=30.0)
    tasks = one.tasks.assign(tempered=0.1)
    assert "learn nothing" in paths.why_not(page(answers, replace(one, tasks=tasks)), "M3")
    assert paths.word(page(answers, results(beats=7.5)), "M3") in (INCONCLUSIVE, NOT_SUPPORTED)


def test_rules_tell_worlds_apart_and_say_when_they_cannot(answers):
    one = page(answers, results())
    for id, table in one.worlds.items():
        assert list(table["world"]) == list(path_calibration.WORLDS[id]) and path_calibration.powerless(table) == ""
    noisy = results()
    rng = np.random.default_rng(1)
    walked = noisy.walks.assign(added=40 * rng.standard_normal(len(noisy.walks)))
    assert "%" in paths.why_not(page(answers, replace(noisy, walks=walked)), "M1")


def cases(answers):
    few = results("cpu", 1)
    untagged = replace(results("cpu", 2), probes=results().probes[:0])
    return {
        "reference": page(answers, few, results(), 20),
        "alone": page(answers, few),
        "false": page(answers, results(**FALSE), trials=20),
        "nothing": page(answers, nothing()),
        "untagged": page(answers, untagged, trials=20),
        "same": page(answers, results(), results(), 20),
        "part": page(answers, few, replace(nothing("full"), known=results().known), 20),
    }


def test_pages_are_written_and_drawn(answers):
    for name, one in cases(answers).items():
        short = prose.in_short(one).format(**prose.numbers(one))
        assert all(f"**{id}: {paths.word(one, id)}.**" in short for id in CLAIMED), name
        for sentence in SENTENCES:
            where = space if hasattr(space, sentence) else prose
            assert len(getattr(where, sentence)(one)) > 10, (name, sentence)
        for id in CLAIMED:
            assert id in prose.no_evidence(one, id)
            assert (paths.evidence(one, id) is None) <= (paths.word(one, id) == TOO_SMALL)
        drawn = FIGURES if name in ("reference", "alone", "nothing") else ()
        for figure in (*drawn, *(("operating",) if one.worlds and drawn else ())):
            fig, table = getattr(draw, figure)(one)
            fig.draw_without_rendering()
            assert isinstance(table, pd.DataFrame) and len(table), (name, figure)
            close(fig)
        json.dumps({k: str(v) for k, v in prose.numbers(one).items()})


def test_whose_runs_decide(answers):
    one = cases(answers)
    assert one["reference"].deciding("M1") is one["reference"].reference
    assert "reference runs decide" in prose.whose(one["reference"])
    assert one["part"].deciding("M2").profile == "full" and one["part"].deciding("M1").profile == "cpu"
    assert "M1, M3, M4 and M7" in prose.whose(one["part"])
    assert "stand alone" in prose.whose(one["alone"]) and "are the reference runs" in prose.whose(one["same"])
    assert "Diverged" in prose.here(one["reference"])


def test_nothing_measured_is_nothing_collected():
    found = paths.collect("smoke", {}, {name: {} for name in paths.MEASURED})
    assert not found.estimates and found.walk is None and all(found.seeds(id) == 0 for id in CLAIMED)
