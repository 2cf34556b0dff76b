"""What is PostgreSQL's own about the store: it may be away, come back, and be written to by several at once."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from subprocess import PIPE
from urllib.parse import quote

import psycopg
import pytest
from cryptography.fernet import Fernet

from carrel.errors import StoreUnavailable
from carrel.store import SeedRecord, Store, StoreError, Transaction
from postgresql import PostgreSQL, running

pytestmark = pytest.mark.anyio

KEY = Fernet.generate_key()


@pytest.fixture
def address(postgresql: PostgreSQL) -> str:
    return postgresql.schema()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address, [KEY])
    yield opened
    opened.close()


def put(name: str) -> Callable[[Transaction], None]:
    return lambda transaction: transaction.seeds.put(SeedRecord(name, "x"))


def names(transaction: Transaction) -> list[str]:
    return [each.name for each in transaction.seeds.list()]


def test_one_that_is_not_there_or_refuses_us_is_named_without_its_password(postgresql: PostgreSQL) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"postgresql://carrel:geheim@127.0.0.1:{taken.getsockname()[1]}/carrel"
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            Store.open(nobody, [KEY])
    assert "127.0.0.1" in str(caught.value)
    assert "geheim" not in str(caught.value)

    wrong = postgresql.url.replace(quote(postgresql.password, safe=""), "geheim")
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        Store.open(wrong, [KEY])
    assert "geheim" not in str(caught.value)


def test_a_newer_one_and_another_programs_are_refused_and_not_touched(postgresql: PostgreSQL) -> None:
    spoiled = {
        "newer Carrel": "CREATE TABLE alembic_version (version_num text); CREATE TABLE meta (name text); "
        "INSERT INTO alembic_version VALUES ('9999')",
        "another program's": "CREATE TABLE pools (a int)",
    }
    for words, statements in spoiled.items():
        address = postgresql.schema()
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statements.encode())
            query = b"SELECT relname, relfilenode FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            before = connection.execute(query).fetchall()

            with pytest.raises(StoreError, match=words):
                Store.open(address, [KEY])

            assert connection.execute(query).fetchall() == before


STARTER = """
import sys
from carrel.store import Store
print("here", flush=True)
sys.stdin.readline()
Store.open(sys.argv[1], [sys.argv[2].encode()]).close()
"""


@pytest.mark.thorough
def test_two_that_start_at_once_make_one_schema(address: str) -> None:
    command = [sys.executable, "-c", STARTER, address, KEY.decode()]
    starters = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(2)]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "here\n"
    for starter in starters:  # both are ready: now they race
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    for starter in starters:
        starter.communicate(timeout=60)

    assert [starter.returncode for starter in starters] == [0, 0]
    with Store.open(address, [KEY]).transaction() as transaction:
        assert transaction.generation() == 1


async def test_a_conflict_with_another_program_is_tried_again(store: Store, address: str) -> None:
    """Somebody else (not Carrel, which stands in line) changes the same row: our transaction sees it, and wins afterwards."""
    await store.run(put("a"))
    seen: list[str] = []
    with psycopg.connect(address) as other:
        other.execute("UPDATE seeds SET digest = 'theirs'")
        commit = threading.Timer(0.3, other.commit)

        def work(transaction: Transaction) -> None:
            record = transaction.seeds.get("a")
            assert record
            seen.append(record.digest)
            if len(seen) == 1:
                commit.start()
            transaction.seeds.put(SeedRecord("a", f"{record.digest} and ours"))

        await store.run(work)
        commit.join()

    assert seen == ["x", "theirs"]
    assert await store.run(lambda transaction: transaction.seeds.list()) == [SeedRecord("a", "theirs and ours")]


async def test_a_server_that_stops_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """While it is away callers get a 503, at once and said to the log once; nothing that was acknowledged is lost, also by its crash."""
    caplog.set_level(logging.WARNING)
    with running() as server:
        store = Store.open(server.url, [KEY])
        await store.run(put("before"))
        server.stop()
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as caught:
                await store.run(put("away"))
            assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        server.start()
        await store.run(put("back"))
        server.stop(signal.SIGQUIT)
        server.start()
        await store.run(put("after the crash"))

        assert await store.run(names) == ["after the crash", "back", "before"]
        store.close()
    told = [record.message for record in caplog.records if record.name == "carrel.store.troubles"]
    assert told == ["the store does not answer", "the store answers again"]
    assert server.password not in caplog.text


def test_a_gateway_that_stopped_with_the_lock_does_not_keep_it(store: Store, address: str) -> None:
    """PostgreSQL ends a transaction that does nothing; Carrel asks for that when it connects."""
    with store.transaction() as transaction:
        found = transaction.connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()

    assert found == "30s"
