"""What a gateway is told while it comes: of an execution, and of sessions as such."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from carrel.host import codec
from carrel.host.line import Line
from carrel.host.outputs import display_from
from carrel.models import Execution, Notice, Output, SessionView

Kind = Literal["stdout", "stderr", "display", "result"]


@dataclass(frozen=True, slots=True)
class Event:
    """Numbers rise from one event to the next, by more than one. `output` is of a display, `execution` of the result, which is the last."""

    number: int
    kind: Kind
    text: str = ""
    output: Output | None = None
    execution: Execution | None = None


@dataclass(slots=True)
class Stream:
    """An execution on its way: iterate for its events. Raises SessionLost in between where the session ends."""

    session: SessionView
    id: str
    _events: AsyncIterator[Event]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events


async def events(line: Line, identifier: str) -> AsyncIterator[Event]:
    """From the frames of a call's answer. A display that is none is left out; the result counts it."""
    pieces: list[bytes] = []
    while True:
        header, payload = await line.read_answer()
        pieces.append(payload)
        if "number" not in header:
            continue
        whole, pieces = b"".join(pieces), []
        if "execution" in header:
            execution = codec.execution_from(identifier, header["execution"], whole)
            yield Event(header["number"], "result", execution=execution)
            return
        if header["event"] != "display":
            yield Event(header["number"], header["event"], text=whole.decode("utf-8", "replace"))
        elif (output := display_from(whole)) is not None:
            yield Event(header["number"], "display", output=output)


@dataclass(slots=True)
class Notices:
    """What happens to sessions: iterate for it. `session` is as it was before, where it is one that was asked for."""

    session: SessionView | None
    _notices: AsyncIterator[Notice]

    def __aiter__(self) -> AsyncIterator[Notice]:
        return self._notices


async def notices(line: Line) -> AsyncIterator[Notice]:
    while True:
        header, _ = await line.read_answer()
        yield codec.notice_from(header["notice"])
