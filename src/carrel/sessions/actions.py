"""What the books of a pool (pool.py) decide, for room.py to do; and a session as the books know it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Live:
    """One session in the books. `calls` are under way now; a session with any does not expire."""

    identifier: str
    slot: int
    last_used_at: float
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    slot: int


@dataclass(frozen=True, slots=True)
class Kill:
    """A sandbox that is nobody's (any more)."""

    slot: int


@dataclass(frozen=True, slots=True)
class Assign:
    live: Live


@dataclass(frozen=True, slots=True)
class Expire:
    """End the session; its sandbox is out of the books already."""

    live: Live


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell those who wait for this identifier why they get no sandbox."""

    identifier: str
    reason: str


@dataclass(frozen=True, slots=True)
class Remind:
    """Nobody has used the session for so long that it will soon expire."""

    live: Live


Action = Start | Kill | Assign | Expire | Fail | Remind
