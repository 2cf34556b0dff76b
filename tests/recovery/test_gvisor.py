"""Level `gvisor`: kills and crashes leave nothing of `runsc` behind, and what can go on goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from carrel.client import ApiError, Client
from carrel.models import Level
from conftest import Server, SlimServer
from processes import alive, children, command, descendants, eventually, parent_of

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def tower(slim_server: SlimServer) -> Iterator[Server]:
    """One server for the tests after which it goes on."""
    with slim_server(level=Level.GVISOR) as server:
        yield server


@pytest.fixture
def guest(tower: Server) -> Iterator[Client]:
    with tower.client() as client:
        client.execute("kept = 41; open('file.txt', 'w').write('here')")
        yield client
        with suppress(ApiError, httpx.HTTPError):
            client.end()


def processes_of(server: Server) -> set[int]:
    return set(descendants(server.process.pid))


def gvisors(server: Server) -> set[int]:
    """Sentries and gofers; what gVisor runs of the code hangs below them."""
    return {pid for pid in processes_of(server) if "runsc-" in command(pid)}


def settled(server: Server) -> set[int]:
    """`gvisors`, once the pool is full and nothing is starting or ending."""
    found: set[int] = set()
    for _ in range(60):
        before, found = found, gvisors(server)
        if found and found == before:
            return found
        time.sleep(1)
    raise AssertionError("the pool does not come to rest")


def works(client: Client) -> bool:
    try:
        return bool(client.execute("1 + 1", timeout=20).result == 2)
    except (ApiError, httpx.HTTPError):
        return False


def test_nothing_of_a_session_is_left_after_its_end(tower: Server, guest: Client) -> None:
    """Sentry, gofer, pid 1, whatever the code started: all that came with the session goes with it."""
    before = settled(tower)
    guest.execute("import subprocess; [subprocess.Popen(['sleep', '600'], start_new_session=True) for n in range(5)]")
    mine = {pid for pid in processes_of(tower) if _sees(pid, "file.txt")}
    assert mine
    family = {each for pid in mine for each in (*descendants(parent_of(pid) or pid), parent_of(pid) or pid)}
    guest.end()

    assert len(family) > 8
    assert eventually(lambda: not any(alive(pid) for pid in family))
    assert len(settled(tower)) <= len(before)


def test_nothing_of_runsc_is_root_of_the_host(tower: Server, guest: Client) -> None:
    """Sentry and gofer run with host ids above those of people and systems, each with its own."""
    found = [_status(pid) for pid in settled(tower)]
    uids = [int(each["Uid"].split()[0]) for each in found]

    assert min(uids) >= (0x40000000 if os.geteuid() == 0 else 1)
    assert len(set(uids)) == len(uids) >= 4
    assert all(int(each["NoNewPrivs"]) == 1 and int(each["Seccomp"]) == 2 for each in found)


def test_a_sentry_that_dies_takes_its_session_only(tower: Server, guest: Client) -> None:
    """The session is lost, and its identifier's next call begins anew; another session keeps its variables."""
    settled(tower)
    with tower.client() as other:
        other.execute("mine = 1")
        gofer = next(pid for pid in processes_of(tower) if _sees(pid, "file.txt"))
        sentry = next(pid for pid in children(parent_of(gofer) or 0) if "runsc-sandbox" in command(pid))
        os.kill(sentry, signal.SIGKILL)

        assert eventually(lambda: works(guest), 30)
        assert [other.execute("'mine' in globals()").result, guest.execute("'kept' in globals()").result] == [
            True,
            False,
        ]
        other.end()


@pytest.mark.parametrize("who", ["carrel.host.spawner", "carrel.guest.init"])
def test_without_its_cell_block_every_sentry_is_gone_and_new_ones_come(tower: Server, guest: Client, who: str) -> None:
    """The kernel ends them all; the next call has a new session."""
    before = gvisors(tower)
    os.kill(next(pid for pid in sorted(processes_of(tower)) if who in command(pid)), signal.SIGKILL)

    assert eventually(lambda: not any(alive(pid) for pid in before))
    assert eventually(lambda: works(guest), 60)


def test_killing_the_host_leaves_no_sentry(slim_server: SlimServer) -> None:
    """SIGKILL of the host ends them all; conftest.py looks for mounts, control groups and files afterwards."""
    with slim_server(level=Level.GVISOR) as server:
        assert eventually(lambda: len(gvisors(server)) >= 2, 30)
        before = gvisors(server)
        os.kill(server.pids["host"], signal.SIGKILL)

        assert eventually(lambda: not any(alive(pid) for pid in before))


def test_a_restart_is_a_fork(tower: Server, guest: Client) -> None:
    """The nursery has the image's libraries imported: a new interpreter comes without cold imports, and knows nothing of the old one."""
    guest.execute("import os; os._exit(3)")
    began = time.monotonic()

    assert guest.execute("'kept' in globals()").result is False
    assert time.monotonic() - began < 3
    assert guest.download("file.txt") == b"here"


def test_code_cannot_reach_its_nursery(tower: Server, guest: Client) -> None:
    """kill(-1) ends what is the code's; the nursery lives, and a new interpreter comes."""
    refused = """
import ctypes, os, signal
found = []
for pid in (int(name) for name in os.listdir('/proc') if name.isdigit()):
    if pid != os.getpid():
        try: os.kill(pid, 0); found.append(pid)
        except PermissionError: pass
        try: open(f'/proc/{pid}/mem', 'rb').read(1); found.append(f'{pid} mem')
        except OSError: pass
        if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0: found.append(f'{pid} traced')
found"""
    assert guest.execute(refused).result == []
    guest.execute("import os, signal; os.kill(-1, signal.SIGKILL); os.kill(1, signal.SIGKILL)")
    assert works(guest)
    guest.execute("os.kill(os.getpid(), 9)")
    assert works(guest)


def _sees(pid: int, name: str) -> bool:
    """Whether it is the file server of the session that has such a file."""
    return "runsc-gofer" in command(pid) and Path(f"/proc/{pid}/root/mnt/data/{name}").exists()


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
