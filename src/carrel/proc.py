"""What this process uses, as the kernel counts it: by files that are opened before it gives up the right to open any."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_SIZE = 8192  # of what is read of each: more than these files hold of what is looked at


@dataclass(frozen=True, slots=True)
class Process:
    """`open_files` are descriptors, `maximum_files` the most that there may be."""

    cpu_s: float
    memory_bytes: int
    open_files: int
    maximum_files: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Machine:
    memory_bytes: int
    available_bytes: int


class Proc:
    """Made at a process's start, on Linux; reading takes some twenty microseconds, and one more for each ten descriptors."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._meminfo = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        self._files = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def process(self) -> Process:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Process(
            cpu_s=used.ru_utime + used.ru_stime,
            memory_bytes=int(os.pread(self._statm, _SIZE, 0).split()[1]) * _PAGE,
            open_files=self._count_files(),
            maximum_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            started_at=self._started_at,
        )

    def _count_files(self) -> int:
        with os.scandir(self._files) as files:
            return sum(1 for _ in files) - 1  # without the one that lists them

    def machine(self) -> Machine:
        lines = (line.split() for line in os.pread(self._meminfo, _SIZE, 0).decode().splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1}
        return Machine(sizes["MemTotal:"], sizes["MemAvailable:"])


class Disk:
    """The file system of a folder that the process may not reach later."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(
            folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )  # which lists nothing of what is in it

    def bytes(self) -> tuple[int, int]:
        """All, and what is free for whom is not root."""
        found = os.fstatvfs(self._folder)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
