"""All resources of a group or of the subscription, whatever they are: session pools, since there is nothing else.

Terraform asks for them before it deletes a group, and `az resource list` shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from carrel.server.arm.call import ArmCall
from carrel.server.arm.pools import READ
from carrel.wire.arm_lists import encode_list, page_of
from carrel.wire.arm_pool_resource import brief_resource
from carrel.wire.arm_resources import ResourceFilter, decode_resource_filter

_PAGE = 1000


async def of_group(call: ArmCall) -> None:
    call.require_sight(call.group_id)
    name = (await call.group(call.names["group"])).name.lower()
    await _listing(call, lambda group: group == name)


async def of_subscription(call: ArmCall) -> None:
    call.require_sight(call.subscription_id)
    await _listing(call, lambda group: True)


async def _listing(call: ArmCall, is_wanted: Callable[[str], bool]) -> None:
    """Those that the caller may read and that `$filter` wants."""
    wanted: ResourceFilter = decode_resource_filter(call.query.get("$filter"))
    principal, access = call.exchange.caller()
    seen = [
        pool.record
        for pool in call.services.pools.list()
        if is_wanted(pool.record.id.resource_group.lower())
        and access.may(principal, READ, pool.record.id.resource_id)
        and wanted.takes(brief_resource(pool.record))
    ]
    token = call.query.get("$skiptoken")
    page, following = page_of(seen, lambda record: record.id.lower, token, call.whole("$top", _PAGE))
    values: list[dict[str, Any]] = [brief_resource(record) for record in page]
    await call.reply(200, encode_list(values, call.next_link(following)))
