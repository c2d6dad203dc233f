"""Name -> encoding: the registry of everything that is compared, in its two families.

    encoding = build("agf", layers=4, heads=8, dim=128, context=256)
    encoding = build("field", law="table", placement="weight", start="matched", layers=4, heads=8, dim=128, context=256)

*Entangled*: position is mixed into the embeddings or into q and k. *Decoupled*: it adds scores of its own, a field of
distance, or for `untied` a product of absolute positions. `start`: "published", or "matched", the one nearest to AGF's.
AGF and KERPLE-log are one family, the power law: r0 is 1 in the one, trained in the other; matched, they start alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agf_core.encodings.base import EMBEDDING_STD, Encoding, Size, choose
from agf_core.encodings.decoupled import LAWS, STARTS, FieldEncoding, law_options
from agf_core.encodings.entangled import Learned, Rotary, Sinusoidal
from agf_core.encodings.untied import Untied

__all__ = ["EMBEDDING_STD", "ENCODINGS", "LAWS", "STARTS", "Encoding", "Entry", "build", "options"]


@dataclass(frozen=True)
class Entry:
    """One encoding as published. `extra`: its parameters, in words; `limit`: undefined beyond the training length."""

    family: str
    description: str
    source: str
    extra: str
    make: Callable[..., Encoding]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    limit: bool = False


def _field(description: str, source: str, extra: str, law: str, **defaults: Any) -> Entry:
    return Entry("decoupled", description, source, extra, FieldEncoding, {"law": law, **defaults})


_AGF = "AGF, 2603.04805, as we write it"
_KERPLE = "KERPLE, 2205.09921"

ENCODINGS: dict[str, Entry] = {
    "nope": Entry("none", "no position at all", "2305.19466", "none", lambda _: Encoding()),
    "sinusoidal": Entry("entangled", "fixed waves added to the embeddings", "1706.03762", "none", Sinusoidal),
    "learned": Entry(
        "entangled", "a trained vector per position, added", "1706.03762", "context x dim", Learned, limit=True
    ),
    "untied": Entry(
        "decoupled",
        "absolute positions score apart from content",
        "TUPE, 2006.15595",
        "(context + 2 dim + 2) x dim",
        Untied,
    ),
    "rotary": Entry("entangled", "q and k turned by their positions", "RoPE, 2104.09864", "none", Rotary),
    "alibi": _field("e^(-m r), m fixed", "ALiBi, 2108.12409", "none", "exponential", trainable=False),
    "t5": _field("a table over 32 buckets of distance", "T5, 1910.10683", "32 per head", "table", share=True),
    "fire": _field("an MLP of log distance", "FIRE, 2310.04418", "33 per head and 65, per layer", "mlp"),
    "kerple_log": _field("(1 + r/r0)^-k, r0 trained", _KERPLE, "k and r0 per head and layer", "shifted_power"),
    "kerple_power": _field("e^(-a r^p)", _KERPLE, "a and p per head and layer", "stretched_exponential"),
    "agf": _field("(1 + r)^-k", _AGF, "k per head and layer", "power"),
    "agf_score": _field("(1 + r)^-k times the score", f"{_AGF}; placement ours", "as agf", "power", placement="score"),
    "agf_weight": _field("(1 + r)^-k after softmax", f"{_AGF}; placement ours", "as agf", "power", placement="weight"),
}
_FIELD = Entry("decoupled", "any law at any placement", "ours", "those of the law", FieldEncoding)
_COMMON = ("start", "trainable", "directional", "share")


def options(name: str, law: str = "") -> list[str]:
    """Names of the options that `build(name)` takes; for "field", those with `law`. ValueError as `build`'s."""
    entry = _entry(name)
    if entry.make is FieldEncoding:
        own = ("law", "placement") if entry is _FIELD else ()
        return [*own, *_COMMON, *law_options(entry.defaults.get("law", law))]
    return list(inspect.signature(entry.make).parameters)[1:]


def build(name: str, *, layers: int, heads: int, dim: int, context: int, **given: Any) -> Encoding:
    """One encoding for one model; ValueError that lists the choices for an unknown name, option, law or start.

    Fields take `start` (`STARTS`), `trainable`, `directional` (two-sided, for encoders), `share` (one field for all
    layers) and their law's options; "field" also takes `law` (of `LAWS`) and `placement`. `sinusoidal` takes `start`,
    `rotary` takes `base`. Random starts draw from torch's global generator.
    """
    entry = _entry(name)
    known = options(name, given.get("law", ""))
    unknown = [option for option in given if option not in known]
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; choose from {', '.join(known) or 'none'}")
    settings = {**entry.defaults, **given}
    if name == "alibi" and not settings["trainable"]:
        settings.setdefault("share", True)  # nothing could differ between layers
    return entry.make(Size(layers, heads, dim, context), **settings)


def _entry(name: str) -> Entry:
    if name == "field":
        return _FIELD
    choose("encoding", name, (*ENCODINGS, "field"))
    return ENCODINGS[name]
