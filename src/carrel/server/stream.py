"""An execution told while it runs: `POST executions` and `GET executions/{id}` for callers that accept `text/event-stream`.

Until the host has taken the execution, an error is an ordinary reply. From then on the reply is 200 and its headers are out at once, so
that the caller knows the execution's id before the first output; how that goes on is in telling.py. What a caller does not take waits in
the host's bounded log, and one that stalls or leaves is cut without the code noticing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from carrel.host.hostlink import Event, Stream
from carrel.models import ExecutionSpec
from carrel.server.call import Call, session_headers
from carrel.server.telling import tell
from carrel.wire import events
from carrel.wire.executions import encode_execution, output_fields


async def stream(call: Call, identifier: str, spec: ExecutionSpec, execution_type: str) -> None:
    """Run code and tell it."""
    async with call.link.stream(call.pool.name, identifier, spec) as running:
        await _tell(call, running, identifier, execution_type)


async def follow(call: Call, identifier: str, execution_id: str) -> None:
    """Tell an execution that is there already, from its beginning or from where this caller lost it."""
    after = events.decode_last_event_id(call.exchange.header(b"last-event-id"))
    async with call.link.follow(call.pool.name, identifier, execution_id, after) as running:
        await _tell(call, running, identifier)


async def _tell(call: Call, running: Stream, identifier: str, execution_type: str | None = None) -> None:
    headers = [*session_headers(running.session), (b"operation-id", running.id.encode())]
    started = events.encode_event("started", {"id": running.id, "identifier": identifier})
    await tell(call, headers, _encoded(call, running, started, execution_type))


async def _encoded(call: Call, running: Stream, started: bytes, execution_type: str | None) -> AsyncIterator[bytes]:
    yield started
    async for event in running:
        yield _encode(call, event, execution_type)


def _encode(call: Call, event: Event, execution_type: str | None) -> bytes:
    if event.execution is not None:
        document = encode_execution(event.execution, call.version, execution_type)
        return events.encode_event(event.kind, document, event.number)
    fields = {"text": event.text} if event.output is None else output_fields(event.output)
    return events.encode_event(event.kind, fields, event.number)
