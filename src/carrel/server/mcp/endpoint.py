"""The route `mcp`: who may call, what is tolerated of callers, and which of the package's transports answers.

The package is strict where public tutorials are not: they call with plain curl, without a session, without `params` in `initialize`,
and accepting anything, by which they mean JSON. So a request is looked at here first. One that names an MCP session goes to it; an
`initialize` of a caller that accepts event streams by name begins one; any other is answered by itself, without a session, as an event
stream where the caller accepts that by name and as JSON where it does not. Requests of protocol 2026-07-28 know no sessions at all.

The package is imported with the first call, since it costs a gateway as much memory as all the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from carrel.errors import CarrelError, MethodNotAllowed, RequestInvalid
from carrel.host.hostlink import HostLink
from carrel.server.asgi import Message, Scope
from carrel.server.call import Call
from carrel.server.exchange import SEND_IDLE_S, CallerGone, Exchange
from carrel.server.latecomers import Latecomers
from carrel.server.mcp.keys import KEY_HEADER, ROUTE
from carrel.server.pools import Pools
from carrel.server.telling import CHECK_S
from carrel.wire import jsons

if TYPE_CHECKING:
    from carrel.server.mcp.library import Library

OLDEST = "2025-03-26"  # what a caller that names no version is answered in, as by Azure

_STREAM = b"text/event-stream"
_PARSE_ERROR, _INVALID_REQUEST = -32700, -32600
_log = logging.getLogger("carrel.mcp")


class Mcp:
    """The route's handler, for all pools."""

    def __init__(self, pools: Pools, link: HostLink, digest: Callable[[str], str], latecomers: Latecomers) -> None:
        self._pools = pools
        self._link = link
        self._digest = digest
        self._latecomers = latecomers
        self._stopping = asyncio.Event()
        self._library: asyncio.Future[Library] | None = None
        self._task: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Called while everything can be read: imports now what could not be imported later."""
        if not all(map(self._latecomers.reaches, ("mcp", "carrel"))):
            _import(self._latecomers)

    def stop(self) -> None:
        """The gateway is ending: streams that wait for news would hold it up."""
        self._stopping.set()

    async def __call__(self, call: Call) -> None:
        """Any method but POST is for an MCP session that is there."""
        exchange = call.exchange
        headers = dict(reversed(exchange.headers))  # the first counts, as everywhere here
        has_session = b"mcp-session-id" in headers
        if exchange.method != "POST" and not has_session:
            raise MethodNotAllowed("mcp takes POST; GET and DELETE in an MCP session only.", headers={"Allow": "POST"})
        body = await exchange.body(jsons.MAX_BODY)
        begins = False
        if exchange.method == "POST":
            try:
                message = jsons.decode_object(body)
            except RequestInvalid as error:
                return await _refuse(exchange, body, error)
            begins = message.get("method") == "initialize"
            body = _completed(message, body) if begins else body
        library = await self._loaded()
        is_stream = _STREAM in headers.get(b"accept", b"").lower()
        transport = await library.transport(call.pool, has_session=has_session, begins=begins, is_stream=is_stream)
        answer = transport(_scope(exchange, headers), _replay(exchange, body), _timed(exchange))
        return await _while_allowed(exchange, answer)

    async def _loaded(self) -> Library:
        """The package at work. All first callers wait for the same import; one that failed is tried again by the next."""
        if self._library is None:
            self._library = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._serve(self._library))
        return await asyncio.shield(self._library)

    async def _serve(self, loaded: asyncio.Future[Library]) -> None:
        """The life of the package: its transports run in tasks of this task's, and end with it."""
        try:
            library = await asyncio.to_thread(_import, self._latecomers)
            async with library(self._link, self._digest, self._stopping) as running:
                self._pools.on_changed.append(running.changed)
                loaded.set_result(running)
                await self._stopping.wait()
                await running.finish()
        except Exception as error:
            _log.exception("MCP could not be served")
            if not loaded.done():
                loaded.set_exception(CarrelError("The server could not load what MCP needs; its log says why."))
                loaded.exception()  # seen: there may be no caller left to ask
            self._library = None
            if not isinstance(error, ImportError | OSError):
                raise


def _import(latecomers: Latecomers) -> type[Library]:
    latecomers.admit()
    from carrel.server.mcp.library import Library

    return Library


def _completed(message: dict[str, Any], body: bytes) -> bytes:
    """`initialize` with what it must have: the tutorials leave `params` out."""
    given = message.get("params")
    if given is not None and not isinstance(given, dict):
        return body
    params = {
        "protocolVersion": OLDEST,
        "capabilities": {},
        "clientInfo": {"name": "unknown", "version": "0"},
        **{name: value for name, value in (given or {}).items() if value is not None},
    }
    return body if params == given else jsons.encode({**message, "params": params})


async def _refuse(exchange: Exchange, body: bytes, error: RequestInvalid) -> None:
    """What is not one JSON object is answered as JSON-RPC has it."""
    is_batch = body.lstrip()[:1] == b"["
    fault = (_INVALID_REQUEST, "Send one request at a time.") if is_batch else (_PARSE_ERROR, error.message)
    reply = {"jsonrpc": "2.0", "id": None, "error": {"code": fault[0], "message": fault[1]}}
    await exchange.reply(400, jsons.encode(reply))


async def _while_allowed(exchange: Exchange, answer: Awaitable[None]) -> None:
    """The package's answer. A stream of it ends with the right to it, as all streams do; for the code it is as if the caller had left."""
    answering = asyncio.ensure_future(answer)
    is_refused = False
    try:
        while not (await asyncio.wait([answering], timeout=CHECK_S))[0]:
            if exchange.is_begun:
                exchange.check()
    except CarrelError:
        is_refused = True
    finally:
        answering.cancel()
        await asyncio.wait([answering])
    if not is_refused:
        return answering.result()
    if not exchange.is_done:
        await exchange.write(b"", is_last=True)
    return None


def _scope(exchange: Exchange, headers: Mapping[bytes, bytes]) -> Scope:
    """The request as the package gets it. The credential stays here; the body is JSON whatever its label says: no browser can send our
    headers across origins, so the label protects from nothing."""
    kept = {name: value for name, value in headers.items() if name not in (b"authorization", KEY_HEADER, b"cookie")}
    if exchange.method == "POST":
        kept[b"content-type"] = b"application/json"
        kept.setdefault(b"accept", b"*/*")
    return {**exchange.scope, "headers": list(kept.items()), "path": f"/{ROUTE}"}


def _replay(exchange: Exchange, body: bytes) -> Callable[[], Any]:
    """ASGI's receive over a body that was read already; after it comes only the caller's going."""
    is_given = False

    async def receive() -> Message:
        nonlocal is_given
        if not is_given:
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}
        await exchange.watch()
        return {"type": "http.disconnect"}

    return receive


def _timed(exchange: Exchange) -> Callable[[Message], Any]:
    """ASGI's send for a caller that has to take what it gets in time."""

    async def send(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_IDLE_S):
                await exchange.send(message)
        except TimeoutError as error:
            raise CallerGone from error

    return send
