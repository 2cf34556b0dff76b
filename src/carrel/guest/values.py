"""Turning what a cell gave into the Value document that goes to the agent: JSON text, bounded, never more than one pass over the object.

What may be called on a user's object is kept to a minimum here (type checks, and the built-in types' own methods rather than a
subclass's), since every call on it runs user code. Raising is fine: the caller treats it as the cell's own error.
"""

from __future__ import annotations

import base64
import json
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]

ABSENT: Document = {"kind": "absent"}
MAX_TEXT = 1024 * 1024  # characters of pretty text
MAX_JSON = 8 * 1024 * 1024  # bytes of a container's or a string's JSON
MAX_DEPTH = 64  # deeper containers go as text; also what stops a cycle

_json_dumps = json.dumps  # before user code can put another in its place
_CUT = "\n… (cut)"


class NotJson(Exception):
    """The value holds something that JSON does not, or too much of it."""


def is_plain(value: object) -> bool:
    """Whether `document` takes it: a scalar or one of the built-in containers."""
    return issubclass(type(value), (list, tuple, dict)) or scalar(value)[0]


def document(value: object, pretty: Callable[[object], str]) -> Document:
    """The Value document of a plain value; `pretty` gives IPython's text of a container. Raises what the object's own code raises."""
    is_scalar, plain = scalar(value)
    if is_scalar:
        return {"kind": "scalar", "json": plain}
    shown = text(pretty(value))
    try:
        return {**shown, "kind": "container", "json": JsonCopy().convert(value)}
    except NotJson:
        return shown


def text(shown: str) -> Document:
    return {"kind": "text", "text": cut(shown)}


def image(image_format: str, content: bytes | str) -> Document:
    """Of raw bytes, or of base64 in IPython's spelling (with line ends)."""
    encoded = base64.b64encode(content).decode("ascii") if isinstance(content, bytes) else content.replace("\n", "")
    return {"kind": "image", "json": {"type": "image", "format": image_format, "base64_data": encoded}}


def encode(value: Any) -> bytes:
    """As it goes over the wire. Lone surrogates, which UTF-8 does not have, make it escape everything; so it cannot fail."""
    try:
        return _dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return _dumps(value, ensure_ascii=True).encode("ascii")


def _dumps(value: Any, *, ensure_ascii: bool) -> str:
    return _json_dumps(value, separators=(",", ":"), ensure_ascii=ensure_ascii, allow_nan=False)


def cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(_CUT)] + _CUT


def scalar(value: object) -> tuple[bool, Any]:
    """Whether `value` is None, a bool, a number or a string, and what it is in JSON.

    By its real type: a proxy that lies about `__class__` has none of the methods that are called here. Fractions, decimals and sympy's
    floats are no JSON numbers: the digits that make people use them would be gone.
    """
    if value is None or value is True or value is False:
        return True, value
    kind = type(value)
    if issubclass(kind, str):
        text = str.__str__(value)
        return True, text if len(text) <= MAX_TEXT else cut(text)
    if issubclass(kind, float):
        return True, _float(float.__float__(value))  # type: ignore[arg-type]
    if issubclass(kind, int):
        return True, _integer(int.__int__(value))  # type: ignore[arg-type]
    if _is_numpy_scalar(kind):
        return _numpy(value)
    if issubclass(kind, numbers.Integral):
        return True, _integer(int(value))  # type: ignore[call-overload]
    return False, None


def _float(number: float) -> float | str:
    """JSON has no NaN and no infinities; Azure sends "nan" (api-version 2025-10-02-preview, example Result_NaN)."""
    return number if math.isfinite(number) else str(number)


def _integer(number: int) -> int:
    """As it is. Raises ValueError, in Python's own words, past sys.int_max_str_digits: nobody could print it either."""
    if number.bit_length() > 1024:
        int.__repr__(number)
    return number


def _is_numpy_scalar(kind: type) -> bool:
    """By the type's name: numpy is not there in every image, and importing it only to ask would cost 100 ms."""
    return any(base.__module__ == "numpy" and base.__name__ == "generic" for base in kind.__mro__)


def _numpy(value: Any) -> tuple[bool, Any]:
    """Booleans, integers and floats; datetime64, timedelta64 (an integer by its base class), complex and void are text."""
    match value.dtype.kind:
        case "b":
            return True, bool(value)
        case "i" | "u":
            return True, int(value)
        case "f":
            return True, _float(float(value))
        case _:
            return False, None


class JsonCopy:
    """JSON-able copies of what is plain, `size` bytes of them at the most. Raises NotJson as soon as that is known to be impossible.

    A NaN and its kind are strings, as in a value; or null, as in a specification that others read.
    """

    def __init__(self, size: int = MAX_JSON, *, has_null_for_nan: bool = False) -> None:
        self._left, self._has_null_for_nan = size, has_null_for_nan

    def convert(self, value: object, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise NotJson
        kind = type(value)
        if issubclass(kind, list):
            return self._array(list.__iter__(value), depth)  # type: ignore[arg-type]
        if issubclass(kind, tuple):
            return self._array(tuple.__iter__(value), depth)  # type: ignore[arg-type]
        if issubclass(kind, dict):
            return self._object(value, depth)  # type: ignore[arg-type]
        is_scalar, plain = scalar(value)
        if not is_scalar:
            raise NotJson
        if self._has_null_for_nan and issubclass(kind, float) and not isinstance(plain, float):
            plain = None
        self._spend(_size(plain))
        return plain

    def _array(self, items: Iterator[Any], depth: int) -> list[Any]:
        self._spend(2)
        return [self.convert(item, depth + 1) for item in items]

    def _object(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        converted = {}
        self._spend(2)
        for key, item in dict.items(value):
            if not issubclass(type(key), str):
                raise NotJson
            plain = str.__str__(key)
            self._spend(_size(plain) + 1)
            converted[plain] = self.convert(item, depth + 1)
        return converted

    def attempt(self, value: object) -> Any:
        """As `convert`; what did not work out takes nothing of the rest."""
        left = self._left
        try:
            return self.convert(value)
        except NotJson:
            self._left = left
            raise

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise NotJson


def _size(plain: Any) -> int:
    """About the bytes of a scalar's JSON with its comma."""
    if isinstance(plain, str):
        return 3 + (len(plain) if plain.isascii() else len(plain.encode("utf-8", "surrogatepass")))
    if isinstance(plain, int):
        return 2 + plain.bit_length() // 3
    return 5 if plain is None else 18
