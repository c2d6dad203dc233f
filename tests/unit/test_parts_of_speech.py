"""The chapter `parts_of_speech`: pieces and words, models with planted fields, taggers, the verdict, what is drawn."""

from dataclasses import replace
from functools import cache

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot

from agf_core import claims
from agf_core.analysis import class_grids, class_models, class_worlds, grids, measured, pretrained, tagger, word_classes
from agf_core.analysis import parts_of_speech as chapter
from agf_core.analysis import parts_of_speech_figures as draw
from agf_core.analysis import parts_of_speech_prose as prose
from agf_core.analysis.class_terms import ENOUGH
from agf_core.analysis.parts_of_speech import FIRST, SECOND
from agf_core.analysis.power_pretrained import INPUTS
from agf_core.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, TOO_SMALL
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources import load_text
from agf_core.sources.datasets import UNIVERSAL_TAGS, DataConfig
from agf_core.training import TrainConfig

matplotlib.use("Agg")
transformers = pytest.importorskip("transformers")
TEXTS = {FIRST: "generated:power:tokens=12000:documents=24", SECOND: "generated:power:tokens=12000:documents=24:seed=1"}


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


# Pieces and words


@cache
def tokenizer(kind):
    """A fast tokenizer of the generated language: word pieces with [CLS] and [SEP], or bytes as GPT-2 has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    words = [" ".join(load_text(name).tokens) for name in TEXTS.values()]
    if kind == "pieces":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.train_from_iterator(words, trainers.WordPieceTrainer(
            vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))  # fmt: skip
        made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        made.train_from_iterator(words, trainers.BpeTrainer(vocab_size=400, show_progress=False))
        made.post_processor = processors.ByteLevel(trim_offsets=kind == "trimmed")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def gpt2(vocab_size):
    """A GPT-2 whose logits are a function of distance alone: sines and cosines of the place, queries equal to keys."""
    config = transformers.GPT2Config(vocab_size=vocab_size, n_positions=256, n_embd=32, n_layer=2, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2Model(config).eval()
    place, rate = torch.arange(256.0)[:, None], 0.4 / 2 ** torch.arange(8.0)
    wave = torch.cat([torch.sin(place * rate), torch.cos(place * rate)], 1)
    with torch.no_grad():
        model.wpe.weight.copy_(torch.cat([wave, -wave], 1))  # mean 0, one length: layer norm changes only the scale
        model.wte.weight.mul_(0.01)
        for block in model.h:
            block.attn.c_attn.weight[:, :64] = torch.eye(32).repeat(1, 2) * 2
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
    return model


def llama(vocab_size):
    """A Llama whose queries and keys are constants, so that its rotation makes a field."""
    config = transformers.LlamaConfig(vocab_size=vocab_size, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                                      num_attention_heads=2, num_key_value_heads=1, attention_bias=True,
                                      max_position_embeddings=256, rope_theta=100.0)  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaModel(config).eval()
    with torch.no_grad():
        for layer in model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                part.weight.mul_(0.05)
                part.bias.fill_(1.0)
    return model


def bert(vocab_size):
    config = transformers.BertConfig(vocab_size=vocab_size, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                                     num_attention_heads=2, max_position_embeddings=256)  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertModel(config).eval()


@pytest.mark.parametrize("kind", ["pieces", "bytes", "trimmed"])
def test_every_piece_lies_in_its_word(kind):
    made, text = tokenizer(kind), load_text(TEXTS[FIRST])
    one = pretrained.Pretrained(bert(len(made)), made, "tiny", False, "a test")
    read = word_classes.aligned(one, text, 48, 30)
    expected = pretrained.tokens(one, text, 48, 30)
    for ours, theirs in zip((read.tokens, read.keep, read.groups), expected):
        torch.testing.assert_close(ours, theirs)
    assert ((read.word < 0) == ~read.keep.numpy()).all()
    for tokens, words, first in zip(read.tokens.tolist(), read.word, read.first):
        spelled = {}
        for token, word in zip(tokens, words):
            piece = made.convert_ids_to_tokens(token).removeprefix("##").replace("Ġ", "")
            spelled[word] = spelled.get(word, "") + piece
        whole = [w for w in spelled if w >= 0][1:-1]  # the first and the last word may be cut
        assert len(whole) > 5 and all(spelled[w] == text.tokens[w] for w in whole)
        assert first.sum() == len([w for w in spelled if w >= 0])


def test_slow_tokenizers_are_refused():
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="fast"):
        word_classes.aligned(pretrained.Pretrained(None, Slow(), "slow", True, ""), load_text(TEXTS[FIRST]), 48, 3)


# The page, from a folder as from any Hugging Face id


@pytest.fixture
def alone(monkeypatch):
    """Without the models trained here: two generated texts, no runs."""
    monkeypatch.setattr(class_grids, "second", lambda corpus: TEXTS[SECOND])
    monkeypatch.setattr(chapter.chapter_runs, "records", lambda configs, parts: {})
    monkeypatch.setattr(chapter, "_runs", lambda *_: no_runs())
    monkeypatch.setattr(chapter, "TOKENS", dict.fromkeys(chapter.TOKENS, 4_000))


def no_runs():
    words = pd.DataFrame(columns=["runs", "part", "kind", "model", "layer", "head", "base", "excess", "low", "high"])
    return words, pd.DataFrame(columns=["runs", "encoding", "seed", "by", "what", "right", "floor", "number"]), ""


@pytest.mark.parametrize("make", [gpt2, llama])
def test_causal_models_with_planted_fields_have_no_classes(make, tmp_path, alone):
    made = tokenizer("bytes")
    make(len(made)).save_pretrained(tmp_path)
    made.save_pretrained(tmp_path)
    page = chapter.measure("smoke", TEXTS[FIRST], window=12, layer=1, model_id=str(tmp_path))
    assert page.causal and page.text().base.mean() > 0.8
    assert not page.text().enough.any() and not page.text(SECOND).enough.any()
    assert page.maps[FIRST].shares[..., 0].max() == 0  # no special tokens
    value, _, _ = page.maps[FIRST].of(1)
    assert np.nanmax(np.abs(value)) < 0.1
    assert claims.report(**chapter.evidence(page)).verdict in (NOT_SUPPORTED, TOO_SMALL)
    with pytest.raises(ValueError, match="layers 0 to 1"):
        chapter.measure("smoke", TEXTS[FIRST], window=12, layer=2, model_id=str(tmp_path))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """An untrained encoder with special tokens, and runs whose numbers we chose."""
    made, folder = tokenizer("pieces"), tmp_path_factory.mktemp("tiny")
    bert(len(made)).save_pretrained(folder)
    made.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_grids, "second", lambda corpus: TEXTS[SECOND])
        patch.setattr(chapter.chapter_runs, "records", lambda configs, parts: {})
        patch.setattr(chapter, "_runs", lambda *_: (some_heads(), some_taggers(), "code abc"))
        patch.setattr(chapter, "TOKENS", dict.fromkeys(chapter.TOKENS, 4_000))
        return chapter.measure("smoke", TEXTS[FIRST], window=12, model_id=str(folder))


def some_heads():
    found = {
        n: np.full((2, 2), v).tolist() for n, v in {"base": 0.3, "excess": 0.03, "low": 0.02, "high": 0.04}.items()
    }
    configs = class_grids.words("smoke")
    return pd.concat([chapter._heads("here", part, kind, c, found) for part in (FIRST, SECOND)
                      for kind, of in configs.items() for c in of], ignore_index=True)  # fmt: skip


def some_taggers(runs="reference"):
    rows = []
    for i, (encoding, configs) in enumerate(class_grids.tags("full").items()):
        for config in configs:
            classes = [[80 + i, 70, 100]] * (len(UNIVERSAL_TAGS) - 1) + [[0, 0, 0]]
            found = {"classes": classes, "kinds": [[50 + i - k, 40, 90] for k in range(len(tagger.KINDS))]}
            rows.append(chapter._occurrences(runs, encoding, config, found))
    return pd.concat(rows, ignore_index=True)


def test_an_untrained_encoder_has_special_tokens_and_no_verdict(page):
    assert not page.causal and page.maps[FIRST].shares[..., 0].min() > 0
    assert set(page.terms) == {(FIRST, given) for given in INPUTS} | {(SECOND, INPUTS[0])}
    assert page.texts[FIRST] == page.texts[SECOND] == "generated"
    assert "only one of the two texts" in chapter.evidence(page)["too_small"] and prose.word(page) == TOO_SMALL
    np.testing.assert_allclose(page.spread.groupby("part")["share"].sum(), 1)


def fabricated(page, excess, layers=6, heads=12, profile="cpu", seed=0):
    """A page whose heads' classes add `excess`, a number or one a layer."""
    rng, terms = np.random.default_rng(seed), {}
    each = np.broadcast_to(np.asarray(excess, float).reshape(-1, 1), (layers, heads))
    for key, one in page.terms.items():
        noise = 0.001 * rng.standard_normal((6, 8, layers, heads))
        added = np.concatenate([each + noise[:1] + 0.01, noise[1:2], noise[2:] + 0.01])
        terms[key] = replace(one, base=np.full((8, layers, heads), 0.3), added=added, variance=np.ones((layers, heads)))
    ideal = pd.DataFrame({"world": class_worlds.WORLDS, SUPPORTED: [float(w in class_worlds.HOLDS) for w in
                                                                      class_worlds.WORLDS]})  # fmt: skip
    ideal[NOT_SUPPORTED] = 1 - ideal[SUPPORTED]
    return replace(page, terms=terms, worlds=ideal, profile=profile, texts={FIRST: "brown", SECOND: "treebank"})


