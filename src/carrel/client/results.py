"""What an execution came to, parsed from replies at the door."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from carrel.client import showing


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used, measured outside the interpreter. None where the server cannot tell; `sources` says whose word each is."""

    wall_ms: float | None = None
    cpu_ms: float | None = None
    peak_memory_bytes: int | None = None
    written_bytes: int | None = None
    printed_bytes: int | None = None
    sources: dict[str, str] = field(default_factory=dict)  # by the attributes' names

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        names = {
            "wall_ms": "wallMs",
            "cpu_ms": "cpuMs",
            "peak_memory_bytes": "peakMemoryBytes",
            "written_bytes": "writtenBytes",
            "printed_bytes": "printedBytes",
        }
        told = body.get("sources") or {}
        sources = {name: told[key] for name, key in names.items() if told.get(key)}
        return cls(**{name: body.get(key) for name, key in names.items()}, sources=sources)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that code made."""

    mime: str
    data: bytes = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file of this machine; where that is."""
        file = Path(path)
        file.write_bytes(self.data)
        return file

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {self.mime: base64.b64encode(self.data).decode(), "text/plain": repr(self)}


class ExecutionFailed(Exception):
    """Code did not come to a good end; raised by `Result.raise_for_status`, never by running code. `result` is all that is known."""

    def __init__(self, result: Result) -> None:
        lines = result.stderr.strip().splitlines()
        last = lines[-1][:500] if lines else ""
        super().__init__(": ".join(part for part in (result.outcome or result.status, last) if part))
        self.result = result


@dataclass(frozen=True, slots=True)
class Output:
    """Something displayed: the same thing in one or more MIME types. Text is text, an image base64, a JSON type its value."""

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)

    def image(self, mime: str = "image/png") -> bytes | None:
        """The bytes of a type that is kept as base64; None where the output does not have it."""
        return _from_base64(self.data.get(mime))

    def picture(self) -> Picture | None:
        """As an image, where it is one."""
        for mime in showing.IMAGES:
            if data := self.image(mime):
                return Picture(mime, data)
        return None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return showing.bundle(self.data)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        return cls(body["data"], body.get("metadata") or {})


@dataclass(frozen=True, slots=True)
class Result:
    """An execution. `result` is the last expression's value: a JSON value, "" where there was none; None stands for None.

    From `outputs` on, the fields are Carrel's: another server of this API leaves them as they are here.
    """

    id: str
    identifier: str
    status: str  # NotStarted, Running, Succeeded, Failed or Canceled
    stdout: str
    stderr: str
    result: Any
    duration_ms: int
    # ok, error, timeout, canceled, interrupted, memory, processes, disk, killed or exited; "" where the server does not say
    outcome: str = ""
    usage: Usage = Usage()
    outputs: tuple[Output, ...] = ()  # everything displayed, in order
    dropped_outputs: int = 0  # displays over the limits
    variables: dict[str, Any] = field(default_factory=dict)  # of those asked for, what there is
    reply: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)  # as it came

    @property
    def is_ok(self) -> bool:
        return self.status == "Succeeded"

    @property
    def is_finished(self) -> bool:
        return self.status not in {"NotStarted", "Running"}

    @property
    def image(self) -> bytes | None:
        """The bytes of the image that the value is, if it is one: code can return a dictionary that only looks like it."""
        if not isinstance(self.result, dict) or self.result.get("type") != "image":
            return None
        return _from_base64(self.result.get("base64_data"))

    @property
    def images(self) -> tuple[Picture, ...]:
        """Every image that the code displayed, in order, or the one that its value is."""
        return tuple(self._pictures())

    @property
    def text(self) -> str:
        """All there is to read, as one text: what was printed, errors, the value. What a model is to be told."""
        parts = [self.stdout.rstrip("\n"), self.stderr.rstrip("\n"), self._value_text()]
        return "\n".join(part for part in parts if part)

    def raise_for_status(self) -> Self:
        """The result itself where the code came to a good end. Raises ExecutionFailed."""
        if not self.is_ok:
            raise ExecutionFailed(self)
        return self

    def _pictures(self) -> Iterator[Picture]:
        found = [picture for each in self.outputs if (picture := each.picture())]
        yield from found
        if not found and (data := self.image):
            kind = self.result.get("format")
            yield Picture(f"image/{kind}" if kind in ("png", "jpeg", "gif", "webp") else "image/png", data)

    def _value_text(self) -> str:
        if self.result is None or self.result == "" or self.image is not None:
            return ""
        return self.result if isinstance(self.result, str) else json.dumps(self.result, ensure_ascii=False)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """For notebooks. Code's own HTML is drawn in a frame that can do nothing."""
        streams = [("", self.stdout), ("color:#b00020", self.stderr)]
        displays = [each.data for each in self.outputs] or [
            {each.mime: base64.b64encode(each.data).decode()} for each in self.images
        ]
        value = self._value_text()
        is_displayed = any(value == each.data.get("text/plain") for each in self.outputs)
        drawn = showing.page(streams, "" if is_displayed else value, displays)
        return {"text/plain": self.text or self.status, "text/html": drawn}

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        return cls(**_result_fields(body))


@dataclass(frozen=True, slots=True)
class ShellResult(Result):
    """A command of the shell. `status` is the exit code as text once it is over; it has no `result`."""

    @property
    def exit_code(self) -> int | None:
        """128 + N of one that signal N ended, -1 where there was none (a timeout); None while it runs and where it was canceled."""
        return int(self.status) if _is_exit_code(self.status) else None

    @property
    def is_ok(self) -> bool:
        return self.status == "0"

    @classmethod
    def of(cls, result: Result) -> Self:
        return cls(**{each.name: getattr(result, each.name) for each in fields(result)})


def parse_result(body: dict[str, Any]) -> Result:
    """A ShellResult where the status is an exit code."""
    return ShellResult.parse(body) if _is_exit_code(body["status"]) else Result.parse(body)


def _is_exit_code(status: str) -> bool:
    return status.removeprefix("-").isdigit()


def _result_fields(body: dict[str, Any]) -> dict[str, Any]:
    result = body.get("result") or {}
    return {
        "id": body["id"],
        "identifier": body["identifier"],
        "status": body["status"],
        "stdout": result.get("stdout", ""),
        "stderr": result.get("stderr", ""),
        "result": result.get("executionResult", ""),
        "duration_ms": result.get("executionTimeInMilliseconds", 0),
        "outcome": result.get("outcome", ""),
        "usage": Usage.parse(result.get("usage") or {}),
        "outputs": tuple(Output.parse(each) for each in result.get("outputs") or ()),
        "dropped_outputs": result.get("droppedOutputs", 0),
        "variables": result.get("variables") or {},
        "reply": body,
    }


def _from_base64(text: Any) -> bytes | None:
    try:
        return base64.b64decode(text) if text else None
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Summary:
    """An execution in the list of a session's: how it stands, without what it printed and returned."""

    id: str
    status: str
    is_asynchronous: bool
    outcome: str
    duration_ms: int

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        is_asynchronous = body["executionType"].lower() == "asynchronous"
        duration_ms = body.get("executionTimeInMilliseconds", 0)
        return cls(body["id"], body["status"], is_asynchronous, body.get("outcome") or "", duration_ms)
