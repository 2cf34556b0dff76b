"""The `.management` routes: Azure's older way to look at sessions and to stop them. None allocates a session or counts as its use."""

from __future__ import annotations

from carrel.errors import SessionNotFound, SessionUnknown
from carrel.server import sessions
from carrel.server.call import Call
from carrel.wire.sessions import encode_managed_session, encode_managed_sessions, encode_stopped

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def get_session(call: Call) -> None:
    """`POST .management/getSession`."""
    try:
        view = await call.link.session(call.pool.name, call.identifier())
    except SessionNotFound as error:
        raise _unknown(error) from error
    await call.exchange.reply(200, encode_managed_session(view))


async def list_sessions(call: Call) -> None:
    """`POST .management/listSessions`."""
    views, next_link = await sessions.page(call, ".management/listSessions")
    await call.exchange.reply(200, encode_managed_sessions(views, next_link))


async def stop_session(call: Call) -> None:
    """`POST .management/stopSession`."""
    identifier = call.identifier()
    try:
        await call.link.end(call.pool.name, identifier)
    except SessionNotFound as error:
        raise _unknown(error) from error
    await call.exchange.reply(200, encode_stopped(identifier, call.pool.name), content_type=_TEXT)


def _unknown(error: SessionNotFound) -> SessionUnknown:
    return SessionUnknown(error.message, target="identifier")
