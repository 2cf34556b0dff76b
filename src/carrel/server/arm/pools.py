"""Session pools: what Microsoft.App/sessionPools answers.

A definition is read against what the pool is now, and written only over that (`if_etag`): of two changes at once the later one is read
again against the earlier one's outcome, so none is lost, and a condition of the caller's holds for what it is written over.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from carrel.arm_errors import (
    BeingDeleted,
    NameInvalid,
    PreconditionFailed,
    PropertyInvalid,
    ReadyInvalid,
    ResourceNotFound,
)
from carrel.errors import ConditionNotMet
from carrel.models import Condition
from carrel.pool_settings import ConfigError
from carrel.roles import POOL_DELETE, POOL_READ, POOL_WRITE
from carrel.server.arm import operations
from carrel.server.arm.call import ArmCall
from carrel.server.arm.conditions import check, condition_of
from carrel.server.arm.encoding import described, encoded_pool
from carrel.server.pools import Pool
from carrel.store.records import PoolId, PoolRecord
from carrel.wire.arm_pools import Definition, decode_patch, decode_put
from carrel.wire.conditions import etag_header

_KIND = "Microsoft.App/sessionPools"
_NAME = re.compile(r"[a-z](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")
_WHERE = re.compile(r"\[pools\.[^]]*\] ([\w.]+):? ?")  # how the configuration's messages begin
_TRIES = 20

_TOO_MANY = "The session pool is changed by too many at once: try again."


@dataclass(frozen=True, slots=True)
class Written:
    """A pool after somebody wanted to change it."""

    pool: Pool
    is_new: bool
    is_changed: bool = True


Decode = Callable[[PoolRecord | None], Definition]


async def show(call: ArmCall) -> None:
    pool = await found(call, POOL_READ)
    await call.reply(200, encoded_pool(call, pool), [_etag(pool)])


async def put(call: ArmCall) -> None:
    """201 for a pool that is made, 200 for one that was there; what is there already, unchanged, starts nothing."""
    id = call.pool_id()
    call.require(POOL_WRITE, id.resource_id)
    body = await call.body()
    async with call.services.deletions.keep_group(call.config.subscription, id.resource_group) as group:
        id = PoolId(group.subscription, group.name, id.name)
        done = await _written(call, id, lambda current: decode_put(body, call.version, call.config.location, current))
    await _told(call, done, "put", 201 if done.is_new else 200)


async def patch(call: ArmCall) -> None:
    """202 for a change, 200 for none."""
    id = (await found(call, POOL_WRITE)).record.id
    body = await call.body()

    def decode(current: PoolRecord | None) -> Definition:
        if current is None:
            raise missing(id)
        return decode_patch(body, call.config.location, current)

    await _told(call, await _written(call, id, decode), "patch", 202)


async def delete(call: ArmCall) -> None:
    """202, or 204 where there is none: 200 is an error to Azure's clients."""
    id = call.pool_id()
    call.require(POOL_DELETE, id.resource_id)
    condition = condition_of(call)
    for _ in range(_TRIES):
        pool = call.services.pools.get(id)
        check(condition, pool.record.etag if pool else None)
        try:
            is_there = await call.services.pools.delete(id, if_etag=_demanded(condition, pool))
        except ConditionNotMet:
            continue  # somebody was faster: look again
        if not is_there:
            return await call.reply(204)
        return await call.reply(202, b"", await operations.begun(call, "delete", pool.record.id if pool else id))
    raise PreconditionFailed(_TOO_MANY)


async def listing(call: ArmCall) -> None:
    await call.reply_page(await seen(call), lambda pool: pool.record.id.lower, lambda pool: described(call, pool))


async def seen(call: ArmCall) -> list[Pool]:
    """Those that the caller may read, of the path's group or of the subscription. Raises AuthorizationFailed, GroupNotFound."""
    name = call.names.get("group")
    call.require_sight(call.subscription_id if name is None else call.group_id)
    if name is not None:
        name = (await call.group(name)).name.lower()
    principal, access = call.exchange.caller()
    return [
        pool
        for pool in call.services.pools.list()
        if name in (None, pool.record.id.resource_group.lower())
        and access.may(principal, POOL_READ, pool.record.id.resource_id)
    ]


