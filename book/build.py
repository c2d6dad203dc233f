"""Build the book: plan from content hashes → train what is shared → run chapters → stage → Jupyter Book.

    python book/build.py --profile cpu
    python book/build.py --notebook following_words --parameters "-p word gravity"

`make book` calls it. Only what depends on something that changed is run again, and a line says why each thing runs or
is skipped. With nothing changed it takes a second or two and needs the standard library alone.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from book.driver import pages, stage  # noqa: E402
from book.driver.config import colab_link, staged_config  # noqa: E402
from book.driver.plan import Chapter, Library, Page, fingerprint, read_chapter, sha, why_run  # noqa: E402
from book.driver.run import Job, Store, outputs_of, run_all, write_atomically  # noqa: E402

BOOK = ROOT / "book"
BUILD = ROOT / "_build"
PROFILES = ("smoke", "cpu", "full")
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")  # of 24 MB, what the pages use


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the workers too
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
    staging, has_failed = stage.Staging(BUILD / "src"), bool(failed)
    write_sources(staging, chapters, store, profile, library)
    return not render(staging) or has_failed


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
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise ValueError("the shared training runs failed (see above); finished runs are kept and will not be repeated")


def write_sources(
    staging: stage.Staging, chapters: list[Chapter], store: Store, profile: str, library: Library
) -> None:
    results, variants, numbers = [], {}, {}
    for chapter in chapters:
        variants[chapter.name] = store.variants(chapter.name)
        result = read_result(chapter, store, profile, library)
        results.append(result)
        numbers[chapter.name] = stage.numbers_of(result.outputs)
        write_chapter(staging, result, store, profile, variants[chapter.name])
    has_run = {r.chapter.name for r in results if r.started}
    fragments = {
        "ledger": lambda: pages.ledger(results, profile, state_folder() / "verdicts.json"),
        "status": lambda: pages.status(results, variants, profile),
        "figures": lambda: pages.figures(results),
        "parameters": lambda: pages.parameters(chapters),
        "minutes": lambda: pages.minutes(chapters, {p: Store(store.folder.parent / p) for p in PROFILES}),
        "corpora": pages.corpora,
        "tables": pages.tables,
    }
    for path in sorted(BOOK.glob("*.md")):
        text = stage.fill_numbers(path.read_text(encoding="utf8"), numbers, f"book/{path.name}", has_run)
        staging.write(path.name, re.sub(r"<!-- fill: (\w+) -->", lambda m: fragments[m[1]](), text))
    for path in [BOOK / "_toc.yml", BOOK / "references.bib", *sorted((BOOK / "_static").rglob("*"))]:
        if path.is_file():
            staging.copy(path, str(path.relative_to(BOOK)))
    copy_mathjax(staging)
    staging.sweep()


def state_folder() -> Path:
    from agf_core.sources import locate

    return locate.store()


def read_result(chapter: Chapter, store: Store, profile: str, library: Library) -> pages.Result:
    """What there is of a chapter's default run; `old` says why it no longer holds."""
    record, notebook = store.record(chapter.name), store.notebook(chapter.name)
    if not notebook.is_file():
        return pages.Result(chapter, record, [], "", None, "")
    made = stage.load(notebook)["metadata"]["papermill"]
    old = why_run(record, fingerprint(Page(chapter, {}), profile, library), False) or ""
    return pages.Result(chapter, record, outputs_of(notebook), made["start_time"][:19], made["duration"], old)


