"""The atlas: its walks against models built without the part, its plane against numpy, its page against JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import agf_core
from agf_core import figures, interactive, provenance
from agf_core.analysis import atlas, atlas_figures, atlas_grids, atlas_prose
from agf_core.model import ModelConfig, Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import Data, DataConfig, load_data
from agf_core.sources.text import Text

TEMPLATE = Path(agf_core.__file__).with_name("atlas.html")
BODY = {"dim": 16, "layers": 2, "heads": 2, "context": 32}


def model(**changed) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(ModelConfig(vocab_size=50, **{**BODY, "encoding": "agf", **changed})).eval()
    with torch.no_grad():  # as in a trained model, scores must matter
        for block in made.blocks:
            block.attention.qkv.weight.mul_(3)
    return made


TOKENS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])


@pytest.fixture(scope="module")
def page() -> atlas.Atlas:
    """An untrained model's atlas of the generated language."""
    config = RunConfig({**BODY, "encoding": "agf"}, DataConfig("words", "generated", 200), heldout=256)
    data = load_data(config.data)
    torch.manual_seed(0)
    return atlas.atlas(Transformer(config.model_config(data)).eval(), config, "smoke")


def test_the_streams_add_up_to_what_the_model_computes():
    whole = model()
    found = atlas.walk(whole, TOKENS)
    torch.testing.assert_close(found.logits, whole(TOKENS[None])[0])
    torch.testing.assert_close(found.logits, found.states[-1] @ whole.embedding.weight.T)
    torch.testing.assert_close(found.states[0], whole.embedding(TOKENS))
    assert found.states.shape == (6, 8, 16) and found.weights.shape == (2, 2, 8, 8)
    assert atlas.steps(2) == [
        "embedding", "layer 1 attention", "layer 1 MLP", "layer 2 attention", "layer 2 MLP", "final norm",
    ]  # fmt: skip


@pytest.mark.parametrize("placement", ["agf", "agf_score", "agf_weight"])
@pytest.mark.parametrize(
    ("switch", "without"), [("field only", {"association": False}), ("association only", {"encoding": "nope"})]
)
def test_a_switch_is_the_model_built_without_that_part(placement, switch, without):
    whole = model(encoding=placement)
    other = model(**{"encoding": placement, **without})
    other.load_state_dict({n: t for n, t in whole.state_dict().items() if n in other.state_dict()})
    found = atlas.walk(whole, TOKENS, switch)
    torch.testing.assert_close(found.logits, other(TOKENS[None])[0])
    assert not torch.allclose(found.logits, atlas.walk(whole, TOKENS).logits, atol=1e-4)


def test_an_unknown_switch_and_an_encoder_are_refused():
    with pytest.raises(ValueError, match="choose from everything, field only, association only"):
        atlas.walk(model(), TOKENS, "neither")
    with pytest.raises(ValueError, match="needs a causal model"):
        atlas.walk(model(causal=False), TOKENS)


def test_the_plane_is_numpys_principal_components():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)) * [5, 1, 1, 1, 1, 1]
    states = rng.normal(loc=[0, 0, 3, 0, 0, 0], size=(100, 6))
    found = atlas.plane(torch.tensor(vectors), torch.tensor(states))
    both = np.concatenate([vectors, states])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    weight = np.repeat([0.5 / 40, 0.5 / 100], [40, 100])
    values = np.linalg.eigvalsh(np.cov(both.T, aweights=weight, ddof=0))[::-1]
    np.testing.assert_allclose(found.shares, values[:2] / values.sum(), rtol=1e-5)
    xy = found.of(torch.tensor(both).float())
    np.testing.assert_allclose(weight @ xy, 0, atol=1e-6)
    np.testing.assert_allclose(weight @ xy**2, values[:2], rtol=1e-4)
    np.testing.assert_allclose(found.of(torch.tensor(7 * both).float()), xy, atol=1e-6)  # lengths do not count


