"""Files of the state folder: private, whole or not there at all, and refused rather than repaired in silence."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm

T = TypeVar("T")


class StateError(Exception):
    """The state folder cannot be used. The message names the file and what to do; it is for the operator, not for callers."""


def parsed(file: Path, make: Callable[[], bytes], load: Callable[[bytes], T]) -> T:
    """The content of a file that is made if missing."""
    if not file.exists():
        create(file, make())
    try:
        return load(read_private(file))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StateError(f"{file} is damaged ({error}): restore it, or move it away to have a new one made") from error


def private_folder(folder: Path) -> None:
    """Makes a folder that is ours alone; one that is there and belongs to someone else is refused."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid():
            raise StateError(
                f"{folder} belongs to uid {status.st_uid}, not to {os.geteuid()}: choose another with --state"
            )
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(f"{folder} cannot be used: {error.strerror}") from error


def read_private(file: Path) -> bytes:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise StateError(f"{file} holds a secret and others may read it: check who did, then chmod 600 {file}")
    return file.read_bytes()


def create(file: Path, content: bytes) -> None:
    """Puts `content` there unless another process was first."""
    temporary = _written(file, content, 0o600)
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass  # the other one's file is as good, and both read it back
    finally:
        temporary.unlink()


def replace(file: Path, content: bytes, mode: int) -> None:
    """Puts `content` there at once; leaves a file that has it already alone."""
    if not (file.exists() and file.read_bytes() == content):
        _written(file, content, mode).replace(file)


def _written(file: Path, content: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)
    return Path(name)
