"""The log being written: lines are appended, files begun and removed, and what an end by force left behind is mended, and told.

Whole batches are written at once. What a full disk cuts off in the middle is taken back, so that the next try begins where this one did;
nothing that was not written whole has a number. After a kill the kernel has all that was written; after a loss of power it has what was
synchronised, which is also what `head` speaks of.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from carrel.audit import head
from carrel.audit.chain import MOST_LINE, START, Broken, Link, Seal
from carrel.audit.folder import File, files, opened
from carrel.audit.head import Head, Slot

_TAIL = 4 * MOST_LINE  # of a file: where its last lines are

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Limits:
    """0 of an age or of all bytes: without limit."""

    file_bytes: int
    file_s: float
    kept_s: float
    kept_bytes: int


def outdated(sized: Sequence[tuple[File, int]], now: float, limits: Limits) -> list[File]:
    """Which files are to go, the oldest first: never the newest, and one is as old as its last record, which is when the next began."""
    gone: list[File] = []
    total = sum(size for _, size in sized)
    for (file, size), (following, _) in pairwise(sized):
        is_old = limits.kept_s and now - following.began_at > limits.kept_s
        if not is_old and not (limits.kept_bytes and total > limits.kept_bytes):
            break
        gone.append(file)
        total -= size
    return gone


class Trail:
    """Of a folder, by its descriptor. `mended` is what was found amiss when it was opened, a record for each, not written yet."""

    def __init__(self, folder: int, seal: Seal, limits: Limits, now: float) -> None:
        self._folder, self._seal, self._limits = folder, seal, limits
        self._head_file = opened(folder, head.NAME, os.O_RDWR | os.O_CREAT)
        self._turn = 0
        self._file: int | None = None
        self._began_at = now
        self._size = 0
        self._is_safe = True  # all that was written is on the disk
        self.begun = 0  # files, by this one
        self.mended: list[Record] = []
        self.tail: list[Link] = []  # the last lines that were there before, for whoever needs to know them
        self._end = self._found()

    @property
    def end(self) -> Head:
        """The last line that was written."""
        return self._end

    def append(self, records: Sequence[Record], now: float) -> None:
        """All of them or none. Raises OSError."""
        if self._file is None or self._is_full(now):
            self._begin(now)
        end, lines = self._end, []
        for record in records:
            line, digest = self._seal.line(end.seq + 1, end.hash, record)
            lines.append(line)
            end = Head(end.seq + 1, digest)
        self._write(b"".join(lines))
        self._end = end

    def sync(self) -> None:
        """To the disk, lines first. Raises OSError."""
        if self._is_safe or self._file is None:
            return
        os.fdatasync(self._file)
        self._turn += 1
        head.write(self._head_file, Slot(self._turn, self._end), self._seal)
        self._is_safe = True

    def prune(self, now: float) -> list[str]:
        """Remove what is too old or too much, and tell it first. Raises OSError."""
        found = files(self._folder)
        sized = [(file, os.stat(file.name, dir_fd=self._folder).st_size) for file in found]
        gone = outdated(sized, now, self._limits)
        if not gone:
            return []
        first = self._first_of(found[len(gone)])
        names = [file.name for file in gone]
        told = {"files": names, "through": found[len(gone)].first - 1, "hash": first.previous if first else ""}
        self.append([{"at": stamp(now), "action": "audit/prune", "outcome": "Succeeded", "details": told}], now)
        self.sync()
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        return names

    def close(self) -> None:
        self.sync()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._head_file)

    def _is_full(self, now: float) -> bool:
        is_old = self._limits.file_s and now - self._began_at > self._limits.file_s
        return bool(self._size and (self._size >= self._limits.file_bytes or is_old))

    def _begin(self, now: float) -> None:
        """Another file. The one before it is on the disk by then."""
        self.sync()
        file = File.begun(self._end.seq + 1, now)
        descriptor = opened(self._folder, file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        os.fsync(self._folder)  # its name, too
        if self._file is not None:
            os.close(self._file)
        self._file, self._size, self._began_at = descriptor, 0, now
        self.begun += 1

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "no file is open")
        self._is_safe = False
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += written

    # ---- what is there when it is opened ---------------------------------------------------------------------------------------

    def _found(self) -> Head:
        """Where the chain goes on. What is wrong is told, and left for `verify` to find where it cannot be mended."""
        kept = head.read(self._head_file, self._seal)
        told = kept.head
        if kept.newest is not None:
            self._turn = kept.newest.turn
            if not kept.is_sound:
                self._tell("one half of the file head was not what was written")
        there = files(self._folder)
        last = self._last_line(there)
        if isinstance(last, Link) and (told is None or last.seq >= told.seq):
            if told is None:
                self._tell("the file head is missing or not ours: whether the end of the log was cut cannot be said")
            return Head(last.seq, last.hash)
        if told is not None:
            self._leave()
            ends = f"with record {last.seq}" if isinstance(last, Link) else "with no line of ours"
            self._tell(f"lines are missing: the log ends {ends}, and had come to {told.seq}", expected=told.hash)
            return told
        if not there:
            return Head()
        self._leave()
        self._tell("the last line is not ours, and the file head is missing: a new chain begins")
        return Head(there[-1].first, START)

    def _last_line(self, there: Sequence[File]) -> Link | None:
        """Of the newest file that has one; None where it is none of ours. The newest file is opened, to be written on."""
        for number, file in enumerate(reversed(there)):
            descriptor = opened(self._folder, file.name, os.O_RDWR | os.O_APPEND)
            lines = self._whole_lines(descriptor, file)
            if number == 0:
                self._file, self._size, self._began_at = descriptor, os.fstat(descriptor).st_size, file.began_at
            else:
                os.close(descriptor)
            if lines:
                links = [link for line in lines if (link := self._link(line)) is not None]
                self.tail = links
                return links[-1] if links and self._link(lines[-1]) is not None else None
        return None

    def _whole_lines(self, descriptor: int, file: File) -> list[bytes]:
        """The last of a file. What follows the last newline was cut off while it was written: it is put aside and told."""
        size = os.fstat(descriptor).st_size
        begin = max(0, size - _TAIL)
        content = os.pread(descriptor, size - begin, begin)
        whole, newline, torn = content.rpartition(b"\n")
        if torn:
            self._put_aside(file, torn)
            os.ftruncate(descriptor, size - len(torn))
            os.fdatasync(descriptor)
        lines = whole.split(b"\n") if newline else []
        return lines[1:] if begin else lines

    def _put_aside(self, file: File, torn: bytes) -> None:
        digest = hashlib.sha256(torn).hexdigest()
        name = f"torn-{digest[:16]}"
        descriptor = opened(self._folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(descriptor, torn)
        finally:
            os.close(descriptor)
        self._tell("the last line was cut off", file=file.name, bytes=len(torn), sha256=digest, kept=name)

    def _link(self, line: bytes) -> Link | None:
        try:
            return self._seal.opened(line)
        except (Broken, ValueError):
            return None

    def _first_of(self, file: File) -> Link | None:
        descriptor = opened(self._folder, file.name, os.O_RDONLY)
        try:
            return self._link(os.pread(descriptor, MOST_LINE, 0).partition(b"\n")[0])
        finally:
            os.close(descriptor)

    def _leave(self) -> None:
        """What follows goes into a file of its own."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _tell(self, what: str, **more: object) -> None:
        details = {"what": what, **more}
        now = stamp(time.time())
        self.mended.append({"at": now, "action": "audit/mend", "outcome": "Succeeded", "details": details})


def stamp(now: float) -> str:
    """A moment as records have it: UTC, to the microsecond."""
    whole, part = divmod(int(now * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{part:06d}Z"


@lru_cache(16)
def _second(moment: int) -> str:
    """Most of what a stamp costs, and mostly the same one as a moment before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
