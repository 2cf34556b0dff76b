"""What a session knows of its pool."""

from __future__ import annotations

from typing import Protocol

from carrel.models import SessionView


class Seat(Protocol):
    """The session's place in its pool. While calls are under way, executions without a caller included, it does not expire."""

    @property
    def principal(self) -> str:
        """Whose call has begun the session; "" for nobody's."""
        ...

    def begin(self) -> None: ...

    def finish(self) -> None: ...

    def restarted(self) -> None:
        """The interpreter is a fresh one."""

    def view(self, is_new: bool = False) -> SessionView: ...
