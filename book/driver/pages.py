"""Pages that the driver writes: ledger, execution status, figures, parameters. Standard library only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agf_core import claims
from book.driver.plan import ROOT, Chapter
from book.driver.run import Store, write_atomically
from book.driver.stage import label, table

CRITERIA = "agf_core/claims.py"


@dataclass(frozen=True)
class Result:
    """What the book knows of one chapter in one profile: its record, and what its last good run recorded."""

    chapter: Chapter
    record: dict[str, Any] | None
    outputs: list[dict[str, Any]]  # of the last good default run; empty if there is none
    started: str  # of that run
    seconds: float | None
    old: str  # why the page is not up to date; "" if it is

    @property
    def state(self) -> str:
        if not self.started:
            return "failed" if self.record else "not run"
        return "old" if self.old else "up to date"


def link(chapter: str, title: str) -> str:
    return f"[{title}](notebooks/{chapter}.ipynb)"


def ledger(results: list[Result], profile: str, history: Path) -> str:
    """One row a claim: its id in the first cell, its verdict in the row; then each claim in full."""
    found = _verdicts(results)
    earlier = _remember(found, history)
    titles = {r.chapter.name: r.chapter.title for r in results}
    rows, details = [], []
    for claim in claims.CLAIMS.values():
        result, verdict = found.get(claim.id, (None, None))
        word = verdict["verdict"] if verdict else claims.NOT_RUN
        chapters = ", ".join(link(c, titles[c]) if c in titles else f"*{c.replace('_', ' ')}*" for c in claim.chapters)
        # In the criterion's order: notebooks are stored with sorted keys.
        parts = [part for part in claim.criterion.parts if part in verdict["effect"]] if verdict else []
        estimates = [_estimate(verdict, part) for part in parts] + ([verdict["unit"]] if verdict else [])
        runs = _runs(verdict, profile) if verdict else ""
        badge = "<br>".join(filter(None, [_badge(word), runs, *estimates]))
        rows.append([f"[{claim.id}](#claim-{claim.id.lower()})", badge, f"“{claim.quote}”", chapters])
        lines = [
            f"(claim-{claim.id.lower()})=\n### {claim.id}\n\n> {claim.quote}\n",
            f"- **Objection a reviewer will raise.** {claim.objection}",
            f"- **Our test.** {claim.test}",
            f"- **Criterion.** {claim.criterion.text}.",
            f"- **Asked of each estimate.** {'; '.join(f'{k}: {v}' for k, v in claim.criterion.parts.items())}.",
            "- **The paper's own equation.** Not public here; this line waits for whoever has it.",
            f"- **Verdict{' of the ' + runs if runs else ' here'}** "
            f"(profile `{verdict['profile'] if verdict else profile}`): {_badge(word)}"
            + (f", n = {verdict['n']}, {verdict['scope']}" if verdict else ""),
        ]
        if word == claims.TOO_SMALL:
            few = f"fewer than {claims.MIN_N} repetitions, or the profile `smoke`"
            lines.append(f"- **Why no verdict.** {_sentence(verdict.get('why') or few)}")
        if verdict and verdict.get("runs"):
            lines.append(f"- **Made by.** {verdict['runs']}")
        if verdict and verdict.get("here"):
            lines.append(f"- **The run here** (profile `{profile}`). {_sentence(verdict['here'])}")
        if verdict and result and result.old:
            lines.append(f"- **Old**: {result.old}.")
        lines += [f"- Earlier: {text}" for text in earlier.get(claim.id, [])]
        details.append("\n".join(lines) + "\n")
    summary = table(["claim", "verdict, estimate [95 %]", "in the paper's words", "chapters"], rows)
    return "\n".join([wide(summary), "## Claim by claim\n", *details, _frozen()])


def _verdicts(results: list[Result]) -> dict[str, tuple[Result, dict[str, Any]]]:
    """Claim → the chapter and the record of its verdict; the last counts where two chapters report a claim."""
    return {o["id"]: (r, o) for r in results for o in r.outputs if o["kind"] == "verdict"}


def _runs(verdict: dict[str, Any], profile: str) -> str:
    """Whose runs a verdict stands on, in words; "" for those that this site made itself."""
    return "reference runs" if verdict.get("runs") or verdict["profile"] != profile else ""


def _estimate(verdict: dict[str, Any], part: str) -> str:
    low, high = verdict["ci"][part]
    return f"{part} {verdict['effect'][part]:.3g} [{low:.3g}, {high:.3g}]"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _badge(word: str) -> str:
    return f'<span class="agf-verdict agf-{word.replace(" ", "-")}">{word}</span>'


def _remember(found: dict[str, tuple[Result, dict[str, Any]]], history: Path) -> dict[str, list[str]]:
    """Append a verdict to the history when it differs from the last one on such runs; return all others in words."""
    try:
        past: list[dict[str, str]] = json.loads(history.read_text(encoding="utf8"))
    except (OSError, json.JSONDecodeError):
        past = []
    before, now = len(past), []
    for id, (result, verdict) in found.items():
        profile = verdict["profile"]  # of the runs it stands on, whatever the profile of the site
        last = next((p for p in reversed(past) if p["id"] == id and p["profile"] == profile), None)
        if last is None or last["verdict"] != verdict["verdict"]:
            last = {"id": id, "profile": profile, "verdict": verdict["verdict"]}
            last |= {"commit": verdict["provenance"]["commit"], "date": result.started[:10]}
            past.append(last)
        now.append(last)
    if len(past) > before:
        write_atomically(history, json.dumps(past, indent=1))
    words: dict[str, list[str]] = {}
    for p in (p for p in past if all(p is not n for n in now)):
        words.setdefault(p["id"], []).append(
            f"{p['verdict']} ({p['date']}, profile `{p['profile']}`, code {p['commit']})"
        )
    return words


def _frozen() -> str:
    """The commits that touched the criteria, oldest first, and whose criteria each of them changed."""
    text = _git("log", "--reverse", "--format=%h|%cs|%s", "--", CRITERIA)
    if not text.strip():
        return "The history of the criteria is in the repository, which this build could not read.\n"
    rows, before = [], {}
    for line in text.strip().splitlines():
        commit, date, subject = line.split("|", 2)
        now = criteria(_git("show", f"{commit}:{CRITERIA}"))
        both = list(dict.fromkeys((*now, *before)))
        changed = [id for id in both if now.get(id, ("", ""))[0] != before.get(id, ("", ""))[0]]
        reworded = [id for id in both if id not in changed and now.get(id) != before.get(id)]
        first = "**all: fixed for the first time**" if now and not before else ""
        rows.append([commit, date, subject, first or ", ".join(changed) or "none", ", ".join(reworded) or "none"])
        before = now
    head = (
        "## History of the criteria\n\nEvery commit that touched the file they stand in, oldest first; the claims "
        "whose criterion it changed (a threshold, a part, the rule or its words), and those of which it changed only "
        "something else (the objection, the test in words, the chapters). Reasons are in the lab log.\n\n"
    )
    return head + table(["commit", "date", "subject", "criteria changed", "words changed"], rows)


def criteria(source: str) -> dict[str, tuple[str, str]]:
    """Claim → its criterion and the whole of it, in a text of `claims.py`, as code that formatting does not change.

    Empty where the text is no Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Claim" and n.args]
    return {
        ast.literal_eval(call.args[0]): (ast.dump(inner), ast.dump(call))
        for call in calls if isinstance(call.args[0], ast.Constant)
        for inner in ast.walk(call) if isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "Criterion"
    }  # fmt: skip