def test_verdicts_follow_the_heads(page):
    assert prose.word(fabricated(page, 0.05)) == SUPPORTED
    assert prose.word(fabricated(page, 0.0)) == NOT_SUPPORTED
    assert prose.word(fabricated(page, [0.05, 0.0, 0.05, 0.05, 0.05, 0.0])) == INCONCLUSIVE
    assert prose.word(fabricated(page, 0.05, profile="smoke")) == TOO_SMALL
    assert prose.word(fabricated(page, 0.05, layers=1, heads=4)) == TOO_SMALL
    weak = fabricated(page, 0.05)
    weak = replace(weak, worlds=weak.worlds.assign(**{SUPPORTED: 0.5}))
    assert prose.word(weak) == TOO_SMALL and "50%" in claims.report(**chapter.evidence(weak)).why
    gone = replace(weak, missing="no such package")
    assert chapter.evidence(gone) is None and prose.word(gone) == TOO_SMALL
    verdict = claims.report(**chapter.evidence(fabricated(page, 0.05)))
    assert verdict.effect == {FIRST: 1.0, SECOND: 1.0} and verdict.n == 72 and "brown and treebank" in verdict.scope


def test_the_rule_tells_worlds_apart():
    folds = lambda mean: np.full((8, class_worlds.HEADS), mean)  # noqa: E731
    pools = {k: class_worlds.Pool(folds(0.0)[0], folds(v)) for k, v in
             {"classes": 0.05, "weak": 0.01, "frequency": 0.0, "masses": 0.003}.items()}  # fmt: skip
    from agf_core.analysis.operating import characteristics

    table = characteristics("A7", class_worlds.draws(pools, (6, 12), chapter.share), 60)
    assert chapter.powerless(table) == ""
    false = {**pools, "masses": class_worlds.Pool(folds(0.0)[0], folds(0.05))}
    table = characteristics("A7", class_worlds.draws(false, (6, 12), chapter.share), 20)
    assert "100%" in chapter.powerless(table)


