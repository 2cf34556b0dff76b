"""The host's journal: what it must not forget when it is killed, until a gateway has taken it into the store.

A few files of the state folder, opened while that can be, of lines that are appended with a write(2) each: what was written is the
kernel's, and outlives the process. A *place* is a number of bytes since the journal began; it means the same in every host and gateway,
and the store keeps up to which place it has everything, in the transaction that has it. So nothing is counted twice and nothing left out.

The first line of a file says which journal it is part of and at which place it begins. A file is filled up to a bound, then comes the next
that is free; one whose lines were all taken is emptied. A line that was torn when the machine ended is cut off. Where a file cannot
grow (a full disk), `append` says so and leaves nothing half-written: the ledger keeps its sums and comes again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from carrel.models import MIB
from carrel.wire import journal as wire

FILES = 16
FILE_BYTES = 16 * MIB
READ_BYTES = MIB  # at once; no line is as long

log = logging.getLogger(__name__)


class JournalFull(OSError):
    """Nobody has taken anything for too long."""


@dataclass(slots=True)
class _Segment:
    """One of the files. `begin` is the place of its first line, `head` how long the line before that is, `size` what follows it."""

    descriptor: int
    begin: int = 0
    head: int = 0
    size: int = 0

    @property
    def is_free(self) -> bool:
        return not self.head

    @property
    def end(self) -> int:
        return self.begin + self.size


class Journal:
    """Make one with `open`. Not for more than one process at a time: the state folder's lock sees to that."""

    def __init__(self, segments: list[_Segment], identity: str, file_bytes: int) -> None:
        self.identity = identity  # which journal this is: another one begins at place 0 again
        self._segments = segments
        self._file_bytes = file_bytes
        used = [each for each in segments if not each.is_free]
        self._current = max(used, key=lambda each: each.begin) if used else None
        self.end = self._current.end if self._current else 0

    @classmethod
    def open(cls, folder: Path, files: int = FILES, file_bytes: int = FILE_BYTES) -> Journal:
        """With what an earlier host has left. Files that cannot be had are done without; without any, `append` fails."""
        identity, segments = "", []
        for number in range(files):
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                segment = _Segment(os.open(folder / f"{number:02}", flags, 0o600))
            except OSError as error:
                log.error("a file of the journal cannot be opened", extra={"why": error.strerror})
                continue
            found = _recover(segment, identity)
            identity = identity or found
            segments.append(segment)
        return cls(segments, identity or secrets.token_hex(8), file_bytes)

    def close(self) -> None:
        while self._segments:
            os.close(self._segments.pop().descriptor)
        self._current = None

    @property
    def is_half_full(self) -> bool:
        """So that what may be done without leaves room for what may not."""
        return 2 * sum(each.is_free for each in self._segments) < len(self._segments)

    def append(self, lines: bytes) -> None:
        """All of them or, raising OSError, none."""
        segment = self._current
        if segment is None or segment.size + len(lines) > self._file_bytes:
            segment = self._current = self._next()
        at = segment.head + segment.size
        try:
            written = os.pwrite(segment.descriptor, lines, at)
            if written < len(lines):  # the disk is full, or this file has its limit
                written += os.pwrite(segment.descriptor, lines[written:], at + written)
            if written < len(lines):
                raise OSError("the line was not written to its end")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(segment.descriptor, at)
            raise
        segment.size += len(lines)
        self.end += len(lines)

    def read(self, place: int, limit: int = READ_BYTES) -> tuple[bytes, int]:
        """Whole lines from `place`, or from the next that there is, and the place after them. None at the end."""
        if place > self.end:
            # The machine has lost its power and, with it, lines that were taken already: what comes now must not have their places.
            self.end, self._current = place, None
        later = sorted((each for each in self._segments if each.end > place and each.head), key=lambda each: each.begin)
        for segment in later[:1]:
            place = max(place, segment.begin)
            at = segment.head + place - segment.begin
            lines = os.pread(segment.descriptor, min(limit, segment.end - place), at)
            lines = lines[: lines.rfind(b"\n") + 1]
            return lines, place + len(lines)
        return b"", max(place, self.end)

    def release(self, place: int) -> None:
        """All before `place` has been taken: it is not asked for again."""
        for segment in self._segments:
            is_worth_it = segment is not self._current or 4 * segment.size > self._file_bytes
            if not segment.is_free and segment.end <= place and is_worth_it:
                self._free(segment)
                if segment is self._current:
                    self._current = None
                    with contextlib.suppress(OSError):  # then the next line does
                        self._begin(segment)  # so that the next host knows which journal this is
                        self._current = segment

    def _next(self) -> _Segment:
        segment = next((each for each in self._segments if each.is_free), None)
        if segment is None:
            raise JournalFull("the journal is full")
        self._begin(segment)
        return segment

    def _begin(self, segment: _Segment) -> None:
        """From the start, at the journal's end."""
        head = wire.encode({"journal": self.identity, "begin": self.end})
        if os.pwrite(segment.descriptor, head, 0) != len(head):
            os.ftruncate(segment.descriptor, 0)
            raise OSError("the first line was not written to its end")
        segment.begin, segment.head = self.end, len(head)

    def _free(self, segment: _Segment) -> None:
        os.ftruncate(segment.descriptor, 0)
        segment.begin = segment.head = segment.size = 0


def _recover(segment: _Segment, identity: str) -> str:
    """Find out what a file holds; cut it off after its last whole line. Which journal it is of; "" where it holds nothing of `identity`."""
    length = os.fstat(segment.descriptor).st_size
    found, at = "", 0
    with os.fdopen(os.dup(segment.descriptor), "rb") as file:
        file.seek(0)
        head = file.readline()
        if wire.is_whole(head) and (fields := wire.fields_of(head)).keys() >= {"journal", "begin"}:
            found = str(fields["journal"])
        if found and identity in ("", found):
            segment.begin, segment.head = int(fields["begin"]), len(head)
            at = len(head)
            while wire.is_whole(line := file.readline()):
                at += len(line)
            segment.size = at - len(head)
    if at < length:
        log.warning("cut off what was not whole at the end of a file of the journal", extra={"bytes": length - at})
        os.ftruncate(segment.descriptor, at)
    return found if at else ""
