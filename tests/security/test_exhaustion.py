"""Eating everything: processes, memory, disk, descriptors. The kernel's limits hold, the agent stays, the neighbour notices nothing.

Where the machine lets the server make no control groups, memory is bounded by each process's address space and by the host's watcher: a
weaker promise, and these tests say where they ask for less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from carrel.cli.launch import LaunchError
from carrel.client import ApiError, Client
from carrel.models import Level
from conftest import SlimServer
from fortress import DISK_MIB, INODES, MEMORY_MIB, PIDS, TMP_MIB, Attacker
from processes import alive, descendants, eventually

OUT_OF_MEMORY = f"Kernel restarted: out of memory (the limit is {MEMORY_MIB} MiB)"


@contextmanager
def running(attacker: Attacker, code: str, timeout: int, *, may_be_lost: bool = False) -> Iterator[None]:
    """The block runs beside the code."""

    def run() -> None:
        with suppress(ApiError) if may_be_lost else nullcontext():
            attacker.run(code, timeout)

    caller = threading.Thread(target=run)
    caller.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        caller.join()


def files_work(client: Client) -> None:
    """Upload, list, download and delete of a small file."""
    client.upload("beside.txt", b"still here")
    assert "beside.txt" in [file.name for file in client.list_files()]
    assert client.download("beside.txt") == b"still here"
    client.delete_file("beside.txt")


@pytest.mark.parametrize(
    "bomb",
    [
        "while True:\n    try: os.fork()\n    except OSError: pass",
        "while True:\n    try: subprocess.Popen(['sh', '-c', 'sleep 60 & sleep 60 & sleep 60'])\n    except OSError: pass",
        "while True:\n    try: threading.Thread(target=time.sleep, args=(60,)).start()\n    except RuntimeError: pass",
        "subprocess.run(['sh', '-c', 'f() { f | f & }; f; sleep 60'])",
    ],
    ids=["fork", "children", "threads", "shell"],
)
@pytest.mark.weaker(
    Level.GVISOR,
    reason="gVisor has several threads of the host for each process, bounded as a whole; a bomb may end its own session",
)
def test_a_fork_bomb_stops_at_the_limit(attacker: Attacker, neighbour: Client, bomb: str) -> None:
    """Never more processes than the pool allows; files and the neighbour work while it lasts; afterwards the session works again."""
    before = len(descendants(attacker.server.process.pid))
    with running(attacker, bomb, 1, may_be_lost=attacker.level is Level.GVISOR):
        for _ in range(3):
            most = 16 * PIDS + 512 if attacker.level is Level.GVISOR else PIDS + 8  # the pool's own refill comes on top
            assert len(descendants(attacker.server.process.pid)) - before <= most
            with suppress(ApiError) if attacker.level is Level.GVISOR else nullcontext():
                files_work(attacker.client)
            assert neighbour.execute("kept + 1", timeout=5).result == 42

    attacker.still_works()


def test_a_memory_bomb_is_a_result(attacker: Attacker) -> None:
    """The interpreter is killed at the limit, or Python says MemoryError first; which, and the limit, stands in stderr."""
    result = attacker.run("hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))")

    assert result.status == "Failed"
    if not attacker.is_guest:
        assert "MemoryError" in result.stderr or attacker.has_died(result)
    elif attacker.has_control_groups and attacker.level is not Level.GVISOR:
        assert result.stderr == OUT_OF_MEMORY
    else:
        assert "MemoryError" in result.stderr or "out of memory" in result.stderr
    attacker.still_works()


def test_memory_shared_out_among_children_counts_as_one(attacker: Attacker) -> None:
    """Sixteen processes of 32 MiB each are over the limit together: some are killed, whoever they are."""
    code = """
def eat():
    hoard = b'x' * (32 << 20); time.sleep(2); os._exit(0)
pids = []
for n in range(16):
    pid = os.fork()
    if pid == 0: eat()
    pids.append(pid)
