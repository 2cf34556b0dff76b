"""Processes as tests see them: who is alive, and who descends from this run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: what the tests orphan becomes a child of pytest's, which reaps nobody else's."""
    return _state(pid) not in {None, "Z", "X"}


def descendants(root: int) -> list[int]:
    """Every living process below `root`, in any pid namespace; parents before their children."""
    parents = {pid: parent for pid in _pids() if (parent := parent_of(pid)) is not None}
    found: list[int] = []
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found += level
    return [pid for pid in found if alive(pid)]


def is_first(pid: int) -> bool:
    """Whether it is pid 1 of its innermost pid namespace."""
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in lines)


def children(parent: int) -> list[int]:
    """The living processes whose parent it is."""
    return [pid for pid in _pids() if parent_of(pid) == parent and alive(pid)]


def command(pid: int) -> str:
    """The command line, for messages."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return words or (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def eventually(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    """Whether `condition` comes true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third (state) on: the second may hold spaces and brackets (proc_pid_stat(5))."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _state(pid: int) -> str | None:
    fields = _stat(pid)
    return fields[0] if fields else None


def parent_of(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None
