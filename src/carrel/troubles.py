"""The last errors of this gateway: what a person looks for first when something is wrong. A bounded list in memory, newest last.

No path, no identifier, no text of the caller's stands in it: route patterns, codes, and messages that are our own.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

KEPT = 100
_LONGEST = 500  # characters of a message


@dataclass(frozen=True, slots=True)
class Trouble:
    at: float
    trace: str
    route: str  # the pattern; the event's name where it was no request
    pool: str  # its key; empty where it is nobody's
    code: str
    message: str


class Troubles:
    def __init__(self) -> None:
        self._last: deque[Trouble] = deque(maxlen=KEPT)

    def note(self, *, trace: str, route: str, pool: str, code: str, message: str, at: float | None = None) -> None:
        now = time.time() if at is None else at
        self._last.append(Trouble(now, trace, route, pool, code, message[:_LONGEST]))

    def last(self) -> list[Trouble]:
        return list(self._last)