[os.waitpid(pid, 0)[1] for pid in pids]
"""
    result = attacker.run(code, timeout=15)

    assert attacker.has_died(result) or 9 in result.result
    attacker.still_works()


@pytest.mark.parametrize(
    "code",
    [
        "fd = os.memfd_create('x')\nfor n in range({mib}): os.write(fd, bytes(1 << 20))\ntime.sleep(1)",
        "segments = [libc.shmget(0, 1 << 20, 0o1600) for n in range({mib})]\nlibc.shmat.restype = ctypes.c_void_p\n"
        "for s in segments: ctypes.memset(libc.shmat(s, None, 0), 1, 1 << 20); libc.shmdt(ctypes.c_void_p())\ntime.sleep(1)",
        "import mmap\nm = mmap.mmap(-1, {mib} << 20)\nfor n in range(0, len(m), 4096): m[n] = 1\ntime.sleep(1)",
    ],
    ids=["memfd", "System V", "shared mapping"],
)
def test_memory_without_an_owner_counts_too(attacker: Attacker, code: str) -> None:
    """Anonymous files, System V segments and shared mappings: half as much again as the limit cannot be held."""
    result = attacker.run(code.replace("{mib}", str(MEMORY_MIB * 3 // 2)))

    assert result.status == "Failed"
    assert attacker.has_died(result) or "Error" in result.stderr
    attacker.still_works()


@pytest.mark.not_at("restricted", reason="its folders lie on the machine's disk: a limit for each file, none for all")
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/home/user"])
def test_a_memory_file_system_is_full_at_its_size(attacker: Attacker, folder: str) -> None:
    """No space left, at the pool's `tmp`; the code goes on and can clear it."""
    code = f"""
written, file = 0, open('{folder}/flood', 'wb', 0)
try:
    while True: written += file.write(bytes(1 << 20))
except OSError as error: reason = errno.errorcode[error.errno]
os.unlink('{folder}/flood')
[reason, written >> 20]
"""
    reason, written = attacker.value(code)
    assert reason == "ENOSPC"
    assert written == TMP_MIB or (not attacker.is_guest and written == TMP_MIB - 1)  # a coprocess has some bytes there


@pytest.mark.not_at("restricted", reason="its folders lie on the machine's disk: a limit for each file, none for all")
def test_all_writable_places_together_stay_below_the_memory_limit(attacker: Attacker) -> None:
    """What lies in memory file systems counts as memory: full ones leave the interpreter room to run."""
    code = """
for folder in ('/mnt/data', '/tmp', '/dev/shm', '/home/user'):
    file = open(f'{folder}/flood', 'wb', 0)
    try:
        while True: file.write(bytes(1 << 20))
    except OSError: pass
1
"""
    attacker.value(code)

    attacker.still_works()
    attacker.run("os._exit(1)")
    attacker.still_works()


@pytest.mark.slow
def test_a_pool_whose_files_do_not_fit_its_memory_is_not_served(slim_server: SlimServer) -> None:
    """Where the configuration lets files alone pass the memory limit, code could lock itself out of its session for good.

    Either such a pool is refused when it is configured, or the session still works with every file system full.
    """
    config = (
        "[pools.python]\nscaleConfiguration = {maxConcurrentSessions = 2, readySessionInstances = 1}\n"
        'carrel = {image = "python-slim", memory = "96MiB", disk = "48MiB", tmp = "48MiB"}\n'
    )
    try:
        with slim_server(config=config) as server, server.client() as client:
            for folder in ("/mnt/data", "/tmp", "/dev/shm", "/home/user"):
                client.execute(f"f = open('{folder}/flood', 'wb', 0)\nwhile True: f.write(bytes(1 << 20))", timeout=10)
            client.delete_file("flood")
            assert client.execute("1 + 1", timeout=10).result == 2
    except LaunchError:
        return


def test_a_disk_flood_ends_at_the_quota(attacker: Attacker) -> None:
    """/mnt/data is full at its size; uploads say so, deletes make room."""
    code = """
written, file = 0, open('flood', 'wb', 0)
try:
    while True: written += file.write(bytes(1 << 20))
except OSError as error: reason = errno.errorcode[error.errno]
file.close()
[reason, written >> 20]
"""
    if attacker.server.level is Level.RESTRICTED:  # one file at a time
        assert attacker.value(code) == ["EFBIG", DISK_MIB]
        return
    assert attacker.value(code) == ["ENOSPC", DISK_MIB]
    with pytest.raises(ApiError) as caught:
        attacker.client.upload("late.bin", bytes(1 << 20))
    assert (caught.value.status, caught.value.code) == (507, "SessionStorageExceeded")
    attacker.client.delete_file("flood")
    files_work(attacker.client)


@pytest.mark.open_at("restricted", reason="files are counted by nobody")
def test_an_inode_flood_ends_at_the_quota(attacker: Attacker) -> None:
    """So many files and no more; the listing shows them all, and uploads say that the storage is full."""
    code = """
made = 0
try:
    while True: open(f'file-{made:06}', 'w').close(); made += 1
except OSError as error: reason = errno.errorcode[error.errno]
[reason, made]
"""
    reason, made = attacker.value(code, timeout=30)
    assert (reason, INODES - 10 < made < INODES) == ("ENOSPC", True)
    assert len(attacker.client.list_files()) == made
    with pytest.raises(ApiError) as caught:
        attacker.client.upload("late.txt", b"x")
    assert caught.value.code == "SessionStorageExceeded"
    attacker.client.delete_file("file-000000")
    files_work(attacker.client)


