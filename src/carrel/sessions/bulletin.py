"""What has happened to a pool's sessions lately, for whoever wants to be told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque

from carrel import tracing
from carrel.errors import PoolNotFound
from carrel.models import Notice, NoticeKind, SessionView

KEPT = 1024  # a reader further behind has missed some, and sees it by the numbers


class Bulletin:
    """Posting waits for nobody; each reader has a cursor of its own and costs nothing but that."""

    def __init__(self) -> None:
        self._kept: deque[Notice] = deque(maxlen=KEPT)
        self._posted = asyncio.Event()
        self._is_closed = False
        self.last = 0  # the number of the newest
        self.delivered: dict[str, int] = {}  # by reader: the newest up to which all were taken, by whichever gateway

    def post(self, kind: NoticeKind, session: SessionView, reason: str = "") -> None:
        self.last += 1
        call = tracing.current()
        trace = () if call is None or not call.id else (call.parent_header, call.state)
        self._kept.append(Notice(self.last, kind, time.time(), session, reason, trace))
        self._posted.set()
        self._posted = asyncio.Event()

    def close(self) -> None:
        """The pool is no more: readers get what there is and then PoolNotFound."""
        self._is_closed = True
        self._posted.set()

    async def after(self, number: int, identifier: str | None = None) -> list[Notice]:
        """Those after `number`, of one identifier or of all; waits for one where there are none. Raises PoolNotFound."""
        while True:
            new = itertools.islice(reversed(self._kept), max(0, self.last - number))
            found = [each for each in new if identifier in (None, each.session.identifier)][::-1]
            if found:
                return found
            if self._is_closed:
                raise PoolNotFound("The session pool was deleted.")
            number = max(number, self.last)
            await self._posted.wait()
