"""What ships under data/: comment lines skipped, unknown names listed, layouts, and the note of what was read."""

import pytest

from agf_core.sources import data_path, load, locate, read_table, table_notes, tables


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


def test_a_stored_result_is_noted_with_its_content_and_its_absence(package, monkeypatch):
    monkeypatch.setattr(load, "_loaded", [])
    assert tables.read_stored("runs", "mars.json") is None
    [absent] = load.loaded()
    assert locate.stale(absent) == ""

    path = package / "data/runs/mars.json"
    path.parent.mkdir()
    path.write_text('{"moons": 2}')
    assert tables.read_stored("runs", "mars.json") == {"moons": 2}
    assert locate.stale(absent) == f"{path} can be had now"
    present = load.loaded()[1]
    assert locate.stale(present) == "" and present["name"] == "runs/mars.json"
    path.write_text('{"moons": 3}')
    assert locate.stale(present) == f"runs/mars.json has changed at {path}"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"mars\.json is damaged \(.*\); restore it with git"):
        tables.read_stored("runs", "mars.json")
