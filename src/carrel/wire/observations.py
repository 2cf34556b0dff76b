"""How a pool is and what its sessions use, on the wire: routes of ours, which Azure has nothing like."""

from __future__ import annotations

from typing import Any

from carrel.models import PoolStatus
from carrel.observations import Minute, Quantiles, Report, Row
from carrel.wire import jsons
from carrel.wire.times import timestamp


def encode_status(name: str, status: PoolStatus, report: Report) -> bytes:
    spec, totals = status.spec, report.totals
    return jsons.encode(
        {
            "name": name,
            "runtime": spec.container_type,
            "isolation": status.isolation,
            "weaknesses": list(status.weaknesses),
            "error": status.error,
            "preparing": status.preparing,
            "network": spec.network,
            "warm": status.warm,
            "starting": status.starting,
            "live": status.live,
            "failed": status.failed,
            "maximum": spec.maximum,
            "ready": spec.ready,
            "createdAt": timestamp(status.created_at),
            "totals": {
                "executions": totals.executions,
                "failures": totals.failures,
                "sessions": totals.sessions,
                "bytesIn": totals.bytes_in,
                "bytesOut": totals.bytes_out,
            },
            "minutes": [_minute(each) for each in report.minutes],
        }
    )


def encode_table(rows: list[Row], next_link: str | None) -> bytes:
    return jsons.encode({"value": [_row(each) for each in rows], "nextLink": next_link})


def _minute(minute: Minute) -> dict[str, Any]:
    return {
        "at": timestamp(minute.at),
        "executions": minute.executions,
        "failures": minute.failures,
        "sessions": minute.sessions,
        "firstCallMs": _quantiles(minute.first_call),
        "executionMs": _quantiles(minute.execution),
    }


def _quantiles(found: Quantiles | None) -> dict[str, float] | None:
    return None if found is None else {"p50": found.p50, "p99": found.p99}


def _row(row: Row) -> dict[str, Any]:
    return {
        "identifier": row.identifier,
        "createdAt": timestamp(row.created_at),
        "lastUsedAt": timestamp(row.last_used_at),
        "expiresAt": timestamp(row.expires_at),
        "state": row.state,
        "executions": row.executions,
        "lastStatus": row.last_status,
        "cpuMs": row.cpu_ms,
        "memoryBytes": row.memory_bytes,
        "diskBytes": row.disk_bytes,
    }
