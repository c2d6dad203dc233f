"""What chapters say of a verdict before it is printed, and of their runs beside the reference runs."""

import pytest

from agf_core import claims
from agf_core.analysis.operating import agreement, foretold
from agf_core.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate

NAN = float("nan")


@pytest.mark.parametrize(
    ("share", "more", "word"),
    [(0.9, {}, SUPPORTED), (0.62, {}, INCONCLUSIVE), (0.3, {}, NOT_SUPPORTED), (0.9, {"n": 7}, TOO_SMALL),
     (0.9, {"profile": "smoke"}, TOO_SMALL), (0.9, {"too_small": "no power"}, TOO_SMALL)],
)  # fmt: skip
def test_a_foretold_verdict_is_the_one_that_is_printed(share, more, word):
    evidence = {"id": "A4", "effect": share, "ci": (share - 0.1, share + 0.1), "n": 8, "unit": "share",
                "profile": "full", **more}  # fmt: skip
    assert foretold(evidence) == claims.report(**evidence).verdict == word
    assert foretold(None) == TOO_SMALL


def test_agreement_is_by_side_and_one_seed_contradicts_nothing():
    there = {"KL removed": Estimate(0.93, 0.91, 0.94), "slope": Estimate(1.0, 0.95, 1.05)}

    def said(removed, slope):
        return agreement("M2", {"KL removed": removed, "slope": slope}, there)

    assert said(Estimate(0.92, NAN, NAN), Estimate(1.02, NAN, NAN)).count("agrees") == 2
    assert "KL removed: too small to tell (here 0.88, there 0.93)" in said(Estimate(0.88, NAN, NAN), there["slope"])
    assert "KL removed: too small to tell" in said(Estimate(0.88, 0.85, 0.92), there["slope"])
    assert "KL removed: disagrees" in said(Estimate(0.8, 0.75, 0.85), there["slope"])
    assert "slope: disagrees" in said(there["KL removed"], Estimate(0.5, 0.4, 0.6))
    assert "slope: not measured here, or with too few seeds" in agreement("M2", {"KL removed": there["slope"]}, there)
