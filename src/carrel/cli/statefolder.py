"""The state folder as the supervisor holds it: one server each, and connection.json for as long as it serves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_SOCKET_PATH_LIMIT = 107  # bytes of a Unix socket's address, unix(7)


class FolderError(Exception):
    """The folder cannot be used. The message says why and what to do."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for one server; connection.json is gone afterwards. Raises FolderError where another one has it."""
    socket = folder / "run/hostlink.sock"
    if len(os.fsencode(socket)) > _SOCKET_PATH_LIMIT:
        raise FolderError(
            f"{folder} is too long a path for a Unix socket inside it: choose a shorter one with --state DIR"
        )
    try:
        for path in (folder, folder / "run"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(
            f"cannot use the state folder {folder}: {error.strerror}; choose another with --state DIR"
        ) from error
    with contextlib.closing(os.fdopen(lock)):  # closing it is what gives the lock up
        _take(lock, folder)
        connection = folder / "connection.json"
        connection.unlink(missing_ok=True)  # what a server that was killed left behind
        try:
            yield
        finally:
            connection.unlink(missing_ok=True)
            socket.unlink(missing_ok=True)  # the host's, which may have no right to


def is_held(folder: Path) -> bool:
    """Whether a server runs with this folder now."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write_connection(folder: Path, fields: Mapping[str, object]) -> None:
    """Put connection.json there whole, readable by its owner alone: it holds a token."""
    descriptor, name = tempfile.mkstemp(prefix=".connection-", dir=folder)  # mode 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(fields, file, indent=1)
        file.write("\n")
    Path(name).replace(folder / "connection.json")


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode().strip() or "unknown"
        raise FolderError(
            f"another carrel serve (process {owner}) uses {folder}: stop it, or choose another folder with --state DIR"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
