"""Word classes and what they add: labels, explicit least squares, planted heads, the map by brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agf_core.analysis import class_terms, class_worlds, word_classes
from agf_core.analysis.class_map import ClassWeights
from agf_core.analysis.class_terms import ClassTerms, Design, student
from agf_core.analysis.class_worlds import seen
from agf_core.analysis.word_classes import PLACES, RELATIONS, Read, Text, classes, frequency_bins, permuted
from agf_core.sources import generate
from agf_core.sources.datasets import DataConfig, load_data

WINDOW, LENGTH, SEQUENCES = 5, 24, 12


def small(seed=0, sequences=SEQUENCES, length=LENGTH, tokens=4000):
    """A generated text, read in windows a word a token; every seventh token continues the word before it."""
    text = generate("power", tokens=tokens, documents=8, seed=seed, vocabulary=2000)
    names, tag = text.tag_codes
    starts = np.linspace(0, len(text) - length - 1, sequences).astype(int)
    word = starts[:, None] + np.arange(length)
    types = text.vocabulary[1]
    first = np.ones(word.shape, bool)
    first[:, ::7] = False
    keep = torch.ones(word.shape, dtype=torch.bool)
    read = Read(torch.from_numpy(types[word]), keep, torch.arange(sequences) * 4 // sequences, word, first, types[word],
                text.counts)  # fmt: skip
    return read, text, tag, tuple(names)


@pytest.fixture(scope="module")
def labelled():
    read, text, tag, names = small()
    return read, classes(read, text, tag, names, 3, 0)


# Labels


def test_frequency_bins_span_little_and_hold_enough():
    counts = np.sort(np.random.default_rng(0).zipf(1.3, 5000).clip(max=10**5))[::-1]
    bins = frequency_bins(counts, 4.0, 0.04)
    assert (np.diff(bins) >= 0).all() and set(bins) == set(range(bins.max() + 1))
    share = np.bincount(bins, counts) / counts.sum()
    assert share.min() >= 0.04
    first = counts[bins == 0]
    assert first.max() / first.min() <= 4 or first[first < first.max() / 4].sum() < share[0]
    assert frequency_bins(np.array([7, 7, 7]), 2.0, 0.1).tolist() == [0, 0, 0]
    assert frequency_bins(np.array([1000, 1]), 2.0, 0.1).tolist() == [0, 0]  # what is left goes to the bin before it


def test_permuted_types_take_over_all_tags_of_another_of_their_bin():
    types = np.array([[0, 0, 0, 1, 1, 1, 2, 3]])
    read = Read(torch.from_numpy(types), torch.ones(1, 8, dtype=torch.bool), torch.zeros(1, dtype=torch.int64),
                np.arange(8)[None], np.ones((1, 8), bool), types, np.array([3, 3, 1, 1]))  # fmt: skip
    true, bins = np.array([[5, 5, 5, 6, 6, 6, 7, 8]]), np.array([0, 0, 1, 1])
    swapped = 0
    for seed in range(20):
        found = permuted(read, true, bins, np.random.default_rng(seed))[0]
        assert set(found[:3]) in ({5}, {6}) and set(found[:6]) == {5, 6}
        assert sorted(found[6:]) == [7, 8]
        swapped += found[0] == 6
    assert 3 < swapped < 17
    mixed = permuted(read, np.array([[5, 6, 5, 6, 6, 6, 7, 7]]), bins, np.random.default_rng(1))[0]
    assert set(mixed[:6]) == {5, 6} and set(mixed[6:]) == {7}


def test_pieces_of_a_word_stay_of_one_class():
    read, text, tag, names = small()
    word = read.word.copy()
    word[:, 1::2] = word[:, ::2]
    types = text.vocabulary[1][word]
    about = classes(replace(read, word=word, types=types), text, tag, names, 4, 0)
    np.testing.assert_array_equal(about.labels[:, :, 1::2], about.labels[:, :, ::2])


def test_places_bins_and_special_tokens():
    text = Text(["a", "b", "c", "d", ".", "e", "."], ["X", "X", "X", "X", ".", "X", "."], np.array([0, 5]),
                np.array([0]), "", "")  # fmt: skip
    word = np.array([[-1, 0, 1, 2, 3, 4, 5, 6, -1]])
    types = np.where(word >= 0, text.vocabulary[1][word], -1)
    keep = torch.from_numpy(word >= 0)
    first = word >= 0
    first[0, 3] = False
    read = Read(torch.zeros(1, 9, dtype=torch.int64), keep, torch.zeros(1, dtype=torch.int64), word, first, types,
                text.counts)  # fmt: skip
    about = classes(read, text, *reversed(text.tag_codes), 2, 0)
    assert [PLACES[i] for i in about.place[0, 1:-1]] == ["first", "2nd or 3rd", "2nd or 3rd", "4th to 7th", "last",
                                                         "first", "last"]  # fmt: skip
    assert (about.labels[:, 0, [0, -1]] == -1).all() and about.bins[0, 3] == about.count - 1
    assert about.sentence[0, 1:-1].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert [about.names[i] for i in about.labels[0, 0, 1:-1]] == text.tags
    assert len(set(about.labels[1, 0, 1:-1])) == 2


def test_tokens_in_no_order_keep_their_class(labelled):
    read, about = labelled
    tokens, moved = word_classes.without_order(read, about, 0)
    assert not torch.equal(tokens, read.tokens) and (moved.place == about.place).all()
    table = {}
    for token, label, level in zip(tokens.ravel().tolist(), moved.labels[0].ravel(), moved.bins.ravel()):
        table.setdefault(token, set()).add((label, level))
    before = {}
    for token, label, level in zip(read.tokens.ravel().tolist(), about.labels[0].ravel(), about.bins.ravel()):
        before.setdefault(token, set()).add((label, level))
    assert table == before


def test_word_models_read_what_the_taggers_are_told():
    corpus = "generated:power:tokens=20000:documents=40"
    config = DataConfig("words", corpus, vocabulary=50)
    read = word_classes.of_data(config, 16, 500)
    _, _, names, note = word_classes.tags(corpus)
    theirs = load_data(replace(config, kind="tags"))
    tokens, targets = (np.concatenate(x) for x in zip(*(theirs.heldout(s, 16, 500) for s in ("valid", "test"))))
    np.testing.assert_array_equal(read.tokens, tokens)
    about = classes(read, *word_classes.tags(corpus)[:3], 1, 0)
    ours = [[names[i] for i in row] for row in about.labels[0]]
    assert ours == [[theirs.output_names[i] for i in row] for row in targets] and not note
    assert read.counts.sum() >= theirs.size("train") - 16
    assert sum(word_classes.shares(read, about).values()) == pytest.approx(1)


# Least squares


def logits(sequences=SEQUENCES, heads=2, length=LENGTH, seed=0):
    return torch.randn(sequences, heads, length, length, generator=torch.Generator().manual_seed(seed))


def explicit(read, about, labelling, causal):
    """Every pair that counts: fold, query, columns of the base and of the class pairs, from the definitions."""
    low, high = 4 + WINDOW, LENGTH - (0 if causal else WINDOW)
    c, out = len(about.names), []
    for s in range(len(read.tokens)):
        for i in range(low, high):
            for j in range(i - WINDOW, i + (0 if causal else WINDOW) + 1):
                if i == j:
                    continue
                sentence = np.sign(about.sentence[s, j] - about.sentence[s, i])
                relation = "same word" if read.word[s, i] == read.word[s, j] else (
                    "same sentence", "a later sentence", "an earlier sentence")[sentence]  # fmt: skip
                out.append((int(read.groups[s]), s * LENGTH + i, s, i, j, (about.bins[s, j], i - j),
                            (about.place[s, j], RELATIONS.index(relation)),
                            about.labels[labelling, s, i] * c + about.labels[labelling, s, j]))  # fmt: skip
    fold, query, s, i, j, distance, place, pair = zip(*out)
    columns = [np.array([{v: n for n, v in enumerate(sorted(set(x)))}[v] for v in x]) for x in (distance, place)]
    dummies = np.concatenate([np.eye(x.max() + 1)[x] for x in columns], 1)
    return np.array(fold), np.array(query), (s, i, j), dummies, np.eye(c * c)[np.array(pair)]


def centred(columns, query):
    _, inverse, number = np.unique(query, return_inverse=True, return_counts=True)
    sums = np.zeros((len(number), columns.shape[1]))
    np.add.at(sums, inverse, columns)
    return columns - (sums / number[:, None])[inverse]


def ridge(x, y, penalty):
    """Least squares of rows with the penalty's roots under them."""
    rows = np.concatenate([x, np.diag(np.sqrt(penalty))])
    return np.linalg.lstsq(rows, np.concatenate([y, np.zeros(len(penalty))]), rcond=None)[0]