def test_nearest_and_rank_go_by_angle():
    vectors = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 0.1], [-1.0, -1.0]])
    states = torch.tensor([[[0.2, 0.0]], [[0.0, 5.0]]])  # (2 steps, 1 word, 2)
    tokens, cosine = atlas.nearest(states, vectors, 2)
    assert tokens.tolist() == [[[0, 1]], [[2, 1]]]
    assert cosine[0, 0].tolist() == pytest.approx([1, 9 / 82**0.5])
    assert atlas.rank(states, vectors, torch.tensor([1])).tolist() == [[2], [2]]
    assert atlas.rank(states, vectors, torch.tensor([0])).tolist() == [[1], [3]]


REPEATED = [
    "the dog sat upon the mat .",
    "the number {} is here among us .",  # the only one that is new in a held-out document
    'a " cat sat upon the mat .',
    "too short .",
    "an end .",
]


def written(tags: bool = False) -> tuple[Text, Data]:
    """30 documents of the same sentences, with one more in each: only what is new in a held-out document counts."""
    tokens, sentences, documents = [], [], []
    for number in range(30):
        documents.append(len(tokens))
        for sentence in REPEATED:
            sentences.append(len(tokens))
            tokens += sentence.format(number).split()
    guessed = ["NOUN"] * len(tokens) if tags else None
    text = Text(tokens, guessed, np.array(sentences), np.array(documents), "here", "MIT")
    symbols = ["the", "sat", "upon", "mat", ".", "dog", "number", "is", "here", "among", "us", "too"]
    rest = [f"<{t}>" for t in atlas.UNIVERSAL_TAGS] if tags else ["<unk>"]
    data = Data(DataConfig("words"), len(symbols + rest), None, True, 0.1, "", "", "", symbols + rest, [])
    return text, data


@pytest.mark.parametrize("tags", [False, True])
def test_sentences_are_whole_held_out_and_new(tags):
    text, data = written(tags)
    found = atlas.choose(text, data, "test")
    numbers = [s.words[2] for s in found]
    assert found and all(s.words == f"the number {n} is here among us .".split() for s, n in zip(found, numbers))
    assert len(set(numbers)) == len(numbers)
    names = [data.symbols[t] for t in found[0].symbols.tolist()]
    assert names == ["the", "number", "<NOUN>" if tags else "<unk>", "is", "here", "among", "us", "."]
    assert found[0].targets.tolist()[:-1] == found[0].symbols.tolist()[1:]
    assert data.symbols[found[0].follows] == ("<NOUN>" if tags else "<unk>")  # the quoted one begins with "a"


def test_a_text_without_such_sentences_is_refused():
    text, data = written()
    with pytest.raises(ValueError, match="no sentence of its valid documents has 6 to 14 words"):
        atlas.choose(replace(text, tokens=['"'] * len(text)), data, "valid")


def test_the_page_is_json_with_weights_that_sum_to_one(page):
    found = json.loads(json.dumps(page.to_dict(), allow_nan=False))
    assert found["steps"] == page.steps and found["switches"] == list(atlas.SWITCHES) and len(found["axes"]) == 2
    assert "profile smoke, seed 0" in found["about"] and "trained where this page was made" in found["about"]
    for sentence in found["sentences"]:
        n = len(sentence["words"])
        assert len(sentence["next"]) == len(sentence["read"]) == n
        assert [w == r for w, r in zip(sentence["words"], sentence["read"])] == [False] * n
        for walk in sentence["walks"]:
            assert np.shape(walk["path"]) == (6, n, 2) and np.shape(walk["near"]) == (6, n, 5)
            assert [found["tokens"][i][0] for i in np.array(walk["near"])[0, :, 0]] == [
                r or w.lower() for w, r in zip(sentence["words"], sentence["read"])
            ]  # at the embedding a word is nearest to itself
            rows = np.zeros((2, 2, n, n))
            rows[(..., *np.tril_indices(n))] = walk["weights"]
            assert np.abs(rows.sum(-1) - 100).max() <= n / 2  # rounded to whole percent
    assert len(json.dumps(found)) < 400_000


