"""The driver as its users meet it: a small book, built, changed, broken, interrupted and mended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mini
import pytest

from book.driver import stage

BROKEN = mini.chapter("from agf_core import figures\nfigures.say('so far')\nraise RuntimeError('the sky fell')")


def build(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "book/build.py", "--profile", "smoke", *arguments]
    env = {**os.environ, "AGF_STORE": str(root / ".agf"), **environment}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=180, check=False)


def page(root: Path, name: str) -> str:
    return (root / "_build/html" / f"{name}.html").read_text()


@pytest.fixture
def book(tmp_path):
    return mini.make(tmp_path, letters=mini.chapter())


def test_built_skipped_changed_and_given_parameters(book):
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "never run in profile smoke" in done.stdout
    html = page(book, "notebooks/letters")
    assert "It falls. The line is a line." in html and 'alt="A line that is falling."' in html and "Fig. 1" in html
    assert "The word has <strong>9</strong> letters." in html
    assert "Letters: 9." in page(book, "index")
    assert (book / "_build/html/_static/data/letters-fall.csv").read_text() == "x,y\n1,3\n2,2\n3,1\n"
    executed = (book / "_build/html/_static/notebooks/letters.ipynb").read_text()
    assert "It falls" in executed and str(book) not in executed
    rows = re.findall(r"<tr.*?</tr>", page(book, "ledger"), re.DOTALL)
    assert sum("not run" in row and "claim-a1" in row for row in rows) == 1

    again = build(book)
    assert "skip  letters: nothing it depends on changed" in again.stdout and "skip  site" in again.stdout

    (book / "agf_core/provenance.py").write_text(
        (book / "agf_core/provenance.py").read_text().replace("(ours).", "(ours, other words).")
    )
    reworded = build(book)
    assert "skip  letters" in reworded.stdout and "build site" in reworded.stdout  # the API pages show docstrings

    variant = build(book, "--notebook", "letters", "--parameters", "-p word gravity")
    assert variant.returncode == 0, variant.stdout + variant.stderr
    assert "The word has <strong>7</strong> letters." in page(book, "notebooks/letters--word-gravity")
    assert "<h1>How long is a word? (word = gravity)" in page(book, "notebooks/letters--word-gravity")
    assert "letters--word-gravity.html" in page(book, "notebooks/letters")
    assert "Letters: 9." in page(book, "index")


def test_a_live_figure_is_staged_as_html_for_its_picture():
    """Beside the picture, its caption and its data, which stay for print and for readers without scripts."""
    provenance = {"parameters": {"profile": "smoke"}, "commit": "v1", "device": "a CPU", "seconds": 1}
    still = {"kind": "figure", "name": "walk", "caption": "It walks.", "alt": "A map.", "csv": "x\n1\n"}
    outputs = [
        ({"image/svg+xml": "<svg/>"}, {**still, "provenance": provenance}),
        ({"text/html": "<p>foot</p>"}, {"kind": "caption", "name": "walk"}),
        ({"text/html": "<div>\n\n    live ```` </div>"}, {"kind": "interactive", "name": "walk"}),
    ]
    cell = mini.cell("code", "show()")
    cell["outputs"] = [{"output_type": "display_data", "data": d, "metadata": {"agf": m}} for d, m in outputs]
    made, files = stage.executed_page({"cells": [cell], "metadata": {}}, "letters", [])
    shown = [c["source"] for c in made["cells"] if c["cell_type"] == "markdown"]
    assert len(shown) == 2 and ":name: fig-letters-walk" in shown[0] and "It walks." in shown[0]
    assert shown[1].startswith('`````{raw} html\n<div data-for="fig-letters-walk">\n<div>') and "live" in shown[1]
    assert files["figures/letters-walk.svg"] == "<svg/>" and files["_static/data/letters-walk.csv"] == "x\n1\n"
    assert "foot" not in json.dumps(made)


def test_wrong_requests_are_refused_with_the_choices(book):
    for arguments, message in (
        (("--notebook", "lettres"), "no chapter 'lettres'; the chapters are letters"),
        (("--notebook", "letters", "--parameters", "-p wrod x"), "no parameter 'wrod'; it has word, profile, seed"),
        (("--notebook", "letters", "--parameters", "-p profile full"), "use PROFILE=full"),
        (("--notebook", "letters", "--parameters", "word x"), "expected -p NAME VALUE"),
        (("--parameters", "-p word x"), "parameters belong to one chapter"),
    ):
        done = build(book, *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (book / "_build/executed").exists()
    wrong = build(book, "--notebook", "letters", "--parameters", "-p seed -3")
    assert wrong.returncode == 1 and "parameter 'seed' is -3 (int); expected int, 0 to 4294967295" in wrong.stdout
    assert not list((book / "_build/html/notebooks").glob("letters--*"))


def test_a_failed_chapter_is_named_and_the_others_go_on(tmp_path):
    root = mini.make(tmp_path, letters=mini.chapter(), broken=BROKEN)
    done = build(root)
    assert done.returncode == 1
    assert "RuntimeError: the sky fell" in done.stdout and "cell 5 “from agf_core import figures”" in done.stdout
    assert "has not run in profile" in page(root, "notebooks/broken") and "so far" not in page(root, "notebooks/broken")
    assert "It falls" in page(root, "notebooks/letters")
    assert "the sky fell" in page(root, "status")

    path = root / "book/notebooks/broken.ipynb"
    path.write_text(mini.chapter())
    assert build(root).returncode == 0
    path.write_text(BROKEN)
    worse = build(root)
    assert worse.returncode == 1 and "skip  letters" in worse.stdout
    html = page(root, "notebooks/broken")  # the last good page stays, marked
    assert "This page is old" in html and "It falls" in html
    assert build(root).returncode == 1  # and fails again until it is mended


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_resumes_with_what_was_finished(tmp_path, how):
    slow = mini.chapter("from agf_core import params\nparams.check(globals())\nimport time\ntime.sleep(60)")
    root = mini.make(tmp_path, letters=mini.chapter(), slow=slow)
    command = [sys.executable, "book/build.py", "--profile", "smoke"]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ, "AGF_WORKERS": "1"}
    )
    records = root / "_build/executed/smoke"
    deadline = time.monotonic() + 60
    running = records / "running"
    while time.monotonic() < deadline and not (
        (records / "letters.json").exists() and list(running.glob("*slow.ipynb"))
    ):
        time.sleep(0.1)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads((records / "letters.json").read_text())["status"] == "ok"
    assert not list(records.glob("slow.*")) and not list(running.iterdir())
    (root / "book/notebooks/slow.ipynb").write_text(mini.chapter())
    done = build(root)
    assert done.returncode == 0 and "skip  letters" in done.stdout and "never run" in done.stdout


def test_a_chapter_marked_exclusive_runs_alone_with_all_cores(tmp_path):
    look = (
        "import json, os, pathlib, time\nfrom agf_core import params\nparams.check(globals())\n"
        "start = time.time(); time.sleep(0.7); threads = os.environ['OMP_NUM_THREADS']\n"
        "pathlib.Path(os.environ['SPANS'], '{}').write_text(json.dumps([start, time.time(), threads]))"
    )
    names = {"one": False, "two": False, "alone": True}
    root = mini.make(tmp_path, **{n: mini.chapter(look.format(n), exclusive=e) for n, e in names.items()})
    (root / "book/index.md").write_text("# Mini\n")
    spans = tmp_path / "spans"
    spans.mkdir()
    done = build(root, AGF_WORKERS="2", SPANS=str(spans))
    assert done.returncode == 0, done.stdout + done.stderr
    span = {n: json.loads((spans / n).read_text()) for n in names}
    assert span["one"][0] < span["two"][1] and span["two"][0] < span["one"][1]
    assert span["alone"][0] > max(span["one"][1], span["two"][1])
    assert int(span["alone"][2]) == os.cpu_count() and int(span["one"][2]) == max(1, os.cpu_count() // 2)


def test_a_page_that_quotes_a_number_nobody_recorded_is_refused(book):
    (book / "book/index.md").write_text("# Mini\n\n{number}`letters.lettres`\n")
    done = build(book)
    assert done.returncode == 2
    assert "book/index.md: letters recorded no number 'lettres'; it recorded length, letters" in done.stderr


def test_a_damaged_record_is_run_again(book):
    assert build(book).returncode == 0
    (book / "_build/executed/smoke/letters.json").write_text("{")
    assert "run   letters" in build(book).stdout


def test_a_broken_page_fails_the_build_and_is_named(book):
    (book / "book/index.md").write_text("# Mini\n\n[nowhere](nowhere.md)\n")
    done = build(book)
    assert done.returncode == 1 and "index.md" in done.stdout and "nowhere" in done.stdout


@pytest.fixture
def sharing(tmp_path):
    """A book of two chapters that share runs and one that does not, with a stub in the place of the runs."""
    own = {name: mini.chapter(mini.USE_RUNS, shares_runs=True) for name in ("one", "two")}
    root = mini.make(tmp_path, **own, three=mini.chapter())
    (root / "book/index.md").write_text("# Mini\n")
    shutil.rmtree(root / "agf_core/runs")
    (root / "agf_core/runs.py").write_text(mini.RUNS)
    return root


def test_what_chapters_share_is_trained_once_before_they_run(sharing):
    done = build(sharing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained --profile smoke one two\n" in done.stdout and done.stdout.count("trained") == 1
    assert done.stdout.index("trained --profile") < done.stdout.index("run   one")

    before = os.times()
    again = build(sharing, PYTHONPROFILEIMPORTTIME="1")
    cpu = sum(os.times()[2:4]) - sum(before[2:4])
    assert "train" not in again.stdout and again.stdout.count("skip") == 4  # the chapters and the site
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines() if "import time:" in line}
    assert "agf_core.freshness" in imported and not {"torch", "pandas", "IPython", "papermill"} & imported
    assert cpu < 2.0, cpu  # processor time: others may be at work here

    path = sharing / "book/notebooks/two.ipynb"
    path.write_text(path.read_text().replace("A question in one line.", "A question."))
    assert "trained --profile smoke two\n" in build(sharing).stdout

    runs = sharing / "agf_core/runs.py"
    runs.write_text(runs.read_text().replace('"trained"', '"trained again"'))
    changed = build(sharing).stdout
    assert "trained again --profile smoke one two\n" in changed and "skip  three" in changed
    assert changed.count("library changed: agf_core.runs") == 2

    runs.write_text("import sys\nsys.exit(3)\n")
    assert "the shared training runs failed" in build(sharing).stderr


def test_a_stored_result_reruns_its_chapters_and_its_verdict_is_of_reference_runs(sharing):
    assert build(sharing).returncode == 0
    stored = sharing / "data/runs/mini.json"
    stored.parent.mkdir()
    stored.write_text(json.dumps({"share": 0.9, "ci": [0.8, 1.0], "made": "a1b2c3, one GPU, 2026-01-02"}))
    done = build(sharing).stdout
    assert done.count("text: data/runs/mini.json can be had now") == 2 and "skip  three" in done
    html = page(sharing, "ledger")
    [row] = [r for r in re.findall(r"<tr.*?</tr>", html, re.DOTALL) if "#claim-a4" in r]
    assert "reference runs" in row and ">supported<" in row
    assert "a1b2c3, one GPU, 2026-01-02" in html and "Agrees: 0.8." in html
    assert "Agrees: 0.8." in page(sharing, "notebooks/one")

    stored.write_text(json.dumps({"share": 0.3, "ci": [0.2, 0.4], "made": "d4e5f6, one GPU, 2026-01-03"}))
    assert build(sharing).stdout.count("text: runs/mini.json has changed at data/runs/mini.json") == 2
    assert "Earlier: supported" in page(sharing, "ledger") and "Earlier: not supported" not in page(sharing, "ledger")


def test_interrupted_training_ends_with_its_workers_and_keeps_what_it_has(sharing):
    (sharing / "agf_core/runs.py").write_text(
        "import pathlib, subprocess, sys\nworker = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path('worker').write_text(str(worker.pid))\n"
        "try:\n    worker.wait()\nexcept KeyboardInterrupt:\n    pathlib.Path('kept').touch()\n"
    )
    command = [sys.executable, "book/build.py", "--profile", "smoke"]
    process = subprocess.Popen(command, cwd=sharing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not ((sharing / "worker").exists() and (sharing / "worker").read_text()):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=30) == 130 and (sharing / "kept").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((sharing / "worker").read_text()), 0)
    assert not (sharing / "_build/executed/smoke").exists()
