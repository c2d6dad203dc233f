"""Does the field copy the language? Learned fields beside planted laws, and beside a text's own dependence (ours).

A free field is one number a distance, read from the run's record: no weights are needed. A place that predicts the next
symbol finds the symbol r + 1 before *that* one at distance r: a language whose dependence falls as lag^-θ is copied by
g(r) = (1 + r)^-θ. The distance 0 is left out everywhere: what stands there reaches the output past attention, too.

A free field goes where gradients carry it, and stays where it started where nothing does. So models start flat and
steep, and a distance counts where both come to the same: the interval of the difference of their means holds 0 and is
not so wide that it would hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import logsumexp

from agf_core.analysis import dose, field_grids
from agf_core.analysis.contrasts import at_length, mean
from agf_core.analysis.dependence import dependence, predicted_field
from agf_core.figures import Estimate
from agf_core.runs import Record, RunConfig
from agf_core.sources import best_loss, echo
from agf_core.sources.datasets import DataConfig, load_data

NEAR = 32  # exponents are taken over distances 1 … 32, where most of the attention is
WIDEST = 1.0  # nat: an interval that reaches further to each side cannot tell whether two starts agree
USED = 1e-3  # share of a language's copies: what it does more rarely is not learned, and every field ends in a floor
CARRIES = 0.1  # nat: a head whose log field varies less over the near distances tells them apart by nothing
LIMIT = {"smoke": 100_000, "cpu": 1_000_000, "full": 1_000_000}  # bytes of a text whose dependence is counted

Array = np.ndarray


def log_fields(record: Record) -> Array:
    """(L, H, size) log g at r = 0 … size - 1 of a finished run with a free field, so that g sums to 1 over r ≥ 1.

    A field is known up to a factor. A mean of log g would hang on far distances, which no gradient may have moved.
    """
    model = record["config"]["model"]
    tables = [layer["table"] for layer in record["fields"][-1]["layers"]]
    values = np.array(tables, float).reshape(model["layers"], model["heads"], -1)
    values = values * model["encoding_options"].get("gain", 1.0)
    out: Array = values - logsumexp(values[..., 1:], axis=-1, keepdims=True)
    return out


def carry(fields: Array) -> Array:
    """Which heads' fields tell near distances apart, bool of shape fields.shape[:-1]: a spread of ≥ `CARRIES` nat."""
    return fields[..., 1 : NEAR + 1].std(-1) >= CARRIES


def of_model(record: Record) -> Array:
    """(size,) the mean log field of a model over its heads that carry; nan where none does."""
    fields = log_fields(record).reshape(-1, record["config"]["model"]["context"])
    kept = fields[carry(fields)]
    return kept.mean(0) if len(kept) else np.full(fields.shape[-1], np.nan)


def finished(configs: Sequence[RunConfig], records: Mapping[str, Record]) -> list[Record]:
    """The records that there are, without runs that diverged."""
    return [r for c in configs if (r := records.get(c.id)) and r["status"] == "ok"]


def agreement(fields: Mapping[str, Array]) -> pd.DataFrame:
    """Where two starts come to the same. fields: start → (M, W) a model's log field at r = 1 … W each.

    Columns: r, for each start its mean, <start>_low, <start>_high; difference (the first start's less the second's),
    low, high (Student's, over models), known (the interval is at most ± `WIDEST` nat), agrees (known, and it holds 0).
    """
    one, other = (fields[start] for start in fields)
    table: dict[str, Any] = {"r": np.arange(1, one.shape[1] + 1)}
    for start, values in fields.items():
        each = [mean(column) for column in values.T]
        table |= {start: [e.value for e in each], f"{start}_low": [e.low for e in each],
                  f"{start}_high": [e.high for e in each]}  # fmt: skip
    difference, freedom = np.subtract(table[next(iter(fields))], table[list(fields)[1]]), len(one) + len(other) - 2
    half = np.full(len(difference), np.nan)
    if freedom > 0:
        pooled = sum(((values - values.mean(0)) ** 2).sum(0) for values in (one, other)) / freedom
        half = stats.t.ppf(0.975, freedom) * np.sqrt(pooled * (1 / len(one) + 1 / len(other)))
    table |= {"difference": difference, "low": difference - half, "high": difference + half, "known": half <= WIDEST}
    table["agrees"] = table["known"] & (np.abs(difference) <= half)
    return pd.DataFrame(table)


