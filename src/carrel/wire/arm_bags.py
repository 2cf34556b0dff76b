"""Property bags: objects within objects, of one form, without nulls and without empty objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(bag: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396. Objects that are left empty go too: a bag has one form."""
    result = dict(bag)
    for name, value in patch.items():
        if isinstance(value, Mapping):
            there = result.get(name)
            value = merged(there if isinstance(there, Mapping) else {}, value)
        if value is None or value == {}:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def at(bag: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        if not isinstance(bag, Mapping) or name not in bag:
            return None
        bag = bag[name]
    return bag


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}