SENTENCES = ("calibration", "heads", "controls", "map_", "masses", "tagging", "meaning")
FIGURES = ("planted", "operating", "heads", "shares", "class_map", "layers", "mass", "apart")


@pytest.mark.parametrize("case", ["measured", "supported", "not supported", "inconclusive", "bare", "missing"])
def test_pages_are_written_and_drawn(page, case):
    one = {
        "measured": page, "supported": fabricated(page, 0.05), "not supported": fabricated(page, 0.0),
        "inconclusive": fabricated(page, [0.05, 0.0, 0.05, 0.05, 0.05, 0.0]),
        "bare": replace(page, **dict(zip(("words", "tagged", "made"), no_runs())), layer=1, notes=("of x, guessed",)),
        "missing": replace(fabricated(page, 0.05), missing="no such package"),
    }[case]  # fmt: skip
    short = prose.in_short(one).format(**prose.numbers(one))
    assert prose.word(one) in short and "nan" not in short
    for name in SENTENCES:
        text = getattr(prose, name)(one)
        assert len(text) > 20 and "nan" not in text
    if case == "missing":
        assert "no such package" in prose.no_evidence(one)
    for name in FIGURES:
        fig, table = getattr(draw, name)(one)
        fig.draw_without_rendering()
        assert len(table)
    for by in ("class", "distance") if len(one.tagged) else ():
        fig, table = draw.tagging(one, by)
        fig.draw_without_rendering()
        assert set(table["encoding"]) == {*grids.SIX, "commonest tag"}


