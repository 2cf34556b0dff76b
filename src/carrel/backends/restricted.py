"""Level `restricted`: for a default container, where no namespace can be made. Landlock, seccomp, limits, and as root a user of its own.

The host's half of it. The spawner (`host/wardens.py`) starts a template per image and clears up after sessions; templates fork wardens, the
agents of this level, at this module's word (`guest/warden.py`). What code may do is `confinement.py`. Decision 0012 says why it is so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket

from carrel.backends import confinement
from carrel.backends.base import RESTART_S, START_S, Death, KilledOnce, Meter, NoMeter, Usage
from carrel.backends.confinement import Machine
from carrel.backends.fdsocket import FdSocket, Message
from carrel.backends.references import References
from carrel.backends.spawning import Launcher, Progress, Spawner, ended
from carrel.backends.templates import Rotation, Template, Templates, started
from carrel.errors import SandboxStartFailed
from carrel.models import ImageInfo, Level, Network, PoolSpec

_CREATE_S = 20
_END_S = 3  # a warden, to kill its session and leave


class RestrictedBackend:
    level = Level.RESTRICTED
    start_s, restart_s = START_S, RESTART_S
    network = None

    def __init__(
        self,
        launcher: Launcher,
        progress: Progress = lambda _line: None,
        rotation: Rotation = Rotation(),  # noqa: B008 - frozen
    ) -> None:
        self._launcher, self._progress = launcher, progress
        self.templates = Templates(rotation, self._start_template)
        self.images = References(self._ask_for_image, self._hold_image)
        self.machine = Machine(has_own_ids=False, landlock=0)
        self._spawner: Spawner | None = None
        self._starting = asyncio.Lock()
        self._live: set[RestrictedSandbox] = set()
        self._free: list[int] = []  # numbers of sessions, of those that have a user id
        self._count = 0

    @property
    def weaknesses(self) -> list[str]:
        return confinement.weaknesses(self.machine)

    async def start(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        await self._start()

    async def _start(self) -> None:
        self.images.forget()
        self._spawner = await Spawner.start(self._launcher)
        answer, (end,) = await self._spawner.ask({"op": "wardens"})
        with socket.socket(fileno=end) as sweep:
            sweep.setblocking(False)
            await asyncio.get_running_loop().sock_recv(sweep, 16)
        self.machine = Machine(has_own_ids=bool(answer["sessions"]), landlock=answer["landlock"])
        self._free = list(range(answer["sessions"], 0, -1))

    @property
    def spawner(self) -> Spawner:
        """Raises SandboxStartFailed where there is none."""
        if self._spawner is None:
            raise SandboxStartFailed("The level has not been started.")
        return self._spawner

    async def image(self, name: str, progress: Progress) -> ImageInfo:
        await self._revive()
        return await self.images.resolve(name, progress)

    async def _revive(self) -> None:
        async with self._starting:
            if not self.spawner.is_alive:  # and with it all templates and wardens
                await self._end_all()
                await self._start()

    async def prepare(self, pool: PoolSpec) -> None:
        if pool.network is not Network.NONE:
            raise SandboxStartFailed("Level restricted has no network: set EgressDisabled, or use level namespace.")
        await self._revive()
        async with self.templates.hold(await self.images.pin(pool.image)):
            return

    async def create(self, pool: PoolSpec) -> RestrictedSandbox:
        await self.prepare(pool)
        sandbox = RestrictedSandbox(self, self._take_number(), pool)
        self._live.add(sandbox)
        try:
            await sandbox.enclose()
        except BaseException:
            await asyncio.shield(sandbox.kill())
            raise
        return sandbox

    def _take_number(self) -> int:
        if not self.machine.has_own_ids:
            self._count += 1
            return self._count
        if not self._free:
            raise SandboxStartFailed("All user ids set aside for sessions are in use.")
        return self._free.pop()

    def release(self, sandbox: RestrictedSandbox, number: int, *, is_empty: bool) -> None:
        """A sandbox is gone; its number is another's when nothing of it is left."""
        self._live.discard(sandbox)
        if self.machine.has_own_ids and is_empty:
            self._free.insert(0, number)

    async def _ask_for_image(self, name: str, progress: Progress) -> Message:
        def tell(line: str) -> None:
            self._progress(line)
            progress(line)

        return await self.spawner.ask_aside({"op": "image", "name": name}, progress=tell)

    async def _hold_image(self, folder: str) -> None:
        await self.spawner.ask({"op": "hold", "image": folder})

    async def _start_template(self, image: str) -> Template:
        await self.images.describe(image)
        request = {"op": "warden-template", "image": image}
        return await started("the template", lambda descriptors: self.spawner.ask(request, descriptors))

    async def _end_all(self) -> None:
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._live)))
        await self.templates.close()
        if self._spawner is not None:
            await self._spawner.close()
            self._spawner = None

    async def close(self) -> None:
        await self._end_all()


class RestrictedSandbox(KilledOnce):
    def __init__(self, backend: RestrictedBackend, number: int, pool: PoolSpec) -> None:
        self.id = f"{os.getpid()}-r{number}"
        self.meter: Meter = NoMeter()
        self._backend, self._number, self._pool = backend, number, pool
        self._warden: int | None = None
        self._notes: FdSocket | None = None
        self._is_out_of_memory = False  # of the present interpreter
        self.channel, self._warden_end = socket.socketpair()
        self.channel.setblocking(False)

    async def enclose(self) -> None:
        """Have a warden made."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._notes = FdSocket(ours, "the warden", self._on_note)
        request = {**confinement.session(self._pool, self._backend.machine, self._number), "child": [self._number, 0]}
        with theirs, self._warden_end:
            async with self._backend.templates.hold(await self._backend.images.pin(self._pool.image)) as template:
                self._warden = await template.fork(request, [self._warden_end.fileno(), theirs.fileno()], _CREATE_S)
        await self._notes.first(_CREATE_S)

    def _on_note(self, note: Message) -> None:
        self._is_out_of_memory = "memory" in note

    async def interpreter(self) -> None:
        """The warden makes it, at the link's `attach`."""
        self._is_out_of_memory = False

    async def death(self) -> Death:
        """The warden tells how its child ended, in the execution's last frame; here is only why, where it was the warden that killed it."""
        return Death(signal=signal.SIGKILL, was_out_of_memory=True) if self._is_out_of_memory else Death()

    async def usage(self) -> Usage:
        return Usage()

    async def _kill(self) -> None:
        """The end of its channel makes the warden kill its session and leave; then the spawner sees to it that nothing is left."""
        self.channel.close()
        self._warden_end.close()
        if self._notes is not None:
            self._notes.close()
        is_empty = True
        try:
            if self._warden is not None and not await ended(self._warden, _END_S):
                is_empty = await self._kill_warden(self._warden)
            await self._backend.spawner.ask_aside({"op": "clear", "number": self._number})
        except SandboxStartFailed:
            is_empty = (
                False  # the spawner has ended, and its end or its successor clears up; or it lacks what a child takes
            )
        finally:
            if self._warden is not None:
                os.close(self._warden)
                self._warden = None
            self._backend.release(self, self._number, is_empty=is_empty)

    async def _kill_warden(self, pidfd: int) -> bool:
        """One that does not leave. Whether it has ended then; as root what it leaves is cleared by its user, else by its template."""
        if self._backend.machine.has_own_ids:
            await self._backend.spawner.ask_aside({"op": "clear", "number": self._number})
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return await ended(pidfd)