@pytest.mark.parametrize("causal", [True, False])
def test_shares_are_those_of_explicit_ridge_regression(labelled, causal):
    read, about = labelled
    design = Design(about, read.keep, read.groups, WINDOW, causal)
    terms, made = ClassTerms(design), logits()
    for start in (0, 5):  # in two parts, as they pass
        of = torch.arange(start, 5 if start == 0 else SEQUENCES)
        terms.update(seen(made[of], read, of, causal))
    found = terms.result()
    assert found.queries == SEQUENCES * (LENGTH - 4 - WINDOW * (1 if causal else 2))
    for labelling in (0, 3):
        fold, query, at, base, pair = explicit(read, about, labelling, causal)
        x0, z0 = centred(base, query), centred(pair, query)
        y = centred(made.numpy()[at[0], 1, at[1], at[2]][:, None].astype(float), query)[:, 0]
        for f in (0, design.folds - 1):
            x, z, train, test = x0, z0, fold != f, fold == f
            total = (y[test] ** 2).sum()
            alone = ridge(x[train], y[train], np.ones(x.shape[1]))
            both = np.concatenate([x, z], 1)
            penalty = np.r_[np.ones(x.shape[1]), np.full(z.shape[1], class_terms.RIDGE)]
            fit = ridge(both[train], y[train], penalty)
            r2 = [1 - ((y[test] - d[test] @ b) ** 2).sum() / total for d, b in ((x, alone), (both, fit))]
            assert found.base[f, 0, 1] == pytest.approx(r2[0], abs=1e-5)
            assert found.added[labelling, f, 0, 1] == pytest.approx(r2[1] - r2[0], abs=1e-5)
    assert found.excess().shape == (4, 1, 2)