def test_classes_that_turn_round_are_named(page, monkeypatch):
    found = {FIRST: (["pronouns", "nouns", "conjunctions"], ["adverbs"]), SECOND: (["nouns"], ["adverbs", "pronouns"])}
    monkeypatch.setattr(prose, "_masses", lambda page, part=FIRST: found[part])
    one = fabricated(page, 0.05)
    text = prose._attracting(one)
    assert "goes to nouns, less to adverbs; pronouns: more on brown, less on treebank" in text
    assert "conjunctions" not in text and text in prose.in_short(one) and text in prose.masses(one)
    assert prose._which(replace(one, layer=5)) == "the heads of layer 6"


def test_worlds_near_the_half_are_shown_and_do_not_count(page):
    one = fabricated(page, 0.05)
    near = one.worlds["world"].isin(class_worlds.NEAR)
    drawn = replace(one, worlds=one.worlds.assign(**{SUPPORTED: one.worlds[SUPPORTED].where(~near, 0.3)}))
    assert chapter.powerless(drawn.worlds) == "" and class_worlds.told(drawn.worlds) == (1.0, 0.0)
    assert "where 65% of the heads have class pairs, *supported* in 30% of the worlds" in prose.calibration(drawn)


def test_layers_are_counted_from_one(page):
    assert [a.get_title() for a in draw.layers(page)[0].axes[:2]] == ["layer 1", "layer 2"]
    assert [t.get_text() for t in draw.apart(page)[0].axes[0].get_yticklabels()] == ["layer 1", "layer 2"]


def test_a_tagger_is_named_only_above_the_floor(page):
    rows = [("reference", "commonest tag", b, 0.7, np.nan, np.nan, 10) for b in ("1", "2", "3–4")]
    rows += [("reference", "t5", b, 0.8, low, 0.9, 10) for b, low in (("1", 0.75), ("2", 0.6), ("3–4", 0.6))]
    rows += [("reference", "agf", b, 0.85, low, 0.9, 10) for b, low in (("1", 0.8), ("2", 0.69), ("3–4", np.nan))]
    columns = ["runs", "encoding", "what", "accuracy", "low", "high", "number"]
    found, bins = pd.DataFrame(rows, columns=columns), ["1", "2", "3–4"]
    text = prose._better(found, bins)
    assert "highest first: at 1: AGF and T5. From 2 places on no tagger" in text
    none = prose._better(found.assign(low=0.0), bins)
    assert none == "From 1 place on no tagger is shown to do better than the word's commonest tag."
    late = prose._better(found.assign(low=np.where(found["what"] == "3–4", 0.71, 0.0)), bins)
    assert "at 1: none; at 2: none; at 3–4: " in late and "places on" not in late
    assert "Words of a reference run, by places" in prose.tagging(page) and "reference runs" in prose.runs_drawn(page)


