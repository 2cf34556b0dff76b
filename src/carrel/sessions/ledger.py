"""What sessions use, added up as it happens and written into the journal before the caller is answered.

Sums are kept for each pool, principal and day, and are what has not been written yet: a write that fails (a full disk) loses nothing as
long as the host lives, since the next one has its sums too. How long sessions live, and what they compute between calls, is added every few
seconds and at their end, so a host that is killed forgets no more than that.

Time and processors are the principal's whose call began the session; an execution and its bytes are the one's who asked for it, and so
are the bytes of a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable

from carrel.accounts import DAY_S, EVERYBODY, Logged, Sums
from carrel.backends.base import Meter
from carrel.models import LogRecords, PoolSpec, Status
from carrel.sessions.executions import Order, Record
from carrel.sessions.journal import Journal
from carrel.wire import journal as wire

BEAT_S = 2.0
CODE_BYTES = 64 * 1024  # of a program in a session log
OUTPUT_BYTES = 16 * 1024  # of each of its outputs
_PRINCIPAL = 128  # characters of an id

log = logging.getLogger(__name__)

_Key = tuple[str, str, int]  # pool, principal, day


class Ledger:
    """Of one host. Without a journal it only adds up."""

    def __init__(
        self,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock, self._stopwatch = clock, stopwatch
        self._unwritten: dict[_Key, Sums] = {}
        self._accounts: set[Account] = set()
        self._live: Counter[tuple[str, str]] = Counter()  # by pool and principal
        self._logs: list[bytes] = []
        self._is_failing = False
        self.lost_logs = 0

    def open(self, pool: str, principal: str, meter: Meter) -> Account:
        """A session begins. `close` the account at its end."""
        principal = principal[:_PRINCIPAL]
        for each in (principal, EVERYBODY):
            self._live[pool, each] += 1
        account = Account(self, pool, principal, meter, self._stopwatch())
        self._accounts.add(account)
        self.sums(pool, principal).sessions += 1
        self._note_peaks({(pool, principal), (pool, EVERYBODY)})
        return account

    def sums(self, pool: str, principal: str) -> Sums:
        """Those of today that are not written yet, to be added to; `settle` writes them."""
        key = pool, principal[:_PRINCIPAL], int(self._clock() // DAY_S)
        found = self._unwritten.get(key)
        if found is None:
            found = self._unwritten[key] = Sums()
        return found

    def add_time(self, pool: str, principal: str, seconds: float) -> None:
        """What a session lived until now, on the day on which it did."""
        today_s = min(seconds, self._clock() % DAY_S)
        day = int(self._clock() // DAY_S)
        for day, part in ((day, today_s), (day - 1, seconds - today_s)):
            if part > 0:
                sums = self._unwritten.setdefault((pool, principal, day), Sums())
                sums.session_us += round(part * 1e6)

    def keep(self, entry: Logged) -> None:
        """A record for a session log. Where the journal is short of room it is left out: sums go first."""
        if self._journal is not None and not self._journal.is_half_full:
            self._logs.append(wire.encode_logged(entry))
        else:
            self.lost_logs += 1

    def settle(self) -> None:
        """Write what has not been written."""
        if self._journal is None or not (self._unwritten or self._logs):
            return
        lines = [wire.encode_spent(*key, sums) for key, sums in self._unwritten.items()]
        try:
            self._journal.append(b"".join([*lines, *self._logs]))
        except OSError as error:
            self.lost_logs += len(self._logs)
            self._logs.clear()
            if not self._is_failing:
                log.error("usage cannot be written down; it is kept in memory", extra={"why": str(error)})  # noqa: TRY400
            self._is_failing = True
            return
        if self._is_failing:
            log.info("usage is written down again", extra={"lost_logs": self.lost_logs})
            self._is_failing, self.lost_logs = False, 0
        self._unwritten.clear()
        self._logs.clear()

    async def beat(self) -> None:
        """Until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                self.tick()
        finally:
            self.tick()

    def tick(self) -> None:
        for account in self._accounts:
            account.advance(self._stopwatch())
        self._note_peaks(self._live.keys())
        self.settle()

    def closed(self, account: Account) -> None:
        """For the account, once."""
        self._accounts.discard(account)
        for each in ((account.pool, account.principal), (account.pool, EVERYBODY)):
            self._live[each] -= 1
            if not self._live[each]:
                del self._live[each]

    def _note_peaks(self, keys: set[tuple[str, str]] | object) -> None: ...


class Account:
    """What one session has used that is not in the sums yet."""

    def __init__(self, ledger: Ledger, pool: str, principal: str, meter: Meter, now: float) -> None:
        self.pool, self.principal = pool, principal
        self._ledger = ledger
        self._meter = meter
        self._until = now
        self._cpu_us = meter.cpu_us()
        self._is_open = True
