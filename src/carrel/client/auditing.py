"""The audit log of a Carrel server: its records, and how they are asked for. Beyond Azure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from carrel.client import arm
from carrel.client.calls import Call


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what. `fields` is the whole record as it was told."""

    seq: int
    at: str  # UTC
    action: str
    outcome: str  # Succeeded, Failed, Refused, Accepted, Begun, Abandoned
    principal: str = ""  # its object id
    pool: str = ""  # GROUP/NAME
    session: str = ""  # a digest of its identifier
    status: int = 0
    trace: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        texts = {name: str(fields.get(name, "")) for name in ("at", "action", "outcome", "pool", "session", "trace")}
        return cls(
            seq=int(fields["seq"]),
            principal=str(fields.get("name") or fields.get("principal", "")),
            status=int(fields.get("status", 0)),
            details=fields.get("details", {}),
            fields=fields,
            **texts,
        )


def records(
    *,
    since: datetime | str | None,
    until: datetime | str | None,
    is_newest_first: bool,
    **compared: str | None,
) -> Call[arm.Page[AuditRecord]]:
    query = {name: value for name, value in compared.items() if value}
    query |= {name: _moment(value) for name, value in (("since", since), ("until", until)) if value}
    query["order"] = "desc" if is_newest_first else "asc"
    return Call("GET", ".carrel/audit", arm.page(AuditRecord.parse), query, version="")


def _moment(value: datetime | str) -> str:
    if isinstance(value, str):
        return value
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
