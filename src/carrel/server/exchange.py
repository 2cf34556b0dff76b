"""One request and the reply to it, as the gateway's own code sees them.

The edge makes an Exchange from ASGI's three arguments and puts it into the scope; everything inside reads the request and writes the
reply through it. It keeps what the edge must know at the end: whether a reply was begun, how much of the body was read, what to log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from carrel import tracing
from carrel.errors import ContentTooLarge, MethodNotAllowed, RequestInvalid, RequestTimedOut, Unauthorized
from carrel.server.asgi import Message, Receive, Scope, Send
from carrel.wire.versions import SUPPORTED

if TYPE_CHECKING:
    from carrel.server.access import Access, Principal
    from carrel.server.audit.scribe import Scribe

KEY = "carrel.exchange"
BODY_IDLE_S = 60.0  # a caller that sends nothing for so long has lost its upload
BODY_PACE = 1024  # bytes a second that a caller has to keep on average, beyond the first BODY_IDLE_S: a trickle would last for ever
SEND_IDLE_S = 120.0  # a caller that takes nothing for so long has lost its download

Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json; charset=utf-8")
_SUPPORTED = SUPPORTED.encode()
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class CallerGone(Exception):
    """The caller closed the connection before its request was complete or its reply was: there is nobody to answer."""


class Exchange:
    """Not to be shared between tasks, but for `watch`, which may run beside writes; a write is whole, so two tasks may take turns."""

    __slots__ = (
        "_length",
        "_receive",
        "_send",
        "_waited",
        "access",
        "caching",
        "call",
        "check",
        "details",
        "extra",
        "fault",
        "has_all",
        "headers",
        "is_begun",
        "is_deferred",
        "is_done",
        "is_told",
        "isolation",
        "method",
        "place",
        "plane",
        "pool",
        "principal",
        "received",
        "route",
        "scope",
        "scribe",
        "sent",
        "session",
        "started",
        "status",
        "trace_id",
        "version",
        "versions",
        "written",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: Headers = scope["headers"]
        self.started = time.perf_counter()
        parent = self.header(b"traceparent")
        told = None if parent is None else tracing.parse(parent, self.header(b"tracestate"))
        self.call = told or tracing.Context(tracing.new_trace())
        self.trace_id = self.call.trace
        self.principal: Principal | None = None
        self.access: Access | None = None
        self.check: Callable[[], object] = (
            _nothing  # raises Forbidden, Unauthorized once this call would not be let in any more
        )
        self.status = 0
        self.is_begun = False  # the reply's headers are out
        self.is_done = False  # the whole reply is out
        self.route = ""  # for the access log: the pattern, never the path, which holds names
        self.pool = ""
        self.session = ""
        self.fault = ""  # the code of an error that is the reply
        self.scribe: Scribe | None = None  # who records the call
        self.is_told = False  # its reply was recorded, as far as it is
        self.details: dict[str, object] = {}  # for the record: what handlers know of it
        self.place: tuple[str, str] | None = None  # group and name of the pool in the path, be there such a one or not
        self.is_deferred = False  # a handler records it, once it is over
        self.versions = _SUPPORTED  # of the api, that the route takes
        self.extra: Headers = []  # of the reply, errors included
        self.caching = b"no-store"  # what others may do with the reply: only what is public and nobody's may be kept
        self.isolation = b""  # the boundary around the pool's code, for a header of the reply
        self.written = 0  # pieces of the reply's body that the caller's end has taken
        self._receive = receive
        self._send = send
        self.received = 0  # bytes of the body
        self.sent = 0  # of the reply's
        self.plane = ""  # which part of the API, once that is known
        self.version = ""  # the api-version that it was understood as
        self._waited = 0.0  # for them, in seconds
        self._length = self._declared_length()
        self.has_all = self._length == 0  # the whole body of the request was read

    @property
    def content_length(self) -> int | None:
        """As declared; None for a chunked body, 0 where there is none."""
        return self._length

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name; the first, where it comes more than once."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def caller(self) -> tuple[Principal, Access]:
        """Who asks, and whom to ask what they may. Raises Unauthorized on paths that need no token."""
        if self.principal is None or self.access is None:
            raise Unauthorized("A bearer token is required.")
        return self.principal, self.access

    async def intend(self) -> None:
        """Called before a change that the audit log tells of is begun. Raises AuditUnavailable."""
        if self.scribe is not None:
            await self.scribe.intend(self)

    def origin(self) -> str:
        """Scheme and authority as this caller sees us, for absolute links."""
        host = self.header(b"host") or ""
        if not host or not all(character.isalnum() or character in ".-:[]_" for character in host):
            raise RequestInvalid("The Host header is missing or malformed.", target="Host")
        return f"{self.scope['scheme']}://{host}"

    async def receive(self) -> Message:
        """ASGI's receive, watched for the end of the body."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.has_all = True
        return message

    async def send(self, message: Message) -> None:
        """ASGI's send; adds the headers that every reply has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.scribe is not None and not self.is_told:
                self.is_told = True
                if (recording := self.scribe.reply(self, message["headers"])) is not None:
                    await recording
            self.is_begun = True
            versions = (b"api-supported-versions", self.versions)
            boundary = [(b"carrel-isolation", self.isolation)] if self.isolation else []
            trace = (b"x-ms-request-id", self.trace_id.encode())
            common = [(b"cache-control", self.caching), _NO_SNIFFING]
            message["headers"] = [*message["headers"], *common, versions, *boundary, *self.extra, trace]
        else:
            self.sent += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.is_done = True
        await self._send(message)

    async def chunk(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises CallerGone, RequestTimedOut."""
        while not self.has_all:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise CallerGone
            if body := message.get("body"):
                self.received += len(body)
                return bytes(body)
        return None

    async def _next(self) -> Message:
        """The next message, within the caller's time: what we take ourselves between two pieces is none of it."""
        began = time.perf_counter()
        left = BODY_IDLE_S + self.received / BODY_PACE - self._waited
        try:
            async with asyncio.timeout(min(BODY_IDLE_S, left)):
                return await self.receive()
        except TimeoutError as error:
            what = "No more of the body came for" if left > BODY_IDLE_S else "The body came too slowly, after"
            raise RequestTimedOut(f"{what} {BODY_IDLE_S:.0f} seconds.") from error
        finally:
            self._waited += time.perf_counter() - began

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises ContentTooLarge without reading on where it has more than `limit` bytes."""
        if (self._length or 0) > limit:
            raise _too_large(limit)
        first = await self.chunk()
        if first is None or self.has_all:
            return first or b""
        pieces, size = [first], len(first)
        while (piece := await self.chunk()) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
        return b"".join(pieces)

    async def watch(self) -> None:
        """Returns when the caller has gone. Only after the whole body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: Headers | None = None,
        content_type: tuple[bytes, bytes] = _JSON,
    ) -> None:
        """A complete reply, or one without a body where `body` is empty."""
        await self.begin(status, _with_length(body, headers or [], content_type))
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def begin(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """A piece of the reply's body. Raises CallerGone where the caller does not take it."""
        try:
            async with asyncio.timeout(SEND_IDLE_S):
                await self.send({"type": "http.response.body", "body": data, "more_body": not is_last})
        except TimeoutError as error:
            raise CallerGone from error
        self.written += 1

    def _declared_length(self) -> int | None:
        length: int | None = 0
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value) if value.isdigit() else 0
            elif name == b"transfer-encoding":
                return None
        return length


def _nothing() -> None: ...


def _with_length(body: bytes, headers: Headers, content_type: tuple[bytes, bytes]) -> Headers:
    if not body:
        return headers
    return [content_type, (b"content-length", str(len(body)).encode()), *headers]


def method_not_allowed(where: str, method: str, allowed: Iterable[str]) -> MethodNotAllowed:
    """The error that tells which methods there are."""
    return MethodNotAllowed(f"{where} does not take {method}.", headers={"Allow": ", ".join(sorted(allowed))})


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"The request body may have {limit} bytes at most.")
