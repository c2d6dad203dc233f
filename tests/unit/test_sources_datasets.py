"""Training data: nothing leaks between splits, epochs are complete, batches are pure, tasks are what they say."""

import inspect
import itertools
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agf_core.sources import (
    IGNORE,
    SPLITS,
    Data,
    DataConfig,
    Text,
    best_loss,
    echo,
    generate,
    load_data,
    load_text,
    locate,
)
from agf_core.sources import datasets as module
from agf_core.sources import repeated_bigrams as repeated
from agf_core.sources.splits import split_documents
from agf_core.sources.synthetic import copy, recall, recall_chance

CORPUS = "generated:exponential:tokens=20000:documents=60"
TASKS = [
    DataConfig("recall", "", pairs=4, symbols=8),
    DataConfig("copy", "", symbols=4),
    DataConfig("echo", "power:max_gap=8"),
    DataConfig("hidden", "hmm:states=4", symbols=12),
    DataConfig("tasks", "urn:tasks=4", symbols=12),
]
ALL = [DataConfig(kind, CORPUS, vocabulary=200) for kind in ("bytes", "words", "tags")] + TASKS
LENGTH = 20
quick = settings(deadline=None, max_examples=40)


def rows(*lengths: int) -> Text:
    """A text of documents of these lengths, one sentence a token."""
    starts = np.cumsum([0, *lengths[:-1]])
    return Text(["w"] * sum(lengths), None, np.arange(sum(lengths)), starts, "s", "l")


def places(size: int, outputs: int | None = None) -> Data:
    """Data whose tokens are their own places, so that every window tells where it was cut."""
    stream = np.arange(size), np.arange(size)
    symbols = [str(i) for i in range(size)]
    streams = dict.fromkeys(SPLITS, stream)
    return Data(DataConfig(), size, outputs, True, 0.0, "", "", "", symbols, [], _streams=streams)


# --- splits


@quick
@given(st.lists(st.integers(1, 200), min_size=20, max_size=60))
def test_each_document_is_in_one_split_and_shares_are_met(lengths):
    text = rows(*lengths)
    spans, note = split_documents(text)
    found = sorted((s.start, s.stop) for parts in spans.values() for s in parts)
    ends = np.cumsum(lengths)
    assert found == list(zip(text.documents.tolist(), ends.tolist())) and note == ""
    for name in ("valid", "test"):
        held = sum(s.stop - s.start for s in spans[name])
        assert held <= 0.05 * ends[-1] + max(lengths) / 2
        assert held >= 0.05 * ends[-1] - max(lengths) / 2


def test_a_huge_document_goes_to_train():
    spans, _ = split_documents(rows(*[10] * 10, 5000, *[10] * 15))
    assert [s for s in spans["train"] if s.stop - s.start == 5000] and spans["valid"] and spans["test"]


