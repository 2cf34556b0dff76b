"""A PostgreSQL of the run's own, from the system's package, for the tests of the store: started when the first of them asks.

As root it runs as the user `postgres` (it refuses to be root), else as ourselves. It keeps everything in the run's temporary folder, shared
memory too, but for one segment that every PostgreSQL has.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from processes import eventually

_SETTINGS = {
    "fsync": "off",  # kills are survived by what the kernel has; only the machine's end would not be
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
}


def programs() -> Path | None:
    """The folder of the newest server that is installed. Debian keeps it out of PATH."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if in_path := shutil.which("initdb"):
        found.append(Path(in_path).resolve().parent)
    return max(found, default=None, key=lambda folder: [int(part) for part in folder.parts if part.isdigit()])


def _user() -> str | None:
    """Who to be; None for ourselves. Raises LookupError where there is nobody."""
    if os.geteuid():
        return None
    return pwd.getpwnam("postgres").pw_name


@dataclass
class PostgreSQL:
    """A server that can be stopped, killed and started again on the same data."""

    folder: Path
    user: str | None
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(8) + "@/?#", repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://carrel:{quote(self.password, safe='')}@127.0.0.1:{self.port}/postgres"

    def schema(self) -> str:
        """The address of an empty place for one store: a schema, as a database takes fifty times as long to make."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url}?options=-csearch_path%3D{name}"

    def database(self) -> str:
        """The address of an empty database, for what looks at all of it."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url.replace("/postgres", f"/{name}")

    def initialise(self) -> None:
        word = self.folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)
        auth = ["--auth=scram-sha-256", "--username=carrel", f"--pwfile={word}"]
        self._run("initdb", "-D", self._data, "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", *auth)

    def start(self) -> None:
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        places = ["-c", f"port={self.port}", "-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", self._data, *settings, *places], user=self.user, stdout=log, stderr=log
            )
        assert eventually(self._answers, timeout=20), (self.folder / "log").read_text()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends connections and itself, SIGQUIT leaves the data as a crash would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)
            self.process = None

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.Error):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run([program(name), *words], user=self.user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def program(name: str) -> str:
    folder = programs()
    assert folder is not None
    return str(folder / name)


@contextlib.contextmanager
def running() -> Iterator[PostgreSQL]:
    """A new server. Skips, with the reason, where there is none to be had."""
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    try:
        user = _user()
    except LookupError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="pg-") as name, socket.socket() as free:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        free.bind(("127.0.0.1", 0))
        server = PostgreSQL(folder, user, free.getsockname()[1])
        free.close()
        server.initialise()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One for the run, for tests that leave it running."""
    with running() as server:
        yield server
