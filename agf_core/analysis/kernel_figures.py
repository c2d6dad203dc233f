"""The pictures of the appendix `kernels`: how the stripes work, time, memory, error, and the targets (ours)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from agf_core.analysis.accuracy_words import table as markdown
from agf_core.analysis.kernel_runs import BATCH, DIM, HEADS, NAMES
from agf_core.analysis.kernels import is_settled, limit_seconds, verdict
from agf_core.fields import PowerField
from agf_core.figures import COLOURS, WIDTH, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOK: dict[str, dict[str, Any]] = {
    "plain": {"color": COLOURS["data"], "marker": "o"},
    "dense": {"color": COLOURS["exponential"], "marker": "s"},
    "alibi": {"color": COLOURS["third"], "marker": "^"},
    "flex": {"color": COLOURS["fourth"], "marker": "v"},
    "frozen": {"color": COLOURS["power"], "marker": "o", "linestyle": ":"},
    "logit": {"color": COLOURS["power"], "marker": "o"},
    "score": {"color": COLOURS["power"], "marker": "x", "linestyle": "-."},
    "weight": {"color": COLOURS["power"], "marker": "d", "linestyle": "--"},
}
Drawn = tuple["Figure", pd.DataFrame]


def draw_stripes(tokens: int = 12, rows: int = 4) -> Drawn:
    """One head's log g, cut into stripes; one stripe with reversed rows; the table that all its rows are read from."""
    import matplotlib.pyplot as plt

    r = torch.arange(tokens)
    with torch.no_grad():
        g = PowerField(1, exponent=1.0).log_weight(r)[0].exp().numpy()
    distance = r[:, None].numpy() - r.numpy()
    bias = np.where(distance >= 0, g[np.abs(distance)], np.nan)
    fig, (whole, stripe, table) = plt.subplots(
        1, 3, figsize=(WIDTH * 1.45, 3.4), gridspec_kw={"width_ratios": [1, 1, 1.2]}
    )
    lo, hi = tokens - 2 * rows, tokens - rows
    look: dict[str, Any] = {"cmap": plt.get_cmap("viridis").with_extremes(bad="#eeeeee"), "vmin": 0, "vmax": 1}
    whole.imshow(bias, **look)
    for first in range(0, tokens, rows):
        box = (-0.5, first - 0.5), first + rows, rows
        whole.add_patch(
            plt.Rectangle(*box, fill=False, edgecolor=COLOURS["limit"], linewidth=2 if first == lo else 0.8)
        )
    whole.set(title="g(i - j), cut into stripes", xlabel="key j", ylabel="query i")
    stripe.imshow(bias[lo:hi][::-1, :hi], **look)
    stripe.set(title="one stripe, rows reversed", xlabel="key j", yticks=range(rows))
    stripe.set(yticklabels=[str(i) for i in range(hi - 1, lo - 1, -1)])
    line = np.concatenate([g[:hi][::-1], np.full(rows - 1, np.nan)])
    table.imshow(line[None], extent=(-0.5, len(line) - 0.5, -0.9, 0.1), **look)
    for row in range(rows):
        table.plot([row, row + hi - 1], [-1.5 - row] * 2, marker="|", color=COLOURS["limit"])
        table.text(len(line) + 0.2, -1.5 - row, f"query {hi - 1 - row}", va="center", fontsize=9)
    table.set(title="its table: every row starts one later", xlabel="place in the table", yticks=[])
    table.set(xlim=(-0.7, len(line) + 3.8), ylim=(-1.5 - rows, 0.3), aspect="auto")
    fig.tight_layout()
    shown = pd.DataFrame({"place": range(len(line)), "distance": hi - 1 - np.arange(len(line)), "g": line})
    return fig, shown


def _panels(runs: dict[str, dict[str, Any]], rows: int) -> tuple[Figure, np.ndarray]:
    import matplotlib.pyplot as plt

    size = (WIDTH * 1.2, 0.6 + 2.7 * rows)
    fig, axes = plt.subplots(rows, len(runs), figsize=size, sharex="col", sharey="row", squeeze=False)
    return fig, axes


def _lines(ax: Axes, table: pd.DataFrame, value: str) -> None:
    for name in NAMES:
        rows = table[table["name"] == name]
        if len(rows):
            ax.plot(rows["length"], rows[value], label=NAMES[name], markersize=4, **LOOK[name])


