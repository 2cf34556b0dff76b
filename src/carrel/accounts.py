"""What sessions have used, and records of executions: as the host notes them, and as the gateway takes them into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

DAY_S = 86_400
MOST = 2**53 - 1  # of any sum of a day: what every reader of JSON takes, and a thousand of them add up in a database
EVERYBODY = "*"  # in the place of a principal: of all of a pool's sessions together


@dataclass(slots=True)
class Sums:
    """All of them add up, but for the peak."""

    session_us: int = 0  # microseconds that sessions lived
    cpu_us: int = 0  # of processors
    sessions: int = 0  # that began
    executions: int = 0  # that are over
    failed: int = 0  # of these
    bytes_in: int = 0  # code, variables and uploads
    bytes_out: int = 0  # what code printed, returned and displayed, and downloads
    peak: int = 0  # sessions that lived at one moment

    def add(self, other: Sums) -> None:
        for name in _ADDED:
            setattr(self, name, min(getattr(self, name) + getattr(other, name), MOST))
        self.peak = min(max(self.peak, other.peak), MOST)


NAMES = tuple(field.name for field in fields(Sums))
_ADDED = tuple(name for name in NAMES if name != "peak")


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used of a pool, as its host calls it, by a principal, on a day, counted from 1970-01-01 UTC."""

    pool: str
    principal: str
    day: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Logged:
    """An execution in a session log. `fields` are plain JSON values, for who reads the log (docs/guides/session-logs.md)."""

    pool: str
    at: float  # when it was over
    keep_s: int
    identifier: str
    principal: str
    status: str
    fields: Mapping[str, Any]


Entry = Spent | Logged
