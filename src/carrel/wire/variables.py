"""What variables a session has, from a guest's summary to the reply. What a guest sends is hostile input, also where it is well-formed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrel.models import VariableSummary
from carrel.wire import jsons

MAX_SUMMARIES = 1000
_MAX_NAME, _MAX_TEXT, _MAX_DIRECTIONS = 255, 200, 32
_MAX_SIZE = 2**53 - 1  # what every reader of JSON holds exactly


def summaries_from(document: Mapping[str, Any]) -> tuple[list[VariableSummary], int]:
    """The summaries that are ones, and how many variables there are in all."""
    given = document.get("summary")
    items = given[:MAX_SUMMARIES] if isinstance(given, list) else []
    found = [each for item in items if isinstance(item, dict) and (each := _summary(item)) is not None]
    return found, max(len(found), _size(document.get("total")) or 0)


def encode_summaries(found: list[VariableSummary], total: int) -> bytes:
    value = [
        {
            "name": each.name,
            "type": each.type_name,
            "size": each.size,
            "shape": None if each.shape is None else list(each.shape),
            "preview": each.preview,
        }
        for each in found
    ]
    return jsons.encode({"value": value, "total": total})


def _summary(item: dict[str, Any]) -> VariableSummary | None:
    name, kind, preview, shape = item.get("name"), item.get("type"), item.get("preview", ""), item.get("shape")
    if not (isinstance(name, str) and name and isinstance(kind, str) and isinstance(preview, str)):
        return None
    lengths = [_size(each) for each in shape[:_MAX_DIRECTIONS]] if isinstance(shape, list) else [None]
    known = tuple(each for each in lengths if each is not None)
    return VariableSummary(
        name[:_MAX_NAME],
        kind[:_MAX_TEXT],
        _size(item.get("size")),
        known if len(known) == len(lengths) else None,
        preview[:_MAX_TEXT],
    )


def _size(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_SIZE else None
