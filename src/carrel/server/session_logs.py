"""The route of a pool's session log: what was executed in it, newest first. Looking counts as no use."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from urllib.parse import quote, urlencode

from carrel.errors import HostUnavailable
from carrel.server.call import Call
from carrel.server.drain import Drain
from carrel.store import LogFilter, LogRecord, PoolId, Store
from carrel.wire.session_logs import decode_log_filter, encode_logs
from carrel.wire.times import timestamp

PAGE = 50  # records, which may have 100 kB each


class SessionLogs:
    """What of them is in the store; first, all is taken there that callers were answered."""

    def __init__(self, store: Store, drain: Drain) -> None:
        self._store, self._drain = store, drain

    async def page(self, pool: PoolId, wanted: LogFilter, skip: int) -> list[LogRecord]:
        with contextlib.suppress(HostUnavailable):
            await self._drain.now()
        return await self._store.run(lambda books: books.logs.page(pool, wanted, skip, PAGE))


async def show(call: Call) -> None:
    """`GET .carrel/logs`."""
    # The moment is that of the first page: what is added meanwhile moves nothing from one page to the next.
    until = math.ceil(time.time() * 1000) / 1000
    wanted, skip = decode_log_filter(call.query), call.skip()
    wanted = replace(wanted, end=until if wanted.end is None else wanted.end)
    pool = PoolId(call.target.subscription, call.target.resource_group, call.target.pool)
    records = await call.logs.page(pool, wanted, skip)
    link = _next_link(call, until, skip + PAGE) if len(records) == PAGE else None
    await call.exchange.reply(200, encode_logs(call.pool, records, link))


def _next_link(call: Call, until: float, skip: int) -> str:
    given = {name: call.query[name] for name in ("identifier", "status", "from", "to") if call.query.get(name)}
    query = {"to": timestamp(until), **given, "skip": str(skip), "api-version": call.version.name}
    return call.link_to(f".carrel/logs?{urlencode(query, quote_via=quote)}")
