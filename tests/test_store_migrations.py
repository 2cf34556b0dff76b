"""The schema: a database of every version there was comes up to this one's with its rows, or stays what it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from carrel.store import Store, StoreError, schema, tables
from test_store import LATER_RECORDS, RECORDS

KEY = b"bm90IGEgc2VjcmV0LCBvbmx5IGEgdGVzdCdzIGtleSE="
FOLDER = Path(__file__).parent / "store"
VERSIONS = sorted({file.name[:4] for file in FOLDER.glob("*.sql")})

NEXT = """
import sqlalchemy as sql
from alembic import op

revision, down_revision = "0003", "0002"

def upgrade():
    op.add_column("pools", sql.Column("note", sql.Text, nullable=False, server_default="new"))
    op.create_table("more", sql.Column("a", sql.Integer))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def frozen(kind: str, version: str, request: pytest.FixtureRequest) -> str:
    """The address of a database as the Carrel of that version left it."""
    text = (FOLDER / f"{version}.{kind}.sql").read_text()
    if kind == "postgresql":
        address = str(request.getfixturevalue("postgresql").schema())
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(text.encode())
        return address
    file = request.getfixturevalue("tmp_path") / "carrel.db"
    made = sqlite3.connect(file)
    made.executescript(text)
    made.close()
    return f"sqlite:///{file}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_an_earlier_version_comes_up_with_its_rows(
    kind: str, version: str, request: pytest.FixtureRequest
) -> None:
    address = frozen(kind, version, request)
    for _ in range(2):
        store = Store.open(address, [KEY])
        with store.transaction() as transaction:
            later = set().union(*(names for first, names in LATER_RECORDS.items() if first > version))
            for name, record in RECORDS.items():
                assert getattr(transaction, name).list() == ([] if name in later else [record])
            assert _version(transaction.connection) == schema.HEAD
            assert _differences(transaction.connection) == []
        store.close()


def test_the_tables_that_the_code_uses_are_those_that_the_migrations_make(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = f"sqlite:///{tmp_path}/new.db"
    if kind == "postgresql":
        address = request.getfixturevalue("postgresql").schema()
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        assert _differences(transaction.connection) == []
    store.close()


def test_a_later_schema_is_one_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = frozen(kind, schema.HEAD, request)
    _with_a_next(tmp_path, monkeypatch, NEXT)
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        assert _version(transaction.connection) == "0003"
        assert transaction.connection.exec_driver_sql("SELECT note FROM pools").scalar() == "new"
        assert transaction.pools.list() == [RECORDS["pools"]]
    store.close()
    monkeypatch.undo()

    with pytest.raises(StoreError, match="newer Carrel"):
        Store.open(address, [KEY])


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = frozen(kind, schema.HEAD, request)
    _with_a_next(tmp_path, monkeypatch, NEXT + "    op.drop_table('nowhere')\n")
    with pytest.raises(StoreError, match="nowhere"):
        Store.open(address, [KEY])
    monkeypatch.undo()
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        assert _version(transaction.connection) == schema.HEAD
        assert "more" not in sql.inspect(transaction.connection).get_table_names()
        assert _differences(transaction.connection) == []
    store.close()


def _with_a_next(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """This version's migrations and one more."""
    copy = folder / "migrations"
    (copy / "versions").mkdir(parents=True)
    for file in [Path("env.py"), *(Path("versions", each.name) for each in schema.MIGRATIONS.glob("versions/0*.py"))]:
        (copy / file).write_text((schema.MIGRATIONS / file).read_text())
    (copy / "versions/0003_next.py").write_text(text)
    monkeypatch.setattr(schema, "MIGRATIONS", copy)
    monkeypatch.setattr(schema, "HEAD", "0003")


def _version(connection: sql.Connection) -> object:
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _differences(connection: sql.Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, tables.metadata))
