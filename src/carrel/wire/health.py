"""`GET /.carrel/health`: how a server is, as JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from carrel import __version__
from carrel.models import Level, PoolStatus, Vitals
from carrel.store.records import PoolRecord
from carrel.troubles import Trouble
from carrel.wire import jsons
from carrel.wire.times import timestamp

_KERNEL = f"{platform.system()} {platform.release()}"  # asked while files can be read
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class HostHealth:
    is_there: bool
    took_ms: float  # to answer


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """A pool as it is kept, the boundary in force, and what the host says of it; None where it says nothing."""

    record: PoolRecord
    level: Level | None
    status: PoolStatus | None


@dataclass(frozen=True, slots=True)
class StoreHealth:
    engine: str
    size_bytes: int | None  # None where it does not answer


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """What belongs to no pool. Processes by their ids; `passed_over` are levels with reason and advice."""

    supervisor: int
    gateway: int
    host: Vitals | None
    store: StoreHealth
    certificate_ends: float
    signing_keys: int
    newest_key_made: float
    passed_over: Sequence[tuple[str, str, str]]
    warnings: Sequence[str]
    audit: (
        tuple[bool, int] | None
    )  # whether its log keeps up, records that are not known to be written; None where none is kept
    traces: tuple[int, int, int] | None  # spans that were sent, lost, that wait; None where traces are off


@dataclass(frozen=True, slots=True)
class Report:
    started_at: float
    host: HostHealth
    pools: Sequence[PoolHealth]
    troubles: Sequence[Trouble]
    server: ServerHealth | None  # None for callers that may only see some pools


def encode_health(report: Report, now: float) -> bytes:
    fields = {
        "status": "healthy" if _is_well(report) else "degraded",
        "version": __version__,
        "startedAt": timestamp(report.started_at),
        "uptimeSeconds": max(0, round(now - report.started_at)),
        "host": {
            "healthy": report.host.is_there,
            "answeredInMs": report.host.took_ms if report.host.is_there else None,
        },
        "pools": [_pool(each) for each in report.pools],
        "errors": [_trouble(each) for each in report.troubles],
    }
    return jsons.encode(fields if report.server is None else fields | _server(report, report.server, now))


def _is_well(report: Report) -> bool:
    if not report.host.is_there or any(_error(each) for each in report.pools):
        return False
    server = report.server
    return server is None or (server.store.size_bytes is not None and (server.audit is None or server.audit[0]))


def _server(report: Report, server: ServerHealth, now: float) -> dict[str, Any]:
    host = server.host
    return {
        "python": platform.python_version(),
        "kernel": _KERNEL,
        "processes": [
            {"name": "supervisor", "pid": server.supervisor, "state": "running"},
            {"name": "gateway", "pid": server.gateway, "state": "running"},
            {"name": "host", "pid": host.pid if host else None, "state": "running" if host else "away"},
        ],
        "host": {
            "healthy": report.host.is_there,
            "answeredInMs": report.host.took_ms if host else None,
            "version": host.version if host else None,
            "startedAt": timestamp(host.started_at) if host else None,
            "peakMemoryBytes": host.peak_memory_bytes if host else None,
            "maximumSandboxes": host.maximum_sandboxes if host else None,
        },
        "store": {
            "engine": server.store.engine,
            "healthy": server.store.size_bytes is not None,
            "sizeBytes": server.store.size_bytes,
        },
        "certificate": {
            "endsAt": timestamp(server.certificate_ends),
            "daysLeft": int((server.certificate_ends - now) // _DAY_S),
        },
        "signingKeys": {
            "count": server.signing_keys,
            "newestAt": timestamp(server.newest_key_made),
            "newestAgeDays": int(max(0.0, now - server.newest_key_made) // _DAY_S) if server.newest_key_made else None,
        },
        "audit": None if server.audit is None else dict(zip(("healthy", "waiting"), server.audit, strict=True)),
        "traces": None if server.traces is None else dict(zip(("sent", "lost", "waiting"), server.traces, strict=True)),
        "isolation": {
            "passedOver": [
                {"level": level, "reason": reason, "advice": advice or None}
                for level, reason, advice in server.passed_over
            ],
            "warnings": list(server.warnings),
        },
    }


def _pool(pool: PoolHealth) -> dict[str, Any]:
    status = pool.status
    counts = {name: getattr(status, name) if status else None for name in ("warm", "starting", "live", "failed")}
    return {
        "id": pool.record.id.resource_id,
        "name": pool.record.id.name,
        "state": pool.record.state,
        "isolation": pool.level,
        "weaknesses": list(status.weaknesses) if status else [],
        "error": _error(pool),
        "preparing": status.preparing if status else None,
        **counts,
        "ready": status.spec.ready if status else None,
        "maximum": status.spec.maximum if status else None,
        "short": _is_short(status) if status else None,
    }


def _error(pool: PoolHealth) -> str | None:
    return (pool.status.error if pool.status else None) or pool.record.error or None


def _is_short(status: PoolStatus) -> bool:
    """Whether fewer sandboxes stand ready than are to, and there is room for more."""
    return status.warm < min(status.spec.ready, status.spec.maximum - status.live)


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return {
        "at": timestamp(trouble.at),
        "part": trouble.part,
        "trace": trouble.trace or None,
        "route": trouble.route or None,
        "pool": trouble.pool or None,
        "code": trouble.code,
        "message": trouble.message,
    }
