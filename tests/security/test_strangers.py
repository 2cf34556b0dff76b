"""Two sessions have nothing in common: no memory, no files, no names, no randomness, and no counter that one can use up for the other."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.client import Client
from conftest import Server, fresh_identifier
from fortress import Attacker


def test_shared_memory_is_not_shared(attacker: Attacker, accomplice: Attacker) -> None:
    """System V segments and queues by key, POSIX shared memory by name: each session has its own, or none at all."""
    made = attacker.value("[libc.shmget(0xCA44E1, 4096, 0o1666) >= 0, libc.msgget(0xCA44E1, 0o1666) >= 0]")
    attacker.value(
        "from multiprocessing import shared_memory; block = shared_memory.SharedMemory('carrel-test', create=True, size=64)"
    )

    assert made in ([True, True], [False, False])  # refused where nothing would bound them
    assert accomplice.value(
        "[libc.shmget(0xCA44E1, 4096, 0), libc.msgget(0xCA44E1, 0), libc.semget(0xCA44E1, 1, 0)]"
    ) == [-1, -1, -1]
    assert accomplice.value("refused(os.listdir, '/dev/shm') or os.listdir('/dev/shm')") in ([], "EACCES")
    assert accomplice.value("refused(open, '/dev/shm/carrel-test')") in ("ENOENT", "EACCES")
    # Ids count from the same number in each namespace: what is there under it must be the own.
    assert accomplice.value("libc.shmat.restype = ctypes.c_void_p; libc.shmat(0, None, 0) == 2**64 - 1") is True


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: its folders have other names")
@pytest.mark.parametrize("folder", ["/tmp", "/mnt/data", "/home/user", "/dev/shm"])
def test_files_of_one_session_are_invisible_to_another(attacker: Attacker, accomplice: Attacker, folder: str) -> None:
    attacker.value(f"open('{folder}/secret.txt', 'w').write('secret')")

    assert accomplice.value(f"os.path.exists('{folder}/secret.txt')") is False
    with pytest.raises(Exception, match="FileNotFound"):
        accomplice.client.download("secret.txt")


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: there are no sockets")
def test_sockets_of_one_session_cannot_be_reached_from_another(attacker: Attacker, accomplice: Attacker) -> None:
    """By TCP, by an abstract name, by UDP broadcast."""
    attacker.value("t = socket.create_server(('0.0.0.0', 4711))")
    attacker.value("u = socket.socket(socket.AF_UNIX); u.bind(chr(0) + 'meet'); u.listen()")

    tcp = "refused(socket.create_connection, ('127.0.0.1', 4711), 1)"
    abstract = "refused(socket.socket(socket.AF_UNIX).connect, chr(0) + 'meet')"
    assert accomplice.value(f"[{tcp}, {abstract}]") == ["ECONNREFUSED", "ECONNREFUSED"]


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: /proc is the machine's, and closed")
@pytest.mark.of_python(reason="how many processes make up a session differs")
def test_processes_of_one_session_are_invisible_to_another(attacker: Attacker, accomplice: Attacker) -> None:
    attacker.value("child = subprocess.Popen(['sleep', '600'])")

    assert (
        accomplice.value("[int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()]")
        == accomplice.beside
    )


@pytest.mark.of_python(reason="beside a guest Python has a folder of its own in TMPDIR")
def test_variables_end_with_their_session(attacker: Attacker) -> None:
    """A new session of the same name finds nothing: no variable, no module changed, no file, no process."""
    attacker.value(
        "x = 1; import json; json.changed = True; open(os.path.expandvars('$TMPDIR/left'), 'w').close(); subprocess.Popen(['sleep', '600'])"
    )
    attacker.client.end()
    look = "import json, os; ['x' in globals(), hasattr(json, 'changed'), os.listdir(os.environ['TMPDIR']), os.listdir('.')]"

    assert attacker.value(look) == [False, False, [], []]


def test_a_change_to_a_shared_library_stays_in_its_process(attacker: Attacker, accomplice: Attacker) -> None:
    """Sandboxes are forked from one template: writes are copied, never shared."""
    attacker.value("import json, builtins; json.loads = None; builtins.planted = 1; os.environ['PLANTED'] = '1'")

    assert accomplice.value(
        "import json; [json.loads('1'), 'planted' in dir(__builtins__), 'PLANTED' in os.environ]"
    ) == [1, False, False]


RANDOM = """
import os, random, secrets, ssl, tempfile, uuid
drawn = [random.random(), random.getrandbits(64), secrets.token_hex(8), str(uuid.uuid4()), os.urandom(8).hex(), ssl.RAND_bytes(8).hex()]
drawn.append(tempfile.mktemp())
"""


def test_randomness_differs_between_sessions(attacker: Attacker, accomplice: Attacker) -> None:
    """random, secrets, uuid, ssl, tempfile: the template's state is never used twice; nor after a restart."""
    first, second = (each.value(f"{RANDOM}\ndrawn") for each in (attacker, accomplice))
    attacker.run("os._exit(1)")
    third = attacker.value(f"{RANDOM}\ndrawn")

    for one, two, three in zip(first, second, third, strict=True):
        assert len({one, two, three}) == 3


