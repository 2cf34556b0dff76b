"""How a pool is and what its sessions use, as the client returns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds that half of them took at the most, and 99 of a hundred; to within some four per cent."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a pool. `first_call` is from a new session's first call to its result, `execution` the code's own."""

    at: datetime
    executions: int
    failures: int
    sessions: int  # begun
    first_call: Times | None
    execution: Times | None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        first, execution = (None if body[key] is None else Times(**body[key]) for key in ("firstCallMs", "executionMs"))
        counts = (body["executions"], body["failures"], body["sessions"])
        return cls(datetime.fromisoformat(body["at"]), *counts, first, execution)


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the server's session host began."""

    executions: int
    failures: int
    sessions: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How a pool is now, and its last minutes, an hour at the most, the newest last."""

    name: str
    runtime: str
    isolation: str | None  # None where it is not served, `error` says why; or not yet, `preparing` says what is done
    weaknesses: tuple[str, ...]
    error: str | None
    preparing: str | None
    network: str  # none, listed or open
    warm: int
    starting: int
    live: int
    failed: int  # starts of sandboxes that did not work
    maximum: int
    ready: int
    created_at: datetime
    totals: Totals
    minutes: tuple[Minute, ...]

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        names = ("name", "runtime", "isolation", "error", "preparing", "network")
        numbers = ("warm", "starting", "live", "failed", "maximum", "ready")
        totals = body["totals"]
        return cls(
            **{name: body[name] for name in (*names, *numbers)},
            weaknesses=tuple(body["weaknesses"]),
            created_at=datetime.fromisoformat(body["createdAt"]),
            totals=Totals(
                totals["executions"],
                totals["failures"],
                totals["sessions"],
                totals["bytesIn"],
                totals["bytesOut"],
            ),
            minutes=tuple(map(Minute.parse, body["minutes"])),
        )


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session with what it has used since it began; None where nobody measures that."""

    identifier: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    state: str  # Idle, Running, Interrupting or Restarting
    executions: int
    last_status: str | None
    cpu_ms: float | None
    memory_bytes: int | None
    disk_bytes: int | None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        created, used, expires = (datetime.fromisoformat(body[key]) for key in ("createdAt", "lastUsedAt", "expiresAt"))
        figures = (body["cpuMs"], body["memoryBytes"], body["diskBytes"])
        return cls(
            body["identifier"], created, used, expires, body["state"], body["executions"], body["lastStatus"], *figures
        )


# What a notebook shows of each.
ROW_COLUMNS: list[tuple[str, Callable[[SessionRow], object]]] = [
    ("identifier", lambda row: row.identifier),
    ("state", lambda row: row.state),
    ("created", lambda row: f"{row.created_at:%Y-%m-%d %H:%M:%S}"),
    ("last used", lambda row: f"{row.last_used_at:%Y-%m-%d %H:%M:%S}"),
    ("expires", lambda row: f"{row.expires_at:%Y-%m-%d %H:%M:%S}"),
    ("executions", lambda row: row.executions),
    ("last status", lambda row: row.last_status or ""),
    ("cpu ms", lambda row: "" if row.cpu_ms is None else f"{row.cpu_ms:,.0f}"),
    ("memory bytes", lambda row: "" if row.memory_bytes is None else f"{row.memory_bytes:,}"),
    ("disk bytes", lambda row: "" if row.disk_bytes is None else f"{row.disk_bytes:,}"),
]
