"""What code displayed, and the variables that it gave back: JSON from a sandbox, so hostile input, read by whoever shows it.

It is bounded as it came (bytes, number), and here once more in what costs more than its bytes: elements and depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from carrel.models import Output

MAX_DEPTH = 128
MAX_ELEMENTS = 1_000_000  # some 100 MB of Python's objects
MAX_TYPES = 32  # of one display
_MIME = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}(; ?[a-z0-9=._-]{1,64})?", re.IGNORECASE
)
_STRING = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL
)  # as wire/jsons.py has it, for the same reason
_SMALL = 64 * 1024


def decode(document: bytes) -> Any:
    """Strict JSON within its bounds. Raises ValueError, RecursionError."""
    if len(document) > _SMALL:
        outside = _STRING.sub(b"", document)
        if sum(outside.count(mark) for mark in (b",", b"[", b"{")) > MAX_ELEMENTS:
            raise ValueError("too many elements")
    return STRICT.decode(document.decode())


def display_from(document: bytes) -> Output | None:
    """The display that a guest sent; None where it is none."""
    try:
        fields = decode(document)
    except (ValueError, RecursionError):
        return None
    data, metadata = (fields.get("data"), fields.get("metadata", {})) if isinstance(fields, dict) else (None, None)
    if not isinstance(data, dict) or not isinstance(metadata, dict) or not 0 < len(data) <= MAX_TYPES:
        return None
    if not all(map(_MIME.fullmatch, data)) or _is_deeper(data, MAX_DEPTH) or _is_deeper(metadata, MAX_DEPTH):
        return None
    return Output(data, metadata)


def variables_from(document: bytes) -> Mapping[str, Any]:
    """Those that there are; none where it is not what a guest should send."""
    try:
        variables = decode(document) if document else {}
    except (ValueError, RecursionError):
        return {}
    return variables if isinstance(variables, dict) and not _is_deeper(variables, MAX_DEPTH) else {}


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether it is nested deeper than that: what follows here, and in those who read it, would recurse."""
    level = [value]
    for _ in range(levels):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


STRICT = json.JSONDecoder(parse_constant=_refuse)
