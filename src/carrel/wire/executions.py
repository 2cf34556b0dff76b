"""Executions: requests in every spelling the clients use, and the two envelopes they read."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from carrel.errors import ContentTooLarge, PropertiesMissing, RequestInvalid
from carrel.models import MIB, Execution, ExecutionSpec, Status, Value, ValueKind
from carrel.wire import jsons
from carrel.wire.versions import Version

MAX_CODE_BYTES = 8 * MIB
MAX_STREAM = 1_048_576  # characters; an outputStreamsMaxLength above it is clamped, not refused
MAX_TIMEOUT_S = 220  # Azure's hard cap
DEFAULT_TIMEOUT_S = 60
OLD_STREAM = MAX_STREAM  # no limit is documented for the old envelope
NEW_STREAM = 4096  # Azure's default of outputStreamsMaxLength

_INPUT_TYPES = ("inline", "inlinebase64", "inlinetext")
_EXECUTION_TYPES = ("synchronous", "asynchronous")
_IS_OVER = (Status.SUCCEEDED, Status.FAILED)
_OLD_STATUS = {Status.SUCCEEDED: "Success", Status.FAILED: "Failure"}  # AutoGen looks for these two words


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """What a body asked for. `identifier` is the body's own, still unchecked; `execution_type` is in the caller's own casing."""

    spec: ExecutionSpec
    identifier: str | None
    execution_type: str


def decode_execution(
    body: bytes | bytearray,
    *,
    default_stream: int,
    operation_id: str | None = None,
    pool_maximum_s: int = MAX_TIMEOUT_S,
) -> ExecuteRequest:
    """A body of any execute route, in `properties` or not. Unknown fields are ignored, nulls count as absent.

    Raises RequestInvalid naming the field, PropertiesMissing where there is no code, ContentTooLarge.
    """
    fields = _fields(jsons.decode_object(body))
    execution_type = _word(fields, "executionType", _EXECUTION_TYPES, "Synchronous")
    spec = ExecutionSpec(
        code=_code(fields),
        timeout=_timeout(fields, pool_maximum_s),
        is_asynchronous=execution_type.lower() == "asynchronous",
        operation_id=operation_id,
        stream_limit=_stream_limit(fields, default_stream),
    )
    return ExecuteRequest(spec, _text(fields, "identifier"), execution_type)


def encode_old(execution: Execution, *, with_top_level: bool = False) -> bytes:
    """The envelope of `code/execute`: every key always there, since clients index them, and the result under both its names.

    `with_top_level` repeats four keys outside `properties`, which only the oldest .NET client of `python/execute` reads.
    Azure numbers "$id" depth-first from 1: recordings compare equal only with it.
    """
    result = _old_value(execution.value)
    status = _OLD_STATUS.get(execution.status, execution.status.value)
    envelope: dict[str, Any] = {
        "$id": "1",
        "properties": {
            "$id": "2",
            "status": status,
            "stdout": execution.stdout,
            "stderr": execution.stderr,
            "result": result,
            "executionResult": result,
            "executionTimeInMilliseconds": execution.wall_ms,
        },
    }
    if with_top_level:
        envelope |= {"status": status, "stdout": execution.stdout, "stderr": execution.stderr, "result": result}
    return jsons.encode(envelope)


def encode_execution(execution: Execution, version: Version, execution_type: str | None = None) -> bytes:
    """The envelope of `executions`. `result` comes with the end of the execution; `execution_type` echoes the request's casing."""
    envelope: dict[str, Any] = {
        "id": execution.id,
        "identifier": execution.identifier,
        "executionType": execution_type or ("Asynchronous" if execution.is_asynchronous else "Synchronous"),
        "status": execution.status.value,
    }
    if execution.status in _IS_OVER:
        envelope["result"] = {
            "stdout": execution.stdout,
            "stderr": execution.stderr,
            "executionResult": _new_value(execution.value, version),
            "executionTimeInMilliseconds": execution.wall_ms,
            **_ours(execution),
        }
    return jsons.encode(envelope)


