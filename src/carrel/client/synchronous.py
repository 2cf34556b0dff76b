"""The client for plain code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import overload

from carrel.client import calls, recorded
from carrel.client.filing import Filing
from carrel.client.observing import ROW_COLUMNS, PoolStatus, SessionRow
from carrel.client.recorded import LogRecord
from carrel.client.session import SessionClient
from carrel.client.showing import Table
from carrel.client.values import SESSION_COLUMNS, Egress, EgressTest, Image, Metadata, Session


class Client(Filing):
    """A pool to run code in. `identifier` is the session that calls use which name none."""

    @overload
    def session(self, name: str, /) -> SessionClient: ...
    @overload
    def session(self, /, *, identifier: str | None = None) -> Session: ...

    def session(self, name: str | None = None, /, *, identifier: str | None = None) -> SessionClient | Session:
        """`session("conv-42")` is that session, to run code in; it asks nothing of the server.

        Without a name: how the client's own session, or that of `identifier`, stands. That neither makes one nor keeps it alive.
        """
        if name is not None:
            return SessionClient(self, name)
        return self._send(calls.session(identifier or self.identifier))

    def sessions(self) -> list[Session]:
        """All live sessions of the pool; a notebook shows them as a table."""
        return self._list(Table([], SESSION_COLUMNS), calls.sessions)

    def end(self, *, identifier: str | None = None) -> None:
        """End the session; its variables and files are gone."""
        self._send(calls.end(identifier or self.identifier))

    def metadata(self) -> Metadata:
        return self._send(calls.metadata())

    def status(self) -> PoolStatus:
        """How the pool is, and its last minutes. The token needs the right to see the pool, as for the next one."""
        return self._send(calls.status())

    def table(self) -> list[SessionRow]:
        """All live sessions of the pool with what each has used; a notebook shows them as a table."""
        return self._list(Table([], ROW_COLUMNS), calls.table)

    def logs(
        self,
        *,
        identifier: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[LogRecord]:
        """What was executed in the pool, newest first, where it has a session log. The token needs the right to see the pool."""
        query: dict[str, str] | None = recorded.log_query(identifier, status, since, until)
        while query is not None:
            page = self._send(recorded.log_page(query))
            yield from page.records
            query = page.following

    def image(self) -> Image:
        """Which image the pool's new sessions get. The token needs the role of a pool contributor."""
        return self._send(calls.image())

    def set_image(self, name: str) -> Image:
        """Move the pool to another image, built first where it is missing: for new sessions."""
        return self._send(calls.set_image(name))

    def egress(self) -> Egress:
        """What the pool's sessions may reach. Needs a token with the role 'Container Apps SessionPools Contributor', as the next two do."""
        return self._send(calls.egress())

    def set_egress(self, rules: Sequence[str]) -> Egress:
        """Put `rules` in the place of the pool's egress list: at once, for live sessions too."""
        return self._send(calls.set_egress(rules))

    def test_egress(self, host: str, port: int = 443) -> EgressTest:
        """What the pool's egress list does with a host, and why; the name is resolved, nothing is connected to."""
        return self._send(calls.test_egress(host, port))
