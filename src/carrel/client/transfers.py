"""Large files on their way: counted, told, and shown as a bar where somebody looks.

`progress` is what the file calls take: a function of the bytes so far and of all (None where nobody knows), or True for a bar on a terminal
or in a notebook; where there is neither, True does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

OnBytes = Callable[[int, int | None], object]
TransferProgress = OnBytes | bool | None
Source = bytes | IO[bytes] | os.PathLike[str]  # what can be uploaded; a path is a file's of this machine

CHUNK = 256 * 1024


class Counted:
    """A file that tells how much of it was read. Whoever sends it again begins at its start again."""

    def __init__(self, file: IO[bytes], tell: OnBytes) -> None:
        self._file = file
        self._tell = tell
        self._total = _size(file)
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._done += len(piece)
        self._tell(self._done, self._total)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = self._file.seek(offset, whence)
        self._done = place
        return place

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return self._file.seekable()


Sending = bytes | IO[bytes] | Counted


@contextlib.contextmanager
def sending(source: Source, progress: TransferProgress, name: str) -> Iterator[Sending]:
    """What to send of a source, so that `progress` is told. Raises TypeError for what is none: a text may be meant as either."""
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(Path(source).open("rb")) if isinstance(source, os.PathLike) else source
        if not (isinstance(data, bytes) or hasattr(data, "read")):
            raise TypeError(
                f"bytes, an open file or a Path of this machine can be uploaded, not a {type(data).__name__}"
            )
        tell = stack.enter_context(telling(progress, name))
        if tell is None and not can_repeat(data):
            tell = _tell_nobody  # of a pipe, httpx would take the length from its descriptor, which says 0
        yield data if tell is None else Counted(io.BytesIO(data) if isinstance(data, bytes) else data, tell)


@contextlib.contextmanager
def telling(progress: TransferProgress, name: str) -> Iterator[OnBytes | None]:
    """Whom to tell of the bytes of one file; None for nobody."""
    if callable(progress):
        yield progress
    elif progress and _is_seen():
        with _bar(name) as tell:
            yield tell
    else:
        yield None


def can_repeat(data: Sending) -> bool:
    return isinstance(data, bytes) or data.seekable()


class Part:
    """A file of this machine while it is fetched: beside its place until it is whole, so that no half of one is taken for it."""

    def __init__(self, to: str | os.PathLike[str], tell: OnBytes | None) -> None:
        self.path = Path(to)
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(to))
        self._part = self.path.with_name(f".{uuid.uuid4().hex}.part")  # each its own: several may fetch to one place
        self._tell = tell
        self._file: IO[bytes] | None = None
        self._done = 0
        self._total: int | None = None

    def begin(self, length: str | None) -> None:
        """At the first try and at each further one."""
        if self._file is None:
            self._file = self._part.open("wb")
        self._file.seek(0)
        self._file.truncate()
        self._done, self._total = 0, int(length) if length and length.isdigit() else None

    def write(self, data: bytes) -> None:
        if self._file is None:
            raise RuntimeError("write comes after begin")
        self._file.write(data)
        self._done += len(data)
        if self._tell is not None:
            self._tell(self._done, self._total)

    def finish(self) -> Path:
        self.close()
        self._part.replace(self.path)
        return self.path

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._part.unlink(missing_ok=True)


def _tell_nobody(_done: int, _total: int | None) -> None:
    return None


def _size(file: IO[bytes]) -> int | None:
    """Of what is still to be read; None where the file does not know."""
    if not file.seekable():
        return None
    place = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(place)
    return end


def _is_seen() -> bool:
    """Whether somebody looks: at a terminal, or at a notebook."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()


@contextlib.contextmanager
def _bar(name: str) -> Iterator[OnBytes]:
    # Here, since a program that shows no bar need not wait for its library.
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
