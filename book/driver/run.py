"""Run the pages that need it, side by side with a fixed share of threads, and keep what succeeded.

A run goes to a temporary file and takes the old one's place only on success, so that a failure, an interruption or a
full disk never costs a good page. Standard library only; papermill lives in the worker process (`execute.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from book.driver.plan import ROOT, Page, source

TICK = 15.0  # seconds between progress lines where the output is no terminal


@dataclass
class Store:
    """Executed notebooks and their records, by profile: `_build/executed/<profile>/<page>.{ipynb,json}`."""

    folder: Path

    def notebook(self, page: str) -> Path:
        return self.folder / f"{page}.ipynb"

    def record(self, page: str) -> dict[str, Any] | None:
        """The record of a page's last run; None if there is none, or if it is damaged (then the page runs again)."""
        try:
            record = json.loads((self.folder / f"{page}.json").read_text(encoding="utf8"))
            return record if isinstance(record, dict) and {"status", "fingerprint", "texts"} <= set(record) else None
        except (OSError, json.JSONDecodeError):
            return None

    def write(self, page: str, record: dict[str, Any]) -> None:
        write_atomically(self.folder / f"{page}.json", json.dumps(record, indent=1))

    def variants(self, chapter: str) -> list[str]:
        """Pages of a chapter with other than its default parameters, that have run well at least once."""
        return sorted(p.stem for p in self.folder.glob(f"{chapter}--*.ipynb"))


def write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf8")
    temporary.replace(path)


@dataclass
class Job:
    """One page to run: why, from what, and how long it is expected to take."""

    page: Page
    reason: str
    fingerprint: dict[str, Any]
    expected: float | None
    cell: str = ""
    started: float = 0.0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)


def workers() -> int:
    """Chapters that run side by side: one a core, at most four; AGF_WORKERS decides otherwise."""
    wanted = os.environ.get("AGF_WORKERS", "")
    if wanted and not wanted.isdigit():
        raise ValueError(f"AGF_WORKERS is {wanted!r}; expected a number of chapters to run at a time, as in 2")
    return max(1, int(wanted or min(4, os.cpu_count() or 1)))


def environment(exclusive: bool) -> dict[str, str]:
    """A chapter's threads: a fixed share, the same whoever else runs, so that nothing depends on the company."""
    cores = os.cpu_count() or 1
    threads = str(cores if exclusive else max(1, cores // workers()))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, threads),
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "TQDM_DISABLE": "1",
    }


def run_all(jobs: list[Job], store: Store, profile: str) -> list[Job]:
    """Run every job; those marked exclusive one at a time, after the others. Returns the ones that failed."""
    failed: list[Job] = []
    shared = sorted((j for j in jobs if not j.page.chapter.exclusive), key=lambda j: -(j.expected or 1e9))
    alone = [j for j in jobs if j.page.chapter.exclusive]
    for group, width in ((shared, workers()), (alone, 1)):
        failed += _run_group(group, width, store, profile)
    return failed


def _run_group(jobs: list[Job], width: int, store: Store, profile: str) -> list[Job]:
    if not jobs:
        return []
    stop = threading.Event()
    pool = ThreadPoolExecutor(width)
    futures = {pool.submit(_run_one, job, store, profile, stop): job for job in jobs}
    try:
        _show_progress(futures)
    except KeyboardInterrupt:
        stop.set()
        for job in jobs:
            if job.process:
                job.process.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return [job for future, job in futures.items() if not future.result()]


def _run_one(job: Job, store: Store, profile: str, stop: threading.Event) -> bool:
    """Run one page in a process of its own; True if it succeeded."""
    if stop.is_set():
        return False
    page, target = job.page, store.notebook(job.page.name)
    (store.folder / "failed").mkdir(parents=True, exist_ok=True)
    temporary = store.folder / "running" / f"{os.getpid()}-{target.name}"
    temporary.parent.mkdir(exist_ok=True)
    parameters = json.dumps({**page.parameters, "profile": profile})
    command = [sys.executable, "-m", "book.driver.execute", str(page.chapter.path), str(temporary), parameters]
    job.started = time.monotonic()
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    print(f"run   {page.name} ({_expected(job)}): {job.reason}", flush=True)
    job.process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(page.chapter.exclusive),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the driver's to handle; it ends the workers
    )
    error = _listen(job)
    seconds = round(time.monotonic() - job.started, 1)
    if stop.is_set():  # interrupted: leave the last good run and its record as they are
        temporary.unlink(missing_ok=True)
        return False
    record = {
        "status": "failed" if error else "ok",
        "fingerprint": job.fingerprint,
        "reason": job.reason,
        "started": began,
        "seconds": seconds,
        "error": error,
        "texts": [] if error else texts_of(temporary),
    }
    if error:
        where = failing_cell(temporary)
        record["error"] = {**error, "where": where}
        if temporary.is_file():
            temporary.replace(store.folder / "failed" / target.name)
        print(f"FAIL  {page.name} after {seconds:.0f} s, {where}: {error['name']}: {error['text']}", flush=True)
    else:
        temporary.replace(target)
        (store.folder / "failed" / target.name).unlink(missing_ok=True)
        print(f"done  {page.name} in {seconds:.0f} s", flush=True)
    store.write(page.name, record)
    return not error


