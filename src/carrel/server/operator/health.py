"""`GET /.carrel/health`: how this server is, for those who run it, and how their pools are, for those who use them."""

from __future__ import annotations

import asyncio
import time

from carrel.errors import HostUnavailable
from carrel.models import PoolStatus
from carrel.server.operator.call import OperatorCall
from carrel.wire import health as wire

_HOST_S = 2.0


async def show(call: OperatorCall) -> None:
    """Answers also while the host is away: that is when somebody asks."""
    statuses, took_ms = await _ask(call)
    pools = [wire.PoolHealth(each.record, each.level, (statuses or {}).get(each.key)) for each in call.pools()]
    keys = {each.record.id.key(call.services.config) for each in pools}
    troubles = [each for each in call.services.troubles.last() if call.sees_all or each.pool in keys]
    host = wire.HostHealth(statuses is not None, took_ms)
    await call.reply(200, wire.encode_health(call.services.started_at, host, pools, troubles))


async def _ask(call: OperatorCall) -> tuple[dict[str, PoolStatus] | None, float]:
    """What the host says of its pools, None where it says nothing, and how long that took."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_HOST_S):
            found = {each.spec.name: each for each in await call.services.link.pools()}
    except (TimeoutError, HostUnavailable):
        return None, 0.0
    return found, round((time.perf_counter() - began) * 1000, 2)
