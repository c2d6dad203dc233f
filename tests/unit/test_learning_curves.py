"""Learning curves: laws against SciPy, what pooling does, the rule on planted worlds, verdicts, sentences, pictures."""

from dataclasses import replace
from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from agf_core import claims
from agf_core.analysis import (
    curve_grids,
    curve_laws,
    field_grids,
    forgetting_figures,
    forgetting_laws,
    forgetting_prose,
    grids,
    learning_curves,
    learning_figures,
    learning_prose,
)
from agf_core.analysis.curve_laws import Curves
from agf_core.analysis.forgetting import Recall
from agf_core.analysis.learning_curves import Page, Results
from agf_core.analysis.operating import characteristics
from agf_core.claims import NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.figures import Estimate
from agf_core.fitting import GammaMixture

TOKENS = np.geomspace(12_500, 800_000, 24)


def table(models, types, kinds=("free", "rotary")):
    model = np.repeat(np.arange(models), types)
    kind = np.array(kinds)[model % len(kinds)]
    return pd.DataFrame({"model": model, "kind": kind, "seed": model // len(kinds), "targets": 500,
                         "symbol": np.tile(np.arange(types) + 97, models)})  # fmt: skip


def planted(law, models=4, types=12, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.8, 1.6, (models * types, 1))
    u = TOKENS / TOKENS[0]
    time = rng.uniform(3, 10, size.shape)
    fall = {"power": u**-0.5, "exponential": np.exp(-(u - 1) / time), "rises": u**0.1}
    loss = 1 + 2 * size * fall[law] + noise * rng.standard_normal((len(size), len(u)))
    return Curves(TOKENS, loss, table(models, types))


# The laws and the rule


def test_errors_are_those_of_scipys_fits():
    curves = planted("power", 1, 3, 0.02)
    scores, k, t = curve_laws.score(curves), curves.fitted, TOKENS / 1e5
    laws = {"power": lambda x, a, b, e: a * x**-b + e, "exponential": lambda x, a, b, e: a * np.exp(-b * x) + e}
    for i in range(3):
        for law, formula in laws.items():
            got, _ = optimize.curve_fit(formula, t[:k], curves.loss[i, :k], [1.0, 1.0, 1.0], maxfev=20_000)
            error = np.sqrt(((formula(t[k:], *got) - curves.loss[i, k:]) ** 2).mean())
            assert scores[f"error_{law}"][i] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(("law", "share"), [("power", 1.0), ("exponential", 0.0)])
def test_planted_laws_are_told(law, share):
    scores = curve_laws.score(planted(law, noise=0.003))
    assert abs(curve_laws.share(scores).value - share) < 0.05 and scores["falls"].all()
    if law == "power":
        assert scores["exponent"].median() == pytest.approx(0.5, abs=0.1)


def test_a_curve_that_does_not_fall_is_nobodys_and_counts():
    scores = curve_laws.score(planted("rises", noise=0.0))
    assert (scores["winner"] == "none").all() and curve_laws.share(scores).value == 0


def test_the_last_third_is_the_last_two_doublings():
    curves = planted("power")
    assert TOKENS[curves.fitted] / TOKENS[-1] == pytest.approx(0.25, abs=0.06)


def test_the_rule_is_right_on_worlds_with_little_noise():
    power = planted("power", noise=0.003)
    mixed = Curves(TOKENS, np.concatenate([power.loss, planted("exponential", noise=0.003).loss]), table(8, 12))
    worlds = curve_laws.worlds(mixed, 16, copies=3)
    each = characteristics("A4", worlds, 40).set_index("world")
    assert each.loc["power", SUPPORTED] > 0.8
    assert each.loc["exponential", SUPPORTED] == 0


def test_runs_are_averaged_byte_by_byte():
    curves = planted("power", 4, 3, 0.1)
    found = curve_laws.over_runs(curves)
    assert len(found) == 6 and set(found["kind"]) == {"free", "rotary"}
    own = curves.about[(curves.about["kind"] == "rotary") & (curves.about["symbol"] == 98)].index
    mean = Curves(TOKENS, curves.loss[own].mean(0, keepdims=True), curves.about.loc[own[:1]])
    row = found[(found["kind"] == "rotary") & (found["symbol"] == 98)].iloc[0]
    assert row["error_power"] == pytest.approx(curve_laws.score(mean)["error_power"].iloc[0])


# Pooling


