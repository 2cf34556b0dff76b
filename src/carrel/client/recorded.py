"""What a server has recorded: usage by pool, principal and day, and pools' session logs. Beyond Azure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

from carrel.client.call import Call

BY = ("pool", "principal", "day")


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used. What the rows are not grouped by is None; seconds are of sessions' lives and of processors."""

    session_seconds: float
    cpu_seconds: float
    sessions: int
    peak_sessions: int
    executions: int
    failed_executions: int
    bytes_in: int
    bytes_out: int
    pool: str | None = None
    pool_id: str | None = None
    principal: str | None = None
    principal_name: str | None = None  # where it is known
    day: date | None = None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        day = body.get("day")
        return cls(
            session_seconds=body["sessionSeconds"],
            cpu_seconds=body["cpuSeconds"],
            sessions=body["sessions"],
            peak_sessions=body["peakSessions"],
            executions=body["executions"],
            failed_executions=body["failedExecutions"],
            bytes_in=body["bytesIn"],
            bytes_out=body["bytesOut"],
            pool=body.get("pool"),
            pool_id=body.get("poolId"),
            principal=body.get("principal"),
            principal_name=body.get("principalName"),
            day=date.fromisoformat(day) if day else None,
        )


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Of some days, both included. `total` is of all rows; `resource` is what was told."""

    first: date
    last: date
    rows: tuple[UsageRow, ...]
    total: UsageRow
    resource: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        first, last = (date.fromisoformat(body[name]) for name in ("from", "to"))
        return cls(first, last, tuple(map(UsageRow.parse, body["value"])), UsageRow.parse(body["total"]), body)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """An execution in a session log. What the pool's setting leaves out is None; `cut` names texts that were longer."""

    record: str  # its own name
    at: datetime  # when it was over
    identifier: str
    principal: str  # the object id of who called
    status: str  # Succeeded, Failed, Canceled
    outcome: str
    id: str  # the execution's
    session: str  # the session's GUID
    kind: str  # code or shell
    wall_ms: float
    cpu_ms: float | None
    bytes_in: int
    bytes_out: int
    code_sha256: str | None
    code: str | None
    stdout: str | None
    stderr: str | None
    result: str | None
    cut: tuple[str, ...]
    resource: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        texts: dict[str, Any] = {name: body.get(name) for name in _TEXTS}
        return cls(
            at=datetime.fromisoformat(body["at"]),
            wall_ms=body["wallMs"],
            cpu_ms=body["cpuMs"],
            bytes_in=body["bytesIn"],
            bytes_out=body["bytesOut"],
            code_sha256=body["codeSha256"],
            cut=tuple(body.get("cut", ())),
            resource=body,
            **{name: body[name] for name in _NAMES},
            **texts,
        )


_NAMES = ("record", "identifier", "principal", "status", "outcome", "id", "session", "kind")
_TEXTS = ("code", "stdout", "stderr", "result")


def usage(first: date | None, last: date | None, by: Sequence[str] | None) -> Call[UsageReport]:
    return Call(
        "GET", ".carrel/usage", lambda reply: UsageReport.parse(reply.json()), _wanted(first, last, by), version=""
    )


def usage_csv(first: date | None, last: date | None, by: Sequence[str] | None) -> Call[str]:
    query = {**_wanted(first, last, by), "format": "csv"}
    return Call("GET", ".carrel/usage", lambda reply: reply.text, query, version="")


def _wanted(first: date | None, last: date | None, by: Sequence[str] | None) -> dict[str, str]:
    days = {"from": first, "to": last}
    query = {name: day.isoformat() for name, day in days.items() if day is not None}
    return query if by is None else {**query, "groupBy": ",".join(by)}


@dataclass(frozen=True, slots=True)
class LogPage:
    """`following` is the query of the next page; None of the last."""

    records: tuple[LogRecord, ...]
    kept: str  # what the pool keeps: off, metadata, code, full
    following: dict[str, str] | None


def log_query(
    identifier: str | None, status: str | None, since: datetime | None, until: datetime | None
) -> dict[str, str]:
    given = {"identifier": identifier, "status": status, "from": _moment(since), "to": _moment(until)}
    return {name: value for name, value in given.items() if value is not None}


def log_page(query: dict[str, str]) -> Call[LogPage]:
    return Call("GET", ".carrel/logs", _page(query), query)


def _page(query: dict[str, str]) -> Callable[[httpx.Response], LogPage]:
    def read(reply: httpx.Response) -> LogPage:
        body = reply.json()
        following = None
        if body.get("nextLink"):
            told = parse_qs(urlsplit(body["nextLink"]).query)
            following = {**query, "to": told["to"][0], "skip": told["skip"][0]}
        return LogPage(tuple(map(LogRecord.parse, body["value"])), body["records"], following)

    return read


def _moment(at: datetime | None) -> str | None:
    """A time without a zone is the machine's own, as everywhere in Python."""
    return None if at is None else at.astimezone(UTC).isoformat()