def test_pages_without_intervals_are_drawn(page):
    nan = {p: replace(m, received=m.received[:1], expected=m.expected[:1]) for p, m in page.maps.items()}
    few = page.tagged[page.tagged["seed"] == 0].assign(runs="here")
    one = replace(page, maps=nan, tagged=few, planted=page.planted.assign(low=np.nan, high=np.nan))
    for name in ("planted", "class_map", "layers", "mass"):
        getattr(draw, name)(one)[0].draw_without_rendering()
    assert "none" in prose.masses(one) and draw.tagging(one, "distance")[1]["low"].isna().all()


def test_accuracies_are_pooled_over_places_and_compared_over_seeds(page):
    table = chapter.accuracy(page, "distance").set_index(["encoding", "what"])
    assert table.loc[("sinusoidal", "1"), "accuracy"] == pytest.approx(50 / 90)
    assert table.loc[("agf", "3–4"), "accuracy"] == pytest.approx((53 + 52) / 180)
    assert table.loc[("commonest tag", "3–4"), "accuracy"] == pytest.approx(40 / 90)
    assert table.loc[("agf", "5–8"), "number"] == 360
    by_class = chapter.accuracy(page, "class")
    assert "X" not in set(by_class["what"])  # nothing of that class was there


# Models trained here


def small(kind, **model):
    data = DataConfig(kind, TEXTS[FIRST], vocabulary=200)
    body = {"dim": 16, "layers": 1, "heads": 2, "context": 24, "encoding": "rotary", **model}
    return RunConfig(body, data, TrainConfig(1024, 4, 4e-3), heldout=2_000)


def test_heads_of_a_word_model_are_measured():
    config = small("words")
    from agf_core.sources.datasets import load_data

    model = Transformer(config.model_config(load_data(config.data)))
    found = class_models.measure(model, config)
    assert {n: np.shape(v) for n, v in found.items() if n != "queries"} == dict.fromkeys(
        ("base", "excess", "low", "high", "added", "null", "alone"), (1, 2)
    )
    assert np.max(np.abs(found["excess"])) < 0.1 and found["queries"] > 100
    table = chapter._heads("here", FIRST, "rotary", config, found)
    assert len(table) == 2 and table["excess"].tolist() == found["excess"][0]


def test_occurrences_of_a_tagger_are_counted():
    config = small("tags")
    task = tagger.load_task(config.data, 24, 2_000, "test")
    model = Transformer(ModelConfig(vocab_size=213, outputs=12, causal=False, **config.model))
    found = tagger.measure(model, config)
    for part in found.values():
        assert np.sum(part, 0)[2] == task.tokens.size
        assert np.sum(part, 0)[1] == (task.guess == task.tags).sum()
    right = (model(torch.from_numpy(task.tokens)).argmax(-1).numpy() == task.tags).sum()
    assert np.sum(found["classes"], 0)[0] == np.sum(found["kinds"], 0)[0] == right
    with pytest.raises(ValueError, match="'tags'"):
        tagger.load_task(DataConfig("words", TEXTS[FIRST]), 24, 2_000, "test")


