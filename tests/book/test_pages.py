"""The ledger's words: whose runs a verdict stands on, and what it was before."""

import json
from dataclasses import asdict

import mini
import pytest

from agf_core import claims, provenance
from book.driver import pages
from book.driver.plan import read_chapter

STORED = {"runs": "a1b2c3, one GPU, 2026-01-02", "here": "Agrees: 0.85 [0.7, 1]."}


@pytest.fixture
def ledger(tmp_path):
    """The ledger of a site in a profile whose one chapter reports A4; its table row and its entry."""
    (tmp_path / "one.ipynb").write_text(mini.chapter())
    chapter = read_chapter(tmp_path / "one.ipynb")

    def make(site: str, share: float, profile: str, **stored: str) -> tuple[str, str]:
        verdict = claims.report("A4", share, (share - 0.1, share + 0.1), 9, "share", profile=profile, **stored)
        record = {"kind": "verdict", **asdict(verdict), "provenance": provenance.provenance()}
        output = json.loads(json.dumps(record))
        result = pages.Result(chapter, {}, [output], "2026-02-03T04:05:06", 1.0, "")
        text = pages.ledger([result], site, tmp_path / "verdicts.json")
        row = next(line for line in text.splitlines() if line.startswith("| [A4]"))
        return row, text.split("### A4")[1].split("### A5")[0]

    return make


def test_a_verdict_of_reference_runs_says_so_and_names_them(ledger):
    row, entry = ledger("cpu", 0.9, "full", **STORED)
    assert "supported</span><br>reference runs<br>share 0.9 [0.8, 1]<br>share" in row
    assert "**Verdict of the reference runs** (profile `full`)" in entry
    assert f"**Made by.** {STORED['runs']}" in entry and f"**The run here** (profile `cpu`). {STORED['here']}" in entry
    row, entry = ledger("full", 0.9, "full", **STORED)  # stored runs stay stored runs in a site of their own profile
    assert "reference runs" in row


def test_no_verdict_says_why(ledger):
    row, entry = ledger("cpu", 0.9, "full", too_small="the rule says *supported* in 30 % of false worlds", **STORED)
    assert "too small to tell" in row
    assert "**Why no verdict.** The rule says *supported* in 30 % of false worlds." in entry
    assert "**Why no verdict.** Fewer than 8 repetitions" in ledger("smoke", 0.9, "smoke")[1]
    assert "Why no verdict" not in ledger("cpu", 0.9, "full", **STORED)[1]


def test_criteria_are_compared_whatever_their_format():
    text = (pages.ROOT / pages.CRITERIA).read_text()
    now = pages.criteria(text)
    assert list(now) == list(claims.CLAIMS)
    assert pages.criteria(text.replace("    ", "        ")) == now and pages.criteria("not python (") == {}
    other = pages.criteria(text.replace('"probe selectivity": Part(10.0, 0.0)', '"probe selectivity": Part(5.0, 0.0)'))
    assert [id for id in now if other[id] != now[id]] == ["M7"]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "full"])
def test_a_verdict_of_the_sites_own_runs_is_from_here(ledger, profile):
    row, entry = ledger(profile, 0.9, profile)
    assert "reference runs" not in row + entry and f"**Verdict here** (profile `{profile}`)" in entry


def test_a_verdict_of_reference_runs_has_one_history_whatever_the_site(ledger):
    assert "Earlier" not in ledger("cpu", 0.9, "full", **STORED)[1]
    assert "Earlier" not in ledger("smoke", 0.9, "full", **STORED)[1]
    entry = ledger("cpu", 0.3, "full", **STORED)[1]
    assert "- Earlier: supported (2026-02-03, profile `full`" in entry and entry.count("Earlier") == 1
    assert ledger("cpu", 0.3, "cpu")[1].count("Earlier") == 2
    assert ledger("cpu", 0.3, "full", **STORED)[1].count("Earlier") == 2
