"""The supervisor: holds the listening sockets, starts the host and then the gateway, and ends both; starts spawners at the host's word.

A gateway that dies is replaced: sessions live in the host, and the sockets stay open here, so callers notice a pause at most. A host that
dies takes its sandboxes with it (the kernel kills them), so the supervisor sweeps what is left and ends too: its sessions are lost and
whoever runs the service decides what happens next. SIGINT and SIGTERM stop the gateway, then the host; a second one kills both at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from carrel import otlp_headers, pool_secrets, seeds
from carrel.backends import cgroups, ids
from carrel.backends.spawning import Setup
from carrel.cli import endpoints, kept, restoring
from carrel.cli.auditing import Auditing
from carrel.cli.changes import LOOK_S, Changes
from carrel.cli.children import Child, ChildError, ending
from carrel.cli.kept import Kept
from carrel.cli.listeners import exposed_http, http_hosts, https_hosts, listen, port_of
from carrel.cli.spawners import Spawners
from carrel.cli.statefolder import exclusive, write_connection
from carrel.config import Config
from carrel.errors import StoreUnavailable
from carrel.storage import TOKEN_TTL_S, State
from carrel.store import StoreError

STOP_DEADLINE_S = 10.0  # for gateway and host together
_CLEANUP_S = 2.0  # what a spawner gets at least, once its host has ended
_GATEWAY_SHARE_S = 4.0  # of it, for calls that are under way
_TOKEN_REFRESH_S = TOKEN_TTL_S / 2
_BACKOFF_FIRST_S, _BACKOFF_LAST_S = 0.1, 5.0
_STEADY_S = 30.0  # a gateway that lived as long did not die of its start

log = logging.getLogger(__name__)

Connection = dict[str, Any]


class HostDied(Exception):
    """The host ended by itself; every session is lost."""


@dataclass(slots=True)
class Supervisor:
    """One run of `carrel serve`. `announce` is called once, when clients can call, with connection.json and the host's ready message."""

    config: Config
    announce: Callable[[Connection, dict[str, Any]], None]
    until_eof: bool = False  # stop also when stdin ends, which it does with whoever started this
    _state: State = field(init=False)
    _changes: Changes = field(init=False)
    _http: list[socket.socket] = field(init=False)
    _https: list[socket.socket] = field(init=False)
    _children: dict[str, Child] = field(init=False, default_factory=dict)
    _spawners: Spawners | None = field(init=False, default=None)
    _secrets: dict[str, pool_secrets.PoolSecrets] = field(init=False, default_factory=dict, repr=False)
    _otlp_headers: dict[str, str] = field(init=False, default_factory=dict, repr=False)
    _kept: Kept = field(init=False, repr=False)
    _auditing: Auditing = field(init=False)

    async def run(self) -> int:
        """Serve until a signal; the exit status. Raises ChildError, ListenError, FolderError, StateError where it cannot start."""
        with exclusive(self.config.state), contextlib.ExitStack() as opened:
            restoring.finish(self.config.state)
            self._secrets = pool_secrets.read(self.config.pools)
            pool_secrets.forget(self.config.pools)
            self._otlp_headers = otlp_headers.read(self.config.otlp_headers)
            otlp_headers.forget()
            os.environ.pop("CARREL_STORE", None)  # it may hold a password, and goes to the gateway by its pipe
            self._state = State(self.config.state)
            self._kept = Kept.open(self.config, self._state)
            opened.callback(self._kept.close)
            self._changes = Changes(self.config, self._state)
            opened.callback(self._changes.close)
            self._auditing = Auditing(self.config, self._children)
            opened.callback(self._auditing.close)
            self._http = _opened(opened, listen(http_hosts(self.config), self.config.port, "port"))
            self._https = _opened(opened, listen(https_hosts(self.config), self.config.tls_port, "tls-port"))
            if exposed := exposed_http(self.config):
                log.warning("HTTP without encryption is served beyond this machine", extra={"on": ", ".join(exposed)})
            with self._signals():
                try:
                    await self._serve()
                except asyncio.CancelledError:
                    log.info("stopping")
                    return 0
                except HostDied:
                    return 1
                finally:
                    await self._stop()
        return 0

    async def _serve(self) -> None:
        await self._auditing.start()
        await self._start_host()
        await self._start_gateway()
        self.announce(self._publish(), self._children["host"].ready)
        await self._watch()

    async def _start_host(self) -> None:
        config = seeds.served(self.config, self._kept.sown.pools)
        self._spawners = spawners = Spawners(Setup.of(self.config))  # folders of wheels are the operator's to name
        uid = ids.service(self.config.state, "host")
        if uid is None and os.geteuid() == 0:
            hint = "give it the capabilities CHOWN, SETUID and SETGID (Docker does), or run it as an ordinary user"
            log.warning("root may not become other users here: host and gateway stay root", extra={"what_to_do": hint})
        message = {
            "config": config.to_json(),
            "has_to_serve": self._kept.sown.is_as_written,
            "uid": uid,
            "gateway_uid": ids.service(self.config.state, "gateway"),
            "supervisor_fd": spawners.host_fd,
        }
        self._children["host"] = await Child.start("host", "carrel.host", message, [spawners.host_fd])
        spawners.handed_over()

    async def _start_gateway(self) -> None:
        http, https = [each.fileno() for each in self._http], [each.fileno() for each in self._https]
        levels = {name: pool["isolation"] for name, pool in self._children["host"].ready["pools"].items()}
        message = {
            "config": self.config.to_json(),
            "store": self.config.store_url,
            "uid": ids.service(self.config.state, "gateway"),
            "levels": levels,
            "otlp_headers": self._otlp_headers,
            "secrets": {pool: each.to_json() for pool, each in self._secrets.items()},
            "http_fds": http,
            "https_fds": https,
            "certificate": self._changes.pem.decode(),
            "findings": {name: self._children["host"].ready[name] for name in ("passed_over", "warnings")},
            "audit_fd": self._auditing.gateways_fd,
        }
        with self._changes.connect() as changes:
            message["changes_fd"] = changes.fileno()
            descriptors = [*http, *https, changes.fileno(), *self._auditing.inherited]
            self._children["gateway"] = await Child.start("gateway", "carrel.server", message, descriptors)
        self._changes.send()  # what has changed while it started

    async def _watch(self) -> None:
        """Keep a gateway running and the token in connection.json fresh until cancelled. Raises HostDied."""
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(self._watch_gateway()), tasks.create_task(self._refresh())]
            others += [tasks.create_task(self._follow()), tasks.create_task(self._follow_pools())]
            others.append(tasks.create_task(self._auditing.watch(self._republish)))
            status = await self._children["host"].wait()
            for task in others:
                task.cancel()
        log.error("the host has ended and all sessions with it", extra={"how": ending(status)})
        raise HostDied

    async def _watch_gateway(self) -> None:
        pause = _BACKOFF_FIRST_S
        while True:
            started = time.monotonic()
            status = await self._children["gateway"].wait()
            if time.monotonic() - started > _STEADY_S:
                pause = _BACKOFF_FIRST_S
            log.error("the gateway has ended; starting another", extra={"how": ending(status), "in_s": pause})
            while not await self._has_new_gateway(pause):
                pause = min(pause * 2, _BACKOFF_LAST_S)
            pause = min(pause * 2, _BACKOFF_LAST_S)
            self._republish()

    async def _has_new_gateway(self, pause: float) -> bool:
        await asyncio.sleep(pause)
        try:
            await self._start_gateway()
        except (ChildError, OSError) as error:  # no descriptor or process to be had is no end of the sessions
            log.error("the gateway did not start", extra={"why": str(error)})
            return False
        return True

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_REFRESH_S)
            self._republish()

    async def _follow(self) -> None:
        """Hand keys and certificates that have changed to the gateway; the token in connection.json may be of a key that was removed."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._changes.look(time.time()):
                self._changes.send()
                self._republish()
            self._changes.resend()

    async def _follow_pools(self) -> None:
        while True:
            await asyncio.sleep(kept.LOOK_S)
            try:
                if await self._kept.look():
                    self._republish()
            except (StoreError, StoreUnavailable) as error:
                log.debug("the store does not answer", extra={"why": str(error)})

    def _republish(self) -> None:
        """A full disk or a store that is away must not end the sessions: the file that is there stays."""
        try:
            self._publish()
        except (OSError, StoreError, StoreUnavailable) as error:
            log.error("connection.json could not be renewed", extra={"why": str(error)})

    def _publish(self) -> Connection:
        pids = {"supervisor": os.getpid(), **{name: child.pid for name, child in self._children.items()}}
        ports = (port_of(self._http), port_of(self._https))
        fields = endpoints.connection(self.config, self._state, self._kept.records, *ports, pids)
        write_connection(self.config.state, fields)
        return fields

    async def _stop(self) -> None:
        """End the gateway, then the host, and sweep. Nothing of ours runs afterwards."""
        deadline = time.monotonic() + STOP_DEADLINE_S
        if gateway := self._children.get("gateway"):
            await gateway.stop(_GATEWAY_SHARE_S)
        if host := self._children.get("host"):
            await host.stop(deadline - time.monotonic())
        if self._spawners is not None:
            await self._spawners.stop(max(_CLEANUP_S, deadline - time.monotonic()))
        await self._auditing.stop(max(_CLEANUP_S, deadline - time.monotonic()))  # last: the others' ends are in it
        sweep()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM cancels the caller's task, a second one kills everything."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        is_stopping = False

        def stop() -> None:
            nonlocal is_stopping
            if is_stopping or task is None:
                for child in self._children.values():
                    child.kill()
                os._exit(1)
            is_stopping = True
            task.cancel()

        def read() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                if not is_stopping:
                    stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        if self.until_eof:
            loop.add_reader(0, read)
        try:
            yield
        finally:
            loop.remove_reader(0)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def sweep() -> None:
    """Remove what a host that could not clean up left behind. Its processes are already dead: the kernel saw to that."""
    for path in cgroups.sweep():
        log.warning("swept a control group", extra={"path": path})


def _opened(stack: contextlib.ExitStack, sockets: list[socket.socket]) -> list[socket.socket]:
    return [stack.enter_context(each) for each in sockets]
