"""The data plane's routes, and the way from a request to its handler.

Every route is there on every api-version. What a version changes is in wire/versions.py; what a path means is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from carrel.audiences import Plane
from carrel.errors import Forbidden, PoolNotFound, RouteNotFound, SandboxStartFailed
from carrel.host.hostlink import HostLink
from carrel.pool_secrets import NO_SECRETS
from carrel.roles import EXECUTE, POOL_READ, POOL_WRITE
from carrel.server import (
    bound,
    egress,
    execute,
    files,
    image,
    life,
    management,
    observing,
    session_logs,
    sessions,
    variables,
)
from carrel.server.access import MCP_KEY, Access, Principal, refused
from carrel.server.asgi import Receive, Scope, Send
from carrel.server.bound import BoundTokens
from carrel.server.call import Call, Handler
from carrel.server.exchange import KEY, Exchange, method_not_allowed
from carrel.server.pools import Pools
from carrel.server.request import Target, decode_query, decode_target, unquote
from carrel.server.session_logs import SessionLogs
from carrel.store import PoolId
from carrel.wire.versions import NEWEST, decode_version

Methods = dict[str, Handler]


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern as the log shows it, and its handlers."""

    pattern: str
    methods: Methods
    argument: str = ""
    action: str = EXECUTE  # the right that it takes, on the pool; EXECUTE is a data action
    is_bound: bool = False  # about one session, that of its identifier: open to an identifier-bound token for that one
    is_versioned: bool = True  # takes an api-version

    def handler(self, method: str) -> Handler:
        """Raises MethodNotAllowed. HEAD is GET: the server leaves the body away."""
        handler = self.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = [*self.methods, "HEAD"] if "GET" in self.methods else list(self.methods)
            raise method_not_allowed(self.pattern, method, allowed)
        return handler


_FILE: Methods = {"GET": files.metadata, "DELETE": files.delete}
_CONTENT: Methods = {"GET": files.download}

# About one session each, which the handler learns from Call.identifier: that is where a token bound to another is refused.
_WORDS: dict[str, Methods] = {
    "code/execute": {"POST": execute.execute_old},
    "execute": {"POST": execute.execute_old},
    "python/execute": {"POST": execute.execute_old},
    "executions": {"POST": execute.execute, "GET": execute.executions},
    "files": {"GET": files.listing, "POST": files.upload},
    "python/uploadFile": {"POST": files.upload_old},
    "python/downloadFile": {"GET": files.download_by_query},
    "session": {"GET": sessions.session, "PUT": life.open_session, "DELETE": sessions.end},
    "session/events": {"GET": life.events},
    "session/keepAlive": {"POST": life.keep_alive},
    "session/cancel": {"POST": sessions.cancel},
    "session/restart": {"POST": sessions.restart},
    "session/variables": {"GET": variables.get, "PUT": variables.put},
    ".management/getSession": {"POST": management.get_session},
    ".management/stopSession": {"POST": management.stop_session},
}
FIXED = {word.lower(): Route(word, methods, is_bound=True) for word, methods in _WORDS.items()}
FIXED |= {
    route.pattern.lower(): route
    for route in (
        Route("listSessions", {"GET": sessions.sessions}),
        Route(".management/listSessions", {"POST": management.list_sessions}),
        Route("metadata", {"GET": sessions.metadata}),
        Route(".carrel/token", {"POST": bound.issue}),
        # Ours, for whoever watches: they take the right to see the pool.
        Route(".carrel/status", {"GET": observing.status}, action=POOL_READ),
        Route(".carrel/sessions", {"GET": observing.sessions}, action=POOL_READ),
        Route(".carrel/logs", {"GET": session_logs.show}, action=POOL_READ),
        # Ours, for operators: what a pool's sessions may do is not for those to change who use them.
        Route(".carrel/image", {"GET": image.show, "PUT": image.replace}, action=POOL_WRITE),
        Route(".carrel/egress", {"GET": egress.show, "PUT": egress.replace}, action=POOL_WRITE),
        Route(".carrel/egress/test", {"POST": egress.test}, action=POOL_WRITE),
    )
}

# What stands below a fixed word and has a name in it.
NAMED = {
    route.pattern: route
    for route in (
        Route("executions/{id}", {"GET": execute.execution}, is_bound=True),
        Route("executions/{id}/cancel", {"POST": execute.cancel}, is_bound=True),
        Route("files/upload", {"POST": files.upload_old, **_FILE}, is_bound=True),
        Route("files/{name}", _FILE, is_bound=True),
        Route("files/{name}/content", _CONTENT, is_bound=True),
        Route("files/content/{name}", {**_FILE, **_CONTENT}, is_bound=True),
        Route("files/{name}/rename", {"POST": files.rename, **_FILE}, is_bound=True),
        Route("files/{name}/mkdir", {"POST": files.make_directory, **_FILE}, is_bound=True),
    )
}
MCP = Route("mcp", {}, is_bound=True, is_versioned=False)  # its handler comes with the gateway
MCP_METHODS = ("POST", "GET", "DELETE")


