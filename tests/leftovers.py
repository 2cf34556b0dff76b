"""What a test run may leave behind and must not: processes, mounts, control groups, interfaces, packet rules, files.

Theory of operation: `Before` looks at the machine when the run starts, `left` compares when it ends. pytest makes itself a subreaper,
so that whatever the tests start and orphan, however it daemonises, is still its descendant. What other servers on this machine do is
not held against the run: a control group names its owner, files count only where this run's own temporary folder or ours by name.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from carrel.host.veth_way import links_of
from processes import alive, command, descendants

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0  # a kill is asynchronous: the last process, and then its control group, may take a moment to be gone
_CGROUPS = Path("/sys/fs/cgroup")
_INTERFACES = Path("/sys/class/net")
_SEGMENTS = Path("/proc/sysvipc/shm")
_SESSIONS = Path("/var/tmp")
_PROFILES = ("playwright*", ".org.chromium.*", "org.chromium.*")  # of browsers, in the run's own folder
_SHARED_FOLDERS = (_SESSIONS, Path("/run"), Path("/run/netns"), Path("/dev/shm"))


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl PR_SET_CHILD_SUBREAPER")


@dataclass(frozen=True)
class Before:
    """The machine as the run found it."""

    processes: set[int] = field(default_factory=lambda: set(descendants(os.getpid())))
    things: set[str] = field(default_factory=lambda: {*_mounts(), *_groups(), *_network(), *_files(), *_segments()})

    def left(self, grace: float = _GRACE_S) -> list[str]:
        """One line for each thing of ours that is still there after `grace` seconds."""
        deadline = time.monotonic() + grace
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> list[str]:
        running = [pid for pid in descendants(os.getpid()) if pid not in self.processes]
        lines = [f"process {pid}: {command(pid)}" for pid in running]
        return lines + sorted({*_mounts(), *_groups(), *_network(), *_files(), *_segments()} - self.things)


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount: {line}" for line in lines if "carrel" in line]


def _groups() -> list[str]:
    """Control groups of ours in every hierarchy, but those of an owner that is alive and not of this run."""
    found = []
    for folder, children, _ in os.walk(_CGROUPS):
        for name in [each for each in children if each.startswith("carrel-")]:
            children.remove(name)
            if not is_anothers(name):
                found.append(f"control group: {folder}/{name}")
    return found


def is_anothers(group: str) -> bool:
    """Whether `carrel-<pid>-<start time>` is of a living process that this run did not start."""
    return _is_anothers_pid(group.split("-")[1])


def _is_anothers_pid(pid: str) -> bool:
    return pid.isdigit() and alive(int(pid)) and int(pid) not in descendants(os.getpid())


def _network() -> list[str]:
    """Interfaces and packet rules of ours, but those of an owner that is alive and not of this run."""
    listed = (
        subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout if shutil.which("nft") else ""
    )
    tables = [line.split()[-1] for line in listed.splitlines() if " carrel_" in line]
    others = {name for name in tables if _is_anothers_pid(name.split("_")[2])}
    others_links = {link for name in others for link in links_of(name.removeprefix("carrel_"))}
    links = {path.name for path in _INTERFACES.glob("crl*")} - others_links
    found = [f"interface: {name}" for name in links]
    return found + [f"packet rules: {name}" for name in tables if name not in others]


def _segments() -> list[str]:
    """System V shared memory whose maker is dead: of a PostgreSQL that could not clean up, which a killed one's next start does."""
    lines = [line.split() for line in _SEGMENTS.read_text().splitlines()[1:]] if _SEGMENTS.exists() else []
    return [f"shared memory: {words[1]}" for words in lines if not alive(int(words[4]))]


def _files() -> list[str]:
    temporary = Path(tempfile.gettempdir())
    found = [each for folder in (temporary, *_SHARED_FOLDERS) if folder.is_dir() for each in folder.glob("*carrel*")]
    found += [each for pattern in _PROFILES for each in temporary.glob(pattern)]
    return [f"file: {path}" for path in found if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    """Folders of level `restricted` are locked by the server that they belong to, for as long as it lives."""
    try:
        if path.lstat().st_uid != os.geteuid() or (path.parent == _SESSIONS and _is_locked(path)):
            return False
        return not _is_anothers_account(path)
    except OSError:
        return False


def _is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _is_anothers_account(path: Path) -> bool:
    """Whether it is the account of a made-to-forward interface (host/forwarding.py) that a server of another run is in."""
    if not path.name.startswith("carrel-forwarding-"):
        return False
    owners = [owner for entry in json.loads(path.read_text() or "{}").values() for owner in entry["owners"]]
    return any(_is_anothers_pid(owner.split("_")[1]) for owner in owners)
