"""Level `restricted` where it is meant to be used: in a container that lets nobody make namespaces, as root and as an ordinary user.

What attacks have in common with other levels is tested there. Here is what only this level has to hold by itself: no pid namespace ends a
session's processes, no mount namespace hides the server's files, and as an ordinary user all sessions and the server are one user.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import jail
from carrel.backends import confinement
from carrel.cli import launch
from carrel.guest import landlock
from carrel.models import Level
from conftest import Server
from fortress import Attacker, visiting
from jail import Jail
from processes import PROC, descendants, eventually

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(jail.why_not() is not None, reason=str(jail.why_not())),
    pytest.mark.skipif(landlock.version() < 6, reason="a kernel with less Landlock than the jail is to claim"),
]

MEMORY_MIB, PIDS = 128, 32
CONFIG = f"""
[pools.python]
scaleConfiguration = {{maxConcurrentSessions = 6, readySessionInstances = 1}}
carrel = {{image = "python-slim", memory = "{MEMORY_MIB}MiB", disk = "16MiB", tmp = "16MiB", pids = {PIDS}}}
"""
MARK = "carrel-restricted-daemon"
SITUATIONS = {
    "root": Jail(),
    "user": Jail(),
    "root-landlock-1": Jail(landlock_abi=1),
    "user-landlock-1": Jail(landlock_abi=1),
    "user-landlock-5": Jail(landlock_abi=5, no_new_privileges=True),
}


@pytest.fixture(scope="module", params=SITUATIONS)
def situation(request: pytest.FixtureRequest) -> Jail:
    which = SITUATIONS[request.param]
    return replace(which, user=jail.ordinary_user()) if request.param.startswith("user") else which


@pytest.fixture(scope="module")
def jailed(situation: Jail) -> Iterator[Server]:
    """A server that was told nothing about isolation."""
    with (
        tempfile.TemporaryDirectory(prefix="carrel-state-") as state,
        _config() as config,
        jail.serve(situation, Path(state), "--config", config, "--log-level", "error") as server,
    ):
        yield server


@contextlib.contextmanager
def _config() -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(CONFIG)
        file.flush()
        Path(file.name).chmod(0o644)
        yield file.name


@pytest.fixture
def intruder(jailed: Server) -> Iterator[Attacker]:
    with visiting(jailed) as attacker:
        yield attacker


@pytest.fixture
def victim(jailed: Server) -> Iterator[Attacker]:
    with visiting(jailed) as victim:
        yield victim
        assert victim.value("40 + 2") == 42, "the neighbour suffered"


def test_it_serves_by_itself_in_a_plain_container(jailed: Server, intruder: Attacker) -> None:
    """The answer says which boundary it came from, and code works: files, processes, packages."""
    code = """
import json, sqlite3, tempfile, concurrent.futures
open('a.txt', 'w').write('x'); os.rename('a.txt', 'b.txt'); os.mkdir('d')
run = subprocess.run('echo $((40 + 2)) | tr 4 4', shell=True, capture_output=True, text=True).stdout.strip()
python = subprocess.run([sys.executable, '-c', 'import IPython; print(6 * 7)'], capture_output=True, text=True).stdout.strip()
with tempfile.NamedTemporaryFile() as file: file.write(b'x')
with concurrent.futures.ThreadPoolExecutor(4) as pool: total = sum(pool.map(int, range(10)))
[run, python, total, sorted(os.listdir('.')), os.getcwd() == os.environ['HOME'].replace('home', 'data')]
"""
    assert intruder.value(code) == ["42", "42", 45, ["b.txt", "d"], True]
    assert intruder.client.download("b.txt") == b"x"
    assert jailed.level is Level.RESTRICTED


def test_nothing_of_a_session_outlives_it(jailed: Server, intruder: Attacker) -> None:
    """Processes that fork twice, start sessions of their own, ignore signals and have no parent of ours; and all files."""
    code = f"""
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
            os.chdir('/usr')
            os.execve('/bin/sleep', ['sleep', '600'], {{'MARK': {MARK!r}}})
        os._exit(0)
