"""The gateway opens its store, and then is another user, without any capability, who can open nothing more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from carrel.store import Store
from postgresql import PostgreSQL

KEY = Fernet.generate_key()
NOBODY = 54321

WORKER = """
import asyncio, contextlib, dataclasses, json, os, sys
from carrel.errors import StoreUnavailable
from carrel.guest import linux
from carrel.store import SeedRecord, Store, Transaction

address, key, folder, uid, rows = sys.argv[1:]
store = Store.open(address, [key.encode()])
linux.renounce(int(uid) or None)
touched = []
sys.addaudithook(lambda event, args: event in ("open", "import", "sqlite3.connect") and touched.append(f"{event} {args[0]}"))

def many(transaction):
    for number in range(int(rows)):
        transaction.seeds.put(SeedRecord(f"many {number:05}", str(number)))

def lose(transaction):
    transaction.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

async def work():
    await store.run(many)
    for size in (1_000, 5_000_000, 20_000_000, 10):
        await store.run(lambda transaction: transaction.seeds.put(SeedRecord("big", "x" * size)))
    for number in range(300):
        await store.run(lambda transaction: transaction.seeds.put(SeedRecord("one of many", "y" * 10_000 + str(number))))
    found = await store.run(lambda transaction: transaction.seeds.list())  # sorted, and too many for a page
    if address.startswith("postgresql"):
        with contextlib.suppress(StoreUnavailable):
            await store.run(lose)
        await store.run(lambda transaction: transaction.seeds.put(SeedRecord("reconnected", "")))
    return len(found)

count = asyncio.run(work())
seen = touched[:]
threads = [open(f"/proc/self/task/{task}/status").read() for task in os.listdir("/proc/self/task")]
try:
    os.listdir(folder)
    is_shut = False
except PermissionError:
    is_shut = True
capable = [line for status in threads for line in status.splitlines() if line.startswith("CapPrm") and line.split()[1] != "0" * 16]
print(json.dumps({"count": count, "touched": seen, "shut": is_shut, "capable": capable, "threads": len(threads)}))
"""


@pytest.mark.parametrize("rows", [500, pytest.param(10_000, marks=pytest.mark.thorough)])
def test_a_store_works_for_one_who_can_open_nothing(rows: int, tmp_path: Path) -> None:
    _check(f"sqlite:///{tmp_path}/state/store/carrel.db", tmp_path, rows)
    log = tmp_path / "state/store/carrel.db-wal"

    assert not log.exists(), "the next one to open it, and to close it, has made one file of it"


@pytest.mark.thorough
def test_one_on_postgresql_connects_anew_without_its_home_folder(postgresql: PostgreSQL, tmp_path: Path) -> None:
    _check(postgresql.schema(), tmp_path, 100)


def _check(address: str, tmp_path: Path, rows: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    uid = 0 if os.geteuid() else NOBODY
    told = _work(address, folder, uid, rows)

    assert told["count"] == rows + 2
    assert told["touched"] == []
    assert told["shut"] is (uid == NOBODY)
    assert told["threads"] > 1
    assert told["capable"] == []
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        record = transaction.seeds.get("one of many")
        assert record
        assert record.digest.endswith("y299")
        assert len(transaction.seeds.list()) >= rows + 2
    store.close()


def _work(address: str, folder: Path, uid: int, rows: int) -> dict[str, Any]:
    words = [address, KEY.decode(), str(folder), str(uid), str(rows)]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", WORKER, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