def _git(*arguments: str) -> str:
    """What git prints; "" where it cannot."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def standing(results: list[Result]) -> str:
    """Where the book stands, in a sentence: how many claims have run, how they came out, how many pages there are."""
    words = [verdict["verdict"] for _, verdict in _verdicts(results).values()]
    total, run = len(claims.CLAIMS), len(words)
    came = ", ".join(f"{words.count(w)} {w}" for w in claims.VERDICTS if w in words)
    pages = sum(bool(r.started) for r in results)
    return (
        f"**Where it stands:** {run} of {total} claims have been tested here{f' ({came})' if came else ''}; "
        f"{pages} of the {len(results)} notebooks written so far stand in this site."
    )


def status(results: list[Result], variants: dict[str, list[str]], profile: str) -> str:
    """What ran, when, for how long, and why a page is not up to date: from what papermill and the driver recorded."""
    rows = []
    for r in results:
        error = (r.record or {}).get("error")
        note = (
            f"{error['where']}: {error['name']}: {error['text']}"
            if error
            else r.old or (r.record or {}).get("reason", "")
        )
        seconds = f"{r.seconds:.0f}" if r.seconds is not None else "—"
        when = r.started.replace("T", " ")[:16] or "—"
        rows.append(
            [
                link(r.chapter.name, r.chapter.title),
                r.state,
                when,
                seconds,
                f"<code>{_escape(note)}</code>" if note else "",
            ]
        )
    text = table(["chapter", "state", "last good run (UTC)", "seconds", "why it ran, or what is wrong"], rows)
    text = f"This site was built in profile **{profile}**.\n\n{wide(text)}"
    links = [f"- [{v.replace('--', ': ')}](notebooks/{v}.ipynb)" for names in variants.values() for v in names]
    return text + ("\n## Runs with other parameters\n\n" + "\n".join(links) + "\n" if links else "")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("`", "&#96;").replace("*", "&#42;")[:400]


def figures(results: list[Result]) -> str:
    """Every figure of the default runs: number, the first sentence of its caption, its data."""
    rows = []
    for r in results:
        for o in r.outputs:
            if o["kind"] == "figure":
                name = f"{r.chapter.name}-{o['name']}"
                first = o["caption"].split(". ")[0].rstrip(".") + "."
                data = f'<a href="_static/data/{name}.csv" download>CSV</a>'
                rows.append([f"{{numref}}`{label(name)}`", first, link(r.chapter.name, r.chapter.title), data])
    return (
        wide(table(["figure", "shows", "chapter", "data"], rows))
        if rows
        else "No chapter has run in this profile yet.\n"
    )


def parameters(chapters: list[Chapter]) -> str:
    """Every parameter of the notebooks: type, meaning, values, and each chapter's default."""
    from agf_core.params import KNOWN

    rows = []
    for name, spec in KNOWN.items():
        defaults = [f"{c.title}: `{c.defaults[name]}`" for c in chapters if name in c.defaults]
        rows.append([f"`{name}`", spec.kind.__name__, spec.meaning, spec.values, "; ".join(defaults)])
    return wide(table(["name", "type", "meaning", "values", "defaults"], rows))


