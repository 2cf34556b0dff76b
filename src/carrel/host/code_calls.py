"""What hostlink can ask of a session's code: run it, look at what ran, follow it, end it, begin anew.

Whoever follows an execution reads its transcript at their own pace: what is on its way to them is bounded by their connection, and
nothing waits for it, neither the code nor another reader.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from carrel.guest.frames import Header, chunks
from carrel.host import codec
from carrel.host.call import Call
from carrel.host.connection import ConnectionLost
from carrel.sessions.executions import Record
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session


class CodeCalls:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.ops: dict[str, Callable[[Call], Awaitable[None]]] = {
            "execute": self._execute,
            "execution": self._execution,
            "executions": self._executions,
            "stream": self._stream,
            "follow": self._follow,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "restart": self._restart,
        }

    async def _execute(self, call: Call) -> None:
        session, is_new, record = await self._submit(call)
        if not record.spec.is_asynchronous:
            await record.done()
        await _end_with(call, record, seen(session, is_new))
        session.read(record)  # where this repeats one that is over, its caller has the result now

    async def _execution(self, call: Call) -> None:
        session, record = self._known(call)
        session.touch()
        await _end_with(call, record, seen(session, False))
        session.read(record)

    async def _executions(self, call: Call) -> None:
        session = self._keeper.find(call.pool, call.identifier)
        records, total = session.executions(int(call.header["skip"]), int(call.header["limit"]))
        session.touch()
        call.end({"total": total}, codec.json_to([_told(record) for record in records]))

    async def _stream(self, call: Call) -> None:
        session, is_new, record = await self._submit(call)
        await self._send_events(call, session, record, 0, is_new=is_new)

    async def _follow(self, call: Call) -> None:
        session, record = self._known(call)
        session.touch()
        await self._send_events(call, session, record, int(call.header["after"]), is_new=False)

    async def _cancel(self, call: Call) -> None:
        session = self._keeper.find(call.pool, call.identifier)
        record = await session.cancel(str(call.header["id"]))
        await _end_with(call, record, seen(session, False))
        session.read(record)

    async def _cancel_all(self, call: Call) -> None:
        call.end({"count": await self._keeper.find(call.pool, call.identifier).cancel_all()})

    async def _restart(self, call: Call) -> None:
        session = self._keeper.find(call.pool, call.identifier)
        await session.restart()
        call.end(seen(session, False))

    async def _submit(self, call: Call) -> tuple[Session, bool, Record]:
        spec, variables = codec.spec_from(call.header["spec"], b"".join([piece async for piece in call.body()]))
        asked_at = time.monotonic()
        session, is_new = await self._keeper.session(call.pool, call.identifier, call.principal)
        return session, is_new, session.submit(spec, variables, call.principal, asked_at if is_new else None)

    def _known(self, call: Call) -> tuple[Session, Record]:
        session = self._keeper.find(call.pool, call.identifier)
        return session, session.execution(str(call.header["id"]))

    async def _send_events(self, call: Call, session: Session, record: Record, place: int, *, is_new: bool) -> None:
        """The beginning, what comes, and the execution as it is when it is over. Raises ConnectionLost, SessionLost."""
        with record.watched() as more, call.connection.calling_when_lost(more.set):
            await call.send({"id": record.id, **seen(session, is_new)})
            while True:
                more.clear()
                is_over = record.is_over
                while (piece := record.transcript.read(place)) is not None:
                    place = piece.place
                    *parts, last = chunks(piece.data)
                    for part in parts:
                        await call.send({"event": piece.kind, "more": 1}, part)
                    await call.send({"event": piece.kind, "number": place}, last)
                if call.connection.is_lost:
                    raise ConnectionLost
                if is_over:
                    break
                await more.wait()
        record.check()
        await _end_with(call, record, {"number": place + 1})
        session.read(record)


def seen(session: Session, is_new: bool) -> Header:
    return {"session": codec.view_to(session.seat.view(is_new))}


def _told(record: Record) -> Header:
    """The execution as it stands, without its output; what most of them lack is left out."""
    told = {
        "id": record.id,
        "is_asynchronous": record.spec.is_asynchronous,
        "status": record.status,
        "queued_ms": record.queued_ms,
        "outcome": record.outcome,
        "usage": None if record.usage is None else codec.usage_to(record.usage),
    }
    if record.spec.shell is not None:
        told["command_timeout"] = record.spec.timeout
    if record.spec.wanted or record.spec.has_summary:
        told["wanted"] = 1
    if record.dropped:
        told["dropped"] = record.dropped
    if record.exit_code is not None:
        told["exit_code"] = record.exit_code
    return told


async def _end_with(call: Call, record: Record, header: Header) -> None:
    """The execution with its output; that travels as one, its parts behind each other."""
    parts = [record.stdout, record.stderr, record.value, record.variables, *record.displays]
    execution = _told(record)
    execution["sizes"] = list(map(len, parts))
    await call.end_with({**header, "execution": execution}, parts)