def test_pooled_exponentials_are_won_by_the_power_law():
    rng = np.random.default_rng(0)
    gamma = GammaMixture(0.6, 1 / 30_000)
    rates = gamma.rates(4_000, rng)
    loss = 1 + 3 * np.exp(-rates[:, None] * TOKENS)
    np.testing.assert_allclose(loss.mean(0), 1 + 3 * gamma.pooled(TOKENS), atol=0.03)  # the identity
    some = Curves(TOKENS, loss[:60], table(2, 30))
    found = curve_laws.pool(some)
    assert found.winner() == found.winner("exponentials") == "power"
    np.testing.assert_allclose(found.curve["exponentials"], loss[:60].mean(0), atol=0.05)  # each is its own exponential
    with pytest.raises(ValueError, match="no curves"):
        curve_laws.pool(some.of(np.zeros(60, bool)))


def test_one_exponential_pools_to_itself():
    loss = np.tile(1 + 2 * np.exp(-TOKENS / 50_000), (6, 1))
    found = curve_laws.pool(Curves(TOKENS, loss, table(1, 6)))
    assert found.winner() == "exponential" and found.error("seen", "exponential") < 1e-4


def test_likeness_is_the_anova_icc():
    x = np.random.default_rng(0).standard_normal((5, 7)) + np.arange(7)
    f = stats.f_oneway(*x.T).statistic  # things are the groups
    found = curve_laws.likeness(pd.DataFrame(x))
    assert found["icc"] == pytest.approx((f - 1) / (f - 1 + 5))
    assert np.isnan(curve_laws.likeness(pd.DataFrame(x[:1]))["icc"])


# Records and grids


def record(seed, status="ok", times=TOKENS):
    losses = [{"32": [100 * (2 + (t / 1e5) ** -0.3), 100], "97": [50 * 2.0, 50], "98": [0.05, 0.1]} for t in times]
    through = [[float(t), seen] for t, seen in zip(times, losses)]
    return {"status": status, "through": through, "config": {"train": {"seed": seed}}}


def test_records_become_curves_of_common_bytes():
    runs = [record(0), record(1, "failed"), record(2, times=TOKENS[:5])]
    found = curve_laws.read({"free": runs, "rotary": [record(0)]})
    assert found.about["model"].tolist() == [0, 0, 1, 1] and found.about["symbol"].tolist() == [32, 97] * 2
    np.testing.assert_allclose(found.loss[0], 2 + (TOKENS / 1e5) ** -0.3)
    assert curve_laws.read({"free": []}).loss.shape[0] == 0


@pytest.mark.parametrize("profile", ["smoke", "cpu", "full"])
def test_runs_are_shared_where_they_can_be(profile):
    own = {c.id for c in curve_grids.GRIDS["learning_curves"](profile)}
    others = {c.id for c in field_grids.power_vs_exp(profile)}
    assert {c.id for c in curve_grids.forgetting(profile)["free, bytes"]} <= others
    assert {c.id for c in grids.flat(curve_grids.learning(profile))} <= own
    for kind, configs in curve_grids.learning(profile).items():
        assert len(configs) == curve_grids.SIZES[profile].seeds and {c.train.schedule for c in configs} == {"constant"}
        assert kind in learning_figures.KINDS
        steps = configs[0].train.steps(128)
        assert configs[0].train.warmup * steps <= max(1, steps / 64)  # over by the first point
    assert {law for law, _ in curve_grids.echoes(profile)} == set(forgetting_figures.LANGUAGES)
    assert set(curve_grids.forgetting(profile)) == set(forgetting_figures.TEXT)


# The page


def recalls(near, models=9, items=6, noise=0.004):
    lags = np.array([8, 10, 13, 17, 22, 29, 38, 50, 66, 102])
    rng = np.random.default_rng(0)
    mean = near * (lags / 8.0) ** -rng.uniform(0.5, 1.5, (models, items, 1))
    se = np.full((models, items, len(lags)), noise)
    drawn = mean + se * rng.standard_normal(se.shape)
    return [Recall(drawn[i], se[i], lags, tuple(map(str, range(items)))) for i in range(models)]


def ideal(part):
    rows = [(w, float(w == "power")) for w in ("power", "exponential", "half")]
    return pd.DataFrame(rows, columns=["world", SUPPORTED]).assign(**{NOT_SUPPORTED: lambda t: 1 - t[SUPPORTED]})


known, human = (lru_cache(f) for f in (learning_curves.known, forgetting_laws.human))


