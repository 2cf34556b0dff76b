"""What a running server holds of the machine, as lines that two moments can be compared by: what a session leaves behind is a line more.

Theory of operation: `Remains.of` looks at every process below this run (pytest is a subreaper, so nothing that sessions orphan gets away),
and at what only the kernel's lists show: ids that own processes or keys, control groups. Processes are compared by number, descriptors by
kind and count for each process, mounts and links for each namespace. `carrel serve`'s own processes must not be replaced meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carrel.backends import ids
from conftest import Server
from processes import PROC, command, descendants

_CGROUPS = Path("/sys/fs/cgroup")
_NUMBER = re.compile(r"\d+")
_GATEWAY = "carrel.server"


@dataclass(frozen=True)
class Remains:
    lines: Counter[str]

    @classmethod
    def of(cls, server: Server) -> Remains:
        found: Counter[str] = Counter()
        pids = [server.process.pid, *descendants(server.process.pid)]
        everybody = descendants(os.getpid())
        found.update(f"process {pid}: {command(pid)}" for pid in everybody)
        for pid in pids:
            found.update(_descriptors(pid))
        found.update(_in_namespaces(pids))
        found.update(_groups(pids))
        found.update(_ids(server.state))
        found.update(f"file: {path}" for path in server.state.rglob("*"))
        return cls(found)

    def more_than(self, before: Remains) -> list[str]:
        """What is here and was not, or is here more often."""
        return sorted((self.lines - before.lines).elements())


def settled(server: Server, before: Remains, timeout: float) -> list[str]:
    """What is there more than `before` once nothing more goes away, or after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (more := Remains.of(server).more_than(before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return more


def _descriptors(pid: int) -> Iterator[str]:
    """By what they lead to, numbers left out: a namespace, a pidfd, a control group's file, a pipe.

    Connections between gateway and host are kept for the next call, as are clients' to the gateway: they are nobody's remains.
    """
    name = command(pid)
    kept = set(_named_sockets(pid))
    for target in _links(PROC / str(pid) / "fd"):
        if not (target.startswith("socket:") and (_GATEWAY in name or target in kept)):
            yield f"descriptor of {pid} ({name[:60]}): {_NUMBER.sub('N', target)}"


def _links(folder: Path) -> Iterator[str]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            yield str(entry.readlink())


def _named_sockets(pid: int) -> Iterator[str]:
    """Unix sockets with a path: unlike socket pairs, which are what agents and templates hold the other end of."""
    for line in _lines(PROC / str(pid) / "net/unix")[1:]:
        fields = line.split()
        if len(fields) == 8:
            yield f"socket:[{fields[6]}]"


def _in_namespaces(pids: list[int]) -> Iterator[str]:
    """Mounts and network links, of each namespace once; links of the machine's own are other servers' too."""
    seen = {_namespace(os.getpid(), "net")}
    for pid in pids:
        for kind, name, table in (("mount", "mnt", "mountinfo"), ("link", "net", "net/dev")):
            namespace = _namespace(pid, name)
            if namespace is None or namespace in seen:
                continue
            seen.add(namespace)
            yield f"{kind} namespace {namespace}"
            for line in _lines(PROC / str(pid) / table):
                yield f"{kind} in {namespace}: {_essential(kind, line)}"


def _essential(kind: str, line: str) -> str:
    """A mount without its number, a link without its counters."""
    return " ".join(line.split()[3:]) if kind == "mount" else line.partition(":")[0].strip()


def _namespace(pid: int, name: str) -> str | None:
    try:
        return str((PROC / str(pid) / "ns" / name).readlink())
    except OSError:
        return None


def _groups(pids: list[int]) -> Iterator[str]:
    owners = {f"carrel-{pid}-" for pid in pids}
    for folder, names, _files in os.walk(_CGROUPS):
        for name in names:
            path = f"{folder}/{name}"
            if any(owner in path for owner in owners):
                yield f"control group {path}"


def _ids(state: Path) -> Iterator[str]:
    """Processes and keys of the ids that are set aside for this server's sessions, whoever their parent is."""
    own = ids.sessions(state)
    for path in PROC.iterdir():
        if path.name.isdigit():
            for line in _lines(path / "status"):
                if line.startswith("Uid:") and int(line.split()[1]) in own:
                    yield f"id {line.split()[1]}: process {path.name}"
    for line in _lines(Path("/proc/key-users")):
        uid = int(line.partition(":")[0])
        if uid in own and uid != own.start:
            yield f"id {uid}: keys"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
