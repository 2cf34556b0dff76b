"""Write down databases of this version's schema, for the tests of later ones: `.venv/bin/python tools/freeze_store.py`.

Makes tests/store/NNNN.sqlite.sql and NNNN.postgresql.sql, with one record of each kind, and the key of their secrets in the test itself.
To be run once, when a schema is released.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import postgresql  # noqa: E402
from carrel.store import Store  # noqa: E402
from carrel.store.schema import HEAD  # noqa: E402
from test_store import fill  # noqa: E402
from test_store_migrations import FOLDER, KEY  # noqa: E402


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{HEAD}.sqlite.sql").write_text(_sqlite())
    (FOLDER / f"{HEAD}.postgresql.sql").write_text(_postgresql())


def _filled(address: str) -> None:
    store = Store.open(address, [KEY])
    with store.transaction() as transaction:
        fill(transaction)
    store.close()


def _sqlite() -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "carrel.db")
        _filled(f"sqlite:///{file}")
        connection = sqlite3.connect(file)
        mark = connection.execute("PRAGMA application_id").fetchone()[0]
        text = "\n".join([f"PRAGMA application_id = {mark};", *connection.iterdump()])
        connection.close()
    return re.sub(r"[ \t]+\n", "\n", text) + "\n"


def _postgresql() -> str:
    with postgresql.running() as server:
        address = server.schema()
        _filled(address)
        name = address.partition("%3D")[2]
        command = [postgresql.program("pg_dump"), "--inserts", "--no-owner", "--schema", name, server.url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace(f"{name}.", "")
    noise = ("--", "SET ", "CREATE SCHEMA", "SELECT pg_catalog", "\\")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith(noise)) + "\n"


if __name__ == "__main__":
    main()
