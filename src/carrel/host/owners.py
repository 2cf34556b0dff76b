"""Names for owners of something of the whole machine (a packet rule, a setting): so that what the dead left can be told from the rest."""

from __future__ import annotations

import os
from pathlib import Path

from carrel.backends.cgroups import start_time


def me() -> str:
    """This process, for ever: its pid namespace, its pid, when it began (pids come again, and are others' in other containers)."""
    return f"{_pid_namespace()}_{os.getpid()}_{start_time(os.getpid())}"


def is_gone(name: str) -> bool:
    """Whether `name`, from `me`, is a process that has ended. One of another pid namespace cannot be seen from here and counts as alive."""
    namespace, pid, began = name.split("_")
    if namespace != _pid_namespace():
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state in "ZX" or start_time(int(pid)) != began
    except (FileNotFoundError, ProcessLookupError):
        return True


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)
