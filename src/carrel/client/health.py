"""How a server says it is (`Management.health`): beyond Azure, for Carrel's own servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from carrel.client.calls import Call


@dataclass(frozen=True, slots=True)
class ServerError:
    """Something that went wrong lately. `trace` is the id that its caller was told, and that the log has; None where it was no call."""

    at: str
    part: str  # gateway or host
    code: str
    message: str
    trace: str | None = None
    route: str | None = None
    pool: str | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        optional = {name: fields.get(name) for name in ("trace", "route", "pool")}
        return cls(fields["at"], fields.get("part", ""), fields["code"], fields["message"], **optional)


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """Counts are None while the host does not answer. `is_short`: fewer sandboxes stand ready than are to."""

    id: str
    name: str
    state: str
    isolation: str | None
    error: str | None
    preparing: str | None
    warm: int | None
    starting: int | None
    live: int | None
    failed: int | None
    is_short: bool | None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        names = ("isolation", "error", "preparing", "warm", "starting", "live", "failed")
        optional = {name: fields.get(name) for name in names}
        return cls(fields["id"], fields["name"], fields["state"], **optional, is_short=fields.get("short"))


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`status` is healthy or degraded. `resource` is the whole reply: what belongs to no pool is told only to those who see all."""

    status: str
    version: str
    started_at: str
    host_is_there: bool
    pools: tuple[PoolHealth, ...]
    errors: tuple[ServerError, ...]  # the newest last
    resource: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        return cls(
            fields["status"],
            fields["version"],
            fields["startedAt"],
            bool(fields["host"]["healthy"]),
            tuple(PoolHealth.parse(each) for each in fields["pools"]),
            tuple(ServerError.parse(each) for each in fields["errors"]),
            fields,
        )


def health() -> Call[ServerHealth]:
    def read(response: httpx.Response) -> ServerHealth:
        return ServerHealth.parse(response.json())

    return Call("GET", ".carrel/health", read, version="")
