"""A directory as a tar stream (POSIX.1-2001, "pax"), made while it is read: no temporary file, a chunk at a time.

The code may change the tree meanwhile. A small file is read before its head is written, so that both agree; of a large one that grows the
first part is taken, and one that shrinks breaks the stream: better no archive than a wrong one. What has gone since its folder was read
is left out. Links, devices, sockets and pipes are left out too: unpacked elsewhere, they would mean something else.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator

from carrel.guest.paths import OPEN, FileError, is_shown

MAX_BYTES = 4 * 1024**3  # of the files in one archive: a sparse file may claim far more than there is
MAX_ENTRIES = 100_000
MAX_DEPTH = 64  # each level holds a descriptor
_SMALL = 128 * 1024
_PIECE = 64 * 1024
_BLOCK = 512
_TURN_S = 0.004  # for which an archive of many small things keeps the agent from everything else
_NUL = bytes(1)
_LAST_TIME = 8**11 - 1  # that eleven octal digits hold

Pieces = Generator[bytes, None, None]


class Archive:
    """A source (fileops.py). Owns `fd`, a directory's descriptor."""

    name = "file"
    least_credit = 1
    wake_at = 0.0

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left_bytes, self._left_entries = MAX_BYTES, MAX_ENTRIES
        self._pieces = self._archive(fd)
        self._held = b""
        self._is_begun = self._is_over = False

    def read(self, most: int) -> bytes | None:
        """Up to `most` bytes, b"" for none at the moment, None at the end. Raises FileError."""
        self._is_begun = True
        parts, size, until = [self._held], len(self._held), time.monotonic() + _TURN_S
        while size < most and not self._is_over and time.monotonic() < until:
            piece = next(self._pieces, None)
            self._is_over = piece is None
            parts.append(piece or b"")
            size += len(parts[-1])
        data = b"".join(parts)
        self._held = data[most:]
        return None if self._is_over and not data else data[:most]

    def close(self) -> None:
        self._pieces.close()
        if not self._is_begun:  # a generator that was not begun has no end to clean up in
            os.close(self._fd)

    def _archive(self, fd: int) -> Pieces:
        yield from self._folder(fd, b"", 0)
        yield bytes(2 * _BLOCK)

    def _folder(self, fd: int, prefix: bytes, depth: int) -> Pieces:
        """What lies in the directory behind `fd`, which is closed at the end."""
        try:
            for name in sorted(os.listdir(fd)):
                path = prefix + os.fsencode(name)
                try:
                    if not is_shown(os.stat(name, dir_fd=fd, follow_symlinks=False)):
                        yield b""  # so that many of them do not take the turn
                        continue
                    below = os.open(name, OPEN, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _conflict(path, os.strerror(error.errno or 0)) from error
                yield from self._entry(below, path, depth)
        finally:
            os.close(fd)

    def _entry(self, fd: int, path: bytes, depth: int) -> Pieces:
        """What is behind `fd`, which is closed at the end."""
        found = os.fstat(fd)
        is_directory = stat.S_ISDIR(found.st_mode)
        self._left_entries -= 1
        if self._left_entries < 0 or (is_directory and depth >= MAX_DEPTH):
            os.close(fd)
            raise FileError("ContentTooLarge", f"An archive has at most {MAX_ENTRIES} entries and {MAX_DEPTH} levels.")
        if is_directory:
            try:
                yield head(path + b"/", 0, found)
            except GeneratorExit:
                os.close(fd)
                raise
            yield from self._folder(fd, path + b"/", depth + 1)
            return
        try:
            if stat.S_ISREG(found.st_mode):  # else it was replaced by something else between two steps
                yield from self._file(fd, path, found)
        finally:
            os.close(fd)

    def _file(self, fd: int, path: bytes, found: os.stat_result) -> Pieces:
        self._left_bytes -= found.st_size
        if self._left_bytes < 0:
            raise FileError("ContentTooLarge", f"The files of an archive have {MAX_BYTES} bytes at most.")
        if found.st_size <= _SMALL:
            data = _read(fd, path, _SMALL)
            yield head(path, len(data), found) + data + _padding(len(data))
            return
        yield head(path, found.st_size, found)
        left = found.st_size
        while left:
            data = _read(fd, path, min(left, _PIECE))
            if not data:
                raise _conflict(path, "cut while it was being read")
            left -= len(data)
            yield data
        yield _padding(found.st_size)


def head(path: bytes, size: int, found: os.stat_result) -> bytes:
    """The block or blocks before an entry's content. Nobody's ids, no bits that give rights."""
    records = b""
    if not path.isascii() or len(path) > 100:
        records = (b"" if _is_utf8(path) else _record(b"hdrcharset", b"BINARY")) + _record(b"path", path)
    modified = min(max(0, int(found.st_mtime)), _LAST_TIME)
    kind = b"5" if stat.S_ISDIR(found.st_mode) else b"0"
    entry = _ustar(path, stat.S_IMODE(found.st_mode) & 0o777, size, modified, kind)
    if not records:
        return entry
    return _ustar(b"pax/entry", 0o644, len(records), modified, b"x") + records + _padding(len(records)) + entry


def _ustar(path: bytes, mode: int, size: int, modified: int, kind: bytes) -> bytes:
    fields = (
        path[:100].ljust(100, _NUL),
        b"%07o" % mode + _NUL,
        (b"0000000" + _NUL) * 2,  # user and group
        b"%011o" % size + _NUL,
        b"%011o" % modified + _NUL,
        b" " * 8,  # the checksum, as it counts itself
        kind,
        bytes(100),  # of a link
        b"ustar" + _NUL + b"00",
    )
    block = b"".join(fields)
    return (block[:148] + b"%06o" % sum(block) + _NUL + b" " + block[156:]).ljust(_BLOCK, _NUL)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record: its length, which counts its own digits, then key and value."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read(fd: int, path: bytes, most: int) -> bytes:
    try:
        return os.read(fd, most)
    except OSError as error:
        raise _conflict(path, os.strerror(error.errno or 0)) from error


def _conflict(path: bytes, reason: str) -> FileError:
    return FileError("FileConflict", f"'{path.decode('utf-8', 'replace')}' cannot be archived: {reason}.")
