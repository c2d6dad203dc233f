"""Write the staged sources: chapters with their notices, pages with their numbers and generated parts, static files."""

from __future__ import annotations

import json
import re
import sysconfig
from pathlib import Path
from typing import Any

from agf_core.freshness import Library
from agf_core.sources import locate
from book.driver import pages, stage
from book.driver.config import colab_link
from book.driver.plan import PROFILES, ROOT, Chapter, Page, fingerprint, why_run
from book.driver.run import Store, outputs_of
from book.driver.stage import Staging

BOOK = ROOT / "book"
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")  # of 24 MB, what the pages use


def write_sources(staging: Staging, chapters: list[Chapter], store: Store, profile: str, library: Library) -> None:
    """Everything that Jupyter Book will read. ValueError for a page that quotes a number which no run recorded."""
    results, variants, numbers = [], {}, {}
    for chapter in chapters:
        result = read_result(chapter, store, profile, library)
        results.append(result)
        variants[chapter.name] = store.variants(chapter.name)
        numbers[chapter.name] = stage.numbers_of(result.outputs)
        write_chapter(staging, result, store, profile, variants[chapter.name])
    has_run = {r.chapter.name for r in results if r.started}
    fragments = {
        "ledger": lambda: pages.ledger(results, profile, locate.store() / "verdicts.json"),
        "standing": lambda: pages.standing(results),
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


def read_result(chapter: Chapter, store: Store, profile: str, library: Library) -> pages.Result:
    """What there is of a chapter's default run; `old` says why it no longer holds."""
    record, notebook = store.record(chapter.name), store.notebook(chapter.name)
    if not notebook.is_file():
        return pages.Result(chapter, record, [], "", None, "")
    made = stage.load(notebook)["metadata"]["papermill"]
    old = why_run(record, fingerprint(Page(chapter, {}), profile, library), False) or ""
    return pages.Result(chapter, record, outputs_of(notebook), made["start_time"][:19], made["duration"], old)


def write_chapter(staging: Staging, result: pages.Result, store: Store, profile: str, variants: list[str]) -> None:
    """The page of a chapter's default run, or one that says there is none; and a page for each other run."""
    chapter = result.chapter
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
        if page != chapter.name:
            given = ", ".join(f"{k} = {v}" for k, v in made["parameters"].items() if k != "profile")
            back = f"[the chapter itself]({chapter.name}.ipynb)"
            notices.append(f":::{{note}}\nA run with {given}; the ledger and other pages quote {back}.\n:::")
            stage.retitle(notebook, f"{chapter.title} ({given})")
        elif variants:
            others = ", ".join(f"[{v.split('--')[1]}]({v}.ipynb)" for v in variants)
            notices.append(f"Other runs of this chapter: {others}.")
        if page == chapter.name and result.old:
            notices.append(
                f":::{{warning}}\nThis page is old: {result.old}. It shows the last run that went well.\n:::"
            )
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


def write_notebook(staging: Staging, page: str, content: dict[str, Any]) -> None:
    staging.write(f"notebooks/{page}.ipynb", json.dumps(content, indent=1, ensure_ascii=False))


def copy_mathjax(staging: Staging) -> None:
    """Maths rendering travels with the site: it comes from a package at set-up, and is never committed."""
    folder = Path(sysconfig.get_path("purelib")) / "sphinx-mathjax-offline" / "static" / "mathjax"
    if not folder.is_dir():
        raise ValueError(f"MathJax is not installed ({folder} is missing); run `make setup`")
    for name in MATHJAX:
        for path in sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name]:
            staging.copy(path, f"_static/mathjax/{path.relative_to(folder)}")