def exponents(fields: Array) -> dose.Exponents:
    """Of log fields (…, size) over the near distances: (1 + r)^-k and e^(-m (1 + r))."""
    return dose.exponent(fields[..., 1 : NEAR + 1], np.arange(2.0, NEAR + 2))


@lru_cache(maxsize=64)
def _floor(data: DataConfig, length: int, heldout: int) -> float:
    return best_loss(data, length, heldout).window


def languages(
    profile: str, records: Mapping[str, Record], seed: int = 0, readers: Sequence[str] = tuple(field_grids.READERS)
) -> pd.DataFrame:
    """One row a model that read a planted language.

    Columns: reader, law, planted (exponent, or rate), start, seed, exponent and by_squares, rate (1/token), heads (that
    carry), of; winner ("power" or "exponential": predicts the far half of the distances that the language uses better,
    where both starts agree; "undecided"; "unknown" where they agree too rarely), loss and best (nat/symbol: its own,
    and that of the predictor that knows the law and sees the window), reached (share of the way from guessing to the
    best), id.
    """
    rows = []
    for reader in readers:
        grid = field_grids.planted(profile, reader, seed)
        for law, value in dict.fromkeys((law, value) for law, value, _ in grid):
            found = {start: finished(grid.get((law, value, start), []), records) for start in field_grids.FREE}
            models = [(start, r, of_model(r)) for start, part in found.items() for r in part]
            if not models:
                continue
            reach = _reach(grid[law, value, field_grids.FREE[0]][0])
            fields = np.array([f for *_, f in models])
            winners = _winners(fields[:, 1 : reach + 1], [start for start, *_ in models], law)
            steep = exponents(fields)
            for i, (start, record, _) in enumerate(models):
                config = RunConfig.from_dict(record["config"])
                loss = at_length(record, 1)["loss"]  # type: ignore[index]
                best, guess = _floor(config.data, config.model["context"], config.heldout), np.log(config.data.symbols)
                heads = carry(log_fields(record))
                rows.append((reader, law, value, start, config.train.seed, steep.power[i], steep.power_ols[i],
                             steep.rate[i], int(heads.sum()), heads.size, winners[i], loss, best,
                             (guess - loss) / (guess - best), config.id))  # fmt: skip
    return pd.DataFrame(rows, columns=["reader", "law", "planted", "start", "seed", "exponent", "by_squares", "rate",
                                       "heads", "of", "winner", "loss", "best", "reached", "id"])  # fmt: skip


def _reach(config: RunConfig) -> int:
    """The largest distance at which a language has dependence enough to learn from."""
    lags = np.flatnonzero(echo.parse(config.data.corpus).weights >= USED) + 1
    return min(int(lags.max()), int(config.model["context"])) - 1


def _winners(fields: Array, starts: Sequence[str], law: str) -> list[str]:
    """Which of two laws predicts each model's far distances better, on distances at which both starts agree."""
    by_start = {s: fields[np.array([s == start for start in starts])] for s in field_grids.FREE}
    if not all(len(f) for f in by_start.values()):
        return ["unknown"] * len(fields)
    try:
        usable = agreement(by_start)["agrees"].to_numpy()
        found = dose.control(fields, np.arange(len(fields)), [law] * len(fields), usable=usable)
    except ValueError:  # too few distances are left
        return ["unknown"] * len(fields)
    return found.table.sort_values("model")["better"].tolist()


def copied(languages: pd.DataFrame, reader: str) -> Estimate | None:
    """The slope of learned on planted exponents of one reader, with its interval over seeds; None without a slope."""
    part = languages[(languages["reader"] == reader) & (languages["law"] == "power")]
    try:
        return dose.slope(part["planted"], part["exponent"], part["seed"]).slope
    except ValueError:
        return None


