"""Graph inside the middlewares, at `/v1.0` and at `/graph/v1.0` (the address of `/metadata/endpoints`), with errors in its shape."""

from __future__ import annotations

from carrel.audiences import Plane
from carrel.errors import CarrelError, RouteNotFound
from carrel.graph_errors import RequestDenied
from carrel.server.asgi import Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange
from carrel.server.graph.call import GraphCall, GraphServices
from carrel.server.graph.routes import find
from carrel.server.request import decode_query
from carrel.server.route_table import begins_with
from carrel.wire import arm_paths, graph

_FIRST = (b"graph", b"v1.0")


def is_graph(raw_path: bytes) -> bool:
    return begins_with(_FIRST, raw_path)


class GraphPlane:
    def __init__(self, services: GraphServices) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        try:
            await self._handle(exchange, scope)
        except CarrelError as error:
            if exchange.is_begun or error.status >= 500 or error.status == 401 or not exchange.has_all:
                raise  # the edge knows what to do with those
            await _answer(exchange, error)

    async def _handle(self, exchange: Exchange, scope: Scope) -> None:
        principal, _ = exchange.caller()
        principal.require_audience(Plane.GRAPH)
        segments = arm_paths.split(scope["raw_path"])
        prefix = ""
        if segments and segments[0].lower() == "graph":
            prefix = "/graph"
            del segments[0]
        found = find(segments)
        if found is None:
            raise RouteNotFound("There is nothing at this path of Graph. The reference lists what is served.")
        route, names = found
        exchange.route = route.pattern.text
        handler = route.handler(exchange.method)
        query = decode_query(scope["query_string"])
        base = f"{exchange.origin()}{prefix}/v1.0"
        await exchange.intend()
        await handler(GraphCall(exchange, names, query, self._services, base))


async def _answer(exchange: Exchange, error: CarrelError) -> None:
    exchange.fault = error.code
    """In Graph's shape and, of what is refused everywhere, in Graph's words."""
    if error.status == 403 and not isinstance(error, RequestDenied):
        error = RequestDenied("Insufficient privileges to complete the operation.")
    body = graph.encode_error(error, exchange.trace_id, exchange.header(b"client-request-id"))
    extra = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()]
    await exchange.reply(error.status, body, [(b"x-ms-error-code", error.code.encode()), *extra])