def page(law="power", near=0.6, models=8, profile="full", worlds=None):
    curves = planted(law, models) if law else curve_laws.read({})
    has = {"free, bytes": near is not None}
    text = {kind: recalls(near) if has.get(kind) else [] for kind in forgetting_figures.TEXT}
    languages = [(w, k) for w in forgetting_figures.LANGUAGES for k in forgetting_figures.KINDS]
    copies = {language: recalls(1.0, 1) if near else [] for language in languages}
    here = Results(profile, curves, text, copies, ids=frozenset("a"), failed=() if law else ("rotary: it diverged",))
    at = pd.DataFrame([(s, la, h, t, 0.2 + h + 0.1 * s * (t > 1)) for s in range(3) for la in range(2) for h in range(4)
                       for t in (0, 10, 1000)], columns=["seed", "layer", "head", "tokens", "exponent"])  # fmt: skip
    both = pd.concat([pd.DataFrame({"tokens": TOKENS, "loss": TOKENS**-p, "schedule": s, "seeds": 2, "slope": -p,
                                    "low": -p - 0.02, "high": -p + 0.02})
                      for s, p in (("constant", 0.1), ("cosine", 0.2))])  # fmt: skip
    there = law is not None
    return Page(here, None, "brown", {c: worlds or ideal(c) for c in ("A4", "A5")}, known(),
                recalls(0.0, 1)[0], at if there else at[:0], both if there else both[:0], human())  # fmt: skip


def test_verdicts_follow_the_estimates():
    good = page()
    assert learning_prose.word(good, "A4") == learning_prose.word(good, "A5") == SUPPORTED
    assert learning_prose.word(page("exponential"), "A4") == NOT_SUPPORTED
    for claim in ("A4", "A5"):
        assert claims.report(**learning_curves.evidence(good, claim)).verdict == SUPPORTED
        assert learning_prose.word(page(profile="smoke"), claim) == TOO_SMALL
        assert learning_curves.evidence(page(None, None), claim) is None
    assert learning_prose.word(page(models=2), "A4") == TOO_SMALL
    assert learning_prose.word(page(near=0.0), "A5") == TOO_SMALL  # nothing is recalled
    weak = replace(good, worlds={c: ideal(c).assign(**{SUPPORTED: 0.5}) for c in good.worlds})
    assert learning_prose.word(weak, "A4") == TOO_SMALL and learning_curves.evidence(weak, "A4")["too_small"]


def test_reference_runs_decide_where_they_are():
    here, there = page("exponential", profile="cpu"), page()
    both = replace(here, reference=replace(there.here, ids=frozenset("b")))
    assert both.learning is both.reference and both.retention is both.reference and not both.same
    assert "disagrees" in learning_curves.evidence(both, "A4")["here"]
    assert "reference runs decide" in learning_prose.whose(both)
    alone = replace(both, reference=replace(both.reference, recalls={}))
    assert alone.retention is alone.here and "no reference run is stored" in learning_prose.whose(alone)


SENTENCES = ("whose", "calibration", "cosine", "exponents", "meaning")
OF_RESULTS = ("share", "points", "curves", "likeness")
RETENTION = ("nothing", "in_short", "calibration", "text", "copies", "copies_in_short", "human_in_short", "human",
             "meaning")  # fmt: skip


@pytest.mark.parametrize(("law", "near", "models", "profile"), [
    ("power", 0.6, 8, "full"), ("exponential", 0.0, 1, "smoke"), (None, None, 1, "cpu"), ("rises", 0.6, 2, "cpu"),
])  # fmt: skip
def test_pages_are_written_and_drawn(law, near, models, profile):
    one = page(law, near, models, profile)
    short = learning_prose.in_short(one).format(**learning_prose.numbers(one))
    assert all(learning_prose.word(one, c) in short for c in ("A4", "A5"))
    said = [getattr(learning_prose, n)(one) for n in SENTENCES] + [getattr(forgetting_prose, n)(one) for n in RETENTION]
    said += [getattr(learning_prose, n)(one.learning) for n in OF_RESULTS]
    said += [learning_prose.no_evidence(one, c) for c in ("A4", "A5")]
    assert all(len(text) > 20 and " nan" not in text for text in said)
    assert bool(learning_prose.pooling(one.learning)) == bool(law)
    if law == "rises":
        return  # drawn like the others
    drawn = [forgetting_figures.known(one), forgetting_figures.in_copies(one), forgetting_figures.human(one),
             learning_figures.operating(one)]  # fmt: skip
    if law:
        drawn += [getattr(learning_figures, n)(one.learning) for n in ("examples", "errors", "pooled")]
        drawn += [learning_figures.schedules(one), learning_figures.forming(one)]
    if near is not None:
        drawn.append(forgetting_figures.in_text(one))
    for fig, rows in drawn:
        fig.draw_without_rendering()
        assert len(rows)
        plt.close(fig)