def test_what_is_off_is_seen_in_the_weights(page):
    whole, field, association = (w.weights for w in page.walks[0])
    n = len(page.sentences[0].words)
    log = field[0, 0].log()
    for r in range(1, n - 1):  # of the distance alone: the same from every word
        torch.testing.assert_close(log.diagonal(-r) - log.diagonal()[r:], (log[r, 0] - log[r, r]).expand(n - r))
    assert not torch.allclose(whole, association)


def test_the_still_picture_its_table_and_the_words(page):
    fig, table = atlas_figures.draw(page)
    assert isinstance(fig, Figure)
    plt.close(fig)
    words = sum(len(s.words) for s in page.sentences)
    assert len(table) == words * 3 * 6 and not table.isna().any().any()
    first = table[table["step"] == "embedding"].groupby(["sentence", "position"])["x"].nunique()
    assert (first == 1).all()  # the switches act later
    assert "200" not in atlas_prose.caption(page) and f"{len(page.vectors):,} token vectors" in atlas_prose.caption(
        page
    )
    text = atlas_prose.reading(page)
    assert "| embedding | 100% |" in text and f"{page.loss['field only']:.2f} with the field only" in text
    assert set(atlas_prose.numbers(page)) == {
        "atlas_everything", "atlas_field", "atlas_association", "atlas_plane", "atlas_next",
    }  # fmt: skip


def test_a_model_without_exponents_has_an_atlas_too(page):
    assert len(page.exponents) == 2 and all(len(k) == 2 for k in page.exponents)
    config = replace(page.config, model={**BODY, "encoding": "rotary"})
    torch.manual_seed(0)
    other = atlas.atlas(Transformer(config.model_config(page.data)).eval(), config, "smoke")
    assert other.to_dict()["exponents"] == [[], []]
    torch.testing.assert_close(other.walks[0][0].logits, other.walks[0][2].logits)  # no field, so none to switch off


def test_a_run_that_diverged_has_no_atlas(monkeypatch):
    monkeypatch.setattr(atlas, "run_grid", lambda configs, own: [{"status": "failed"} for _ in configs])
    assert atlas.measure("smoke") is None


def test_the_model_is_the_same_in_cpu_and_full():
    small, own, reference = (atlas_grids.GRIDS["atlas"](p)[0] for p in ("smoke", "cpu", "full"))
    assert own.id == reference.id != small.id


def test_the_live_figure_follows_its_still_one_and_notes_its_template(page, monkeypatch):
    shown = []
    for room in (figures, interactive):
        monkeypatch.setattr(room, "display", lambda data, raw, metadata: shown.append((data, metadata["agf"])))
    fig, table = atlas_figures.draw(page)
    live = {"text": "</script><b>", "σ": 1}
    interactive.publish(fig, "walk", "It walks.", "A <map>.", table, template="atlas", live=live, numbers={"n": 1})
    assert [m["kind"] for _, m in shown] == ["figure", "caption", "interactive"]
    assert any(t["name"] == "atlas.html" for t in shown[0][1]["provenance"]["texts"])
    text = shown[2][0]["text/html"]
    assert '{"text":"\\u003c/script>\\u003cb>","σ":1}' in text and 'aria-label="A &lt;map&gt;."' in text
    assert not re.search("__[A-Z]+__", text) and 'id="agf-walk"' in text
    assert provenance.texts()


def test_a_wrong_template_or_wrong_data_are_refused_before_anything_is_shown(page, monkeypatch):
    for room in (figures, interactive):
        monkeypatch.setattr(room, "display", lambda *_, **__: pytest.fail("shown"))
    fig = plt.figure()
    for template, live, message in (("map", {}, "unknown template 'map'; choose from atlas"),
                                    ("atlas", {"x": float("nan")}, "not JSON compliant")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            interactive.publish(fig, "walk", "c", "a", atlas_figures.table(page), template=template, live=live)
    plt.close(fig)


def test_the_template_asks_nobody_for_anything_and_is_small():
    text = TEMPLATE.read_text("utf-8")
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"\b(src|href|import|fetch|XMLHttpRequest|@import|url\()", text)
    assert len(text.encode()) < 60_000
    assert min(map(int, re.findall(r"(\d+)px(?:/| system)", text))) >= 12
