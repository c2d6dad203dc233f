"""The sentences of the appendix `calibration`, written from its numbers: none is typed, and none outlives a run that
says otherwise (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from agf_core.analysis.calibration import Page
from agf_core.analysis.calibration_series import Stored
from agf_core.figures import Estimate, Number

LOW, HIGH = 0.92, 0.98  # what a 95 % interval's coverage is allowed
Words = tuple[str, dict[str, Number]]  # a text with {names} of numbers, and the numbers: for `say`


def checks(page: Page) -> tuple[list[tuple[str, str, str, bool | None]], dict[str, Number]]:
    """Every instrument on its known answer: (shown, came back, verdict if all is well, is it?), and the numbers.

    None in place of yes or no: too small a run to tell.
    """
    force, exact, fit = page.kepler[2], page.mixture[2], page.mixture[1]
    power = page.savings[page.savings["law"] == "power"]
    best = page.savings[page.savings["best"]].set_index("series")["law"]
    right = best.eq("power") == (best.index != "Dros")
    single, mean = page.averaging[1].iloc[1], page.averaging[1].iloc[0]
    careless, careful = (f.params["exponent"] for f in page.careless[1:])
    field = page.gravity[page.gravity["planted"] != "uniform"]
    none = page.gravity[(page.gravity["planted"] == "uniform") & (page.gravity["law"] == "power")].iloc[0]
    found = field[field["law"] == field["planted"]]
    holds = (found["low"] <= found["value"]) & (found["value"] <= found["high"])
    hard = confusion(page.choice, "shifted_power", "stretched_exponential")
    numbers: dict[str, float] = {
        "savings_off": (power["decay"] - power["reference_decay"]).abs().max(),
        "mixture_off": max(abs(fit.params[k] / v - 1) for k, v in exact.items()),
        "covers_least": page.coverage["coverage"].min(), "covers_most": page.coverage["coverage"].max(),
        "counts_off": (page.counts["mean"] - page.counts["exponent"]).abs().max(),
        "counts_least": page.counts["coverage"].min(), "counts_most": page.counts["coverage"].max(),
        "confused": confusion(page.choice, "power", "exponential").iloc[0],
        "hard_first": hard.iloc[0], "hard_last": hard.max(),
        "noise_first": float(hard.index[0]), "noise_last": float(hard.index[-1]),
        "single": single["exponential"], "careless": careless, "careful": careful,
        "field_off": (found["estimate"] / found["value"] - 1).abs().max(), "uniform": abs(none["estimate"]),
    }  # fmt: skip
    tiny = page.profile == "smoke"
    rows: list[tuple[str, str, str, bool | None]] = [
        ("Kepler: force falls with distance to the power 2", "{force:.3f}", "recovered", abs(force.value - 2) < 1e-3),
        ("Four forgetting curves, fitted before with other code", "exponents within {savings_off:.4f}; "
         "the same law wins in each", "recovered", bool(numbers["savings_off"] < 1e-3 and right.all())),
        ("Gamma mixture: an exact shifted power law", "its parameters, to a relative error of {mixture_off:.0e}",
         "recovered", bool(numbers["mixture_off"] < 1e-4)),
        ("95 % intervals of curves", "{covers_least:.1%} to {covers_most:.1%}", "covers",
         None if tiny else bool(page.coverage["coverage"].between(LOW, HIGH).all())),
        ("95 % intervals of counts' exponents", "{counts_least:.1%} to {counts_most:.1%}; mean off by at most "
         "{counts_off:.3f}", "covers", None if tiny else bool(_can_be_right(page.counts).all())),
        ("Power law against exponential, small errors", "confused in {confused:.1%} of series", "told apart",
         bool(numbers["confused"] < 0.01)),
        ("Shifted power law against stretched exponential, errors of {noise_first:g} to {noise_last:g}",
         "confused in {hard_first:.1%} to {hard_last:.1%} of series", "told apart", bool(hard.max() < 0.05)),
        ("Exponentials of many rates", f"the mean misleads, as it must: it is called "
         f"{'a power law' if mean['power'] else 'exponential'}; one by one, {{single:.1%}} are called exponential",
         "not fooled", bool(single["exponential"] > 0.95)),
        ("Uniform attention by distance: exponent 0", "{careful:.3f} with whole windows, {careless:.2f} carelessly",
         "not fooled", abs(careful) <= 0.01),
        ("Gravity: planted fields on causal attention", "the planted law fits better in every case, within "
         f"{{field_off:.1%}} of its value, a pull of which its interval knows nothing: it holds the value in "
         f"{holds.sum()} of {len(holds)}"
         if found["best"].all() else "the other law fits better in some case",
         "recovered", bool(found["best"].all() and numbers["field_off"] < 0.1)),
        ("Gravity: uniform causal attention, exponent 0", "{uniform:.4f}", "not fooled", numbers["uniform"] <= 0.01),
        ("Gravity: a distance that the effects span", "an error that says why", "refused", bool(page.refusal)),
    ]  # fmt: skip
    if page.full is not None:
        table = page.full.coverage["coverage"]
        numbers |= {"inside": int(table.between(LOW, HIGH).sum()), "cells": len(table)}
        rows.insert(4, (
            "The same for all seven laws, two spaces and four sizes (stored run)", "{inside} of {cells} cells between "
            f"{LOW:.0%} and {HIGH:.0%}", "covers", bool(table.between(LOW, HIGH).all()),
        ))  # fmt: skip
    return rows, {"force": force, **numbers}


def confusion(choice: pd.DataFrame, *pair: str) -> pd.Series:
    """By error: the larger share in which the two laws are taken for each other."""
    both = choice[choice["planted"].isin(pair) & choice["chosen"].isin(pair) & (choice["planted"] != choice["chosen"])]
    return both.groupby("noise")["share"].max()


def _can_be_right(table: pd.DataFrame) -> pd.Series:
    """Whether each cell's interval leaves room for a coverage in the allowed range."""
    return (table["low"] <= HIGH) & (table["high"] >= LOW)


