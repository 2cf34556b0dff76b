"""`carrel backup` and `carrel restore`: all of a state in one file, whole or not at all, into either kind of database."""

from __future__ import annotations

import gzip
import io
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from carrel.cli import cli, restoring
from carrel.cli.statefolder import exclusive
from carrel.storage import State
from carrel.store import SeedRecord, Store
from postgresql import PostgreSQL
from test_store import RECORDS, fill

NOTHING = {"CARREL_STORE": None, "CARREL_STATE": None, "CARREL_CONFIG": None}


def carrel(*words: object, store: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], env={**NOTHING, "CARREL_STORE": store})


def opened(state: Path, store: str | None = None) -> Store:
    return Store.open(store or f"sqlite:///{state}/store/carrel.db", State(state).store_keys())


def check(state: Path, store: str | None = None) -> None:
    """The records are those of `fill`, and those of no other."""
    found = opened(state, store)
    with found.transaction() as transaction:
        for name, repository in transaction.repositories().items():
            assert repository.list() == [RECORDS[name]]
        assert transaction.generation() > 1
    found.close()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, but what every start and every look writes."""
    own = {"lock", "run"}
    paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in own]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `state`, which has one record of each kind, its backup `backup.tgz`, and another one's state `other`."""
    folder = tmp_path_factory.mktemp("originals")
    State(folder / "state").mcp_key("python")
    State(folder / "state").server_certificate()
    store = opened(folder / "state")
    with store.transaction() as transaction:
        fill(transaction)
    store.close()
    store = opened(folder / "other")
    with store.transaction() as transaction:
        transaction.seeds.put(SeedRecord("old", "x"))
    store.close()
    done = carrel("backup", folder / "backup.tgz", "--state", folder / "state")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shorter path than pytest's: a state folder's has to leave room for a socket's name."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture
def state(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / "state", tmp_path / "state"))


@pytest.fixture
def file(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(originals / "backup.tgz", tmp_path / "backup.tgz"))


def test_a_backup_is_for_its_owner_alone_and_restores_all_of_a_state(
    originals: Path, file: Path, state: Path, tmp_path: Path
) -> None:
    """Into a folder that is not there yet: keys, certificates and records; clients that trust the CA go on doing so."""
    done = carrel("restore", file, "--state", tmp_path / "other")

    assert done.exit_code == 0, done.output
    assert "1 pools" in done.output
    assert stat.S_IMODE((originals / "backup.tgz").stat().st_mode) == 0o600
    check(tmp_path / "other")
    before, after = tree(state), tree(tmp_path / "other")
    assert {name: content for name, content in after.items() if not name.startswith("store/")} == {
        name: content for name, content in before.items() if not name.startswith("store/")
    }
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "other").rglob("*")}
    public = [path.name for path, mode in modes.items() if mode & 0o077]
    assert sorted(public) == ["ca-bundle.pem", "ca.pem"]


def test_a_backup_of_sqlite_goes_into_postgresql_and_back(file: Path, tmp_path: Path, postgresql: PostgreSQL) -> None:
    """The password of the database is taken from the environment, and in no output."""
    address = postgresql.database()
    there, back, again = tmp_path / "there", tmp_path / "back", tmp_path / "again.tgz"
    outcomes = [
        carrel("restore", file, "--state", there, store=address),
        carrel("backup", again, "--state", there, store=address),
        carrel("restore", again, "--state", back),
    ]

    assert [each.exit_code for each in outcomes] == [0, 0, 0], [each.output for each in outcomes]
    check(there, address)
    assert not (there / "store").exists()
    check(back)
    assert postgresql.password not in "".join(each.output for each in outcomes)

    refused = carrel("restore", file, "--state", tmp_path / "third", store=address)
    assert refused.exit_code == 1
    assert "--force" in refused.output
    store = opened(there, address)
    with store.transaction() as transaction:
        transaction.seeds.put(SeedRecord("later", "x"))
        before = transaction.generation()
    assert "connections of Carrel" in carrel("restore", file, "--force", "--state", there, store=address).output
    store.close()
    assert carrel("restore", file, "--force", "--state", there, store=address).exit_code == 0
    check(there, address)
    with opened(there, address).transaction() as transaction:
        assert transaction.generation() > before + 1


def test_what_is_there_is_replaced_only_by_force_and_kept_aside(file: Path, state: Path) -> None:
    store = opened(state)
    with store.transaction() as transaction:
        transaction.seeds.put(SeedRecord("later", "x"))
    store.close()
    (state / "images").mkdir()
    before = tree(state)

    assert "--force" in carrel("restore", file, "--state", state).output
    assert tree(state) == before
    assert carrel("restore", file, "--force", "--state", state).exit_code == 0
    check(state)
    (kept,) = state.glob("before-restore-*")
    assert {f"old/{name}": content for name, content in before.items()} == tree(kept)


