"""The official `mcp` package at work: for each pool a server of it and three transports.

Importing this module imports the package; `endpoint` does so late. What the package logs goes out only where it is an error of ours, and
without the exception's words: they may quote what a caller sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio._backends._asyncio  # noqa: F401 - anyio would look for it with the first call, when it may be out of reach
import mcp_types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, AuthorizationContext
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from carrel import __version__, tracing
from carrel.host.hostlink import HostLink
from carrel.models import Network, PoolSpec
from carrel.server.access import Principal
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.exchange import KEY, CallerGone, Exchange
from carrel.server.mcp import tools
from carrel.server.mcp.progress import Report
from carrel.server.mcp.toolbox import Caller, Toolbox, UnknownTool
from carrel.server.pools import Pool
from carrel.wire import jsons

NAME = "Carrel MCP Server"
MAX_SESSIONS = 1000  # of a pool's MCP, some 40 kB each; more are refused with 503
BOUND_SESSIONS = 16  # of these, for each identifier-bound token's bearer: a stranger to the others of the pool
IDLE_S = 1800.0  # an MCP session without a request or an open stream; the environments have their own clock
_MAX_BODY = 2 * jsons.MAX_BODY  # ours is checked before; completing `initialize` may lengthen it
_FINISH_S = 2.0  # what calls get to end when the gateway is stopped, within its three seconds

_Context = ServerRequestContext[Any, Any]


class Library:
    """All pools' servers, running inside its block: each from its pool's first call on, until the pool is gone."""

    def __init__(self, link: HostLink, digest: Callable[[str], str], stopping: asyncio.Event) -> None:
        _quieten()
        self._make = partial(Transports, link=link, digest=digest, stopping=stopping)
        self._pools: dict[str, Transports] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for transports in self._pools.values():
            transports.is_unwanted.set()
        await self._group.__aexit__(None, None, None)

    def changed(self, key: str, pool: Pool | None) -> None:
        """A pool is another than before, or is no more."""
        transports = self._pools.get(key)
        if transports is None:
            return
        if pool is not None and pool.spec.has_mcp:
            transports.redefine(pool.spec)
        else:
            self._pools.pop(key).is_unwanted.set()

    async def finish(self) -> None:
        """Let the calls that are under way end, within reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                for transports in list(self._pools.values()):
                    await transports.idle.wait()

    async def transport(self, pool: PoolSpec, *, has_session: bool, begins: bool, is_stream: bool) -> ASGIApp:
        """See endpoint.py for the choice."""
        transports = self._pools.get(pool.name)
        if transports is None:
            transports = self._pools[pool.name] = self._make(pool)
            self._group.create_task(transports.run(), name=f"mcp {pool.name}")
        await transports.is_running.wait()
        if has_session or (begins and is_stream):
            return transports.with_sessions
        return transports.streams if is_stream else transports.plain


