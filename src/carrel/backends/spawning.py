"""The spawner as the host sees it: how one is started, asked, and ended.

In a server it is the supervisor that starts spawners, at the host's word (`RemoteLauncher`), since the host itself has no rights to hand
on, and a spawner that died has to be replaced. Where there is no supervisor (`carrel doctor`), whoever needs one starts it (`launch`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from carrel.backends.fdsocket import FdSocket, Message
from carrel.config import Config
from carrel.errors import SandboxStartFailed
from carrel.guest.template import MAX_MESSAGE

Progress = Callable[[str], None]

_START_S = 20


@dataclass(frozen=True, slots=True)
class Setup:
    """What a spawner is told by whoever starts it, and never by the host: where it may mount and build, which ranges it may open."""

    state: Path
    images: Path
    wheels: Mapping[str, str] = field(default_factory=dict)  # by pool, the folder that its definition names
    egress_allow_private: tuple[str, ...] = ()  # ranges that links lead to although they are not public

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(
            config.state,
            config.images,
            {pool.name: pool.packages_wheels for pool in config.pools if pool.packages_wheels},
            config.egress_allow_private,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(
            Path(fields["state"]), Path(fields["images"]), fields["wheels"], tuple(fields["egress_allow_private"])
        )


@dataclass(frozen=True, slots=True)
class Launched:
    """A spawner that was started: the host's end of its socket, and a descriptor of its process. Both are the holder's to close."""

    sock: socket.socket
    pidfd: int
    process: object = None  # asyncio's, where it is our child: asyncio kills a process that nobody holds


Launcher = Callable[[], Awaitable[Launched]]


async def launch(setup: Setup) -> Launched:
    """A spawner as a child of this process. It ends with the socket, and with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            # -P: a file of the folder where the server was started must not pass for one of our modules.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "carrel.host.spawner", str(theirs.fileno()), setup.to_json()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        return Launched(ours, os.pidfd_open(process.pid), process)
    except BaseException:
        ours.close()
        raise


class RemoteLauncher:
    """Has the supervisor start spawners, by a SEQPACKET socket to it: a request, and an answer with socket and process."""

    def __init__(self, descriptor: int) -> None:
        self._supervisor = FdSocket(socket.socket(fileno=descriptor), "the supervisor")

    async def launch(self) -> Launched:
        _answer, (sock, pidfd) = await self._supervisor.call({"op": "spawner"}, timeout_s=_START_S)
        return Launched(socket.socket(fileno=sock), pidfd)


class Spawner:
    """A running spawner. `facts` is what its parts said of themselves at the start."""

    def __init__(self, launched: Launched) -> None:
        self._control = FdSocket(launched.sock, "the spawner")
        self._launched = launched
        self._is_closed = False
        self.facts: Message = {}

    @classmethod
    async def start(cls, launcher: Launcher) -> Self:
        """Raises SandboxStartFailed."""
        spawner = cls(await launcher())
        try:
            spawner.facts, _descriptors = await spawner._control.first(_START_S)
        except BaseException:
            await asyncio.shield(spawner.close())
            raise
        return spawner

    @property
    def is_alive(self) -> bool:
        return not self._control.closed.is_set()

    async def ask(self, request: Message, descriptors: list[int] | None = None) -> tuple[Message, list[int]]:
        """One operation. The answer's descriptors are the caller's to close. Raises SandboxStartFailed."""
        return await self._control.call(request, descriptors)

    async def ask_aside(
        self, request: Message, descriptors: list[int] | None = None, progress: Progress = lambda _line: None
    ) -> Message:
        """One operation that a child of the spawner does, however long it takes; `progress` gets what it says meanwhile."""
        _answer, (end,) = await self.ask(request, descriptors)
        with socket.socket(fileno=end) as child:
            return await _last_word(child, str(request["op"]), progress)

    async def close(self) -> None:
        """Let it end what it holds, and wait for that. Safe to call again."""
        self._control.close()
        if not self._is_closed:
            self._is_closed = True
            await ended(self._launched.pidfd)
            os.close(self._launched.pidfd)


async def _last_word(child: socket.socket, what: str, progress: Progress) -> Message:
    child.setblocking(False)
    while True:
        data = await asyncio.get_running_loop().sock_recv(child, MAX_MESSAGE)
        message: dict[str, Any] = json.loads(data) if data else {"error": f"the spawner's {what} ended without a word"}
        if "error" in message:
            raise SandboxStartFailed(message["error"])
        if "progress" not in message:
            return message
        progress(message["progress"])


async def ended(pidfd: int, timeout_s: float = 10) -> bool:
    """Wait for the process behind `pidfd` to end; whether it has."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await done.wait()
        return done.is_set()
    finally:
        loop.remove_reader(pidfd)
