"""Sessions as an operator sees them, with what each has used: read where the kernel counts it, at most once a second for each session.

Reading takes microseconds a session, and the loop belongs to everybody's calls: after a few, others have their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from carrel.backends.base import Usage
from carrel.observations import Row
from carrel.sessions.session import Session

_FRESH_S = 1.0
_AT_ONCE = 16


class Rows:
    def __init__(self) -> None:
        self._samples: WeakKeyDictionary[Session, tuple[float, Usage]] = WeakKeyDictionary()

    async def of(self, sessions: Iterable[Session]) -> list[Row]:
        rows = []
        for number, session in enumerate(sessions, 1):
            rows.append(_row(session, await self._usage(session)))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return rows

    async def _usage(self, session: Session) -> Usage:
        now = time.monotonic()
        at, usage = self._samples.get(session, (-_FRESH_S, Usage()))
        if now - at >= _FRESH_S:
            usage = await session.guest.sandbox.usage()
            self._samples[session] = now, usage
        return usage


def _row(session: Session, usage: Usage) -> Row:
    seat = session.seat
    view = seat.view()
    return Row(
        view.identifier,
        view.created_at,
        view.last_used_at,
        view.expires_at,
        session.state.capitalize(),
        seat.executions,
        seat.last_status,
        seat.cpu_ms if usage.cpu_s is None else round(usage.cpu_s * 1000, 3),
        usage.memory_bytes,
        session.guest.link.disk_bytes,
    )
