"""Takes what the host has noted into the store: usage, and records of session logs.

Lines and the place after them are taken in one transaction, which counts only where the store is still at the place that was asked for.
So it does not matter who drains, how often, or when it is killed: each line is taken once. The host gives up what was taken when it is
asked for what comes next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from carrel.accounts import Entry, Logged, Spent, Sums
from carrel.config import Config
from carrel.errors import HostUnavailable, StoreUnavailable
from carrel.host.hostlink import Extract, HostLink
from carrel.server.pools import Pool, Pools
from carrel.store import JournalRecord, LogRecord, PoolId, Store, Transaction, UsageRecord
from carrel.wire import journal as wire

EVERY_S = 5.0  # a commit waits for the disk, and whoever reads usage drains first
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = 2_932_896  # 9999-12-31

log = logging.getLogger("carrel.server")

PoolOf = Callable[[str], PoolId]


class Drain:
    def __init__(self, config: Config, store: Store, link: HostLink, pools: Pools) -> None:
        self._config, self._store, self._link, self._pools = config, store, link, pools
        self._journal, self._place = "", 0
        self._turn = asyncio.Lock()
        self._known: dict[str, PoolId] = {}
        pools.on_changed.append(self._learn)
        pools.before_removal.append(self._before_removal)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.now()
            except (HostUnavailable, StoreUnavailable):
                pass  # the store tells the log itself, and a host that is away has nothing new
            except Exception:  # a mistake of ours: the gateway serves on
                log.exception("usage could not be taken over")

    async def now(self) -> None:
        """All that was noted before this was called is in the store when it returns. Raises HostUnavailable, StoreUnavailable."""
        async with self._turn:
            found = await self._link.journal(self._journal, self._place)
            if found.journal != self._journal:
                await self._begin(found.journal)
                found = await self._link.journal(self._journal, self._place)
            end = found.end  # a busy host has noted more by the time that this is taken: that is for the next time
            while found.lines and found.journal == self._journal:
                take = partial(_take, found=found, place=self._place, pool_of=self._pool_of)
                self._place = await self._store.run(take)
                if self._place >= end:
                    break
                found = await self._link.journal(self._journal, self._place)

    async def _begin(self, journal: str) -> None:
        """Where the store is with another one."""
        self._place = await self._store.run(partial(_place, journal=journal)) if journal else 0
        self._journal = journal

    def _learn(self, key: str, pool: Pool | None) -> None:
        if pool is not None:
            self._known[key] = pool.record.id

    async def _before_removal(self, key: str) -> None:
        """What it has used is to be counted while it is known which pool the host means."""
        await self.now()
        self._known.pop(key, None)

    def _pool_of(self, key: str) -> PoolId:
        pool = self._pools.by_key(key)
        if pool is not None:
            return pool.record.id
        return self._known.get(key) or PoolId(self._config.subscription, self._config.resource_group, key)


def _place(books: Transaction, journal: str) -> int:
    record = books.journals.get(journal)
    return 0 if record is None else record.place


def _take(books: Transaction, found: Extract, place: int, pool_of: PoolOf) -> int:
    """The place up to which everything is in the store now."""
    at = _place(books, found.journal)
    if at != place:
        return at  # another gateway was here
    spent: dict[tuple[PoolId, str, str], Sums] = {}
    logged: list[LogRecord] = []
    for number, line in enumerate(found.lines.splitlines(keepends=True)):
        entry = _decoded(line)
        if isinstance(entry, Spent):
            key = pool_of(entry.pool), _clean(entry.principal), _date(entry.day)
            spent.setdefault(key, Sums()).add(entry.sums)
        elif isinstance(entry, Logged):
            logged.append(_record(entry, f"{found.journal}-{found.place:020}-{number:06}", pool_of(entry.pool)))
    for (pool, principal, day), sums in spent.items():
        books.usage.add(UsageRecord(pool, principal, day, sums))
    there = {pool for pool in {each.pool for each in logged} if books.pools.get(pool) is not None}
    books.logs.insert(each for each in logged if each.pool in there)
    books.journals.put(JournalRecord(found.journal, found.place))
    return found.place


def _decoded(line: bytes) -> Entry | None:
    try:
        return wire.decode(line)
    except (ValueError, TypeError, LookupError):
        log.exception("a line of the host's journal cannot be read and is left out")
        return None


def _record(entry: Logged, id: str, pool: PoolId) -> LogRecord:
    expires_at = time.time() + entry.keep_s if entry.at > time.time() else entry.at + entry.keep_s
    names = (_clean(entry.identifier), _clean(entry.principal), _clean(entry.status))
    return LogRecord(id, pool, entry.at, *names, expires_at, entry.fields)


def _clean(text: str) -> str:
    """What a database takes: ids come from tokens, which other issuers have made too."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=min(max(day, 0), _LAST_DAY))).date().isoformat()
