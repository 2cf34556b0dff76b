"""What `carrel top` shows, as plain values: two looks at a server, and what has happened between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrel.client import Client, Management, PoolStatus, SessionPool, SessionRow
    from carrel.client.observing import Minute

SORTS = ("cpu", "memory", "executions", "idle", "name")


@dataclass(frozen=True, slots=True)
class PoolLine:
    """Rates are of the time between the looks, latencies those of the newest minute that has any; None where nobody knows."""

    name: str
    resource_group: str
    isolation: str | None
    warm: int = 0
    starting: int = 0
    live: int = 0
    failed: int = 0
    maximum: int = 0
    executions: int = 0
    executions_per_second: float | None = None
    failures_per_second: float | None = None
    first_call_p99_ms: float | None = None
    execution_p50_ms: float | None = None
    execution_p99_ms: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class SessionLine:
    """`cpu_percent` is of one processor; `cpu_ms` and the rest are since the session began."""

    pool: str
    identifier: str
    state: str
    cpu_percent: float | None
    cpu_ms: float | None
    memory_bytes: int | None
    disk_bytes: int | None
    executions: int
    last_status: str | None
    idle_s: float
    expires_in_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: float
    pools: tuple[PoolLine, ...]
    sessions: tuple[SessionLine, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at)),
            "pools": [_camel(asdict(each)) for each in self.pools],
            "sessions": [_camel(asdict(each)) for each in self.sessions],
        }


def ordered(sessions: tuple[SessionLine, ...], sort: str) -> list[SessionLine]:
    """The largest first, of which there is no figure last; those longest used ago last."""
    keys: dict[str, Callable[[SessionLine], tuple[float, ...]]] = {
        "cpu": lambda each: (-(each.cpu_percent or 0.0), -(each.cpu_ms or 0.0)),
        "memory": lambda each: (-(each.memory_bytes or 0),),
        "executions": lambda each: (-each.executions,),
        "idle": lambda each: (each.idle_s,),
        "name": lambda each: (),
    }
    return sorted(sessions, key=lambda each: (*keys[sort](each), each.pool, each.identifier))


class Sampler:
    """Looks at the pools of a server, or at some; leaves its connections with the block that it is used in."""

    def __init__(self, management: Management, pool: str | None, resource_group: str | None) -> None:
        self._management = management
        self._pool, self._group = pool, resource_group
        self._clients: dict[str, Client] = {}
        self._open = contextlib.ExitStack()
        self._executions: dict[str, tuple[float, int, int]] = {}  # of each pool: when, executions, failures
        self._cpu: dict[tuple[str, str, float], tuple[float, float]] = {}  # of each session: when, milliseconds

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def look(self) -> Snapshot:
        """Raises ApiError and httpx's errors where the server as a whole does not answer; a pool that does not says so in its line."""
        pools, sessions = [], []
        cpu: dict[tuple[str, str, float], tuple[float, float]] = {}
        for pool in self._pools():
            line, rows = self._look_at(pool)
            pools.append(line)
            now = time.monotonic()
            for row in rows:
                key = (pool.id, row.identifier, row.created_at.timestamp())
                sessions.append(_session(line.name, row, self._percent(key, row.cpu_ms, now)))
                if row.cpu_ms is not None:
                    cpu[key] = now, row.cpu_ms
        self._cpu = cpu  # of those that live: the others are not asked for again
        return Snapshot(time.time(), tuple(pools), tuple(sessions))

    def _pools(self) -> Iterator[SessionPool]:
        if self._pool is not None:
            yield self._management.pool(self._pool, resource_group=self._group)
            return
        yield from sorted(self._management.pools(resource_group=self._group), key=lambda each: (each.name, each.id))

    def _look_at(self, pool: SessionPool) -> tuple[PoolLine, list[SessionRow]]:
        from carrel.client import ApiError

        try:
            client = self._client(pool)
            status = client.status()
            return self._line(pool, status), client.table()
        except ApiError as error:
            if error.status == 401:
                raise
            return PoolLine(pool.name, pool.resource_group, None, message=f"{error.code}: {error.message}"), []

    def _client(self, pool: SessionPool) -> Client:
        if pool.id not in self._clients:
            client = self._management.client(pool.name, resource_group=pool.resource_group)
            self._clients[pool.id] = self._open.enter_context(client)
        return self._clients[pool.id]

    def _line(self, pool: SessionPool, status: PoolStatus) -> PoolLine:
        now, totals = time.monotonic(), status.totals
        before = self._executions.get(pool.id)
        self._executions[pool.id] = now, totals.executions, totals.failures
        rates: tuple[float | None, float | None] = (None, None)
        if before is not None and totals.executions >= before[1]:  # fewer: the host was started anew
            since = max(now - before[0], 0.001)
            rates = round((totals.executions - before[1]) / since, 2), round((totals.failures - before[2]) / since, 2)
        newest = _newest(status)
        first, execution = (newest.first_call, newest.execution) if newest else (None, None)
        return PoolLine(
            pool.name,
            pool.resource_group,
            status.isolation,
            status.warm,
            status.starting,
            status.live,
            status.failed,
            status.maximum,
            totals.executions,
            *rates,
            None if first is None else first.p99,
            None if execution is None else execution.p50,
            None if execution is None else execution.p99,
            status.error or status.preparing or "",
        )

    def _percent(self, key: tuple[str, str, float], cpu_ms: float | None, now: float) -> float | None:
        before = self._cpu.get(key)
        if before is None or cpu_ms is None:
            return None
        return round(max(0.0, cpu_ms - before[1]) / max(now - before[0], 0.001) / 10, 1)


def _newest(status: PoolStatus) -> Minute | None:
    return next((each for each in reversed(status.minutes) if each.execution), None)


def _session(pool: str, row: SessionRow, percent: float | None) -> SessionLine:
    now = time.time()
    return SessionLine(
        pool,
        row.identifier,
        row.state,
        percent,
        row.cpu_ms,
        row.memory_bytes,
        row.disk_bytes,
        row.executions,
        row.last_status,
        round(max(0.0, now - row.last_used_at.timestamp()), 1),
        round(max(0.0, row.expires_at.timestamp() - now), 1),
    )


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    def name(words: str) -> str:
        first, *rest = words.split("_")
        return first + "".join(each.title() for each in rest)

    return {name(key): value for key, value in fields.items()}
