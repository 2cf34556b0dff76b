"""An execution told while it runs: `POST executions` and `GET executions/{id}` for callers that accept `text/event-stream`.

Until the host has taken the execution, an error is an ordinary reply. From then on the reply is 200 and its headers are out at once, so
that the caller knows the execution's id before the first output; how that goes on is in telling.py. What a caller does not take waits in
the host's bounded log, and one that stalls or leaves is cut without the code noticing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

from carrel.host.hostlink import Event, Stream
from carrel.models import Execution, ExecutionSpec
from carrel.server.audit import actions, describing
from carrel.server.call import Call, session_headers
from carrel.server.telling import tell
from carrel.wire import events
from carrel.wire.executions import encode_execution, output_fields

Seen = Callable[[Execution | None], None]  # told of the execution's end; None: nobody here will see it


async def stream(call: Call, identifier: str, spec: ExecutionSpec, execution_type: str) -> None:
    """Run code and tell it."""
    async with call.link.stream(call.pool.name, identifier, spec) as running:
        with _recorded(call, spec, running) as seen:
            await _tell(call, running, identifier, execution_type, seen)


async def follow(call: Call, identifier: str, execution_id: str) -> None:
    """Tell an execution that is there already, from its beginning or from where this caller lost it."""
    after = events.decode_last_event_id(call.exchange.header(b"last-event-id"))
    async with call.link.follow(call.pool.name, identifier, execution_id, after) as running:
        call.exchange.is_deferred = True
        await _tell(call, running, identifier, seen=partial(_read, call))


def _read(call: Call, execution: Execution | None) -> None:
    """The audit log has it when the result is told; until then it is a look at what runs."""
    if call.exchange.scribe is not None and execution is not None:
        call.exchange.scribe.event(call.exchange, actions.READ, "Succeeded", describing.result(execution))


@contextlib.contextmanager
def _recorded(call: Call, spec: ExecutionSpec, running: Stream) -> Iterator[Seen]:
    """The audit log has it when its end is told, or when nobody is left to tell it to."""
    exchange, is_told = call.exchange, False
    exchange.is_deferred = True

    def seen(execution: Execution | None) -> None:
        nonlocal is_told
        if exchange.scribe is not None and not is_told:
            is_told = True
            if running.session.is_new:
                exchange.scribe.event(exchange, actions.BEGUN, "Succeeded", {})
            if execution is None:
                details = describing.begun(call.pool, spec, running.id)
                return exchange.scribe.event(exchange, actions.RUN, "Abandoned", details)
            exchange.scribe.event(exchange, actions.RUN, "Succeeded", describing.execution(call.pool, spec, execution))
        return None

    try:
        yield seen
    finally:
        seen(None)


def _unseen(_execution: Execution | None) -> None: ...


async def _tell(
    call: Call, running: Stream, identifier: str, execution_type: str | None = None, seen: Seen = _unseen
) -> None:
    headers = [*session_headers(running.session), (b"operation-id", running.id.encode())]
    started = events.encode_event("started", {"id": running.id, "identifier": identifier})
    await tell(call, headers, _encoded(call, running, started, execution_type, seen))


async def _encoded(
    call: Call, running: Stream, started: bytes, execution_type: str | None, seen: Seen
) -> AsyncIterator[bytes]:
    yield started
    async for event in running:
        if event.execution is not None:
            seen(event.execution)
        yield _encode(call, event, execution_type)


def _encode(call: Call, event: Event, execution_type: str | None) -> bytes:
    if event.execution is not None:
        document = encode_execution(event.execution, call.version, execution_type)
        return events.encode_event(event.kind, document, event.number)
    fields = {"text": event.text} if event.output is None else output_fields(event.output)
    return events.encode_event(event.kind, fields, event.number)
