"""The appendix `calibration` in smoke: its tables say what the page says they do."""

import dataclasses

import matplotlib
import numpy as np
import pytest

from agf_core.analysis import calibration as known
from agf_core.analysis import calibration_figures as draw
from agf_core.analysis import calibration_prose as prose
from agf_core.analysis import calibration_series as series

matplotlib.use("Agg")


def test_published_answers_come_back():
    planets, slope, force = known.kepler()
    assert len(planets) == 8 and slope.value == pytest.approx(1.49977, abs=2e-5) and abs(force.value - 2) < 1e-3
    savings = known.savings().set_index(["law", "series"])
    power = savings.loc["power"]
    assert (power["decay"] - power["reference_decay"]).abs().max() < 5.1e-4
    assert (savings["r2"] - savings["reference_r2"]).abs().max() < 5.1e-3
    assert savings.loc["exponential"]["best"].to_dict() == {
        "Ebbinghaus": False, "Mack": False, "Seitz": False, "Dros": True
    }  # fmt: skip


def test_mixture_is_exact():
    table, fit, wanted = known.mixture("smoke", 0)
    assert {k: fit.params[k] for k in wanted} == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(table["predicted"], table["mean"], rtol=0.05)


def test_coverage_and_counts_are_near_what_they_promise():
    table = known.coverage("smoke", 0)
    assert set(table["law"]) == set(known.PLANTED) and (table["low"] <= 0.95).all() and table["coverage"].min() > 0.88
    counts = known.counts("smoke", 0)
    assert (counts["mean"] - counts["exponent"]).abs().max() < 0.1


def test_choice_rows_are_shares():
    table = known.choice("smoke", 0)
    assert table.groupby(["noise", "planted"])["share"].sum().to_numpy() == pytest.approx(1.0)
    least = table[(table["noise"] == 0.05) & (table["planted"] == table["chosen"])]["share"]
    assert least.min() > 0.8


def test_both_traps_are_shown():
    _, verdicts = known.averaging("smoke", 0)
    assert verdicts["power"][0] == 1 and verdicts["exponential"][1] > 0.95
    _, careless, careful = known.careless()
    assert (careless.params["exponent"], careless.r2) == pytest.approx((0.30, 0.98), abs=0.005)
    assert careful.params["exponent"] == 0.0


def test_gravity_tells_planted_fields_apart():
    table = known.gravity("smoke", 0)
    best = table[table["best"]].drop_duplicates(["planted", "error"]).set_index(["planted", "error"])
    for planted in ("power", "exponential"):
        assert (best.loc[planted, "law"] == planted).all()
        assert best.loc[planted, "estimate"].to_numpy() == pytest.approx(best.loc[planted, "value"].to_numpy(), rel=0.1)
    assert table[table["planted"] == "uniform"]["estimate"].abs().max() < 0.01
    assert "token types" in known.trap("smoke", 0)


def test_unknown_profile_lists_the_choices():
    with pytest.raises(ValueError, match=r"unknown profile 'gpu'.*smoke, cpu, full"):
        known.coverage("gpu", 0)


def test_every_figure_draws_what_it_returns():
    uniform, careless, _ = known.careless()
    drawn = [
        draw.draw_kepler(known.kepler()[0]), draw.draw_savings(known.savings()),
        draw.draw_mixture(known.mixture("smoke", 0)[0]), draw.draw_coverage(known.coverage("smoke", 0)),
        draw.draw_choice(known.choice("smoke", 0)), draw.draw_averaging(known.averaging("smoke", 0)[0]),
        draw.draw_gravity(known.gravity("smoke", 0)), draw.draw_careless(uniform, careless),
    ]  # fmt: skip
    for figure, table in drawn:
        assert figure.axes and len(table)
    matplotlib.pyplot.close("all")


def test_the_stored_run_is_complete_and_covers():
    full = series.stored()
    assert full is not None and full.provenance["parameters"]["sets"] >= 2000
    assert set(full.coverage["law"]) == set(series.ALL) and set(full.coverage["space"]) == {"log", "linear"}
    assert full.coverage["coverage"].between(0.92, 0.98).mean() > 0.95
    assert full.choice.groupby(["noise", "planted"])["share"].sum().to_numpy() == pytest.approx(1.0, abs=1e-3)


def test_main_writes_what_stored_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(series, "STORED", tmp_path / "runs" / "calibration.json")
    assert series.stored() is None
    known.main(["--sets", "20", "--choices", "10", "--out", str(series.STORED)])
    assert "160 cells" in capsys.readouterr().out
    again = series.stored()
    assert again is not None and len(again.coverage) == 160 and str(tmp_path) not in str(again.provenance)


def test_the_page_speaks_with_and_without_the_stored_run():
    page = known.measure("smoke", 0)
    assert draw.draw_coverage(page.coverage, page.full.coverage)[1]["run"].nunique() == 2
    assert draw.draw_full_coverage(page.full.coverage)[0].axes and draw.draw_choice(prose.middle(page.full.choice))
    matplotlib.pyplot.close("all")
    for words in (prose.in_short(page), prose.coverage(page), prose.choice(page), prose.full_coverage(page.full)):
        assert words[0].format(**words[1])
    text, numbers = prose.in_short(page)
    assert "known answers came back as they must" in text and "too small to tell" in text and numbers["cells"] == 160
    bare = dataclasses.replace(page, full=None)
    for text, _ in (prose.coverage(bare), prose.full_coverage(None), prose.full_choice(None)):
        assert "missing from this copy" in text
    assert "stored run" not in prose.in_short(bare)[0]


def test_a_failed_check_is_said_first():
    page = known.measure("smoke", 0)
    fooled = dataclasses.replace(page, careless=(page.careless[0], page.careless[1], page.careless[1]))
    text, _ = prose.in_short(fooled)
    first = text.splitlines()[0]
    assert "Not so: " in first and "Uniform attention by distance: exponent 0" in first and "**fooled**" in text