@pytest.fixture
def heavy(server: Server) -> Iterator[tuple[Client, Client]]:
    with server.client(fresh_identifier()) as one, server.client(fresh_identifier()) as two:
        yield one, two
        one.end()
        two.end()


@pytest.mark.one_level
def test_numpys_randomness_differs_between_sessions(heavy: tuple[Client, Client]) -> None:
    """The global generator and new ones."""
    code = (
        "import numpy.random as r; [float(r.random()), float(r.default_rng().random()), float(r.RandomState().rand())]"
    )
    first, second = (client.execute(code).result for client in heavy)

    assert all(one != two for one, two in zip(first, second, strict=True))


# ---- counters of the kernel --------------------------------------------------------------------------------------------------
# The kernel counts some things per user and charges them to the owners of all user namespaces above (ucounts, user_struct): a session that
# uses up what the server's user may have would take it from every other session, and from the server.

INOTIFY = """
held = []
while len(held) < 1000 and (fd := libc.inotify_init()) >= 0: held.append(fd)
len(held)
"""


def test_inotify_instances_are_not_used_up_for_others(attacker: Attacker, accomplice: Attacker) -> None:
    """fs.inotify.max_user_instances is 128 on most machines: another session gets as many as the first one got, be it none."""
    got = attacker.value(INOTIFY)

    assert accomplice.value(INOTIFY) == got


def test_inotify_instances_are_not_used_up_for_the_host(attacker: Attacker) -> None:
    """What runs as the server's own user still gets one."""
    attacker.value(INOTIFY)
    descriptor = ctypes.CDLL(None).inotify_init()
    assert descriptor >= 0
    os.close(descriptor)


def test_what_others_read_of_the_shared_files_cannot_be_watched(attacker: Attacker, accomplice: Attacker) -> None:
    """All sandboxes see the same libraries of the host; who opens which is nobody's business."""
    watch = "fd = libc.inotify_init1(0o4000); libc.inotify_add_watch(fd, b'/usr/bin', 0x20) if fd >= 0 else -1"
    attacker.value(watch)
    accomplice.value("subprocess.run(['/usr/bin/true']).returncode")

    seen = "try: seen = os.read(fd, 4096) if fd >= 0 else b''\nexcept OSError: seen = b''\nlen(seen)"
    assert attacker.value(seen) == 0


