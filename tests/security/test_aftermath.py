"""Five hundred hostile sessions, each ended in the middle of what it does: the server holds nothing of them, and nothing is left after it.

The attacks are those of this folder, eight at a time, ended after a moment by a delete, which neither waits for the code nor asks it. The
check is exact: processes, descriptors of every process of the server, mounts and links of every namespace, control groups, ids in use,
keys, files, against the moment before (remains.py); at the end the machine against the moment before the server (leftovers.py).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from carrel.client import ApiError
from carrel.models import MIB, Level
from conftest import Server, SlimServer, fresh_identifier
from leftovers import Before
from processes import command, descendants, eventually
from remains import Remains, settled

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

AT_ONCE = 8
SESSIONS = {
    Level.NAMESPACE: 500,
    Level.RESTRICTED: 100,
    Level.GVISOR: 60,
}  # where others share too little to leave more behind, as many as a run has time for: a kernel of its own takes a second to start
GROWTH_MIB = 48  # of host and gateway: results that are kept for callers go with their sessions
QUIET_S = 90.0  # the pool gives back what it keeps ready for more of such a burst after half a minute

CONFIG = """
rotate-forks = 0
rotate-minutes = 0

[pools.python]
scaleConfiguration = {maxConcurrentSessions = 12, readySessionInstances = 0}

[pools.python.carrel]
image = "python-slim"
memory = "128MiB"
disk = "16MiB"
inodes = 4000
tmp = "8MiB"
pids = 48
"""

NETWORK = """egress = {allow = ["example.com"]}