FAILED = {
    "recovered": "not recovered", "covers": "does not cover everywhere", "told apart": "confused",
    "not fooled": "fooled", "refused": "not refused",
}  # fmt: skip


def in_short(page: Page) -> Words:
    """A sentence with the count of what came out as it must, and the table of all instruments."""
    rows, numbers = checks(page)
    judged = [row for row in rows if row[3] is not None]
    failed = [row[0] for row in judged if not row[3]]
    open_ = len(rows) - len(judged)
    first = f"**{len(judged) - len(failed)} of {len(judged)} known answers came back as they must.**"
    first += f" Not so: {'; '.join(failed)}." if failed else ""
    first += f" {open_} could not be judged: this run is too small." if open_ else ""
    lines = [first, "", "| shown to the instrument | came back |", "|---|---|"]
    for shown, back, good, ok in rows:  # both columns are templates
        verdict = "too small to tell" if ok is None else good if ok else FAILED[good]
        lines.append(f"| {shown} | **{verdict}**: {back} |")
    return "\n".join(lines), numbers


def coverage(page: Page) -> Words:
    """The reader's coverage beside the stored one."""
    own = page.coverage
    text = "This run: {least:.1%} to {most:.1%} of {sets:,} data sets per law and size."
    numbers: dict[str, Number] = {
        "least": own["coverage"].min(), "most": own["coverage"].max(), "sets": int(own["sets"].iloc[0]),
    }  # fmt: skip
    if page.full is None:
        return text + " The stored run with the full table is missing from this copy of the library.", numbers
    keys = ["space", "law", "points", "parameter"]
    both = own.merge(page.full.coverage, on=keys, suffixes=("", "_stored"))
    part = both["coverage_stored"]
    agree = int(((both["low"] <= part) & (part <= both["high"])).sum())
    numbers |= {
        "stored_least": part.min(), "stored_most": part.max(), "stored_sets": int(both["sets_stored"].iloc[0]),
        "agree": agree, "pairs": len(both),
    }  # fmt: skip
    text += (
        " The stored run: {stored_least:.1%} to {stored_most:.1%} of {stored_sets:,}; it lies within this run's "
        "interval in {agree} of {pairs} rows."
    )
    return text, numbers


def _named(identifier: str) -> str:
    """An identifier as words: "two_regime" as "two regime", "exponent2" as "second exponent"."""
    name = identifier.strip("_").replace("_", " ")
    return f"second {name[:-1]}" if name.endswith("2") else name


