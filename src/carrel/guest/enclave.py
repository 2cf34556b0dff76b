"""The inside of a gVisor sandbox: its pid 1, which becomes the agent, with a nursery that makes its interpreters.

The kernel here is gVisor's, which lacks some of what Linux has (pidfds, /proc/PID/task/TID/children); and nobody outside can count
processes or what each has of the memory. So the agent itself watches the memory while code runs, and ends the interpreter when it is too
much: the control group outside, which cannot tell one process from another, would end the whole sandbox.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import time
from typing import Any

from carrel.guest import agent, linux, nursery, sandbox
from carrel.guest.child import Interpreter, reap
from carrel.guest.paths import FileError

_LOOK_S = 0.05
_RECLAIM_S = 1.0
_KIB = 1024

Spec = dict[str, Any]  # backends/bundle.py, `inside()`, says what is in it


def main(text: str) -> None:
    """Started with the channel on 0 and the notes pipe on 1. Ends with the channel, or with the nursery."""
    spec: Spec = json.loads(text)
    for name in ("seccomp", "agent_seccomp"):
        spec[name] = base64.b64decode(spec[name])
    channel, notes = socket.socket(fileno=os.dup(0)), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    linux.close_from(max(channel.fileno(), notes, null) + 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        channel.close()
        ours.close()
        try:
            nursery.serve(theirs, notes, spec)
        finally:
            os._exit(1)
    theirs.close()
    # Files are made with the effective uid, the code's; signals ask for the real and the saved one, which no process of the code has.
    sandbox.confine_agent(spec)
    os.chdir(spec["data"])
    try:
        EnclaveAgent(channel, ours, notes, spec).serve()
    except Exception as error:
        nursery.note(notes, {"failed": f"the agent: {type(error).__name__}: {error}"})
        raise


class EnclaveAgent(agent.Agent):
    def __init__(self, channel: socket.socket, nursery_socket: socket.socket, notes: int, spec: Spec) -> None:
        super().__init__(channel, data=spec["data"], is_init=True)
        self._nursery, self._notes, self._uid = nursery_socket, notes, spec["uid"]
        self._memory_bytes = spec["memory_bytes"]
        self._base: int | None = None  # what nursery and agent use by themselves
        self._turn = 0
        self._next_look = 0.0
        os.set_blocking(notes, False)

    def _make_interpreter(self, _descriptors: list[int]) -> Interpreter:
        self._turn += 1
        with contextlib.ExitStack() as theirs:
            control, control_end = socket.socketpair()
            theirs.enter_context(control_end)
            pipes = [os.pipe() for _ in range(3)]  # stdout, stderr, and the one whose closing says that it ended
            for _ours, end in pipes:
                theirs.callback(os.close, end)
            ends = [end for _ours, end in pipes]
            request = json.dumps({"turn": self._turn}).encode()
            socket.send_fds(self._nursery, [request], [control_end.fileno(), *ends])
        answer = json.loads(self._nursery.recv(4096) or b"{}")
        stdout, stderr, ended = (ours for ours, _end in pipes)
        if "pid" not in answer:
            control.close()
            for fd in (stdout, stderr, ended):
                os.close(fd)
            if not answer:
                raise EOFError  # no nursery, no interpreter ever again
            raise FileError("SessionAllocationFailed", answer["error"])
        if self._base is None:
            self._base = _used()
        return Interpreter(control, stdout, stderr, ended, pid=answer["pid"])

    def _empty(self) -> None:
        """Every process of the code: kill(-1) reaches all that this uid may signal, which leaves out the nursery.

        gVisor's kernel forks no quicker than it kills here, but a process may be forked between two rounds: none must be left after one.
        """
        while True:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)
            reap()
            if not _processes(self._uid):
                break
            time.sleep(0.001)
        # gVisor gives back what a dead process held a moment later; a new one must not be charged for it.
        until = time.monotonic() + _RECLAIM_S
        while self._base is not None and _used() - self._base > self._memory_bytes // 2 and time.monotonic() < until:
            time.sleep(0.01)

    def _patience(self) -> float | None:
        return _LOOK_S if self._code.is_running else None

    def _look(self) -> None:
        """End the interpreter and all it has started where the sandbox holds more than the pool allows.

        All: a bomb of processes that are small each would be lit again by the next one of them.
        """
        if not self._code.is_running or self._base is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_S
        if _used() - self._base > self._memory_bytes:
            with contextlib.suppress(OSError):
                os.write(self._notes, b'{"memory": %d}\n' % self._turn)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)


def _used() -> int:
    """Bytes that this kernel has handed out: of processes and of its own file systems."""
    with open("/proc/meminfo") as file:  # noqa: PTH123 - as elsewhere in here, pathlib is slow
        lines = dict(line.split(":", 1) for line in file)
    return (int(lines["MemTotal"].split()[0]) - int(lines["MemFree"].split()[0])) * _KIB


def _processes(uid: int) -> list[int]:
    """Who runs as `uid`, but this process."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if _status(int(name), "Uid:") == uid:
                    found.append(int(name))
    return found


def _status(pid: int, key: str) -> int:
    """The first number of a line of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(key):
                return int(line.split()[1])
    return -1
