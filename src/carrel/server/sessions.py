"""The routes about sessions and pools as such. None of them allocates a session or counts as its use."""

from __future__ import annotations

from carrel.errors import PoolNotFound, RequestInvalid
from carrel.server.call import Call
from carrel.wire.sessions import encode_metadata, encode_session, encode_sessions

_PAGE = 300  # Azure's
_MAX_SKIP = 1_000_000


async def session(call: Call) -> None:
    """`GET session`."""
    view = await call.link.session(call.pool.name, call.identifier())
    etag = view.guid.encode()
    headers = [(b"x-ms-session-guid", etag), (b"x-ms-session-etag", etag)]
    await call.exchange.reply(200, encode_session(view), headers)


async def end(call: Call) -> None:
    """`DELETE session`."""
    await call.link.end(call.pool.name, call.identifier())
    await call.exchange.reply(204)


async def sessions(call: Call) -> None:
    """`GET listSessions`."""
    skip = _skip(call)
    views, total = await call.link.sessions(call.pool.name, skip, _PAGE)
    following = skip + len(views)
    next_link = None
    if views and following < total:
        next_link = call.link_to(f"listSessions?api-version={call.version.name}&skip={following}")
    await call.exchange.reply(200, encode_sessions(views, next_link))


async def metadata(call: Call) -> None:
    """`GET metadata`."""
    for status in await call.link.pools():
        if status.spec.name == call.pool.name:
            image = await call.link.image(call.pool.name)
            return await call.exchange.reply(200, encode_metadata(status, image))
    raise PoolNotFound("The host does not know this session pool.")


def _skip(call: Call) -> int:
    text = call.query.get("skip") or "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 7 or int(text) > _MAX_SKIP:
        raise RequestInvalid("The query parameter 'skip' must be a whole number from 0.", target="skip")
    return int(text)
