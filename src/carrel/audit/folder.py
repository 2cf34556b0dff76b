"""The folder of the log: its files by name, in order. A file's name says which record it begins with, and when that was."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import datetime

KEY = "audit.key"  # in the folder of keys
FOLDER = "audit"  # in the state folder
LOCK = "lock"

_NAME = re.compile(r"audit-(\d{12,})-(\d{8}T\d{6}Z)\.jsonl")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of the log. They sort as they were written."""

    first: int  # the number of its first record
    began: str  # in UTC
    name: str

    @classmethod
    def begun(cls, first: int, now: float) -> File:
        began = time.strftime(_STAMP, time.gmtime(now))
        return cls(first, began, f"audit-{first:012d}-{began}.jsonl")

    @property
    def began_at(self) -> float:
        # Not by time.strptime, which imports a module when it is first called: an auditor that runs can import none.
        return datetime.fromisoformat(self.began).timestamp()


def files(descriptor: int) -> list[File]:
    """Those of the folder that `descriptor` is, the oldest first."""
    names = os.listdir(descriptor)
    found = [(name, match) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(File(int(match[1]), match[2], name) for name, match in found)


def opened(descriptor: int, name: str, flags: int, mode: int = 0o600) -> int:
    """Open a file of the folder, never what a link there leads to."""
    return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=descriptor)
