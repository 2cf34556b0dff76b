"""Variables into a namespace and out of it, as JSON: data all the way, never code."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from typing import Any

from carrel.guest import values

_NAME = 100  # characters of a name in a message


def put(namespace: dict[str, Any], variables: Mapping[str, Any]) -> Iterator[str]:
    """Set them, and tell of those whose names no variable can have."""
    for name, value in variables.items():
        if name.isidentifier() and not keyword.iskeyword(name):
            namespace[name] = value
        else:
            yield f"{name[:_NAME]!r} cannot be a variable, and was left out"


def get(namespace: dict[str, Any], wanted: tuple[str, ...]) -> tuple[bytes, list[str]]:
    """The JSON object of those that are there and are JSON, as far as they fit; and what to say of the others that are there."""
    found, problems, copy = {}, [], values.JsonCopy()
    for name in wanted:
        if name in namespace:
            try:
                found[name] = copy.attempt(namespace[name])
            except (values.NotJson, ValueError):
                problems.append(f"the variable {name[:_NAME]!r} is not JSON or is too large, and was left out")
    return values.encode(found), problems
