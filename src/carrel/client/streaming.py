"""An execution followed to its end over as many connections as it takes: what to ask next, without any I/O.

The first request runs the code under an operation-id of ours, so that sending it again after a lost connection is safe: the session runs
it once. Once the server has begun to answer, the execution is followed by its id: a session that took the place of a lost one does not
know it, and does not run it again.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import httpx

from carrel.client import calls
from carrel.client.errors import ApiError
from carrel.client.events import Decoder, Event
from carrel.client.results import Result, parse_result

_TRIES = 8  # connections that break one after the other without an event between them
_PAUSE_S = 0.25  # before the second of them; a gateway is replaced within a second or two
_SILENCE_S = 45.0  # the server is never silent for longer than 15

ACCEPT = {"Accept": "text/event-stream"}


def is_told(response: httpx.Response) -> bool:
    """Whether a reply is a stream of events; an error is none."""
    return response.is_success and response.headers.get("content-type", "").startswith("text/event-stream")


class Telling:
    """What is told of one execution. Ask `call` for the next request, give the reply's bytes to `read`, until `result` is there."""

    def __init__(self, first: calls.Call[Any], identifier: str, operation_id: str, after: int = 0) -> None:
        self.result: Result | None = None
        self._first: calls.Call[Any] | None = first
        self._identifier = identifier
        self._operation_id = operation_id
        self._after = after
        self._failures = 0
        self._decoder = Decoder(after)

    @classmethod
    def of_program(cls, body: dict[str, Any], identifier: str, operation_id: str | None) -> Telling:
        """A program that is to run now."""
        operation_id = operation_id or str(uuid.uuid4())
        return cls(calls.execute(body, identifier, operation_id), identifier, operation_id)

    @classmethod
    def of_execution(cls, execution_id: str, identifier: str, after: int) -> Telling:
        return cls(calls.execution(execution_id, identifier), identifier, execution_id, after)

    def call(self) -> calls.Call[Any]:
        call = self._first if self._first is not None else calls.execution(self._operation_id, self._identifier)
        headers = {**call.options.get("headers", {}), **ACCEPT}
        if self._decoder.last:
            headers["Last-Event-ID"] = str(self._decoder.last)
        return dataclasses.replace(call, options={**call.options, "headers": headers, "timeout": _TIMEOUT})

    def taken(self) -> None:
        """The server answers with events: it has the program, and asking again must not run it, in another session perhaps."""
        self._first = None

    def read(self, data: bytes) -> Iterator[Event]:
        for event in self._decoder.feed(data):
            self._failures = 0
            if event.result is not None:
                self.result = event.result
            yield event

    def whole(self, response: httpx.Response) -> Event:
        """The answer of a server, or of something between, that has no events: the result alone."""
        self.result = parse_result(response.json())
        return Event("result", result=self.result)

    def over(self) -> Result:
        """The result, once everything is told."""
        if self.result is None:
            raise RuntimeError("the execution was not followed to its end")
        return self.result

    def pause(self, error: httpx.TransportError | None = None) -> float:
        """Seconds to wait before the next request, after a reply that ended too early. Raises `error` where there is no use in one.

        A server that never answered is not waited for: nothing runs there.
        """
        self._failures += 1
        self._decoder = Decoder(self._decoder.last)  # half an event is none
        if self._failures == 1 and isinstance(error, httpx.ConnectError) and self._first is not None:
            raise error
        if self._failures >= _TRIES:
            raise error or ApiError(200, "InvalidReply", "the server ends the stream without a result")
        return _PAUSE_S * self._failures


_TIMEOUT = httpx.Timeout(60.0, read=_SILENCE_S)
