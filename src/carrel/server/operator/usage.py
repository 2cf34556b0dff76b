"""`GET /.carrel/usage`: what the pools that the caller may read have used, those that are gone too."""

from __future__ import annotations

import contextlib
import time
from functools import partial

from carrel.errors import HostUnavailable, RequestInvalid
from carrel.server.access import MCP_KEY
from carrel.server.operator.call import OperatorCall
from carrel.store import Transaction, UsageRecord
from carrel.wire import usage as wire


async def show(call: OperatorCall) -> None:
    """All that was answered before this was asked is in it, as long as the host is there."""
    query = wire.decode_usage_query(call.query, wire.today_of(time.time()))
    with contextlib.suppress(HostUnavailable):
        await call.services.drain.now()
    records, names = await call.services.store.run(partial(_read, query=query))
    seen = {each: call.may(each.resource_id) for each in {record.pool for record in records}}
    rows = wire.grouped([each for each in records if seen[each.pool]], query.groups)
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


def _read(books: Transaction, query: wire.UsageQuery) -> tuple[list[UsageRecord], dict[str, str]]:
    """Rows, and names of principals by their ids in lower case."""
    names = {each.id.lower(): each.display_name or each.user_name for each in books.principals.list()}
    records = books.usage.between(query.first.isoformat(), query.last.isoformat())
    return records, {"mcp-key": f"MCP {MCP_KEY.lower()}", **{id: name for id, name in names.items() if name}}
