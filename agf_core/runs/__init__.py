"""Grids of training runs: identity, store, resume, executor (ours). `python -m agf_core.runs` makes them.

A run's *identity* is the hash of its configuration; its *freshness* that of the code it went through (syntax trees,
docstrings removed) and of its text. Own runs lie in the store (`AGF_STORE`, else `.agf` of a checkout), one JSON and
one file of weights each, written in one piece; a stale one is made again. Reference runs lie in `data/runs`, packed by
grid, and are shown with the commit they were made from. Needs torch, numpy and safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import agf_core
from agf_core.encodings import ENCODINGS
from agf_core.encodings import options as encoding_options
from agf_core.evaluation import evaluate
from agf_core.freshness import code_hash
from agf_core.model import ModelConfig, Transformer
from agf_core.provenance import commit
from agf_core.sources import locate
from agf_core.sources.datasets import SPLITS, Data, DataConfig, load_data
from agf_core.sources.tables import data_path
from agf_core.training import Diverged, TrainConfig, build_model, train

TICK = 15.0  # seconds between lines of progress where the output is no terminal
Record = dict[str, Any]


@dataclass(frozen=True)
class RunConfig:
    """One training run and what is measured after it.

    model    `ModelConfig` by keyword, less what the data decide (vocab_size, outputs, causal)
    split    where it is measured: "test", or "valid" for tuning and pilots
    heldout  tokens at each length;  lengths: multiples of the model's context
    by_symbol  whether the loss of every symbol is kept
    through  how often in training the held-out loss of every symbol is measured: "through" of the record, see `train`
    """

    model: Mapping[str, Any]
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    split: str = "test"
    heldout: int = 65_536
    lengths: tuple[int, ...] = (1,)
    by_symbol: bool = False
    through: int = 0

    def __post_init__(self) -> None:
        if taken := {"vocab_size", "outputs", "causal"} & set(self.model):
            raise ValueError(f"the data decide {', '.join(sorted(taken))}; leave it out of `model`")
        # Unknown keys, wrong sizes, unknown encodings and laws are refused here, not in a worker.
        model = ModelConfig(vocab_size=1, **self.model)
        encoding_options(model.encoding, model.encoding_options.get("law", ""))
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; choose from {', '.join(SPLITS)}")
        if self.heldout < 1 or not self.lengths or min(self.lengths) < 1 or self.through < 0:
            given = f"{self.heldout}, {self.lengths} and {self.through}"
            raise ValueError(f"heldout and lengths start at 1, through at 0; got {given}")

    @property
    def id(self) -> str:
        """16 hexadecimal digits: the same for the same configuration, on any machine."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. `through` is named only where it is asked for: ids from before it was there stay."""
        found = dict(json.loads(json.dumps(asdict(self), default=dict)))
        return found if self.through else {k: v for k, v in found.items() if k != "through"}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> RunConfig:
        """The inverse of `to_dict`; TypeError for a key that is none of ours."""
        data, training = DataConfig(**given["data"]), TrainConfig(**given["train"])
        return cls(**{**given, "data": data, "train": training, "lengths": tuple(given["lengths"])})

    def model_config(self, data: Data) -> ModelConfig:
        """The model for this data."""
        return ModelConfig(vocab_size=data.vocab_size, outputs=data.outputs, causal=data.causal, **self.model)


@lru_cache(maxsize=1)
def fresh_code() -> str:
    """The hash of the code that a run goes through."""
    return code_hash("agf_core.runs")


