"""The gateway's application: the edge around everything, and authentication around all but the few paths that do without."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from carrel import certificates
from carrel.config import Config
from carrel.errors import HostUnavailable, RouteNotFound
from carrel.host.hostlink import HostLink
from carrel.proc import Disk
from carrel.server import console, openapi
from carrel.server.access import Access
from carrel.server.arm import metadata
from carrel.server.arm.call import Services
from carrel.server.arm.group_deletion import Deletions
from carrel.server.arm.plane import ArmPlane, is_arm
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.audit.scribe import Scribe
from carrel.server.auth import Auth, Verifier
from carrel.server.authority.approving import Approving
from carrel.server.authority.devices import Devices
from carrel.server.authority.directory import Directory
from carrel.server.authority.endpoint import Authority
from carrel.server.authority.hashing import Hasher
from carrel.server.authority.refreshing import Refreshing
from carrel.server.authority.resources import Resources
from carrel.server.authority.throttle import Throttle
from carrel.server.authority.tokens import Tokens
from carrel.server.bound import BoundTokens
from carrel.server.drain import Drain
from carrel.server.edge import Edge
from carrel.server.exchange import KEY, Exchange, method_not_allowed
from carrel.server.extensions import Extensions
from carrel.server.graph.call import GraphServices
from carrel.server.graph.plane import GraphPlane, is_graph
from carrel.server.identity import Identity
from carrel.server.instruments import Instruments
from carrel.server.issuers import Issuer, OwnIssuer
from carrel.server.mcp.endpoint import Mcp
from carrel.server.mcp.keys import Keys
from carrel.server.metrics.endpoint import PATH as METRICS
from carrel.server.metrics.endpoint import Metrics, Sources
from carrel.server.operator.call import OperatorServices
from carrel.server.operator.plane import OperatorPlane, is_operator
from carrel.server.pools import Pools
from carrel.server.request import decode_target
from carrel.server.routes import DataPlane
from carrel.server.session_logs import SessionLogs
from carrel.storage import State
from carrel.store import Store
from carrel.wire import jsons

_HEALTH_S = 2.0

OpenHandler = Callable[[Exchange], Awaitable[None]]


def build(
    config: Config,
    state: State,
    link: HostLink,
    pools: Pools,
    mcp: Mcp,
    store: Store,
    access: Access,
    deletions: Deletions,
    drain: Drain,
    instruments: Instruments,
    issuers: Sequence[Issuer] = (),
    scribe: Scribe | None = None,
) -> ASGIApp:
    """The ASGI application over an open state folder and a link to the host. Answers with HostUnavailable while there is no host.

    `issuers` are others whose tokens are good here. Without `scribe` there is no audit log.
    """
    metrics = Metrics(config, Sources(instruments, link, store, Disk(config.state)))
    pools.on_rights_gone.append(access.refresh)
    data = DataPlane(pools, link, state.digest, mcp, BoundTokens(state), SessionLogs(store, drain))
    arm = ArmPlane(Services(config, state.tenant, store, access, pools, deletions))
    operator = OperatorPlane(OperatorServices(config, state, store, access, pools, link, instruments, drain, scribe))
    hosts = certificates.server_names([socket.gethostname(), *config.host, *config.tls_name])
    resources = Resources(hosts)
    hasher, throttle = Hasher(), Throttle()
    graph = GraphPlane(GraphServices(config, state.tenant, store, access, state.object_id, hasher, throttle))
    directory = Directory(state, store, hasher)
    identity = Identity(state, resources, directory, hosts)
    own = OwnIssuer(state.issuer, state.public_keys, hosts, is_open=config.embedded_authority)
    inside = Auth(
        Planes(data=data, arm=arm, graph=graph, operator=operator, metrics=metrics),
        Verifier([*issuers, own]),
        Keys(pools),
        access,
    )
    devices = Devices(store, revoked_at=lambda: state.keys.revoked_at)
    refreshing = Refreshing(store, revoked_at=lambda: state.keys.revoked_at)
    tokens = Tokens(state, directory, resources, devices, refreshing, throttle)
    approving = Approving(directory, devices, throttle)
    authority = Authority(state, tokens, approving, inside, is_open=config.embedded_authority)
    return Edge(
        OpenPaths(_open(config, link, identity, metrics), authority),
        instruments.troubles,
        instruments.requests,
        scribe,
        instruments.telemetry.tracer,
        access_log=config.access_log,
    )


def _open(config: Config, link: HostLink, identity: Identity, metrics: Metrics) -> dict[str, OpenHandler]:
    """The paths that need no token; what they show is read now."""
    return {
        "/health": Health(link),
        "/openapi.json": openapi.show,
        "/metadata/endpoints": metadata.endpoints,
        **_identity(config, identity),
        **Extensions.read(config.extensions).handlers(),
        **console.handlers(),
        **({METRICS: metrics.show} if config.metrics == "open" else {}),
    }


def _identity(config: Config, identity: Identity) -> dict[str, OpenHandler]:
    has_metadata = config.embedded_authority and config.instance_metadata
    return {
        "/msi/token": identity.app_service if config.embedded_authority else hands_out_nothing,
        "/metadata/identity/oauth2/token": identity.instance_metadata if has_metadata else hands_out_nothing,
    }


async def hands_out_nothing(_exchange: Exchange) -> None:
    raise RouteNotFound("This server hands out no tokens here: that is switched off.")


class OpenPaths:
    """Paths that need no token, all of them for GET; any other goes on to `app`."""

    def __init__(self, handlers: dict[str, OpenHandler], app: ASGIApp) -> None:
        self._handlers = handlers
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        handler = self._handlers.get(path)
        if handler is None:
            return await self._app(scope, receive, send)
        exchange: Exchange = scope[KEY]
        exchange.plane, exchange.route = "open", path
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(path, exchange.method, ("GET", "HEAD"))
        return await handler(exchange)


class Planes:
    """Which part of the API a path belongs to. Pools' endpoints come first, since most calls are theirs; what is nobody's is theirs too."""

    def __init__(self, **apps: ASGIApp) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        exchange.plane = _plane_of(scope["raw_path"])
        await self._apps[exchange.plane](scope, receive, send)


def _plane_of(path: bytes) -> str:
    if decode_target(path) is not None:
        return "data"
    if is_graph(path):
        return "graph"
    if is_operator(path):
        return "operator"
    if path == METRICS.encode():
        return "metrics"
    return "arm" if is_arm(path) else "data"


class Health:
    """`GET /health`: whether this gateway and its host answer."""

    def __init__(self, link: HostLink) -> None:
        self._link = link

    async def __call__(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(_HEALTH_S):
                await self._link.pools()
        except TimeoutError as error:
            raise HostUnavailable("The session host does not answer.") from error
        await exchange.reply(200, jsons.encode({"message": "healthy"}))
