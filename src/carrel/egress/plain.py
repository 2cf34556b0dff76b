"""One plain HTTP request through the proxy: read, written anew for the server, and its answer back."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import h11

from carrel.egress.relay import Streams
from carrel.egress.rules import Target

IDLE_S = 120.0  # a server or client that sends nothing for so long has lost the request
_CHUNK = 64 * 1024
_MAX_HEAD = 64 * 1024
# For one connection only (RFC 9110, 7.6.1); neither side's are the other's.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"upgrade")
)  # fmt: skip

Header = tuple[bytes, bytes]


def authority(target: bytes) -> str:
    """Host and port of an absolute-form target. Raises ValueError."""
    url = urlsplit(target.decode("ascii"))
    if url.scheme != "http" or not url.netloc:
        raise ValueError("a proxy is asked with CONNECT host:port, or with a whole http:// address")
    if "@" in url.netloc:
        raise ValueError("an address with a user name in it")
    return url.netloc


async def exchange(
    client: h11.Connection, request: h11.Request, target: Target, sandbox: Streams, upstream: Streams
) -> None:
    """Raises OSError, EOFError, TimeoutError or h11.ProtocolError where one of the sides does not play its part."""
    server = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    upstream.writer.write(server.send(_forwarded(request, target)) or b"")
    if client.they_are_waiting_for_100_continue:
        sandbox.writer.write(client.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
    body = asyncio.create_task(_pass_body(client, sandbox.reader, server, upstream.writer))
    try:
        await _pass_answer(server, upstream.reader, client, sandbox.writer)
    finally:
        body.cancel()  # a server may answer before it has read everything
        with contextlib.suppress(asyncio.CancelledError, OSError, EOFError, TimeoutError, h11.ProtocolError):
            await body


def _forwarded(request: h11.Request, target: Target) -> h11.Request:
    """The same request in the form in which a server takes it; Host is what was checked, whatever the client wrote (RFC 9112, 3.2.2)."""
    url = urlsplit(request.target.decode("ascii"))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = str(target).removesuffix(":80")
    kept = [header for header in _end_to_end(request.headers) if header[0] not in (b"host", b"expect")]
    if any(name == b"transfer-encoding" for name, _ in kept):
        kept = [header for header in kept if header[0] != b"content-length"]
    headers = [(b"host", host.encode()), *kept, (b"connection", b"close")]
    return h11.Request(method=request.method, target=path.encode(), headers=headers)


def _end_to_end(headers: h11._headers.Headers) -> list[Header]:
    plain = [(bytes(name), bytes(value)) for name, value in headers]
    named = {token.strip().lower() for name, value in plain if name == b"connection" for token in value.split(b",")}
    return [header for header in plain if header[0] not in _HOP_BY_HOP and header[0] not in named]


async def _pass_body(
    client: h11.Connection, reader: asyncio.StreamReader, server: h11.Connection, writer: asyncio.StreamWriter
) -> None:
    while True:
        event = await _event(client, reader)
        if isinstance(event, h11.Data | h11.EndOfMessage):
            writer.write(server.send(event) or b"")
            await writer.drain()
        if not isinstance(event, h11.Data):
            return


async def _pass_answer(
    server: h11.Connection, reader: asyncio.StreamReader, client: h11.Connection, writer: asyncio.StreamWriter
) -> None:
    while True:
        event = await _event(server, reader)
        if isinstance(event, h11.Response):
            kept = [header for header in _end_to_end(event.headers) if header[0] != b"transfer-encoding"]
            headers = [*kept, (b"connection", b"close")]
            event = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        if isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
            writer.write(client.send(event) or b"")
            await writer.drain()
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return


async def _event(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Event:
    while True:
        event = connection.next_event()
        if event is h11.PAUSED:
            raise EOFError
        if isinstance(event, h11.Event):
            await asyncio.sleep(0)  # thousands of small chunks may be here already, and other sessions want their turn
            return event
        async with asyncio.timeout(IDLE_S):
            connection.receive_data(await reader.read(_CHUNK))  # no data tells h11 of the end
