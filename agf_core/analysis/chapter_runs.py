"""What every chapter with trained models begins with: its runs made or found, and noted for its page (ours)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agf_core.runs import Record, RunConfig, reference_runs, run_grid
from agf_core.sources.load import remember
from agf_core.sources.tables import noted_path


def records(configs: Sequence[RunConfig], parts: Iterable[str]) -> dict[str, Record]:
    """The record of every run, by id; what is missing is trained, minutes in `cpu` where nothing is yet.

    parts: stored reference runs (data/runs/<part>.json) on which the page depends: it is made again when one changes.
    """
    for part in parts:
        noted_path("runs", f"{part}.json")
    found = {r["id"]: r for r in run_grid(configs)}
    for record in found.values():
        if record["provenance"]["text"] and record["id"] not in reference_runs():
            remember(record["provenance"]["text"])
    return found


def made(records: Sequence[Record]) -> str:
    """Commits, machines and dates of a set of runs, in words; "" for none."""
    about = [r["provenance"] for r in records]
    parts = [sorted({str(a[key])[: 10 if key == "started" else None] for a in about}) for key in
             ("commit", "device", "started")]  # fmt: skip
    if not about:
        return ""
    commits, devices, dates = parts
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"code {', '.join(commits)}; {', '.join(devices)}; {days}"
