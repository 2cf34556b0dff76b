"""The gateway process: `python -m carrel.server`, started by the supervisor with its settings as JSON on stdin.

    {"config": {…}, "store": URL, "levels": {POOL: LEVEL or null…}, "ready_fd": N, "http_fds": [N…], "https_fds": [N…],
     "certificate": PEM, "findings": {"passed_over": […], "warnings": […]}, "changes_fd": N, "audit_fd": N or null,
     "otlp_headers": {NAME: VALUE…}}

`levels` is what the host serves each pool at; null where it refuses the pool.
The listening sockets are the supervisor's, so that callers wait rather than fail while a gateway is replaced. HTTP and HTTPS are two
servers of one event loop. SIGTERM ends it: no new connections, a few seconds for requests under way, then out.

As root it opens what it needs, keys and certificate and the way to the host, and then is a user of its own without any capability, before
it listens. Nothing may open a file or import a module later: Carrel itself may be installed where only root can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from carrel import __version__, logs
from carrel.config import Config
from carrel.errors import StoreUnavailable
from carrel.guest import linux
from carrel.host.hostlink import HostLink
from carrel.models import Level
from carrel.pool_secrets import PoolSecrets
from carrel.pulse import Pulse
from carrel.server import telemetry
from carrel.server.access import Access
from carrel.server.app import build
from carrel.server.arm.group_deletion import Deletions
from carrel.server.asgi import ASGIApp
from carrel.server.audit.endings import Endings, watch_keys
from carrel.server.audit.ledger import Ledger
from carrel.server.audit.scribe import Scribe
from carrel.server.authorization.owners import seed
from carrel.server.drain import Drain
from carrel.server.handover import Handover
from carrel.server.instruments import Findings, Instruments
from carrel.server.latecomers import Latecomers
from carrel.server.mcp.endpoint import Mcp
from carrel.server.oidc.issuer import ExternalIssuers
from carrel.server.pools import Pools
from carrel.server.protocol import Protocol
from carrel.server.pruning import Pruning
from carrel.server.watch import Watch
from carrel.server.webhooks import Webhooks
from carrel.storage import State, StateError
from carrel.store import Store, StoreError
from carrel.tls import LiveCertificate

_log = logging.getLogger("carrel.server")

_GRACE_S = 3  # the supervisor kills after 4
_KEEP_ALIVE_S = 75  # longer than the idle time of the clients' connection pools, so that they close first
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the supervisor hands over."""

    config: Config
    levels: dict[str, Level | None]
    pulse: Pulse
    secrets: dict[str, PoolSecrets]
    uid: int | None  # to be while it serves; None: who it was started as
    http: list[socket.socket]
    https: list[socket.socket]
    certificate: bytes  # with its key
    findings: Findings
    otlp_headers: dict[str, str] = field(repr=False)
    changes: socket.socket  # where other keys and certificates come from, later
    audit: socket.socket | None  # the way to the auditor

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Inheritance:
        return cls(
            dataclasses.replace(Config.from_json(fields["config"]), store=fields["store"]),
            {name: None if level is None else Level(level) for name, level in fields["levels"].items()},
            Pulse(fields["ready_fd"]),
            {pool: PoolSecrets.from_json(each) for pool, each in fields["secrets"].items()},
            fields["uid"],
            [socket.socket(fileno=fd) for fd in fields["http_fds"]],
            [socket.socket(fileno=fd) for fd in fields["https_fds"]],
            fields["certificate"].encode(),
            Findings.from_json(fields["findings"]),
            fields["otlp_headers"],
            socket.socket(fileno=fields["changes_fd"]),
            None if fields["audit_fd"] is None else socket.socket(fileno=fields["audit_fd"]),
        )