@pytest.mark.parametrize("causal", [True, False])
def test_planted_class_pairs_come_back(causal, monkeypatch):
    monkeypatch.setattr(class_terms, "RIDGE", 1e-3)
    read, text, tag, names = small(sequences=60)
    about = classes(read, text, tag, names, 3, 0)
    design = Design(about, read.keep, read.groups, WINDOW, causal)
    c = len(names)
    rng = np.random.default_rng(0)
    planted = torch.from_numpy(rng.normal(size=(c, c))).float()
    label = torch.from_numpy(about.labels[0]).long()
    r = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs().clamp_min(1).log()
    made = planted[label[:, :, None], label[:, None, :]][:, None] - 1.5 * r
    terms = ClassTerms(design)
    terms.update(seen(made.expand(-1, 1, -1, -1).contiguous(), read, torch.arange(60), causal))
    found = terms.result()
    np.testing.assert_allclose(found.base.mean() + found.added[0].mean(), 1, atol=2e-2)
    often = found.counts > 60
    ours = found.pairs[0, 0]
    mean = (planted.numpy() * found.counts).sum(1) / np.maximum(found.counts.sum(1), 1)
    theirs = planted.numpy() - mean[:, None]
    assert np.corrcoef(ours[often], theirs[often])[0, 1] > 0.97
    assert found.excess().mean() > 0.2


