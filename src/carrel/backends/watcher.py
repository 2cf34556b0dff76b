"""Memory bound without control groups: sum what a sandbox's processes hold, and kill the largest when it is too much.

A weaker promise than a memory control group: it looks twice a second, so code can pass the limit for that long, and
what lies in tmpfs is bounded by its own quotas only. A cheap look first (resident, which counts a template's pages
in every process), the exact one (PSS, which shares them out) only when that is over the limit; shared memory counts
as long as it is mapped, and the kinds that need no mapping are refused (`policy.py`). See proc_pid_status(5),
proc_pid_smaps(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from carrel.errors import SandboxStartFailed

PERIOD_S = 0.5


class Watched(Protocol):
    """A sandbox as the watcher needs it."""

    memory_limit_bytes: int

    def root_pidfds(self) -> list[int]:
        """The processes that all others of the sandbox descend from."""
        ...

    def on_out_of_memory(self) -> None:
        """Called just before a process is killed."""
        ...


class Scales(Protocol):
    """Who may look into the processes of sandboxes, and kill them: the spawner, behind the cell block."""

    async def weigh(self, roots: list[int], limit_bytes: int) -> int | None:
        """The pid of the largest process below the pidfds `roots`, or None where all together are within the limit."""
        ...

    async def kill(self, pidfd: int) -> None: ...


async def watch(sandboxes: Callable[[], Iterable[Watched]], scales: Scales) -> None:
    """Look at every sandbox, for ever; cancelled by the owner."""
    while True:
        await asyncio.sleep(PERIOD_S)
        for sandbox in list(sandboxes()):
            with contextlib.suppress(OSError, SandboxStartFailed):  # one that ends while it is looked at
                await check(sandbox, scales)


async def check(sandbox: Watched, scales: Scales) -> None:
    """Reading is done in a thread: the code decides how much there is to read."""
    with contextlib.ExitStack() as opened:
        # Copies, since the sandbox may end meanwhile and its descriptors be closed.
        roots = [_held(os.dup(fd), opened) for fd in sandbox.root_pidfds()]
        pids = [pid for fd in roots if (pid := pid_of(fd)) is not None]
        if await asyncio.to_thread(_resident_below, pids) <= sandbox.memory_limit_bytes:
            return
        victim = await scales.weigh(roots, sandbox.memory_limit_bytes)
        if victim is not None:
            pidfd = _held(os.pidfd_open(victim), opened)
            sandbox.on_out_of_memory()
            await scales.kill(pidfd)


def _held(fd: int, opened: contextlib.ExitStack) -> int:
    opened.callback(os.close, fd)
    return fd


def _resident_below(roots: list[int]) -> int:
    return sum(_resident_bytes(pid) for pid in family(roots))


def largest_if_over(roots: list[int], limit: int) -> int | None:
    """The exact look."""
    pids = family(roots)
    exact = {pid: _proportional_bytes(pid) for pid in pids}
    return max(exact, key=lambda pid: exact[pid]) if sum(exact.values()) > limit else None


def family(roots: list[int]) -> list[int]:
    """`roots` and all that descends from them now."""
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - this runs often; strings are quicker
                todo += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def pid_of(pidfd: int) -> int | None:
    """The process's number here; None when it has ended (fdinfo says -1)."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            number = int(line.split()[1])
            return number if number > 0 else None
    return None


def _resident_bytes(pid: int) -> int:
    return _sum(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:"))


def _proportional_bytes(pid: int) -> int:
    return _sum(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:"))


def _sum(path: str, names: tuple[str, ...]) -> int:
    """Of the lines that begin so; 0 where the process is gone."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path(path).read_text(errors="replace").splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))
    return 0
