"""The routes for whoever watches a pool. None of them allocates a session, and looking does not count as use."""

from __future__ import annotations

from carrel.errors import PoolNotFound
from carrel.models import PoolStatus
from carrel.observations import Report
from carrel.server.call import PAGE, Call
from carrel.server.pools import Pool
from carrel.wire.observations import encode_status, encode_table


async def status(call: Call) -> None:
    """`GET .carrel/status`."""
    pool = call.pools.by_key(call.pool.name)
    if pool is None:
        raise PoolNotFound("This session pool has been deleted meanwhile.")
    found = await call.pools.status(pool) or _coming(pool)
    reports = await call.link.observe(pool.key)
    await call.exchange.reply(200, encode_status(pool.record.id.name, found, reports.get(pool.key, Report())))


async def sessions(call: Call) -> None:
    """`GET .carrel/sessions`."""
    skip = call.skip()
    rows, total = await call.link.table(call.pool.name, skip, PAGE)
    next_link = call.next_link(".carrel/sessions", skip + len(rows), total) if rows else None
    await call.exchange.reply(200, encode_table(rows, next_link))


def _coming(pool: Pool) -> PoolStatus:
    """One that the host has not heard of yet."""
    return PoolStatus(pool.spec, 0, 0, 0, pool.record.created.at, preparing="its isolation level is being tried")
