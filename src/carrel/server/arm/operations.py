"""Long-running operations: begun here, kept in the store, and over when the pool is what it was to become.

What a pool is doing stands in its record (server/pools.py sees to that, over restarts too). So an operation has no task of its own: whoever
asks is told by the record, and the answer is written down once it is final. A group's deletion is a task (group_deletion.py), which
writes its end itself.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from carrel.arm_errors import OperationNotFound, ProvisioningFailed
from carrel.roles import GROUP_READ, POOL_READ
from carrel.server.arm.call import ArmCall
from carrel.server.arm.encoding import encoded_pool
from carrel.server.exchange import Headers
from carrel.server.pools import Pool, Pools
from carrel.store.records import OperationRecord, PoolId
from carrel.wire.arm_operations import encode_operation

_DELETE = "delete"
_RETRY: tuple[bytes, bytes] = (b"retry-after", b"1")  # without it, Azure's SDKs wait for 30 seconds


def started(call: ArmCall, kind: str, pool: PoolId | None = None, target: str = "") -> OperationRecord:
    """A new operation of this caller's."""
    principal, _ = call.exchange.caller()
    return OperationRecord(str(uuid.uuid4()), pool, kind, "InProgress", time.time(), target=target, by=principal.id)


async def begun(call: ArmCall, kind: str, pool: PoolId) -> Headers:
    """Keep a new operation on a pool. What a reply says of it: where to ask, and when."""
    record = started(call, kind, pool)
    await call.services.store.run(lambda books: books.operations.put(record))
    return headers_of(call, record)


def headers_of(call: ArmCall, record: OperationRecord) -> Headers:
    status, result = (call.link(_path(call, record, word)).encode() for word in ("Statuses", "Results"))
    return [(b"azure-asyncoperation", status), (b"location", result), _RETRY]


def _path(call: ArmCall, record: OperationRecord, word: str) -> str:
    where = f"{call.subscription_id}/providers/Microsoft.App/locations/{call.location}"
    return (
        f"{where}/operation{word}/{record.id}" if record.pool else f"{call.subscription_id}/operation{word}/{record.id}"
    )


async def status(call: ArmCall) -> None:
    """What `Azure-AsyncOperation` leads to."""
    record = await _found(call)
    resource = record.pool.resource_id if record.pool else record.target
    over: Headers = [] if record.ended_at is not None else [_RETRY]
    await call.reply(200, encode_operation(record, resource, call.path), over)


async def result(call: ArmCall) -> None:
    """What `Location` leads to: 202 while it goes on, then what came of it."""
    record = await _found(call)
    if record.ended_at is None:
        return await call.reply(202, b"", [(b"location", call.link(_path(call, record, "Results")).encode()), _RETRY])
    if record.state != "Succeeded":
        raise ProvisioningFailed(record.error or f"The operation was {record.state.lower()}.")
    if record.kind == _DELETE or record.pool is None:
        return await call.reply(204 if record.pool else 200)
    call.require(
        POOL_READ, record.pool.resource_id
    )  # who began it may have lost that since, and the pool may be another
    return await call.reply(200, encoded_pool(call, call.services.pools.find(record.pool)))


async def _found(call: ArmCall) -> OperationRecord:
    """The operation as it stands. Those may ask who began it, and who may read what it is about; others are told that there is none."""
    id = call.names["operation"]
    record = await call.services.store.run(lambda books: books.operations.get(id))
    principal, access = call.exchange.caller()
    if record is None or not (
        record.by.lower() == principal.id.lower()
        or (record.pool and access.may(principal, POOL_READ, record.pool.resource_id))
        or (record.target and access.may(principal, GROUP_READ, record.target))
    ):
        raise OperationNotFound("There is no such operation, or it was over long ago.", target="operation")
    settled = settle(record, call.services.pools, time.time())
    if settled is not record:
        await call.services.store.run(lambda books: books.operations.put(settled))
    return settled


def settle(record: OperationRecord, pools: Pools, now: float) -> OperationRecord:
    """With its end, where the pool says that it is over."""
    if record.ended_at is not None or record.pool is None:
        return record
    state, error = _outcome(record, pools.get(record.pool))
    return record if state == "InProgress" else replace(record, state=state, error=error, ended_at=now)


def _outcome(record: OperationRecord, pool: Pool | None) -> tuple[str, str]:
    if record.kind == _DELETE:
        is_another = pool is not None and pool.record.created.at > record.started_at
        return ("InProgress", "") if pool is not None and not is_another else ("Succeeded", "")
    if pool is None or pool.record.state == "Deleting":
        return "Canceled", "The session pool was deleted meanwhile."
    return pool.record.state, pool.record.error