def test_pooling_is_said_as_it_is():
    one = replace(page("exponential").here, curves=planted("exponential", types=1, models=1, noise=0.0))
    assert "did not flatter" in learning_prose.pooling(one)
    rates = GammaMixture(0.6, 1 / 30_000).rates(60, np.random.default_rng(0))
    mixed = Curves(TOKENS, 1 + 3 * np.exp(-rates[:, None] * TOKENS), table(2, 30))
    assert "says nothing of its parts" in learning_prose.pooling(replace(one, curves=mixed))


def test_examples_go_from_common_to_rare():
    curves = planted("power", 2, 12)
    rare = curves.about.assign(targets=np.tile([3, 90, 7, 60, 5, 80, 20, 40, 10, 70, 30, 50], 2))
    fig, drawn = learning_figures.examples(replace(page().here, curves=replace(curves, about=rare)))
    first = drawn.groupby("symbol", sort=False)["loss"].first()
    targets = rare[rare["model"] == 0].set_index(rare["symbol"][:12].map(chr))["targets"]
    assert targets[first.index].tolist() == sorted(targets[first.index], reverse=True) and len(first) == 6
    for symbol, loss in first.items():  # each with its own curve
        assert loss == curves.loss[ord(symbol) - 97, 0]
    assert fig.axes[0].get_title() == "b (90 targets)"
    plt.close(fig)


def test_schedules_are_compared_over_seeds():
    early = TOKENS / TOKENS[-1] < 0.2
    assert learning_curves.late_slope(TOKENS, np.where(early, 9.0, TOKENS**-0.3)) == pytest.approx(-0.3)
    one = page()
    text = learning_prose.cosine(one)
    assert "cannot separate them" in text and "-0.100 [-0.120, -0.080]" in text
    near = replace(one, schedules=one.schedules.assign(low=-0.3, high=0.0))
    assert "is not shown" in learning_prose.cosine(near)


def test_heads_that_still_rise_are_counted():
    one = page()
    for by, count in ((0.01, 8), (-0.01, 0)):
        at = one.forming.assign(exponent=lambda t, by=by: t["exponent"] + by * t["tokens"])
        assert f"{count} of 8 heads still rise" in learning_prose.exponents(replace(one, forming=at))


def test_what_a_share_says_follows_the_verdict(monkeypatch):
    one = page()
    single = lambda value, low, high: learning_prose._single(one, Estimate(value, low, high))  # noqa: E731
    assert "not yet a law" in single(0.9, 0.8, 1.0)
    monkeypatch.setattr(learning_prose, "word", lambda *_: NOT_SUPPORTED)
    assert "has no law to report" in single(0.4, 0.3, 0.45) and "holds that" not in single(0.4, 0.3, 0.45)
    monkeypatch.undo()
    one = replace(one, worlds={c: ideal(c).assign(**{SUPPORTED: 0.5}) for c in one.worlds})
    text = single(0.63, 0.57, 0.68)
    assert "57% to 68%, holds that, and the rule may not decide here" in text and "no law" not in text


def test_a_rule_that_can_decide_needs_something_to_decide_on():
    one = page()
    assert learning_prose.calibration(one).count("So it can decide.") == 2
    upside = [replace(r, mean=-r.mean) for r in recalls(0.6)]
    both = {**one.here.recalls, "rotary, bytes": upside}
    text = learning_prose.calibration(replace(one, here=replace(one.here, recalls=both)))
    assert text.count("So it can decide.") == 1 and "where words are recalled; here that is not shown" in text


def test_results_stand_in_the_second_column():
    one = page()
    tables = {"power law ahead": learning_prose.curves(one.here), "error ratio [95 %]": forgetting_prose.text(one),
              "error ratio": forgetting_prose.copies(one)}  # fmt: skip
    for column, text in tables.items():
        assert text.split("\n")[0].split("|")[2].strip().startswith(column)


def test_bytes_have_names():
    assert [learning_figures.name(s) for s in (32, 10, 97, 200)] == ["space", "line break", "a", "byte 200"]


def test_what_a_small_run_gives():
    """The operating characteristics need no model: whatever noise there is goes in."""
    one = page(models=2)
    found = learning_curves.operating(one, 20)
    assert set(found) == {"A4", "A5"} and all(SUPPORTED in t for t in found.values())
    assert learning_curves.powerless(None) == ""
    assert set(learning_curves.operating(page(None, None), 20)) == {"A5"}
