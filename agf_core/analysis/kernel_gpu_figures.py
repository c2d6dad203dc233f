"""The stored GPU run on the page of the appendix `kernels`: in words, and as one picture (ours)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from agf_core.figures import COLOURS, WIDTH
from agf_core.sources.tables import read_stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STORED = "kernels-gpu.json"
COMMAND = "python -m agf_core.analysis.kernels_gpu"
PRODUCTS = {"forward": 2, "backward": 5}  # matrix products over the scores that each pass cannot do without


def stored() -> dict[str, Any] | None:
    """The run that `kernels_gpu` wrote and that was kept with the library, or None."""
    found: dict[str, Any] | None = read_stored("bench", STORED)
    return found


def in_words(run: dict[str, Any] | None) -> str:
    """How many targets a run met, and which it missed; without a run, what has been checked and what has not."""
    if run is None:
        return (
            "**No run on a GPU is stored yet, so nothing is said here about speed.** Checked without one: values and "
            "all gradients in Triton's interpreter against float64, and that every kernel compiles for capability "
            f"7.5 to 9.0. `{COMMAND}` measures the targets on a GPU in one run; this page will show them."
        )
    rows = pd.DataFrame(run["targets"])
    met = rows["value"] <= rows["limit"]
    missed = ", ".join(sorted(set(rows.loc[~met, "target"]), key=lambda t: int(t[1:]))) or "none"
    return (
        f"On {run['provenance']['device']} (torch {run['torch']}, Triton {run['triton']}, code "
        f"{run['provenance']['commit']}): {met.sum()} of {len(rows)} measurements meet their target; targets missed "
        f"somewhere: {missed}.{_without_limit(run)}"
    )


def _without_limit(run: dict[str, Any]) -> str:
    """What was measured beside the targets, at 8,192 tokens, where all of it was measured first."""
    notes = pd.DataFrame(run.get("notes", []), columns=["what", "value", "dim", "length", "heads", "groups"])
    notes = notes[(notes["heads"] == notes["groups"]) & (notes["length"] == 8192)]
    said = ""
    for what, words in (
        ("forward, logit, of the product's FLOP/s", "Of the rate of one large matrix product, a forward pass reaches"),
        ("backward, logit, of the product's FLOP/s", "a backward pass that trains the field,"),
        ("backward, free table, trained / frozen", "Training a free table costs, over a frozen field,"),
    ):
        values = [f"{n.value:.2f} (head size {n.dim})" for n in notes[notes["what"] == what].itertuples()]
        if values:
            said += f"{',' if words[0] == 'a' else '.' if said else ''} {words} {' and '.join(values)}"
    return f"{said}." if said else ""


def limit_seconds(row: dict[str, Any], flops: float) -> float:
    """The causal half of the scores, two operations a product, at the rate of one large product on the same GPU."""
    scores = row["batch"] * row["heads"] * row["length"] ** 2 / 2
    return float(PRODUCTS[row["passes"]] * 2 * scores * row["dim"] / flops)


def draw(run: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Every target as measured over limit; below, milliseconds against length with the limit as a line."""
    import matplotlib.pyplot as plt

    rows = pd.DataFrame(run["targets"])
    rows["relative"] = rows["value"] / rows["limit"].where(rows["limit"] > 0, 1)
    rows["name"] = rows["target"] + "  " + rows["what"]
    names = sorted(rows["name"].unique(), key=lambda t: int(t.split()[0][1:]))
    heights = [0.6 + 0.26 * len(names), 3.6]
    fig = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    parts: Any = fig.subfigures(2, 1, height_ratios=heights)  # apart, or long names above would narrow what is below
    above, under = parts
    top, below = above.subplots(), under.subplots(1, 2)
    for dim, colour in ((64, "third"), (128, "power")):
        part = rows[rows.get("dim", pd.Series(dim, index=rows.index)).fillna(dim) == dim]
        top.plot(part["relative"].clip(lower=0), [names.index(t) for t in part["name"]], "o", ms=4, alpha=0.6,
                 color=COLOURS[colour], label=f"head size {dim}")  # fmt: skip
    top.axvline(1, color=COLOURS["limit"], label="the target")
    top.set(yticks=range(len(names)), yticklabels=names, xlabel="measured / target; left of the line is met")
    top.invert_yaxis()
    top.legend()
    times = pd.DataFrame([t for t in run["times"] if t["passes"] in PRODUCTS and t["heads"] == t["groups"]])
    times = times[times["dim"] == times["dim"].max()].drop(columns="rounds")
    times["ms"] = 1e3 * times["seconds"]
    look = {"plain": "chance", "logit": "power", "flash": "data", "cudnn": "fourth", "flex": "exponential"}
    called = {"plain": "ours, no field", "logit": "ours, trained field", "flash": "PyTorch, flash",
              "cudnn": "PyTorch, cuDNN", "flex": "FlexAttention, same field"}  # fmt: skip
    for ax, passes in zip(below, PRODUCTS):
        part = times[times["passes"] == passes].sort_values("length")
        for name, colour in look.items():
            line = part[part["name"] == name]
            if len(line):
                ax.plot(line["length"], line["ms"], "o-", ms=3, color=COLOURS[colour], label=called[name])
        bound = part.drop_duplicates("length")
        limit = [1e3 * limit_seconds(row, run["ceilings"]["flops"]) for row in bound.to_dict("records")]
        ax.plot(bound["length"], limit, color=COLOURS["limit"], label="limit: products alone")
        ax.set(xscale="log", yscale="log", xlabel="length N (tokens)", title=passes)
        ax.tick_params(axis="x", which="minor", labelbottom=False)
    below[0].set_ylabel("milliseconds")
    entries = {x.get_label(): x for ax in below for x in ax.get_lines()}
    under.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3)
    columns = ["target", "what", "value", "limit", "relative"]
    shown = pd.concat([rows[columns], times[["passes", "name", "length", "dim", "ms"]]])
    return fig, shown
