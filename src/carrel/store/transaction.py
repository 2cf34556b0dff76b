"""A transaction: all the repositories over one connection, and whether anything was changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from carrel.store import repositories, tables
from carrel.store.vault import Vault

OPERATIONS_KEPT_S = 86_400.0
_GENERATION = tables.meta.c.name == "generation"


class Transaction:
    """What a piece of work gets. It must not keep it: the connection is somebody else's afterwards."""

    def __init__(self, connection: sql.Connection, vault: Vault) -> None:
        self.connection = connection
        self.vault = vault
        self.has_changes = False
        self.groups = repositories.Groups(self)
        self.pools = repositories.Pools(self)
        self.assignments = repositories.Assignments(self)
        self.principals = repositories.Principals(self)
        self.credentials = repositories.Credentials(self)
        self.grants = repositories.Grants(self)
        self.operations = repositories.Operations(self)
        self.seeds = repositories.Seeds(self)

    def repositories(self) -> dict[str, repositories.Repository[Any]]:
        """All of them, by the names that they have here."""
        return {name: each for name, each in vars(self).items() if isinstance(each, repositories.Repository)}

    def prune(self, now: float) -> int:
        """Delete grants that have expired and operations that nobody asks about any more; how many there were."""
        return self.grants.prune(now) + self.operations.prune(now - OPERATIONS_KEPT_S)

    def changed(self) -> None:
        self.has_changes = True

    def generation(self) -> int:
        return int(self.connection.execute(sql.select(tables.meta.c.value).where(_GENERATION)).scalar_one())

    def seal(self) -> None:
        """Called by the store right before it commits: whoever keeps a copy of what is here learns that it is old."""
        if self.has_changes:
            value = str(self.generation() + 1)
            self.connection.execute(sql.update(tables.meta).where(_GENERATION).values(value=value))
