"""The driver as its users meet it: a small book, built, changed, broken, interrupted and mended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mini
import pytest

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


def test_what_chapters_share_is_trained_once_before_they_run(tmp_path):
    root = mini.make(
        tmp_path, one=mini.chapter(shares_runs=True), two=mini.chapter(shares_runs=True), three=mini.chapter()
    )
    (root / "book/index.md").write_text("# Mini\n")
    runs = root / "agf_core/runs.py"
    runs.write_text("import sys\nprint('trained', *sys.argv[1:], flush=True)\n")
    done = build(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained --profile smoke one two\n" in done.stdout
    assert done.stdout.index("trained --profile") < done.stdout.index("run   one")
    assert "train" not in build(root).stdout
    runs.write_text("import sys\nsys.exit(3)\n")
    assert "the shared training runs failed" in build(root, "--fresh").stderr