def test_the_split_never_moves():
    """Stored runs rely on it: if this fails, the runs of all texts are stale."""
    spans, _ = split_documents(rows(*[10] * 60))
    assert {name: [s.start // 10 for s in spans[name]] for name in ("valid", "test")} == {
        "valid": [2, 18, 43],
        "test": [3, 9, 57],
    }


def test_few_documents_are_cut_into_blocks_at_sentences_and_the_note_says_so(tmp_path):
    text = generate(tokens=5000, documents=3)
    spans, note = split_documents(text)
    found = sorted((s.start, s.stop) for parts in spans.values() for s in parts)
    assert [a for a, _ in found[1:]] == [b for _, b in found[:-1]] and (found[0][0], found[-1][1]) == (0, 5000)
    assert np.isin([a for a, _ in found], text.sentences).all() and set(text.documents) <= {a for a, _ in found}
    assert len(found) >= 20 and note.startswith("3 documents are too few") and f"{len(found)} blocks" in note
    file = tmp_path / "one.txt"
    file.write_text("A short sentence stands here. " * 200)
    assert load_data(DataConfig("bytes", str(file))).note.startswith("1 document is too few")


def test_a_text_that_cannot_be_split_says_so(tmp_path):
    file = tmp_path / "tiny.txt"
    file.write_text("Only one sentence.")
    with pytest.raises(ValueError, match=r"tiny is too short to split: of 4 tokens in 1 sentences, .*valid and test"):
        load_data(DataConfig("words", str(file)))


# --- texts


def whole(data: Data, split: str, length: int = 50) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = data.heldout(split, length, 10**9)
    return inputs.ravel(), targets.ravel()


def test_bytes_are_the_documents_of_the_split_joined():
    text, data = load_text(CORPUS), load_data(ALL[0])
    spans, _ = split_documents(text)
    for split in SPLITS:
        wanted = b"\n".join(" ".join(text.tokens[s]).encode() for s in spans[split])
        inputs, targets = whole(data, split)
        assert data.size(split) == len(wanted) and bytes(inputs.tolist()) == wanted[: len(inputs)]
        assert bytes(targets.tolist()) == wanted[1 : len(inputs) + 1]
    assert (data.vocab_size, data.outputs, data.causal) == (256, None, True)
    assert len(data.symbols) == 256 and [data.symbols[i] for i in (10, 97, 39, 200)] == ["\\n", "a", "'", "\\xc8"]
    counts = np.bincount(whole(data, "train", 1)[0])
    assert data.chance == pytest.approx(counts.max() / counts.sum(), abs=1e-4)


def test_words_are_the_commonest_types_of_train_and_a_symbol_per_tag():
    text, data = load_text(CORPUS), load_data(ALL[1])
    spans, _ = split_documents(text)
    train = [t.lower() for s in spans["train"] for t in text.tokens[s]]
    kept = [word for word, _ in Counter(train).most_common(200)]  # ties in the order of first appearance
    tags = [".", "ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "VERB", "X"]
    assert data.symbols == kept + [f"<{tag}>" for tag in tags] and data.vocab_size == 212
    for split in SPLITS:
        pairs = [(t.lower(), tag) for s in spans[split] for t, tag in zip(text.tokens[s], text.tags[s])]
        wanted = [word if word in kept else f"<{tag}>" for word, tag in pairs]
        inputs, targets = whole(data, split)
        assert [data.symbols[i] for i in inputs] == wanted[: len(inputs)]
        assert [data.symbols[i] for i in targets] == wanted[1 : len(inputs) + 1]
        assert data.size(split) == len(wanted)


def test_tags_are_targets_of_the_same_words():
    text, words, data = load_text(CORPUS), load_data(ALL[1]), load_data(ALL[2])
    spans, _ = split_documents(text)
    assert (data.outputs, len(data.output_names), data.causal) == (12, 12, False)
    assert data.symbols == words.symbols and data.output_names == sorted(data.output_names)
    for split in SPLITS:
        wanted = [tag for s in spans[split] for tag in text.tags[s]]
        inputs, targets = whole(data, split)
        assert [data.output_names[i] for i in targets] == wanted[: len(targets)]
        shared = min(len(inputs), len(whole(words, split)[0]))
        assert (inputs[:shared] == whole(words, split)[0][:shared]).all()
    train = [tag for s in spans["train"] for tag in text.tags[s]]
    assert data.chance == pytest.approx(Counter(train).most_common(1)[0][1] / len(train))


def test_nothing_of_valid_or_test_reaches_training(tmp_path):
    """Every document has a word of its own: held-out ones must not be in the vocabulary, nor in any train window."""
    file = tmp_path / "own.txt"
    file.write_text("\f".join(f"only{i} the word only{i} stands." * 6 for i in range(60)))
    config = DataConfig("words", str(file), vocabulary=1000)
    data = load_data(config)
    text = load_text(str(file))
    spans, _ = split_documents(text)
    own = {split: {text.tokens[s][0] for s in spans[split]} for split in SPLITS}
    assert own["train"] <= set(data.symbols) and not (own["valid"] | own["test"]) & set(data.symbols)
    assert data.symbols[-1] == "<unk>" and data.vocab_size == len(data.symbols) == len(set(data.symbols))
    unknown = data.vocab_size - 1
    assert (whole(data, "valid", 10)[0] == unknown).any() and not (whole(data, "train", 10)[0] == unknown).any()
    seen = {data.symbols[i] for step in range(60) for i in data.batch(step, 8, 10, 0)[0].ravel()}
    assert own["train"] <= seen and unknown not in seen
    with pytest.raises(ValueError, match=r"own has no tags.*brown, treebank and generated"):
        load_data(DataConfig("tags", str(file)))


def test_source_licence_and_note_are_the_texts():
    data, text = load_data(ALL[0]), load_text(CORPUS)
    assert (data.source, data.licence, data.note, data.origin) == (text.source, text.licence, "", text.origin)
    task = load_data(TASKS[0])
    assert (task.source, task.licence, task.note, task.origin) == ("", "", "", None)


# --- batches


@quick
@given(st.integers(20, 400), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**40), st.booleans())
def test_an_epoch_uses_every_window_once(size, length, batch, seed, tagging):
    data = places(size, 12 if tagging else None)
    windows = round(size / (data.epochs(size, length) * length))
    steps = range(-(-3 * windows // batch))
    inputs, targets = (np.concatenate(part) for part in zip(*(data.batch(i, batch, length, seed) for i in steps)))
    assert inputs.dtype == targets.dtype == np.int64 and inputs.shape[1:] == (length,)
    assert (np.diff(inputs, axis=1) == 1).all() and (targets == inputs + (not tagging)).all()  # never over the end
    offsets = []
    for epoch in range(3):
        starts = np.sort(inputs[epoch * windows : (epoch + 1) * windows, 0])
        assert (np.diff(starts) == length).all() and starts[0] < length
        assert starts[-1] + 2 * length + length > size - 1  # all but the ends: at most one window more would fit
        offsets.append(starts[0])
    assert data.epochs(3 * windows * length, length) == pytest.approx(3)


def test_offsets_and_orders_differ_between_epochs_and_seeds():
    data = places(5000)
    windows = round(5000 / (data.epochs(5000, LENGTH) * LENGTH))
    first = [data.batch(epoch, windows, LENGTH, seed)[0][:, 0] for seed in range(4) for epoch in range(4)]
    assert len({tuple(starts) for starts in first}) == 16 and len({starts.min() for starts in first}) > 8


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.kind)
def test_batches_are_pure_and_seeds_differ(config):
    data = load_data(config)
    early = [data.batch(step, 3, LENGTH, 5) for step in range(4)]
    for inputs, targets in early:
        inputs[:], targets[:] = 0, 0  # what a caller does to a batch is his own affair
    early = [data.batch(step, 3, LENGTH, 5) for step in range(4)]
    module._epoch.cache_clear()
    load_data.cache_clear()
    for step in (3, 1, 0, 2):
        for before, after in zip(early[step], load_data(config).batch(step, 3, LENGTH, 5)):
            assert before.dtype == np.int64 and before.shape == (3, LENGTH) and (before == after).all()
    distinct = [early[0][0], early[1][0], data.batch(0, 3, LENGTH, 6)[0]]
    assert all((a != b).any() for a, b in itertools.combinations(distinct, 2))
    assert (early[0][0] >= 0).all() and (early[0][0] < data.vocab_size).all() and len(data.symbols) == data.vocab_size
    counted = early[0][1][early[0][1] != IGNORE]
    assert counted.size and (counted >= 0).all() and (counted < (data.outputs or data.vocab_size)).all()


def test_windows_do_not_depend_on_the_batch_size():
    data = load_data(ALL[0])
    one = np.concatenate([data.batch(step, 1, LENGTH, 2)[0] for step in range(12)])
    assert (one == data.batch(0, 12, LENGTH, 2)[0]).all() and (one[8:] == data.batch(2, 4, LENGTH, 2)[0]).all()


@quick
@given(st.integers(2, 300), st.integers(1, 40), st.integers(-5, 1000), st.sampled_from(SPLITS))
def test_heldout_windows_run_from_the_start(size, length, tokens, split):
    data = places(size)
    if size - 1 < length:
        with pytest.raises(ValueError, match=f"the {split} split holds {size} tokens.*one window of {length}"):
            data.heldout(split, length, tokens)
        return
    inputs, targets = data.heldout(split, length, tokens)
    assert (inputs.ravel() == np.arange(inputs.size)).all() and (targets == inputs + 1).all()
    assert len(inputs) == min(max(1, tokens // length), (size - 1) // length) and inputs.shape[1] == length


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.kind)
def test_heldout_is_fixed_and_splits_differ(config):
    data = load_data(config)
    drawn = {split: data.heldout(split, LENGTH, 400) for split in SPLITS}
    load_data.cache_clear()
    for split in SPLITS:
        assert drawn[split][0].shape == drawn[split][1].shape == (20, LENGTH)
        for before, after in zip(drawn[split], load_data(config).heldout(split, LENGTH, 400)):
            assert (before == after).all()
    assert (drawn["valid"][0] != drawn["test"][0]).any()


@pytest.mark.parametrize("config", TASKS, ids=lambda c: c.kind)
def test_synthetic_heldout_sequences_are_not_training_ones(config):
    data = load_data(config)
    train = {row.tobytes() for seed in range(8) for step in range(40) for row in data.batch(step, 8, 40, seed)[0]}
    held = {row.tobytes() for split in SPLITS for row in data.heldout(split, 40, 4000)[0]}
    assert len(train) == 8 * 40 * 8 and len(held) == 300 and not train & held
    assert data.epochs(10**9, 40) == 0 and data.size("train") == 2**20 and data.size("valid") == 2**16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: d.batch(-1, 2, 8, 0), "step -1"),
        (lambda d: d.batch(0, 0, 8, 0), "batch 0"),
        (lambda d: d.batch(0, 2, 8, -3), "seed -3"),
        (lambda d: d.batch(0, 2, 10**6, 0), "the train split holds .* windows of 1000000"),
        (lambda d: d.epochs(10, 10**6), "the train split holds"),
        (lambda d: d.heldout("train", 0, 8), "length starts at 1"),
        (lambda d: d.heldout("dev", 8, 8), "unknown split 'dev'; expected one of train, valid, test"),
        (lambda d: d.size("dev"), "expected one of train, valid, test"),
    ],
)
def test_wrong_requests_say_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call(load_data(ALL[0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "letters"}, "expected one of bytes, words, tags, recall, copy"),
        ({"kind": "recall"}, "kind 'recall' takes corpus='', got 'brown'"),
        ({"kind": "copy", "corpus": "brown"}, "takes corpus=''"),
        ({"corpus": ""}, "kind 'bytes' takes a corpus"),
        ({"kind": "echo"}, "echo 'brown' starts with 'brown'; expected a law .power, exponential."),
        ({"kind": "echo", "corpus": ""}, "expected a law"),
        ({"kind": "echo", "corpus": "power:rate=1"}, "'rate=1' is none of exponent, max_gap, chance with =value"),
        ({"kind": "echo", "corpus": "power:max_gap=a"}, "max_gap takes int, got 'a'"),
        ({"kind": "echo", "corpus": "power:chance=1"}, "chance must lie in 0.0..0.95, got 1.0"),
        ({"kind": "echo", "corpus": "power", "symbols": 1}, "symbols must be .* at least 2"),
        ({"vocabulary": 0}, "vocabulary must be a whole number of at least 1, got 0"),
        ({"vocabulary": "many"}, "got 'many'"),
        ({"kind": "recall", "corpus": "", "pairs": 9, "symbols": 8}, "symbols must be .* at least 9, got 8"),
        ({"kind": "copy", "corpus": "", "symbols": 1}, "symbols must be .* at least 2"),
    ],
)
def test_configurations_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        DataConfig(**options)