def test_a_field_and_frequency_are_not_classes():
    read, text, tag, names = small(sequences=40)
    about = classes(read, text, tag, names, 3, 0)
    design = Design(about, read.keep, read.groups, WINDOW, True)
    log_n = torch.from_numpy(np.log(read.counts[read.types])).float()
    r = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs().clamp_min(1).log()
    made = (-r * (1 + 0.2 * log_n[:, None, :]) + log_n[:, None, :])[:, None] + 0.3 * logits(40, 1)
    terms = ClassTerms(design)
    terms.update(seen(made, read, torch.arange(40), True))
    found = terms.result()
    assert found.base.mean() > 0.5 and abs(found.excess().mean()) < class_terms.ENOUGH
    assert not found.enough.any()


def test_intervals_are_students():
    from scipy import stats

    folds = np.random.default_rng(0).normal(size=(6, 2, 3))
    value, low, high = student(folds)
    expected = stats.t.interval(0.95, 5, loc=folds[:, 1, 2].mean(), scale=stats.sem(folds[:, 1, 2]))
    assert (low[1, 2], high[1, 2]) == pytest.approx(expected) and value[1, 2] == pytest.approx(folds[:, 1, 2].mean())


def test_queries_whose_window_holds_a_special_token_do_not_count(labelled):
    read, about = labelled
    keep = read.keep.clone()
    keep[:, 12] = False
    design = Design(about, keep, read.groups, WINDOW, True)
    counted = design.full[0].nonzero().flatten() + 4 + WINDOW
    assert counted.tolist() == [9, 10, 11, *range(18, LENGTH)]


def test_bad_input_is_refused(labelled):
    read, about = labelled
    with pytest.raises(ValueError, match="whole window"):
        Design(about, torch.zeros_like(read.keep), read.groups, WINDOW, True)
    with pytest.raises(ValueError, match="one group"):
        Design(about, read.keep, torch.zeros_like(read.groups), WINDOW, True)
    terms = ClassTerms(Design(about, read.keep, read.groups, WINDOW, True))
    with pytest.raises(ValueError, match="causal"):
        terms.update(seen(logits(), read, torch.arange(SEQUENCES), False))
    with pytest.raises(ValueError, match="observed"):
        terms.result()


def test_a_long_window_has_few_columns(labelled):
    read, text, tag, names = small(sequences=6, length=100)
    about = classes(read, text, tag, names, 1, 0)
    assert Design(about, read.keep, read.groups, 80, True).steps == 1 + 16 + 10  # 0, 1 … 16, quarter octaves to 80


# Planted heads


