"""Which limit, if any, an exception speaks of: the interpreter's word about its own failure, which nobody outside could give."""

from __future__ import annotations

import _thread
import errno

MEMORY, PROCESSES, DISK = "memory", "processes", "disk"
ALL = frozenset({MEMORY, PROCESSES, DISK})

_NO_THREAD = "can't start new thread"
_CHAIN = 8  # exceptions deep: libraries wrap what the system told them


def of(failure: BaseException | None) -> str:
    """One of ALL, or "" where the failure has to do with none."""
    for _ in range(_CHAIN):
        if failure is None:
            break
        if found := _one(failure):
            return found
        failure = failure.__cause__ or (None if failure.__suppress_context__ else failure.__context__)
    return ""


def _one(failure: BaseException) -> str:
    if isinstance(failure, MemoryError):
        return MEMORY
    if isinstance(failure, RuntimeError) and str(failure).startswith(_NO_THREAD):
        return PROCESSES
    if not isinstance(failure, OSError):
        return ""
    if failure.errno == errno.ENOMEM:
        return MEMORY
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the last: RLIMIT_FSIZE, at level restricted
        return DISK
    return PROCESSES if failure.errno == errno.EAGAIN and not _can_start_thread() else ""


def _can_start_thread() -> bool:
    """EAGAIN is the answer to a fork that the limit refuses, and to a socket that has nothing to read: trying once more tells them apart.

    A thread, since it counts as a process does and costs next to nothing. Code whose processes have ended by now gets the general word.
    """
    try:
        _thread.start_new_thread(_nothing, ())
    except RuntimeError:
        return False
    return True


def _nothing() -> None:
    pass
