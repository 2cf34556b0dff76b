"""The operator plane inside the middlewares: from path and query to an OperatorCall. Its tokens are the control plane's.

Token's audience (401), route (404), method (405), right (403); then the handler reads the query.
"""

from __future__ import annotations

from carrel.audiences import Plane
from carrel.errors import RouteNotFound
from carrel.server.asgi import Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange
from carrel.server.operator.call import OperatorCall, OperatorServices
from carrel.server.operator.routes import ROUTES
from carrel.server.request import decode_query
from carrel.server.route_table import begins_with, find
from carrel.wire import arm_paths

_FIRST = (b".carrel",)


def is_operator(raw_path: bytes) -> bool:
    """Whether a path, which is no pool's endpoint, is the operator plane's."""
    return begins_with(_FIRST, raw_path)


class OperatorPlane:
    def __init__(self, services: OperatorServices) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        exchange.caller()[0].require_audience(Plane.ARM)
        found = find(ROUTES, arm_paths.split(scope["raw_path"]))
        if found is None:
            raise RouteNotFound(
                "There is nothing at this path of the operator plane. The reference lists what is served."
            )
        route, _names = found
        exchange.route = route.pattern.text
        served = route.handler(exchange.method)
        call = OperatorCall(exchange, decode_query(scope["query_string"]), served.action, self._services)
        call.require()
        await served.handler(call)