os.makedirs('deep/' * 40); os.chmod('deep', 0)
os.getcwd()
"""
    folder = Path(intruder.value(code)).parent
    assert folder.is_dir()
    assert eventually(lambda: len(daemons(jailed)) == 3)

    intruder.client.end()
    assert eventually(lambda: not daemons(jailed))
    assert eventually(lambda: not folder.exists())


def test_orphans_do_not_survive_a_restart(intruder: Attacker) -> None:
    """An interpreter that kills itself leaves daemons; the next one does not live beside them, and files stay."""
    code = f"""
open('kept.txt', 'w').write('kept')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execve('/bin/sleep', ['sleep', '600'], {{'MARK': {MARK!r}}})
    os._exit(0)
"""
    intruder.value(code + "True")
    assert eventually(lambda: len(daemons(intruder.server)) == 1)

    assert not intruder.run("os._exit(3)").is_ok
    intruder.tools()
    assert intruder.value("os.listdir('.')") == ["kept.txt"]
    assert daemons(intruder.server) == []


def daemons(server: Server) -> list[int]:
    """What the code of these tests left running."""
    return [pid for pid in descendants(server.process.pid) if _environment(pid) == f"MARK={MARK}\0".encode()]


def _environment(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def test_a_fork_bomb_ends_and_its_session_goes_on(intruder: Attacker, victim: Attacker) -> None:
    """Bounded as root by the kernel, for a shared user by the warden; the neighbour answers meanwhile."""
    intruder.run("while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)", timeout=3)

    assert victim.value("1 + 1") == 2
    intruder.still_works()
    assert eventually(lambda: len(descendants(intruder.server.process.pid)) < 60, 20)


def test_memory_is_bounded_over_all_processes(intruder: Attacker) -> None:
    """Six children take what one may not have; the watcher ends the largest until the rest is within the limit."""
    code = f"""
