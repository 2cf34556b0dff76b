"""Level `process`: an agent and its interpreter as ordinary processes. No sandbox at all; for development, and only when
asked for by name.

The agent runs with the server's own Python and makes its interpreter itself. Its folder stands in for /mnt/data and
is removed with it. Memory, cpu and files are bounded by rlimits only, and code can read and write whatever the
server's user can.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from carrel.backends import guestlib, images, policy
from carrel.backends.base import RESTART_S, START_S, Death, KilledOnce, Meter, NoMeter, Usage
from carrel.errors import SandboxStartFailed
from carrel.guest.threads import SINGLE_THREADED
from carrel.models import ImageInfo, Level, Network, PoolSpec

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from carrel.guest import alone; alone.main(sys.argv[2:])"
_BOOT_GUEST = "import sys; sys.path.insert(0, sys.argv.pop(1)); from carrel.guest import guests; guests.main()"
_END_S = 3


class ProcessBackend:
    level = Level.PROCESS
    start_s, restart_s = START_S, RESTART_S
    network = None

    def __init__(self, state: Path, image_folder: Path, progress: Callable[[str], None] = lambda _line: None) -> None:
        self._state, self._image_folder, self._progress = state, image_folder, progress
        self._images: dict[str, images.Image] = {}  # by name, as it was last asked for, and by reference
        self._held: dict[str, int] = {}
        self._live: set[ProcessSandbox] = set()
        self._library = Path()
        self._count = 0

    @property
    def weaknesses(self) -> list[str]:
        return ["this is not a sandbox: code runs as the server's user and can do what that user can"]

    async def start(self) -> None:
        self._library = await asyncio.to_thread(guestlib.ensure, self._image_folder)
        folder = self._state / "run" / "process"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier server that was killed
        folder.mkdir(parents=True)

    async def image(self, name: str, progress: Callable[[str], None]) -> ImageInfo:
        def tell(line: str) -> None:
            self._progress(line)
            progress(line)

        found = await asyncio.to_thread(images.ensure, name, self._image_folder, tell)
        if found.reference not in self._held:
            try:
                self._held[found.reference] = images.hold(found.root)
            except OSError as error:
                raise SandboxStartFailed(f"the image {found.reference} is being removed") from error
        self._images[name] = self._images[found.reference] = found
        return ImageInfo(found.reference, found.software)

    async def prepare(self, pool: PoolSpec) -> None:
        if pool.network is Network.LISTED:
            reason = "Level 'process' cannot hold code to an egress list: it has the server's own network."
            raise SandboxStartFailed(reason)
        if pool.image not in self._images:
            await self.image(pool.image, lambda _line: None)

    async def create(self, pool: PoolSpec) -> ProcessSandbox:
        self._count += 1
        sandbox = ProcessSandbox(
            f"{os.getpid()}-{self._count}", Path(tempfile.mkdtemp(dir=self._state / "run" / "process")), self._live
        )
        self._live.add(sandbox)
        try:
            await sandbox.start(self._library, self._images[pool.image], pool)
        except OSError as error:
            await asyncio.shield(sandbox.kill())
            raise SandboxStartFailed(f"The agent could not be started: {error.strerror}") from error
        return sandbox

    async def close(self) -> None:
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._live)))
        while self._held:
            os.close(self._held.popitem()[1])
        shutil.rmtree(self._state / "run" / "process", ignore_errors=True)


class ProcessSandbox(KilledOnce):
    def __init__(self, name: str, folder: Path, live: set[ProcessSandbox]) -> None:
        self.id = name
        self.meter: Meter = NoMeter()
        self._folder, self._live = folder, live
        self._process: asyncio.subprocess.Process | None = None
        self.channel, self._agent_end = socket.socketpair()
        self.channel.setblocking(False)

    async def start(self, library: Path, image: images.Image, pool: PoolSpec) -> None:
        (self._folder / "data").mkdir()
        environment = {**policy.ENVIRONMENT, **SINGLE_THREADED, **image.host_environment(library)}
        environment |= {"HOME": str(self._folder), "TMPDIR": str(self._folder)}
        environment |= self._packages(pool, environment) | policy.runtime(pool)
        address_space = policy.rlimits(pool, has_memory_cgroup=False)["RLIMIT_AS"]
        arguments = (library, self._agent_end.fileno(), self._folder / "data", address_space, *_command(library, image))
        with self._agent_end:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-c", _BOOT, *map(str, arguments)),
                pass_fds=[self._agent_end.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def _packages(self, pool: PoolSpec, environment: dict[str, str]) -> dict[str, str]:
        """As policy.packages, for an interpreter that has no user site and whose own folders are shared by all sessions."""
        place = self._folder / "packages"
        place.mkdir()
        settings = policy.packages(pool, str(place), pool.packages_wheels)
        settings = {name: value for name, value in settings.items() if name.startswith("PIP_")}
        paths = [path for path in (environment.get("PYTHONPATH"), str(place)) if path]
        return settings | {"PIP_TARGET": str(place), "PYTHONPATH": ":".join(paths)}

    async def interpreter(self) -> None:
        """The agent makes it, at the link's `attach`."""

    async def death(self) -> Death:
        return Death()

    async def usage(self) -> Usage:
        return Usage()

    async def _kill(self) -> None:
        """The end of its channel makes the agent kill its children and leave; one that does not is killed itself."""
        self.channel.close()
        self._agent_end.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._live.discard(self)


def _command(library: Path, image: images.Image) -> list[str]:
    """What the agent runs for an interpreter; it adds the control descriptor's number."""
    python = str(image.host_python)
    if image.is_python:
        return [python, "-m", "carrel.guest.guests", image.runtime]
    return [python, "-I", "-S", "-c", _BOOT_GUEST, str(library), image.runtime, *image.host_guest]
