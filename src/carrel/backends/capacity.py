"""How many sandboxes this machine is for, where the operator does not say."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from carrel.backends import cgroups
from carrel.models import MIB

BYTES_EACH = (
    32 * MIB
)  # an idle session of the heavy image holds 4 to 6 MiB; busy ones more, and the pool's limits are no reservation
DESCRIPTORS_EACH = 24  # of the host
_DESCRIPTORS_KEPT = 512  # for its own connections
_LEAST = 4


def sandboxes(asked: int) -> int:
    """`asked`, or for 0 what memory and descriptors are for."""
    if asked:
        return asked
    by_memory = memory_bytes() // BYTES_EACH
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_descriptors = by_memory if most == resource.RLIM_INFINITY else (most - _DESCRIPTORS_KEPT) // DESCRIPTORS_EACH
    return max(_LEAST, min(by_memory, by_descriptors))


def memory_bytes() -> int:
    """The machine's, or what the server's own control group and those above it leave of it."""
    total = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    return min([total, *_limits()])


def _limits() -> list[int]:
    found = []
    for group in cgroups.own_memory_groups():
        for name in ("memory.limit_in_bytes", "memory.max"):
            with contextlib.suppress(OSError, ValueError):  # not of this version; or "max"
                found.append(int((group / name).read_text()))
    return found
