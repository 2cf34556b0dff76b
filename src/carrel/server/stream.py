"""An execution told while it runs: `POST executions` and `GET executions/{id}` for callers that accept `text/event-stream`.

Until the host has taken the execution, an error is an ordinary reply. From then on the reply is 200 and its headers are out at once, so
that the caller knows the execution's id before the first output; an error of ours is an `error` event then. Nothing is kept here: what a
caller does not take waits in the host's bounded log, and one that stalls or leaves is cut without the code noticing.
"""

from __future__ import annotations

import asyncio

from carrel.errors import CarrelError
from carrel.host.hostlink import Event, Stream
from carrel.models import ExecutionSpec
from carrel.server.call import Call, session_headers
from carrel.server.exchange import CallerGone, Exchange, Headers
from carrel.wire import events
from carrel.wire.executions import encode_execution, output_fields
from carrel.wire.sessions import encode_error

QUIET_S = 15.0  # of silence before a comment: proxies cut connections that are idle for a minute


def wants_events(call: Call) -> bool:
    """HTTP/1.0 has no way to send a reply of unknown length on a connection that may stay: such callers get JSON."""
    return call.exchange.scope["http_version"] != "1.0" and events.wants_events(call.exchange.header(b"accept"))


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
    exchange = call.exchange
    headers: Headers = [
        *session_headers(running.session),
        (b"content-type", events.CONTENT_TYPE),
        (b"operation-id", running.id.encode()),
        (b"x-accel-buffering", b"no"),  # nginx would keep events back until a buffer is full
    ]
    await exchange.begin(200, headers)
    if exchange.method == "HEAD":
        return await exchange.write(b"", is_last=True)
    started = {"id": running.id, "identifier": identifier}
    is_gone = False
    try:
        async with asyncio.TaskGroup() as group:
            besides = [group.create_task(_leave(exchange)), group.create_task(_beat(exchange))]
            await exchange.write(events.encode_event("started", started))
            await _pass_on(call, running, execution_type)
            for each in besides:
                each.cancel()
    except* CallerGone:
        is_gone = True
    if is_gone:
        raise CallerGone
    return None


async def _pass_on(call: Call, running: Stream, execution_type: str | None) -> None:
    exchange = call.exchange
    try:
        async for event in running:
            await exchange.write(_encode(call, event, execution_type))
    except CarrelError as error:
        await exchange.write(events.encode_event("error", encode_error(error, exchange.trace_id)))
    await exchange.write(b"", is_last=True)


def _encode(call: Call, event: Event, execution_type: str | None) -> bytes:
    if event.execution is not None:
        document = encode_execution(event.execution, call.version, execution_type)
        return events.encode_event(event.kind, document, event.number)
    fields = {"text": event.text} if event.output is None else output_fields(event.output)
    return events.encode_event(event.kind, fields, event.number)


async def _leave(exchange: Exchange) -> None:
    """Ends the reply when its reader leaves: a write would not tell."""
    await exchange.watch()
    raise CallerGone


async def _beat(exchange: Exchange) -> None:
    """A comment after each silence. It also finds a reader that stalls while the code is silent."""
    while True:
        written = exchange.written
        await asyncio.sleep(QUIET_S)
        if exchange.written == written:
            await exchange.write(events.COMMENT)