[pools.python.sessionNetworkConfiguration]
status = "EgressEnabled"
"""

TOOLS = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def forever(step):
    while True:
        try: step()
        except (OSError, RuntimeError, MemoryError): pass
"""
ATTACKS = {
    "forks": "forever(os.fork)",
    "orphans in sessions of their own": """
def step():
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
forever(step)""",
    "a shell's fork bomb": "subprocess.run(['sh', '-c', 'f() { f | f & }; f; sleep 60'])",
    "deaf to every signal": """
for n in range(30):
    if os.fork() == 0:
        for number in signal.valid_signals():
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True: time.sleep(1)
time.sleep(60)""",
    "stopped and traced": """
for n in range(20):
    if os.fork() == 0: libc.ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)""",
    "signals to everybody": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
forever(lambda: (os.kill(-1, signal.SIGTERM), os.kill(1, signal.SIGSTOP)))""",
    "threads": "forever(lambda: threading.Thread(target=time.sleep, args=(60,)).start())",
    "memory": "hoard = []\nforever(lambda: hoard.append(b'x' * (1 << 20)))",
    "memory of many": """
for n in range(16):
    if os.fork() == 0: x = b'x' * (6 << 20); time.sleep(60)
time.sleep(60)""",
    "memory without an owner": """
m = mmap.mmap(-1, 64 << 20)
fds = [os.memfd_create('x') for n in range(50)]
forever(lambda: [os.write(fd, bytes(1 << 16)) for fd in fds])""",
    "output": "forever(lambda: os.write(1, b'x' * (1 << 16)))",
    "output of children": "for n in range(8): subprocess.Popen(['yes'])\ntime.sleep(60)",
    "files": """
n = 0
while True:
    n += 1
    try: os.makedirs(f'd{n % 50}/{n}'); open(f'd{n % 50}/{n}/f', 'w').write('x' * 5000)
    except OSError: subprocess.run(['rm', '-rf', f'd{n % 50}'])""",
    "sockets": """
held = []
def step():
    a = socket.socket(); a.bind(('127.0.0.1', 0)); a.listen()
    b = socket.create_connection(a.getsockname()); held.extend((a, b))
    c = socket.socket(socket.AF_UNIX); c.bind(f'\\0{len(held)}'); c.listen(); held.append(c)
forever(step)""",
    "descriptors in flight": """
def step():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    socket.send_fds(a, [b'x'], [a.fileno(), b.fileno()]); socket.send_fds(b, [b'x'], [a.fileno(), b.fileno()])
forever(step)""",
    "mounts, namespaces and keys": """
def step():
    libc.unshare(0x10000000); libc.unshare(0x00020000); libc.unshare(0x20000000)
    libc.mount(b'none', b'/tmp', b'tmpfs', 0, None); libc.umount2(b'/proc', 2); libc.chroot(b'/tmp')
    libc.syscall(248, b'user', b'name', b'payload', 7, -3)
forever(step)""",
    "locked and mapped": """
libc.mlockall(3)
m = [mmap.mmap(-1, 1 << 20) for n in range(40)]
time.sleep(60)""",
    "the network": """
def step():
    s = socket.socket(); s.settimeout(0.2); s.connect(('127.0.0.1', 3128)); held.append(s)
    s.sendall(b'CONNECT example.com:443 HTTP/1.1\\r\\nHost: example.com\\r\\n' + b'x' * 100)
held = []
forever(step)""",
    "its own channel": "forever(lambda: os.write(3, b'\\0\\0\\0\\x02\\0\\0\\0\\0{}'))",
    "its own end": "threading.Timer(0.05, os._exit, (1,)).start(); time.sleep(60)",
    "files being called for": "open('large', 'wb').write(bytes(12 << 20)); time.sleep(60)",
}


@pytest.mark.parametrize("level", SESSIONS, ids=str)
def test_hostile_sessions_leave_nothing(slim_server: SlimServer, level: Level) -> None:
    """Not in the server while it runs on, whose memory has not grown by more than a little, and not on the machine after it."""
    _aftermath(slim_server, level, CONFIG, SESSIONS[level])


def test_hostile_sessions_with_a_network_leave_nothing(slim_server: SlimServer) -> None:
    """The same where each has a way to the filtering proxy: its sockets and its books are given back too."""
    _aftermath(slim_server, Level.NAMESPACE, CONFIG + NETWORK, 60)


def _aftermath(slim_server: SlimServer, level: Level, config: str, number: int) -> None:
    machine = Before()
    with slim_server(config=config, level=level) as server:
        idle = descendants(server.process.pid)
        _quiet_session(server)
        assert eventually(lambda: not _started_since(server, idle), QUIET_S), "a session did not end"
        before, memory = Remains.of(server), _memory_mib(server)

        _attack(server, number)

        assert not (left := settled(server, before, QUIET_S)), "\n".join(left)
        _quiet_session(server)
        assert not (left := settled(server, before, QUIET_S)), "\n".join(left)
        assert _memory_mib(server) - memory < GROWTH_MIB
    assert machine.left() == []


def _started_since(server: Server, idle: list[int]) -> list[int]:
    """Processes of sandboxes; the filtering proxy is started with the first session that needs it, and stays."""
    return [pid for pid in descendants(server.process.pid) if pid not in idle and "carrel.egress" not in command(pid)]


def _attack(server: Server, number: int) -> None:
    seed = int(time.time())
    print(f"seed {seed}")  # shown where the test fails
    chance = random.Random(seed)  # noqa: S311 - which moment, not a secret
    names = list(ATTACKS)
    plan = [(names[n % len(names)], chance.uniform(0.02, 0.35)) for n in range(number)]
    with ThreadPoolExecutor(AT_ONCE) as workers:
        for done in [workers.submit(_one, server, name, seconds) for name, seconds in plan]:
            done.result()


def _one(server: Server, name: str, seconds: float) -> None:
    """One hostile session, from its first call to its end in mid-attack. That a call under way is lost is what it deserves."""
    with server.client(fresh_identifier()) as client:
        client.execute(TOOLS, timeout=30)
        client.start(ATTACKS[name], timeout=30)
        callers = [threading.Thread(target=_meddle, args=(server, client.identifier, how)) for how in range(2)]
        for caller in callers:
            caller.start()
        time.sleep(seconds)
        with contextlib.suppress(ApiError):  # one that its attack has ended already
            client.end()
        for caller in callers:
            caller.join()
        with contextlib.suppress(ApiError):  # what came too late has allocated a session of the same name
            client.end()


def _meddle(server: Server, identifier: str | None, how: int) -> None:
    """File calls that the session's end cuts off."""
    with server.client(identifier) as client, contextlib.suppress(ApiError, httpx.HTTPError):
        if how:
            client.upload("meddled.bin", bytes(4 << 20))
            client.download("meddled.bin")
        else:
            client.list_files(is_recursive=True)
            client.download("large")


def _quiet_session(server: Server) -> None:
    with server.client(fresh_identifier()) as client:
        assert client.execute("1 + 1", timeout=30).result == 2
        client.upload("quiet.txt", b"x")
        assert client.download("quiet.txt") == b"x"
        client.end()


def _memory_mib(server: Server) -> float:
    """What host and gateway hold, both together."""
    pages = [int(Path(f"/proc/{server.pids[name]}/statm").read_text().split()[1]) for name in ("host", "gateway")]
    return sum(pages) * 4096 / MIB
