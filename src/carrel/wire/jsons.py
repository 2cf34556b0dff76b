"""JSON from strangers and JSON to send: bounded on the way in, always valid on the way out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from carrel.errors import ContentTooLarge, RequestInvalid

MAX_BODY = 16 * 1024 * 1024  # holds code of 8 MiB in base64 or with its line ends and quotes escaped
MAX_ELEMENTS = 10_000
_SMALL = 64 * 1024
_MARKS = (b",", b"[", b"{")
_FEW = 1000  # marks, which are not worth a look at where they stand
_QUOTES = 200_000  # each piece between two costs some 50 bytes

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def decode_object(body: bytes | bytearray) -> dict[str, Any]:
    """A body that must be one JSON object. Raises RequestInvalid, or ContentTooLarge over MAX_BODY."""
    if len(body) > MAX_BODY:
        raise ContentTooLarge(f"The request body may have {MAX_BODY} bytes at most.")
    try:
        body = _as_utf_8(body)
        _refuse_bombs(body)
        value = json.loads(body)
    except RecursionError as error:
        raise RequestInvalid("The request body is nested too deeply.", target="$") from error
    except ValueError as error:  # JSONDecodeError, bad UTF-8, a number with too many digits
        raise RequestInvalid(f"The request body is not valid JSON: {_reason(error)}.", target="$") from error
    if not isinstance(value, dict):
        raise RequestInvalid("The request body must be a JSON object.", target="$")
    return value


def encode(value: Any) -> bytes:
    """Compact JSON. ASCII only, so that lone surrogates from a guest cannot make it invalid UTF-8; NaN and infinities become strings."""
    try:
        return _encoder.encode(value).encode("ascii")
    except ValueError:
        return _encoder.encode(_finite(value)).encode("ascii")


def is_strict(value: Any) -> bool:
    """Whether a value has a form in JSON as the standard has it: NaN and infinities have none. Raises RecursionError."""
    try:
        _encoder.encode(value)
    except ValueError:
        return False
    return True


def is_storable(value: Any) -> bool:
    """Whether all of its texts can be kept in a database: PostgreSQL has no null characters, and nobody has half of a surrogate pair."""
    inside = [value]
    while inside:
        each = inside.pop()
        if isinstance(each, dict):
            inside += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            inside += each
        elif isinstance(each, str) and _UNSTORABLE.search(each):
            return False
    return True


def is_deep(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in it more than `levels` deep."""
    inside = [value]
    for _ in range(levels + 1):
        inside = [each for held in inside for each in _held(held)]
    return bool(inside)


def _held(value: Any) -> Iterable[Any]:
    """What a list or object holds; an empty one still counts as a level, by a placeholder."""
    if isinstance(value, dict):
        return value.values() or (None,)
    return (value or (None,)) if isinstance(value, list) else ()


def count_elements(document: bytes | bytearray, most: int) -> int:
    """How many commas and opening brackets there are outside of strings, or `most` + 1 where there are more.

    Where there are few of them, or very many strings, all are counted wherever they stand. Valid JSON of n elements has 2n + 1 strings at
    the most: with more quotes than these have, a document of millions of strings is not taken apart.
    """
    count = sum(map(document.count, _MARKS))
    if count > _FEW:
        bare = document.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is escaped ends no string
        quotes = bare.count(b'"')
        if quotes > 4 * most + 2:
            return most + 1
        if quotes <= _QUOTES:
            outside = b"".join(bare.split(b'"')[::2])  # a string that is never closed counts up to the end
            count = sum(map(outside.count, _MARKS))
    return min(count, most + 1)


def _as_utf_8(body: bytes | bytearray) -> bytes | bytearray:
    """What json.loads takes in other encodings too: there a quote's byte may be half of another character."""
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return body
    return body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")


def _refuse_bombs(body: bytes | bytearray) -> None:
    """A few megabytes of `[[],[],…` become hundreds once parsed: count what is outside strings first, where a body is large."""
    if len(body) > _SMALL and count_elements(body, MAX_ELEMENTS) > MAX_ELEMENTS:
        raise RequestInvalid(f"The request body may have {MAX_ELEMENTS} elements at most.", target="$")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number in it is too long"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
