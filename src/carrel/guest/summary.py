"""What variables there are, for eyes: name, type, size and the beginning of each, without running any code of theirs.

An object is asked for nothing: its type is the real one (`__class__` may lie), and what is looked into are built-in types, by their own
methods and not a subclass's, and arrays and frames of numpy and pandas by what these libraries are. `__repr__`, `__len__` and `__sizeof__`
of anybody else are never called: they may take as long as they like, and change what they show. Everything is bounded: variables,
characters of each, depth, and the time of all of it.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import operator
import time
import types
from collections.abc import Iterable, Mapping
from typing import Any

from carrel.guest import values

MAX_VARIABLES = 1000
MAX_NAME = 255
MAX_PREVIEW = 200  # characters
DEADLINE_S = 1.0  # of the whole: those after it have a name and a type

_ITEMS, _DEPTH, _DIGITS = 8, 3, 4000  # decimal digits are quadratic work
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made at run time, as by a class statement
_PRINTED: tuple[type, ...] = (
    *(bool, complex, float, type(None), range, type(...), decimal.Decimal),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
)  # exact types whose repr is their own, in C, and short
_SEQUENCES: tuple[tuple[Any, str, str], ...] = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (set, "{", "}"),
    (frozenset, "frozenset({", "})"),
)
_clock, _first = time.monotonic, operator.itemgetter(0)

Document = dict[str, Any]


def document(namespace: dict[str, Any], hidden: Mapping[str, Any]) -> bytes:
    """The summaries by name, as many as there may be, and how many variables there are. `hidden` are those that nobody made."""
    items = list(dict.items(namespace))
    shown = [(name, value) for name, value in items if type(name) is str and _is_shown(name, value, hidden)]
    shown.sort(key=_first)
    until = _clock() + DEADLINE_S
    found = [_summary(name, value, until) for name, value in shown[:MAX_VARIABLES]]
    return values.encode({"summary": found, "total": len(shown)})


def _is_shown(name: str, value: object, hidden: Mapping[str, Any]) -> bool:
    """As `%who` has it, without modules and what comes from them: what was imported is not what was made."""
    return not name.startswith("_") and not _is_imported(value) and hidden.get(name, hidden) is not value


def _is_imported(value: Any) -> bool:
    """A module, or a class or function of one."""
    kind = type(value)
    if issubclass(kind, type):
        return _module(value) != "__main__"
    if kind is types.FunctionType:
        return bool(value.__module__ != "__main__" and type(value.__module__) is str)
    return issubclass(kind, (types.ModuleType, types.BuiltinFunctionType))


def _summary(name: str, value: object, until: float) -> Document:
    kind = type(value)
    found: Document = {"name": name[:MAX_NAME], "type": _type_name(kind), "size": None, "shape": None, "preview": ""}
    if _clock() < until:
        for field, look in (("size", _size), ("shape", _shape), ("preview", _preview)):
            try:
                found[field] = look(value)
            except Exception:  # noqa: S112 - a library's own code, or a dict that a thread changes meanwhile
                continue
    return found


def _type_name(kind: type) -> str:
    """As tracebacks name it."""
    name, module = str.__str__(type.__dict__["__qualname__"].__get__(kind)), _module(kind)
    return (name if module in ("", "builtins", "__main__") else f"{module}.{name}")[:MAX_PREVIEW]


# Sizes


def _size(value: Any) -> int | None:
    """Bytes: of an array or a frame all of its data, of anything else built in what it takes itself without what it holds."""
    if _is(value, "numpy", "ndarray"):
        return int(value.nbytes)
    if _is(value, "pandas", "DataFrame"):
        return int(value.memory_usage(deep=False).sum())
    if _is(value, "pandas", "Series"):
        return int(value.memory_usage(deep=False))
    base: Any = _base(value)
    return None if base is None else int(base.__sizeof__(value))


def _shape(value: Any) -> list[int] | None:
    """How long it is in each direction."""
    if _is(value, "numpy", "ndarray") or _is(value, "pandas", "DataFrame") or _is(value, "pandas", "Series"):
        return [int(length) for length in value.shape]
    base: Any = _base(value)
    return [int(base.__len__(value))] if hasattr(base, "__len__") else None


_BASES = (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, type(None))


def _base(value: object) -> type | None:
    """The built-in type that it is one of, in truth."""
    return next((base for base in _BASES if issubclass(type(value), base)), None)


def _is(value: object, package: str, name: str) -> bool:
    """By the type's name: the library is not there in every image, and what stands in sys.modules may be anything."""
    kind = type(value)
    module = _module(kind)
    is_named = type.__dict__["__qualname__"].__get__(kind) == name and f"{module}.".startswith(f"{package}.")
    return is_named and (package != "numpy" or _is_in_c(kind))


