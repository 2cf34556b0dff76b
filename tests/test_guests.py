"""What a guest that is a program gets when it is executed: four descriptors, untouched signals, and nothing else of ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from carrel.guest import frames

# Says what it finds, by the control protocol's framing.
LOOK = r"""
import json, os, socket, struct
found = {
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
}
text = json.dumps(found).encode()
socket.socket(fileno=3).sendall(struct.pack(">II", len(text), 0) + text)
"""


def executed(
    program: list[str], folder: Path, **options: object
) -> tuple[subprocess.CompletedProcess[str], socket.socket]:
    ours, theirs = socket.socketpair()
    extra = os.open(folder, os.O_RDONLY)
    with theirs:
        command = [sys.executable, "-m", "carrel.guest.guests", "probe", *program, str(theirs.fileno())]
        done = subprocess.run(
            command,
            pass_fds=[theirs.fileno(), extra],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **options,  # type: ignore[call-overload]
        )
    os.close(extra)
    return done, ours


def test_a_program_has_four_descriptors_and_no_more(tmp_path: Path) -> None:
    """Whatever the process that became it had open; control is 3, wherever it was before."""
    _done, control = executed([sys.executable, "-I", "-S", "-c", LOOK], tmp_path)

    with control:
        ((found, _payload),) = frames.Decoder().feed(control.recv(65_536))

    assert found["descriptors"] == [0, 1, 2, 3]


def test_a_program_has_signals_as_the_kernel_has_them(tmp_path: Path) -> None:
    """An exec keeps what is ignored or blocked: a pipe that nobody reads would no longer end what writes to it."""

    def spoil() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})

    done, control = executed(["/bin/sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status"], tmp_path, preexec_fn=spoil)
    control.close()

    libcs_own = 0b11 << 31  # 32 and 33, which nobody can set: they stay as they were inherited
    assert [int(line.split()[1], 16) & ~libcs_own for line in done.stdout.splitlines()] == [0, 0]


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Whoever builds an image reads what is wrong with it."""
    done, control = executed(["/nowhere/guest"], tmp_path)

    assert (done.returncode, done.stderr) == (127, "/nowhere/guest: No such file or directory\n")
    assert control.recv(1) == b""
    control.close()
