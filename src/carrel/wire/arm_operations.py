"""Long-running operations as those see them who ask how they go."""

from __future__ import annotations

from carrel.store.records import OperationRecord
from carrel.wire import jsons
from carrel.wire.times import timestamp


def encode_operation(record: OperationRecord, resource_id: str, path: str) -> bytes:
    """`status` is what pollers look for. `path` is the operation's own."""
    body: dict[str, object] = {
        "id": path,
        "name": record.id,
        "resourceId": resource_id,
        "status": record.state,
        "startTime": timestamp(record.started_at),
    }
    if record.ended_at is not None:
        body["endTime"] = timestamp(record.ended_at)
    if record.error:
        body["error"] = {"code": "SessionPoolProvisioningFailed", "message": record.error}
    return jsons.encode(body)
