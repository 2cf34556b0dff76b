"""Control groups, version 1 and 2, behind one small interface: make a sandbox's groups, remove them, read them, sweep
old ones.

A sandbox has a group with two children: `agent` and `code`. The memory limit is on `code`; the parent's is a little
higher, so that code which runs out of memory is killed and the agent is not. Version 1 has one tree per controller
and no such need for pids and cpu; its processor time is counted by a controller of its own, which some machines mount
with `cpu` and some beside it. Groups are found by their name, `carrel-<pid>-<start time>` of the process that made
them, so that a later start can tell a dead owner's from a live one's. What a group has counted: meter.py. Kernel
pages: Documentation/admin-guide/cgroup-v1/, cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from carrel.backends import meter
from carrel.models import MIB

PREFIX = "carrel-"
_AGENT_SHARE = (
    64 * MIB
)  # what the agent may use on top of the code's limit; uploads into tmpfs beyond it count against the code
_TCP_BYTES = 32 * MIB  # version 1 only; version 2 counts socket buffers as memory
_CPU_PERIOD_US = 100_000
_PARENT, _START_TIME = 1, 19  # indexes in `_status`
_CONTROLLERS = ("memory", "pids", "cpu")
_COUNTER = "cpuacct"  # version 1, where there is one
_ASIDE = "carrel.server"  # where a server moves itself, version 2
_STEP_ASIDE_ATTEMPTS = 5  # one is enough but for processes that are started meanwhile


@dataclass(frozen=True, slots=True)
class Limits:
    memory_bytes: int
    pids: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's groups: what to remove (children first), the files by which a process joins, and what a meter reads.

    Version 1 is joined by `tasks`: a process that moves its one thread itself spares the kernel a lock over all threads of the machine,
    which can take the 20 ms of an RCU grace period (cgroup_procs_write_start in kernel/cgroup/cgroup.c). Version 2 has no such file.
    """

    version: int
    directories: tuple[Path, ...]
    agent_joins: tuple[Path, ...]
    code_joins: tuple[Path, ...]
    counted: Mapping[str, Path]

    def open_joins(self) -> list[int]:
        """For the agent, then for the code."""
        return [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in (*self.agent_joins, *self.code_joins)]

    def open_counted(self) -> dict[str, int]:
        """For a meter, as far as this kernel has the files."""
        found = {}
        for name, path in self.counted.items():
            with contextlib.suppress(OSError):
                found[name] = _open_counted(path)
        return found


