"""Forgetting: known answers of the instrument, long items against a calculation of another kind, the rule, the data."""

import numpy as np
import pytest
import torch

from agf_core.analysis import forgetting, forgetting_laws
from agf_core.analysis.curve_grids import LANGUAGES
from agf_core.analysis.forgetting import Recall, Reminder
from agf_core.analysis.operating import characteristics
from agf_core.claims import NOT_SUPPORTED, SUPPORTED
from agf_core.fitting import fsrs_retention, shifted_power_to_fsrs
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources import echo
from agf_core.sources.datasets import DataConfig
from agf_core.sources.tables import read_table
from agf_core.training import TrainConfig, build_model

LAGS = np.array([2, 3, 4, 6, 8, 12, 17, 24, 35, 50, 72, 102])
EIGHT = tuple("abcdefgh")


def measured(predictor, symbols, lags=LAGS):
    fillers = torch.from_numpy(np.random.default_rng(0).integers(0, symbols - 8, (5, 127)))
    return forgetting.recall(predictor, fillers, torch.arange(symbols - 8, symbols)[:, None], lags, EIGHT)


# The instrument


@pytest.mark.parametrize("law", LANGUAGES)
def test_the_best_predictor_of_copies_has_the_recall_that_follows_from_its_law(law):
    about = echo.parse(law)
    p = (1 - about.chance) / 32 + about.chance * np.append(about.weights, 0)[np.minimum(LAGS - 1, about.max_gap)]
    floor = (1 - about.chance) / 32
    expected = np.log(p / (1 - p)) - np.log(floor / (1 - floor))
    found = measured(Reminder.best(law), 32)
    np.testing.assert_allclose(found.mean, np.tile(expected, (8, 1)), atol=1e-12)
    assert (found.se < 1e-12).all()


def test_a_planted_curve_is_found():
    curve = 0.9 * np.arange(1.0, 128) ** -0.8
    predictor = Reminder.of_recall(curve, 512)
    np.testing.assert_allclose(measured(predictor, 512).mean, np.tile(curve[LAGS - 1], (8, 1)), atol=1e-9)
    np.testing.assert_allclose(predictor.recall(np.array([1, 5, 500])), [*curve[[0, 4]], 0], atol=1e-9)


def test_gains_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="sum to less than 1"):
        Reminder(np.array([0.6, 0.5]), 10)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Transformer(ModelConfig(vocab_size=64, dim=16, layers=2, heads=2, context=40, encoding="agf")).eval()


def test_long_items_are_scored_as_by_whole_sequences(model):
    rng = np.random.default_rng(1)
    fillers = torch.from_numpy(rng.integers(0, 64, (3, 35)))
    items, lags = torch.from_numpy(rng.integers(0, 64, (3, 4))), np.array([8, 11, 30])
    found = forgetting.recall(model, fillers, items, lags, tuple("abc"), margin=1)
    expected = np.empty((3, 3, 3))
    for i in range(3):
        for j, lag in enumerate(lags):
            odds = []
            for placed in (i, (i + 1) % 3, (i + 2) % 3):
                text = fillers.clone()
                text[:, 35 - lag - 1 : 35 - lag + 5] = torch.tensor([32, *items[placed].tolist(), 32])
                whole = torch.cat([text, items[i].expand(3, -1)], 1)
                with torch.no_grad():
                    logp = model(whole).double().log_softmax(-1)
                p = sum(logp[:, 34 + m, items[i, m]] for m in range(4)).exp()
                odds.append((p / (1 - p)).log().numpy())
            expected[i, j] = odds[0] - (odds[1] + odds[2]) / 2
    np.testing.assert_allclose(found.mean, expected.mean(2), atol=1e-6)
    np.testing.assert_allclose(found.se, expected.std(2, ddof=1) / np.sqrt(3), atol=1e-6)


