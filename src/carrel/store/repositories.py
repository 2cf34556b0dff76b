"""One repository per noun: records in, records out. Each works inside a transaction, which is told of every change.

A repository is a table, the record that a row of it becomes, and the questions that somebody asks. A field of a record is the column of the
same name (a stamp three columns); what is compared or encrypted is said in `_derived` and `_restored`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import sqlalchemy as sql

from carrel.store import tables
from carrel.store.records import (
    AssignmentRecord,
    CredentialRecord,
    GrantRecord,
    GroupRecord,
    OperationRecord,
    PoolId,
    PoolRecord,
    PrincipalRecord,
    Record,
    SeedRecord,
    Stamp,
    group_id,
)
from carrel.store.troubles import StoreError
from carrel.store.vault import Vault

R = TypeVar("R", bound=Record)
Row = Mapping[Any, Any]
Where = sql.ColumnElement[bool]


class Books(Protocol):
    """What a repository needs of its transaction."""

    connection: sql.Connection
    vault: Vault

    def changed(self, table: str) -> None:
        """Called after each write that changed a row."""


class Repository(Generic[R]):
    """put (which replaces) and, in each repository by its own key, get, delete and list (in the order of the keys)."""

    table: ClassVar[sql.Table]
    record: type[R]

    def __init__(self, books: Books) -> None:
        self._books = books
        self._key: sql.Column[Any] = next(iter(self.table.primary_key))

    def put(self, record: R) -> None:
        row = {name: value for name, value in _columns(record) if name in self.table.c} | self._derived(record)
        key = row.pop(self._key.name)
        found = self._books.connection.execute(sql.update(self.table).where(self._key == key).values(row))
        if not found.rowcount:
            self._books.connection.execute(sql.insert(self.table).values({**row, self._key.name: key}))
        self._books.changed(self.table.name)

    def _derived(self, record: R) -> dict[str, Any]:
        """The columns that are no field as it is, or are not kept as it is."""
        return {}

    def _restored(self, row: Row) -> dict[str, Any]:
        """The fields that are no column as it is."""
        return {}

    def _made(self, row: Row) -> R:
        given = self._restored(row)
        names = [field.name for field in dataclasses.fields(self.record) if field.name not in given]
        return self.record(**given, **{name: _field(row, name) for name in names})

    def _get(self, key: str) -> R | None:
        with self._readable():
            row = self._books.connection.execute(sql.select(self.table).where(self._key == key)).mappings().first()
            return None if row is None else self._made(row)

    def _delete(self, where: Where) -> int:
        count = self._books.connection.execute(sql.delete(self.table).where(where)).rowcount
        if count:
            self._books.changed(self.table.name)
        return count

    def _list(self, *where: Where) -> list[R]:
        with self._readable():
            rows = self._books.connection.execute(sql.select(self.table).where(*where).order_by(self._key)).mappings()
            return [self._made(row) for row in rows]

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """What another program has written into a row is the store's fault, which is waited out, and not one of ours."""
        try:
            yield
        except (ValueError, TypeError, LookupError) as error:
            raise StoreError(
                f"a row of the table {self.table.name} cannot be read ({type(error).__name__}): another program has changed it; "
                "restore the store from a backup (carrel restore)"
            ) from error

    def list(self) -> list[R]:
        return self._list()


class ById(Repository[R]):
    """Of records whose key is their `id`, in any case."""

    def get(self, id: str) -> R | None:
        return self._get(id.lower())

    def delete(self, id: str) -> bool:
        return self._delete(self._key == id.lower()) > 0


class Groups(Repository[GroupRecord]):
    table = tables.groups
    record = GroupRecord

    def get(self, subscription: str, name: str) -> GroupRecord | None:
        return self._get(group_id(subscription, name).lower())

    def delete(self, subscription: str, name: str) -> bool:
        """Its pools and assignments are the caller's to delete."""
        return self._delete(self._key == group_id(subscription, name).lower()) > 0

    def list(self, subscription: str | None = None) -> list[GroupRecord]:
        return self._list(*([] if subscription is None else [_below(self._key, f"/subscriptions/{subscription}")]))

    def _derived(self, record: GroupRecord) -> dict[str, Any]:
        return {"key": record.id.lower()}


class Pools(Repository[PoolRecord]):
    table = tables.pools
    record = PoolRecord

    def get(self, id: PoolId) -> PoolRecord | None:
        return self._get(id.lower)

    def delete(self, id: PoolId) -> bool:
        return self._delete(self._key == id.lower) > 0

    def list(self, subscription: str | None = None, resource_group: str | None = None) -> list[PoolRecord]:
        """All, those of a subscription, or those of a group in it."""
        if subscription is None:
            return self._list()
        group = "" if resource_group is None else f"/resourceGroups/{resource_group}"
        return self._list(_below(self._key, f"/subscriptions/{subscription}{group}"))

    def _derived(self, record: PoolRecord) -> dict[str, Any]:
        seal = self._books.vault.seal
        return {
            "key": record.id.lower,
            **dict(_columns(record.id)),
            "secrets": seal(f"secrets {record.id.lower}", dict(record.secrets)) if record.secrets else "",
            "mcp_key": seal(f"mcp_key {record.id.lower}", record.mcp_key) if record.mcp_key else "",
        }

    def _restored(self, row: Row) -> dict[str, Any]:
        id = PoolId(row["subscription"], row["resource_group"], row["name"])
        reveal = self._books.vault.reveal
        return {
            "id": id,
            "secrets": reveal(f"secrets {id.lower}", row["secrets"]) if row["secrets"] else {},
            "mcp_key": reveal(f"mcp_key {id.lower}", row["mcp_key"]) if row["mcp_key"] else "",
        }


