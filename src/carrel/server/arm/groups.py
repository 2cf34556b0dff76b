"""Resource groups."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from carrel.roles import GROUP_DELETE, GROUP_READ, GROUP_WRITE
from carrel.server.arm import operations
from carrel.server.arm.call import ArmCall, no_group
from carrel.server.arm.conditions import check, condition_of
from carrel.store.records import GroupRecord
from carrel.store.transaction import Transaction
from carrel.wire.arm_groups import (
    GroupDefinition,
    check_name,
    decode_patch,
    decode_put,
    encode_group,
    group_resource,
)
from carrel.wire.arm_resources import decode_resource_filter
from carrel.wire.conditions import etag_header


async def listing(call: ArmCall) -> None:
    """Those that the caller may read."""
    principal, access = call.exchange.caller()
    groups = await call.services.store.run(lambda books: books.groups.list(call.subscription))
    seen = [each for each in groups if access.may(principal, GROUP_READ, each.id)]
    wanted = decode_resource_filter(call.query.get("$filter"))
    seen = [each for each in seen if wanted.takes(group_resource(each, ""))]
    await call.reply_page(
        seen, lambda group: group.id.lower(), lambda group: group_resource(group, _state(call, group))
    )


async def show(call: ArmCall) -> None:
    call.require(GROUP_READ, call.group_id)
    await _reply(call, 200, await call.group(call.names["group"]))


async def exists(call: ArmCall) -> None:
    """204, or 404: there is no body to tell more."""
    call.require(GROUP_READ, call.group_id)
    await call.group(call.names["group"])
    await call.reply(204)


async def put(call: ArmCall) -> None:
    """201 for one that is made, 200 for one that was there."""
    name = call.names["group"]
    call.require(GROUP_WRITE, call.group_id)
    check_name(name)
    body = await call.body()
    call.services.deletions.check(call.subscription, name)

    condition = condition_of(call)

    def write(books: Transaction) -> tuple[GroupRecord, bool]:
        current = books.groups.get(call.subscription, name)
        check(condition, current.etag if current else None)
        return _kept(call, books, name, current, decode_put(body, call.config.location, current)), current is None

    record, is_new = await call.services.store.run(write)
    await _reply(call, 201 if is_new else 200, record)


async def patch(call: ArmCall) -> None:
    name = call.names["group"]
    call.require(GROUP_WRITE, call.group_id)
    body = await call.body()
    call.services.deletions.check(call.subscription, name)

    condition = condition_of(call)

    def write(books: Transaction) -> GroupRecord:
        current = books.groups.get(call.subscription, name)
        if current is None:
            raise no_group(name)
        check(condition, current.etag)
        return _kept(call, books, name, current, decode_patch(body, call.config.location, current))

    await _reply(call, 200, await call.services.store.run(write))


async def delete(call: ArmCall) -> None:
    """202: its pools, with their sessions, and the rights given at it or below go with it."""
    call.require(GROUP_DELETE, call.group_id)
    record = await call.group(call.names["group"])
    check(condition_of(call), record.etag)
    operation = operations.started(call, "delete", target=record.id)
    await call.services.deletions.begin(record, operation)
    headers = operations.headers_of(call, operation)
    await call.reply(202, b"", [each for each in headers if each[0] != b"azure-asyncoperation"])


def _kept(
    call: ArmCall, books: Transaction, name: str, current: GroupRecord | None, definition: GroupDefinition
) -> GroupRecord:
    stamp, etag = call.stamp(time.time()), uuid.uuid4().hex
    if current is None:
        where = (call.subscription, name, definition.location)
        record = GroupRecord(*where, tags=definition.tags, created=stamp, modified=stamp, etag=etag)
    elif dict(current.tags) == dict(definition.tags):
        return current
    else:
        record = replace(current, tags=definition.tags, modified=stamp, etag=etag)
    books.groups.put(record)
    return record


async def _reply(call: ArmCall, status: int, record: GroupRecord) -> None:
    await call.reply(status, encode_group(record, _state(call, record)), [etag_header(record.etag)])


def _state(call: ArmCall, record: GroupRecord) -> str:
    return "Deleting" if call.services.deletions.is_going(record.subscription, record.name) else "Succeeded"