for _ in range(6):
    if os.fork() == 0:
        held = bytearray({MEMORY_MIB // 3} << 20); time.sleep(30); os._exit(0)
[os.wait()[1] for _ in range(3)]
"""
    assert intruder.value(code) == [9, 9, 9]


def test_a_neighbours_files_are_out_of_reach(intruder: Attacker, victim: Attacker) -> None:
    """Found by their path, which is no secret: not read, listed, changed, moved or removed; nothing is planted among them."""
    folder = victim.value("open('theirs.txt', 'w').write('private'); os.getcwd()")
    code = f"""
folder = {folder!r}
file = folder + '/theirs.txt'
[refused(open, file), refused(open, file, 'r+'), refused(os.listdir, folder), refused(os.unlink, file), refused(os.rename, file, 'mine'),
 refused(os.link, file, 'mine'), refused(os.mkdir, folder + '/planted'), refused(os.truncate, file, 0), refused(os.rmdir, folder),
 refused(os.listdir, os.path.dirname(os.path.dirname(folder)))]
"""
    assert set(intruder.value(code)) <= {"EACCES", "EPERM", "EXDEV"}
    assert victim.value("open('theirs.txt').read()") == "private"


def test_modes_and_times_of_others_cannot_be_changed(intruder: Attacker, victim: Attacker) -> None:
    """Landlock does not see chmod and its kind, and a shared user would own the file: it fails, or is answered and not done."""
    path = victim.value("open('theirs.txt', 'w').close(); os.getcwd() + '/theirs.txt'")
    before = Path(path).stat()
    code = """
calls = [lambda: os.chmod(path, 0o777), lambda: os.utime(path, (1, 1)), lambda: os.chown(path, -1, -1)]
calls.append(lambda: os.setxattr(path, 'user.x', b''))
for call in calls:
    try: call()
    except OSError: pass
"""
    intruder.run(f"path = {path!r}\n{code}")
    intruder.run(f"path = {str(intruder.server.state / 'connection.json')!r}\n{code}")

    after = Path(path).stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert (intruder.server.state / "connection.json").stat().st_mode & 0o777 == 0o600


def test_the_servers_files_and_sockets_are_out_of_reach(intruder: Attacker) -> None:
    """Its keys and its hostlink, by which every session could be called: the code may be the same user as the server."""
    state = intruder.server.state
    code = f"""
found = [refused(open, {str(state / "connection.json")!r}), refused(os.listdir, {str(state)!r})]
found += [refused(open, '/etc/shadow'), refused(os.listdir, '/home')]
def call():
    socket.socket(socket.AF_UNIX).connect({str(state / "run" / "hostlink.sock")!r})
found + [refused(call), refused(os.listdir, '/proc'), refused(open, '/proc/1/status'), refused(open, '/proc/1/environ')]
"""
    assert set(intruder.value(code)) <= {"EACCES", "EPERM"}


def test_no_socket_is_to_be_had_but_a_pair(intruder: Attacker) -> None:
    """By family, and a pair that could be turned to another address; what a pair is for works."""
    code = """
pair = socket.socketpair(); pair[0].send(b'x')
[[refused(socket.socket, family, kind) for family in (1, 2, 10, 16, 17, 40) for kind in (1, 2, 3)],
 refused(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM), pair[1].recv(1) == b'x']
"""
    sockets, datagrams, works = intruder.value(code)
    assert set(sockets) <= {"EPERM", "ENETUNREACH", "EAFNOSUPPORT"}
    assert (datagrams, works) == ("EPERM", True)


def test_others_cannot_be_signalled_slowed_or_looked_into(
    intruder: Attacker, victim: Attacker, situation: Jail
) -> None:
    """The neighbour, the warden, the server: by every call that takes a process."""
    targets = {"neighbour": victim.value("os.getpid()"), "warden": "os.getppid()", "server": 1}
    for who, pid in targets.items():
        if who == "warden" and not situation.user and situation.landlock_abi is not None:
            continue  # an older kernel and a user of its own: the session can end itself, and nobody else
        code = f"""
pid = {pid}
[refused(os.kill, pid, 9), refused(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 9)),
 refused(os.setpriority, os.PRIO_PROCESS, pid, 19), refused(os.setpriority, os.PRIO_USER, os.getuid(), 19),
 refused(os.sched_setaffinity, pid, {{0}}), refused(resource.prlimit, pid, resource.RLIMIT_NOFILE),
 refused(open, f'/proc/{{pid}}/mem'), refused(open, f'/proc/{{pid}}/cmdline')]
"""
        assert set(intruder.value(code)) <= {"EPERM", "EACCES", "ESRCH"}, who
    owner = f"""
import fcntl
pair = socket.socketpair()
try:
    fcntl.fcntl(pair[0], fcntl.F_SETOWN, {targets["neighbour"]}); fcntl.fcntl(pair[0], 10, 9)
    fcntl.fcntl(pair[0], fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
except OSError: pass
pair[1].send(b'x')
"""
    intruder.value(owner)  # SIGKILL for the neighbour, as the owner of a socket that has something to read


def test_kernel_objects_with_names_are_not_shared(intruder: Attacker) -> None:
    """System V and POSIX queues and segments: there is no ipc namespace to keep them apart."""
    made = "libc.shmget(0xCA44E1, 4096, 0o1666), libc.msgget(0xCA44E1, 0o1666), libc.semget(0xCA44E1, 1, 0o1666)"
    code = f"[{made}, libc.mq_open(b'/x', 0o102, 0o666, 0)]"

    assert intruder.value(code) == [-1, -1, -1, -1]


def test_image_code_is_never_root(jailed: Server, intruder: Attacker, situation: Jail) -> None:
    """Templates, wardens and interpreters are other users than the server's root, without its capabilities, and cannot get them back."""
    intruder.value("1")
    guests = [
        pid
        for pid in descendants(jailed.process.pid)
        if b"carrel.guest import warden" in (PROC / str(pid) / "cmdline").read_bytes()
    ]
    assert len(guests) >= 3  # a template; a warden and an interpreter at least
    changing_ids = 0b111 << 6  # SETGID, SETUID, SETPCAP
    for pid in guests:
        status = dict(line.split(":\t", 1) for line in (PROC / str(pid) / "status").read_text().splitlines())
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert int(status["CapBnd"], 16) & ~changing_ids == 0 or situation.user
        assert int(status["CapEff"], 16) & ~changing_ids == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.thorough
def test_a_killed_server_leaves_nothing_for_long(situation: Jail) -> None:
    """Not even with daemons running: its processes die with the container, its files with the next start."""
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as state, _config() as config:
        options = ("--config", config, "--log-level", "error")
        with jail.serve(situation, Path(state), *options) as server, server.client() as client:
            folder = Path(client.execute("import os; os.getcwd()").result).parent
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert folder.exists()
        (Path(state) / "connection.json").unlink()
        with jail.serve(situation, Path(state), *options) as server, server.client() as client:
            assert client.execute("1 + 1").result == 2
            assert not folder.parent.exists()


# ---- what it refuses, and its parts alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        (Jail(landlock=False), "Landlock"),
        (Jail(user="nobody", landlock=False), "Landlock"),
    ],
    ids=["root", "user"],
)
def test_without_landlock_nothing_is_served(which: Jail, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither this level, which says why, nor another in its place."""
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as state:
        options = ("--isolation", "restricted", "--images", f"{state}/images")
        with pytest.raises(launch.LaunchError), jail.serve(which, Path(state), *options):
            pass
    assert reason in capfd.readouterr().err


def test_a_root_that_may_not_change_ids_is_told_so() -> None:
    """It would be one root for all sessions. An ordinary user's server would do."""
    doctor = (sys.executable, "-P", "-m", "carrel.cli", "doctor", "--json")
    done = subprocess.run(
        Jail(capabilities=("chown", "kill")).command(*doctor), capture_output=True, text=True, check=False
    )
    found = {each["level"]: each for each in json.loads(done.stdout)["levels"]}[Level.RESTRICTED]

    assert not found["works"]
    assert "SETUID" in found["reason"]


@pytest.mark.thorough
@pytest.mark.parametrize("left", [("chown", "kill", "setgid", "setpcap"), ()], ids=["no-setuid", "none"])
def test_a_server_of_a_root_that_may_not_change_ids_ends_with_a_reason(
    left: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """And with a warning that its own processes stay root; it used to be a traceback."""
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as state:
        which = Jail(capabilities=left)
        with pytest.raises(launch.LaunchError), jail.serve(which, Path(state), "--images", f"{state}/images"):
            pass
    said = capfd.readouterr().err
    assert "root may not become other users here" in said
    assert "as root it needs the capabilities SETUID" in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_template_can_become_a_session_and_nobody_else() -> None:
    """By every call that changes ids; nor by a user namespace, into which who may change ids maps whom he likes; and a root that it might
    become would have no power."""
    code = """
import ctypes, errno, json, os, platform
from carrel.backends import confinement
from carrel.guest import linux
from carrel.host import wardens
ids = range(1_900_000_000, 1_900_000_100)
program = confinement.template_seccomp(ids)
wardens._become_templates_user(ids.start)
linux.no_new_privileges()
linux.load_seccomp(program)
def refused(call, *arguments):
    try: call(*arguments)
    except OSError as error: return True
    return False
outside = [0, 1, 1000, 65534, ids.start - 1, ids.stop, 2**32 - 1, 2**32 - 2]
own = ids[1]
found = [refused(os.setresuid, *each) for n in outside for each in ((n, own, own), (own, n, own), (own, own, n))]
found += [refused(call, 0) for call in (os.setuid, os.setgid, os.seteuid)] + [refused(os.setgroups, [0]), refused(os.setreuid, 0, 0)]
libc = ctypes.CDLL(None, use_errno=True)
clone, clone3 = {'x86_64': (56, 435), 'aarch64': (220, 435)}[platform.machine()]
for flag in (0x02000000, 0x04000000, 0x08000000, 0x00020000, 0x10000000, 0x20000000, 0x40000000):
    found.append(libc.syscall(clone, flag | 17, 0, 0, 0, 0) < 0 and ctypes.get_errno() == errno.EPERM)
found.append(libc.syscall(clone3, 0, 0) < 0 and ctypes.get_errno() == errno.ENOSYS)
os.setresgid(ids[1], ids[1], ids[1]); os.setresuid(ids[1], ids[1], ids[1])
print(json.dumps([all(found), os.getresuid() == (ids[1],) * 3]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[true, true]"


def test_what_is_weaker_is_said() -> None:
    """In words for an operator, one sentence for each."""
    best = confinement.weaknesses(confinement.Machine(has_own_ids=True, landlock=7))
    worst = confinement.weaknesses(confinement.Machine(has_own_ids=False, landlock=1))

    assert len(best) == 1
    assert len(worst) == 3
