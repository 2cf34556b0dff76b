"""The operator plane's operations, by method and route (server/operator/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import Operation, json_of
from carrel.wire.openapi.schemas import FLAG, TEXT, TIME, WHOLE, Schema, array, or_null, record

ERRORS = (400, 401, 403, 503)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/.carrel/health"): Operation(
        "How the server and its pools are, and its last errors.", {200: json_of("ServerHealth")}, errors=ERRORS
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
    }
)
_TROUBLE = record({"at": TIME, "trace": TEXT, "route": TEXT, "pool": or_null(TEXT), "code": TEXT, "message": TEXT})

SCHEMAS: dict[str, Schema] = {
    "ServerHealth": record(
        {
            "version": TEXT,
            "startedAt": TIME,
            "host": record({"healthy": FLAG, "answeredInMs": or_null({"type": "number"})}),
            "pools": array(_POOL),
            "errors": array(_TROUBLE),
        }
    ),
}
PARAMETERS: dict[str, Schema] = {}
