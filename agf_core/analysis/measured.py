"""What is measured from trained weights: here where they are, else as stored beside the reference runs (ours).

    found = of("forgetting", configs, forgetting.measure)                     # run id → what `measure` finds
    python -m agf_core.analysis.measured forgetting --profile full --out data/runs/forgetting.json

Own runs are measured from their weights. Reference runs keep none: what was measured from them is stored in
data/runs/<name>.json, by the run's id, with the commit. The command asks the module of that name for `configs(profile)`
and `measure(model, config)`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from agf_core.model import Transformer
from agf_core.provenance import commit
from agf_core.runs import RunConfig, Store
from agf_core.sources.tables import read_stored

Found = dict[str, Any]
T = TypeVar("T")
Say = Callable[[str], object]


def of(
    name: str,
    configs: Sequence[RunConfig],
    measure: Callable[[Transformer, RunConfig], T],
    say: Say | None = None,
    read: Callable[[Found], T] = lambda stored: stored,  # type: ignore[assignment, return-value]
) -> dict[str, T]:
    """Run id → what `measure` finds in its weights, or what is stored, as `read` reads it; absent where neither is."""
    found, store = {}, Store()
    for number, config in enumerate(configs, 1):
        try:
            found[config.id] = measure(store.model(config), config)
        except FileNotFoundError:
            if config.id in stored(name):
                found[config.id] = read(stored(name)[config.id])
        if say:
            say(f"{number} of {len(configs)} models measured")
    return found


@lru_cache(maxsize=8)
def stored(name: str) -> Mapping[str, Found]:
    """What was measured from reference runs, by id; empty where nothing is stored."""
    packed = read_stored("runs", f"{name}.json")
    return packed["models"] if packed else {}


def pack(
    name: str,
    configs: Sequence[RunConfig],
    measure: Callable[[Transformer, RunConfig], Found],
    path: Path,
    say: Say | None = None,
) -> int:
    """Measure the own runs among `configs` and add them to the file at `path`; how many. The rest of it stays."""
    kept: Found = json.loads(path.read_text("utf-8"))["models"] if path.is_file() else {}
    store, count = Store(), 0
    for number, config in enumerate(configs, 1):
        kept[config.id] = json.loads(json.dumps(measure(store.model(config), config)))
        count += 1
        if say:
            say(f"{number} of {len(configs)} models measured")
    lines = ",\n".join(f'"{id}":{json.dumps(one, separators=(",", ":"))}' for id, one in sorted(kept.items()))
    part = path.with_name(path.name + ".part")
    part.write_text(f'{{"kind":"measured","name":"{name}","commit":"{commit()}","models":{{\n{lines}\n}}}}\n', "utf-8")
    part.replace(path)
    return count


def main(arguments: list[str] | None = None) -> int:
    """Measure the own runs that a module names, and pack them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="a module of agf_core.analysis with configs(profile) and measure(model, config)")
    parser.add_argument("--profile", default="full", choices=("smoke", "cpu", "full"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    module = importlib.import_module(f"agf_core.analysis.{given.module}")
    if not hasattr(module, "configs") or not hasattr(module, "measure"):
        parser.error(f"{given.module} has no configs(profile) and measure(model, config)")
    configs = module.configs(given.profile)
    count = pack(given.module, configs, module.measure, given.out, lambda line: print(f"  {line}", flush=True))
    print(f"packed what {count} models gave into {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
