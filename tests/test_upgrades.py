"""What docs/guides/upgrades.md promises: a state folder of the first version is served, and one of a later version is left alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.store import Store
from conftest import SlimServer
from managed import NO_SESSIONS
from test_store import RECORDS, key
from test_store_migrations import FOLDER, KEY

pytestmark = pytest.mark.one_level


@pytest.fixture
def old_state(tmp_path: Path) -> Path:
    """As the first version left it: its store, with a record of every kind, and the key of the secrets in it."""
    folder = tmp_path / "state"
    for place in (folder, folder / "store", folder / "keys"):
        place.mkdir(mode=0o700)
    (folder / "keys/store.key").write_bytes(KEY + b"\n")
    made = sqlite3.connect(folder / "store/carrel.db")
    made.execute("PRAGMA journal_mode = WAL")  # as every store of ours has
    made.executescript((FOLDER / "0001.sqlite.sql").read_text())
    made.close()
    for file in (folder / "keys/store.key", folder / "store/carrel.db"):
        file.chmod(0o600)
    return folder


@pytest.mark.thorough
def test_a_state_folder_of_the_first_version_is_served(old_state: Path, slim_server: SlimServer) -> None:
    """It runs code, and what was kept is kept still when it has stopped again."""
    with slim_server(config=NO_SESSIONS, state=old_state) as server, server.client() as client:
        assert client.execute("6 * 7").result == 42
        client.end()
    store = Store.open(f"sqlite:///{old_state}/store/carrel.db", [KEY])
    with store.transaction() as transaction:
        for name in ("groups", "pools", "principals", "assignments"):
            assert getattr(transaction, name).get(*key(name, RECORDS[name])) is not None, name
    store.close()


@pytest.mark.thorough
def test_a_store_of_a_later_version_is_left_as_it_is(old_state: Path) -> None:
    file = old_state / "store/carrel.db"
    made = sqlite3.connect(file)
    made.execute("UPDATE alembic_version SET version_num = '9999'")
    made.commit()
    made.close()
    before = file.read_bytes()
    command = [sys.executable, "-P", "-m", "carrel.cli", "serve", "--port", "0", "--state", str(old_state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode != 0
    assert "newer" in done.stderr, done.stderr
    assert file.read_bytes() == before
    shutil.rmtree(old_state)
