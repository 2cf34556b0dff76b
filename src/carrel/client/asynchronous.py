"""The client for asyncio: Client's methods, each to be awaited, or iterated with `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import overload

from carrel.client import calls, recorded
from carrel.client.filing_async import AsyncFiling
from carrel.client.observing import ROW_COLUMNS, PoolStatus, SessionRow
from carrel.client.recorded import LogRecord
from carrel.client.session_async import AsyncSessionClient
from carrel.client.showing import Table
from carrel.client.values import SESSION_COLUMNS, Egress, EgressTest, Image, Metadata, Session


class AsyncClient(AsyncFiling):
    """A pool to run code in. `identifier` is the session that calls use which name none."""

    @overload
    def session(self, name: str, /) -> AsyncSessionClient: ...
    @overload
    def session(self, /, *, identifier: str | None = None) -> Awaitable[Session]: ...

    def session(
        self, name: str | None = None, /, *, identifier: str | None = None
    ) -> AsyncSessionClient | Awaitable[Session]:
        """`session("conv-42")` is that session, to run code in; it asks nothing of the server.

        Without a name, to be awaited: how the client's own session, or that of `identifier`, stands. Asking neither makes one nor keeps
        it alive.
        """
        if name is not None:
            return AsyncSessionClient(self, name)
        return self._send(calls.session(identifier or self.identifier))

    async def sessions(self) -> list[Session]:
        """All live sessions of the pool; a notebook shows them as a table."""
        return await self._list(Table([], SESSION_COLUMNS), calls.sessions)

    async def end(self, *, identifier: str | None = None) -> None:
        """End the session; its variables and files are gone."""
        await self._send(calls.end(identifier or self.identifier))

    async def metadata(self) -> Metadata:
        return await self._send(calls.metadata())

    async def status(self) -> PoolStatus:
        """How the pool is, and its last minutes. The token needs the right to see the pool, as for the next one."""
        return await self._send(calls.status())

    async def table(self) -> list[SessionRow]:
        """All live sessions of the pool with what each has used; a notebook shows them as a table."""
        return await self._list(Table([], ROW_COLUMNS), calls.table)

    async def logs(
        self,
        *,
        identifier: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[LogRecord]:
        """What was executed in the pool, newest first, where it has a session log. The token needs the right to see the pool."""
        query: dict[str, str] | None = recorded.log_query(identifier, status, since, until)
        while query is not None:
            page = await self._send(recorded.log_page(query))
            for each in page.records:
                yield each
            query = page.following

    async def image(self) -> Image:
        """Which image the pool's new sessions get. The token needs the role of a pool contributor."""
        return await self._send(calls.image())

    async def set_image(self, name: str) -> Image:
        """Move the pool to another image, built first where it is missing: for new sessions."""
        return await self._send(calls.set_image(name))

    async def egress(self) -> Egress:
        """What the pool's sessions may reach. Needs a token with the role 'Container Apps SessionPools Contributor', as the next two do."""
        return await self._send(calls.egress())

    async def set_egress(self, rules: Sequence[str]) -> Egress:
        """Put `rules` in the place of the pool's egress list: at once, for live sessions too."""
        return await self._send(calls.set_egress(rules))

    async def test_egress(self, host: str, port: int = 443) -> EgressTest:
        """What the pool's egress list does with a host, and why; the name is resolved, nothing is connected to."""
        return await self._send(calls.test_egress(host, port))