def test_ten_thousand_files_are_listed_and_deleted(attacker: Attacker) -> None:
    """In one directory, and as one deep tree: both answer within seconds and other calls go between."""
    attacker.value("os.mkdir('many')\nfor n in range(10_000): open(f'many/{n:05}', 'w').close()", timeout=30)
    began = time.monotonic()

    assert len(attacker.client.list_files("many")) == 10_000
    assert len(attacker.client.list_files(is_recursive=True)) == 10_001
    attacker.client.delete_file("many")
    assert attacker.client.list_files() == []
    assert time.monotonic() - began < 10


def test_files_work_while_all_memory_is_eaten(attacker: Attacker) -> None:
    """The agent has a share of its own above the code's limit."""
    hold = f"hoard = [b'x' * (1 << 20) for n in range({MEMORY_MIB - 60})]; time.sleep(1.5)"
    with running(attacker, hold, 10):
        for _ in range(3):
            files_work(attacker.client)
            attacker.client.upload("large.bin", bytes(8 << 20))
            attacker.client.delete_file("large.bin")

    attacker.still_works()


@pytest.mark.of_python(reason="beside a guest Python needs a process for each call")
def test_files_work_while_all_processes_are_eaten(attacker: Attacker) -> None:
    hold = "children = []\ntry:\n    while True: children.append(subprocess.Popen(['sleep', '60']))\nexcept OSError: time.sleep(1)"
    with running(attacker, hold, 10):
        for _ in range(3):
            files_work(attacker.client)

    assert attacker.value("for child in children: child.kill()\n1 + 1") in ("", 2)


@pytest.mark.of_python(reason="beside a guest Python needs descriptors for each call")
def test_a_call_works_with_every_descriptor_in_use(attacker: Attacker) -> None:
    """1024 open files: `1 + 1` and interrupts need none."""
    attacker.value(
        "held = []\ntry:\n    while True: held.append(os.open('/dev/null', os.O_RDONLY))\nexcept OSError: pass"
    )

    assert attacker.value("1 + 1") == 2
    assert attacker.run("while True: pass", timeout=1).status == "Failed"
    assert attacker.value("len(held) > 900") is True
    files_work(attacker.client)


@pytest.mark.parametrize(
    "limit",
    [
        "RLIMIT_AS, (1, 1)",
        "RLIMIT_NOFILE, (0, 0)",
        "RLIMIT_NPROC, (0, 0)",
    ],
)
def test_limits_that_code_sets_on_itself_end_with_its_interpreter(attacker: Attacker, limit: str) -> None:
    """At worst the interpreter dies; files work, and a fresh one has the pool's limits again."""
    before = attacker.value("list(resource.getrlimit(resource.RLIMIT_NPROC))")
    attacker.run(f"resource.setrlimit(resource.{limit})\nwhile True: pass", timeout=1)
    files_work(attacker.client)
    attacker.run("import os; os._exit(1)", timeout=1)
    result = attacker.run("import resource; resource.getrlimit(resource.RLIMIT_NPROC)")

    assert result.result == before


@pytest.mark.parametrize("name", ["AS", "NOFILE", "FSIZE", "DATA", "STACK", "CPU", "NPROC"])
def test_the_agents_limits_are_out_of_reach(attacker: Attacker, name: str) -> None:
    """prlimit on pid 1, which has the same user: refused, or the agent would be starved from inside."""
    code = f"try: resource.prlimit(1, resource.RLIMIT_{name}, (0, 0)); done = 'changed'\nexcept PermissionError: done = 'refused'\ndone"

    assert attacker.value(code) == "refused"
    files_work(attacker.client)


def test_the_processor_is_shared_out(attacker: Attacker, neighbour: Client) -> None:
    """Eight spinning processes leave the neighbour its part: with control groups the attacker has one processor at most."""
    spin = "for n in range(8):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(3)"
    with running(attacker, spin, 2):
        began = time.monotonic()
        for _ in range(5):
            assert neighbour.execute("sum(range(1000))", timeout=5).result == 499500
        assert time.monotonic() - began < 3

    attacker.still_works()


def test_nothing_of_a_bomb_is_left_after_its_session(attacker: Attacker) -> None:
    """Deleting the session in the middle of it ends every process."""
    mark = attacker.host_pid()
    before = set(descendants(attacker.server.process.pid))
    with running(
        attacker,
        "children = [subprocess.Popen(['sleep', '600'], start_new_session=True) for n in range(30)]; time.sleep(1)",
        10,
    ):
        grown = set(descendants(attacker.server.process.pid)) - before

    attacker.client.end()
    assert len(grown) >= 30 or attacker.level is Level.GVISOR  # where Linux sees few of them
    assert eventually(lambda: not any(alive(pid) for pid in {mark, *grown} if _is_sleep(pid)))


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    except OSError:
        return False