def test_all_but_the_item_stays_the_same():
    seen = []

    def spy(tokens, *, cache=None):
        seen.append(tokens.clone())
        return torch.zeros(len(tokens), 1, 50)

    fillers = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (2, 20)))
    forgetting.recall(spy, fillers, torch.tensor([[41], [42]]), np.array([2, 9]), ("a", "b"))
    both = fillers.repeat(2, 1)  # with one item, then with the other
    for text, lag in zip(seen, (2, 9), strict=True):
        assert ((text != both).nonzero()[:, 1] == 20 - lag).all()
        assert text[:, 20 - lag].tolist() == [41, 41, 42, 42]


@pytest.mark.parametrize("lags", [[1, 5], [5, 21]])
def test_lags_that_do_not_fit_are_refused(lags):
    with pytest.raises(ValueError, match=r"lags in 2\.\.20"):
        forgetting.recall(Reminder.best(LANGUAGES[1]), torch.zeros(2, 20, dtype=torch.long), torch.tensor([[1], [2]]),
                          np.array(lags), ("a", "b"))  # fmt: skip


@pytest.mark.parametrize(("data", "split"), [
    (DataConfig("echo", LANGUAGES[1]), "test"), (DataConfig("bytes", "generated:power"), "test"),
    (DataConfig("words", "generated:power", vocabulary=400), "valid"),
])  # fmt: skip
def test_a_model_that_learned_nothing_recalls_nothing(data, split):
    config = RunConfig({"dim": 16, "layers": 1, "heads": 2, "context": 64, "encoding": "rotary"}, data,
                       TrainConfig(seed=3), split=split, heldout=4096)  # fmt: skip
    fresh = build_model(config.model_config(forgetting.load_data(data)), 3).eval()
    found = Recall.from_dict(forgetting.measure(fresh, config))
    assert found.mean.shape == (len(found.items), len(found.lags)) and np.isfinite(found.mean).all()
    assert np.abs(found.mean.mean(0)).max() < 0.05
    assert found.lags[-1] <= 51
    assert len(set(found.items)) == len(found.items) >= 2
    again = Recall.from_dict(forgetting.measure(fresh, config))
    np.testing.assert_array_equal(again.mean, found.mean)


def test_items_of_a_byte_model_are_words_of_one_length_before_a_space():
    data = forgetting.load_data(DataConfig("bytes", "generated:power"))
    fillers, items, names = forgetting.words(data, "test", 128, forgetting.Design(6, 9, 8), np.random.default_rng(0))
    assert items.shape == (6, forgetting.LENGTH) and all(len(n) == forgetting.LENGTH for n in names)
    assert (fillers[:, -1] == forgetting.SPACE).all() and fillers.shape == (8, 123)


# The rule


def curves(law, noise, seed=0, items=24, near=0.6):
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0.5, 1.5, (items, 1))
    mean = near * ((LAGS / 2.0) ** -rate if law == "power" else np.exp(-rate * (LAGS - 2) / 10))
    if law == "none":
        mean = 0 * mean
    se = np.full((items, len(LAGS)), noise)
    return Recall(mean + noise * rng.standard_normal(se.shape), se, LAGS, tuple(map(str, range(items))))


def test_the_law_is_told_item_by_item():
    power, exponential = (forgetting_laws.score(curves(law, 0.003)) for law in ("power", "exponential"))
    assert power["remembered"].all() and exponential["remembered"].all()
    assert (power["ratio"] < 0.9).mean() > 0.9 and (exponential["ratio"] > 1).mean() > 0.9
    e = forgetting_laws.ratio([power, forgetting_laws.score(curves("power", 0.003, 1))])
    assert e.low < e.value < 0.9
    logs = [np.log(s["ratio"]).mean() for s in (power, forgetting_laws.score(curves("power", 0.003, 1)))]
    assert e.value == pytest.approx(np.exp(np.mean(logs)))


