"""What is SQLite's own about the store: its file, and a disk that is full."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from carrel.store import PoolId, PoolRecord, Stamp, Store, StoreError

KEY = Fernet.generate_key()

FULL = """
import asyncio, json, resource, signal, sys
from carrel.errors import StoreUnavailable
from carrel.store import SeedRecord, Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file at its limit is then an error, as a full disk is
store = Store.open(sys.argv[1], [sys.argv[2].encode()])

def put(name, size):
    return lambda transaction: transaction.seeds.put(SeedRecord(name, "x" * size))

async def main():
    await store.run(put("before", 10))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    outcomes = []
    for name, size in (("too big", 3_000_000), ("too big again", 3_000_000), ("small", 10)):
        try:
            await store.run(put(name, size))
            outcomes.append("stored")
        except StoreUnavailable as error:
            outcomes.append(error.status)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.run(put("big", 3_000_000))
    print(json.dumps([outcomes, await store.run(lambda transaction: [each.name for each in transaction.seeds.list()])]))

asyncio.run(main())
"""


def test_a_full_disk_is_a_503_and_loses_nothing(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/carrel.db"
    done = subprocess.run([sys.executable, "-c", FULL, address, KEY.decode()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes, names = json.loads(done.stdout)

    assert outcomes == [503, 503, "stored"]
    assert names == ["before", "big", "small"]
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        assert [each.name for each in transaction.seeds.list()] == names
    store.close()


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, and while they are in use."""
    before = os.umask(0)
    try:
        store = Store.open(f"sqlite:///{tmp_path}/store/carrel.db", [KEY])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").iterdir()}
    store.close()

    assert modes == dict.fromkeys(("carrel.db", "carrel.db-wal", "carrel.db-shm"), 0o600)
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_serve_ends_with_what_to_do_and_leaves_a_damaged_store_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("s")  # shorter than pytest's own: there is a socket in it
    file = tmp_path / "state/store/carrel.db"
    Store.open(f"sqlite:///{file}", [KEY]).close()
    file.write_bytes(file.read_bytes()[:-5000])
    before = file.read_bytes()
    command = [sys.executable, "-P", "-m", "carrel.cli", "serve", "--state", str(tmp_path / "state"), "--port", "0"]
    done = subprocess.run([*command, "--tls-port", "0"], capture_output=True, text=True)

    assert done.returncode == 1
    assert f"Error: {file} is damaged" in done.stderr
    assert "carrel restore" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before


def test_a_row_that_another_program_has_spoilt_is_the_stores_fault(tmp_path: Path) -> None:
    """And no error that would end whoever only looks: the supervisor does, and every session with it."""
    stamp = Stamp("somebody", "User", 1.0)
    record = PoolRecord(PoolId("s", "g", "p"), "local", {}, {}, stamp, stamp, etag="1")
    store = Store.open(f"sqlite:///{tmp_path}/carrel.db", [KEY])
    with store.transaction() as books:
        books.pools.put(record)
    with sqlite3.connect(tmp_path / "carrel.db") as other:
        other.execute("UPDATE pools SET properties = '{'")

    with pytest.raises(StoreError, match="the table pools cannot be read"), store.transaction() as books:
        books.pools.list()
    with pytest.raises(StoreError, match="the table pools cannot be read"), store.transaction() as books:
        books.pools.get(record.id)
    store.close()
