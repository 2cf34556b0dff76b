"""What a session knows of its pool."""

from __future__ import annotations

from typing import Protocol

from carrel.models import SessionView
from carrel.sessions.executions import Record


class Seat(Protocol):
    """The session's place in its pool. While calls are under way, executions without a caller included, it does not expire."""

    executions: int  # that are over
    last_status: str | None  # of the last of them
    cpu_ms: float | None  # of all of them together, where anybody knows

    @property
    def principal(self) -> str:
        """Whose call has begun the session; "" for nobody's."""
        ...

    def begin(self) -> None: ...

    def finish(self) -> None: ...

    def executed(self, record: Record) -> None:
        """It is over, also where the session ended before it did."""

    def received(self, count: int) -> None:
        """Bytes, from a caller."""

    def sent(self, count: int) -> None:
        """Bytes of a file, to a caller. Those of executions are the record's."""

    def restarted(self) -> None:
        """The interpreter is a fresh one."""

    def view(self, is_new: bool = False) -> SessionView: ...
