"""`GET .carrel/logs`: a pool's session log, on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from carrel.errors import RequestInvalid
from carrel.models import PoolSpec, Status
from carrel.store import LogFilter, LogRecord
from carrel.wire import jsons
from carrel.wire.names import decode_identifier
from carrel.wire.times import timestamp

_OVER = tuple(each for each in Status if each.is_over)


def decode_log_filter(query: Mapping[str, str]) -> LogFilter:
    """Raises RequestInvalid."""
    status, identifier = query.get("status"), query.get("identifier")
    if status is not None and status not in _OVER:
        raise RequestInvalid(f"'status' is one of {', '.join(_OVER)}.", target="status")
    known = None if identifier is None else decode_identifier(identifier)
    return LogFilter(known, status, _time(query, "from"), _time(query, "to"))


def encode_logs(pool: PoolSpec, records: list[LogRecord], next_link: str | None) -> bytes:
    """`records` and `retentionInSeconds` are the pool's settings: an empty log says why it is empty."""
    told = {"value": [_record(each) for each in records], "nextLink": next_link}
    return jsons.encode({**told, "records": pool.logs, "retentionInSeconds": pool.log_retention})


def _record(record: LogRecord) -> dict[str, Any]:
    fields = dict(record.fields)
    if "result" in fields:
        fields["result"] = _result(fields["result"])
    head = {"record": record.id, "at": timestamp(record.at), "identifier": record.identifier}
    return {**head, "principal": record.principal, "status": record.status, **fields}


def _result(document: object) -> str | None:
    """The value as a person would read it. What came from a sandbox is hostile, and may have been cut."""
    try:
        found = json.loads(str(document)) if document else {}
        text = found.get("text") or ("" if found.get("json") is None else json.dumps(found["json"]))
        return str(text) or None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return str(document)


def _time(query: Mapping[str, str], name: str) -> float | None:
    """A moment such as 2026-11-22T17:00:00Z, or a day, which is its beginning in UTC."""
    text = query.get(name)
    if not text:
        return None
    try:
        if not text.isascii():
            raise ValueError
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        message = f"'{name}' is a day or a moment, such as 2026-11-22T17:00:00Z."
        raise RequestInvalid(message, target=name) from None