class Tree:
    """The place below which this process makes groups: one folder per hierarchy, all of them removed by `close`."""

    def __init__(self, version: int, bases: dict[str, Path]) -> None:
        name = f"{PREFIX}{os.getpid()}-{start_time(os.getpid())}"
        self.version = version
        self._leaving: list[Path] = []  # folders to remove once the last process has left them
        self._roots = {controller: base / name for controller, base in bases.items()}
        try:
            for root in dict.fromkeys(self._roots.values()):
                root.mkdir()
            if version == 2:
                _hand_down(self._roots["memory"])
        except OSError:  # in one hierarchy it may, in another not
            self.close()
            raise

    def make(self, name: str, limits: Limits) -> Group:
        """The groups of sandbox `name`, limits set; none of them where that fails."""
        self._remove_leaving()
        try:
            return self._make_v1(name, limits) if self.version == 1 else self._make_v2(name, limits)
        except FileExistsError:  # another one's
            raise
        except OSError:
            for root in dict.fromkeys(self._roots.values()):
                _remove_below(root / name)
            raise

    def _make_v1(self, name: str, limits: Limits) -> Group:
        memory, pids, cpu = (self._roots[controller] / name for controller in _CONTROLLERS)
        code, counter = memory / "code", self._counter(cpu, name)
        # The agent joins the parent of the counter: its own groups are what the code sees as roots, and no name of ours above them.
        counted = (counter.parent, counter) if counter != cpu else (cpu,)
        folders = tuple(dict.fromkeys((memory, memory / "agent", code, pids, cpu, *counted)))
        for path in folders:
            path.mkdir()
        _limit_v1(memory, limits.memory_bytes + _AGENT_SHARE)
        _limit_v1(memory / "code", limits.memory_bytes)
        (pids / "pids.max").write_text(str(limits.pids + 1))  # the agent counts too
        (cpu / "cpu.cfs_period_us").write_text(str(_CPU_PERIOD_US))
        (cpu / "cpu.cfs_quota_us").write_text(str(int(limits.cpu * _CPU_PERIOD_US)))
        last = (counter,) if counter.parent == cpu else tuple(dict.fromkeys((cpu, counter)))
        return Group(
            version=1,
            directories=folders[::-1],
            agent_joins=tuple(path / "tasks" for path in dict.fromkeys((memory / "agent", pids, cpu, counted[0]))),
            code_joins=tuple(path / "tasks" for path in (code, pids, *last)),
            counted={
                meter.PEAK: code / "memory.max_usage_in_bytes",
                meter.MEMORY: memory / "memory.usage_in_bytes",
                meter.KILLS: code / "memory.oom_control",
                meter.CPU: counter / "cpuacct.usage",
            },
        )

    def _counter(self, cpu: Path, name: str) -> Path:
        """Where version 1 counts the code's processor time: a tree of its own, or below the group that limits it; else that group."""
        root = self._roots.get(_COUNTER)
        if root is None:
            return cpu
        return (cpu if root == cpu.parent else root / name) / "code"

    def _make_v2(self, name: str, limits: Limits) -> Group:
        top = self._roots["memory"] / name
        top.mkdir()
        (top / "cgroup.subtree_control").write_text("+memory")
        for path in (top / "agent", top / "code"):
            path.mkdir()
        (top / "memory.max").write_text(str(limits.memory_bytes + _AGENT_SHARE))
        (top / "code" / "memory.max").write_text(str(limits.memory_bytes))
        with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
            (top / "memory.swap.max").write_text("0")
        (top / "pids.max").write_text(str(limits.pids + 1))
        (top / "cpu.max").write_text(f"{int(limits.cpu * _CPU_PERIOD_US)} {_CPU_PERIOD_US}")
        code = top / "code"
        return Group(
            version=2,
            directories=(top / "agent", code, top),
            agent_joins=(top / "agent" / "cgroup.procs",),
            code_joins=(code / "cgroup.procs",),
            counted={
                meter.PEAK: code / "memory.peak",
                meter.MEMORY: top / "memory.current",
                meter.KILLS: code / "memory.events",
                meter.CPU: code / "cpu.stat",
            },
        )

    def remove(self, group: Group) -> None:
        """Remove a sandbox's groups. A killed process may take a moment to be gone: what is busy is tried again at the next call."""
        self._leaving += group.directories
        self._remove_leaving()

    def _remove_leaving(self) -> None:
        busy = []
        for path in self._leaving:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                busy.append(path)
        self._leaving = busy

    def close(self) -> None:
        for root in dict.fromkeys(self._roots.values()):
            _remove_below(root)


def open_tree() -> Tree | None:
    """A tree of groups where this machine lets us make one with memory, pids and cpu limits; None where it does not."""
    for version, bases in _candidates():
        with contextlib.suppress(OSError):
            if version == 1 or _prepare_v2(bases["memory"]):
                return Tree(version, bases)
    return None


def sweep() -> list[Path]:
    """Remove the groups of owners that are dead, killing what may still be in them; returns what was removed."""
    removed = []
    for base in {path for _version, bases in _candidates() for path in bases.values()}:
        for path in base.glob(f"{PREFIX}*"):
            if not _owner_lives(path.name):
                _kill_all(path)
                _remove_below(path)
                if not path.exists():  # another user's are not ours to remove
                    removed.append(path)
    return removed


def start_time(pid: int) -> str:
    """When `pid` began, in clock ticks since boot: with the pid it names a process for ever (proc_pid_stat(5), field 22)."""
    return _status(pid)[_START_TIME]


def _status(pid: int) -> list[str]:
    """/proc/PID/stat from its third field, the state, on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def own_memory_groups() -> list[Path]:
    """The groups whose memory limits hold for this process, innermost first."""
    mounts, found = _mounts(), []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mount = mounts.get("memory" if "memory" in controllers.split(",") else controllers)
        if mount is not None and (controllers == "" or "memory" in controllers.split(",")):
            group = _below(mount, path)
            found += [each for each in (group, *group.parents) if each.is_relative_to(mount)]
    return found


def _owner_lives(name: str) -> bool:
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) != 2 or not parts[0].isdigit():
        return True  # not of our making
    try:
        status = _status(int(parts[0]))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status[_START_TIME] == parts[1] and status[0] not in "ZX"  # a zombie is dead, whoever has yet to reap it


def _candidates() -> list[tuple[int, dict[str, Path]]]:
    """Where groups might be made, best first."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    mounts = _mounts()
    found: list[tuple[int, dict[str, Path]]] = []
    if all(controller in mounts for controller in _CONTROLLERS):
        present = [name for name in (*_CONTROLLERS, _COUNTER) if name in mounts]
        found.append((1, {name: _below(mounts[name], own.get(name, "/")) for name in present}))
    if "" in mounts:
        bases = _bases_v2(mounts[""], _below(mounts[""], own.get("", "/")))
        found += [(2, dict.fromkeys(_CONTROLLERS, base)) for base in bases]
    return found