def _ours(execution: Execution) -> dict[str, Any]:
    """What Azure does not tell, after all that it does: its clients skip fields that they do not know."""
    if execution.outcome is None or execution.usage is None:
        return {}
    usage = execution.usage
    figures = {name: getattr(usage, attribute) for name, attribute in _FIGURES.items()}
    sources = {name: usage.sources.get(attribute) for name, attribute in _FIGURES.items()}
    return {"outcome": execution.outcome, "usage": {**figures, "sources": sources}}


_FIGURES = {
    "wallMs": "wall_ms",
    "cpuMs": "cpu_ms",
    "peakMemoryBytes": "peak_memory_bytes",
    "writtenBytes": "written_bytes",
    "printedBytes": "printed_bytes",
}


# How a value is shown, by its kind, envelope and version (the one table):
#
#             | old envelope          | executions | executions at a version with text scalars
#   ABSENT    | ""                    | ""         | ""
#   SCALAR    | JSON                  | JSON       | text (None stays null)
#   IMAGE     | JSON                  | JSON       | JSON
#   CONTAINER | IPython's pretty text | JSON       | JSON
#   TEXT      | text                  | text       | text
_OLD_AS_TEXT = (ValueKind.TEXT, ValueKind.CONTAINER)


def _old_value(value: Value) -> Any:
    if value.kind is ValueKind.ABSENT:
        return ""
    return value.text if value.kind in _OLD_AS_TEXT else value.json


def _new_value(value: Value, version: Version) -> Any:
    if value.kind is ValueKind.ABSENT:
        return ""
    if value.kind is ValueKind.TEXT:
        return value.text
    if version.has_text_scalars and value.kind is ValueKind.SCALAR and value.json is not None:
        return str(value.json)
    return value.json


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties")
    if properties is None:
        return body
    if not isinstance(properties, dict):
        raise RequestInvalid("'properties' must be an object.", target="properties")
    return body | properties


def _code(fields: dict[str, Any]) -> str:
    name = "pythonCode" if fields.get("code") is None and fields.get("pythonCode") is not None else "code"
    code = _text(fields, name)
    if code is None:
        raise PropertiesMissing("The request holds nothing to run: 'code' is required.", target="code")
    if _word(fields, "codeInputType", _INPUT_TYPES, "inline").lower() == "inlinebase64":
        code = _from_base64(code, name)
    try:
        size = len(code) if code.isascii() else len(code.encode())
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"'{name}' holds half of a surrogate pair.", target=name) from error
    if size > MAX_CODE_BYTES:
        raise ContentTooLarge(f"'{name}' may have {MAX_CODE_BYTES} bytes at most.", target=name)
    return code


def _from_base64(text: str, name: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII, or not UTF-8 inside
        raise RequestInvalid(f"'{name}' is not base64 of UTF-8 text.", target=name) from error


def _timeout(fields: dict[str, Any], pool_maximum_s: int) -> float:
    maximum = min(pool_maximum_s, MAX_TIMEOUT_S)
    value = _integer(fields, "timeoutInSeconds")
    if value is None:
        return float(min(DEFAULT_TIMEOUT_S, maximum))
    if not 1 <= value <= maximum:
        raise RequestInvalid(f"'timeoutInSeconds' must be from 1 to {maximum}.", target="timeoutInSeconds")
    return float(value)


def _stream_limit(fields: dict[str, Any], default: int) -> int:
    value = _integer(fields, "outputStreamsMaxLength")
    if value is None:
        return default
    if value < 1:
        raise RequestInvalid("'outputStreamsMaxLength' must be 1 or more.", target="outputStreamsMaxLength")
    return min(value, MAX_STREAM)


def _integer(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise RequestInvalid(f"'{name}' must be a whole number.", target=name)
    return value


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestInvalid(f"'{name}' must be a string.", target=name)
    return value


def _word(fields: dict[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    """A field of a fixed set of words in any case; comes back in the caller's own."""
    text = _text(fields, name)
    if text is None:
        return default
    if text.lower() not in allowed:
        raise RequestInvalid(f"'{name}' must be one of {', '.join(allowed)}.", target=name)
    return text
