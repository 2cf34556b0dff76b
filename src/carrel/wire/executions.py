"""Executions as replies show them: the two envelopes, and the list of a session's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carrel.models import Execution, Outcome, Output, Status, Value, ValueKind
from carrel.wire import jsons
from carrel.wire.versions import Version

_OLD_STATUS = {Status.SUCCEEDED: "Success", Status.FAILED: "Failure"}  # AutoGen looks for these two words


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
    envelope = _head(execution, execution_type)
    if execution.status.is_over:
        envelope["result"] = _result(execution, version)
    return jsons.encode(envelope)


def encode_executions(executions: Sequence[Execution], next_link: str | None) -> bytes:
    """A page of the list: how each stands, without what it printed and returned."""
    value = [
        {**_head(each), "outcome": each.outcome, "executionTimeInMilliseconds": each.wall_ms} for each in executions
    ]
    return jsons.encode({"value": value, "nextLink": next_link})


def _head(execution: Execution, execution_type: str | None = None) -> dict[str, Any]:
    return {
        "id": execution.id,
        "identifier": execution.identifier,
        "executionType": execution_type or ("Asynchronous" if execution.is_asynchronous else "Synchronous"),
        "status": _status(execution),
    }


def _status(execution: Execution) -> str:
    """A shell command's is its exit code as text, which LangChain takes int() of; "-1" where it came to none."""
    if execution.is_shell and execution.status in (Status.SUCCEEDED, Status.FAILED):
        return "-1" if execution.exit_code is None else str(execution.exit_code)
    return execution.status.value


def _result(execution: Execution, version: Version) -> dict[str, Any]:
    result: dict[str, Any] = {
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "executionResult": _new_value(execution.value, version),
        "executionTimeInMilliseconds": execution.wall_ms,
    }
    if execution.is_shell:
        del result["executionResult"]  # a command has none
        if execution.outcome is Outcome.TIMEOUT:  # as the live service answers: nothing printed, and the limit itself
            limit_ms = round((execution.command_timeout or 0) * 1000)
            result |= {"stdout": "", "stderr": "", "executionTimeInMilliseconds": limit_ms}
    return result | _ours(execution)


def _ours(execution: Execution) -> dict[str, Any]:
    """What Azure does not tell, after all that it does: its clients skip fields that they do not know."""
    told: dict[str, Any] = {}
    if execution.outcome is not None:
        told["outcome"] = execution.outcome
    if (usage := execution.usage) is not None:
        figures = {name: getattr(usage, attribute) for name, attribute in _FIGURES.items()}
        sources = {name: usage.sources.get(attribute) for name, attribute in _FIGURES.items()}
        told["usage"] = {**figures, "sources": sources}
    if execution.outputs:
        told["outputs"] = [output_fields(each) for each in execution.outputs]
    if execution.dropped_outputs:
        told["droppedOutputs"] = execution.dropped_outputs
    if execution.variables is not None:
        told["variables"] = execution.variables
    return told


def output_fields(output: Output) -> dict[str, Any]:
    """A display: the same thing in one or more MIME types."""
    return {"data": output.data, "metadata": output.metadata}


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