def test_unknown_options_and_texts_are_refused():
    with pytest.raises(TypeError, match="vocab"):
        DataConfig(vocab=10)
    with pytest.raises(ValueError, match="unknown text 'brwn'"):
        load_data(DataConfig("bytes", "brwn"))


# --- synthetic tasks


@quick
@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 30), st.integers(0, 2**32))
def test_recall_answers_are_the_values_of_the_keys(pairs, more, extra, seed):
    symbols, length = pairs + more, 2 * pairs + 2 + extra
    inputs, targets = recall(np.random.default_rng(seed), 3, length, pairs=pairs, symbols=symbols)
    assert inputs.shape == targets.shape == (3, length)
    for row, answers in zip(inputs.tolist(), targets.tolist()):
        value = dict(zip(row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2]))
        assert len(value) == pairs and max(value) < symbols <= min(value.values())
        for place in range(length):
            asks = place >= 2 * pairs and place % 2 == 0
            assert answers[place] == (value[row[place]] if asks else IGNORE)
            assert not asks or place + 1 == length or row[place + 1] == answers[place]


def test_recall_asks_every_pair_equally_often_at_every_place():
    inputs, _ = recall(np.random.default_rng(0), 8000, 16, pairs=4, symbols=9)
    for place in (8, 14):
        which = (inputs[:, 0:8:2] == inputs[:, [place]]).mean(axis=0)
        assert which == pytest.approx([0.25] * 4, abs=0.025)
    assert np.bincount(inputs[:, 0], minlength=9) / 8000 == pytest.approx([1 / 9] * 9, abs=0.02)


