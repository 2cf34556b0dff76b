"""What grows with use: sums for each pool, principal and day, session logs, and places in hosts' journals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql

from carrel.accounts import EVERYBODY, NAMES, Sums
from carrel.store import tables
from carrel.store.records import JournalRecord, LogRecord, PoolId, UsageRecord, UsageSum
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

    def pools(self) -> list[PoolId]:
        """All that have used anything, by names in lower case."""
        found = sql.select(self.table.c.pool_key).distinct()
        with self._readable():
            return [PoolId.of(row.pool_key) for row in self._books.connection.execute(found)]

    def days(self) -> tuple[str, str] | None:
        """The first and the last that there are."""
        ends = [sql.select(end(self.table.c.day)).scalar_subquery() for end in (sql.func.min, sql.func.max)]
        first, last = self._books.connection.execute(sql.select(*ends)).one()  # by the index, each
        return None if first is None else (first, last)

    def summed(self, wanted: UsageFilter, most: int) -> list[UsageSum]:
        """At most so many rows, in no order, added up by the database: it has more of them than memory should hold."""
        columns, by = self.table.c, [self.table.c[name] for name in wanted.by if name != "pool"]
        is_by_pool = "pool" in wanted.by
        demands = [columns.day >= wanted.first, columns.day <= wanted.last]
        demands += [columns.pool_key.in_([each.lower for each in wanted.pools])] if wanted.pools is not None else []
        demands += [columns.principal != EVERYBODY] if "principal" in wanted.by else []  # the peak of all together
        sums = [(sql.func.max if name == "peak" else sql.func.sum)(columns[name]).label(name) for name in NAMES]
        named = [*by, *([sql.func.max(columns.pool).label("pool")] if is_by_pool else [])]
        keys = [*by, *([columns.pool_key] if is_by_pool else [])]
        found = sql.select(*named, *sums).where(*demands).group_by(*keys).limit(most)
        with self._readable():
            rows = self._books.connection.execute(found).mappings()
            # The sum of nothing at all is a row of nothing.
            return [_sum(row) for row in rows if row["peak"] is not None]

    def _derived(self, record: UsageRecord) -> dict[str, Any]:
        pool = record.pool
        names = {"key": _key(pool, record.principal, record.day), "pool": pool.resource_id, "pool_key": pool.lower}
        return {**names, **dataclasses.asdict(record.sums)}

    def _restored(self, row: Row) -> dict[str, Any]:
        sums = Sums(**{field.name: row[field.name] for field in dataclasses.fields(Sums)})
        return {"pool": PoolId.of(row["pool"]), "sums": sums}


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Days (YYYY-MM-DD), both included; of which pools, None for all; `by` are some of pool, principal, day."""

    first: str
    last: str
    pools: Sequence[PoolId] | None
    by: tuple[str, ...]


def _sum(row: Row) -> UsageSum:
    pool = PoolId.of(row["pool"]) if "pool" in row else None
    # A sum of PostgreSQL's is a Decimal.
    return UsageSum(pool, row.get("principal"), row.get("day"), Sums(**{name: int(row[name]) for name in NAMES}))


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
