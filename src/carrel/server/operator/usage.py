"""`GET /.carrel/usage`: what the pools that the caller may read have used, those that are gone too."""

from __future__ import annotations

import contextlib
import time
from datetime import date
from functools import partial

from carrel.errors import HostUnavailable, RequestInvalid
from carrel.server.access import MCP_KEY
from carrel.server.operator.call import OperatorCall
from carrel.store import Transaction, UsageFilter, UsageSum
from carrel.wire import usage as wire


async def show(call: OperatorCall) -> None:
    """All that was answered before this was asked is in it, as long as the host is there."""
    query = wire.decode_usage_query(call.query, wire.today_of(time.time()))
    with contextlib.suppress(HostUnavailable):
        await call.services.drain.now()
    names = await call.services.store.run(_names)
    rows = wire.ordered((await _sums(call, query)).values())
    if _wants_csv(call):
        name = f"usage-{query.first}-{query.last}.csv".encode()
        headers = [(b"content-disposition", b'attachment; filename="%s"' % name)]
        body = wire.encode_usage_csv(query, rows, names)
        return await call.exchange.reply(200, body, headers, (b"content-type", b"text/csv; charset=utf-8"))
    return await call.reply(200, wire.encode_usage(query, rows, names))


def _wants_csv(call: OperatorCall) -> bool:
    """By Accept, or for a link, which cannot say that, by `format=csv`."""
    wanted = call.query.get("format", "").lower()
    if wanted not in ("", "json", "csv"):
        raise RequestInvalid("'format' is json or csv.", target="format")
    accepted = (call.exchange.header(b"accept") or "").lower()
    return wanted == "csv" or (not wanted and "text/csv" in accepted)


async def _sums(call: OperatorCall, query: wire.UsageQuery) -> dict[wire.Key, UsageSum]:
    """Week by week: others have their turns at the store, and neither it nor we hold years of rows at once."""
    store = call.services.store
    there, span = await store.run(lambda books: (books.usage.pools(), books.usage.days()))
    seen = [each for each in there if call.may(each.resource_id)]
    # By their names, unless the right is for all that there may be by then.
    pools = None if call.sees_all and len(seen) == len(there) else seen
    rows: dict[wire.Key, UsageSum] = {}
    if not seen or span is None:
        return rows
    first, last = (date.fromisoformat(day) for day in span)
    for begin, end in wire.weeks(max(query.first, first), min(query.last, last)):
        wanted = UsageFilter(begin, end, pools, query.groups)
        wire.added(rows, await store.run(partial(_week, wanted=wanted)))
    return rows


def _week(books: Transaction, wanted: UsageFilter) -> list[UsageSum]:
    return books.usage.summed(wanted, wire.MAX_ROWS + 1)


def _names(books: Transaction) -> dict[str, str]:
    """Of principals, by their ids in lower case."""
    names = {each.id.lower(): each.display_name or each.user_name for each in books.principals.list()}
    return {"mcp-key": f"MCP {MCP_KEY.lower()}", **{id: name for id, name in names.items() if name}}