def test_a_running_servers_folder_is_not_restored_into_but_backed_up(file: Path, state: Path, tmp_path: Path) -> None:
    store = opened(state)
    with exclusive(state), store.transaction():
        pass
    with exclusive(state):
        before = tree(state)
        refused = carrel("restore", file, "--force", "--state", state)
        taken = carrel("backup", tmp_path / "second.tgz", "--state", state)
        assert tree(state) == before
    store.close()

    assert refused.exit_code == 1
    assert "another carrel serve" in refused.output
    assert taken.exit_code == 0
    assert carrel("restore", tmp_path / "second.tgz", "--state", tmp_path / "other").exit_code == 0
    check(tmp_path / "other")


# ---- files that are no backup ----------------------------------------------------------------------------------------------------------


def _changed(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The same archive with other members."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {}
        for each in tar:
            read = tar.extractfile(each)
            assert read
            members[each.name] = read.read()
    change(members)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return made.getvalue()


def _with(name: str, text: bytes) -> Callable[[bytes], bytes]:
    return lambda content: _changed(content, lambda members: members.update({name: text} | {name: text}))


def _first(name: str) -> Callable[[bytes], bytes]:
    """A member of that name before the others."""

    def change(members: dict[str, bytes]) -> None:
        others = members.copy()
        members.clear()
        members.update({name: b"x"} | others)

    return lambda content: _changed(content, change)


def _endless(members: dict[str, bytes]) -> None:
    del members["carrel-backup.json"]


def _link(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("keys/names.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    return made.getvalue()


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "something else": lambda content: b"hello " * 1000,
    "cut off": lambda content: content[:-200],
    "cut off half-way": lambda content: content[: len(content) // 2],
    "a bit turned": lambda content: content[:1500] + bytes([content[1500] ^ 1]) + content[1501:],
    "without its end": lambda content: _changed(content, _endless),
    "another key": _with("keys/store.key", b"bm90IGEgc2VjcmV0LCBvbmx5IGEgdGVzdCdzIGtleSE=\n"),
    "another row": _with("store.jsonl", b'{"table": "seeds", "row": {"name": "a", "digest": "b"}}\n'),
    "a name that leads out": _first("keys/../../../escaped"),
    "an absolute name": _first("/tmp/carrel-escaped"),
    "a hidden name": _first("keys/.ssh"),
    "a name of another kind": _first("connection.json"),
    "a link": _link,
    "a manifest of another kind": _with("carrel-backup.json", b"[]"),
    "a newer format": _with("carrel-backup.json", b'{"format": 2}'),
    "compressed zeros": lambda content: gzip.compress(bytes(20_000_000), 1),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_that_is_no_whole_backup_changes_nothing(kind: str, file: Path, state: Path, tmp_path: Path) -> None:
    file.write_bytes(SPOILED[kind](file.read_bytes()))
    before = tree(state)

    done = carrel("restore", file, "--force", "--state", state)

    assert done.exit_code == 1
    assert str(file) in done.output
    assert "Traceback" not in done.output
    assert tree(state) == before
    assert not list(tmp_path.rglob("*escaped*"))


def test_there_must_be_something_to_back_up_and_somewhere_to_put_it(state: Path, tmp_path: Path) -> None:
    assert "there is no store" in carrel("backup", tmp_path / "x.tgz", "--state", tmp_path / "nowhere").output
    assert "cannot be written" in carrel("backup", "/nowhere/x.tgz", "--state", state).output
    assert not (tmp_path / "x.tgz").exists()
    assert carrel("restore", tmp_path / "x.tgz", "--state", tmp_path / "other").exit_code == 2


# ---- killed in the middle --------------------------------------------------------------------------------------------------------------

# Restores into folders named 0, 1, …, each killed before it makes one more rename than its name says; until one is not killed.
KILLER = """
import os, signal, sys
from pathlib import Path
from carrel.cli import cli, archive, backup, restore
from carrel.store import postgres

file, *targets = sys.argv[1:]
rename = Path.rename

def restored(target, left):
    def counted(self, to):
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return rename(self, to)

    Path.rename = counted
    cli(["restore", file, "--force", "--state", target])

for target in targets:
    if not (child := os.fork()):
        restored(target, int(Path(target).name))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status == 0:
        break
"""


@pytest.mark.thorough
def test_a_restore_that_is_killed_has_not_happened_or_is_finished_by_the_next_start(
    originals: Path, file: Path, tmp_path: Path
) -> None:
    """Killed before each rename in turn: the state is the old one, or after the next look at it the restored one."""
    targets = [Path(shutil.copytree(originals / "other", tmp_path / str(number))) for number in range(20)]
    command = [sys.executable, "-c", KILLER, str(file), *map(str, targets)]
    done = subprocess.run(command, capture_output=True, text=True)
    statuses = [int(line) for line in done.stdout.split()]
    outcomes = []
    for target in targets[: len(statuses)]:
        with exclusive(target):
            restoring.finish(target)
        is_old = State(target).tenant == State(originals / "other").tenant
        outcomes.append("old" if is_old else "new")
        if is_old:
            store = opened(target)
            with store.transaction() as transaction:
                assert transaction.seeds.list() == [SeedRecord("old", "x")]
            store.close()
        else:
            check(target)

    assert statuses == [-signal.SIGKILL] * 12 + [0], done.stderr
    assert outcomes == ["old"] + ["new"] * (len(outcomes) - 1)
