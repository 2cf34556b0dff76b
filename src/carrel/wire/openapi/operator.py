"""The operator plane's operations, by method and route (server/operator/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import JSON, Content, Operation, json_of
from carrel.wire.openapi.schemas import FLAG, TEXT, TIME, WHOLE, Schema, array, or_null, query, record

_ASKED = {
    "since": "From this moment on (ISO 8601).",
    "until": "Before this moment.",
    "pool": "Of this pool: its name, or group and name.",
    "principal": "By this principal: its object id, or its name.",
    "action": "This action, or all that begin with this word.",
    "outcome": "With this outcome.",
    "session": "In this session, by its digest.",
    "trace": "Of the call with this id.",
    "order": "`desc` (the newest first) or `asc`.",
    "limit": "Records of a page, 1 to 300.",
    "cursor": "Where the page before ended, as its `nextLink` has it.",
}
_NUMBERS = ("limit", "cursor")
ERRORS = (400, 401, 403, 503)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/.carrel/audit"): Operation(
        "The audit log: who did what, and what came of it.",
        {200: json_of("AuditPage")},
        parameters=tuple(f"audit-{name}" for name in _ASKED),
        errors=(*ERRORS, 404),
    ),
    ("GET", "/.carrel/health"): Operation(
        "How the server and its pools are, and its last errors.", {200: json_of("ServerHealth")}, errors=ERRORS
    ),
    ("GET", "/.carrel/usage"): Operation(
        "What sessions have used, by pool, principal and day.",
        {200: Content({JSON: "Usage", "text/csv": "Text"})},
        ("usage-from", "usage-to", "usage-group-by", "usage-format"),
        errors=ERRORS,
    ),
}

_POOL = record(
    {
        "id": TEXT,
        "name": TEXT,
        "state": TEXT,
        "isolation": or_null(TEXT),
        "weaknesses": array(TEXT),
        "error": or_null(TEXT),
        "preparing": or_null(TEXT),
        "warm": or_null(WHOLE),
        "starting": or_null(WHOLE),
        "live": or_null(WHOLE),
        "failed": or_null(WHOLE),
        "ready": or_null(WHOLE),
        "maximum": or_null(WHOLE),
        "short": or_null(FLAG),
    }
)
_TROUBLE = record(
    {
        "at": TIME,
        "part": TEXT,
        "trace": or_null(TEXT),
        "route": or_null(TEXT),
        "pool": or_null(TEXT),
        "code": TEXT,
        "message": TEXT,
    }
)
_HOST = record(
    {"healthy": FLAG, "answeredInMs": or_null({"type": "number"})},
    version=or_null(TEXT),
    startedAt=or_null(TIME),
    peakMemoryBytes=or_null(WHOLE),
    maximumSandboxes=or_null(WHOLE),
)
_PROCESS = record({"name": TEXT, "pid": or_null(WHOLE), "state": TEXT})
_PASSED = record({"level": TEXT, "reason": TEXT, "advice": or_null(TEXT)})

_SECONDS: Schema = {"type": "number", "minimum": 0}
_FIGURES: dict[str, Schema] = {
    "sessionSeconds": _SECONDS,
    "cpuSeconds": _SECONDS,
    **dict.fromkeys(("sessions", "peakSessions", "executions", "failedExecutions", "bytesIn", "bytesOut"), WHOLE),
}
_USED = record(
    {"pool": TEXT, "poolId": TEXT, "principal": TEXT, "principalName": or_null(TEXT), "day": TEXT, **_FIGURES}
)
_USED = {**_USED, "required": list(_FIGURES)}  # the others where the rows are grouped by them

_RECORD = {
    "type": "object",
    "required": ["seq", "at", "action", "outcome", "previous", "hash"],
    "properties": {
        **dict.fromkeys(("seq", "status"), WHOLE),
        "at": TIME,
        **dict.fromkeys(
            (
                *("id", "action", "outcome", "code", "route", "principal", "name", "kind", "client", "peer", "trace"),
                *("pool", "resource", "session", "previous", "hash"),
            ),
            TEXT,
        ),
        "isBound": FLAG,
        "details": {"type": "object"},
    },
}
SCHEMAS: dict[str, Schema] = {
    "AuditPage": record({"value": array(_RECORD), "nextLink": or_null(TEXT)}),
    "Usage": record(
        {"from": TEXT, "to": TEXT, "groupBy": array(TEXT), "value": array(_USED), "total": record(_FIGURES)}
    ),
    "ServerHealth": record(
        {
            "status": {"enum": ["healthy", "degraded"]},
            "version": TEXT,
            "startedAt": TIME,
            "uptimeSeconds": WHOLE,
            "host": _HOST,
            "pools": array(_POOL),
            "errors": array(_TROUBLE),
        },
        python=TEXT,
        kernel=TEXT,
        processes=array(_PROCESS),
        store=record({"engine": TEXT, "healthy": FLAG, "sizeBytes": or_null(WHOLE)}),
        certificate=record({"endsAt": TIME, "daysLeft": {"type": "integer"}}),
        signingKeys=record({"count": WHOLE, "newestAt": TIME, "newestAgeDays": or_null(WHOLE)}),
        audit=or_null(record({"healthy": FLAG, "waiting": WHOLE})),
        traces=or_null(record({"sent": WHOLE, "lost": WHOLE, "waiting": WHOLE})),
        isolation=record({"passedOver": array(_PASSED), "warnings": array(TEXT)}),
    ),
}
_DAY: Schema = {"type": "string", "format": "date"}
PARAMETERS: dict[str, Schema] = {
    "usage-from": query("from", _DAY),
    "usage-to": query("to", _DAY),
    "usage-group-by": query(
        "groupBy", {"type": "string", "pattern": "^(pool|principal|day)?(,(pool|principal|day))*$"}
    ),
    "usage-format": query("format", {"type": "string", "enum": ["json", "csv"]}),
    **{
        f"audit-{name}": {
            "name": name,
            "in": "query",
            "description": words,
            "schema": WHOLE if name in _NUMBERS else TEXT,
        }
        for name, words in _ASKED.items()
    },
}