def test_the_deciding_word_is_found():
    """Type 0 has tag 0 or 1 as a marker, type 1 or 2, stands three places before it; all else is noise."""
    rng = np.random.default_rng(0)

    def text(size):
        tokens, tags = rng.integers(3, 30, size), np.full(size, 2)
        for i in range(6, size - 6, 12):
            which = rng.integers(2)
            tokens[i], tags[i], tokens[i - 3] = 0, which, 1 + which
        return tokens, tags

    train, train_tags = text(12_000)
    number = np.zeros((30, 3))
    np.add.at(number, (train, train_tags), 1)
    assert tagger.ambiguous(number).nonzero()[0].tolist() == [0]
    tokens, tags = (x.reshape(-1, 24) for x in text(2_400))
    offset = tagger.deciding(train, train_tags, number, tokens, tags)
    assert (offset[tokens == 0] == -3).mean() > 0.97 and (offset[tokens != 0] == 0).all()
    cut = tagger.deciding(train, train_tags, number, tokens[:, 4:], tags[:, 4:])  # the marker is outside of the window
    assert (cut[:, 2][tokens[:, 6] == 0] == -3).mean() < 0.1


def test_grids_share_runs_with_other_chapters():
    for profile in ("smoke", "cpu", "full"):
        whole = {c.id for c in class_grids.parts_of_speech(profile)}
        parts = [n for n in class_grids.GRIDS if n != "parts_of_speech"]
        assert whole == {c.id for n in parts for c in class_grids.GRIDS[n](profile)}
        assert {c.id for c in grids.flat(class_grids.tags(profile))} <= {c.id for c in grids.accuracy(profile)}
        assert {c.id for c in class_models.configs(profile)} | {c.id for c in tagger.configs(profile)} == whole
    assert class_grids.second("treebank") == "brown" and class_grids.second("inaugural") == "treebank"
    assert class_grids.tagged("inaugural") == "treebank" and class_grids.tagged(TEXTS[FIRST]) == TEXTS[FIRST]
    assert min(len(c) for c in class_grids.second_words("full").values()) >= 3


def test_runs_are_read_from_what_is_stored(monkeypatch):
    heads = {n: [[0.1, 0.2]] for n in ("base", "excess", "low", "high")}
    counts = {"classes": [[1, 1, 2]] * 12, "kinds": [[1, 1, 2]] * len(tagger.KINDS)}
    stored = {"class_models": {c.id: heads for c in class_models.configs("full")},
              "tagger": {c.id: counts for c in tagger.configs("full")}}  # fmt: skip
    monkeypatch.setattr(measured, "stored", lambda name: stored[name])
    monkeypatch.setattr(measured, "of", lambda name, configs, measure: {})
    words, tagged, _ = chapter._runs("cpu", grids.CORPUS, 0)
    assert set(words["runs"]) == set(tagged["runs"]) == {"reference"}
    assert words.groupby("part")["model"].nunique().to_dict() == {FIRST: 8, SECOND: class_grids.SEEDS["full"]} and set(
        tagged["encoding"]
    ) == set(grids.SIX)
    monkeypatch.setattr(measured, "stored", lambda name: {})
    words, tagged, _ = chapter._runs("cpu", grids.CORPUS, 0)
    assert words.empty and tagged.empty and not chapter.best_runs(words).size


def test_without_the_package_a_word_model_takes_its_place(monkeypatch, tmp_path, alone):
    monkeypatch.setenv("AGF_STORE", str(tmp_path))
    monkeypatch.setattr(pretrained, "missing", lambda model_id: "no such package")
    configs = {name: replace(small("words", layers=2), data=DataConfig("words", name, vocabulary=200))
               for name in TEXTS.values()}  # fmt: skip
    monkeypatch.setattr(class_grids, "words", lambda profile, corpus, seed: {"rotary": [configs[corpus]]})
    page = chapter.measure("smoke", TEXTS[FIRST], window=40)
    assert page.window == 12 and page.missing and chapter.evidence(page) is None
    assert page.text().enough.shape == (2, 2) and prose.word(page) == TOO_SMALL
    assert ENOUGH > 0 and "no such package" in prose.meaning(replace(page, profile="cpu"))
