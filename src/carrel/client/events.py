"""An execution as it runs: the events that `stream` and `follow` give, and how they are read from a reply (WHATWG HTML §9.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from carrel.client.errors import ApiError
from carrel.client.results import Output, Result, parse_result

MAX_EVENT = 64 * 1024 * 1024  # bytes; the largest is a result with all its displays


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. Which of the fields is set follows from `kind`; the last event is a `result`."""

    kind: str  # started, stdout, stderr, display or result
    number: int = 0  # within the execution; 0 of `started`
    id: str = ""  # of `started`: the execution's id, to cancel or follow it by
    text: str = ""  # of `stdout` and `stderr`
    output: Output | None = None  # of `display`
    result: Result | None = None


@dataclass(slots=True)
class Frames:
    """Reads what a stream of events holds, from the bytes of a reply as they come: kinds, and data as JSON. `error` raises ApiError."""

    last: int = 0  # number of the last event read
    _pieces: list[bytes] = field(default_factory=list)  # of a line that is not whole yet
    _held: int = 0
    _fields: dict[str, str] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
        head, newline, rest = data.rpartition(b"\n")
        self._pieces.append(head if newline else data)
        self._held += len(data)
        if self._held > MAX_EVENT:
            raise ApiError(200, "InvalidReply", "an event of the server is too large to be one")
        if newline:
            lines = b"".join(self._pieces).split(b"\n")
            self._pieces, self._held = [rest], len(rest)
            for line in lines:
                if event := self._line(line.rstrip(b"\r").decode("utf-8", "replace")):
                    yield event

    def _line(self, line: str) -> tuple[str, dict[str, Any]] | None:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data" and "data" in self._fields:
                value = f"{self._fields['data']}\n{value}"
            self._fields[name] = value  # a comment's name is "": it stands for nothing
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        if (number := fields.get("id", "")).isdigit():
            self.last = int(number)
        kind, data = fields.get("event", "message"), json.loads(fields["data"])
        if kind == "error":
            error = data["error"]
            raise ApiError(200, error["code"], error["message"], error.get("target"), error.get("traceId"))
        return kind, data


class Decoder:
    """Reads the events of an execution. Unknown kinds are skipped."""

    def __init__(self, last: int = 0) -> None:
        self._frames = Frames(last)

    @property
    def last(self) -> int:
        return self._frames.last

    def feed(self, data: bytes) -> Iterator[Event]:
        for kind, fields in self._frames.feed(data):
            if event := _event(kind, self.last, fields):
                yield event


def _event(kind: str, number: int, data: dict[str, Any]) -> Event | None:
    match kind:
        case "started":
            return Event(kind, id=data["id"])
        case "stdout" | "stderr":
            return Event(kind, number, text=data["text"])
        case "display":
            return Event(kind, number, output=Output.parse(data))
        case "result":
            return Event(kind, number, result=parse_result(data))
    return None
