"""A transaction: all the repositories over one connection, and whether anything was changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from carrel.store import repositories, tables, usage_repositories
from carrel.store.vault import Vault

OPERATIONS_KEPT_S = 86_400.0
_ALL = "generation"
_meta = tables.meta


class Transaction:
    """What a piece of work gets. It must not keep it: the connection is somebody else's afterwards."""

    def __init__(self, connection: sql.Connection, vault: Vault) -> None:
        self.connection = connection
        self.vault = vault
        self.changes: set[str] = set()  # names of tables
        self.groups = repositories.Groups(self)
        self.pools = repositories.Pools(self)
        self.assignments = repositories.Assignments(self)
        self.principals = repositories.Principals(self)
        self.credentials = repositories.Credentials(self)
        self.grants = repositories.Grants(self)
        self.operations = repositories.Operations(self)
        self.seeds = repositories.Seeds(self)
        self.usage = usage_repositories.Usages(self)
        self.logs = usage_repositories.Logs(self)
        self.journals = usage_repositories.Journals(self)

    def repositories(self) -> dict[str, repositories.Repository[Any]]:
        """All of them, by the names that they have here."""
        return {name: each for name, each in vars(self).items() if isinstance(each, repositories.Repository)}

    def prune(self, now: float) -> int:
        """Delete grants and session logs that have expired and operations that nobody asks about any more; how many there were."""
        return self.grants.prune(now) + self.operations.prune(now - OPERATIONS_KEPT_S) + self.logs.prune(now)

    def size_bytes(self) -> int:
        """Of the whole database."""
        asked = (
            "SELECT pg_database_size(current_database())"
            if self.connection.dialect.name == "postgresql"
            else "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        )
        return int(self.connection.exec_driver_sql(asked).scalar_one())

    def changed(self, table: str) -> None:
        self.changes.add(table)

    def generation(self, *tables: str) -> int:
        """Of everything, or of some tables: whoever keeps a copy of those need not read them again for what changes elsewhere."""
        names = [_name(table) for table in tables] or [_ALL]
        values = self.connection.execute(sql.select(_meta.c.value).where(_meta.c.name.in_(names)))
        return max((int(value) for value in values.scalars()), default=0)

    def seal(self) -> None:
        """Called by the store right before it commits: whoever keeps a copy of what is here learns that it is old."""
        if self.changes:
            value = str(self.generation() + 1)
            for name in [_ALL, *map(_name, sorted(self.changes))]:
                if not self.connection.execute(
                    sql.update(_meta).where(_meta.c.name == name).values(value=value)
                ).rowcount:
                    self.connection.execute(sql.insert(_meta).values(name=name, value=value))


def _name(table: str) -> str:
    """Of the row of `meta` that has the generation in which a table was changed last; none of one that never was."""
    return f"{_ALL} of {table}"
