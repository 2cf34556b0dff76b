"""All resources of a group or of the subscription, whatever they are: session pools, since there is nothing else.

Terraform asks for them before it deletes a group, and `az resource list` shows them.
"""

from __future__ import annotations

from carrel.server.arm.call import ArmCall
from carrel.server.arm.pools import seen
from carrel.wire.arm_pool_resource import brief_resource
from carrel.wire.arm_resources import decode_resource_filter


async def listing(call: ArmCall) -> None:
    """Those that the caller may read and that `$filter` wants."""
    records = [pool.record for pool in await seen(call)]
    wanted = decode_resource_filter(call.query.get("$filter"))
    records = [each for each in records if wanted.takes(brief_resource(each))]
    await call.reply_page(records, lambda record: record.id.lower, brief_resource)