@pytest.fixture(scope="module")
def planted():
    count = 320
    read, text, tag, names = small(sequences=count, length=48, tokens=20_000)
    even = 2 ** np.round(np.log2(read.counts)).astype(int)  # alike in a bin: here class and frequency are tied
    read = replace(read, groups=torch.arange(count) * 16 // count, counts=even)
    design = Design(classes(read, text, tag, names, 6, 0), read.keep, read.groups, 12, True)
    terms = ClassTerms(design)
    terms.update(seen(logits(count, 2, 48) - 0.15 * torch.arange(48.0), read, torch.arange(count), True))
    return terms.result(), class_worlds.pools(read, design, terms.result(), 0)


def test_what_classes_explain_in_planted_heads_is_recovered(planted):
    table = class_worlds.recovered(planted[1])
    pairs = table[table["kind"].isin(("classes", "weak"))]
    assert ((pairs["low"] <= pairs["planted"]) & (pairs["planted"] <= pairs["high"])).mean() >= 0.6
    np.testing.assert_allclose(pairs["excess"], pairs["planted"], atol=0.01)
    assert (table.query("kind == 'frequency'")["excess"].abs() < class_terms.ENOUGH).all()
    assert table.query("kind == 'classes'")["planted"].min() > class_terms.ENOUGH
    assert (table.query("kind in ('frequency', 'masses')")["planted"] == 0).all()


# The map


@pytest.mark.parametrize("causal", [True, False])
def test_the_map_is_that_of_brute_force(labelled, causal):
    read, about = labelled
    design = Design(about, read.keep, read.groups, WINDOW, causal)
    weights = torch.rand(SEQUENCES, 2, LENGTH, LENGTH, generator=torch.Generator().manual_seed(0))
    if causal:
        weights = weights.tril()
    statistic = ClassWeights(design)
    for layer in range(2):
        one = seen(weights.clone(), read, torch.arange(SEQUENCES), causal, layer)
        statistic.update(replace(one, weights=weights * (1 + layer)))
    found = statistic.result(10)
    low, high = 4 + WINDOW, LENGTH - (0 if causal else WINDOW)
    c, cells, pairs = len(about.names), {}, []
    for s in range(SEQUENCES):
        for i in range(low, high):
            for j in range(i - WINDOW, i + (0 if causal else WINDOW) + 1):
                if i != j:
                    same = read.word[s, i] == read.word[s, j]
                    relation = 0 if same else 1 if about.sentence[s, i] == about.sentence[s, j] else 2
                    cell = (i - j, about.bins[s, j], {0: 0, 5: 2}.get(int(about.place[s, j]), 1), relation)
                    w = float(weights[s, 1, i, j])
                    cells.setdefault(cell, []).append(w)
                    pairs.append((about.labels[0, s, i], about.labels[0, s, j], cell, w))
    received, expected = np.zeros((2, c, c))
    for q, k, cell, w in pairs:
        received[q, k] += w
        expected[q, k] += np.mean(cells[cell])
    np.testing.assert_allclose(found.received[0, 0, 1], received, rtol=1e-4)
    np.testing.assert_allclose(found.received[0, 1, 1], 2 * received, rtol=1e-4)
    np.testing.assert_allclose(found.expected[0, 0, 1], expected, rtol=1e-3)
    assert found.pairs.sum() == len(pairs)
    total = weights[:, 1, low:high].sum()
    assert found.shares[0, 1, 1] == pytest.approx(float(weights[:, 1, low:high, :4].sum() / total), rel=1e-4)
    own = sum(float(weights[:, 1, i, i].sum()) for i in range(low, high))
    assert found.shares[0, 1, 2] == pytest.approx(own / float(total), rel=1e-4)
    np.testing.assert_allclose(found.shares.sum(-1), 1)


def test_classes_that_receive_twice_as_much_have_twice_the_mass():
    read, text, tag, names = small(sequences=60)
    about = classes(read, text, tag, names, 1, 0)
    about = replace(about, bins=np.zeros_like(about.bins), place=np.ones_like(about.place))
    design = Design(about, read.keep, read.groups, WINDOW, True)
    noun = names.index("NOUN")
    key = torch.where(torch.from_numpy(about.labels[0]) == noun, 2.0, 1.0)[:, None, None]
    statistic = ClassWeights(design)
    one = seen(torch.zeros(60, 1, LENGTH, LENGTH), read, torch.arange(60), True)
    statistic.update(replace(one, weights=(key * torch.ones(60, 1, LENGTH, LENGTH)).tril()))
    found = statistic.result(20)
    mass, low, high = found.mass()
    others = [i for i in range(len(names)) if i != noun and np.isfinite(mass[i])]
    np.testing.assert_allclose(mass[noun] - mass[others], np.log(2), atol=0.08)
    assert low[noun] > 0 > high[others].max()
    value, _, _ = found.of(0)
    assert np.isnan(value[found.pairs < 30]).all() and np.nanmin(value[:, noun]) > 0
    with pytest.raises(ValueError, match="layer 1"):
        found.of(1)
