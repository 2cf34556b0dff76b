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
import os
import time
from collections import Counter
from collections.abc import Callable

from carrel.accounts import DAY_S, EVERYBODY, Logged, Sums
from carrel.backends.base import Meter
from carrel.models import LogRecords, PoolSpec, Status
from carrel.sessions.executions import Record
from carrel.sessions.journal import Journal
from carrel.wire import journal as wire

BEAT_S = 2.0
CODE_BYTES = 64 * 1024  # of a program in a session log
OUTPUT_BYTES = 16 * 1024  # of each of its outputs
_PRINCIPAL = 128  # characters of an id
_PROCESSORS = os.cpu_count() or 1
_PEAKS = 10_000  # that are remembered

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
        self._peaks: dict[_Key, int] = {}  # as far as they are in the sums
        self._logs: list[bytes] = []
        self._is_failing = False
        self.lost_logs = 0

    def open(self, pool: str, principal: str, meter: Meter) -> Account:
        """A session begins. `close` the account at its end."""
        principal = principal[:_PRINCIPAL]
        self._live.update(((pool, principal), (pool, EVERYBODY)))
        account = Account(self, pool, principal, meter, self._stopwatch())
        self._accounts.add(account)
        self.sums(pool, principal).sessions += 1
        self._note_peak(pool, principal)
        self._note_peak(pool, EVERYBODY)
        self.settle()
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
        today, since_midnight = divmod(self._clock(), DAY_S)
        today_s = min(seconds, since_midnight)
        for day, part_s in ((today, today_s), (today - 1, seconds - today_s)):
            if part_s > 0:
                sums = self._unwritten.setdefault((pool, principal, int(day)), Sums())
                sums.session_us += round(part_s * 1e6)

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
                log.error("usage cannot be written down; it is kept in memory", extra={"why": str(error)})
            self._is_failing = True
            return
        if self._is_failing:
            log.info("usage is written down again", extra={"lost_logs": self.lost_logs})
            self._is_failing, self.lost_logs = False, 0
        self._unwritten.clear()
        self._logs.clear()

    @property
    def end(self) -> int:
        """The place after all that is written."""
        return 0 if self._journal is None else self._journal.end

    def read(self, identity: str, place: int) -> tuple[str, int, bytes]:
        """As `HostLink.journal`: which journal there is, the place after the lines, and the lines. Without a journal there are none."""
        journal = self._journal
        if journal is None or identity != journal.identity:
            return ("" if journal is None else journal.identity), 0, b""
        journal.release(place)
        lines, after = journal.read(place)
        return identity, after, lines

    async def beat(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            self.tick()

    def tick(self) -> None:
        """What goes on without anybody's call: time passes."""
        now = self._stopwatch()
        for account in self._accounts:
            account.advance(now)
        for pool, principal in self._live:
            self._note_peak(pool, principal)
        self.settle()

    def closed(self, account: Account) -> None:
        """By the account, once."""
        self._accounts.discard(account)
        self._live.subtract(((account.pool, account.principal), (account.pool, EVERYBODY)))
        self._live = +self._live

    def _note_peak(self, pool: str, principal: str) -> None:
        """That of a day holds on it alone: those who live at midnight are the first of the next."""
        count, day = self._live[pool, principal], int(self._clock() // DAY_S)
        key = pool, principal, day
        if count > self._peaks.get(key, 0):
            sums = self._unwritten.setdefault(key, Sums())
            sums.peak = max(sums.peak, count)
            if len(self._peaks) > _PEAKS:
                self._peaks = {each: peak for each, peak in self._peaks.items() if each[2] == day}
            self._peaks[key] = count


class Account:
    """What one session has used that is not in the sums yet. Made by the ledger."""

    def __init__(self, ledger: Ledger, pool: str, principal: str, meter: Meter, now: float) -> None:
        self.pool, self.principal = pool, principal
        self._ledger = ledger
        self._meter = meter
        self._until = now
        self._cpu_us = meter.cpu_us()  # what was used before is not the session's
        self._is_open = True

    def advance(self, now: float) -> None:
        """Until now it has lived."""
        self._ledger.add_time(self.pool, self.principal, now - self._until)
        self._until = now
        self._compute()

    def executed(self, record: Record, spec: PoolSpec, identifier: str, guid: str) -> None:
        """An execution is over, its caller not answered yet. `spec` is the pool as it is now, `guid` the session's."""
        who = record.principal or self.principal
        sums = self._ledger.sums(self.pool, who)
        sums.bytes_in += record.program_bytes
        sums.bytes_out += record.output_bytes
        if not record.spec.is_fleeting and record.has_begun:
            sums.executions += 1
            sums.failed += record.status is Status.FAILED
            if spec.logs is not LogRecords.OFF:
                self._ledger.keep(_logged(record, spec, self.pool, who, identifier, guid))
        record.program = None  # it may be long, and records are kept by the hundred
        self._compute(record)
        self._ledger.settle()

    def received(self, count: int, principal: str) -> None:
        """Bytes of a file, of which `settle` is called before its caller is answered."""
        self._ledger.sums(self.pool, principal or self.principal).bytes_in += count

    def sent(self, count: int, principal: str) -> None:
        self._ledger.sums(self.pool, principal or self.principal).bytes_out += count

    def settle(self) -> None:
        self._ledger.settle()

    def close(self, now: float) -> None:
        """The session ends. Safe to call again."""
        if self._is_open:
            self._is_open = False
            self.advance(now)
            self._ledger.closed(self)
            self._ledger.settle()

    def _compute(self, record: Record | None = None) -> None:
        """What its processes have computed, those included that go on between calls; where nobody counts that, what `record` says."""
        cpu_us = self._meter.cpu_us()
        if cpu_us is not None and self._cpu_us is not None:
            used = max(0, cpu_us - self._cpu_us)
            self._cpu_us = cpu_us
        elif self._cpu_us is None and record is not None and record.usage is not None:
            # The sandbox's own word: no more than all processors can have computed meanwhile.
            used = min(round(1000 * (record.usage.cpu_ms or 0)), round(1000 * record.wall_ms) * _PROCESSORS)
        else:  # its control group is gone
            used = 0
        if used:
            self._ledger.sums(self.pool, self.principal).cpu_us += used


def _logged(record: Record, spec: PoolSpec, pool: str, principal: str, identifier: str, session: str) -> Logged:
    """As much as the pool's definition asks for."""
    usage, program = record.usage, record.program
    fields: dict[str, object] = {
        "id": record.id,
        "session": session,
        "trace": record.call.trace if record.call is not None else None,
        "kind": "code" if record.spec.shell is None else "shell",
        "isAsynchronous": record.spec.is_asynchronous,
        "outcome": record.outcome or "lost",
        "exitCode": record.exit_code,
        "queuedMs": record.queued_ms,
        "wallMs": record.wall_ms,
        "cpuMs": None if usage is None else usage.cpu_ms,
        "bytesIn": record.program_bytes,
        "bytesOut": record.output_bytes,
        "codeSha256": hashlib.sha256(program).hexdigest() if program is not None else None,
    }
    texts = {"code": (program or b"", CODE_BYTES)} if spec.logs is not LogRecords.METADATA else {}
    if spec.logs is LogRecords.FULL:
        outputs = {"stdout": record.stdout, "stderr": record.stderr, "result": record.value}
        texts |= {name: (text, OUTPUT_BYTES) for name, text in outputs.items()}
    fields |= {name: text[:most].decode("utf-8", "replace") for name, (text, most) in texts.items()}
    if cut := [name for name, (text, most) in texts.items() if len(text) > most]:
        fields["cut"] = cut
    at = round(time.time(), 6)  # what is shown of it is then all of it, and a moment later is later
    return Logged(pool, at, spec.log_retention, identifier, principal, record.status, fields)