def _listen(job: Job) -> dict[str, Any] | None:
    """Follow a worker's lines to its end; the error it told of, or None."""
    assert job.process and job.process.stdout and job.process.stderr
    noise: list[str] = []
    reader = threading.Thread(target=lambda: noise.extend(job.process.stderr or []))  # type: ignore[union-attr]
    reader.start()
    error: dict[str, Any] | None = None
    finished = False
    for line in job.process.stdout:
        try:
            message = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "cell" in message:
            job.cell = f"cell {message['cell']} of {message['of']}"
        error = message.get("error", error)
        finished = finished or "ok" in message
    job.process.wait()
    reader.join()
    if error is None and not finished:
        last = next((text.strip() for text in reversed(noise) if text.strip()), "no message")
        error = {"name": f"the worker ended with status {job.process.returncode}", "text": last}
    return error


def failing_cell(notebook: Path) -> str:
    """Where a notebook failed, in words: the cell's number as papermill counts and the first line of its code."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    except (OSError, json.JSONDecodeError, KeyError):
        return f"{notebook.name}: before its first cell"
    cells = [c for c in cells if "papermill-error-cell-tag" not in c.get("metadata", {}).get("tags", [])]
    for number, cell in enumerate(cells, 1):
        if any(o.get("output_type") == "error" for o in cell.get("outputs", [])):
            return f"cell {number} “{source(cell).strip().splitlines()[0]}”"
    return "between two cells"


def outputs_of(notebook: Path) -> list[dict[str, Any]]:
    """The records that `agf_core` left in an executed notebook's outputs, in their order."""
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    found = (o.get("metadata", {}).get("agf") for c in cells for o in c.get("outputs", []))
    return [record for record in found if record]


def texts_of(notebook: Path) -> list[dict[str, Any]]:
    """Every file that a run read, as its figures recorded it."""
    seen: dict[str, dict[str, Any]] = {}
    for record in outputs_of(notebook):
        for origin in record.get("provenance", {}).get("texts", []):
            seen[json.dumps(origin, sort_keys=True)] = origin
    return list(seen.values())


def _expected(job: Job) -> str:
    return f"about {job.expected:.0f} s" if job.expected else "first run"


def _show_progress(futures: dict[Future[bool], Job]) -> None:
    """Until all are done: one line rewritten on a terminal, one line every `TICK` seconds elsewhere."""
    terminal = sys.stdout.isatty()
    while wait(futures, timeout=0.5 if terminal else TICK).not_done:
        now = time.monotonic()
        running = [job for future, job in futures.items() if future.running()]
        parts = [f"{j.page.name} {now - j.started:.0f} s of {_expected(j)}, {j.cell or 'starting'}" for j in running]
        text = "…     " + " | ".join(parts)
        print(f"\r{text[:118]:<118}" if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal:
        print("\r" + " " * 118 + "\r", end="", flush=True)
