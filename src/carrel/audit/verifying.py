"""The whole chain, checked from its first line to its last: each line's own seal, that it follows the one before, and both ends.

Nothing of this trusts the order or the names of the files: what counts is numbers and hashes in the lines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from carrel.audit import head
from carrel.audit.chain import MOST_LINE, START, Broken, Link, Seal
from carrel.audit.folder import File, files, opened
from carrel.audit.head import Head
from carrel.audit.reading import opened_or_gone

_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """Where, as a reader finds it again, and what is wrong there."""

    file: str
    line: int  # from 1; 0: the file as a whole
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


@dataclass(slots=True)
class Report:
    faults: list[Fault] = field(default_factory=list)  # in the order of the log, the first of them; `count` counts all
    remarks: list[str] = field(default_factory=list)  # what the log itself tells of mending and of what is not in it
    files: int = 0
    records: int = 0
    first: int = 0
    end: Head = field(default_factory=Head)

    @property
    def is_whole(self) -> bool:
        return not self.faults


def verify(folder: Path, seal: Seal, *, is_written: bool = False, expected: Head | None = None) -> Report:
    """`is_written`: a server runs with the folder, and a last line that is not whole yet is none of its faults.

    `expected` is the end of an earlier report, which the log has to go through. Raises OSError where the folder cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Check(descriptor, seal, is_written, expected).report()
    finally:
        os.close(descriptor)


class _Check:
    def __init__(self, folder: int, seal: Seal, is_written: bool, expected: Head | None) -> None:
        self._folder, self._seal, self._is_written = folder, seal, is_written
        self._report = Report()
        self._before: Head | None = None  # the line before
        self._pruned: set[tuple[int, str]] = set()  # ends of what was removed, as the log tells
        self._began: tuple[File, Link] | None = None
        self._points = [expected] if expected is not None else []  # lines that have to be there

    def report(self) -> Report:
        known = self._head()  # first: lines that come after it are no less true
        there = files(self._folder)
        if known is not None:
            self._points.append(known)
        for number, file in enumerate(there):
            self._check_file(file, is_last=number == len(there) - 1)
        self._report.files = len(there)
        self._check_beginning()
        if self._before is not None:
            self._report.end = self._before
        for point in self._points:
            self._check_reached(point)
        return self._report

    def _head(self) -> Head | None:
        try:
            descriptor = opened(self._folder, head.NAME, os.O_RDONLY)
        except FileNotFoundError:
            self._fault(head.NAME, 0, "is missing, so that nobody can say whether the end of the log was cut")
            return None
        try:
            found = head.read(descriptor, self._seal)
            if not found.is_sound:
                self._fault(head.NAME, 0, "is not what was written, or of another key")
            return found.head
        finally:
            os.close(descriptor)

    def _check_file(self, file: File, *, is_last: bool) -> None:
        descriptor = opened_or_gone(self._folder, file)
        if descriptor is None:
            return
        with os.fdopen(descriptor, "rb") as stream:
            for number, line in enumerate(_lines(stream.readline), 1):
                if not line.endswith(b"\n"):
                    if not (is_last and self._is_written):
                        self._fault(file.name, number, "the line is cut off")
                    return
                self._check_line(file, number, line[:-1])

    def _check_line(self, file: File, number: int, line: bytes) -> None:
        try:
            link = self._seal.opened(line)
        except Broken as error:
            return self._fault(file.name, number, str(error))
        except ValueError:
            return self._fault(file.name, number, "it is not a line of this log")
        self._report.records += 1
        self._remember(file, link)
        before = self._before
        if before is not None and (link.seq, link.previous) != (before.seq + 1, before.hash):
            self._fault(file.name, number, _out_of_order(link, before))
        self._before = Head(link.seq, link.hash)
        self._points = [point for point in self._points if point != self._before]
        return None

    def _remember(self, file: File, link: Link) -> None:
        if self._began is None:
            self._began, self._report.first = (file, link), link.seq
        details = link.fields.get("details")
        if not isinstance(details, dict):
            return
        match link.fields.get("action"):
            case "audit/prune":
                self._pruned.add((int(details["through"]), str(details["hash"])))
            case "audit/mend" | "audit/drop" | "audit/omit" | "audit/lose":
                self._report.remarks.append(f"record {link.seq}, {link.fields.get('at')}: {_told(details)}")

    def _check_beginning(self) -> None:
        """A log that does not begin with its first record has to tell that what was before was removed because it was old."""
        if self._began is None:
            return
        file, link = self._began
        is_first = link.seq == 1 and link.previous == START
        if not is_first and not self._is_told(link):
            self._fault(
                file.name, 1, f"the log begins with record {link.seq}, and does not tell where those before are"
            )

    def _is_told(self, link: Link) -> bool:
        """That what was before this line was removed, perhaps not all of it yet: whoever removes files may be killed in between."""
        return any(
            link.seq - 1 < through or (link.seq - 1, link.previous) == (through, hash) for through, hash in self._pruned
        )

    def _check_reached(self, point: Head) -> None:
        """A point of the chain that no line was."""
        end = self._before.seq if self._before else 0
        if end < point.seq:
            reason = f"the log ends with record {end}, and had come to {point.seq}: its end was cut"
        elif self._began is not None and point.seq < self._began[1].seq:
            return  # removed since, because it was old
        else:
            reason = f"record {point.seq} is not the one that was there"
        self._fault("the log", 0, reason)

    def _fault(self, file: str, line: int, reason: str) -> None:
        if len(self._report.faults) < _MOST_FAULTS:
            self._report.faults.append(Fault(file, line, reason))


def _lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Each with its newline; one that is too long comes in pieces, of which none is a line of ours."""
    while line := read(MOST_LINE + 2):
        yield line


def _out_of_order(link: Link, before: Head) -> str:
    if link.seq == before.seq + 1:
        return f"it does not follow record {before.seq}: that is not the line that was there"
    return f"record {link.seq} follows record {before.seq}: lines are missing, or in another order"


def _told(details: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" if name != "what" else str(value) for name, value in details.items())