def minutes(chapters: list[Chapter], stores: dict[str, Store]) -> str:
    """Seconds of each chapter in each profile: measured where this site was built, else as its author expects."""
    rows, totals = [], dict.fromkeys(stores, 0.0)
    for chapter in chapters:
        row = [link(chapter.name, chapter.title)]
        for profile, store in stores.items():
            record = store.record(chapter.name)
            measured = record["seconds"] if record and record["status"] == "ok" else None
            expected = chapter.seconds.get(profile)
            totals[profile] += measured or expected or 0.0
            row.append(f"**{measured:.0f}**" if measured else f"about {expected:.0f}" if expected else "—")
        rows.append(row)
    rows.append(["one after the other", *(f"{t:.0f} ({t / 60:.1f} min)" for t in totals.values())])
    note = f"Seconds. Bold: measured where this site was built ({os.cpu_count()} cores); else what to expect.\n\n"
    return note + wide(table(["chapter", *stores], rows))


def corpora() -> str:
    """Every text that can be asked for by name, with its source and licence."""
    from agf_core.sources.corpora import CORPORA

    rows = [[f"`{name}`", c.source, c.licence] for name, c in CORPORA.items()]
    rows.append(["`generated`", "the generated language, see below", "ours, MIT"])
    return wide(table(["name", "source", "licence"], rows))


def tables() -> str:
    """Every reference table with the notes at its top."""
    from agf_core.sources.tables import data_path, table_notes

    names = sorted(p.stem for p in data_path("reference").glob("*.csv"))
    return "\n".join(f"- `{name}`: {' '.join(table_notes(name))}" for name in names) + "\n" if names else "None yet.\n"


def wide(text: str) -> str:
    """A table in a box of its own, which scrolls sideways where the page is narrow."""
    return f":::{{div}} agf-wide\n{text}:::\n"
