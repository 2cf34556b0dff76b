"""All of a store as lines of JSON, and back, into either kind of database: what backups are made of.

A line is a row as it is in its table: secrets stay encrypted. Lines belong to a schema, so they are put back into that one, which is then
migrated like any other database. All of it is one transaction: a load that fails changes nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from carrel import store_address
from carrel.store import schema, sqlite, tables
from carrel.store.database import Store, connect
from carrel.store.troubles import StoreError, reason
from carrel.store.vault import Vault

_BATCH = 500
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'carrel' AND datname = current_database() AND pid <> pg_backend_pid()
"""


def dump(url: str) -> tuple[str, Iterator[str]]:
    """The schema's version, and the lines of one moment; servers may go on writing. Raises StoreError, also while lines are read."""
    name = store_address.shown(url)
    file = store_address.sqlite_file(url)
    if file and not Path(file).exists():
        raise StoreError(f"there is no store at {file}: name the folder with --state, or the database with --store")
    engine = connect(url)
    try:
        with engine.begin() as connection:
            version = schema.version(connection, name)
            if version is None:
                raise StoreError(f"{name} is empty: there is nothing to back up")
            lines = [
                _line(table.name, row)
                for table in _reflected(connection).sorted_tables
                for row in _rows(connection, table)
            ]
    except sql.exc.SQLAlchemyError as error:
        raise StoreError(f"{name} cannot be read: {reason(error)}") from error
    finally:
        engine.dispose()
    return version, iter(lines)


def load(url: str, keys: Sequence[bytes], version: str, lines: Iterable[str], *, may_replace: bool) -> None:
    """Make the store hold what `lines` say. Raises StoreError; where there is something already, unless it may be replaced."""
    name = store_address.shown(url)
    if version > schema.HEAD:
        raise StoreError(f"the backup is of a newer Carrel (schema {version}, this one knows {schema.HEAD})")
    engine = connect(url)
    try:
        with schema.locked(engine) as connection:
            generation = _clear(connection, name, may_replace=may_replace)
            schema.migrate(connection, version)
            _insert(connection, lines)
            schema.migrate(connection, "head")
            if connection.dialect.name == "sqlite":
                sqlite.claim(connection)
            _outgrow(connection, generation)
            schema.check_key(connection, Vault(keys))
    except (sql.exc.SQLAlchemyError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the backup cannot be put into {name}: {reason(error)}") from error
    finally:
        engine.dispose()


def check(url: str, keys: Sequence[bytes]) -> dict[str, int]:
    """Read every record, secrets too; how many there are of each kind. Raises StoreError."""
    store = Store.open(url, keys)
    try:
        with store.transaction() as transaction:
            return {name: len(repository.list()) for name, repository in transaction.repositories().items()}
    finally:
        store.close()


def _reflected(connection: sql.Connection) -> sql.MetaData:
    """Our tables as they are, of whatever version."""
    found = sql.MetaData()
    found.reflect(connection, only=lambda name, _: name in tables.NAMES)
    return found


def _rows(connection: sql.Connection, table: sql.Table) -> Iterator[dict[str, Any]]:
    for row in connection.execute(sql.select(table)).mappings():
        yield dict(row)


def _line(table: str, row: dict[str, Any]) -> str:
    return json.dumps({"table": table, "row": row}) + "\n"


def _clear(connection: sql.Connection, name: str, *, may_replace: bool) -> int:
    """Take out what is there; its generation, 0 where there was nothing."""
    if schema.version(connection, name) is None:
        return 0
    if not may_replace:
        raise StoreError(f"{name} is in use already: --force replaces what it holds")
    if connection.dialect.name == "postgresql" and (others := connection.exec_driver_sql(_OTHERS).scalar()):
        raise StoreError(f"{name} is in use by {others} connections of Carrel: stop its servers first")
    value = sql.select(tables.meta.c.value).where(tables.meta.c.name == "generation")
    generation = int(connection.execute(value).scalar_one())
    _reflected(connection).drop_all(connection)
    connection.exec_driver_sql("DROP TABLE alembic_version")
    return generation


def _insert(connection: sql.Connection, lines: Iterable[str]) -> None:
    by_name = _reflected(connection).tables
    for name, group in itertools.groupby(map(json.loads, lines), lambda line: line["table"]):
        rows = (line["row"] for line in group)
        while batch := list(itertools.islice(rows, _BATCH)):
            connection.execute(sql.insert(by_name[name]), batch)


def _outgrow(connection: sql.Connection, generation: int) -> None:
    """Whoever keeps a copy of what was there before must see that it is another store now."""
    meta = tables.meta
    restored = int(connection.execute(sql.select(meta.c.value).where(meta.c.name == "generation")).scalar_one())
    each = meta.c.name.startswith("generation")  # those of single tables too
    connection.execute(sql.update(meta).where(each).values(value=str(max(restored, generation) + 1)))