def full_coverage(full: Stored | None) -> Words:
    """The stored table in a sentence: how many cells keep the promise, and which do worst."""
    if full is None:
        return "The stored run is missing from this copy of the library, so its table cannot be shown here.", {}
    table, made = full.coverage, full.provenance
    inside = table["coverage"].between(LOW, HIGH)
    worst = table.loc[(table["coverage"] - 0.95).abs().idxmax()]
    numbers: dict[str, Number] = {
        "inside": int(inside.sum()), "cells": len(table), "median": float(np.median(table["coverage"])),
        "worst": worst["coverage"], "points": int(worst["points"]), "law": _named(worst["law"]),
        "parameter": _named(worst["parameter"]), "space": worst["space"], "seconds": made["seconds"],
        "commit": made["commit"], "sets": int(table["sets"].iloc[0]),
    }  # fmt: skip
    text = (
        f"{{inside}} of {{cells}} cells, of {{sets:,}} series each, lie between {LOW:.0%} and {HIGH:.0%}; the median "
        "is {median:.1%}. Farthest from the promise: {law}, {parameter}, {points} points, {space} space, with "
        "{worst:.1%}."
    )
    if not inside.all():
        text += " Outside are " + _outside(table[~inside]) + "."
    return text + " Made by commit {commit} in {seconds:.0f} s.", numbers


def _outside(table: pd.DataFrame) -> str:
    groups = table.groupby(["law", "space"], sort=False)["points"]
    return "; ".join(
        f"{law.replace('_', ' ')} in {space} space at {', '.join(map(str, sorted(set(points))))} points"
        for (law, space), points in groups
    )


def choice(page: Page) -> Words:
    """How often power and exponential are taken for each other, and the right law's share."""
    wrong = confusion(page.choice, "power", "exponential")
    hard = confusion(page.choice, "shifted_power", "stretched_exponential")
    right = page.choice[page.choice["planted"] == page.choice["chosen"]].groupby("noise")["share"]
    numbers: dict[str, Number] = {
        "small": wrong.iloc[0], "large": wrong.iloc[-1], "least_small": right.min().iloc[0],
        "least_large": right.min().iloc[-1], "first": float(wrong.index[0]), "last": float(wrong.index[-1]),
        "hard": hard.max(),
    }  # fmt: skip
    return (
        "With errors of {first:g} every law is recognised in at least {least_small:.0%} of its series; with errors of "
        "{last:g} in at least {least_large:.0%}. Power and exponential are taken for each other in at most {small:.1%} "
        "and {large:.1%}; shifted power and stretched exponential, on which claim A3 turns, in up to {hard:.1%}: "
        "single heads with errors of that size cannot decide between them.",
        numbers,
    )


def full_choice(full: Stored | None) -> Words:
    """The same for all seven laws, from the stored run, at the middle error."""
    if full is None:
        return "The stored run is missing from this copy of the library, so its table cannot be shown here.", {}
    part = middle(full.choice)
    noise = part["noise"].iloc[0]
    right = part[part["planted"] == part["chosen"]].set_index("planted")["share"]
    numbers: dict[str, Number] = {
        "noise": noise, "mean": right.mean(), "least": right.min(), "law": str(right.idxmin()).replace("_", " "),
        "confused": confusion(full.choice, "power", "exponential")[noise],
    }  # fmt: skip
    return (
        "Offered all seven, at errors of {noise:g}, the planted law is chosen in {mean:.0%} of series on average, and "
        "least often ({least:.0%}) when it is the {law}. Power and exponential are taken for each other in at most "
        "{confused:.1%}.",
        numbers,
    )


def middle(choice: pd.DataFrame) -> pd.DataFrame:
    """The part of a table of choices with the middle error."""
    return choice[choice["noise"] == sorted(choice["noise"].unique())[len(choice["noise"].unique()) // 2]]


def with_interval(data: pd.DataFrame, column: str) -> pd.DataFrame:
    """The same with `column` as estimates, from it and the columns low and high."""
    return data.assign(**{column: [Estimate(*row) for row in data[[column, "low", "high"]].to_numpy()]})


def table(data: pd.DataFrame, columns: dict[str, str]) -> str:
    """Markdown: columns maps a column to its heading followed by its format, "mean estimate {:.3f}"."""
    heads = [text.partition(" {")[0] for text in columns.values()]
    lines = [heads, ["---"] * len(heads)]
    for _, row in data.iterrows():
        lines.append([("{" + text.partition("{")[2]).format(row[name]) for name, text in columns.items()])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