def test_queued_signals_are_not_used_up_for_others(attacker: Attacker, accomplice: Attacker) -> None:
    """RLIMIT_SIGPENDING counts per user too: timers and real-time signals of another session still work."""
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
sent = 0
while sent < 300_000 and libc.sigqueue(os.getpid(), 40, None) == 0: sent += 1
sent
"""
    attacker.value(code)
    probe = "signal.pthread_sigmask(signal.SIG_BLOCK, {40}); libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]\n"

    assert accomplice.value(f"{probe}libc.sigqueue(os.getpid(), 40, None)") == 0


def test_descriptors_in_flight_are_not_used_up_for_others(attacker: Attacker, accomplice: Attacker) -> None:
    """Descriptors sent over Unix sockets and never received count per host user: with one uid each, one's own.

    As an ordinary user all sessions share one, a weaker promise: there it is only asked that the server itself goes on.
    """
    code = """
pairs, sent = [], 0
try:
    for n in range(60):
        pairs.append(socket.socketpair())
        for m in range(20): socket.send_fds(pairs[-1][0], [b'x'], [0] * 250); sent += 250
except OSError as error: reason = errno.errorcode[error.errno]
sent
"""
    attacker.value(code)
    if attacker.has_own_uid:
        assert (
            accomplice.value(
                "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0]); len(socket.recv_fds(b, 1, 1)[1])"
            )
            == 1
        )
    attacker.run("os._exit(1)")
    attacker.still_works()


@pytest.mark.of_guests_at("gvisor", reason="beside a guest Python needs descriptors for each call")
def test_pipes_are_not_used_up_for_others(attacker: Attacker, accomplice: Attacker) -> None:
    """/proc/sys/fs/pipe-user-pages-soft: another session's pipe still holds 64 KiB where sessions have a uid each."""
    grow = "import fcntl; pipes = []\nwhile True: pipes.append(os.pipe()); fcntl.fcntl(pipes[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)"
    assert "Error" in attacker.run(grow).stderr
    size = accomplice.value("import fcntl; fcntl.fcntl(os.pipe()[1], fcntl.F_GETPIPE_SZ)")

    assert size == 65536 or not attacker.has_own_uid
    assert (
        accomplice.value("subprocess.run('seq 100000 | tail -1', shell=True, capture_output=True, text=True).stdout")
        == "100000\n"
    )


def test_file_locks_are_not_a_way_to_hold_others_up(attacker: Attacker, accomplice: Attacker) -> None:
    """A lock on a file that all sessions see does not keep another from importing, compiling or running it."""
    attacker.value(
        "import fcntl, glob\nlocked = [open(p, 'rb') for p in [sys.executable, *glob.glob('/opt/carrel/lib/carrel/guest/*.py')]]\n"
        "for file in locked: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    run = "subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, text=True, timeout=10).stdout"

    assert accomplice.value(run) == "1\n"
    accomplice.run("os._exit(1)")
    accomplice.still_works()


@pytest.mark.skipif(shutil.which("ls") is None, reason="needs ls")
def test_page_cache_of_shared_files_cannot_be_written(attacker: Attacker) -> None:
    """Read-only files stay so through mmap, splice, sendfile and /proc/self/fd (the roads of Dirty COW and Dirty Pipe)."""
    before = Path("/usr/bin/ls").read_bytes()[:64]
    code = """
import mmap
fd = os.open('/usr/bin/ls', os.O_RDONLY)
answers = []
def attempt(call, *arguments):
    try: answers.append(refused(call, *arguments))
    except (ValueError, PermissionError) as error: answers.append(type(error).__name__)
attempt(lambda: mmap.mmap(fd, 64, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
attempt(os.open, f'/proc/self/fd/{fd}', os.O_WRONLY)
attempt(os.open, '/usr/bin/ls', os.O_RDWR)
attempt(os.truncate, fd, 0)
private = mmap.mmap(fd, 64, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
private[:4] = b'OWND'
read, write = os.pipe()
os.splice(fd, write, 1, offset_src=4) if hasattr(os, 'splice') else None
os.write(write, b'OWND')
answers
"""
    assert "" not in attacker.value(code)
    assert Path("/usr/bin/ls").read_bytes()[:64] == before
