"""Learned fields beside planted laws and beside texts, on fabricated records whose truth we chose."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from scipy import stats

from agf_core.analysis import copies_figures as draw
from agf_core.analysis import copies_prose as prose
from agf_core.analysis import dose, field_copies, field_grids
from agf_core.analysis.field_copies import NEAR
from agf_core.figures import Estimate

sys.path.insert(0, str(Path(__file__).parent))
from fabricated_fields import law, planted_records, record, steepness, text_records

matplotlib.use("Agg")
@pytest.fixture
def known_best(monkeypatch):
    """The best loss takes seconds for a whole grid; here it is 2 nats."""
    monkeypatch.setattr(field_copies, "_floor", lambda *about: 2.0)


def test_a_field_is_read_from_the_record_gain_and_all():
    config = field_grids.free("smoke", "flat")[0]
    planted = np.random.default_rng(0).normal(size=(2, 4, 128))
    found = field_copies.log_fields(record(config, planted))
    assert found.shape == (2, 4, 128) and np.exp(found[..., 1:]).sum(-1) == pytest.approx(np.ones((2, 4)))
    assert np.ptp(found - planted, axis=-1) == pytest.approx(np.zeros((2, 4)), abs=2e-4)


def test_a_flat_head_does_not_carry_and_is_left_out_of_its_model():
    config = field_grids.free("smoke", "flat")[0]
    heads = np.stack([np.stack([law(1.0), 0 * law(1.0), 0 * law(1.0), law(1.0)])] * 2)
    found = record(config, heads)
    assert field_copies.carry(field_copies.log_fields(found)).tolist() == [[True, False, False, True]] * 2
    assert field_copies.exponents(field_copies.of_model(found)).power == pytest.approx(1.0, abs=1e-3)
    assert np.isnan(field_copies.of_model(record(config, 0 * law(1.0)))).all()


def test_starts_agree_where_their_interval_holds_zero_and_is_narrow():
    rng = np.random.default_rng(0)
    fields = {s: rng.normal(0, 0.1, (8, 64)) for s in ("flat", "steep")}
    fields["steep"][:, 40:] += 3.0
    found = field_copies.agreement(fields)
    assert found["known"].all() and not found["agrees"][40:].any() and found["agrees"][:40].mean() > 0.85
    t = stats.ttest_ind(fields["flat"][:, 5], fields["steep"][:, 5])
    assert tuple(found.loc[5, ["low", "high"]]) == pytest.approx(tuple(t.confidence_interval()))
    wide = field_copies.agreement({s: 40 * f[:3] for s, f in fields.items()})
    assert not wide["known"].any() and not wide["agrees"].any()
    alone = field_copies.agreement({s: f[:1] for s, f in fields.items()})
    assert not alone["known"].any() and np.isnan(alone["low"]).all()


def test_a_copied_law_comes_back_with_slope_one(known_best):
    found = field_copies.languages("full", planted_records("full", noise=0.05))
    assert set(found["reader"]) == set(field_grids.READERS)
    power = found[found["law"] == "power"]
    assert (power["exponent"] - power["planted"]).abs().max() < 0.1
    assert found["reached"].to_numpy() == pytest.approx(1.0) and (found["heads"] == found["of"]).all()
    for reader in field_grids.READERS:
        slope = field_copies.copied(found, reader)
        assert slope.low <= slope.value <= slope.high and slope.value == pytest.approx(1.0, abs=0.05)
        assert prose.judged(slope).startswith("the field") and "does not follow" not in prose.judged(slope)
    told = found[found["winner"].isin(["power", "exponential"])]
    assert (told["winner"] == told["law"]).mean() > 0.9 and len(told) > len(found) / 2


def test_an_architecture_with_a_law_of_its_own_has_slope_zero(known_best):
    records = planted_records("full", lambda *about: law(1.0), noise=0.05)
    found = field_copies.languages("full", records, readers=["field only"])
    slope = field_copies.copied(found, "field only")
    assert slope.value == pytest.approx(0.0, abs=0.05)
    assert "does not follow" in prose.judged(slope)


def test_slopes_are_judged_by_their_interval():
    assert "0 and 1" in prose.judged(Estimate(0.5, -0.1, 1.2))
    assert "how closely" in prose.judged(Estimate(0.4, 0.1, 1.3)) and "wide" in prose.judged(Estimate(0.4, -0.1, 0.8))
    assert "less steeply" in prose.judged(Estimate(0.8, 0.7, 0.9)) and "nearer" in prose.judged(Estimate(0.8, 0.7, 0.9))
    assert "far from a copy" in prose.judged(Estimate(0.2, 0.1, 0.3))
    assert prose.judged(None) == prose.judged(Estimate(1, np.nan, np.nan)) == "no slope is known"


def test_runs_that_diverged_or_are_not_there_leave_no_row(known_best):
    records = planted_records("smoke")
    first = next(iter(records))
    records[first] = {**records[first], "status": "failed"}
    found = field_copies.languages("smoke", records)
    assert len(found) == len(records) - 1 and first not in set(found["id"])
    nothing = field_copies.languages("smoke", {})
    assert nothing.empty and field_copies.copied(nothing, "full") is None
    assert set(found["winner"]) == {"unknown"}  # one model a start: nothing is known of where they agree


def test_the_best_loss_is_that_of_the_predictor_with_the_window():
    config = field_grids.planted("smoke", "field only")["power", 1.0, "flat"][0]
    assert 1.0 < field_copies._floor(config.data, 128, 4096) < np.log(32)


@pytest.fixture
def foreseen(monkeypatch):
    """What each text's dependence predicts, told at all distances but a few."""

    def predicted(corpus, window, limit):
        text = corpus.rpartition(":")[2]
        told = np.ones(window, bool)
        told[50:] = False
        return np.where(told, law(steepness(text, corpus.removesuffix(text)))[1 : window + 1], np.nan), told, 0.1

    monkeypatch.setattr(field_copies, "predicted", predicted)


