"""What one sandbox's control groups have counted, read by descriptors that whoever made the groups has opened (cgroups.py).

By descriptors, so that the reader needs no privilege and no path, and reads the right group however names are used again. The processor
time is that of the code's group, agent left out. The peak of memory is set back as an execution begins: version 1 takes a write to
`memory.max_usage_in_bytes`, version 2 one to `memory.peak` from Linux 6.12 on, for the writing descriptor alone; an older kernel tells the
session's peak, and the source says so. Kernel pages: Documentation/admin-guide/cgroup-v1/{memory,cpuacct}.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from carrel.backends.base import Metered, Usage

PEAK, MEMORY, KILLS, CPU = "peak", "memory", "kills", "cpu"  # names of the descriptors

_SIZE = 4096  # of what is read: more than any of these files holds


class CgroupMeter:
    """`files` are open files of the code's groups, by name; owned by the meter. A name that is missing was not there to be opened."""

    def __init__(self, version: int, files: Mapping[str, int]) -> None:
        self._version, self._files = version, dict(files)
        self._cpu_before: int | None = None
        self.cpu_source = self._source("cpuacct.usage", "cpu.stat", CPU)
        self.memory_source = self._source("memory.max_usage_in_bytes", "memory.peak", PEAK)
        if self.memory_source and not self._reset_peak():
            self.memory_source += " since the session began"

    def start(self) -> None:
        self._cpu_before = self.cpu_us()
        self._reset_peak()

    def stop(self) -> Metered:
        before, now = self._cpu_before, self.cpu_us()
        return Metered(
            cpu_ms=None if before is None or now is None else max(0, now - before) / 1000,
            peak_memory_bytes=self._number(PEAK),
        )

    def count_memory_kills(self) -> int:
        """How many processes of the code the kernel has killed for want of memory."""
        return _counter(self._read(KILLS), b"oom_kill") or 0

    def usage(self) -> Usage:
        cpu_us = self.cpu_us()
        return Usage(
            memory_bytes=self._number(MEMORY),
            peak_memory_bytes=self._number(PEAK),
            cpu_s=None if cpu_us is None else cpu_us / 1e6,
        )

    def close(self) -> None:
        """Safe to call again; every figure is None afterwards."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _source(self, v1: str, v2: str, name: str) -> str:
        if name not in self._files:
            return ""
        return f"cgroup v{self._version} {v1 if self._version == 1 else v2}"

    def cpu_us(self) -> int | None:
        if self._version == 1:
            nanoseconds = self._number(CPU)
            return None if nanoseconds is None else nanoseconds // 1000
        return _counter(self._read(CPU), b"usage_usec")

    def _reset_peak(self) -> bool:
        if PEAK in self._files:
            with contextlib.suppress(OSError):
                return os.pwrite(self._files[PEAK], b"0", 0) > 0
        return False

    def _number(self, name: str) -> int | None:
        with contextlib.suppress(ValueError):
            return int(self._read(name))
        return None

    def _read(self, name: str) -> bytes:
        if name in self._files:
            with contextlib.suppress(OSError):  # the group is gone
                return os.pread(self._files[name], _SIZE, 0)
        return b""


def _counter(text: bytes, key: bytes) -> int | None:
    for line in text.splitlines():
        name, _space, value = line.partition(b" ")
        if name == key:
            return int(value)
    return None