@pytest.mark.parametrize(("pairs", "symbols"), [(1, 2), (2, 2), (3, 5), (4, 4), (5, 3)])
def test_recall_chance_by_enumeration(pairs, symbols):
    best = [max(Counter(values).values()) for values in itertools.product(range(symbols), repeat=pairs)]
    assert recall_chance(pairs, symbols) == pytest.approx(np.mean(best) / pairs, rel=1e-12)


def test_recall_chance_is_what_counting_the_values_scores():
    data = load_data(DataConfig("recall", "", pairs=8, symbols=32))
    inputs, targets = data.heldout("test", 40, 80_000)
    guess = np.array([Counter(row).most_common(1)[0][0] for row in inputs[:, 1:16:2].tolist()])
    asked = targets != IGNORE
    right = (targets == guess[:, None])[asked].mean()
    assert right == pytest.approx(data.chance, abs=0.01) and 1 / 8 < data.chance < 0.22
    assert data.vocab_size == 64 and data.symbols[31:34] == ["k31", "v0", "v1"]


@quick
@given(st.integers(2, 9), st.integers(4, 40), st.integers(0, 2**32))
def test_copy_repeats_the_string(symbols, length, seed):
    inputs, targets = copy(np.random.default_rng(seed), 3, length, symbols=symbols)
    half = length // 2
    assert inputs.shape == targets.shape == (3, length)
    for row, answers in zip(inputs.tolist(), targets.tolist()):
        string = row[:half]
        assert max(string) < symbols and row == [*string, symbols, *string][:length]
        assert answers == [*[IGNORE] * half, *string, IGNORE][:length]


