"""The routes about sessions and pools as such. None of them allocates a session, and looking does not count as use."""

from __future__ import annotations

from carrel.errors import PoolNotFound
from carrel.models import SessionView
from carrel.server.call import PAGE, Call, expiry, session_headers
from carrel.wire import jsons
from carrel.wire.sessions import encode_metadata, encode_session, encode_sessions


async def session(call: Call) -> None:
    """`GET session`."""
    view = await call.link.session(call.pool.name, call.identifier())
    etag = view.guid.encode()
    headers = [(b"x-ms-session-guid", etag), (b"x-ms-session-etag", etag), expiry(view.expires_at)]
    await call.exchange.reply(200, encode_session(view), headers)


async def end(call: Call) -> None:
    """`DELETE session`."""
    await call.link.end(call.pool.name, call.identifier())
    await call.exchange.reply(204)


async def sessions(call: Call) -> None:
    """`GET listSessions`."""
    views, next_link = await page(call, "listSessions")
    await call.exchange.reply(200, encode_sessions(views, next_link))


async def page(call: Call, route: str) -> tuple[list[SessionView], str | None]:
    """The sessions after the `skip` that the caller has, and where the list goes on."""
    skip = call.skip()
    views, total = await call.link.sessions(call.pool.name, skip, PAGE)
    return views, call.next_link(route, skip + len(views), total) if views else None


async def cancel(call: Call) -> None:
    """`POST session/cancel`: everything that runs or waits in it."""
    canceled = await call.link.cancel_all(call.pool.name, call.identifier())
    await call.exchange.reply(200, jsons.encode({"canceled": canceled}))


async def restart(call: Call) -> None:
    """`POST session/restart`: a fresh interpreter; files and environment stay."""
    view = await call.link.restart(call.pool.name, call.identifier())
    await call.exchange.reply(200, encode_session(view), session_headers(view))


async def metadata(call: Call) -> None:
    """`GET metadata`."""
    for status in await call.link.pools():
        if status.spec.name == call.pool.name:
            image = await call.link.image(call.pool.name)
            return await call.exchange.reply(200, encode_metadata(status, image))
    raise PoolNotFound("The host does not know this session pool.")