def find(rest: bytes) -> Route | None:
    """The route of a path below the pool's endpoint. Fixed words match in any case; names are decoded after the split."""
    fixed = FIXED.get(rest.decode("latin-1").lower())
    if fixed is not None:
        return fixed
    word, _, name = rest.partition(b"/")
    if word.lower() == b"executions":
        return _execution_route(name)
    return _file_route(name) if word.lower() == b"files" else None


def _execution_route(name: bytes) -> Route:
    """An id holds no slash, so what follows one is a verb."""
    if name.lower().endswith(b"/cancel"):
        return _named("executions/{id}/cancel", name[: -len(b"/cancel")])
    return _named("executions/{id}", name)


def _file_route(name: bytes) -> Route:
    """Below `files/`, where a file may itself be called upload or content.

    `files/content/x` is the old spelling of `files/x/content`; a lone `content` or `upload` is a name but for what only the word can do.
    """
    if name.lower() == b"upload":
        return _named("files/upload", b"upload")
    if name.startswith(b"content/"):
        return _named("files/content/{name}", name.removeprefix(b"content/"))
    if name.endswith(b"/content"):
        return _named("files/{name}/content", name.removesuffix(b"/content"))
    if name.endswith(b"/rename"):
        return _named("files/{name}/rename", name)
    if name.endswith(b"/mkdir"):
        return _named("files/{name}/mkdir", name)
    return _named("files/{name}", name)


def _named(pattern: str, argument: bytes) -> Route:
    return replace(NAMED[pattern], argument=unquote(argument))


class DataPlane:
    """The application inside the middlewares: from path and query to a Call, in the order in which errors take precedence."""

    def __init__(
        self,
        pools: Pools,
        link: HostLink,
        digest: Callable[[str], str],
        mcp: Handler,
        tokens: BoundTokens,
        logs: SessionLogs,
    ) -> None:
        self._mcp = replace(MCP, methods=dict.fromkeys(MCP_METHODS, mcp))
        self._pools = pools
        self._link = link
        self._digest = digest
        self._tokens = tokens
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        principal, access = exchange.caller()
        target = decode_target(scope["raw_path"])
        if target is None:
            raise RouteNotFound(
                "There is nothing at this path. A pool's endpoint is /subscriptions/…/resourceGroups/…/sessionPools/…."
            )
        exchange.place = (target.resource_group, target.pool)
        principal.require_audience(Plane.DATA)
        route = self._mcp if target.rest.lower() == b"mcp" else find(target.rest)
        if principal.kind != MCP_KEY:  # of which Auth has seen to it that it is the pool's, and calls this one route
            exchange.check = partial(_require, principal, access, route, target)
            exchange.check()
        pool = self._pools.seek(target.subscription, target.resource_group, target.pool)
        exchange.pool = pool.key
        exchange.isolation = pool.level.encode() if pool.level is not None else b""
        if not pool.is_open:
            pool.check()
        if route is None or (route is self._mcp and not pool.spec.has_mcp):
            raise RouteNotFound("This session pool has no such route.")
        exchange.route = route.pattern
        handler = route.handler(exchange.method)
        query = decode_query(scope["query_string"])
        version = decode_version(query.get("api-version")) if route.is_versioned else NEWEST
        exchange.version = version.name if route.is_versioned else ""
        call = Call(
            exchange,
            target,
            query,
            version,
            pool.spec,
            self._link.on_behalf_of(principal.id),
            self._digest,
            self._pools,
            self._tokens,
            self._logs,
            NO_SECRETS if principal.identifier is not None else pool.secrets,
            route.argument,
        )
        await exchange.intend()
        try:
            await handler(call)
        except PoolNotFound:
            self._check_coming(pool.key)
            raise

    def _check_coming(self, key: str) -> None:
        """What the host has not heard of yet, although it is there: its level is being tried, which may build an image first."""
        pool = self._pools.by_key(key)
        if pool is not None and pool.is_open:
            message = (
                "The session pool is still being prepared: its isolation level is being tried. Try again in a moment."
            )
            raise SandboxStartFailed(message, headers={"Retry-After": "5"})


def _require(principal: Principal, access: Access, route: Route | None, target: Target) -> None:
    """Raises Forbidden unless the caller has the route's right on the pool, be there such a pool or not: who has none learns no more.

    Streams that go on ask it again and again.
    """
    action = EXECUTE if route is None else route.action
    scope = PoolId(target.subscription, target.resource_group, target.pool).resource_id
    if not access.may(principal, action, scope, is_data=action == EXECUTE):
        raise Forbidden(f"The token of '{principal.id}' gives no right to '{action}' on this session pool.")
    if principal.identifier is not None and principal.expires_at <= time.time():
        raise refused("the token has expired", "expired")
    if principal.identifier is not None and not (route is not None and route.is_bound):
        raise Forbidden("The token is good for one session only, and this is about the whole session pool.")
