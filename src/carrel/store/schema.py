"""The schema's version: which one a database has, and the way to this program's.

Each migration is a file in migrations/versions, named for its revision (0001_….py); the highest is this program's. Alembic itself is only
loaded where there is something to do: it costs a tenth of a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sql

from carrel.store import sqlite, tables
from carrel.store.troubles import StoreError, reason
from carrel.store.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))

_LOCK = 0x43415252454C  # "CARREL": one Carrel at a time migrates a PostgreSQL
_KEY_CHECK = "key check"


def bring_up(engine: sql.Engine, vault: Vault, name: str) -> None:
    """Make the schema, or migrate it, in one transaction; `name` is what messages call the database.

    Raises StoreError, having changed nothing.
    """
    try:
        with locked(engine) as connection:
            if (found := version(connection, name)) != HEAD:
                migrate(connection)
                if found is None:
                    _begin(connection)
            check_key(connection, vault)
    except sql.exc.SQLAlchemyError as error:
        raise StoreError(f"{name} cannot be used: {reason(error)}") from error


@contextlib.contextmanager
def locked(engine: sql.Engine) -> Iterator[sql.Connection]:
    """A transaction that may change the schema: one at a time.

    Whoever had to wait must see what the one before made, which a serialisable transaction would not: it sees what was there when it began.
    """
    if engine.name == "postgresql":
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for wait in ("SET LOCAL lock_timeout = '60s'", "SET LOCAL statement_timeout = 0"):
                connection.exec_driver_sql(wait)  # the one before may have much to move, and so may we
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def version(connection: sql.Connection, name: str) -> str | None:
    """The database's revision; None where there is nothing yet."""
    names = set(sql.inspect(connection).get_table_names())
    if "alembic_version" not in names:
        if names & tables.NAMES:
            raise StoreError(f"{name} is another program's database: give Carrel one of its own")
        return None
    found = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())
    if "meta" not in names:
        raise StoreError(f"{name} is another program's database: give Carrel one of its own")
    if found > HEAD:
        raise StoreError(
            f"{name} was written by a newer Carrel (schema {found}, this one knows {HEAD}): start that version, "
            "or restore a backup that this one made"
        )
    return found


def migrate(connection: sql.Connection, to: str = "head") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _begin(connection: sql.Connection) -> None:
    connection.execute(sql.insert(tables.meta).values(name="generation", value="1"))
    if connection.dialect.name == "sqlite":
        sqlite.claim(connection)


def check_key(connection: sql.Connection, vault: Vault) -> None:
    """One sealed word, so that a missing key is known now and not when a secret is wanted."""
    column = tables.meta.c
    sealed = connection.execute(sql.select(column.value).where(column.name == _KEY_CHECK)).scalar()
    if sealed is None:
        value = vault.seal(_KEY_CHECK, "carrel")
        connection.execute(sql.insert(tables.meta).values(name=_KEY_CHECK, value=value))
    else:
        vault.reveal(_KEY_CHECK, sealed)
