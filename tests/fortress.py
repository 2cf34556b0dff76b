"""What the attack tests stand on: one server of the small image with small limits, an attacker's session, and a neighbour beside it.

`attacker` checks after each test that the neighbour still answers with its variables kept. `Attacker` runs code and says what came of
it; `libc` and `refused` are there in its session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carrel.client import ApiError, Client, Result
from carrel.models import Level
from conftest import Server, SlimServer
from coprocess import COPROCESS_ENDED
from dialects import DIALECTS
from items import Stronghold
from processes import children, command, descendants, eventually, parent_of

MEMORY_MIB, DISK_MIB, TMP_MIB, PIDS, INODES = 192, 32, 16, 48, 12_000
FORTRESS = f"""
[pools.{{name}}]
{{table}}
scaleConfiguration = {{{{maxConcurrentSessions = 8, readySessionInstances = 2}}}}
carrel.memory = "{MEMORY_MIB}MiB"
carrel.disk = "{DISK_MIB}MiB"
carrel.inodes = {INODES}
carrel.tmp = "{TMP_MIB}MiB"
carrel.pids = {PIDS}
"""

# The errno's name, or "" where the call succeeded; for code that has imported errno.
REFUSED = """
def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
"""
# There in every attacker's session.
_TOOLS = f"""{REFUSED}
import ctypes, errno, os, pathlib, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def syscall(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if done == -1 else ""
"""


@dataclass(frozen=True, slots=True)
class Attacker:
    """A session of hostile code, with the server it is on."""

    server: Server
    client: Client

    def run(self, code: str, timeout: int = 20, **options: Any) -> Result:
        return self.client.execute(code, timeout=timeout, **options)

    def value(self, code: str, timeout: int = 20) -> Any:
        """The value of code that has to get to its end."""
        result = self.run(code, timeout)
        assert result.is_ok, result.stderr
        return result.result

    def tools(self) -> None:
        """Define the helpers, anew after a restart."""
        self.value(_TOOLS)

    def still_works(self) -> None:
        """The session answers, by the interpreter it had or by a fresh one. What bombs were lit beside a guest a restart clears away."""
        if not self.is_guest and self.run("1 + 1").result != 2:
            self.client.restart()
        assert self.value("1 + 1") == 2

    @property
    def level(self) -> Level:
        return self.server.level

    @property
    def is_guest(self) -> bool:
        """Whether the code runs in the guest itself, and not in a process beside it."""
        return self.server.pool == "python"

    def has_died(self, result: Result) -> bool:
        """Whether what ran the code was ended under it."""
        return "Kernel restarted" in result.stderr or (not self.is_guest and COPROCESS_ENDED in result.stderr)

    def host_pid(self) -> int:
        """A process of the session's code, as this machine numbers it; at level gvisor its kernel: the code's are no processes here."""
        return self._sentry() if self.level is Level.GVISOR else self._marked()

    def _sentry(self) -> int:
        """The sentry that runs in the same pid namespace as the file server that sees the session's files."""
        mark = f"carrel-mark-{self.client.identifier}"
        self.value(f"open('/home/user/{mark}', 'w').close()")
        below = descendants(self.server.process.pid)
        gofer = next(
            pid
            for pid in below
            if "runsc-gofer" in command(pid) and Path(f"/proc/{pid}/root/home/user/{mark}").exists()
        )
        return next(pid for pid in children(parent_of(gofer) or 0) if "runsc-sandbox" in command(pid))

    def _marked(self) -> int:
        mark = f"carrel-mark-{self.client.identifier}"
        self.value(f"marked = __import__('subprocess').Popen([{mark!r}, '600'], executable='/bin/sleep')")
        found: list[int] = []

        def look() -> bool:
            # By its command line, which everybody may read: what else /proc has of another id's process an ordinary user may not.
            found[:] = [pid for pid in descendants(self.server.process.pid) if command(pid).startswith(mark)]
            return bool(found)

        assert eventually(look), "the marked process is not among the server's"
        return found[0]

    @property
    def beside(self) -> list[int]:
        """The processes that code sees beside itself: the agent; where that has a nursery, this too."""
        return [1, 2] if self.level is Level.GVISOR else [1]

    @property
    def has_control_groups(self) -> bool:
        """Whether the session's memory, pids and processor are bounded by the kernel as a whole; otherwise the weaker promises hold."""
        return "/carrel-" in Path(f"/proc/{self.host_pid()}/cgroup").read_text()

    @property
    def has_own_uid(self) -> bool:
        """Whether sessions have a host uid each: where the server runs as root, or its user has ids to hand out."""
        return real_uid(self.host_pid()) != real_uid(self.server.process.pid)


def real_uid(pid: int) -> int:
    """Not of the folder in /proc, which says root where a process is not dumpable."""
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("Uid:"))
    return int(line.split()[1])


@pytest.fixture(scope="session")
def fortress(request: pytest.FixtureRequest, slim_server: SlimServer) -> Iterator[Server]:
    """One server for all attacks at each level (evidence.py says which)."""
    place = request.param if isinstance(request.param, Stronghold) else Stronghold(request.param, "python")
    dialect = next(each for each in DIALECTS if each.name == place.runtime)
    config = FORTRESS.format(name=dialect.name, table=dialect.table)
    with slim_server(config=config, level=place.level, pool=dialect.name) as server:
        yield server


@pytest.fixture(scope="session")
def neighbour(fortress: Server) -> Iterator[Client]:
    """Somebody else's session, which nothing that the attacker does may touch."""
    with fortress.client("the-neighbour") as client:
        client.execute("kept = 41; open('theirs.txt', 'w').write('private')")
        yield client


@contextlib.contextmanager
def visiting(server: Server) -> Iterator[Attacker]:
    """An attacker's session, ended afterwards."""
    with server.client() as client:
        attacker = Attacker(server, client)
        attacker.tools()
        yield attacker
        with contextlib.suppress(ApiError):  # an attack may have ended its own session
            client.end()


@pytest.fixture
def attacker(fortress: Server, neighbour: Client) -> Iterator[Attacker]:
    with visiting(fortress) as attacker:
        yield attacker
        answer = neighbour.execute("kept + 1", timeout=10)
        assert answer.result == 42, f"the neighbour suffered: {answer}"
        assert neighbour.download("theirs.txt") == b"private"


@pytest.fixture(scope="module")
def probe(fortress: Server, neighbour: Client) -> Iterator[Attacker]:
    """One session for a module's tests that only try things and change nothing."""
    with visiting(fortress) as probe:
        yield probe
        assert neighbour.execute("kept + 1", timeout=10).result == 42


@pytest.fixture
def accomplice(fortress: Server) -> Iterator[Attacker]:
    """A second attacker, for what two sessions may not have in common."""
    with visiting(fortress) as accomplice:
        yield accomplice