class Transports:
    """One pool's server behind its transports. `idle` is set while nobody waits for an answer."""

    def __init__(self, pool: PoolSpec, link: HostLink, digest: Callable[[str], str], stopping: asyncio.Event) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self.is_running, self.is_unwanted = asyncio.Event(), asyncio.Event()
        self._calls = 0
        self._toolbox = Toolbox(pool, link)
        self._digest = digest
        self._stopping = stopping
        self._is_open = pool.network is not Network.NONE
        self._server = server = Server[Any](
            NAME,
            version=__version__,
            title="Carrel",
            instructions=tools.instructions(pool),
            on_list_tools=self._list,
        )
        server.add_request_handler("tools/call", mcp_types.CallToolRequestParams, self._call)
        server.middleware.clear()  # spans for OpenTelemetry, which we do not offer
        server.get_tool_input_schema = lambda _name: None  # no argument of ours is repeated in a header
        self._managers = [
            _manager(server, stateless=True, json_response=True),
            _manager(server, stateless=True, json_response=False),
            _manager(server, stateless=False, json_response=False),
        ]
        self.plain, self.streams, self.with_sessions = map(self._serving, self._managers)

    def redefine(self, pool: PoolSpec) -> None:
        """From now on, in MCP sessions that there are too; what a model was told when it began one stays."""
        self._toolbox.pool = pool
        self._is_open = pool.network is not Network.NONE
        self._server.instructions = tools.instructions(pool)

    async def run(self) -> None:
        """Until it is unwanted. The package's contexts are left by the task that entered them."""
        async with AsyncExitStack() as stack:
            for manager in self._managers:
                await stack.enter_async_context(manager.run())
            self.is_running.set()
            await self.is_unwanted.wait()

    def _serving(self, manager: StreamableHTTPSessionManager) -> ASGIApp:
        """The manager's application, told who calls: an MCP session is for the caller that began it."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            user = AuthenticatedUser(_caller_of(scope[KEY].principal))
            with self._counted() if scope["method"] == "POST" else contextlib.nullcontext():
                await manager.asgi_app({**scope, "user": user}, receive, send)

        return app

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """A request that is owed an answer. Streams that wait for news are none."""
        self._calls += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()

    async def _list(self, _context: _Context, _params: Any) -> mcp_types.ListToolsResult:
        offered = tools.tools_of(self._toolbox.pool, await self._toolbox.runtime())
        return mcp_types.ListToolsResult.model_validate({"tools": [tool.to_json(self._is_open) for tool in offered]})

    async def _call(self, context: _Context, params: mcp_types.CallToolRequestParams) -> dict[str, Any]:
        tracing.enter(_exchange(context).call)  # a task of an MCP session's may be older than this call
        try:
            result = await self._toolbox.call(params.name, params.arguments, self._caller(context))
            return {"resultType": "complete", **result}  # 2026-07-28 wants it said; earlier versions never see it
        except UnknownTool:
            raise MCPError(mcp_types.INVALID_PARAMS, f"There is no tool '{params.name[:64]}' in this pool.") from None

    def _caller(self, context: _Context) -> Caller:
        """A call is cancelled for its caller in an MCP session, where a message asks for it, and with 2026-07-28, where the end of the
        connection means it. Elsewhere a broken connection means nothing, and the code goes on as it does for any caller of ours."""
        exchange = _exchange(context)
        asks = exchange.header(b"mcp-session-id") is not None or context.protocol_version in MODERN_PROTOCOL_VERSIONS

        def seen(tool: str, environment: str) -> None:
            exchange.route, exchange.session = f"mcp {tool}", self._digest(environment)

        def done(tool: str, outcome: str, noted: Mapping[str, object]) -> None:
            if exchange.scribe is not None:
                exchange.scribe.tool(exchange, tool, outcome, noted, self._digest)

        principal, _ = exchange.caller()
        report = _reporter(context)
        return Caller(
            principal.id,
            report,
            seen,
            lambda: asks and not self._stopping.is_set(),
            principal.identifier,
            done=done,
        )


def _exchange(context: _Context) -> Exchange:
    exchange: Exchange = context.request.scope[KEY]  # type: ignore[union-attr]
    return exchange


def _caller_of(principal: Principal | None) -> AccessToken:
    """Of whom an MCP session is. Each identifier-bound token's bearer is somebody else than whom the token was made for."""
    id, identifier = ("", None) if principal is None else (principal.id, principal.identifier)
    return AccessToken(token="", client_id=id, subject=identifier, scopes=[])


class _Manager(StreamableHTTPSessionManager):
    """With an end to what one bearer of an identifier-bound token may begin, who could take all of the pool's MCP sessions otherwise."""

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        """Called by the package for each that begins, one after the other; None refuses it."""
        is_bound = requestor is not None and requestor["subject"] is not None
        if is_bound and sum(each == requestor for each in self._session_owners.values()) >= BOUND_SESSIONS:
            return None
        return super()._admit_session(requestor)


def _manager(server: Server[Any], *, stateless: bool, json_response: bool) -> StreamableHTTPSessionManager:
    return _Manager(
        server,
        stateless=stateless,
        json_response=json_response,
        session_idle_timeout=IDLE_S,
        max_request_body_size=_MAX_BODY,
        max_sessions=MAX_SESSIONS,
    )


def _reporter(context: _Context) -> Report | None:
    """None where the caller did not ask for progress."""
    if not context.meta or context.meta.get("progress_token", context.meta.get("progressToken")) is None:
        return None

    async def report(seconds: float, message: str) -> None:
        await context.session.report_progress(seconds, None, message)

    return report


class _WithoutWords(logging.Filter):
    """Leaves an exception's kind and takes its text and its trace. A caller that went is no error."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is not None:
            record.kind = type(error).__name__
            record.exc_info = None
        return not isinstance(error, CallerGone)


def _quieten() -> None:
    for name in ("mcp", "sse_starlette"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("mcp.server.runner", "mcp.server.streamable_http", "mcp.server.streamable_http_manager"):
        logging.getLogger(name).addFilter(_WithoutWords())