def test_few_symbols_make_content_ambiguous():
    """Looking up what followed the last two symbols finds the answer with many symbols, and hardly with four."""

    def by_content(symbols: int) -> float:
        inputs, targets = copy(np.random.default_rng(1), 60, 128, symbols=symbols)
        right = []
        for row, answers in zip(inputs.tolist(), targets.tolist()):
            after = {(a, b): c for a, b, c in zip(row[:62], row[1:63], row[2:64])}
            right += [after.get((row[i - 1], row[i])) == answers[i] for i in range(66, 128)]
        return float(np.mean(right))

    assert by_content(4) < 0.6 < 0.95 < by_content(256)


def test_copy_data_and_short_sequences():
    data = load_data(DataConfig("copy", "", symbols=4))
    assert (data.vocab_size, data.chance, data.outputs, data.symbols) == (5, 0.25, None, ["s0", "s1", "s2", "s3", "|"])
    with pytest.raises(ValueError, match="at least 4, got 3"):
        data.batch(0, 1, 3, 0)
    with pytest.raises(ValueError, match="recall of 4 pairs takes a length of at least 10, got 9"):
        load_data(TASKS[0]).heldout("test", 9, 100)


def test_echo_data_and_its_best_loss():
    """Next-symbol data; a literal predictor scores on the held-out windows what `best_loss` says."""
    config = DataConfig("echo", "exponential:rate=0.4:max_gap=5:chance=0.7", symbols=6)
    data, law = load_data(config), echo.parse(config.corpus)
    assert (data.vocab_size, data.chance, data.outputs, data.causal, data.symbols[5]) == (6, 1 / 6, None, True, "s5")
    inputs, targets = data.heldout("valid", 30, 3000)
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    loss = []
    for row, after in zip(inputs, targets):
        for t in range(30):
            p = 0.3 / 6
            for r, weight in enumerate(law.weights, start=1):
                p += 0.7 * weight * (row[t + 1 - r] == after[t] if t + 1 >= r else 1 / 6)
            loss.append(-np.log(p))
    best = best_loss(config, 30, 3000, "valid")
    assert best.window == pytest.approx(np.mean(loss), rel=1e-9) and best.past < best.window < np.log(6)
    with pytest.raises(ValueError, match="known for kind 'echo', not for 'copy'"):
        best_loss(TASKS[1], 30, 3000)
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        best_loss(config, 30, 3000, "dev")