def write_chapter(
    staging: stage.Staging, result: pages.Result, store: Store, profile: str, variants: list[str]
) -> None:
    chapter = result.chapter
    others = [f"[{v.split('--')[1]}]({v}.ipynb)" for v in variants]
    if not result.started:
        error = (result.record or {}).get("error")
        why = f" Its run failed in {error['where']}: {error['name']}." if error else ""
        notice = (
            f":::{{warning}}\nThis chapter has not run in profile `{profile}` yet.{why} Its numbers are *not run*.\n:::"
        )
        write_notebook(staging, chapter.name, stage.stub_page(chapter, notice))
    for page in [*([chapter.name] if result.started else []), *variants]:
        notebook = stage.load(store.notebook(page))
        made = notebook["metadata"]["papermill"]
        notices = [made_line(page, made, profile)]
        if page == chapter.name and others:
            notices.append("Other runs of this chapter: " + ", ".join(others) + ".")
        if page == chapter.name and result.old:
            notices.append(
                f":::{{warning}}\nThis page is old: {result.old}. It shows the last run that went well.\n:::"
            )
        if page != chapter.name:
            given = ", ".join(f"{k} = {v}" for k, v in made["parameters"].items() if k != "profile")
            back = f"[the chapter itself]({chapter.name}.ipynb)"
            notices.append(f":::{{note}}\nA run with {given}; the ledger and other pages quote {back}.\n:::")
        content, files = stage.executed_page(notebook, page, notices)
        content["metadata"]["orphan"] = page != chapter.name
        write_notebook(staging, page, content)
        for name, text in files.items():
            staging.write(name, text)


def made_line(page: str, made: dict[str, Any], profile: str) -> str:
    """One line under the title: when and how this page was made, and how to make it oneself."""
    when = made["start_time"][:16].replace("T", " ")
    colab = colab_link(page.split("--")[0])
    return (
        f'<p class="agf-run">Run on {when} UTC in {made["duration"]:.0f} s, profile {profile} · '
        + (f'<a class="agf-button" href="{colab}">Open in Colab</a> · ' if colab else "")
        + f'<a href="../_static/notebooks/{page}.ipynb" download>executed notebook</a> · '
        '<a href="../reproduce.html">run it yourself</a></p>'
    )


def write_notebook(staging: stage.Staging, page: str, content: dict[str, Any]) -> None:
    import json

    staging.write(f"notebooks/{page}.ipynb", json.dumps(content, indent=1, ensure_ascii=False))


def copy_mathjax(staging: stage.Staging) -> None:
    """Maths rendering travels with the site: it comes from a package at set-up, and is never committed."""
    folder = Path(sysconfig.get_path("purelib")) / "sphinx-mathjax-offline" / "static" / "mathjax"
    if not folder.is_dir():
        raise ValueError(f"MathJax is not installed ({folder} is missing); run `make setup`")
    for name in MATHJAX:
        for path in sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name]:
            staging.copy(path, f"_static/mathjax/{path.relative_to(folder)}")


def render(staging: stage.Staging) -> bool:
    """Jupyter Book over the staged sources, warnings as errors; skipped if nothing it reads has changed."""
    stamp, key = BUILD / "html.stamp", site_key(staging)
    if stamp.is_file() and stamp.read_text() == key and (BUILD / "html" / "index.html").is_file():
        print("skip  site: no page changed")
        return True
    stamp.unlink(missing_ok=True)
    print("build site", flush=True)
    cli = "from jupyter_book.cli.main import main; main()"  # the package can't be run with -m
    command = [sys.executable, "-c", cli, "build", str(staging.folder), "--path-output", str(ROOT)]
    command += ["--config", str(staged_config(BUILD)), "-W", "-n", "--keep-going"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    log = BUILD / "site.log"
    log.write_text(done.stdout + done.stderr, encoding="utf8")
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
    if done.returncode:
        print("FAIL  site:\n" + "\n".join(warnings[:30] or [log.read_text()[-2000:]]) + f"\n(all of it in {log})")
        return False
    write_atomically(stamp, key)
    return True


def site_key(staging: stage.Staging) -> str:
    """Everything the site is made of: staged files, configuration, and the library's docstrings (the API pages)."""
    staged = []
    for path in sorted(staging.kept):
        large = path.is_relative_to(staging.folder / "_static" / "mathjax")
        staged.append((str(path), path.stat().st_size if large else sha(path.read_bytes())))
    code = [(str(p), sha(p.read_bytes())) for p in sorted((ROOT / "agf_core").rglob("*.py"))]
    return sha(repr([staged, code, sha((ROOT / "_config.yml").read_bytes()), sys.version]))


if __name__ == "__main__":
    if shutil.which("git") is None:
        print("note: git is not here, so pages can't name the commit they were made from")
    sys.exit(main())