def test_noise_is_not_remembered():
    found = [forgetting_laws.remembered(curves("none", 0.1, s, items=500)) for s in range(4)]
    assert np.mean(found) < 1e-3
    table = forgetting_laws.score(curves("none", 0.1))
    assert not table["remembered"].any() and table["ratio"].isna().all()
    assert forgetting_laws.ratio([table]) is None and forgetting_laws.ratio([]) is None


def test_as_many_upside_down_are_chance():
    near = np.array([[0.3], [0.2], [-0.3], [0.01]]) * LAGS[0] / LAGS
    both = Recall(near, np.full(near.shape, 1e-3), LAGS, tuple("abcd"))
    assert forgetting_laws.remembered(both).tolist() == [True, True, False, False]
    assert forgetting_laws.mirrored(both).tolist() == [False, False, True, False]
    why = forgetting_laws.by_chance({"free, bytes": [both], "rotary, bytes": []})
    assert why.startswith("2 curves pass") and "1 pass it upside down" in why
    held = Recall(np.repeat(near[:1], 8, axis=0), np.full((8, len(LAGS)), 1e-3), LAGS, EIGHT)
    assert forgetting_laws.by_chance({"free, bytes": [held]}) == "" == forgetting_laws.by_chance({"free, bytes": []})
    assert forgetting_laws.by_chance({"free, bytes": [held, both, both]}) == ""  # twelve against two


def test_the_rule_decides_where_noise_is_small_and_not_where_it_is_large():
    sure = characteristics("A5", forgetting_laws.worlds(np.full(12, 0.01), LAGS, 16, copies=20), 60).set_index("world")
    assert sure.loc["power", SUPPORTED] > 0.9
    assert sure.loc["exponential", NOT_SUPPORTED] > 0.9 and sure.loc["half of the models", SUPPORTED] == 0
    lost = characteristics("A5", forgetting_laws.worlds(np.full(12, 1.0), LAGS, 16, copies=20), 60).set_index("world")
    assert lost.loc["power", SUPPORTED] < 0.1


def test_summaries_and_half_lives():
    table = forgetting_laws.summary({"free, bytes": [curves("power", 0.003, s) for s in range(3)], "rotary, bytes": []})
    row = table.iloc[0]
    assert len(table) == 1 and row["models"] == 3 and row["remembered"] == 72 and row["nearest_low"] < 0.6
    flat = Recall(np.ones((2, 12)), np.ones((2, 12)), LAGS, ("a", "b"))
    assert forgetting_laws.stability(flat) == (np.inf, 1.0)
    falling = Recall((LAGS / 2.0)[None] ** -1.0, np.ones((1, 12)), LAGS, ("a",))
    assert forgetting_laws.stability(falling)[0] == pytest.approx(4, rel=0.05)
    assert np.isnan(forgetting_laws.stability(Recall(-np.ones((1, 12)), np.ones((1, 12)), LAGS, ("a",)))[0])


def test_what_is_stored_comes_back():
    found = curves("power", 0.01)
    again = Recall.from_dict(found.to_dict())
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-4)
    assert again.items == found.items


# People


def test_human_savings_are_fitted_as_published():
    human, expected = forgetting_laws.human(), read_table("savings_fits").set_index("series")
    fits = human.fits.set_index(["series", "law"])
    for series, row in expected.iterrows():
        assert fits.loc[(series, "power"), "value"] == pytest.approx(row["exponent"], abs=1e-3)
        for law in forgetting_laws.LAWS:
            assert fits.loc[(series, law), "r2"] == pytest.approx(row[f"r2_{law}"], abs=0.006)
    winner = human.fits.drop_duplicates("series").set_index("series")["winner"]
    assert winner.to_dict() == {"Ebbinghaus": "power", "Mack": "power", "Seitz": "power", "Dros": "exponential"}


def test_stability_is_where_nine_tenths_are_left():
    stable = forgetting_laws.human().stability.dropna()
    for row in stable.itertuples():
        s, decay = shifted_power_to_fsrs(row.exponent, row.scale)
        assert row.stability == s and fsrs_retention(s, s, decay) == pytest.approx(0.9)
