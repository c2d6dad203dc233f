"""Specifications of generated sources, "name:option=value:option=value", to a name and typed options (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def read(kind: str, spec: str, options: Mapping[str, Mapping[str, type]]) -> tuple[str, dict[str, Any]]:
    """(name, options) of a specification; `options`: name → option → type. ValueError lists the choices."""
    name, *parts = spec.split(":")
    if name not in options:
        raise ValueError(f"{kind} {spec!r} starts with {name!r}; expected one of {', '.join(options)}, then options")
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in options[name] or not equals:
            raise ValueError(f"{kind} {spec!r}: {part!r} is none of {', '.join(options[name])} with =value")
        try:
            found[key] = options[name][key](value)
        except ValueError:
            raise ValueError(f"{kind} {spec!r}: {key} takes {options[name][key].__name__}, got {value!r}") from None
    return name, found


def within(ranges: Mapping[str, tuple[float, float]], given: Mapping[str, Any]) -> None:
    """ValueError for an option outside its range."""
    for name, (low, high) in ranges.items():
        if name in given and not low <= given[name] <= high:
            raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {given[name]}")
