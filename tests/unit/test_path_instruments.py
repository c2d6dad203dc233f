"""The instruments of the chapter `paths` on known answers, and against libraries that we did not write."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from agf_core.analysis import (
    concepts,
    in_context,
    known_sources,
    next_vector,
    path_grids,
    proximity,
    streams,
    walks,
    word_space,
)
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources import read_table
from agf_core.sources.datasets import DataConfig, load_data
from agf_core.sources.finite_tasks import Tasks
from agf_core.sources.hidden import Hidden, brackets, hmm
from agf_core.training import TrainConfig, build_model

CORPUS = "generated:power:tokens=24000:documents=60"


def tiny(vocab=50, tied=True, layers=2):
    torch.manual_seed(0)
    return Transformer(ModelConfig(vocab, 16, layers, 2, context=32, tied=tied)).eval()


# --- streams


@pytest.mark.parametrize("tied", [True, False])
def test_context_vectors_times_token_vectors_are_the_logits(tied):
    model, tokens = tiny(tied=tied), torch.randint(50, (3, 20))
    found = streams.streams(model, tokens)
    assert len(found) == 4 and all(s.shape == (3, 20, 16) for s in found)
    with torch.no_grad():
        assert torch.allclose(found[-1] @ streams.token_vectors(model).T, model(tokens), atol=1e-5)
    seen = {}
    model(tokens, tap=lambda layer, name, t: seen.__setitem__((layer, name), t))
    for layer, one in enumerate(found[:-1], -1):
        assert torch.allclose(one, seen[layer, "embed" if layer < 0 else "residual"], atol=1e-5)


def test_a_split_in_a_row():
    data = load_data(DataConfig("words", CORPUS))
    text = streams.stream(data)
    assert len(text) == data.size("train") - 1 and (text[:64] == data.heldout("train", 64, 64)[0][0]).all()


# --- M2


def test_the_source_itself_lacks_nothing_and_the_unigram_everything():
    for source in (hmm(6, states=5, concentration=0.1, seed=1), brackets(4, depth=3)):
        tokens = source.draw(np.random.default_rng(0), 50, 33)
        truth = source.predict(tokens)[:, :-1]
        found = known_sources.compare(source, tokens, truth)
        assert found["kl"] == 0 and found["removed"] == 1 and set(found["slope"]) == {"4", "8", "16", "32"}
        assert all(s == pytest.approx(1) for s in found["slope"].values())
        assert all(a == b for a, b in found["paths"]) and (found["never"] in (0, None))
        unigram = known_sources.compare(source, tokens, np.broadcast_to(source.unigram, truth.shape))
        assert unigram["removed"] == pytest.approx(0, abs=1e-9) and unigram["kl"] == unigram["unigram"]
        assert 0 < found["bigram"] < unigram["unigram"]
    assert unigram["never"] > 0.3  # brackets that cannot close


def test_a_markov_source_is_read_by_its_last_symbol():
    moves = np.random.default_rng(0).dirichlet(np.ones(4), 4)
    chain = Hidden(np.eye(4)[:, :, None] * moves[:, None, :])  # the state is the symbol it emits
    tokens = chain.draw(np.random.default_rng(1), 400, 17)
    truth = chain.predict(tokens)[:, :-1]
    assert np.allclose(truth, moves[tokens[:, :-1]])
    assert known_sources.compare(chain, tokens, truth)["bigram"] == pytest.approx(0, abs=1e-12)


def test_kl_and_slope_are_scipys():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), (2, 3)), rng.dirichlet(np.ones(5), (2, 3))
    assert np.allclose(known_sources.kl(p, q), stats.entropy(p, q, axis=-1))
    assert known_sources.kl(np.array([1.0, 0]), np.array([0.0, 1])) == np.inf
    x, y = rng.standard_normal((2, 30))
    assert known_sources.slope(x, y) == pytest.approx(stats.linregress(x, y).slope)


def test_each_part_of_m2_is_decided_by_the_worse_kind():
    rows = [("hmm", s, 0.98, 0.99 + 0.001 * s) for s in range(8)] + [
        ("brackets", s, 0.93, 1.05 + 0.001 * s) for s in range(8)
    ]
    table = pd.DataFrame(rows, columns=["kind", "seed", "removed", "slope"])
    found = known_sources.estimates(table)
    assert found["KL removed"].value == pytest.approx(0.93) and found["slope"].value == pytest.approx(1.0535)
    assert known_sources.estimates(table[table["kind"] == "hmm"]) is None
    assert known_sources.estimates(table[table["seed"] == 0])["slope"].value == pytest.approx(1.05)  # no intervals


# --- M3


def test_readers_of_finite_tasks_score_what_they_should():
    tasks, rng = Tasks("urn", 4, seed=1), np.random.default_rng(0)
    tokens, laws = tasks.sample(rng, 100, 24, 8, unseen=True)
    readers = {"mixture": tasks.mixture(tokens, 8), "prior": tasks.prior(tokens, 8)}
    for name, p in readers.items():
        found = in_context.compare(tasks, tokens, laws, p)
        assert found["model"] == found[name] and len(found["model"]) == 24
    assert np.mean(found["prior"]) < found["tempered"] <= np.mean(found["mixture"])
    assert found["even"] == pytest.approx(np.log(8) - stats.entropy(laws[:, 0], axis=1).mean(), rel=1e-4)
    endless = in_context.compare(Tasks("urn", 0), tokens, laws, readers["prior"])
    assert endless["mixture"] == endless["prior"] and endless["tempered"] is None


def test_no_seed_chooses_its_own_diversity():
    beats = pd.DataFrame(np.eye(3) * 9.0 + [[1.0, 2, 0]], index=[5, 6, 7])
    # Each seed's own best is its 9; the others' mean has its largest elsewhere.
    assert in_context.at_most(beats).tolist() == [2.0, 1.0, 2.0]
    assert in_context.at_most(beats[:1]).empty and in_context.at_most(pd.DataFrame()).empty
    clear = beats.assign(**{"1": beats[1] + 100}).drop(columns=1)
    assert (in_context.at_most(clear) == clear["1"]).all()
    rng = np.random.default_rng(0)  # no diversity beats the mixture: the maximum would say so, the choice does not
    drawn = [rng.standard_normal((8, 5)) for _ in range(300)]
    assert abs(np.mean([in_context.at_most(pd.DataFrame(d)).mean() for d in drawn])) < 0.1
    assert np.mean([d.mean(0).max() for d in drawn]) > 0.3


def tasks_table(model, tasks=(2, 32), seeds=3, even=0.36, mixture=0.3):
    return pd.DataFrame([
        {"tasks": t, "seed": s, "model": model, "mixture": mixture, "prior": 0.1, "tempered": 0.28, "even": even,
         "beats": 100 * (1 - model / mixture), "late": 0.0, "blurred": 5.0, "seen_model": 0.1, "seen_mixture": 0.09,
         "seen_prior": 0.1} for t in tasks for s in range(seeds)
    ])  # fmt: skip


def test_beating_the_mixture_shows_nothing_where_the_ignorant_beat_it_too():
    assert in_context.shows_nothing(tasks_table(0.2)) == ""  # better than any who learn nothing
    assert "readers who learn nothing" in in_context.shows_nothing(tasks_table(0.29, mixture=0.35))
    assert in_context.shows_nothing(tasks_table(0.4)) == ""  # the mixture is not beaten
    assert in_context.shows_nothing(tasks_table(0.4)[:0]) == ""
    assert in_context.peak(tasks_table(0.2)[:0]) is None


# --- M1


def test_planted_memory_is_found_and_none_where_there_is_none():
    held = {m: next_vector.planted(m, 150, 1) for m in (0.0, 0.3)}
    for memory, new in held.items():
        found = next_vector.gain(next_vector.planted(memory, 300, 0), new, 120, 0)
        assert found["added"] == pytest.approx(100 * memory, abs=5)
        assert found["room"] == pytest.approx(100 - found["now"]) and found["history"] <= 100


def test_a_crooked_walk_without_memory_has_none():
    found = next_vector.gain(next_vector.crooked(300, 0), next_vector.crooked(150, 1), 80, 0, token=16)
    assert found["added"] < 2 and found["token"] < found["now"]


def test_history_holds_the_past_and_not_the_future():
    context = torch.arange(24.0)[None, :, None].expand(2, 24, 3)
    now, told, after = next_vector.examples(context, context + 100, [context])
    places = torch.arange(next_vector.FIRST, 23).repeat(2)
    assert (now[:, 0] == places + 101).all() and (now[:, 3] == places).all() and (after[:, 0] == places + 1).all()
    for r in range(next_vector.RECENT):
        assert (told[:, 3 * r] == places - r).all()
    assert torch.allclose(told[:, 3 * next_vector.RECENT], places / 2)
    weight = [1 / (1 + r) for r in range(int(places[0]) + 1)]
    wanted = sum(w * (places[0] - r) for r, w in enumerate(weight)) / sum(weight)
    assert told[0, -1] == pytest.approx(float(wanted), rel=1e-5)


def test_a_fit_starts_at_the_mean():
    x, y = torch.randn(200, 4), torch.randn(200, 3) + 7
    seen, new = next_vector.fitted(x, y, torch.randn(5, 4), 0, 0)
    assert torch.allclose(seen, y.mean(0).expand_as(y)) and new.shape == (5, 3)


# --- M4


def test_partial_correlation_is_that_of_residual_ranks():
    rng = np.random.default_rng(0)
    z = rng.standard_normal(60)
    x, y = z + rng.standard_normal(60), z + rng.standard_normal(60)
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    rest = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
    assert proximity.partial(x, y, z) == pytest.approx(stats.pearsonr(*rest).statistic)
    assert proximity.partial(x, np.ones(60), z) == 0 and proximity.partial(x, z, z) == 0


def test_continuations_of_a_context_are_counted():
    rng = np.random.default_rng(0)
    text = rng.integers(0, 30, 60_000)
    tokens = rng.integers(0, 30, (40, 32))
    words = np.arange(28)  # 28 and 29 stand for rare ones
    for length in (1, 2):
        found = proximity.followed(text, tokens, length, words)
        assert len(found) == (28 if length == 1 else len(found)) and found
        for where, follows in found[:: max(1, len(found) // 5)]:
            i = where[0]
            context = tokens.ravel()[i - length + 1 : i + 1]
            pairs = np.lib.stride_tricks.sliding_window_view(text, length + 1)
            there = (pairs[:, :length] == context).all(1)
            wanted = np.bincount(pairs[there, -1], minlength=30)
            wanted[28:] = 0
            assert (follows == wanted).all() and (context < 28).all()
            assert all((tokens.ravel()[j - length + 1 : j + 1] == context).all() for j in where)
            assert all(j % 32 >= length - 1 for j in where)  # no context reaches over the edge of a window


def test_a_language_whose_vectors_are_log_p_is_found_and_shuffling_destroys_it():
    size, rng = 60, np.random.default_rng(0)
    p = rng.dirichlet(np.full(size, 0.3), size)
    text = [0]
    for u in rng.random(80_000):
        text.append(min(size - 1, int(np.searchsorted(np.cumsum(p[text[-1]]), u))))
    text = np.array(text)

    class Language:
        vocab_size, symbols = 60, [f"w{i}" for i in range(60)]

        def size(self, split):
            return len(text)

        def heldout(self, split, length, tokens):
            return text[:tokens, None], None

    windows = text[: 64 * 40].reshape(40, 64)
    context = torch.from_numpy(np.log(p + 1e-4)[windows]).float()
    vectors = torch.eye(size), torch.randn(size, size), torch.randn(size, size)
    found = proximity.measure(Language(), windows, (context, torch.randn_like(context)), vectors, 0)["1"]
    assert found["trained"] > 0.8 and found["product"] > 0.8 and found["resampled"] > 0.8
    assert max(abs(found[k]) for k in ("untrained", "shuffled", "input")) < 0.25 and found["count"] > 20
    assert np.array(found["example"]).shape[1] == 3


# --- M7


def test_the_probe_is_the_softmax_regression_that_torch_finds():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 3)), rng.integers(0, 3, 80)
    w = concepts.logistic(x, y, ridge=0.1)
    found = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    xt, weight = torch.from_numpy(np.c_[x, np.ones(80)]), torch.from_numpy(1 / np.bincount(y))
    solver = torch.optim.LBFGS([found], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(xt @ found, torch.from_numpy(y), weight=weight, reduction="sum") / 3
        value = value + 0.05 * found[:-1].square().sum()
        value.backward()
        return value

    solver.step(loss)
    wanted = torch.softmax(xt @ found, 1).detach().numpy()
    assert np.allclose(special.softmax(np.c_[x, np.ones(80)] @ w, axis=1), wanted, atol=1e-3)


def test_probes_find_planted_directions_on_words_they_never_saw_and_no_others():
    rng = np.random.default_rng(0)
    kinds, words = np.arange(200) % 4, np.repeat(np.arange(200), 4)
    noise = rng.standard_normal((len(words), 12))
    own = rng.standard_normal((200, 12))[words]  # every word has a vector of its own: memorising would do
    planted = noise + 4 * np.eye(12)[kinds[words]]
    found = concepts.probe(planted, words, kinds, 0)
    assert found["accuracy"] > 0.95 and abs(found["control"] - 0.25) < 0.1
    memorised = concepts.probe(own + 0.01 * noise, words, kinds, 0)
    assert abs(memorised["accuracy"] - 0.25) < 0.1 and abs(memorised["control"] - 0.25) < 0.1


def test_occurrences_are_few_of_each_word_and_late_in_their_window():
    kinds = np.r_[np.zeros(25, int), np.ones(25, int), np.full(5, 2), -1]
    tokens = np.random.default_rng(0).integers(0, 56, (60, 40))
    where, words = concepts.occurrences(tokens, kinds, 0)
    assert (tokens.ravel()[where] == words).all() and (where % 40 >= 20).all()
    assert np.bincount(words).max() == concepts.TIMES and set(kinds[words]) == {0, 1}  # class 2 has too few words
    assert not len(concepts.occurrences(tokens, np.full(56, -1), 0)[0])


def test_candidates_are_different_windows_and_the_first_is_right():
    asks, offered = concepts.candidates(100, 40, 0)
    assert (offered[:, 0] == asks).all() and (offered[:, 1] == asks + 1).all() and offered.max() < 100
    assert all(len({*row}) >= 3 for row in offered) and (np.abs(offered[:, 2:] - asks[:, None]) >= 25).all()
    score = np.array([[3.0, 1, 2, 0], [1, 1, 0, 0], [0, 5, 1, 1]])
    assert concepts._first(score).tolist() == [True, False, False]  # a tie is lost


def test_log_p_is_what_the_model_says():
    model, tokens = tiny(), torch.randint(50, (5, 12))
    found = concepts.log_p(model, tokens, rows=2)
    with torch.no_grad():
        wanted = -torch.nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(),
                                                    reduction="none")  # fmt: skip
    assert np.allclose(found.ravel(), wanted, atol=1e-5)


def test_nouns_are_classed_by_what_they_name():
    table = read_table("noun_fields")
    assert table["word"].is_unique and (table["names"].value_counts() >= concepts.LEAST).all()
    assert (table["word"] == table["word"].str.lower()).all()
    body = {"dim": 16, "layers": 1, "heads": 2, "context": 64}
    config = RunConfig(body, DataConfig("words", CORPUS), TrainConfig(64, 4))
    data = load_data(config.data)
    kinds = concepts.properties(config, data)[concepts.NAMED]
    names = sorted(set(table["names"]))
    there = {data.symbols[i]: names[kinds[i]] for i in np.flatnonzero(kinds >= 0)}
    assert there and there == {w: n for w, n in zip(table["word"], table["names"]) if w in data.symbols}


def test_retrieval_intervals_are_jackknifed_both_ways():
    rng = np.random.default_rng(0)
    items = np.full((8, 20), 10.0)
    counts = {
        k: rng.binomial(10, p, (8, 20)).astype(float)
        for k, p in (("pooled", 0.4), ("dot", 0.3), ("tfidf", 0.5), ("model", 0.6))
    }
    found = word_space.retrieval({**counts, "items": items})
    rate = counts["pooled"].mean() / 10
    by_model, by_group = counts["pooled"].mean(1) / 10, counts["pooled"].mean(0) / 10
    error = np.sqrt(by_model.var(ddof=1) / 8 + by_group.var(ddof=1) / 20)
    assert found["pooled"].value == pytest.approx(rate)
    assert found["pooled"].high - rate == pytest.approx(stats.t.ppf(0.975, 7) * error)
    assert found["lead on TF-IDF"].value == pytest.approx(rate - counts["tfidf"].mean() / 10)
    assert found["retrieval closes"].value == pytest.approx((rate - 0.25) / (counts["model"].mean() / 10 - 0.25))
    assert np.isnan(word_space.retrieval({k: v[:1] for k, v in {**counts, "items": items}.items()})["pooled"].low)
    nothing = word_space.rates({**counts, "model": 0 * items, "items": items})
    assert np.isnan(nothing["retrieval closes"])


# --- whole measurements, on models that were never trained: whatever should fail, fails


@pytest.fixture(scope="module")
def untrained():
    """An untrained model of words, tied and untied, measured as a trained one would be."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concepts, "ITEMS", {"smoke": 60})
        patch.setattr(path_grids, "profile_of", lambda _: "smoke")
        for tied in (True, False):
            model = {"dim": 16, "layers": 1, "heads": 2, "context": 64, "tied": tied}
            config = RunConfig(model, DataConfig("words", CORPUS), TrainConfig(64, 4, seed=1))
            one = build_model(config.model_config(load_data(config.data)), 1).eval()
            found[tied] = word_space.measure(one, config), walks.measure(one, config) if tied else {}
    return found


