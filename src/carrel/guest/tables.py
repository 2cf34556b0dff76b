"""A DataFrame as data: its first rows in the form of a Tabular Data Resource, bounded, beside the HTML that is for eyes.

https://specs.frictionlessdata.io/tabular-data-resource/ with three fields of our own: `rows` and `columns`, how many there are, and
`truncated`, whether any are missing here. The index comes first, as columns. What is missing (NaN, NaT, NA) is null, infinities are
"INF" and "-INF", times are ISO 8601.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from carrel.guest import values

MIME = "application/vnd.dataresource+json"
TYPES = [
    (module, name)
    for module in ("pandas", "pandas.core.frame", "pandas.core.series")
    for name in ("DataFrame", "Series")
]

MAX_ROWS = 1000
MAX_COLUMNS = 200
MAX_BYTES = 1024 * 1024
MAX_TEXT = 1000  # characters of a cell, and of a name

_NESTED = 10_000  # bytes of a list or dict in a cell
_FIELD_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "M": "datetime", "m": "duration"}
_TIMES = (datetime.date, datetime.time)  # a datetime is a date, and a pandas Timestamp a datetime


def table(frame: Any) -> dict[str, Any] | None:
    """None where the frame cannot be read so: this must never be the cell's failure."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what reading it warns of is nothing that the user has done
        return _table(frame)
    return None


def _table(frame: Any) -> dict[str, Any]:
    if frame.ndim == 1:
        frame = frame.to_frame("values" if frame.name is None else frame.name)
    index, body = frame.index[:MAX_ROWS], frame.iloc[:MAX_ROWS, :MAX_COLUMNS]
    levels = [index.get_level_values(number) for number in range(index.nlevels)]
    columns = [*levels, *(body.iloc[:, number] for number in range(body.shape[1]))]
    names = list(_unique([*_index_names(frame.index), *map(_column_name, body.columns)]))
    fields = [{"name": name, "type": _field_type(column)} for name, column in zip(names, columns, strict=True)]
    schema: dict[str, Any] = {"fields": fields}
    if frame.index.is_unique:
        schema["primaryKey"] = names[: index.nlevels]
    rows = list(_rows(names, columns))
    rows_in_all, columns_in_all = frame.shape
    return {
        "schema": schema,
        "data": rows,
        "rows": rows_in_all,
        "columns": columns_in_all,
        "truncated": len(rows) < rows_in_all or columns_in_all > MAX_COLUMNS,
    }


def _rows(names: list[str], columns: list[Any]) -> Iterator[dict[str, Any]]:
    left = MAX_BYTES
    for cells in zip(*columns, strict=True):
        row = dict(zip(names, map(_cell, cells), strict=True))
        left -= len(values.encode(row)) + 1
        if left < 0:
            return
        yield row


def _index_names(index: Any) -> list[str]:
    if index.nlevels == 1:
        return ["index" if index.name is None else _column_name(index.name)]
    return [f"level_{number}" if name is None else _column_name(name) for number, name in enumerate(index.names)]


def _column_name(name: object) -> str:
    return ".".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _unique(names: list[str]) -> Iterator[str]:
    """A frame may have a name twice; a row of JSON may not."""
    seen: set[str] = set()
    for name in names:
        base, number = name[:MAX_TEXT], 0
        candidate = base
        while candidate in seen:
            number += 1
            candidate = f"{base}.{number}"
        seen.add(candidate)
        yield candidate


def _field_type(column: Any) -> str:
    kind = getattr(column.dtype, "kind", "O")
    if str(column.dtype) in ("str", "string"):
        return "string"
    return _FIELD_TYPES.get(kind, "any")


def _cell(value: Any) -> Any:
    pandas = sys.modules["pandas"]
    if value is None or value is pandas.NaT or value is pandas.NA:
        return None
    if isinstance(value, (*_TIMES, pandas.Timedelta)):
        return value.isoformat()
    is_scalar, plain = values.scalar(value)
    if is_scalar:
        if isinstance(plain, str):
            return _of_text(value, plain)
        return plain
    if isinstance(value, list | tuple | dict):
        try:
            return values.JsonCopy(_NESTED, has_null_for_nan=True).convert(value)
        except values.NotJson:
            pass
    return str(value)[:MAX_TEXT]


def _of_text(value: Any, plain: str) -> str | None:
    """A text, or a number that JSON has none for."""
    if isinstance(value, str):
        return plain[:MAX_TEXT]
    return None if math.isnan(value) else "INF" if value > 0 else "-INF"
