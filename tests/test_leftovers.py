"""The check for what a run leaves behind sees what it is there to see."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from leftovers import Before, is_anothers
from processes import alive, eventually


def test_a_daemon_is_found() -> None:
    """A process that left its parent, its session and its standard streams is still this run's."""
    before = Before()
    # Forked twice, as daemons are: the first child leads a session of its own, the second can never get a terminal.
    fork = "os.fork() and os._exit(0)"
    code = f"import os, time; {fork}; os.setsid(); {fork}; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        daemon = int(process.stdout.readline())
        try:
            assert any(line.startswith(f"process {daemon}:") for line in before.left(grace=0))
        finally:
            os.kill(daemon, signal.SIGKILL)

    assert eventually(lambda: not alive(daemon))
    # By its own line: what a server that others run beside this test leaves for a moment is not this test's matter.
    assert not any(line.startswith(f"process {daemon}:") for line in before.left(grace=1))


def test_a_file_is_found() -> None:
    before = Before()
    file = Path(tempfile.gettempdir()) / "carrel-forgotten"
    file.touch()

    assert f"file: {file}" in before.left(grace=0)
    file.unlink()
    assert f"file: {file}" not in before.left(grace=0)


def test_a_server_of_someone_else_is_not_held_against_the_run() -> None:
    """A control group names its owner: a living process that is not of this run may keep its groups."""
    assert is_anothers("carrel-1-123")
    assert not is_anothers(f"carrel-{2**22 + 1}-123")


def test_shared_memory_whose_maker_is_dead_is_found() -> None:
    """What a killed PostgreSQL leaves behind."""
    before = Before()
    make = "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))"
    number = int(subprocess.run([sys.executable, "-c", make], capture_output=True, text=True, check=True).stdout)

    assert f"shared memory: {number}" in before.left(grace=0)
    ctypes.CDLL(None).shmctl(number, 0, None)  # IPC_RMID
    assert f"shared memory: {number}" not in before.left(grace=0)
