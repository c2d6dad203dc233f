"""What the repository promises about itself, checked without the tools that can't run here."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="reads TOML with Python 3.11's own reader")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "book/notebooks").glob("*.ipynb"))


def lock() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pairs = [line.split(";")[0].split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): Version(version) for name, version in pairs}


def test_the_lock_pins_everything_that_is_declared_within_its_range():
    pinned = lock()
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["book"], *extras["test"]]:
        need = Requirement(text)
        version = pinned[need.name.lower().replace("_", "-")]
        assert version in need.specifier, f"{text}: the lock has {version}"
        assert version.local is None  # no build of one machine


def test_the_conda_environment_agrees_with_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "python=3.11" in environment["dependencies"]
    [pip] = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert "-r requirements.lock" in pip and "--no-deps -e ." in pip


def test_the_release_has_one_number():
    import agf_core

    version = agf_core.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["branch"] == f"v{version}"
    assert f"version {version}" in (ROOT / "book/cite.md").read_text()


@pytest.mark.parametrize("name", ["test", "book", "weekly"])
def test_workflows_are_well_formed_and_call_targets_that_exist(name):
    workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert workflow[True] and workflow["permissions"]  # YAML reads `on` as true
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["steps"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if command := re.match(r"make (\w+)", step.get("run", "")):
                assert command[1] in targets
            if script := re.match(r"bash (\S+)", step.get("run", "")):
                assert (ROOT / script[1]).is_file()


def test_every_makefile_target_is_explained():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split()
    assert set(phony) == {"help", "setup", "book", "test", "serve", "bench", "colab", "clean"}
    explained = re.findall(r"^([a-z]+):.*## \S", text, re.MULTILINE)
    assert set(explained) == set(phony)


def test_imports_run_one_way():
    """fields → attention → … ; fitting and sources know nothing of models, and the library nothing of the book."""
    order = ["fields", "attention", "encodings", "model", "evaluation", "training", "runs", "analysis"]
    for path in (ROOT / "agf_core").rglob("*.py"):
        room = path.relative_to(ROOT / "agf_core").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{a.name}" for a in node.names]
            for name in names:
                assert name.split(".")[0] != "book", f"{path} imports {name}"
                to = name.split(".")[1] if name.startswith("agf_core.") else ""
                if to in order and room in order:
                    assert order.index(to) <= order.index(room), f"{path} imports {name}"
                if room in ("fitting", "sources"):
                    assert to not in order, f"{path} imports {name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_tracked_clean_and_follow_the_house(path):
    from agf_core.params import KNOWN

    notebook = json.loads(path.read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert not any(c["outputs"] or c["execution_count"] for c in code)
    assert max(len(c["source"]) for c in code) <= 25, "computation belongs in agf_core, with a test"
    [parameters] = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    declared = [n.target.id for n in ast.parse("".join(parameters["source"])).body]  # every line is annotated
    assert {"profile"} <= set(declared) <= set(KNOWN)
    seconds = notebook["metadata"]["agf_core"]["seconds"]
    assert set(seconds) == {"smoke", "cpu", "full"}
    prose = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    assert prose.startswith("# ") and not re.search(
        r"^:::|^```\{|\{(?:glue|numref|ref|cite|number)\}`", prose, re.MULTILINE
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_first_cells_are_what_make_colab_writes(path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from book.colab import first_cell

    first = json.loads(path.read_text())["cells"][0]
    assert "".join(first["source"]) == first_cell(), "run `make colab`"
    assert "colab" in first["metadata"]["tags"]


@pytest.mark.parametrize("url", ["", "https://github.com/some/where/"])
def test_the_colab_cell_and_link_follow_the_configuration(url, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from book.colab import first_cell
    from book.driver.config import colab_link, staged_config

    text = re.sub(r'(?m)^  url: ""', f'  url: "{url}"', (ROOT / "_config.yml").read_text())
    (tmp_path / "_config.yml").write_text(text)
    cell = first_cell(tmp_path)
    ast.parse(cell)
    staged = yaml.safe_load(staged_config(tmp_path / "build", tmp_path).read_text())
    if url:
        assert "git+https://github.com/some/where@v" in cell and '("torch", "numpy")' in cell
        place = "https://colab.research.google.com/github/some/where/blob/v"
        link = colab_link("newton", tmp_path)
        assert link.startswith(place) and link.endswith("/book/notebooks/newton.ipynb")
        assert staged["launch_buttons"]["colab_url"]
    else:
        assert "no public address yet" in cell and "git+" not in cell
        assert colab_link("newton", tmp_path) == "" and not staged["launch_buttons"]["colab_url"]


def test_nothing_tracked_is_a_corpus_or_large():
    for path in (ROOT / "data").rglob("*"):
        assert path.is_dir() or path.stat().st_size < 2_000_000, path
