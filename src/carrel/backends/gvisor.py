"""Level `gvisor`: a kernel of its own for each session, in user space (https://gvisor.dev), started by `runsc`.

The host's half of it. A cell block as the namespace level's, with another range of host ids; its bare template forks a pid 1 for each
sandbox, which sets up namespaces and has `runsc` start the sentry in them (`guest/sentry.py`). Nothing of it is root of the host. The
agent is pid 1 inside; it makes its interpreters itself, from a nursery that has the image's libraries imported (`guest/nursery.py`), so a
restart is a fork. Decision 0011 has the measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
from typing import Any

from carrel.backends import bundle, policy
from carrel.backends.base import Death, KilledOnce, Meter, NoMeter, Usage
from carrel.backends.cellblock import CellBlock
from carrel.backends.fdsocket import FdSocket, Message
from carrel.backends.meter import CgroupMeter
from carrel.backends.spawning import Launcher, Progress, ended
from carrel.backends.templates import Rotation
from carrel.errors import SandboxStartFailed
from carrel.guest import frames
from carrel.models import ImageInfo, Level, Network, PoolSpec

_CREATE_S = 30  # a sentry, on a busy machine
_TRIAL_S = 10  # the same, to find out which platform works
_DEATH_S = 1.0
_NOTE_BYTES = 4096
_TRIAL = PoolSpec("trial", image="python-slim")
_HOW_TO_GET = (
    "install gVisor's runsc (apt install runsc, or https://gvisor.dev/docs/user_guide/install/) where PATH finds it"
)

log = logging.getLogger(__name__)


class GvisorBackend:
    level = Level.GVISOR
    network = None
    start_s = 120.0  # libraries are imported anew for each sandbox, and slower than outside
    restart_s = 20.0

    def __init__(self, launcher: Launcher, progress: Progress = lambda _line: None) -> None:
        self.block = CellBlock(launcher, progress, lambda _exit: None, Rotation())
        self._starting = asyncio.Lock()
        self._live: dict[int, GvisorSandbox] = {}
        self._free_ids = list(reversed(bundle.FIRST_IDS))
        self._count = 0
        self.platform = ""

    @property
    def weaknesses(self) -> list[str]:
        return (
            [] if self.block.cgroup_version is not None else ["no control groups: a session's memory has no hard limit"]
        )

    async def start(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        await self._start_block()

    async def _start_block(self) -> None:
        await self.block.start(needs_runsc=True)
        if self.block.own_ids < policy.OWN_IDS:
            reason = self.block.no_ids_reason or f"there are {self.block.own_ids}"
            raise SandboxStartFailed(
                f"Level gvisor needs a range of {policy.ID_RANGE} host ids, which root has and /etc/subuid may give: {reason}."
            )
        if not self.platform:
            self.platform = await self._find_platform()

    async def _find_platform(self) -> str:
        """The first that starts a sandbox. Only trying tells: names and device files prove nothing."""
        image = await self.block.images.describe(_TRIAL.image)
        failures = []
        for platform in bundle.PLATFORMS:
            self.platform, sandbox = platform, self._sandbox(_TRIAL)
            try:
                await sandbox.enclose(image, _TRIAL_S)
                await sandbox.hello(_TRIAL_S)
            except SandboxStartFailed as error:
                failures.append(f"{platform}: {error.message}")
            else:
                return platform
            finally:
                self.platform = ""
                await asyncio.shield(sandbox.kill())
        raise SandboxStartFailed(f"runsc starts no sandbox here ({'; '.join(failures)})")

    async def image(self, name: str, progress: Progress) -> ImageInfo:
        await self._revive()
        return await self.block.images.resolve(name, progress)

    async def _revive(self) -> None:
        async with self._starting:
            if not self.block.is_alive:  # the spawner or init died, and with it every sandbox
                await self.block.close()
                await self._start_block()

    async def prepare(self, pool: PoolSpec) -> None:
        if pool.network is not Network.NONE:
            raise SandboxStartFailed("Level gvisor has no network yet: set EgressDisabled, or use level namespace.")
        await self._revive()
        await self.block.images.describe(pool.image)
        if pool.packages_wheels:
            await self.block.prepare_wheels(pool.name)

    async def create(self, pool: PoolSpec) -> GvisorSandbox:
        await self.prepare(pool)
        sandbox = self._sandbox(pool)
        try:
            await sandbox.enclose(await self.block.images.describe(pool.image), _CREATE_S)
        except BaseException:
            await asyncio.shield(sandbox.kill())
            raise
        return sandbox

    def _sandbox(self, pool: PoolSpec) -> GvisorSandbox:
        self._count += 1
        self._live[self._count] = sandbox = GvisorSandbox(self, self._count, pool)
        return sandbox

    def take_ids(self) -> int:
        """The first of a sandbox's ids in the cell block."""
        if not self._free_ids:
            raise SandboxStartFailed("All host uids set aside for sessions are in use.")
        return self._free_ids.pop()

    def release(self, number: int, first_id: int) -> None:
        """A sandbox is gone, and its ids free for another."""
        self._live.pop(number, None)
        if first_id:
            self._free_ids.append(first_id)

    async def close(self) -> None:
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._live.values())))
        await self.block.close()