def _bases_v2(mount: Path, own: Path) -> list[Path]:
    """The root of what we see, which is root's to use, and our own group, which may have been delegated. The latter
    first where systemd says so: what limits the unit then limits its sessions too."""
    if own.name == _ASIDE:  # an earlier server of this shell moved it there, or this one itself
        own = own.parent
    return list(dict.fromkeys((own, mount) if _is_delegated(own) else (mount, own)))


def _is_delegated(base: Path) -> bool:
    """Whether it is the group of a unit with `Delegate=`: systemd marks it (docs/CGROUP_DELEGATION.md there)."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(base, name) == b"1":
                return True
    return False


def _mounts() -> dict[str, Path]:
    """Mount point of each v1 controller, and of the v2 tree under ""."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _separator, right = line.partition(" - ")
        kind, _source, options = right.split(" ", 2)
        where = Path(left.split()[4])
        if kind == "cgroup2":
            found[""] = where
        elif kind == "cgroup":
            found.update(dict.fromkeys(set(options.split(",")) & {*_CONTROLLERS, _COUNTER}, where))
    return found


def _below(mount: Path, path: str) -> Path:
    return mount / path.lstrip("/")


def _prepare_v2(base: Path) -> bool:
    """Whether `base` hands memory, pids and cpu down to its children, after asking it to.

    A group that has processes of its own cannot (the "no internal processes" rule), unless it is the root. Where they
    are all ours, as in a delegated systemd unit, they move into a child first. Raises OSError where it may not be.
    """
    if not set(_CONTROLLERS) <= set((base / "cgroup.controllers").read_text().split()):
        return False
    if set(_CONTROLLERS) <= set((base / "cgroup.subtree_control").read_text().split()):
        return True
    for _ in range(_STEP_ASIDE_ATTEMPTS):
        try:
            _hand_down(base)
        except OSError as error:
            if error.errno != errno.EBUSY or not _step_aside(base):
                return False
        else:
            return True
    return False


def _hand_down(base: Path) -> None:
    (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))


def _step_aside(base: Path) -> bool:
    """Move this server's processes, if no others are in `base`, into a child of it.

    This server's are we and our ancestors, as far as they are in `base`, whoever shares a login session with one of
    them, and their children: spawner and supervisor are in a session, perhaps with the shell that started them, and
    the host is in one of its own.
    """
    pids = _pids_of(base)
    lineage = [pid for pid in _lineage() if pid in pids]
    sessions = {_session_of(pid) for pid in lineage} | {None}
    # 0: of another pid namespace
    if not all(pid and (_session_of(pid) in sessions or _parent_of(pid) in lineage) for pid in pids):
        return False
    aside = base / _ASIDE
    aside.mkdir(exist_ok=True)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            (aside / "cgroup.procs").write_text(str(pid))
    return True


def _pids_of(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


def _lineage() -> list[int]:
    """This process, its parent, and so on, as far as /proc shows them."""
    found, pid = [], os.getpid()
    with contextlib.suppress(OSError):
        while pid:
            found.append(pid)
            pid = int(_status(pid)[_PARENT])
    return found


def _parent_of(pid: int) -> int | None:
    """None for a process that has ended meanwhile."""
    with contextlib.suppress(OSError):
        return int(_status(pid)[_PARENT])
    return None


def _session_of(pid: int) -> int | None:
    """None for a process that has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def _limit_v1(group: Path, limit: int) -> None:
    (group / "memory.limit_in_bytes").write_text(str(limit))
    with contextlib.suppress(OSError):  # only where swap is accounted; memory and swap together, so: no swap
        (group / "memory.memsw.limit_in_bytes").write_text(str(limit))
    with contextlib.suppress(
        OSError
    ):  # not counted at all before it has a limit of its own, and the host's TCP has one budget for all
        (group / "memory.kmem.tcp.limit_in_bytes").write_text(str(_TCP_BYTES))


def _remove(path: Path, deadline_s: float = 2.0) -> None:
    end = time.monotonic() + deadline_s
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.002)  # a killed process is still on its way out
        else:
            return


def _remove_below(root: Path) -> None:
    for folder, _names, _files in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            _remove(Path(folder))


def _kill_all(root: Path) -> None:
    for folder, _names, _files in os.walk(root):
        with contextlib.suppress(OSError):
            for pid in (Path(folder) / "cgroup.procs").read_text().split():
                if pid != "0":  # a process outside our pid namespace; to kill(2) it would be our own group
                    os.kill(int(pid), 9)


def _open_counted(path: Path) -> int:
    """For writing too where that may be: the peak of memory is set back so."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
