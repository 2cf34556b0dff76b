"""What a body of an execute route asks to run, in every spelling that clients use: code or a shell command, and with which variables."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carrel.errors import ContentTooLarge, PropertiesMissing, RequestInvalid
from carrel.models import MIB, ExecutionSpec, ShellCommand
from carrel.wire import jsons
from carrel.wire.fields import integer, text, texts, utf8_size, word

MAX_CODE_BYTES = 8 * MIB  # of a shell command, and of what it reads, too
MAX_STREAM = 1_048_576  # characters; an outputStreamsMaxLength above it is clamped, not refused
MAX_TIMEOUT_S = 220  # Azure's hard cap; what nobody waits for may take longer where the pool allows
DEFAULT_TIMEOUT_S = 60
OLD_STREAM = MAX_STREAM  # no limit is documented for the old envelope
NEW_STREAM = 4096  # Azure's default of outputStreamsMaxLength
MAX_VARIABLES = 1000  # set by one call, or asked for
MAX_VARIABLE_NAME = 255
MAX_DEPTH = 64  # of lists and objects in a variable

_INPUT_TYPES = ("inline", "inlinebase64", "inlinetext")
_EXECUTION_TYPES = ("synchronous", "asynchronous")
_SHELLS = ("bash", "sh")


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
    asynchronous_maximum_s: int | None = None,
) -> ExecuteRequest:
    """A body of any execute route, in `properties` or not. Unknown fields are ignored, nulls count as absent.

    Raises RequestInvalid naming the field, PropertiesMissing where there is nothing to run, ContentTooLarge.
    """
    fields = _fields(jsons.decode_object(body))
    execution_type = word(fields, "executionType", _EXECUTION_TYPES, "Synchronous")
    is_asynchronous = execution_type.lower() == "asynchronous"
    maximum_s = min(pool_maximum_s, MAX_TIMEOUT_S)
    if is_asynchronous:
        maximum_s = asynchronous_maximum_s or maximum_s
    code, shell = _program(fields)
    spec = ExecutionSpec(
        code=code,
        timeout=_timeout(fields, maximum_s),
        is_asynchronous=is_asynchronous,
        operation_id=operation_id,
        stream_limit=_stream_limit(
            fields, default_stream if shell is None else MAX_STREAM
        ),  # deepagents reads files by it
        shell=shell,
        variables=_variables(fields),
        wanted=decode_names(texts(fields, "returnVariables") or (), "returnVariables"),
    )
    return ExecuteRequest(spec, text(fields, "identifier"), execution_type)


def decode_variables(body: bytes | bytearray) -> Mapping[str, Any]:
    """A body that is nothing but variables: names and their values. Raises RequestInvalid, ContentTooLarge."""
    return _checked(jsons.decode_object(body), "$")


def decode_names(names: tuple[str, ...], target: str) -> tuple[str, ...]:
    """Names of variables, each once. What is a name beyond this (a keyword, say) is for the language to tell."""
    if len(names) > MAX_VARIABLES:
        raise RequestInvalid(f"At most {MAX_VARIABLES} variables can be named in a call.", target=target)
    for name in names:
        # JavaScript allows a dollar sign where Python and the shell do not.
        if len(name) > MAX_VARIABLE_NAME or not name.replace("$", "_").isidentifier():
            shown = name.encode("unicode_escape").decode("ascii")[:100]
            raise RequestInvalid(f"'{shown}' cannot be the name of a variable.", target=target)
    return tuple(dict.fromkeys(names))


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties")
    if properties is None:
        return body
    if not isinstance(properties, dict):
        raise RequestInvalid("'properties' must be an object.", target="properties")
    return body | properties


def _program(fields: dict[str, Any]) -> tuple[str, ShellCommand | None]:
    """The code, or the command and no code."""
    given = [
        name for name in ("code", "pythonCode", "shellCommand", "execCommandAndArgs") if fields.get(name) is not None
    ]
    if not given:
        raise PropertiesMissing(
            "The request holds nothing to run: 'code' or 'shellCommand' is required.", target="code"
        )
    if given[0] in ("code", "pythonCode"):
        if not {"code", "pythonCode"}.issuperset(given):
            raise RequestInvalid("A request has either code or a shell command.", target=given[-1])
        return _code(fields, given[0]), None
    if len(given) > 1:
        raise RequestInvalid("A request has either 'shellCommand' or 'execCommandAndArgs'.", target=given[-1])
    return "", _command(fields)


def _code(fields: dict[str, Any], name: str) -> str:
    code = text(fields, name) or ""
    if word(fields, "codeInputType", _INPUT_TYPES, "inline").lower() == "inlinebase64":
        code = _from_base64(code, name)
    _bounded(utf8_size(code, name), name)
    return code


def _from_base64(encoded: str, name: str) -> str:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII, or not UTF-8 inside
        raise RequestInvalid(f"'{name}' is not base64 of UTF-8 text.", target=name) from error


def _command(fields: dict[str, Any]) -> ShellCommand:
    command, argv, stdin = text(fields, "shellCommand"), texts(fields, "execCommandAndArgs"), text(fields, "stdin")
    if argv is not None and not (argv and argv[0]):
        raise RequestInvalid("'execCommandAndArgs' must name a program first.", target="execCommandAndArgs")
    for name, parts in {"shellCommand": (command or "",), "execCommandAndArgs": argv or ()}.items():
        if any("\0" in part for part in parts):  # C's strings end there: the kernel takes no such argument
            raise RequestInvalid(f"'{name}' may not hold a NUL character.", target=name)
        _bounded(sum(utf8_size(part, name) for part in parts), name)
    _bounded(utf8_size(stdin or "", "stdin"), "stdin")
    return ShellCommand(command, argv, word(fields, "shellType", _SHELLS, "bash").lower(), stdin)


def _bounded(size: int, name: str) -> None:
    if size > MAX_CODE_BYTES:
        raise ContentTooLarge(f"'{name}' may have {MAX_CODE_BYTES} bytes at most.", target=name)


def _variables(fields: dict[str, Any]) -> Mapping[str, Any] | None:
    value = fields.get("variables")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RequestInvalid("'variables' must be an object: names and their values.", target="variables")
    return _checked(value, "variables")


def _checked(variables: dict[str, Any], target: str) -> Mapping[str, Any]:
    """Python reads NaN and Infinity, which JSON does not have and the guests' languages do not all take."""
    decode_names(tuple(variables), target)
    if jsons.is_deep(list(variables.values()), MAX_DEPTH + 1):
        raise RequestInvalid(f"A variable may be nested {MAX_DEPTH} levels deep at most.", target=target)
    if not jsons.is_strict(variables):
        raise RequestInvalid("A variable holds a number that JSON does not have.", target=target)
    return variables


def _timeout(fields: dict[str, Any], maximum_s: int) -> float:
    value = integer(fields, "timeoutInSeconds")
    if value is None:
        return float(min(DEFAULT_TIMEOUT_S, maximum_s))
    if not 1 <= value <= maximum_s:
        raise RequestInvalid(f"'timeoutInSeconds' must be from 1 to {maximum_s}.", target="timeoutInSeconds")
    return float(value)


def _stream_limit(fields: dict[str, Any], default: int) -> int:
    value = integer(fields, "outputStreamsMaxLength")
    if value is None:
        return default
    if value < 1:
        raise RequestInvalid("'outputStreamsMaxLength' must be 1 or more.", target="outputStreamsMaxLength")
    return min(value, MAX_STREAM)
