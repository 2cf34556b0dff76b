"""`GET /.carrel/audit`: the audit log, as far as the caller may read it. The auditor reads the files; here it is seen to that the right is
there for each record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from carrel.errors import RouteNotFound
from carrel.server.operator.call import OperatorCall
from carrel.store import PoolId
from carrel.wire.audit import Question, decode_question, encode_page


async def show(call: OperatorCall) -> None:
    scribe = call.services.scribe
    if scribe is None:
        raise RouteNotFound("This server keeps no audit log: the setting audit is off.")
    question = decode_question(call.query)
    found = await scribe.ledger.ask(question.to_json())
    everything = call.sees_all
    records = [record for record in found["records"] if everything or _may(call, record)]
    await call.reply(200, encode_page(records, _next_link(call, question, found["cursor"])))


def _may(call: OperatorCall, record: Mapping[str, Any]) -> bool:
    """What belongs to no pool, group or subscription is for those who may read everything."""
    group, _, name = str(record.get("pool", "")).partition("/")
    if name:
        return call.may(PoolId(call.services.config.subscription, group, name).resource_id)
    resource = str(record.get("resource", ""))
    return resource.lower().startswith("/subscriptions/") and call.may(resource)


def _next_link(call: OperatorCall, question: Question, cursor: int | None) -> str | None:
    if cursor is None:
        return None
    query = {**question.filter.to_json(), "order": question.order, "limit": question.limit, "cursor": cursor}
    return f"{call.exchange.origin()}/.carrel/audit?{urlencode(query)}"