def test_fields_of_the_configuration_are_those_that_stored_runs_are_named_by():
    """A new field would give every run another id."""
    assert list(asdict(DataConfig())) == ["kind", "corpus", "vocabulary", "pairs", "symbols"]


# --- repeated bigrams


@quick
@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32))
def test_repeated_bigrams_as_a_loop_finds_them(batch, length, kinds, seed):
    stream = np.random.default_rng(seed).integers(0, kinds, (batch, length + 1))
    wanted = np.zeros((batch, length), bool)
    for i, row in enumerate(stream.tolist()):
        seen = set()
        for j in range(length):
            wanted[i, j] = (row[j], row[j + 1]) in seen
            seen.add((row[j], row[j + 1]))
    assert (repeated(stream[:, :-1], stream[:, 1:]) == wanted).all()
    alone = repeated(stream[:, :-1])
    assert alone.shape == wanted.shape and (alone[:, :-1] == wanted[:, :-1]).all() and not alone[:, -1].any()


# --- outside


def test_ignore_is_what_torch_ignores():
    assert inspect.signature(torch.nn.functional.cross_entropy).parameters["ignore_index"].default == IGNORE


def test_the_import_is_light():
    code = "import sys, agf_core.sources.datasets; print({'torch', 'pandas', 'nltk', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(locate.locate("brown") is None, reason="Brown is not on NLTK's search path")
def test_brown_by_the_design():
    """4,096 types and twelve rest symbols; 500 samples dealt 90/5/5; valid starts with NLTK's own words and tags."""
    from nltk.corpus import brown

    data = load_data(DataConfig("tags", "brown"))
    sizes = np.array([data.size(split) for split in SPLITS])
    assert data.vocab_size == 4108 and sizes.sum() == 1_161_192
    assert sizes / sizes.sum() == pytest.approx([0.9, 0.05, 0.05], abs=0.002)
    text = load_text("brown")
    spans, note = split_documents(text)
    assert note == "" and sum(map(len, spans.values())) == 500
    first = text.document_names[int(np.searchsorted(text.documents, spans["valid"][0].start))]
    theirs = brown.tagged_words(first, tagset="universal")[:100]
    inputs, targets = data.heldout("valid", 100, 100)
    assert [data.output_names[i] for i in targets[0]] == [tag for _, tag in theirs]
    named = [(data.symbols[i], word.lower(), tag) for i, (word, tag) in zip(inputs[0], theirs)]
    assert all(symbol in (word, f"<{tag}>") for symbol, word, tag in named)
