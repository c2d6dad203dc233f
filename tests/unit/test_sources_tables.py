"""Reference tables: comment lines skipped, unknown names listed, checkout and wheel layouts."""

import pytest

from agf_core.sources import data_path, read_table, table_notes, tables


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_PACKAGE", tmp_path / "agf_core")
    folder = tmp_path / "data/reference"
    folder.mkdir(parents=True)
    (folder / "moons.csv").write_text('# Moons of Mars\n# licence: public domain\nname,note\nPhobos,"#1, inner"\n')
    return tmp_path


def test_read_table_and_notes(package):
    table = read_table("moons")
    assert table.to_dict("records") == [{"name": "Phobos", "note": "#1, inner"}]
    assert table_notes("moons") == ["Moons of Mars", "licence: public domain"]


def test_unknown_table_lists_the_known(package):
    with pytest.raises(ValueError, match=r"'moon' \(near: moons\); expected one of moons"):
        read_table("moon")


def test_wheel_layout_wins_when_present(package):
    assert data_path("runs") == package / "data/runs"
    (package / "agf_core/data").mkdir(parents=True)
    assert data_path("runs") == package / "agf_core/data/runs"