class Assignments(ById[AssignmentRecord]):
    table = tables.assignments
    record = AssignmentRecord

    def delete_below(self, scope: str) -> int:
        """Those at a scope and below it, which go with it; how many there were."""
        return self._delete(_below(self.table.c.scope_key, scope))

    def list(self, scope: str | None = None, principal_id: str | None = None) -> list[AssignmentRecord]:
        """All; or those at exactly `scope`, those of a principal."""
        columns = self.table.c
        at = [] if scope is None else [columns.scope_key == _scope(scope)]
        of = [] if principal_id is None else [columns.principal_key == principal_id.lower()]
        return self._list(*at, *of)

    def _derived(self, record: AssignmentRecord) -> dict[str, Any]:
        principal = record.principal_id.lower()
        return {"key": record.id.lower(), "scope_key": _scope(record.scope), "principal_key": principal}


class Principals(ById[PrincipalRecord]):
    """Deleting one deletes its credentials; its assignments and grants are the caller's to delete."""

    table = tables.principals
    record = PrincipalRecord

    def list(self, *, app_id: str | None = None, user_name: str | None = None) -> list[PrincipalRecord]:
        """All; or those with this client id, those with this user name (both in any case)."""
        columns = self.table.c
        by_app = [] if app_id is None else [columns.app_key == app_id.lower()]
        by_user = [] if user_name is None else [columns.user_key == user_name.lower()]
        return self._list(*by_app, *by_user)

    def _derived(self, record: PrincipalRecord) -> dict[str, Any]:
        keys = {"key": record.id.lower(), "app_key": record.app_id.lower(), "user_key": record.user_name.lower()}
        return {**keys, "groups": list(record.groups)}

    def _restored(self, row: Row) -> dict[str, Any]:
        return {"groups": tuple(row["groups"])}


class Credentials(ById[CredentialRecord]):
    table = tables.credentials
    record = CredentialRecord

    def list(self, principal_id: str | None = None) -> list[CredentialRecord]:
        columns = self.table.c
        return self._list(*([] if principal_id is None else [columns.principal_key == principal_id.lower()]))

    def _derived(self, record: CredentialRecord) -> dict[str, Any]:
        return {"key": record.id.lower(), "principal_key": record.principal_id.lower()}


class Grants(Repository[GrantRecord]):
    table = tables.grants
    record = GrantRecord

    def get(self, digest: str) -> GrantRecord | None:
        return self._get(digest)

    def delete(self, digest: str) -> bool:
        return self._delete(self._key == digest) > 0

    def delete_of(self, principal_id: str) -> int:
        """Every grant of a principal; how many there were."""
        return self._delete(self.table.c.principal_key == principal_id.lower())

    def list(self) -> list[GrantRecord]:
        return self._list()

    def prune(self, now: float) -> int:
        """Delete those that have expired."""
        return self._delete(self.table.c.expires_at <= now)

    def _derived(self, record: GrantRecord) -> dict[str, Any]:
        return {"principal_key": record.principal_id.lower()}


class Operations(ById[OperationRecord]):
    table = tables.operations
    record = OperationRecord

    def list(self) -> list[OperationRecord]:
        return self._list()

    def prune(self, before: float) -> int:
        """Delete those that ended before then, and those that began before then and never will."""
        columns = self.table.c
        return self._delete(sql.func.coalesce(columns.ended_at, columns.started_at) < before)

    def _derived(self, record: OperationRecord) -> dict[str, Any]:
        pool = record.pool
        return {"key": record.id.lower(), "pool": pool and pool.resource_id, "pool_key": pool and pool.lower}

    def _restored(self, row: Row) -> dict[str, Any]:
        return {"pool": PoolId.of(row["pool"]) if row["pool"] else None}


class Seeds(Repository[SeedRecord]):
    table = tables.seeds
    record = SeedRecord

    def get(self, name: str) -> SeedRecord | None:
        return self._get(name)

    def delete(self, name: str) -> bool:
        return self._delete(self._key == name) > 0


def _columns(record: Record) -> list[tuple[str, Any]]:
    """The fields of a record as columns: a stamp becomes three, a mapping of any kind a dict."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Stamp):
            found += [(f"{field.name}_{part}", each) for part, each in _columns(value)]
        else:
            found.append((field.name, dict(value) if isinstance(value, Mapping) else value))
    return found


def _field(row: Row, name: str) -> Any:
    if name in row:
        return row[name]
    return Stamp(*(row[f"{name}_{part.name}"] for part in dataclasses.fields(Stamp)))


def _scope(path: str) -> str:
    return path.rstrip("/").lower()


def _below(column: sql.ColumnElement[str], path: str) -> Where:
    """At a path, or below it."""
    scope = _scope(path)
    return sql.or_(column == scope, column.startswith(f"{scope}/", autoescape=True))
