"""Markdown docstrings as reStructuredText: what autodoc would otherwise misread."""

import docutils.core
import pytest

from book.driver.docstrings import to_rst

CASES = {
    "bars and stars": ("reads |r| and (H, *shape), 2*3", "<p>reads |r| and (H, *shape), 2*3</p>"),
    "trailing underscore": ("the key break_ and `exponent2`", ">exponent2</tt>"),
    "code before a letter": ("`Field`s are", ">Field</tt>s are"),
    "list without a gap": ("Two:\n- one\n- two", "<li>one</li>"),
    "indented block": ("Call it:\n\n    attend(q, *k)\n\nThen on.", "attend(q, *k)\n</pre>"),
    "table": ("Laws:\n\n| law | g |\n|---|---|\n| power | `x^-k` |\n\nThen on.", "<th"),
}


@pytest.mark.parametrize("name", CASES)
def test_markdown_becomes_clean_rst(name):
    text, expected = CASES[name]
    settings = {"report_level": 2, "halt_level": 2, "xml_declaration": False}
    html = docutils.core.publish_parts(
        "\n".join(to_rst(text.split("\n"))), writer_name="html", settings_overrides=settings
    )
    assert expected in html["body"]


def test_google_sections_are_left_to_napoleon():
    text = "Sum.\n\nArgs:\n    x: shape (N,), `float`\n\nReturns:\n    a number"
    assert "    x: shape (N,), ``float``" in to_rst(text.split("\n"))
