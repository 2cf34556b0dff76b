"""The control plane inside the middlewares: from path and query to an ArmCall, in the order in which errors take precedence.

Route (404), method (405), api-version (400), subscription (404); then the handler asks for the right (403) before it looks for anything.
"""

from __future__ import annotations

import re
import uuid

from carrel.arm_errors import SubscriptionNotFound
from carrel.audiences import Plane
from carrel.errors import RouteNotFound
from carrel.server.arm.call import ArmCall, Services
from carrel.server.arm.routes import ROUTES
from carrel.server.asgi import Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange
from carrel.server.request import decode_query
from carrel.server.route_table import begins_with, find
from carrel.wire import arm_paths
from carrel.wire.arm_versions import decode_version

_FIRST = (b"subscriptions", b"tenants", b"providers")
_ID = re.compile(r"[\x21-\x7e]{1,128}")  # what we repeat of the caller's: nothing that could end a header


def is_arm(raw_path: bytes) -> bool:
    """Whether a path, which is no pool's endpoint, is the control plane's."""
    return begins_with(_FIRST, raw_path)


class ArmPlane:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        exchange.extra = _ids(exchange)
        exchange.caller()[0].require_audience(Plane.ARM)
        segments = arm_paths.split(scope["raw_path"])
        found = find(ROUTES, segments)
        if found is None:
            raise RouteNotFound(
                "There is nothing at this path of the control plane. The reference lists what is served."
            )
        route, names = found
        exchange.route = route.pattern.text
        exchange.versions = ", ".join(route.versions).encode()
        handler = route.handler(exchange.method)
        query = decode_query(scope["query_string"])
        version = decode_version(query.get("api-version"), route.versions)
        self._check_subscription(names.get("subscription"))
        exchange.version = version
        path = scope["raw_path"].decode("ascii", "replace")
        await exchange.intend()
        await handler(ArmCall(exchange, names, query, version, self._services, path))

    def _check_subscription(self, name: str | None) -> None:
        if name is not None and name.lower() != self._services.config.subscription.lower():
            raise SubscriptionNotFound("There is no such subscription here. GET /subscriptions tells the one there is.")


def _ids(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """What correlates a reply with its request, in Azure's headers: the caller's words where they are fit for a header."""
    headers = []
    client = exchange.header(b"x-ms-client-request-id")
    if client is not None and _ID.fullmatch(client):
        headers.append((b"x-ms-client-request-id", client.encode("ascii")))
    correlation = exchange.header(b"x-ms-correlation-request-id")
    if correlation is None or not _ID.fullmatch(correlation):
        correlation = str(uuid.UUID(exchange.trace_id))
    return [*headers, (b"x-ms-correlation-request-id", correlation.encode("ascii"))]
