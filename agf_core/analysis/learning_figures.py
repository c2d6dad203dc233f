"""The pictures of learning in the chapter `learning_curves`. Each function returns a figure and the table of what it
draws, for `figures.publish` (ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.pyplot import subplots

from agf_core.analysis import curve_laws, power_figures
from agf_core.analysis.accuracy_figures import Drawn
from agf_core.analysis.curve_laws import LAWS, Curves
from agf_core.analysis.learning_curves import Page, Results
from agf_core.figures import COLOURS, WIDTH

EXAMPLES = 6
EDGES = (1e-2, 10.0)  # nats: errors beyond are drawn there
KINDS = {"free": ("third", "free field"), "rotary": ("fourth", "rotary")}


def operating(page: Page) -> Drawn:
    """Shares of verdicts of both rules by what is true."""
    rows = [t.assign(world=f"{claim}: " + t["world"]) for claim, t in page.worlds.items()]
    fig, table = power_figures.operating(pd.concat(rows, ignore_index=True).fillna(0.0))
    fig.axes[0].set_ylabel("what is true of the curves")
    return fig, table


def name(symbol: int) -> str:
    """A byte as it is read."""
    return {32: "space", 10: "line break"}.get(symbol, chr(symbol) if 32 < symbol < 127 else f"byte {symbol}")


def examples(results: Results) -> Drawn:
    """Curves of one run, of commoner and rarer bytes, with both laws."""
    first = results.curves.of(results.curves.about["model"] == results.curves.about["model"].min())
    order = np.argsort(-first.about["targets"].to_numpy(), kind="stable")
    some = order[np.unique(np.linspace(0, len(order) - 1, EXAMPLES).round().astype(int))]
    shown = Curves(first.tokens, first.loss[some], first.about.iloc[some].reset_index(drop=True))  # the commonest first
    k, t = shown.fitted, shown.tokens
    fits = {law: curve_laws.fit(t[:k], shown.loss[:, :k], law).predict(t) for law in LAWS}
    fig, axes = subplots(2, 3, figsize=(WIDTH, 4.6), sharex=True, layout="constrained")
    rows = []
    for ax in axes.flat[len(shown.loss) :]:
        ax.set_axis_off()
    for i, ax in enumerate(axes.flat[: len(shown.loss)]):
        _curve(ax, t, k, shown.loss[i], {law: fits[law][i] for law in LAWS})
        symbol = int(shown.about["symbol"][i])
        ax.set_title(f"{name(symbol)} ({shown.about['targets'][i]:,} targets)")
        rows.append(pd.DataFrame({"symbol": name(symbol), "tokens": t, "loss": shown.loss[i],
                                  **{law: fits[law][i] for law in LAWS}}))  # fmt: skip
    for ax in axes[-1]:
        ax.set_xlabel("bytes of training")
    fig.supylabel("held-out loss (nats)", fontsize=10)
    fig.legend(handles=_handles(), loc="outside lower center", ncols=4)
    return fig, pd.concat(rows, ignore_index=True)


def _curve(ax: Axes, t: np.ndarray, k: int, seen: np.ndarray, fits: dict[str, np.ndarray]) -> None:
    ax.axvspan((t[k - 1] * t[k]) ** 0.5, t[-1], color=COLOURS["chance"], alpha=0.18, lw=0)
    ax.plot(t, seen, "o", ms=3, color=COLOURS["data"])
    for law, fitted in fits.items():
        ax.plot(t, fitted, color=COLOURS[law])
    ax.set_xscale("log")
    spread = max(float(np.ptp(seen)), 0.1)
    ax.set_ylim(seen.min() - 0.25 * spread, seen.max() + 0.15 * spread)  # a law may leave, the points do not


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], marker="o", ls="", ms=3, color=COLOURS["data"], label="measured"),
        *(Line2D([], [], color=COLOURS[law], label=law) for law in LAWS),
        Line2D([], [], color=COLOURS["chance"], alpha=0.4, lw=7, label="held out"),
    ]


def errors(results: Results) -> Drawn:
    """Held-out errors of both laws, a dot a curve, and each run's share of curves that the power law has."""
    table = results.scores
    fig, (left, right) = subplots(1, 2, figsize=(WIDTH, 3.5), width_ratios=[1.4, 1], layout="constrained")
    for kind, (tone, label) in KINDS.items():
        part = table[(table["kind"] == kind) & np.isfinite(table[["error_power", "error_exponential"]]).all(axis=1)]
        x, y = (part[f"error_{law}"].clip(*EDGES) for law in LAWS[::-1])
        left.scatter(x, y, s=9, lw=0, alpha=0.6, color=COLOURS[tone], label=label)
        own = table[table["kind"] == kind].groupby("model")["winner"].apply(lambda w: (w == "power").mean())
        at = list(KINDS).index(kind)
        right.scatter(at + np.linspace(-0.15, 0.15, len(own)), own, s=22, color=COLOURS[tone])
    left.axline((1, 1), slope=1, color=COLOURS["chance"], lw=1)
    wide = (0.8 * EDGES[0], 1.25 * EDGES[1])
    left.set(xscale="log", yscale="log", xlim=wide, ylim=wide)
    left.set(xlabel="error of the exponential (nats)", ylabel="error of the power law (nats)")
    left.legend(loc="upper left", markerscale=2)
    right.axhline(0.67, color=COLOURS["limit"], lw=1, ls="--")
    right.axhline(0.5, color=COLOURS["chance"], lw=1)
    right.set_xticks(range(len(KINDS)), [label for _, label in KINDS.values()])
    right.set(ylim=(0, 1), xlim=(-0.5, 1.5), ylabel="share of curves, power law ahead")
    return fig, table


