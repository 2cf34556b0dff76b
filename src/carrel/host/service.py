"""hostlink, the host's side: each connection is a task that answers one call after the other.

Protocol: hostlink.py. A body that does not come to its end aborts an upload; a reader that is gone aborts a download; an execution runs
on without its caller, since it belongs to the session. A call that fails leaves the connection usable: what is left of its body is
read and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Self

from carrel import errors, tracing
from carrel.counts import HostCounts
from carrel.host import codec, door
from carrel.host.call import Call
from carrel.host.code_calls import CodeCalls, seen
from carrel.host.connection import Connection, ConnectionLost
from carrel.host.file_calls import FileCalls
from carrel.host.self_calls import Instruments, SelfCalls
from carrel.models import pool_from_json
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session
from carrel.sessions.tasks import Tasks

log = logging.getLogger(__name__)


class Service:
    """Serves `keeper` on a socket that `door.bind` made, for `callers`; a connection of another user is closed unread.

    Leaving the block closes every connection; close the keeper first, to end the calls.
    """

    def __init__(
        self, keeper: Keeper, sock: socket.socket, callers: Collection[int], instruments: Instruments | None = None
    ) -> None:
        self._keeper = keeper
        self._instruments = instruments = instruments or Instruments()
        self._socket = sock
        self._callers = callers
        self._tasks = Tasks()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._ops: dict[str, Callable[[Call], Awaitable[None]]] = {
            "pools": self._pools,
            "observe": self._observe,
            "journal": self._journal,
            "counts": self._counts,
            "table": self._table,
            "apply_pool": self._apply_pool,
            "remove_pool": self._remove_pool,
            "settled": self._settled,
            "image": self._image,
            "set_image": self._set_image,
            "egress": self._egress,
            "set_egress": self._set_egress,
            "test_egress": self._test_egress,
            "open": self._open,
            "session": self._session,
            "sessions": self._sessions,
            "end": self._end,
            "keep_alive": self._keep_alive,
            "notices": self._notices,
            "delivered": self._delivered,
            **CodeCalls(keeper).ops,
            **FileCalls(keeper).ops,
            **SelfCalls(instruments).ops,
        }

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Accepted(self._accepted), sock=self._socket, backlog=512
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.close()
        await self._tasks.__aexit__(kind, error, trace)

    # -- connections -------------------------------------------------------------------------------------------------

    def _accepted(self, connection: Connection) -> None:
        uid = door.uid_of(connection.socket)
        if uid not in self._callers:
            log.error("a stranger has connected to the host", extra={"uid": uid})
            connection.close()
            return
        self._tasks.spawn(self._serve(connection), "hostlink connection")

    async def _serve(self, connection: Connection) -> None:
        self._connections.add(connection)
        try:
            with contextlib.suppress(ConnectionLost, TimeoutError):
                while True:
                    header, payload = await connection.read()
                    await self._answer(Call(connection, header, payload))
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _answer(self, call: Call) -> None:
        context = tracing.Context.taken(call.header.get("trace"), self._instruments.outbox)
        tracing.enter(context)  # until the next call on this connection
        try:
            with tracing.span(f"host {call.header['op']}", "server"):
                await self._ops[call.header["op"]](call)
        except errors.CarrelError as error:
            call.fail(error)
        except (ConnectionLost, TimeoutError):
            raise
        except Exception:
            # The edge of the host: a mistake of ours answers this call and ends no other.
            log.exception("a call failed", extra={"op": call.header.get("op")})
            call.fail(errors.CarrelError("The session host failed on this call: its log has it under this traceId."))
        await call.skip_body()

    # -- pools and sessions ------------------------------------------------------------------------------------------

    async def _pools(self, call: Call) -> None:
        call.end({}, codec.json_to([codec.pool_to(status) for status in self._keeper.pools()]))

    async def _observe(self, call: Call) -> None:
        reports = self._keeper.reports(call.header.get("pool"))
        call.end({}, codec.json_to({name: dataclasses.asdict(report) for name, report in reports.items()}))

    async def _journal(self, call: Call) -> None:
        """Lines from a place on, of the journal that the caller means; all before it has been taken and need not be kept."""
        identity, place, lines = self._keeper.ledger.read(str(call.header["journal"]), int(call.header["place"]))
        call.end({"journal": identity, "place": place, "end": self._keeper.ledger.end}, lines)

    async def _counts(self, call: Call) -> None:
        proc = self._instruments.proc
        counts = HostCounts(self._keeper.counts(), self._keeper.books(), proc.process(), proc.machine())
        call.end({}, codec.json_to(counts.to_json()))

    async def _table(self, call: Call) -> None:
        rows, total = await self._keeper.table(call.pool, int(call.header["skip"]), int(call.header["limit"]))
        call.end({"total": total}, codec.json_to([dataclasses.asdict(row) for row in rows]))

    async def _apply_pool(self, call: Call) -> None:
        fields = codec.json_from(b"".join([piece async for piece in call.body()]))
        status = await self._keeper.apply_pool(pool_from_json(fields))
        call.end({}, codec.json_to(codec.pool_to(status)))

    async def _remove_pool(self, call: Call) -> None:
        await self._keeper.remove_pool(call.pool)
        call.end({})

    async def _settled(self, call: Call) -> None:
        error = await call.while_there(self._keeper.settled(call.pool))
        call.end({"error_of_pool": error})

    async def _image(self, call: Call) -> None:
        call.end({}, codec.json_to(codec.image_to(self._keeper.image(call.pool))))

    async def _set_image(self, call: Call) -> None:
        image = await self._keeper.set_image(call.pool, str(call.header["name"]))
        call.end({}, codec.json_to(codec.image_to(image)))

    async def _egress(self, call: Call) -> None:
        call.end({"egress": codec.egress_to(await self._keeper.egress(call.pool))})

    async def _set_egress(self, call: Call) -> None:
        allow = codec.json_from(b"".join([piece async for piece in call.body()]))
        call.end({"egress": codec.egress_to(await self._keeper.set_egress(call.pool, allow))})

    async def _test_egress(self, call: Call) -> None:
        verdict = await self._keeper.test_egress(call.pool, str(call.header["target"]))
        call.end({"verdict": codec.egress_to(verdict)})

    async def _open(self, call: Call) -> None:
        environment = (
            codec.json_from(b"".join([piece async for piece in call.body()])) if "environment" in call.header else None
        )
        session, is_new = await self._allocate(call)
        if environment is None:
            session.touch()
        else:
            await session.set_environment(environment, is_new=is_new)
        call.end(seen(session, is_new))

    async def _session(self, call: Call) -> None:
        call.end(seen(self._keeper.find(call.pool, call.identifier), False))

    async def _sessions(self, call: Call) -> None:
        views, total = self._keeper.sessions(call.pool, int(call.header["skip"]), int(call.header["limit"]))
        call.end({"total": total}, codec.json_to([codec.view_to(view) for view in views]))

    async def _end(self, call: Call) -> None:
        self._keeper.end(call.pool, call.identifier)
        call.end({})

    async def _keep_alive(self, call: Call) -> None:
        session = self._keeper.find(call.pool, call.identifier)
        session.touch()
        call.end(seen(session, False))

    # -- notices -----------------------------------------------------------------------------------------------------

    async def _notices(self, call: Call) -> None:
        """Of a session that lives, from now on or after a number; or of the whole pool, from where its reader has come to. Without end."""
        identifier = call.header.get("identifier")
        first = {} if identifier is None else seen(self._keeper.find(call.pool, identifier), False)
        bulletin = self._keeper.bulletin(call.pool)
        if identifier is None:
            number = bulletin.delivered.get(str(call.header["reader"]), 0)
        else:
            number = min(call.header["after"] or bulletin.last, bulletin.last)
        await call.send(first)
        while True:
            found = await call.while_there(bulletin.after(number, identifier))
            number = found[-1].number
            for notice in found:
                await call.send({"notice": codec.notice_to(notice)})

    async def _delivered(self, call: Call) -> None:
        bulletin = self._keeper.bulletin(call.pool)
        reader, number = str(call.header["reader"]), min(int(call.header["number"]), bulletin.last)
        bulletin.delivered[reader] = max(bulletin.delivered.get(reader, 0), number)
        call.end({})

    async def _allocate(self, call: Call) -> tuple[Session, bool]:
        return await self._keeper.session(call.pool, call.identifier, call.principal)


class _Accepted(Connection):
    """A connection that tells the service when it is there."""

    def __init__(self, made: Callable[[Connection], None]) -> None:
        super().__init__()
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._made(self)