def make(config: RunConfig, device: str, folder: Path | None, code: str) -> Record:
    """Train and measure one run, resuming what an earlier call left; its record, with provenance. Nothing is stored
    but the weights: `folder`/<id>.safetensors. `code`: `fresh_code()`, as it was when the grid was started."""
    start, began = time.perf_counter(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    data = load_data(config.data)
    record: Record = {"id": config.id, "config": config.to_dict(), "status": "ok", "code": code}
    weights = None if folder is None else folder / f"{config.id}.safetensors"
    version = f"{code} {(data.origin or {}).get('sha256')}"
    for multiple in config.lengths:  # a text too short is refused before the training, not after it
        data.heldout(config.split, multiple * _context(config), 1)
    try:
        model, history = train(
            config.model_config(data), data, config.train, device=device, checkpoint=weights, version=version,
            watch=lambda m: _by_symbol(config, m, data), times=config.through,
        )  # fmt: skip
        record |= {"parameters": model.count(), "epochs": round(data.epochs(config.train.tokens, _context(config)), 3)}
        record |= history | {"chance": data.chance, "measured": _measure(config, model, data)}
    except Diverged as error:
        record |= {"status": "failed", "error": str(error), "step": error.step}
    record["provenance"] = {
        "started": began,
        "seconds": round(time.perf_counter() - start, 1),
        "commit": commit(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "agf_core": agf_core.__version__},
        "text": data.origin,
    }
    return record


def _context(config: RunConfig) -> int:
    return int(config.model["context"])


def _measure(config: RunConfig, model: Transformer, data: Data) -> dict[str, Any]:
    """Length → metrics; None where the encoding is not defined."""
    found: dict[str, Any] = {}
    name = model.config.encoding
    for multiple in config.lengths:
        length = multiple * _context(config)
        undefined = multiple > 1 and name in ENCODINGS and ENCODINGS[name].limit
        kept = config.by_symbol and multiple == 1
        found[str(length)] = (
            None if undefined else evaluate(model, data, config.split, length, config.heldout, by_symbol=kept)
        )
    return found


def _by_symbol(config: RunConfig, model: Transformer, data: Data) -> dict[str, list[float]]:
    """Symbol → [held-out loss sum, targets] at the training length."""
    found = evaluate(model, data, config.split, _context(config), config.heldout, by_symbol=True)
    return dict(found["symbols"])


class Store:
    """Own runs in a folder, reference runs beside the library."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or locate.store() / "runs"

    def own(self, config: RunConfig) -> Record | None:
        """The own run of this configuration, fresh or not. A damaged entry is set aside, with a line that says so."""
        path = self.folder / f"{config.id}.json"
        try:
            record = json.loads(path.read_text(encoding="utf8"))
            if record["id"] != config.id or record["status"] not in ("ok", "failed"):
                raise ValueError("it is another run's")
            _ = record["code"], record["provenance"]["text"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.replace(path.with_suffix(".damaged"))
            print(f"note: {path.name} is damaged ({error}); set aside as {path.stem}.damaged, to be made again")
            return None
        return record if isinstance(record, dict) else None

    def why_stale(self, record: Record) -> str:
        """Why an own run would come out otherwise today; "" if it would not."""
        if record["code"] != fresh_code():
            return "the code has changed"
        text = record["provenance"]["text"]
        return locate.stale(text) if text else ""

    def write(self, record: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{record['id']}.json"
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(record), encoding="utf8")
        part.replace(path)

    def find(self, config: RunConfig) -> Record | None:
        """A fresh own run, or the reference run, or None."""
        record = self.own(config)
        return record if record and not self.why_stale(record) else reference_runs().get(config.id)

    def model(self, config: RunConfig) -> Transformer:
        """The trained model of an own run; FileNotFoundError if its weights are not here, or of another version."""
        from safetensors.torch import load_file

        path = self.folder / f"{config.id}.safetensors"
        record = self.own(config)  # a run that was interrupted has weights, but no record yet
        if not record or record["status"] != "ok" or self.why_stale(record) or not path.is_file():
            why = "reference runs keep none; `run_grid(…, own=True)` trains it"
            raise FileNotFoundError(f"no weights of run {config.id}: {why}")
        model = build_model(config.model_config(load_data(config.data)), config.train.seed)
        kept = {n.removeprefix("model."): t for n, t in load_file(path).items() if n.startswith("model.")}
        model.load_state_dict(kept)
        return model.eval()


@lru_cache(maxsize=1)
def reference_runs() -> dict[str, Record]:
    """Every run stored with the library, by id."""
    found: dict[str, Record] = {}
    for path in sorted(data_path("runs").glob("*.json")):
        packed = json.loads(path.read_text(encoding="utf8"))
        if isinstance(packed, dict) and packed.get("kind") == "runs":
            found |= {record["id"]: record for record in packed["records"]}
    return found


def _anywhere(record: Record) -> Record:
    """The record without the place and the time of its text's file, which mean nothing on another machine."""
    about = record.get("provenance", {})
    if not about.get("text"):
        return record
    text = {k: v for k, v in about["text"].items() if k not in ("path", "mtime_ns")}
    return {**record, "provenance": {**about, "text": text}}


def pack(records: Iterable[Record], path: Path) -> None:
    """Write records as reference runs: one file, one line a run."""
    kept = [_anywhere(r) for r in sorted(records, key=lambda r: str(r["id"]))]
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(f'{{"kind":"runs","records":[\n{lines}\n]}}\n', encoding="utf8")
    part.replace(path)


def run_grid(
    configs: Sequence[RunConfig],
    *,
    store: Store | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    device: str = "cpu",
    own: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Record]:
    """The record of every configuration, in order; what is missing is made, on all cores, one thread a run.

    `executor`: any `concurrent.futures.Executor` (Dask: `client.get_executor()`). `own`: reference runs do not count.
    `say` gets lines of progress with the time to go. Interrupted, it keeps what is finished and goes on when called
    again. A run that diverged is a record with status "failed".
    """
    store = store or Store()
    wanted = {c.id: c for c in configs}
    found: dict[str, Record] = {}
    for id, config in wanted.items():
        record = store.own(config) if own else store.find(config)
        if record and not (own and store.why_stale(record)):
            found[id] = record
    todo = sorted((c for id, c in wanted.items() if id not in found), key=_cost, reverse=True)
    if say and wanted:
        say(f"{len(wanted)} runs: {len(found)} are here, {len(todo)} to make")
    if todo:
        watch = _Watch(todo, say)
        for record in _made(todo, store, executor, workers, device, watch):
            found[record["id"]] = record
            if not distributed.is_initialized() or distributed.get_rank() == 0:
                store.write(record)
            watch.done(record)
    return [found[c.id] for c in configs]


def _made(
    todo: list[RunConfig], store: Store, executor: Executor | None, workers: int | None, device: str, watch: _Watch
) -> Iterable[Record]:
    """Records as they are finished."""
    workers = min(len(todo), workers or (os.cpu_count() or 1 if device == "cpu" else 1))
    if executor is None and (workers == 1 or distributed.is_initialized()):
        for config in todo:
            yield make(config, device, store.folder, fresh_code())
        return
    pool = executor or ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread)
    futures: list[Future[Record]] = [pool.submit(make, c, device, store.folder, fresh_code()) for c in todo]
    try:
        while futures:
            finished = wait(futures, timeout=TICK, return_when="FIRST_COMPLETED").done
            futures = [f for f in futures if f not in finished]
            yield from (f.result() for f in finished)
            watch.tick()
    except BaseException:
        for future in futures:
            future.cancel()
        if executor is None:
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
        raise
    finally:
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    """A worker's start: one thread, Ctrl-C is the parent's to handle, and no worker outlives a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _cost(config: RunConfig) -> float:
    """How long a run takes, in arbitrary units: multiplications a token, those of the output layer included."""
    m = config.model
    body = m["layers"] * (12 * m["dim"] ** 2 + 2 * m["context"] * m["dim"])
    symbols = {"bytes": 256, "words": config.data.vocabulary}.get(config.data.kind, 64)
    return float(config.train.tokens * (body + symbols * m["dim"]))


class _Watch:
    """Says how many are done and how long the rest will take."""

    def __init__(self, todo: list[RunConfig], say: Callable[[str], None] | None) -> None:
        self.cost = {c.id: _cost(c) for c in todo}
        self.total, self.finished, self.count = sum(self.cost.values()), 0.0, 0
        self.say, self.start, self.last = say, time.monotonic(), 0.0

    def done(self, record: Record) -> None:
        self.count += 1
        self.finished += self.cost[record["id"]]
        if record["status"] == "failed" and self.say:
            name = record["config"]["model"].get("encoding", "agf")
            self.say(f"FAILED {record['id']} ({name}): {record['error']}")
        self.tick(force=self.count == len(self.cost))

    def tick(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.say and (force or now - self.last > TICK):
            self.last, elapsed = now, now - self.start
            left = elapsed * (self.total / self.finished - 1) if self.finished else 0
            to_go = f", about {left / 60:.0f} min to go" if left > 90 else f", {left:.0f} s to go" if left else ""
            self.say(f"{self.count} of {len(self.cost)} runs made in {elapsed:.0f} s{to_go}")


def with_text(config: RunConfig, path: str) -> RunConfig:
    """The same run on another text."""
    given = config.to_dict()
    if given["data"]["corpus"]:
        given["data"]["corpus"] = path
    return RunConfig.from_dict(given)
