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
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

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


async def watch(sandboxes: Callable[[], Iterable[Watched]]) -> None:
    """Look at every sandbox, for ever; cancelled by the owner."""
    while True:
        await asyncio.sleep(PERIOD_S)
        for sandbox in list(sandboxes()):
            with contextlib.suppress(OSError):  # one that ends while it is looked at
                await check(sandbox)


async def check(sandbox: Watched) -> None:
    """Reading is done in a thread: the code decides how much there is to read, and the kernel walks its page tables for it."""
    roots = [pid for fd in sandbox.root_pidfds() if (pid := _pid_of(fd)) is not None]
    victim = await asyncio.to_thread(_largest_if_over, roots, sandbox.memory_limit_bytes)
    if victim is not None:
        sandbox.on_out_of_memory()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(victim, signal.SIGKILL)


def _largest_if_over(roots: list[int], limit: int) -> int | None:
    pids = family(roots)
    if sum(_resident_bytes(pid) for pid in pids) <= limit:
        return None
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


def _pid_of(pidfd: int) -> int | None:
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
