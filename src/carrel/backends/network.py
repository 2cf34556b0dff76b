"""What a sandbox reaches outside of itself, by its pool's `network`: the host's half of it.

LISTED: the sandbox has its own loopback only. On it a socket listens that the sandbox made and handed out (`guest/sandbox.py`); it is
served by the egress process (`python -m carrel.egress`), which connects to what the pool's list names. No interface, no route, no
privilege: it works for ordinary users too, and what does not go through the proxy goes nowhere.

OPEN: the sandbox has a link to the cell block's network namespace (`guest/veth.py`), which has a way out that a process of the spawner's
made (`host/uplink.py`) with the packet rules that hold for all of them; it is made for the first such pool. Names are resolved by a
forwarder on the sandbox's loopback, which the egress process serves.

There is one egress process per backend, started by the spawner when the first sandbox needs it. The listening sockets are kept here
as well, so that one that died is replaced and serves the same sandboxes again; what was under way through it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from carrel.backends import policy
from carrel.backends.fdsocket import FdSocket, Message
from carrel.errors import SandboxStartFailed
from carrel.models import EgressAddress, EgressVerdict, PoolSpec
from carrel.models import Network as Kind

_START_S = 20
_RESTART_S = 1.0  # between a death of the process and its replacement

_EVERYTHING = (
    "*:*",
    "0.0.0.0/0:*",
    "[::/0]:*",
)  # an open pool's policy, for `test`: what is not public is refused all the same

log = logging.getLogger(__name__)


def _rules_of(pool: PoolSpec) -> Sequence[str]:
    return {Kind.NONE: (), Kind.LISTED: pool.allow, Kind.OPEN: _EVERYTHING}[pool.network]


@dataclass(frozen=True, slots=True)
class _Attached:
    pool: str
    listen: list[tuple[str, str, int]]
    listeners: list[int]
    link: int | None  # its number, where it has one


class Network:
    """`start` has an egress process started that serves the socket it is given; `start_uplink` has a way out made for links.

    `carve_outs` are ranges that sessions may reach although they are not public.
    """

    def __init__(
        self,
        start: Callable[[socket.socket], Awaitable[None]],
        start_uplink: Callable[[], Awaitable[socket.socket]],
        carve_outs: Sequence[str] = (),
    ) -> None:
        self._start, self._start_uplink, self._carve_outs = start, start_uplink, list(carve_outs)
        self._uplink: FdSocket | None = None
        self._linking = asyncio.Lock()
        self._control: FdSocket | None = None
        self._starting = asyncio.Lock()
        self._attached: dict[str, _Attached] = {}
        self._rules: dict[str, list[str]] = {}
        self._guard: asyncio.Task[None] | None = None
        # Called for what was refused: the sandbox's name, the target, the reason, and how many more were refused without being told.
        self.on_refused: Callable[[str, str, str, int], None] = lambda *_told: None

    async def prepare(self, pool: PoolSpec) -> None:
        """Have a way out for a pool with raw egress. Raises SandboxStartFailed with why this machine gives none."""
        if pool.network is not Kind.OPEN:
            return
        async with self._linking:
            if self._uplink is not None and not self._uplink.closed.is_set():
                return
            uplink = FdSocket(await self._start_uplink(), "the way out")
            try:
                await uplink.first(_START_S)
            except BaseException:
                uplink.close()
                raise
            self._uplink = uplink

    async def attach(
        self, name: str, pool: PoolSpec, net_namespace: int, listeners: list[int], link: int | None = None
    ) -> None:
        """Let a new sandbox reach what its pool may. Called before any of its code runs. Raises SandboxStartFailed.

        Takes the listeners over, which `detach` closes; the namespace stays the caller's.
        """
        if pool.network is Kind.NONE:
            return
        self._attached[name] = _Attached(pool.name, policy.listeners(pool), listeners, link)
        await self._know(pool)
        await self._pass_on(await self._running(), name)

    async def set_rules(self, pool: str, rules: Sequence[str]) -> None:
        """What sessions of a pool may reach from now on; connections that it would no longer let begin are ended.

        Raises SandboxStartFailed where the egress process does not take it. One that is started later is told by itself.
        """
        self._rules[pool] = list(rules)
        if self._control is not None and not self._control.closed.is_set():
            await self._control.call({"op": "rules", "pool": pool, "rules": self._rules[pool]})

    async def forget(self, pool: str) -> None:
        """The pool is no more: what still runs of it reaches nothing. Nothing where it is not known."""
        if self._rules.pop(pool, None) is not None and self._control is not None and not self._control.closed.is_set():
            with contextlib.suppress(SandboxStartFailed):  # a process that is gone lets nobody out
                await self._control.call({"op": "forget", "pool": pool})

    async def redefine(self, pool: PoolSpec) -> None:
        """Another definition of a pool: what has a proxy reaches from now on what that says, sandboxes that live too."""
        if pool.name in self._rules:
            await self.set_rules(pool.name, _rules_of(pool))

    async def _know(self, pool: PoolSpec) -> None:
        if pool.name not in self._rules:
            await self.set_rules(pool.name, _rules_of(pool))

    async def counts(self, pool: str) -> tuple[int, int]:
        """Connections made and requests refused for a pool's sessions since the egress process began."""
        if self._control is None or self._control.closed.is_set():
            return 0, 0
        answer, _ = await self._control.call({"op": "counts", "pool": pool})
        return answer["connections"], answer["refusals"]

    async def test(self, pool: PoolSpec, target: str) -> EgressVerdict:
        """What happens to a session of `pool` that asks for `target`. Raises SandboxStartFailed."""
        await self._know(pool)
        answer, _ = await (await self._running()).call({"op": "test", "pool": pool.name, "target": target})
        addresses = tuple(EgressAddress(each["address"], each["refusal"]) for each in answer["addresses"])
        return EgressVerdict(answer["target"], answer["rule"], answer["reason"], addresses)

    async def detach(self, name: str) -> None:
        """Close what leads out of a sandbox. Nothing where it was never attached; safe to call again."""
        attached = self._attached.pop(name, None)
        if attached is None:
            return
        for fd in attached.listeners:
            os.close(fd)
        if self._control is not None:
            with contextlib.suppress(SandboxStartFailed):  # a process that is gone holds nothing
                await self._control.call({"op": "detach", "name": name})
        if attached.link is not None and self._uplink is not None:
            with contextlib.suppress(SandboxStartFailed):  # then the cell block is gone too, or goes with the server
                await self._uplink.call({"op": "unlink", "number": attached.link})

    async def close(self) -> None:
        """End the egress process and the way out. Safe to call again."""
        if self._uplink is not None:
            self._uplink.close()  # without its socket the process takes back what it made, and ends
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None
        for name in list(self._attached):
            await self.detach(name)
        if self._control is not None:
            self._control.close()  # without its socket the process ends
            self._control = None

    async def _running(self) -> FdSocket:
        async with self._starting:
            if self._control is None or self._control.closed.is_set():
                self._control = await self._start_process()
                if self._guard is None:
                    self._guard = asyncio.create_task(self._replace_dead())
            return self._control

    async def _start_process(self) -> FdSocket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control = FdSocket(ours, "the egress process", self._on_event)
        try:
            with theirs:
                await self._start(theirs)
            await control.first(_START_S)
            await control.call({"op": "configure", "carve_outs": self._carve_outs})
            for pool, rules in self._rules.items():
                await control.call({"op": "rules", "pool": pool, "rules": rules})
        except BaseException:
            control.close()
            raise
        return control

    async def _pass_on(self, control: FdSocket, name: str) -> None:
        attached = self._attached[name]
        request = {"op": "attach", "name": name, "pool": attached.pool, "listen": attached.listen}
        # Copies, since the call may wait for its turn, and `detach` closes the listeners meanwhile: their numbers would be others'.
        listeners = [os.dup(fd) for fd in attached.listeners]
        try:
            await control.call(request, listeners)
        finally:
            for fd in listeners:
                os.close(fd)

    async def _replace_dead(self) -> None:
        """For as long as this network is open: a process that died is followed by another one, which serves what the first one served."""
        while True:
            if self._control is not None:
                await self._control.closed.wait()
            await asyncio.sleep(_RESTART_S)
            log.warning("the egress process ended; starting another")
            try:
                control = await self._running()
                for name in list(self._attached):
                    if name in self._attached:  # it may have ended while others were passed on
                        await self._pass_on(control, name)
            except SandboxStartFailed as error:
                log.error("no egress process could be started", extra={"reason": error.message})

    def _on_event(self, message: Message) -> None:
        if "refused" in message:
            self.on_refused(message["name"], message["refused"], message["reason"], message["untold"])
