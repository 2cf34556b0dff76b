"""The routes about a session's life beyond Azure's: opened with an environment, kept alive, watched from its side."""

from __future__ import annotations

from collections.abc import AsyncIterator

from carrel.host.hostlink import Notices
from carrel.models import NoticeKind, SessionView
from carrel.server.call import Call, session_headers
from carrel.server.telling import tell
from carrel.wire.environments import MAX_BODY, decode_environment
from carrel.wire.events import decode_last_event_id, encode_event
from carrel.wire.sessions import encode_notice, encode_session


async def open_session(call: Call) -> None:
    """`PUT session`: 201 where this made it. Repeating it with the same environment does no harm."""
    identifier = call.identifier()
    environment = decode_environment(await call.exchange.body(MAX_BODY), call.secrets.get)
    view = await call.link.open(call.pool.name, identifier, environment)
    await call.exchange.reply(201 if view.is_new else 200, encode_session(view), session_headers(view))


async def keep_alive(call: Call) -> None:
    """`POST session/keepAlive`: a use of a session that lives. It makes none: who keeps one alive wants that one."""
    view = await call.link.keep_alive(call.pool.name, call.identifier())
    await call.exchange.reply(200, encode_session(view), session_headers(view))


async def events(call: Call) -> None:
    """`GET session/events`: what happens to a session that lives, to its end. Asking is no use of it."""
    after = decode_last_event_id(call.exchange.header(b"last-event-id"))
    async with call.link.notices(call.pool.name, call.identifier(), after) as notices:
        if notices.session is None:
            raise RuntimeError("what is told of a session comes with it")
        await tell(call, session_headers(notices.session), _encoded(notices, notices.session))


async def _encoded(notices: Notices, view: SessionView) -> AsyncIterator[bytes]:
    yield encode_event("session", encode_session(view))
    async for notice in notices:
        yield encode_event(notice.kind, encode_notice(notice), notice.number)
        if notice.kind is NoticeKind.ENDED:
            return
