"""What grows with use: sums for each pool, principal and day, session logs, and places in hosts' journals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from carrel.accounts import Sums
from carrel.store import tables
from carrel.store.records import JournalRecord, LogRecord, PoolId, UsageRecord
from carrel.store.repositories import Repository, Row


class Usages(Repository[UsageRecord]):
    """Kept for good, also when the pool is gone."""

    table = tables.usage
    record = UsageRecord

    def get(self, pool: PoolId, principal: str, day: str) -> UsageRecord | None:
        return self._get(_key(pool, principal, day))

    def delete(self, pool: PoolId, principal: str, day: str) -> bool:
        return self._delete(self._key == _key(pool, principal, day)) > 0

    def add(self, record: UsageRecord) -> None:
        """To what there is."""
        found = self.get(record.pool, record.principal, record.day)
        if found is not None:
            sums = dataclasses.replace(found.sums)
            sums.add(record.sums)
            record = dataclasses.replace(found, sums=sums)
        self.put(record)

    def between(self, first: str, last: str) -> list[UsageRecord]:
        """Those of days (YYYY-MM-DD), both included."""
        day = self.table.c.day
        return self._list(day >= first, day <= last)

    def _derived(self, record: UsageRecord) -> dict[str, Any]:
        pool = record.pool
        names = {"key": _key(pool, record.principal, record.day), "pool": pool.resource_id, "pool_key": pool.lower}
        return {**names, **dataclasses.asdict(record.sums)}

    def _restored(self, row: Row) -> dict[str, Any]:
        sums = Sums(**{field.name: row[field.name] for field in dataclasses.fields(Sums)})
        return {"pool": PoolId.of(row["pool"]), "sums": sums}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which records of a pool's session log; times are Unix seconds, the later one is not included."""

    identifier: str | None = None
    status: str | None = None
    begin: float | None = None
    end: float | None = None


class Logs(Repository[LogRecord]):
    table = tables.session_logs
    record = LogRecord

    def get(self, id: str) -> LogRecord | None:
        return self._get(id)

    def delete(self, id: str) -> bool:
        return self._delete(self._key == id) > 0

    def delete_of(self, pool: PoolId) -> int:
        return self._delete(self.table.c.pool_key == pool.lower)

    def prune(self, now: float) -> int:
        """Delete those that were to be kept until now."""
        return self._delete(self.table.c.expires_at <= now)

    def page(self, pool: PoolId, wanted: LogFilter, skip: int, limit: int) -> list[LogRecord]:
        """Newest first."""
        columns = self.table.c
        demands = [columns.pool_key == pool.lower]
        demands += [columns.identifier == wanted.identifier] if wanted.identifier is not None else []
        demands += [columns.status == wanted.status] if wanted.status is not None else []
        demands += [columns.at >= wanted.begin] if wanted.begin is not None else []
        demands += [columns.at < wanted.end] if wanted.end is not None else []
        found = sql.select(self.table).where(*demands).order_by(columns.at.desc(), columns.key.desc())
        with self._readable():
            rows = self._books.connection.execute(found.limit(limit).offset(skip)).mappings()
            return [self._made(row) for row in rows]

    def insert(self, records: Iterable[LogRecord]) -> None:
        """New ones."""
        rows = [{**dataclasses.asdict(each), **self._derived(each)} for each in records]
        if rows:
            names = self.table.c.keys()
            rows = [{name: row[name] for name in names} for row in rows]
            self._books.connection.execute(sql.insert(self.table), rows)
            self._books.changed(self.table.name)

    def _derived(self, record: LogRecord) -> dict[str, Any]:
        pool = record.pool
        names = {"key": record.id, "pool": pool.resource_id, "pool_key": pool.lower}
        return {**names, "fields": dict(record.fields)}

    def _restored(self, row: Row) -> dict[str, Any]:
        return {"id": row["key"], "pool": PoolId.of(row["pool"])}


class Journals(Repository[JournalRecord]):
    table = tables.journals
    record = JournalRecord

    def get(self, id: str) -> JournalRecord | None:
        return self._get(id)

    def delete(self, id: str) -> bool:
        return self._delete(self._key == id) > 0


def _key(pool: PoolId, principal: str, day: str) -> str:
    return f"{pool.lower} {day} {principal.lower()}"
