"""What a pool has come to since the host began: counted as it happens, a few additions for each call, read by whoever asks.

A tally belongs to a pool's name. Rooms come and go as the pool is defined anew; their tally goes on until the pool is deleted.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from carrel.models import Outcome, Status
from carrel.observations import MINUTES, Histogram, Minute, Report, Totals
from carrel.sessions.executions import Record

LOST = "lost"  # of an execution, or of a session: its sandbox ended under it
_MINUTE_S = 60


class Tally:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._began_at = clock()
        self._minutes: deque[_Counting] = deque(maxlen=MINUTES)
        self.outcomes: Counter[str] = Counter()  # of executions
        self.ends: Counter[str] = Counter()  # of sessions, by why
        self.made: Counter[str] = Counter()  # sandboxes, by "RUNTIME LEVEL"
        self.failures = 0
        self.sessions = 0
        self.failed = 0  # starts of sandboxes
        self.restarts = 0  # of interpreters
        self.bytes_in = self.bytes_out = 0
        self.allocation = Histogram()  # from the call that wants a session until that is there
        self.first_call = Histogram()  # from a new session's first call to its result
        self.queued = Histogram()  # behind other executions of the session
        self.execution = Histogram()  # the code's own time
        self.start = Histogram()  # of a sandbox

    def begun(self) -> None:
        """A session."""
        self.sessions += 1
        self._now().sessions += 1

    def executed(self, record: Record) -> None:
        """An execution is over. A look at variables is none."""
        if record.spec.is_fleeting:
            return
        minute = self._now()
        minute.executions += 1
        self.outcomes[record.outcome or LOST] += 1
        if record.status is Status.FAILED:
            self.failures += 1
            minute.failures += 1
        self.bytes_out += record.size
        if record.outcome in (None, Outcome.CANCELED):
            return  # whose times say nothing of the server, nor of the code
        for histogram in (self.execution, minute.execution):
            histogram.add(record.wall_ms)
        self.queued.add(record.queued_ms)
        if record.first_call_ms is not None:
            for histogram in (self.first_call, minute.first_call):
                histogram.add(record.first_call_ms)

    def report(self) -> Report:
        totals = Totals(self.outcomes.total(), self.failures, self.sessions, self.bytes_in, self.bytes_out)
        return Report(totals, tuple(self._shown()))

    def _shown(self) -> list[Minute]:
        """Each minute from the first that is kept to this one, those in which nothing happened too."""
        this = self._follow(_minute_of(self._clock()))
        first = max(_minute_of(self._began_at), this - (MINUTES - 1) * _MINUTE_S)
        counted = {each.at: each for each in self._minutes}
        return [counted.get(at, _Counting(at)).shown() for at in range(first, this + 1, _MINUTE_S)]

    def _now(self) -> _Counting:
        at = self._follow(_minute_of(self._clock()))
        if not self._minutes or self._minutes[-1].at < at:
            self._minutes.append(_Counting(at))
        return self._minutes[-1]

    def _follow(self, at: int) -> int:
        """The minute that it is. A clock that was set back a little counts into the newest there is; minutes of one that was far ahead
        would hide those that come, until it is as late again."""
        while self._minutes and self._minutes[-1].at > at + _MINUTE_S:
            self._minutes.pop()
        self._began_at = min(self._began_at, at)
        return max(at, self._minutes[-1].at) if self._minutes else at


class _Counting:
    """A minute that is not over yet, perhaps."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.executions = self.failures = self.sessions = 0
        self.first_call, self.execution = Histogram(), Histogram()

    def shown(self) -> Minute:
        counts = (self.executions, self.failures, self.sessions)
        return Minute(self.at, *counts, self.first_call.quantiles(), self.execution.quantiles())


def _minute_of(at: float) -> int:
    return int(at // _MINUTE_S) * _MINUTE_S