class Server(uvicorn.Server):
    """uvicorn's server without its hold on the signals, which two servers of one process cannot share; it tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    linux.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    given = Inheritance.from_json(json.load(sys.stdin))
    logs.configure(given.config.log_level, given.config.log_format, "gateway")
    # What no line of ours shows: a third of a log call's time (logging howto, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    try:
        state = State(given.config.state)
        certificate = LiveCertificate(given.certificate)
        servers = _servers(given, state, certificate)
    except (StateError, StoreError, StoreUnavailable) as error:
        given.pulse.tell({"error": str(error)})
        sys.exit(1)
    _raise_descriptor_limit()
    linux.keep_freed_memory(8 * 1024 * 1024)
    servers[1].prepare()
    linux.renounce(given.uid)
    gc.freeze()  # what start-up made stays: no collection needs to look at it again
    gc.set_threshold(10_000)
    uvloop.run(_serve(given.pulse, Handover(given.changes, state, certificate), *servers))


Beside = Callable[[], Coroutine[Any, Any, None]]  # a task that runs as long as the gateway serves


def _servers(
    given: Inheritance, state: State, certificate: LiveCertificate
) -> tuple[HostLink, Mcp, Store, list[Beside], list[tuple[Server, list[socket.socket]]]]:
    """All that needs the state folder or the store.

    The host's socket is reached by its folder's descriptor: the way there may be closed later.
    """
    folder = os.open(given.config.state / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    link = HostLink(Path(f"/proc/self/fd/{folder}/hostlink.sock"))
    store = Store.open(given.config.store_url, state.store_keys())
    with store.transaction() as transaction:
        seed(transaction, state.object_id, state.client_id, given.config.subscription)
    access = Access(given.config, store)
    issuers = ExternalIssuers(
        given.config.issuers, state.ca_bundle, lambda each: each == state.object_id or access.is_known(each)
    )
    pools = Pools(given.config, link, store, given.secrets)
    pools.load(given.levels)
    mcp = Mcp(pools, link, state.digest, Latecomers(given.uid))
    deletions = Deletions(store, pools)
    drain = Drain(given.config, store, link, pools)
    traces = telemetry.begin(given.config, given.otlp_headers, state.ca_bundle, link, state.tenant)
    ledger = None if given.audit is None else Ledger(given.audit)
    instruments = Instruments(certificate, given.findings, traces, ledger=ledger)
    logging.getLogger().addHandler(instruments.troubles)
    scribe = None if ledger is None else Scribe(ledger, is_blocking=given.config.audit_full == "block")
    app = build(
        given.config, state, link, pools, mcp, store, access, deletions, drain, instruments, issuers.each, scribe
    )
    settings = [(_settings(app), given.http), (_settings(app, certificate), given.https)]
    for each, _sockets in settings:
        each.load()
    webhooks = Webhooks(pools, link, state.ca_bundle, is_wanted=any(pool.webhook for pool in given.config.pools))
    servers = [(Server(each), sockets) for each, sockets in settings if sockets]
    beside = [pools.run, deletions.run, Watch(pools, link, store).run, webhooks.run, access.watch, issuers.run]
    beside += [Pruning(store).run, drain.run, *traces.beside]
    if ledger is not None and scribe is not None:
        scribe.own("server/start", {"version": __version__, "pid": os.getpid()})
        endings = Endings(pools, link, scribe, state.digest)
        beside += [ledger.run, endings.run, partial(watch_keys, state, scribe)]
    return link, mcp, store, beside, servers


async def _serve(
    pulse: Pulse,
    handover: Handover,
    link: HostLink,
    mcp: Mcp,
    store: Store,
    beside: list[Beside],
    servers: list[tuple[Server, list[socket.socket]]],
) -> None:

    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True
        mcp.stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    handover.start()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each()) for each in beside]
            serving = [group.create_task(server.serve(sockets)) for server, sockets in servers]
            for server, _ in servers:
                await server.is_listening.wait()
            pulse.tell({"ready": True, "pid": os.getpid()})
            tasks.append(group.create_task(pulse.beat()))
            await asyncio.wait(serving)
            for task in tasks:
                task.cancel()
    finally:
        await link.close()
        store.close()


def _settings(app: ASGIApp, certificate: LiveCertificate | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,  # the edge logs every failure itself, once
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks is who is connected: tokens depend on it
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=_BACKLOG,
        ssl_context_factory=(lambda _config, _default: certificate.front) if certificate else None,
    )


def _raise_descriptor_limit() -> None:
    """Two descriptors a call: the usual soft limit of 1024 would be ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