@dataclass(frozen=True)
class Texts:
    """Learned fields of field-only models beside what the text's own dependence predicts.

    fields  text, broken, r, learned, low, high (nat, mean over models), agrees (both starts do, or nothing is known of
            it: broken texts have one), predicted (nat), told
    texts   text, broken, learned, learned_low, learned_high, predicted (exponents over the distances that are told and
            agreed on), slope and correlation (of learned log g on predicted), bits (of dependence at r = 1), models
    across  `dose.predicted` of them; None with fewer than three texts
    """

    fields: pd.DataFrame
    texts: pd.DataFrame
    across: dose.Prediction | None


@lru_cache(maxsize=64)
def predicted(corpus: str, window: int, limit: int) -> tuple[Array, Array, float] | None:
    """Before any model is looked at: log g at r = 1 … window, which of them are told, bits of dependence at r = 1.

    None where the text is too short.
    """
    data = load_data(DataConfig("bytes", corpus))
    size = min(limit, data.size("train") - 1)
    try:
        found = dependence(data.heldout("train", size, size)[0][0], window + 1)
    except ValueError:
        return None
    guess, told = predicted_field(found)
    return guess, told, float(found.bits[1])


def texts(profile: str, records: Mapping[str, Record], seed: int = 0, limit: int = LIMIT["full"]) -> Texts:
    """Every text, whole and broken, of which there are runs, and a prediction."""
    grid, window = field_grids.texts(profile, seed), 2 * NEAR
    r, fields, rows = np.arange(1, window + 1), [], []
    for text, broken in dict.fromkeys((text, broken) for text, broken, _ in grid):
        found = {s: part for s in field_grids.FREE if (part := finished(grid.get((text, broken, s), []), records))}
        if not found or (ahead := predicted(f"{broken}{text}", window, limit)) is None:
            continue
        guess, told, bits = ahead
        logs = {start: np.array([of_model(r)[1 : window + 1] for r in part]) for start, part in found.items()}
        every, agrees = np.concatenate(list(logs.values())), np.ones(window, bool)
        if len(logs) > 1 and (both := agreement(logs))["known"].any():  # else nothing is known of it
            agrees = both["agrees"].to_numpy()
        learned = [mean(column) for column in every.T]
        fields.append(pd.DataFrame({
            "text": text, "broken": broken, "r": r, "learned": [e.value for e in learned],
            "low": [e.low for e in learned], "high": [e.high for e in learned], "agrees": agrees, "predicted": guess,
            "told": told,
        }))  # fmt: skip
        on = told & agrees
        e = mean(dose.exponent(every[:, on], r[on] + 1.0).power) if on.sum() >= 3 else mean([])
        rows.append((text, broken, e.value, e.low, e.high, bits, len(every)))
    table = pd.DataFrame(rows, columns=["text", "broken", "learned", "learned_low", "learned_high", "bits", "models"])
    shown = pd.concat(fields, ignore_index=True) if fields else pd.DataFrame()
    across = _across(shown, table) if len(table) > 2 else None
    own = None if across is None else across.table
    for name, column in (("predicted", "predicted_exponent"), ("slope", "slope"), ("correlation", "correlation")):
        table[name] = np.nan if own is None else own[column].to_numpy()
    return Texts(shown, table, across)


def _across(fields: pd.DataFrame, table: pd.DataFrame) -> dose.Prediction:
    """Lag 1, which is the distance 0, is a column of its own that does not count: `dose` numbers columns by lag."""
    gap = np.full((len(table), 1), np.nan)
    wide = {n: np.hstack([gap, fields[n].to_numpy(float).reshape(len(table), -1)]) for n in ("predicted", "learned")}
    on = (fields["told"] & fields["agrees"]).to_numpy(bool).reshape(len(table), -1)
    usable = np.hstack([np.zeros((len(table), 1), bool), on])
    names = [f"{broken}{text}" for text, broken in zip(table["text"], table["broken"])]
    corpus, shuffled = table["text"], table["broken"] != ""
    return dose.predicted(wide["predicted"], wide["learned"], names, corpus, shuffled, usable=usable)
