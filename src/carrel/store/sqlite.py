"""SQLite: one connection, opened once and used once, so that everything it ever opens is open before the gateway gives up its rights.

The file, its write-ahead log and the log's index are what SQLite opens; temporary tables and statement journals stay in memory, and with
one file there is no super-journal. A database is looked at read-only first: one that is damaged or somebody else's stays byte for byte.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.pool import StaticPool

from carrel.store.troubles import StoreError

APPLICATION_ID = 0x4352524C  # "CRRL": what file(1) and we know a store by
_BUSY_S = 10.0
_LOG_BYTES = 8 * 1024 * 1024  # what the write-ahead log is cut back to after a large transaction

_SETTINGS = (
    "PRAGMA synchronous = FULL",  # a commit is on the disk when it returns
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
    f"PRAGMA journal_size_limit = {_LOG_BYTES}",
)


def engine(file: Path) -> sql.Engine:
    """An engine with its one connection; makes the file where there is none. Raises StoreError where it is not ours to use."""
    try:
        _prepare(file)
        connection = _connect(file, "rw")
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{file} cannot be used: {_why(error)}") from error
    try:
        if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            connection.close()
            raise StoreError(f"{file} cannot have a write-ahead log, only {mode}: put it onto another file system")
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{file} cannot be used: {_why(error)}") from error
    made = sql.create_engine(
        "sqlite://",
        creator=lambda: connection,
        poolclass=StaticPool,
        hide_parameters=True,  # of errors, which are logged
        json_serializer=functools.partial(json.dumps, allow_nan=False),
    )
    # The driver would begin a transaction when it thinks fit; with isolation_level None it leaves that to us. IMMEDIATE: a reader that
    # becomes a writer could only fail, and there is one writer at a time anyway.
    sql.event.listen(made, "begin", lambda each: each.exec_driver_sql("BEGIN IMMEDIATE"))
    return made


def claim(connection: sql.Connection) -> None:
    """Part of the transaction that makes the first tables."""
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _prepare(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise StoreError(f"{file} cannot be used: it is no file; move it away")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        _create(file)
    _examine(file)


def _create(file: Path) -> None:
    """Put an empty database there unless another process was first.

    It has its write-ahead log from the beginning: on the way there SQLite keeps another journal, and one that a killed process left behind
    can neither be read past nor told from damage.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 0600
    os.close(descriptor)
    try:
        connection = _connect(Path(name), "rw")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.close()  # and the log is gone
        if mode != "wal":  # another journal is opened for each transaction, which the gateway cannot
            raise StoreError(f"{file} cannot have a write-ahead log, only {mode}: put it onto another file system")
        with contextlib.suppress(FileExistsError):
            os.link(name, file)  # the other one's is as good
        _sync(file.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(name + suffix).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """The name too is to be on the disk: SQLite sees to that for files that it makes itself."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _examine(file: Path) -> None:
    """Raises StoreError for what is not a whole database of ours. Only reads."""
    advice = "restore it from a backup (carrel restore), or move it away to begin with an empty store"
    try:
        connection = _connect(file, "ro")
        try:
            problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            mark = connection.execute("PRAGMA application_id").fetchone()[0]
            is_empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:  # locked, unreadable: nothing is said about what is in it
        raise StoreError(f"{file} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{file} is damaged ({error}): {advice}") from error
    if problems != ["ok"]:
        raise StoreError(f"{file} is damaged ({'; '.join(problems)}): {advice}")
    if mark != APPLICATION_ID and not (is_empty and mark == 0):
        raise StoreError(f"{file} is another program's database: move it away, or choose another folder with --state")


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(file))}?mode={mode}"
    return sqlite3.connect(address, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True)


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
