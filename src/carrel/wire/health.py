"""`GET /.carrel/health`: how a server is, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carrel import __version__
from carrel.models import Level, PoolStatus
from carrel.store.records import PoolRecord
from carrel.troubles import Trouble
from carrel.wire import jsons
from carrel.wire.times import timestamp


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


def encode_health(
    started_at: float, host: HostHealth, pools: Iterable[PoolHealth], troubles: Iterable[Trouble]
) -> bytes:
    return jsons.encode(
        {
            "version": __version__,
            "startedAt": timestamp(started_at),
            "host": {"healthy": host.is_there, "answeredInMs": host.took_ms if host.is_there else None},
            "pools": [_pool(each) for each in pools],
            "errors": [_trouble(each) for each in troubles],
        }
    )


def _pool(pool: PoolHealth) -> dict[str, Any]:
    status = pool.status
    return {
        "id": pool.record.id.resource_id,
        "name": pool.record.id.name,
        "state": pool.record.state,
        "isolation": pool.level,
        "weaknesses": list(status.weaknesses) if status else [],
        "error": (status.error if status else None) or pool.record.error or None,
        "preparing": status.preparing if status else None,
        "warm": status.warm if status else None,
        "starting": status.starting if status else None,
        "live": status.live if status else None,
    }


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return {
        "at": timestamp(trouble.at),
        "trace": trouble.trace,
        "route": trouble.route,
        "pool": trouble.pool or None,
        "code": trouble.code,
        "message": trouble.message,
    }