def _finish(fig: Figure, axes: np.ndarray) -> None:
    """Log axes, one legend below all panels."""
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        ax.set(xscale="log", yscale="log")
        ax.set_xticks([], minor=True)
        lengths = sorted({int(x) for line in ax.get_lines() for x in line.get_xdata()})
        ax.set_xticks(lengths, [str(n) for n in lengths], rotation=60)
        entries |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels())}
    for ax in axes[-1]:
        ax.set_xlabel("length N (tokens)")
    fig.legend(entries.values(), entries.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
    fig.tight_layout()


def draw_times(runs: dict[str, dict[str, Any]]) -> Drawn:
    """Milliseconds against length, a column a run ("here", "stored"), forward above, forward and backward below."""
    fig, axes = _panels(runs, 2)
    tables = []
    for column, (where, run) in enumerate(runs.items()):
        table = pd.DataFrame(run["times"])
        table["ms"] = 1e3 * table["best"]  # the quickest round: company only ever adds
        for ax, what in zip(axes[:, column], ("forward", "training")):
            part = table[table["pass"] == what]
            _lines(ax, part, "ms")
            lengths = sorted(part["length"].unique())
            limit = 1e3 * limit_seconds(lengths, what == "training", run["matmul_rate"])
            ax.plot(lengths, limit, color=COLOURS["limit"], label="limit: its products at full speed")
            ax.set_title(f"{what}, {where}")
            part = pd.concat([part, pd.DataFrame({"length": lengths, "pass": what, "name": "limit", "ms": limit})])
            tables.append(part.assign(run=where))
    for ax in axes[:, 0]:
        ax.set_ylabel("milliseconds")
    _finish(fig, axes)
    return fig, pd.concat(tables)[["run", "length", "pass", "name", "ms"]]


def draw_memory(runs: dict[str, dict[str, Any]]) -> Drawn:
    """Peak megabytes of a training pass, gradients of q, k and v left out, against length."""
    fig, axes = _panels(runs, 1)
    tables = []
    for ax, (where, run) in zip(axes[0], runs.items()):
        table = pd.DataFrame(run["memory"])
        _lines(ax, table[table["mb"] > 0], "mb")
        lengths = sorted(table["length"].unique())
        limit = BATCH * HEADS * (DIM + 1) * 4 * np.array(lengths) / 2**20
        ax.plot(lengths, limit, color=COLOURS["limit"], label="limit: the output and its log-sum-exps")
        ax.set_title(where)
        tables += [
            table.assign(run=where),
            pd.DataFrame({"run": where, "length": lengths, "name": "limit", "mb": limit}),
        ]
    axes[0, 0].set_ylabel("megabytes")
    _finish(fig, axes)
    return fig, pd.concat(tables)[["run", "length", "name", "mb"]]


def draw_errors(run: dict[str, Any]) -> Drawn:
    """Largest error relative to float64 against length: the output, the gradients of q, k, v, and of the exponent."""
    import matplotlib.pyplot as plt

    table = pd.DataFrame(run["errors"])
    table["kind"] = table["what"].where(table["what"].isin(["output", "d exponent"]), "dq, dk, dv")
    worst = table.groupby(["kind", "name", "length"], as_index=False)["error"].max()
    kinds = ["output", "dq, dk, dv", "d exponent"]
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH * 1.4, 3.3), sharey=True, squeeze=False)
    for ax, kind in zip(axes[0], kinds):
        _lines(ax, worst[worst["kind"] == kind], "error")
        resolution = float(np.finfo(np.float32).eps)
        lengths = sorted(worst["length"].unique())
        ax.plot(lengths, [resolution] * len(lengths), color=COLOURS["limit"], label="float32's own resolution")
        ax.set_title(kind)
    axes[0, 0].set_ylabel("largest error / largest value")
    _finish(fig, axes)
    return fig, worst


def draw_targets(runs: dict[str, dict[str, Any]]) -> Drawn:
    """Each target's ratio over its limit, left of the line is met; of the runs long enough for it, if there is one."""
    import matplotlib.pyplot as plt

    runs = {where: run for where, run in runs.items() if is_settled(run)} or runs
    tables = [pd.DataFrame(run["targets"]).assign(run=where) for where, run in runs.items()]
    table = pd.concat(tables)
    table["share"] = table["value"] / table["limit"]
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.33 * table["what"].nunique()))
    for (where, part), marker, colour in zip(table.groupby("run", sort=False), "od", ("power", "third")):
        error = [(part["value"] - part["low"]) / part["limit"], (part["high"] - part["value"]) / part["limit"]]
        ax.errorbar(part["share"], part["target"] + "  " + part["what"], xerr=error, fmt=marker, ms=5,
                    color=COLOURS[colour], label=f"{where}, 95 %")  # fmt: skip
    ax.axvline(1, color=COLOURS["limit"], label="limit")
    ax.invert_yaxis()
    ax.set(xlabel="measured / limit", xlim=(0, max(1.3, 1.05 * (table["high"] / table["limit"]).max())))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return fig, table[["run", "target", "what", "value", "low", "high", "best", "limit"]]


def target_table(runs: dict[str, dict[str, Any]]) -> str:
    """The targets of every run as a Markdown table, each beside its limit."""
    rows = [["target", "what", "run", "measured [95 %]", "limit", "verdict"]]
    for where, run in runs.items():
        for row in run["targets"]:
            word = verdict(row) if is_settled(run) else "too small to tell"
            e = Estimate(row["value"], row["low"], row["high"])
            said = f"{e:.2f}" if e.low < e.high else f"{e.value:.0f}"  # a peak of memory has no interval
            rows.append([row["target"], row["what"], where, said, f"{row['limit']:g}", word])
    return markdown(rows)
