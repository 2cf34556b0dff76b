"""A reply that goes on for as long as there is something to tell: server-sent events, and who leaves or stalls.

The headers are out before the first event. From then on an error of ours is an `error` event. Nothing is kept here: what a caller does
not take waits where it comes from, and one that stalls or leaves is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from carrel.errors import CarrelError, RequestNotSupported
from carrel.server.call import Call
from carrel.server.exchange import CallerGone, Exchange, Headers
from carrel.wire import events
from carrel.wire.sessions import encode_error

CHECK_S = 0.5  # between two looks whether the caller may still be told
QUIET_S = 15.0  # of silence before a comment: proxies cut connections that are idle for a minute


def wants_events(call: Call) -> bool:
    """HTTP/1.0 has no way to send a reply of unknown length on a connection that may stay: such callers get JSON."""
    return call.exchange.scope["http_version"] != "1.0" and events.wants_events(call.exchange.header(b"accept"))


async def tell(call: Call, headers: Headers, encoded: AsyncIterator[bytes]) -> None:
    """`encoded` events, until there are no more of them."""
    exchange = call.exchange
    if exchange.scope["http_version"] == "1.0":
        raise RequestNotSupported("A stream of events has no length before it ends: it takes HTTP/1.1.")
    # nginx would keep events back until a buffer is full
    more: Headers = [(b"content-type", events.CONTENT_TYPE), (b"x-accel-buffering", b"no")]
    await exchange.begin(200, [*headers, *more])
    if exchange.method == "HEAD":
        return await exchange.write(b"", is_last=True)
    is_gone = False
    lost: CarrelError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            besides = [group.create_task(each(exchange)) for each in (_leave, _beat, _check)]
            await _pass_on(exchange, encoded)
            for each in besides:
                each.cancel()
    except* CallerGone:
        is_gone = True
    except* CarrelError as errors:
        lost = next(each for each in errors.exceptions if isinstance(each, CarrelError))
    if is_gone:
        raise CallerGone
    if lost is not None:
        await _end(exchange, lost)
    return None


async def _pass_on(exchange: Exchange, encoded: AsyncIterator[bytes]) -> None:
    try:
        async for event in encoded:
            await exchange.write(event)
    except CarrelError as error:
        return await _end(exchange, error)
    return await exchange.write(b"", is_last=True)


async def _end(exchange: Exchange, error: CarrelError) -> None:
    await exchange.write(events.encode_event("error", encode_error(error, exchange.trace_id)))
    await exchange.write(b"", is_last=True)


async def _check(exchange: Exchange) -> None:
    """Raises what the call would be refused with now: a role that is taken away ends what it has opened."""
    while True:
        await asyncio.sleep(CHECK_S)
        exchange.check()


async def _leave(exchange: Exchange) -> None:
    """Ends the reply when its reader leaves: a write would not tell."""
    await exchange.watch()
    raise CallerGone


async def _beat(exchange: Exchange) -> None:
    """A comment after each silence. It also finds a reader that stalls while there is nothing to tell."""
    while True:
        written = exchange.written
        await asyncio.sleep(QUIET_S)
        if exchange.written == written:
            await exchange.write(events.COMMENT)
