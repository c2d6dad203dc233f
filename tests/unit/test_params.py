"""Parameters: right ones pass and are noted; each kind of wrong one is refused with its choices."""

import builtins
import math

import pytest

from agf_core import params, provenance


def notebook(declaration: str, injected: str = "") -> dict:
    """A notebook's namespace after its parameters cell and, where there is one, papermill's injected cell."""
    namespace: dict = {"In": ["", declaration], "__builtins__": builtins, "math": math}
    exec(declaration, namespace)
    if injected:
        cell = "# Parameters\n" + injected
        exec(cell, namespace)
        namespace["In"].append(cell)
    return namespace


DECLARED = 'word: str = "beautiful"\nwindow: int = 20\nprofile: str = "cpu"\nseed: int = 0'


def test_values_are_returned_and_noted_for_the_provenance():
    values = params.check(notebook(DECLARED, 'word = "gravity"'))
    assert values == {"word": "gravity", "window": 20, "profile": "cpu", "seed": 0}
    assert provenance.provenance()["parameters"] == values


def test_a_plain_mapping_is_checked_too():
    assert params.check({"window": 5}) == {"window": 5}
    with pytest.raises(ValueError, match=r"unknown parameter 'windw'.*Did you mean 'window'"):
        params.check({"windw": 5})


def test_a_name_that_papermill_injected_but_the_notebook_does_not_declare_is_refused():
    with pytest.raises(ValueError, match=r"unknown parameter 'wrod'.*'word'.*word \(str"):
        params.check(notebook(DECLARED, 'wrod = "gravity"'))
    with pytest.raises(ValueError, match="unknown parameter 'corpus'"):  # known elsewhere, not in this notebook
        params.check(notebook(DECLARED, 'corpus = "brown"'))


def test_variables_of_an_interactive_session_are_no_parameters():
    namespace = notebook(DECLARED)
    namespace["result"] = 3
    assert "result" not in params.check(namespace)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("window = 4", "'window' is 4 .int.*5 to 200"),
        ("window = 20.0", "'window' is 20.0 .float.; expected int"),
        ("window = True", "'window' is True .bool.; expected int"),
        ('word = "two words"', "one word, without spaces"),
        ("word = 1984", "'word' is 1984 .int.; expected str"),
        ('profile = "gpu"', "one of smoke, cpu, full"),
        ("seed = -1", "0 to 4294967295"),
    ],
)
def test_wrong_values_name_what_was_given_and_what_is_expected(line, message):
    with pytest.raises(ValueError, match=message):
        params.check(notebook(DECLARED, line))


def test_a_corpus_is_a_name_a_generated_language_or_a_file(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("Some words.")
    for corpus in ("brown", "generated:exponential:rate=0.3", str(text)):
        params.check({"corpus": corpus})
    with pytest.raises(ValueError, match=r"brwn.*one of .*treebank.*Did you mean 'brown'"):
        params.check({"corpus": "brwn"})


def test_a_declared_name_without_a_meaning_is_the_authors_error():
    with pytest.raises(ValueError, match="unknown parameter 'colour'"):
        params.check(notebook('colour: str = "red"'))