def test_untrained_models_fail_every_claim_that_should_fail(untrained):
    for tied in (True, False):
        near = untrained[tied][0]["near"]["1"]
        assert near["count"] > 5 and abs(near["trained"]) < 0.15
        assert near["untrained"] == near["trained"]  # its own control
    probes = untrained[True][0]["concepts"]["probes"]["word class"]
    assert probes["trained"] == probes["untrained"]
    assert "concepts" not in untrained[False][0]
    source = hmm(8, states=16, concentration=0.05, seed=0)
    tokens = source.draw(np.random.default_rng(0), 60, 33)
    reader = known_sources.predictions(tiny(8), tokens[:, :-1])
    assert known_sources.compare(source, tokens, reader)["removed"] < 0.3
    tasks = Tasks("urn", 32, seed=0)
    tokens, laws = tasks.sample(np.random.default_rng(0), 60, 32, 8, unseen=True)
    found = in_context.compare(tasks, tokens, laws, known_sources.predictions(tiny(8), tokens))
    assert np.mean(found["model"]) > np.mean(found["mixture"])


def test_walks_are_json_ready_and_start_together(untrained):
    walk = untrained[True][1]["walk"]
    steps, layers = np.array(walk["steps"]), np.array(walk["layers"])
    assert steps.shape == (walks.WALKS, walks.PROMPT + walks.WALKED, 2) and layers.shape == (
        walks.DRAWN,
        3,
        walks.PROMPT,
        2,
    )
    assert np.allclose(steps[:, : walk["read"]], steps[0, : walk["read"]], atol=1e-3)
    assert walk["spread"][0] == pytest.approx(0, abs=1e-3) and len(walk["spread"]) == walks.WALKED + 1
    assert len(walk["explained"]) == 4 and 0 < sum(walk["explained"][:2]) <= 1


def test_principal_directions_are_those_of_the_singular_values():
    x = torch.randn(200, 5) * torch.tensor([5.0, 3, 1, 1, 1]) + 2
    plane, share = walks.principal(x)
    values, right = torch.linalg.svd(x - x.mean(0))[1:]
    assert torch.allclose((plane * right[:2].T).sum(0).abs(), torch.ones(2), atol=1e-4)
    assert torch.allclose(share, values[:2] ** 2 / (values**2).sum(), atol=1e-4)


def test_grids_share_and_seeds_are_sources_of_their_own():
    full = path_grids.paths("full")
    assert len({c.id for c in full}) == len(full)
    assert set(path_grids.GRIDS) == {"paths", "paths-known", "paths-tasks", "paths-untied"}
    for kind in path_grids.SOURCES:
        assert len({c.data.corpus for c in path_grids.known("full", kind)}) == 8
    assert [c.id for c in path_grids.tied("full")] == [c.id for c in path_grids.grids.task_runs("words", "full")["agf"]]
    for profile, config in itertools.product(path_grids.SIZES, ("known", "markov", "tied")):
        one = path_grids.known(profile, "hmm") if config == "known" else getattr(path_grids, config)(profile)
        assert path_grids.profile_of(one[0]) == profile
