"""Build the book: plan from content hashes → train what is shared → run chapters → stage → Jupyter Book.

    python book/build.py --profile cpu
    python book/build.py --notebook following_words --parameters "-p word gravity"

`make book` calls it. Only what depends on something that changed is run again, and a line says why each thing runs or
is skipped. With nothing changed it takes a second or two, and never waits for torch.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agf_core.freshness import Library  # noqa: E402
from book.driver.plan import PROFILES, Chapter, Page, fingerprint, read_chapter, why_run  # noqa: E402
from book.driver.run import Job, Store, run_all  # noqa: E402
from book.driver.site import render  # noqa: E402
from book.driver.sources import BOOK, write_sources  # noqa: E402
from book.driver.stage import Staging  # noqa: E402

BUILD = ROOT / "_build"
GRACE = 10.0  # seconds that interrupted training has to put away what it has


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    start = time.monotonic()
    for name in ("SIGTERM", "SIGHUP"):  # a polite kill or a closed terminal ends the workers too; nohup stays nohup
        if (number := getattr(signal, name, None)) and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        chapters = find_chapters()
        failed = build(chapters, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept; the same command goes on from there", file=sys.stderr)
        return 130
    print(f"{'FAILED' if failed else 'ready'} in {time.monotonic() - start:.1f} s: {BUILD / 'html' / 'index.html'}")
    return 1 if failed else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="cpu", choices=PROFILES, help="how much is computed (default: cpu)")
    parser.add_argument("--notebook", default="", metavar="NB", help="run this chapter only")
    parser.add_argument(
        "--parameters", default="", metavar="P", help='as for papermill: "-p word gravity -p window 40"'
    )
    parser.add_argument("--fresh", action="store_true", help="run again even where nothing changed")
    options = parser.parse_args(arguments)
    if options.parameters and not options.notebook:
        parser.error('parameters belong to one chapter: add its name, as in NB=following_words P="-p word gravity"')
    return options


def find_chapters() -> list[Chapter]:
    """The chapters in the order of the table of contents."""
    toc = (BOOK / "_toc.yml").read_text(encoding="utf8")
    names = re.findall(r"file: notebooks/(\w+)", toc)
    found = {p.stem: p for p in (BOOK / "notebooks").glob("*.ipynb")}
    if set(names) != set(found):
        raise ValueError(f"book/_toc.yml lists the notebooks {sorted(names)}, the folder holds {sorted(found)}")
    return [read_chapter(found[name]) for name in names]


def build(chapters: list[Chapter], options: argparse.Namespace) -> bool:
    """Run what must run and render the site. True if anything failed."""
    profile = options.profile
    store = Store(BUILD / "executed" / profile)
    library = Library()
    wanted = [page_of(chapters, options)] if options.notebook else [Page(c, {}) for c in chapters]
    jobs = []
    for page in wanted:
        new = fingerprint(page, profile, library)
        record = store.record(page.name) if store.notebook(page.name).is_file() else None
        reason = why_run(record, new, options.fresh)
        if reason is None and record:
            when = f"{record['started'][:16]} ({record['seconds']:.0f} s)"
            print(f"skip  {page.name}: nothing it depends on changed since {when}")
        else:
            seconds = record["seconds"] if record and record["status"] == "ok" else page.chapter.seconds.get(profile)
            jobs.append(Job(page, reason or "", new, seconds))
    train([j.page.chapter for j in jobs], profile)
    failed = run_all(jobs, store, profile)
    staging = Staging(BUILD / "src")
    write_sources(staging, chapters, store, profile, library)
    return not render(staging, BUILD) or bool(failed)


def page_of(chapters: list[Chapter], options: argparse.Namespace) -> Page:
    """The one page that was asked for, its parameters checked by name (their values are the notebook's to check)."""
    chapter = next((c for c in chapters if c.name == options.notebook), None)
    if chapter is None:
        raise ValueError(f"no chapter {options.notebook!r}; the chapters are {', '.join(c.name for c in chapters)}")
    given = read_parameters(options.parameters)
    for name, value in given.items():
        if name == "profile":
            raise ValueError(f"the profile is not a parameter here: use PROFILE={value}")
        if name not in chapter.defaults:
            raise ValueError(f"{chapter.name} has no parameter {name!r}; it has {', '.join(chapter.defaults)}")
        if isinstance(value, str) and Path(value).is_file():
            given[name] = str(Path(value).resolve())
    return Page(chapter, {k: v for k, v in given.items() if v != chapter.defaults[k]})


def read_parameters(text: str) -> dict[str, Any]:
    """`-p name value` reads the value as a number or true/false where it can, `-r name value` as text; as papermill."""
    words, given = shlex.split(text), {}
    for i in range(0, len(words), 3):
        flag, name, value = (*words[i : i + 3], "", "")[:3]
        if flag not in ("-p", "-r") or len(words[i : i + 3]) < 3:
            raise ValueError(f"parameters {text!r}: expected -p NAME VALUE (or -r for text), as in -p word gravity")
        given[name] = value if flag == "-r" else _typed(value)
    return given


def _typed(value: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    try:
        return words[value.lower()] if value.lower() in words else ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def train(chapters: list[Chapter], profile: str) -> None:
    """Train the union of the chapters' runs on all cores, before any of them starts."""
    names = [c.name for c in chapters if c.shares_runs]
    if not names:
        return
    print(f"train what is shared by {', '.join(names)}", flush=True)
    command = [sys.executable, "-m", "agf_core.runs", "--profile", profile, *names]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)  # Ctrl-C is the driver's to handle
    try:
        failed = process.wait()
    except KeyboardInterrupt:  # pass it on to the whole group, with the time to keep what is finished
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # no worker outlives the training
        raise
    if failed:
        raise ValueError("the shared training runs failed (see above); finished runs are kept and will not be repeated")


if __name__ == "__main__":
    if shutil.which("git") is None:
        print("note: git is not here, so pages can't name the commit they were made from")
    sys.exit(main())
