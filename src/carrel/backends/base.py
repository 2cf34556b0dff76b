"""The seam between sessions and isolation: a backend starts sandboxes and hands over a byte stream to the agent inside.

A backend never hears of sessions, HTTP or JSON names. One file of this folder per isolation level implements `Backend`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from carrel.backends.network import Network
from carrel.models import ImageInfo, Level, PoolSpec

START_S, RESTART_S = 30.0, 5.0  # where nothing is slower than a fork


@dataclass(frozen=True, slots=True)
class Death:
    """How an interpreter or a sandbox ended, as the kernel told it. All None where nobody could know."""

    exit_code: int | None = None
    signal: int | None = None
    was_out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a sandbox has used; None where this machine cannot say."""

    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Metered:
    """What the kernel has counted for a sandbox's code between a meter's `start` and its `stop`; None where it does not count."""

    cpu_ms: float | None = None
    peak_memory_bytes: int | None = None


class Meter(Protocol):
    """Counts what the code of one sandbox uses. Read by the session around each execution, on the loop: microseconds, no waiting."""

    cpu_source: str  # where the figures come from, for the reader of a result
    memory_source: str

    def start(self) -> None:
        """Code is about to run."""
        ...

    def stop(self) -> Metered:
        """It has ended."""
        ...

    def count_memory_kills(self) -> int:
        """How many processes of the code the kernel has killed for want of memory, since the sandbox was made; 0 where nobody counts."""
        ...

    def cpu_us(self) -> int | None:
        """Microseconds that its code has computed since the sandbox was made; None where nobody counts, and once the kill has ended."""
        ...


class NoMeter:
    """At levels and on machines without control groups."""

    cpu_source = memory_source = ""

    def start(self) -> None:
        pass

    def stop(self) -> Metered:
        return Metered()

    def count_memory_kills(self) -> int:
        return 0

    def cpu_us(self) -> int | None:
        return None


class Sandbox(Protocol):
    """One isolated place, used for one session and then destroyed. Called by the keeper and by the session it belongs to."""

    id: str
    channel: (
        socket.socket
    )  # AF_UNIX stream to the agent, non-blocking; the owner of the link reads, writes and closes it
    meter: Meter  # usable until the kill has ended

    async def interpreter(self) -> list[int] | None:
        """Make a fresh interpreter. Called once after the start and again after the link's `reset` emptied the sandbox.

        Returns the descriptors to send to the agent with `attach` (the caller sends and closes them), or None at levels where the
        agent makes its own child. Raises SandboxStartFailed.
        """
        ...

    async def death(self) -> Death:
        """How the last interpreter ended. Called when the agent has said that it did; waits a short while for the kernel's word."""
        ...

    async def usage(self) -> Usage: ...

    async def kill(self) -> None:
        """End everything inside, at once and for good, and release all that the sandbox held. Safe to call again."""
        ...


class KilledOnce:
    """The kill of a sandbox, begun by the first call and waited for by all; being cancelled does not cut it short."""

    _killing: asyncio.Task[None] | None = None

    async def kill(self) -> None:
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill())
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        """What each level does, called once."""
        raise NotImplementedError


class Backend(Protocol):
    """A factory of sandboxes at one isolation level. Called by the keeper only."""

    level: Level
    start_s: float  # how long a whole sandbox may take on a busy machine, from `create` until its interpreter is ready
    restart_s: float  # the same for a fresh interpreter in the emptied sandbox

    @property
    def network(self) -> Network | None:
        """What lets its sandboxes out, for lists that change and for what was refused; None where nothing is ever let out."""
        ...

    @property
    def weaknesses(self) -> list[str]:
        """What the boundary lacks on this machine, a sentence each, for an operator to read. Asked for after the start."""
        ...

    async def start(self) -> None:
        """Get ready (cell block, sweep of an earlier crash). Raises SandboxStartFailed with the reason and what to do."""
        ...

    async def image(self, name: str, progress: Callable[[str], None]) -> ImageInfo:
        """What an image's name means now, built first where it is missing; it stays while this backend lives. Called by the room before
        `prepare`, whose pool has the reference in place of the name. `progress` gets a line for each step of a build, from any thread.
        Raises SandboxStartFailed."""
        ...

    async def prepare(self, pool: PoolSpec) -> None:
        """Make the pool's image ready to start sandboxes from (its template). Called before the first `create` for that image."""
        ...

    async def create(self, pool: PoolSpec) -> Sandbox:
        """A new sandbox with agent and without interpreter. Safe to call concurrently. Raises SandboxStartFailed."""
        ...

    async def close(self) -> None:
        """End every sandbox and release everything. Safe to call again."""
        ...