def test_a_field_that_follows_the_text_has_slope_one(foreseen):
    found = field_copies.texts("full", text_records("full", lambda t, b: law(steepness(t, b))))
    assert len(found.texts) == 20 and len(found.fields) == 20 * 2 * NEAR
    assert found.across.slope.value == pytest.approx(1.0, abs=0.05)
    assert found.across.contrast.value == pytest.approx(1.0, abs=0.1)
    expected = [steepness(t, b) for t, b in zip(found.texts["text"], found.texts["broken"])]
    assert found.texts["predicted"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert found.texts["learned"].to_numpy() == pytest.approx(expected, abs=0.05)
    assert "as far as can be told" in prose._across(found, "full")
    assert "too small to tell" in prose._across(found, "smoke")


def test_a_field_that_ignores_the_text_does_not_follow_it(foreseen):
    found = field_copies.texts("full", text_records("full", lambda t, b: law(1.0)))
    assert abs(found.across.slope.value) < 0.05 and "does not follow" in prose._across(found, "full")


def test_without_texts_or_predictions_there_is_nothing(monkeypatch):
    assert field_copies.texts("smoke", {}).texts.empty and field_copies.texts("smoke", {}).across is None
    monkeypatch.setattr(field_copies, "predicted", lambda *about: None)
    found = field_copies.texts("smoke", text_records("smoke", lambda t, b: law(1.0)))
    assert found.texts.empty and "Too few" in prose._across(found, "full")


def test_a_texts_prediction_is_computed_from_its_bytes():
    guess, told, bits = field_copies.predicted("generated:power", 32, 60_000)
    assert guess.shape == told.shape == (32,) and told.any() and np.isfinite(bits)
    assert np.isfinite(guess[told]).all()
    assert field_copies.predicted("generated:power", 5_000, 60_000) is None  # too few symbols for such a window


def test_pictures_draw_what_their_tables_hold(known_best, foreseen):
    languages = field_copies.languages("full", planted_records("full", noise=0.05))
    texts = field_copies.texts("full", text_records("full", lambda t, b: law(steepness(t, b))))
    fig, table = draw.planted(languages)
    dots = np.concatenate([c.get_offsets()[:, 1] for c in fig.axes[0].collections])
    assert sorted(dots) == pytest.approx(sorted(table.loc[table["law"] == "power", "exponent"]))
    assert table["slope"].notna().all()
    fig, table = draw.small_multiples(texts)
    assert len(fig.axes) == 20 and len(table) == 20 * 2 * NEAR
    fig, table = draw.text_exponents(texts)
    assert len(table) == 20 and set(table) >= {"predicted", "learned", "learned_low", "learned_high"}
    keys = fig.legends[0].legend_handles  # ways of breaking are colours, corpora are shapes: no key stands for both
    assert sum(hasattr(key, "get_marker") and key.get_markerfacecolor() == "none" for key in keys) == len(draw.MARKERS)
    pyplot.close("all")


def test_exponents_are_those_of_the_lag():
    """Distance r is lag r + 1: a language's lag^-k is a field of (1 + r)^-k."""
    lags = np.arange(2.0, NEAR + 2)
    assert field_copies.exponents(law(1.5)).power == pytest.approx(dose.exponent(-1.5 * np.log(lags), lags).power)