class GvisorSandbox(KilledOnce):
    def __init__(self, backend: GvisorBackend, number: int, pool: PoolSpec) -> None:
        self.id = f"{os.getpid()}-g{number}"
        self.channel: socket.socket
        self._backend, self._number, self._pool = backend, number, pool
        self._first_id = 0
        self.meter: Meter = NoMeter()
        self._group: CgroupMeter | None = None
        self._pidfd: int | None = None
        self._notes: _Notes | None = None

    async def enclose(self, image: Message, seconds: float) -> None:
        """Have pid 1 made, and by it the sandbox with its agent."""
        block = self._backend.block
        self._group, agent_joins, code_joins = await block.make_group(self.id, bundle.limits(self._pool))
        self.meter = self._group or self.meter
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        setup = FdSocket(ours, "runsc")
        try:
            self._first_id = self._backend.take_ids()
            wheels = block.wheels.get(self._pool.name, "")
            spec = bundle.sandbox(self._pool, image, self._first_id, self._backend.platform, wheels)
            request = {"op": "sentry", "spec": spec, "child": [self._number, 0]}
            with theirs:
                async with block.bare() as bare:
                    self._pidfd = await bare.fork(request, [theirs.fileno(), *code_joins], seconds)
            _answer, (channel, notes) = await setup.first(seconds)
        finally:
            setup.close()
            for fd in (*agent_joins, *code_joins):
                os.close(fd)
        self.channel = socket.socket(fileno=channel)
        self.channel.setblocking(False)
        self._notes = _Notes(notes, self.id)

    async def hello(self, seconds: float) -> None:
        """Until the agent says a word. Raises SandboxStartFailed when it does not."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(self.channel, frames.encode({"s": 1, "op": "hello"}))
                if not await loop.sock_recv(self.channel, _NOTE_BYTES):
                    raise SandboxStartFailed("the sandbox ended at once")
        except (TimeoutError, OSError) as error:
            raise SandboxStartFailed(f"the sandbox says nothing within {seconds:.0f} s") from error

    async def interpreter(self) -> None:
        """The agent makes it, at the link's `attach`."""
        if self._notes is not None:
            self._notes.turn()

    async def death(self) -> Death:
        return await self._notes.death() if self._notes is not None else Death()

    async def usage(self) -> Usage:
        return self._group.usage() if self._group is not None else Usage()

    async def _kill(self) -> None:
        """SIGKILL to pid 1 of the pid namespace: the kernel kills sentry and gofer, and pid 1 has ended only when they have."""
        if hasattr(self, "channel"):
            self.channel.close()
        if self._notes is not None:
            self._notes.close()
        is_empty = True
        if self._pidfd is not None:
            await self._backend.block.kill(self._pidfd)
            is_empty = await ended(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._group is not None and self._group.count_memory_kills():
            log.warning("a sandbox ran out of memory as a whole and was ended", extra={"sandbox": self.id})
        if self._group is not None:
            self._group.close()
        await self._backend.block.remove_group(self.id)
        self._backend.release(self._number, self._first_id if is_empty else 0)


class _Notes:
    """What the inside says of its interpreters' ends, a JSON object in a line each; believed about this sandbox only, and bounded."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name, self._buffer = fd, name, b""
        self._turn = 0
        self._memory_turn = 0  # the last one from which something was killed for memory
        self._end: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def turn(self) -> None:
        """The next interpreter is asked for."""
        self._turn += 1
        self._end = asyncio.get_running_loop().create_future()

    async def death(self) -> Death:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DEATH_S):
                return await asyncio.shield(self._end)
        return Death()

    def close(self) -> None:
        if self._fd >= 0:
            self._read()  # a last word
        self._stop()

    def _stop(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _NOTE_BYTES)
        except BlockingIOError:
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        if not data or len(self._buffer) > _NOTE_BYTES:
            self._stop()

    def _take(self, note: Any) -> None:
        if not isinstance(note, dict):
            return
        if isinstance(failed := note.get("failed"), str):
            log.warning("a sandbox failed from inside", extra={"sandbox": self._name, "reason": failed})
        elif note.get("memory") == self._turn:
            self._memory_turn = self._turn
        elif note.get("turn") == self._turn and not self._end.done():
            code, number = note.get("code"), note.get("signal")
            self._end.set_result(
                Death(
                    exit_code=code if isinstance(code, int) else None,
                    signal=number if isinstance(number, int) else None,
                    was_out_of_memory=number == signal.SIGKILL and self._memory_turn == self._turn,
                )
            )
