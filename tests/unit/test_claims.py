"""Criteria as code: planted estimates get the verdict that the claims' text asks for."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agf_core import claims, provenance
from agf_core.claims import CLAIMS, INCONCLUSIVE, MIXED, NOT_SUPPORTED, SUPPORTED, Band, Part, report


def test_every_claim_of_both_papers_is_there_and_complete():
    assert list(CLAIMS) == [f"A{i}" for i in range(1, 8)] + [f"M{i}" for i in range(1, 8)]
    for claim in CLAIMS.values():
        assert all(
            (claim.quote, claim.objection, claim.test, claim.criterion.text, claim.criterion.parts, claim.chapters)
        )


@pytest.mark.parametrize(
    ("part", "effect", "ci", "verdict"),
    [
        (Part(0.5, 0.0), 0.6, (0.1, 1.1), SUPPORTED),  # meets the threshold, interval excludes the null
        (Part(0.5, 0.0), 0.6, (-0.1, 1.3), INCONCLUSIVE),  # interval has the null
        (Part(0.5, 0.0), 0.4, (0.1, 0.7), INCONCLUSIVE),  # short of the threshold, which the interval has
        (Part(0.5, 0.0), 0.2, (0.1, 0.4), NOT_SUPPORTED),  # interval excludes the threshold
        (Part(0.9, 1.0, above=False), 0.85, (0.8, 0.95), SUPPORTED),
        (Part(0.9, 1.0, above=False), 0.85, (0.7, 1.05), INCONCLUSIVE),
        (Part(0.9, 1.0, above=False), 1.2, (1.1, 1.3), NOT_SUPPORTED),
        (Part(0.8), 0.9, (0.85, 0.95), SUPPORTED),  # no null: the whole interval must meet the threshold
        (Part(0.8), 0.9, (0.75, 0.95), INCONCLUSIVE),
        (Part(5.0, above=False, against=10.0), 7.0, (6.0, 8.0), INCONCLUSIVE),  # M3: decided only beyond 10
        (Part(5.0, above=False, against=10.0), 12.0, (11.0, 13.0), NOT_SUPPORTED),
        (Band(1.75, 2.25), 2.0, (1.8, 2.2), SUPPORTED),
        (Band(1.75, 2.25), 2.0, (1.5, 2.5), INCONCLUSIVE),
        (Band(1.75, 2.25), 1.0, (0.8, 1.2), NOT_SUPPORTED),
    ],
)
def test_the_rule_for_one_part(part, effect, ci, verdict):
    assert part.verdict(effect, ci) == verdict


@given(st.floats(-2, 2), st.floats(0.01, 1), st.sampled_from([Part(0.5, 0.0), Part(0.5), Part(-0.5, 0.0, above=False)]))
def test_more_in_the_claims_favour_never_makes_the_verdict_worse(effect, half, part):
    rank = {NOT_SUPPORTED: 0, INCONCLUSIVE: 1, SUPPORTED: 2}
    step = 0.3 if part.above else -0.3
    now = rank[part.verdict(effect, (effect - half, effect + half))]
    better = rank[part.verdict(effect + step, (effect + step - half, effect + step + half))]
    assert better >= now


def verdict(id, **given):
    """The verdict for estimates by part, each `(effect, low, high)`; parts not given get `rest`."""
    rest = given.pop("rest", None)
    parts = CLAIMS[id].criterion.parts
    values = {name: given.get(name.replace(" ", "_"), rest) for name in parts}
    effect = {name: v[0] for name, v in values.items()}
    return report(id, effect, {name: v[1:] for name, v in values.items()}, 8, "x", profile="full").verdict


GOOD, BAD, OPEN = (1.0, 0.8, 1.2), (0.1, 0.0, 0.2), (0.6, -0.2, 1.4)


def test_a1_is_mixed_when_one_pair_holds_and_the_other_fails():
    def a1(learned, rotary):
        effect = {"learned → untied": learned[0], "rotary → table": rotary[0]}
        ci = {"learned → untied": learned[1:], "rotary → table": rotary[1:]}
        return report("A1", effect, ci, 8, "% of loss", profile="full").verdict

    assert a1(GOOD, GOOD) == SUPPORTED
    assert a1(GOOD, BAD) == MIXED
    assert a1(GOOD, OPEN) == INCONCLUSIVE
    assert a1(BAD, BAD) == NOT_SUPPORTED


def test_a3_is_mixed_when_few_heads_are_eligible():
    assert verdict("A3", share=(0.8, 0.7, 0.9), eligible=(0.7, 0.6, 0.8)) == SUPPORTED
    assert verdict("A3", share=(0.8, 0.7, 0.9), eligible=(0.3, 0.2, 0.4)) == MIXED
    assert verdict("A3", share=(0.5, 0.4, 0.6), eligible=(0.7, 0.6, 0.8)) == NOT_SUPPORTED


def test_a6_needs_all_and_fails_by_the_exponent_alone():
    assert verdict("A6", exponent=(2.0, 1.9, 2.1), rest=(0.95, 0.91, 0.99)) == SUPPORTED
    assert verdict("A6", exponent=(0.8, 0.7, 0.9), rest=(0.95, 0.91, 0.99)) == NOT_SUPPORTED


def test_m5_is_mixed_only_where_recall_fails_and_the_rest_holds():
    fine, recall = (1.0, 0.5, 1.5), (0.95, 0.92, 0.98)
    assert verdict("M5", recall_tokens=fine, rest=fine, **{"multi-query_recall": recall}) == SUPPORTED
    assert verdict("M5", recall_tokens=(9.0, 8.0, 10.0), rest=fine, **{"multi-query_recall": recall}) == MIXED


def test_m6_is_true_by_construction_until_something_stays_unassigned():
    assert verdict("M6", unassigned=(1.0, 0.5, 1.5)) == claims.BY_CONSTRUCTION
    assert verdict("M6", unassigned=(9.0, 8.0, 10.0)) == NOT_SUPPORTED


def test_m7_is_mixed_if_one_half_holds():
    good, poor = (20.0, 15.0, 25.0), (1.0, 0.5, 1.5)
    retrieval = {"retrieval_closes": (0.4, 0.3, 0.5), "lead_on_TF-IDF": (0.1, 0.05, 0.15)}
    assert verdict("M7", probe_selectivity=good, **retrieval) == SUPPORTED
    assert verdict("M7", probe_selectivity=poor, **retrieval) == MIXED


def test_small_runs_carry_no_verdict():
    assert report("A4", 0.9, (0.8, 1.0), 7, "share", profile="full").verdict == claims.TOO_SMALL
    assert report("A4", 0.9, (0.8, 1.0), 80, "share", profile="smoke").verdict == claims.TOO_SMALL
    assert report("A4", 0.9, (0.8, 1.0), 8, "share", profile="cpu").verdict == SUPPORTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("A9", 1.0, (0.0, 2.0)), "unknown claim 'A9'; the claims are A1, "),
        (("A1", 1.0, (0.0, 2.0)), r"the criterion asks for \['learned → untied', 'rotary → table'\]"),
        (("A4", float("nan"), (0.0, 1.0)), "expected finite"),
        (("A4", 2.0, (0.0, 1.0)), r"low ≤ estimate ≤ high, got 2.0 in \[0.0, 1.0\]"),
    ],
)
def test_estimates_that_say_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        report(*arguments, 8, "share")


def test_a_verdict_shows_claim_criterion_and_interval():
    text = report("A4", 0.9, (0.8, 1.0), 9, "share", profile="full")._repr_markdown_()
    assert "**A4: supported.**" in text and "0.9 [0.8, 1]" in text and "≥ 67 % of curves" in text


def test_a_verdict_of_stored_runs_names_them_and_how_the_run_here_compares(monkeypatch):
    monkeypatch.setattr(provenance, "_parameters", {"profile": "smoke"})
    stored = {"runs": "a1b2c3, one GPU, 2026-01-02", "here": "agrees: 0.85 [0.7, 1], 3 seeds."}
    verdict = report("A4", 0.9, (0.8, 1.0), 9, "share", profile="full", **stored)
    assert verdict.verdict == SUPPORTED and verdict.profile == "full" and stored.items() <= asdict(verdict).items()
    text = verdict._repr_markdown_()
    assert "reference runs: a1b2c3, one GPU, 2026-01-02." in text and text.endswith(
        "**The run here:** agrees: 0.85 [0.7, 1], 3 seeds.\n"
    )
    own = report("A4", 0.9, (0.8, 1.0), 9, "share")
    assert own.verdict == claims.TOO_SMALL and own.profile == "smoke"
    assert "reference runs" not in own._repr_markdown_() and "run here" not in own._repr_markdown_()
