"""What code displayed, and the variables that it gave back: JSON from a sandbox, so hostile input, read by whoever shows it.

It is bounded as it came (bytes, number), and here once more in what costs more than its bytes: elements and depth.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from carrel.models import Output
from carrel.wire import jsons

MAX_DEPTH = 128
MAX_ELEMENTS = 2_000_000  # of all documents of one reply: some 200 MB of Python's objects, and half a second
MAX_TYPES = 32  # of one display
_MIME = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}(; ?[a-z0-9=._-]{1,64})?", re.IGNORECASE
)


class Allowance:
    """What all documents of one reply may have in elements, however many they are. One over it is left out, those after it may fit."""

    def __init__(self) -> None:
        self._left = MAX_ELEMENTS

    def decode(self, document: bytes) -> Any:
        """Strict JSON. Raises ValueError, RecursionError."""
        count = jsons.count_elements(document, self._left)
        if count > self._left:
            raise ValueError("too many elements")
        self._left -= count
        with _without_collections():
            return _STRICT.decode(document.decode())


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """What is being parsed is no garbage; looked for in it again and again, it would take several times as long, and everybody waits."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def display_from(document: bytes, allowance: Allowance | None = None) -> Output | None:
    """The display that a guest sent; None where it is none."""
    try:
        fields = (allowance or Allowance()).decode(document)
    except (ValueError, RecursionError):
        return None
    data, metadata = (fields.get("data"), fields.get("metadata", {})) if isinstance(fields, dict) else (None, None)
    if not isinstance(data, dict) or not isinstance(metadata, dict) or not 0 < len(data) <= MAX_TYPES:
        return None
    if not all(map(_MIME.fullmatch, data)) or is_deeper(data, MAX_DEPTH) or is_deeper(metadata, MAX_DEPTH):
        return None
    return Output(data, metadata)


def variables_from(document: bytes, allowance: Allowance | None = None) -> Mapping[str, Any]:
    """Those that there are; none where it is not what a guest should send."""
    try:
        variables = (allowance or Allowance()).decode(document) if document else {}
    except (ValueError, RecursionError):
        return {}
    return variables if isinstance(variables, dict) and not is_deeper(variables, MAX_DEPTH) else {}


def is_deeper(value: Any, levels: int) -> bool:
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


_STRICT = json.JSONDecoder(parse_constant=_refuse)
