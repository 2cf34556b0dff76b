"""The spawner's `kill`: SIGKILL for a process of a sandbox, which the host has a descriptor of but no right to signal.

A descriptor can be had of any process, so as root the spawner looks whose it is: only what runs with an id of the cell block's range is
killed. The process that was looked at is the one that is killed: were its number another's meanwhile, the descriptor's would be dead.
An ordinary user's spawner may do no more than its host.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrel.host.parts import Answer, Operation, Request


class Kills:
    """`ids` are the host ids that sandboxes have."""

    def __init__(self, ids: range) -> None:
        self._ids = ids

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"kill": self._kill}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _kill(self, _request: Request, descriptors: list[int]) -> Answer:
        for pidfd in descriptors:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if os.geteuid() == 0 and not all(uid in self._ids for uid in _uids(pidfd)):
                    raise PermissionError(errno.EPERM, "not a process of a sandbox")
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return {}, []

    def close(self) -> None:
        pass


def _uids(pidfd: int) -> list[int]:
    """Real, effective, saved and file system uid of a process. Raises FileNotFoundError or ProcessLookupError where it has ended."""
    fields = _fields(Path(f"/proc/self/fdinfo/{pidfd}"))
    if int(fields["Pid"]) <= 0:  # ended and reaped, pidfd_open(2)
        raise ProcessLookupError
    return [int(uid) for uid in _fields(Path(f"/proc/{fields['Pid'].strip()}/status"))["Uid"].split()]


def _fields(path: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in path.read_text(errors="replace").splitlines() if ":" in line)
