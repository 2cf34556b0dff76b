"""What the numbers were taken on, and what /proc says of processes and memory."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_COUNTED_S = 1.1  # processors add their counts to /proc/meminfo once a second (vm.stat_interval)
KIB_PER_MB = 1024  # sizes are given in MB of 1,048,576 bytes, as the limits are


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    cores: int
    memory_gb: int
    system: str
    kernel: str
    python: str
    user: str
    load: tuple[float, float]
    when: str

    @classmethod
    def here(cls, load_before: float, load_after: float) -> Machine:
        """Loads are one-minute averages; the run itself is part of the second."""
        info = (PROC / "cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.+)", info)
        release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
        return cls(
            processor=model[1].strip() if model else platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gb=round(_field(PROC / "meminfo", "MemTotal") / KIB_PER_MB / 1024),
            system=release.get("PRETTY_NAME", platform.system()),
            kernel=platform.release(),
            python=platform.python_version(),
            user="root" if os.geteuid() == 0 else "an ordinary user",
            load=(round(load_before, 2), round(load_after, 2)),
            when=time.strftime("%Y-%m-%d", time.gmtime()),
        )

    def __str__(self) -> str:
        return (
            f"on {self.when} as {self.user}: {self.processor}, {self.cores} cores, {self.memory_gb} GB, {self.system}, "
            f"kernel {self.kernel}, Python {self.python}; load average {self.load[0]} before and {self.load[1]} after"
        )


def load() -> float:
    return os.getloadavg()[0]


def available_mb() -> float:
    return _field(PROC / "meminfo", "MemAvailable") / KIB_PER_MB


def settled_available_mb(patience_s: float = 3.0) -> float:
    """MemAvailable once it has stopped moving by more than a megabyte, or patience is over."""
    deadline = time.monotonic() + patience_s
    time.sleep(_COUNTED_S)
    last = available_mb()
    while time.monotonic() < deadline:
        time.sleep(_COUNTED_S)
        now = available_mb()
        if abs(now - last) < 1:
            return now
        last = now
    return last


def rss_mb(pid: int) -> float:
    return _field(PROC / str(pid) / "status", "VmRSS") / KIB_PER_MB


def peak_rss_mb(pid: int) -> float:
    return _field(PROC / str(pid) / "status", "VmHWM") / KIB_PER_MB


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew from the present (proc_pid_clear_refs(5), 5)."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def pss_mb(pids: Iterable[int]) -> float | None:
    """Proportional set size of all together; None where this user may not look."""
    total = 0
    for pid in pids:
        try:
            total += _field(PROC / str(pid) / "smaps_rollup", "Pss")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            return None
    return total / KIB_PER_MB


def descendants(root: int) -> set[int]:
    """Every process below `root`, in any pid namespace."""
    parents: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit() and (parent := _parent(path)) is not None:
            parents.setdefault(parent, []).append(int(path.name))
    found: set[int] = set()
    level = [root]
    while level:
        level = [child for pid in level for child in parents.get(pid, ())]
        found.update(level)
    return found


def _parent(path: Path) -> int | None:
    try:
        return int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return None


def _field(path: Path, name: str) -> int:
    """A "Name:   123 kB" line of a file in /proc."""
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ProcessLookupError(
        f"{path} has no {name}"
    )  # a process that has ended keeps its folder until it is waited for
