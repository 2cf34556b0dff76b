"""`GET /metadata/endpoints`: what `az cloud register` and its like ask before anybody has a token."""

from __future__ import annotations

from carrel.server.exchange import Exchange
from carrel.server.request import decode_query
from carrel.wire.arm_subscriptions import encode_metadata


async def endpoints(exchange: Exchange) -> None:
    """By the name under which the caller reaches us, which is then that of everything it is told."""
    query = decode_query(exchange.scope["query_string"])
    await exchange.reply(200, encode_metadata(exchange.origin(), query.get("api-version", "")))
