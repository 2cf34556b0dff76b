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

    def begin(self) -> None: ...

    def finish(self) -> None: ...

    def executed(self, record: Record) -> None:
        """It is over, also where the session ended before it did."""

    @property
    def is_logging(self) -> bool:
        """Whether there is a session log, which wants programs as they were written."""
        ...

    def submitted(self, count: int) -> None:
        """Bytes of an execution's code and variables."""

    def received(self, principal: str, count: int) -> None:
        """Bytes of a file, from a caller."""

    def sent(self, principal: str, count: int) -> None:
        """Bytes of a file, to a caller."""

    def settle(self) -> None:
        """Write down what was received and sent: called before who gets the last of it can know that."""

    def leave(self) -> None:
        """The session has ended. Safe to call again."""

    def restarted(self) -> None:
        """The interpreter is a fresh one."""

    def view(self, is_new: bool = False) -> SessionView: ...
