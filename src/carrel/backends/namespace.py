"""Level `namespace`: Linux namespaces, an id of its own, seccomp, control groups; one heavy fork per sandbox.

The host's half of it. The spawner (`host/spawner.py`) starts the cell block, makes control groups and kills; templates inside the
cell block fork agents and interpreters at this module's word. Several sandboxes are made at a time: while the image's template forks for
one, the bare template makes the next one's agent. Works as root and as an ordinary user; what differs is said by `weaknesses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Sequence
from typing import Any

from carrel.backends import ids, links, policy, watcher
from carrel.backends.base import RESTART_S, START_S, Death, KilledOnce, Meter, NoMeter, Usage
from carrel.backends.cellblock import CellBlock
from carrel.backends.fdsocket import FdSocket, Message
from carrel.backends.meter import CgroupMeter
from carrel.backends.network import Network
from carrel.backends.spawning import Launcher, Progress, ended
from carrel.backends.templates import Rotation
from carrel.errors import SandboxStartFailed
from carrel.guest.sandbox import JOINED
from carrel.models import ImageInfo, Level, PoolSpec
from carrel.models import Network as Egress

_CREATE_S = 20
_DEATH_S = 1.0
_LAST_UID = 60_000  # above are ids that systems give a meaning, 65534 for one


class NamespaceBackend:
    level = Level.NAMESPACE
    start_s, restart_s = START_S, RESTART_S

    def __init__(
        self,
        launcher: Launcher,
        progress: Progress = lambda _line: None,
        rotation: Rotation = Rotation(),  # noqa: B008 - frozen
        egress_allow_private: Sequence[str] = (),
    ) -> None:
        self._block = CellBlock(launcher, progress, self._on_interpreter_exit, rotation)
        self.network = Network(self._block.start_egress, self._block.start_uplink, egress_allow_private)
        self._starting = asyncio.Lock()
        self._live: dict[int, NamespaceSandbox] = {}
        self._free_uids: list[int] | None = None  # once the cell block has said how many there are
        self._count = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def weaknesses(self) -> list[str]:
        found = []
        if not self._block.own_ids:
            found.append(f"sessions share the server's host uid: {self._block.no_ids_reason}")
        if self._block.cgroup_version is None:
            found.append(
                "no control groups: memory is bounded per process and by a watcher, processor time is not shared out; "
                "run as root or with delegated control groups"
            )
        return found

    async def start(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a sandbox takes some fifteen descriptors
        await self._start_block()

    async def _start_block(self) -> None:
        await self._block.start()
        if self._free_uids is None:
            self._free_uids = ids.inside(self._block.slot, self._block.own_ids)
        async with self._block.bare():
            pass
        if self._block.cgroup_version is None and self._watcher is None:
            self._watcher = asyncio.create_task(watcher.watch(lambda: self._live.values(), self._block))

    async def image(self, name: str, progress: Progress) -> ImageInfo:
        await self._revive()
        return await self._block.images.resolve(name, progress)

    async def _revive(self) -> None:
        async with self._starting:
            if not self._block.is_alive:  # the spawner or init died, and with it every sandbox
                await self._block.close()
                await self._start_block()

    async def prepare(self, pool: PoolSpec) -> None:
        await self._revive()
        await self._block.prepare(pool.image)
        if pool.packages_wheels:
            await self._block.prepare_wheels(pool.name)
        await self.network.prepare(pool)

    async def create(self, pool: PoolSpec) -> NamespaceSandbox:
        await self.prepare(pool)
        self._count += 1
        sandbox = NamespaceSandbox(self, self._block, self._count, pool)
        self._live[self._count] = sandbox
        try:
            await sandbox.enclose()
        except BaseException:
            await asyncio.shield(sandbox.kill())
            raise
        return sandbox

    def _on_interpreter_exit(self, message: Message) -> None:
        number, turn = message["exited"]
        sandbox = self._live.get(number)
        if sandbox is not None:
            sandbox.on_exit(turn, Death(exit_code=message.get("code"), signal=message.get("signal")))

    def take_uid(self) -> int:
        """An id of the cell block for one sandbox: its own, or 0 where there is only one for all."""
        if not self._block.own_ids:
            return 0
        if not self._free_uids:
            raise SandboxStartFailed("All host uids set aside for sessions are in use.")
        return self._free_uids.pop()

    def release(self, number: int, uid: int) -> None:
        """A sandbox is gone, and its id free for another."""
        self._live.pop(number, None)
        if uid and self._free_uids is not None:
            self._free_uids.append(uid)

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._live.values())))
        await self.network.close()
        await self._block.close()


class NamespaceSandbox(KilledOnce):
    def __init__(self, backend: NamespaceBackend, block: CellBlock, number: int, pool: PoolSpec) -> None:
        self.id = f"{os.getpid()}-{number}"
        self.memory_limit_bytes = pool.memory_bytes
        self._backend, self._block, self._number, self._pool = backend, block, number, pool
        self._uid = 0
        self._spec: dict[str, Any] = {}
        self.meter: Meter = NoMeter()
        self._group: CgroupMeter | None = None
        self._code_joins: list[int] = []
        self._namespaces: list[int] = []
        self._agent_pidfd: int | None = None
        self._interpreter_pidfd: int | None = None
        self._turn = 0  # counts interpreters: the word of one's end may come when the next one is made already
        self._exit: asyncio.Future[Death] | None = None
        self._memory_kills = 0  # that the watcher has done
        self._memory_kills_before = 0  # when the present interpreter was made
        self.channel, self._agent_end = socket.socketpair()
        self.channel.setblocking(False)

    async def enclose(self) -> None:
        """Have an agent made, and by it the sandbox's namespaces and mounts."""
        self._group, agent_joins, self._code_joins = await self._block.make_group(self.id, policy.limits(self._pool))
        self.meter = self._group or self.meter
        setup_socket, agent_setup = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        setup = FdSocket(setup_socket, "the agent")
        try:
            self._uid = self._backend.take_uid()
            self._spec = policy.sandbox(
                self._pool,
                self._uid,
                self._block.wheels.get(self._pool.name, ""),
                has_memory_cgroup=self._group is not None,
            )
            if self._pool.network is Egress.OPEN:
                self._spec["link"] = links.link(self._number)
            request = {"op": "agent", "spec": self._spec, "child": [self._number, 0]}
            with agent_setup, self._agent_end:
                async with self._block.image(self._pool.image) as image, self._block.bare() as bare:
                    passed = [self._agent_end.fileno(), agent_setup.fileno(), image.mounts, *agent_joins]
                    self._agent_pidfd = await bare.fork(request, passed, _CREATE_S)
            _answer, made = await setup.first(_CREATE_S)
            self._namespaces, listeners = made[: len(JOINED)], made[len(JOINED) :]
            net = self._namespaces[JOINED.index("net")]
            number = self._spec["link"]["number"] if self._spec["link"] else None
            await self._backend.network.attach(self.id, self._pool, net, listeners, number)
        finally:
            setup.close()
            _close_all(agent_joins)

    async def interpreter(self) -> list[int]:
        control, control_end = socket.socketpair()
        stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
        for pipe in (stdout_end, stderr_end):
            os.fchmod(pipe, 0o222)  # so that code, which is another user, can open /dev/stdout and /dev/stderr
        self._turn += 1
        self._exit = asyncio.get_running_loop().create_future()
        self._memory_kills_before = self._count_memory_kills()
        passed = [*self._namespaces, control_end.fileno(), stdout_end, stderr_end, *self._code_joins]
        try:
            request = {"op": "interpreter", "spec": self._spec, "child": [self._number, self._turn]}
            async with self._block.image(self._pool.image) as template:
                pidfd = await template.fork(request, passed, _CREATE_S)
        except BaseException:
            control.close()
            _close_all([stdout, stderr])
            raise
        finally:
            control_end.close()
            _close_all([stdout_end, stderr_end])
        self._forget_interpreter()
        self._interpreter_pidfd = os.dup(pidfd)
        return [control.detach(), stdout, stderr, pidfd]

    def _forget_interpreter(self) -> None:
        if self._interpreter_pidfd is not None:
            os.close(self._interpreter_pidfd)
            self._interpreter_pidfd = None

    def root_pidfds(self) -> list[int]:
        return [fd for fd in (self._agent_pidfd, self._interpreter_pidfd) if fd is not None]

    def on_out_of_memory(self) -> None:
        self._memory_kills += 1

    def _count_memory_kills(self) -> int:
        return self._group.count_memory_kills() if self._group is not None else self._memory_kills

    def on_exit(self, turn: int, death: Death) -> None:
        """The template's word of how interpreter `turn` ended."""
        if turn == self._turn and self._exit is not None and not self._exit.done():
            self._exit.set_result(death)

    async def death(self) -> Death:
        death = Death()
        if self._exit is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEATH_S):
                    death = await asyncio.shield(self._exit)
        for_memory = death.signal == signal.SIGKILL and self._count_memory_kills() > self._memory_kills_before
        return Death(death.exit_code, death.signal, was_out_of_memory=for_memory)

    async def usage(self) -> Usage:
        return self._group.usage() if self._group is not None else Usage()

    async def _kill(self) -> None:
        """SIGKILL to pid 1 of the pid namespace: the kernel kills all others, and pid 1 has ended only when they have."""
        self.channel.close()
        self._agent_end.close()
        is_empty = True
        if self._agent_pidfd is not None:
            await self._block.kill(self._agent_pidfd)
            is_empty = await ended(self._agent_pidfd)
            _close_all([self._agent_pidfd])
            self._agent_pidfd = None
        self._forget_interpreter()
        _close_all(self._namespaces)
        _close_all(self._code_joins)
        if self._group is not None:
            self._group.close()
        await self._backend.network.detach(self.id)
        await self._block.remove_group(self.id)  # also where we never heard of one: its reply may have come too late
        self._backend.release(self._number, self._uid if is_empty else 0)  # never an id that a process may still have


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
