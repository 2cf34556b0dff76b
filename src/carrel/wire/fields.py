"""Fields of a JSON object from a caller, each checked for its type. All raise RequestInvalid naming the field; null counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrel.errors import RequestInvalid


def text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestInvalid(f"'{name}' must be a string.", target=name)
    return value


def texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RequestInvalid(f"'{name}' must be a list of strings.", target=name)
    return tuple(value)


def word(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    """One of a fixed set of words in any case; comes back in the caller's own."""
    value = text(fields, name)
    if value is None:
        return default
    if value.lower() not in allowed:
        raise RequestInvalid(f"'{name}' must be one of {', '.join(allowed)}.", target=name)
    return value


def integer(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise RequestInvalid(f"'{name}' must be a whole number.", target=name)
    return value


def utf8_size(value: str, name: str) -> int:
    """Bytes of a text, which must be one that UTF-8 has."""
    try:
        return len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"'{name}' holds half of a surrogate pair.", target=name) from error
