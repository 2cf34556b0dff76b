"""The outermost middleware: every error becomes a reply here, every reply gets its common headers, every request its line in the log."""

from __future__ import annotations

import asyncio
import logging
import time

from carrel.errors import CarrelError, HostUnavailable
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.audit.scribe import Scribe
from carrel.server.exchange import KEY, CallerGone, Exchange, Headers
from carrel.server.metrics.requests import Requests
from carrel.server.telemetry.tracer import Tracer
from carrel.troubles import Troubles
from carrel.wire.sessions import encode_error

_log = logging.getLogger("carrel.access")

_SMALL_REST = 1024 * 1024  # an unread body of this size is read and dropped: cheaper for both than a new connection
_LINGER_S = 2.0
_LINGER_BYTES = 8 * 1024 * 1024


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        troubles: Troubles,
        requests: Requests,
        scribe: Scribe | None = None,
        tracer: Tracer | None = None,
        *,
        access_log: bool = False,
    ) -> None:
        """`access_log`: a line for each request, and not only for those that went wrong."""
        self._app = app
        self._requests = requests
        self._troubles = troubles
        self._scribe = scribe
        self._tracer = tracer or Tracer()
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = scope[KEY] = Exchange(scope, receive, send)
        span = self._tracer.begin(exchange)  # the task is this request's alone
        exchange.scribe = self._scribe
        fault = ""
        self._requests.in_flight += 1
        try:
            if self._scribe is not None:
                await self._scribe.admit(scope["path"])
            await self._app(scope, exchange.receive, exchange.send)
        except CarrelError as error:
            fault = error.code
            self._note(exchange, error)
            self._requests.refusal(error)
            await _answer(exchange, error)
        except CallerGone:
            fault = "CallerGone"
        except asyncio.CancelledError:
            fault = "Stopping"
            await _answer(
                exchange, HostUnavailable("The server is stopping. A running execution goes on: ask for it again.")
            )
            raise
        except (
            Exception
        ):  # the end of the line: anything unforeseen becomes a 500 with an id, and its traceback goes to the log
            fault = CarrelError.code
            _log.exception("unexpected error", extra={"trace": exchange.trace_id, "route": exchange.route})
            unforeseen = CarrelError("An unexpected error occurred. The server's log has it under this traceId.")
            self._note(exchange, unforeseen)
            await _answer(exchange, unforeseen)
        finally:
            self._requests.end(exchange)
            self._write_log(exchange, fault)
            if span is not None:
                span.end(exchange, fault)

    def _note(self, exchange: Exchange, error: CarrelError) -> None:
        """What went wrong on our side, for whoever asks how the server is."""
        if error.status >= 500:
            route = f"{exchange.method} {exchange.route or '?'}"
            self._troubles.note(error.code, error.message, trace=exchange.trace_id, route=route, pool=exchange.pool)

    def _write_log(self, exchange: Exchange, fault: str) -> None:
        """One line per request. No path, since identifiers and file names stand in it, and no header."""
        is_well = exchange.status < 500 and exchange.is_done
        if is_well and not self._access_log:
            return
        level = logging.INFO if is_well else logging.WARNING
        if not _log.isEnabledFor(level):
            return
        fields: dict[str, object] = {
            "method": exchange.method,
            "route": exchange.route or "?",
            "status": exchange.status,
            "ms": round((time.perf_counter() - exchange.started) * 1000, 2),
            "trace": exchange.trace_id,
        }
        optional = {"pool": exchange.pool, "session": exchange.session, "error": fault}
        _log.log(level, "request", extra=fields | {name: value for name, value in optional.items() if value})


async def _answer(exchange: Exchange, error: CarrelError) -> None:
    """The error as a reply. One that comes too late breaks the connection: returning without an end makes the server close it."""
    if exchange.is_begun:
        return
    exchange.fault = error.code
    body = encode_error(error, exchange.trace_id)
    headers: Headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-ms-error-code", error.code.encode()),
        *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()),
    ]
    if error.status == 429 and "Retry-After" not in error.headers:
        headers.append((b"retry-after", b"1"))
    length = exchange.content_length
    if exchange.has_all or (length is not None and length <= _SMALL_REST):
        await exchange.begin(error.status, headers)
        await exchange.send({"type": "http.response.body", "body": body, "more_body": False})
        return
    await exchange.begin(error.status, [*headers, (b"connection", b"close")])
    await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
    await _linger(exchange)
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(exchange: Exchange) -> None:
    """Drop what the caller still sends, for a moment: closing on unread data resets the connection, and many clients then report
    the reset instead of the answer that is already there (RFC 9112 §9.6)."""
    dropped = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            while dropped < _LINGER_BYTES and (piece := await exchange.chunk()) is not None:
                dropped += len(piece)
    except (TimeoutError, CallerGone, CarrelError):
        return
