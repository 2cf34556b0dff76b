"""Which requests are recorded, and the span that a request is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from carrel import tracing

if TYPE_CHECKING:
    from carrel.server.exchange import Exchange

_ALL = 1 << 64


class Tracer:
    """Parent-based: whose caller records is recorded, whose caller does not is not; of the rest, `ratio`.

    Without an outbox nothing is, and a caller's context goes on as it came.
    """

    def __init__(self, outbox: tracing.Outbox | None = None, ratio: float = 1.0) -> None:
        self._outbox = outbox
        self._bound = round(ratio * _ALL)  # as TraceIdRatioBased has it: other services decide alike for the same trace

    def begin(self, exchange: Exchange) -> Request | None:
        """The request's task is in its span from here on. None where it is not recorded."""
        told, request = exchange.call, None
        if self._outbox is not None:
            is_sampled = told.is_sampled if told.id else int(told.trace[16:], 16) < self._bound
            outbox = self._outbox if is_sampled else None
            exchange.call = told._replace(id=tracing.new_span(), flags=int(is_sampled), outbox=outbox)
            request = Request(told._replace(outbox=outbox)) if is_sampled else None
        tracing.enter(exchange.call)
        return request


class Request:
    """The span of a request, from its head to the end of its reply."""

    __slots__ = ("_begin", "_parent")

    def __init__(self, parent: tracing.Context) -> None:
        self._parent = parent
        self._begin = time.time_ns()

    def end(self, exchange: Exchange, fault: str) -> None:
        """No path, no name of a caller's and no address stands in it: the route's pattern, and a session by its digest."""
        method = exchange.method if exchange.method in METHODS else "_OTHER"
        attributes: dict[str, tracing.Value] = {
            "http.request.method": method,
            "http.route": exchange.route,
            "http.response.status_code": exchange.status,
            "url.scheme": exchange.scope["scheme"],
            "carrel.pool": exchange.pool,
            "carrel.session": exchange.session,
            "error.type": fault,
        }
        given = {name: value for name, value in attributes.items() if value}
        name = f"{method} {exchange.route}".rstrip()
        error = fault if exchange.status >= 500 or not exchange.is_done else ""
        tracing.record(self._parent, name, self._begin, given, "server", error, exchange.call.id)


METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
