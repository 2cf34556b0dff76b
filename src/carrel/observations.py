"""What a host has seen of a pool: numbers of things and of times, as its host counts them, and as anybody reads them.

Times are counted in buckets that grow by a constant factor, eight to each doubling, so that a quantile is within some four per cent
whatever the times are, a count costs well below a microsecond, and adding up is adding. Only buckets with something in them take memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MINUTES = 60  # that are kept
_STEPS = 8  # buckets to each doubling
_LEAST_MS, _MOST_MS = 2.0**-4, 2.0**24  # 62 µs and 4.7 hours: what is below or above counts as that


class Histogram:
    """Times in milliseconds. Bucket `i` holds those above 2 ** ((i - 1) / 8) and up to 2 ** (i / 8)."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self, counts: Mapping[int, int] | None = None, sum_ms: float = 0.0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.sum_ms = sum_ms

    def add(self, ms: float) -> None:
        bucket = math.ceil(math.log2(min(max(ms, _LEAST_MS), _MOST_MS)) * _STEPS)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.sum_ms += ms

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def up_to(self, doublings: int) -> int:
        """How many took 2 ** `doublings` milliseconds at the most."""
        return sum(count for bucket, count in self.counts.items() if bucket <= doublings * _STEPS)

    def quantile(self, part: float) -> float:
        """Milliseconds that `part` of them took at the most, from the middle of its bucket. Of none: 0."""
        wanted = math.ceil(part * self.count)
        for bucket in sorted(self.counts):
            wanted -= self.counts[bucket]
            if wanted <= 0:
                return round(math.exp2((bucket - 0.5) / _STEPS), 2)
        return 0.0

    def quantiles(self) -> Quantiles | None:
        return Quantiles(self.quantile(0.5), self.quantile(0.99)) if self.counts else None

    def to_json(self) -> dict[str, Any]:
        return {"counts": {str(bucket): count for bucket, count in self.counts.items()}, "sum_ms": self.sum_ms}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Histogram:
        return cls({int(bucket): count for bucket, count in fields["counts"].items()}, fields["sum_ms"])


@dataclass(frozen=True, slots=True)
class Quantiles:
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Minute:
    """What was over, or begun, within one minute. `first_call` is from a new session's first call to its result, `execution` the
    code's own time."""

    at: float
    executions: int = 0
    failures: int = 0
    sessions: int = 0
    first_call: Quantiles | None = None
    execution: Quantiles | None = None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Minute:
        times = {name: None if (each := fields[name]) is None else Quantiles(**each) for name in _TIMES}
        return cls(**{**fields, **times})


_TIMES = ("first_call", "execution")


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the host began. A failure is an execution that ended by an error, at its limit or with its interpreter; not one canceled."""

    executions: int = 0
    failures: int = 0
    sessions: int = 0
    bytes_in: int = 0  # code, variables and uploads
    bytes_out: int = 0  # what code printed, returned and displayed, and downloads


@dataclass(frozen=True, slots=True)
class Report:
    """A pool's totals, and its last minutes, the newest last."""

    totals: Totals = Totals()
    minutes: tuple[Minute, ...] = ()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Report:
        return cls(Totals(**fields["totals"]), tuple(map(Minute.from_json, fields["minutes"])))


@dataclass(frozen=True, slots=True)
class Row:
    """A session as an operator sees it: what it has used since it began; None where nobody measures that."""

    identifier: str
    created_at: float
    last_used_at: float
    expires_at: float
    state: str
    executions: int = 0
    last_status: str | None = None
    cpu_ms: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
