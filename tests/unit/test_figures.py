"""Figures and sentences: what they show, and the record that the book's driver reads."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from agf_core import figures
from agf_core.figures import Estimate


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: (data by MIME type, metadata)."""
    calls: list[tuple[dict, dict]] = []
    monkeypatch.setattr(figures, "display", lambda data, raw, metadata: calls.append((data, metadata["agf"])))
    return calls


def line():
    fig, ax = plt.subplots()
    ax.plot([1, 2], [2, 1])
    return fig


def test_a_figure_is_vector_with_an_opaque_ground_and_closed(shown):
    fig = line()
    figures.publish(fig, "fall", "It falls.", "A falling line.", {"x": [1, 2], "y": [2, 1]})
    svg = shown[0][0]["image/svg+xml"]
    assert "<svg" in svg and re.search(r"fill: #ffffff", svg) and "<image" not in svg
    assert not plt.fignum_exists(fig.number)


def test_the_same_figure_gives_the_same_bytes(shown):
    for _ in range(2):
        figures.publish(line(), "fall", "It falls.", "A falling line.", {"x": [1, 2]})
    assert shown[0][0]["image/svg+xml"] == shown[2][0]["image/svg+xml"]


def test_the_record_is_json_and_holds_data_numbers_and_provenance(shown):
    numbers = {"k": Estimate(np.float64(1.5), 1.0, 2.0, "tokens"), "n": np.int64(3), "law": "power"}
    figures.publish(line(), "fall", "It falls.", "A line.", {"x": [1, 2], "y": [0.5, 0.25]}, numbers=numbers)
    record = json.loads(json.dumps(shown[0][1]))
    assert record["csv"] == "x,y\n1,0.5\n2,0.25\n"
    assert record["numbers"] == {
        "k": {"value": 1.5, "low": 1.0, "high": 2.0, "unit": "tokens"},
        "n": 3,
        "law": "power",
    }
    assert {"commit", "device", "parameters", "texts", "seconds"} <= set(record["provenance"])
    assert (record["caption"], record["alt"]) == ("It falls.", "A line.")


def test_outside_the_book_the_caption_and_the_data_come_with_the_figure(shown):
    figures.publish(line(), "fall", "It < falls.", "A line.", {"x": [1]})
    foot = shown[1][0]["text/html"]
    assert "It &lt; falls." in foot and 'download="fall.csv" href="data:text/csv;base64,eAox' in foot


@pytest.mark.parametrize(
    ("name", "caption", "alt", "data", "message"),
    [
        ("Fall 1", "c", "a", {"x": [1]}, "lower-case letters"),
        ("fall", " ", "a", {"x": [1]}, "empty caption"),
        ("fall", "c", "", {"x": [1]}, "empty alt"),
        ("fall", "c", "a", {"x": []}, "no data"),
    ],
)
def test_a_figure_without_its_parts_is_refused(shown, name, caption, alt, data, message):
    fig = line()
    with pytest.raises(ValueError, match=message):
        figures.publish(fig, name, caption, alt, data)
    plt.close(fig)
    assert not shown


def test_a_sentence_takes_its_numbers_from_the_run(shown):
    figures.say("falls as {k:.2f}, by {n:,} words", k=Estimate(1.234, 1.0, 1.5), n=12345)
    data, record = shown[0]
    assert data["text/markdown"] == "falls as 1.23 [1.00, 1.50], by 12,345 words"
    assert record["numbers"]["n"] == 12345 and record["numbers"]["k"]["low"] == 1.0


def test_an_estimate_prints_its_unit_and_interval():
    assert f"{Estimate(2, 1, 3, 'tokens'):.1f}" == "2.0 tokens [1.0, 3.0]"
    assert str(Estimate(2.0, 1.0, 3.0)) == f"{Estimate(2.0, 1.0, 3.0)}" == "2 [1, 3]"