def pooled(results: Results) -> Drawn:
    """The pooled curve with both laws, and what it would be were every curve an exponential; rates beside it."""
    found = results.pooled
    assert found is not None
    table, t = found.curve, found.curve["tokens"].to_numpy()
    k = results.curves.fitted
    fig, axes = subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True, layout="constrained")
    for ax, seen, suffix, title in zip(axes, ("seen", "exponentials"), ("", "_of_them"), (
            "all curves, pooled", "were every curve\nits best exponential")):  # fmt: skip
        _curve(ax, t, k, table[seen].to_numpy(), {law: table[law + suffix].to_numpy() for law in LAWS})
        ax.set(title=title, xlabel="bytes of training")
    axes[0].set_ylabel("loss (nats, common bytes)")
    fig.legend(handles=_handles(), loc="outside lower center", ncols=4)
    return fig, table


def schedules(page: Page) -> Drawn:
    """Training loss of the same model at a constant rate and with a cosine."""
    fig, ax = subplots(figsize=(WIDTH, 3.4), layout="constrained")
    for (schedule, part), tone in zip(page.schedules.groupby("schedule", sort=False), ("data", "limit")):
        label = f"{schedule} ({int(part['seeds'].iloc[0])} seeds)"
        ax.plot(part["tokens"], part["loss"], color=COLOURS[tone], label=label)
    ax.set(xscale="log", yscale="log", xlabel="bytes of training", ylabel="training loss (nats)")
    ax.legend()
    return fig, page.schedules


def forming(page: Page) -> Drawn:
    """AGF's exponents through training: mean over seeds of every head, and the seeds' range."""
    table = page.forming
    layers = sorted(table["layer"].unique())
    fig, axes = subplots(1, len(layers), figsize=(WIDTH, 3.6), sharey=True, squeeze=False, layout="constrained")
    tones = ("power", "exponential", "third", "fourth")
    for ax, layer in zip(axes.flat, layers):
        for head, part in table[(table["layer"] == layer) & (table["tokens"] > 0)].groupby("head"):
            each = part.groupby("tokens")["exponent"].agg(["mean", "min", "max"])
            tone = COLOURS[tones[int(head) % len(tones)]]
            ax.plot(each.index, each["mean"], color=tone, label=f"head {int(head) + 1}")
            ax.fill_between(each.index, each["min"], each["max"], color=tone, alpha=0.2, lw=0)
        ax.set(xscale="log", title=f"layer {int(layer) + 1}", xlabel="bytes of training")
    axes.flat[0].set_ylabel("exponent k")
    fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig, table


def seeds(curves: Curves) -> pd.DataFrame:
    """Likeness over seeds of the last losses by kind of byte, one row a kind of model: see `curve_laws.likeness`."""
    rows = []
    for kind, part in curves.about.assign(last=curves.loss[:, -1]).groupby("kind", sort=False):
        table = part.pivot_table(index="seed", columns="symbol", values="last").dropna(axis=1)
        rows.append({"kind": kind, "seeds": part["seed"].nunique(), **curve_laws.likeness(table)})
    return pd.DataFrame(rows)
