"""File calls whose replies go on: a directory as an archive, and what changes in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

from carrel.errors import RequestNotSupported
from carrel.host.hostlink import Archive, Watch
from carrel.server.call import Call, session_headers
from carrel.server.exchange import CallerGone, Headers
from carrel.server.telling import tell
from carrel.wire.events import encode_event
from carrel.wire.files import encode_file

TAR = "application/x-tar"


async def archive(call: Call) -> None:
    """`GET files` for a caller that accepts `application/x-tar`. One that cannot be completed ends in the middle, without a last chunk."""
    if call.exchange.scope["http_version"] == "1.0":
        raise RequestNotSupported("An archive has no length before it is made: it takes HTTP/1.1.", target="Accept")
    directory = call.directory()
    call.exchange.details = {"directory": call.digest(directory)} if directory else {}
    name = f"{directory.rpartition('/')[2] or 'data'}.tar"
    async with call.link.archive(call.pool.name, call.identifier(), directory) as opened:
        headers: Headers = [
            *session_headers(opened.session),
            (b"content-type", TAR.encode()),
            (b"content-disposition", f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}".encode()),
        ]
        await call.exchange.begin(200, headers)
        if call.exchange.method == "HEAD":
            return await call.exchange.write(b"", is_last=True)
        return await _relay(call, opened)


async def _relay(call: Call, opened: Archive) -> None:
    exchange = call.exchange
    watcher = asyncio.ensure_future(exchange.watch()) if exchange.has_all else None
    try:
        async for chunk in opened:
            if watcher and watcher.done():
                raise CallerGone
            await exchange.write(chunk)
        await exchange.write(b"", is_last=True)
    finally:
        if watcher:
            watcher.cancel()


async def watch(call: Call) -> None:
    """`GET files` for a caller that accepts `text/event-stream`. Being watched does not keep a session from expiring."""
    directory, recursive = call.directory(), call.flag("recursive")
    async with call.link.watch(call.pool.name, call.identifier(), directory, recursive) as watching:
        await tell(call, session_headers(watching.session), _encoded(watching))


async def _encoded(watching: Watch) -> AsyncIterator[bytes]:
    """One event for each change; what came together goes out together."""
    async for changes in watching:
        yield b"".join(
            encode_event(change.kind, {} if change.file is None else encode_file(change.file)) for change in changes
        )