async def found(call: ArmCall, action: str) -> Pool:
    """The pool of the path. Raises AuthorizationFailed first, so that nobody learns of what it may not see."""
    id = call.pool_id()
    call.require(action, id.resource_id)
    pool = call.services.pools.get(id)
    if pool is None:
        await call.group(id.resource_group)
        raise missing(id)
    return pool


def missing(id: PoolId) -> ResourceNotFound:
    return ResourceNotFound(
        f"The Resource '{_KIND}/{id.name}' under resource group '{id.resource_group}' was not found.", target=id.name
    )


async def _written(call: ArmCall, id: PoolId, decode: Decode) -> Written:
    """The pool after the change, or as it is where nothing changes."""
    condition = condition_of(call)
    for _ in range(_TRIES):
        pool = call.services.pools.get(id)
        check(condition, pool.record.etag if pool else None)
        _check_changeable(id, pool)
        definition = decode(pool.record if pool else None)
        if pool is not None and definition.equals(pool.record) and pool.record.state != "Failed":
            return Written(pool, is_new=False, is_changed=False)
        try:
            record = _record(call, id, pool, definition)
            written = await call.services.pools.put(record, if_etag=pool.record.etag if pool else "")
            return Written(written, is_new=pool is None)
        except ConditionNotMet:
            continue  # somebody was faster: read it again
        except ConfigError as error:
            raise _fault(error) from error
    raise PreconditionFailed(_TOO_MANY)


def _check_changeable(id: PoolId, pool: Pool | None) -> None:
    if pool is not None and pool.record.state == "Deleting":
        raise BeingDeleted(f"The session pool '{id.name}' is being deleted: try again once it is gone.")
    if pool is None and not _NAME.fullmatch(id.name):
        raise NameInvalid(
            "A session pool's name has 3 to 63 lower-case letters, digits and hyphens, begins with a letter, ends "
            "with a letter or digit and has no two hyphens in a row.",
            target="name",
        )


async def _told(call: ArmCall, done: Written, kind: str, status: int) -> None:
    """The reply to a change: with an operation, where there was one."""
    pool, headers = done.pool, [_etag(done.pool)]
    if done.is_changed:
        headers += await operations.begun(call, kind, pool.record.id)
    await call.reply(status if done.is_changed else 200, encoded_pool(call, pool), headers)


def _demanded(condition: Condition, pool: Pool | None) -> str | None:
    """The tag that a pool has to have still when it is deleted; None where the caller did not ask for any."""
    is_free = condition.if_match is None and condition.if_none_match is None
    return None if is_free or pool is None else pool.record.etag


def _record(call: ArmCall, id: PoolId, pool: Pool | None, definition: Definition) -> PoolRecord:
    stamp, etag = call.stamp(time.time()), uuid.uuid4().hex
    created = pool.record.created if pool else stamp
    return PoolRecord(
        id=pool.record.id if pool else id,
        location=definition.location,
        tags=definition.tags,
        properties=definition.properties,
        created=created,
        modified=stamp,
        etag=etag,
        secrets=definition.secrets,
    )


def _fault(error: ConfigError) -> PropertyInvalid | ReadyInvalid:
    """What values are wrong together, in the words of the configuration, which know the table only."""
    found = _WHERE.match(str(error))
    text = str(error)[found.end() :] if found else str(error)
    if found is None:
        return PropertyInvalid(text[:500], target="properties")
    path = f"properties.{found[1]}"
    kind = ReadyInvalid if path.endswith("readySessionInstances") else PropertyInvalid
    return kind(f"'{path}': {text}"[:500], target=path)


def _etag(pool: Pool) -> tuple[bytes, bytes]:
    return etag_header(pool.record.etag)