def _module(kind: type) -> str:
    """In the type's own word. A metaclass may have an attribute of that name: it is not asked."""
    module = type.__dict__["__module__"].__get__(kind)
    return module if type(module) is str else ""


def _is_in_c(kind: type) -> bool:
    """Whether no code of the session's can have made it or changed its methods."""
    return not type.__dict__["__flags__"].__get__(kind) & _HEAP_TYPE


# Previews


def _preview(value: object) -> str:
    return _cut(_shown(value, 0), MAX_PREVIEW)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _shown(value: Any, depth: int) -> str:
    kind = type(value)
    if any(kind is each for each in _PRINTED):  # `in` asks the metaclass
        return _cut(repr(value), MAX_PREVIEW)
    if issubclass(kind, int):
        number = int.__int__(value)
        bits = int.bit_length(number)
        return int.__repr__(number) if bits <= _DIGITS else f"<an integer of {bits} bits>"
    if issubclass(kind, float):
        return float.__repr__(value)
    if issubclass(kind, str):
        return _quoted(str.__getitem__(value, slice(MAX_PREVIEW)), str.__len__(value))
    if issubclass(kind, (bytes, bytearray)):
        base = bytes if issubclass(kind, bytes) else bytearray
        return _quoted(base.__getitem__(value, slice(MAX_PREVIEW)), base.__len__(value))
    if issubclass(kind, dict):
        return _mapping(value, depth)
    for sequence, left, right in _SEQUENCES:
        if issubclass(kind, sequence):
            return _sequence(sequence.__iter__(value), sequence.__len__(value), left, right, depth)
    return _of_a_library(value, depth) or _opaque(value)


def _quoted(beginning: str | bytes | bytearray, length: int) -> str:
    return (
        _cut(repr(beginning), MAX_PREVIEW)
        if length == len(beginning)
        else _cut(repr(beginning)[:-1] + "…", MAX_PREVIEW)
    )


def _sequence(items: Iterable[object], length: int, left: str, right: str, depth: int) -> str:
    if depth >= _DEPTH:
        return f"{left}…{right}" if length else left + right
    shown = [_cut(_shown(item, depth + 1), 60) for item in itertools.islice(items, _ITEMS)]
    if length > len(shown):
        shown.append("…")
    comma = "," if left == "(" and length == 1 else ""
    return f"{left}{', '.join(shown)}{comma}{right}"


def _mapping(value: dict[object, object], depth: int) -> str:
    if depth >= _DEPTH:
        return "{…}" if dict.__len__(value) else "{}"
    pairs = itertools.islice(dict.items(value), _ITEMS)
    shown = [f"{_cut(_shown(key, depth + 1), 40)}: {_cut(_shown(item, depth + 1), 60)}" for key, item in pairs]
    if dict.__len__(value) > len(shown):
        shown.append("…")
    return "{" + ", ".join(shown) + "}"


def _of_a_library(value: Any, depth: int) -> str:
    """The first elements of an array or a column, the names of a frame's columns, a function's parameters."""
    if type(value) is types.FunctionType:
        code = value.__code__
        return f"({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"
    if _is(value, "numpy", "ndarray"):
        return f"{value.dtype}: {_sequence(value.flat[:_ITEMS].tolist(), value.size, '[', ']', depth)}"
    if _is(value, "pandas", "DataFrame"):
        return f"columns: {_sequence(value.columns[:_ITEMS].tolist(), len(value.columns), '', '', depth)}"
    if _is(value, "pandas", "Series"):
        return f"{value.dtype}: {_sequence(value.iloc[:_ITEMS].tolist(), len(value), '[', ']', depth)}"
    if _module(type(value)) == "numpy" and _is_in_c(type(value)):  # a scalar
        return _cut(repr(value.tolist()), MAX_PREVIEW)
    return ""


def _opaque(value: Any) -> str:
    kind = type(value)
    return f"<class {_type_name(value)}>" if issubclass(kind, type) else f"<{_type_name(kind)}>"
