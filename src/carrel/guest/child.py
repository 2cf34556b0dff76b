"""The agent's grip on one interpreter: its control socket, its output pipes, and what tells of its end.

Everything that is read here was written by hostile code, or may have been: the control socket's frames are bounded by
the decoder, believed only for the run that is under way, and a broken one ends the interpreter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

from carrel.guest import frames

_READ = 64 * 1024
_LAST_READS = 16  # a socket holds some 200 KiB, or twice that


class Interpreter:
    """Descriptors of a running interpreter; the agent's loop watches them and calls back.

    `ended` becomes readable at its end. It is a pidfd; or, where the kernel has none and `pid` is given, a pipe that its parent closes.
    """

    def __init__(self, control: socket.socket, stdout: int, stderr: int, ended: int, pid: int | None = None) -> None:
        self.control, self.ended, self._has_pidfd = control, ended, pid is None
        self.outputs = {"stdout": stdout, "stderr": stderr}
        self._capacity = fcntl.fcntl(stdout, fcntl.F_GETPIPE_SZ)  # code that makes it larger may lose what is over
        self.status: tuple[str, int] | None = (
            None  # how it ended, where it is a child of ours: "code" or "signal", and which
        )
        self._decoder = frames.Decoder()
        self._out = bytearray()
        self._pid = _pid_of(ended) if pid is None else pid
        self._io: int | None = None
        control.setblocking(False)
        for fd in self.outputs.values():
            os.set_blocking(fd, False)

    @classmethod
    def adopt(cls, descriptors: list[int]) -> Interpreter:
        """One that the backend made: control, stdout, stderr and pidfd, in this order."""
        control, stdout, stderr, pidfd = descriptors
        return cls(socket.socket(fileno=control), stdout, stderr, pidfd)

    @classmethod
    def spawn(cls, command: list[str]) -> Interpreter:
        """An ordinary child that runs `command` with the number of its control descriptor added; for levels without templates."""
        ours, theirs = socket.socketpair()
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        with theirs:
            child = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stdout_end,
                stderr=stderr_end,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        os.close(stdout_end)
        os.close(stderr_end)
        child.returncode = (
            0  # the agent reaps whatever ends; Popen must not wait for a pid that may be another's by then
        )
        return cls(ours, stdout, stderr, os.pidfd_open(child.pid))

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def send(self, header: frames.Header, payload: bytes | memoryview = b"") -> None:
        """Queue a frame; what the socket does not take at once goes out as the loop says that it can."""
        self._out += frames.encode(header, payload)
        self.flush()

    def flush(self) -> None:
        try:
            while self._out:
                del self._out[: self.control.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # the other end is closed: its death is on the way

    def read_control(self) -> Iterator[tuple[frames.Header, bytes]]:
        """Frames that have come. Raises EOFError when the control socket is closed, FrameError when it is broken."""
        with contextlib.suppress(BlockingIOError):
            data = self.control.recv(_READ)
            if not data:
                raise EOFError
            yield from self._decoder.feed(data)

    def read_last_words(self) -> Iterator[tuple[frames.Header, bytes]]:
        """Of an interpreter that has ended: what its socket holds. No more, though a child of its may write on. Raises as read_control."""
        for _ in range(_LAST_READS):
            yield from self.read_control()

    def read_output(self, name: str) -> bytes | None:
        """What is in the pipe now, 64 KiB at the most: b"" at its end, None where nothing is there."""
        try:
            return os.read(self.outputs[name], _READ)
        except BlockingIOError:
            return None

    def drain(self, name: str) -> Iterator[bytes]:
        """All that was in the pipe when the call began: never more than a pipe holds, so that a flood cannot keep us here."""
        left = self._capacity
        while left > 0 and (data := self.read_output(name)):
            left -= len(data)
            yield data

    def used(self) -> tuple[int | None, int | None]:
        """Microseconds of processor time of the interpreter's threads, and bytes that it and the children it has waited for have written
        (write(2) and its kind, whatever to); None where the kernel does not say, as of one that has ended."""
        if (
            self._io is None
        ):  # only now: before it is ready an interpreter still has the template's ids, and is not ours to look at
            self._io = _open(f"/proc/{self._pid}/io")
        return _cpu_us(self._pid), _written(self._io)

    def note_end(self) -> None:
        """Look how it ended, before anybody reaps it. Nothing for one that a template made: its parent tells the host."""
        with contextlib.suppress(OSError):
            ended = os.waitid(os.P_PIDFD, self.ended, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None and self.status is None:
                self.status = ("code" if ended.si_code == os.CLD_EXITED else "signal", ended.si_status)

    def signal(self, number: int) -> None:
        """Send a signal; nothing where the interpreter is gone, or not yet the code's user."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._has_pidfd:
                signal.pidfd_send_signal(self.ended, number)
            else:
                os.kill(self._pid, number)

    def close(self) -> None:
        self.control.close()
        for fd in (*self.outputs.values(), self.ended, *(() if self._io is None else (self._io,))):
            os.close(fd)
        self.outputs.clear()
        self._io = None


def _pid_of(pidfd: int) -> int:
    """The process's number here; -1 when it has ended already, or where /proc is not to be had."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/self/fdinfo/{pidfd}") as info:  # noqa: PTH123 - as below
        for line in info:
            if line.startswith("Pid:"):
                return int(line.split()[1])
    return -1


def _open(path: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _cpu_us(pid: int) -> int | None:
    """By the clock that the kernel keeps for each process: clock_getcpuclockid(3), which Python has for threads only."""
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns((~pid << 3) | 2) // 1000 if pid > 0 else None
    return None


def _written(io: int | None) -> int | None:
    """proc_pid_io(5). The descriptor stays open, the kernel's check is made at each read."""
    if io is not None:
        with contextlib.suppress(OSError, ValueError):
            for line in os.pread(io, 1024, 0).splitlines():
                if line.startswith(b"wchar: "):
                    return int(line[7:])
    return None


def kill_others(*, is_init: bool) -> None:
    """Kill and reap every other process of the sandbox; returns when none is left.

    As pid 1 of a pid namespace, kill(-1) is just that: all processes of the namespace but the caller. Elsewhere it would be all of the
    user's, so there the agent, a child subreaper, kills child after child until none is handed to it any more.
    """
    while True:
        if is_init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not reap() and not (is_init and _any_other()):
            return
        os.sched_yield()


def reap() -> bool:
    """Take the status of every child that has ended; whether any child is left, as the kernel's own books have it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _any_other() -> bool:
    """Whether pid 1 is not alone; counts zombies too, since the interpreter's parent, outside, may have to reap it first."""
    try:
        os.kill(-1, 0)
    except ProcessLookupError:
        return False
    return True


def _children() -> list[int]:
    """Who to kill next. The file may leave one out while another ends (proc(5)): only `reap` says that none is left."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:  # noqa: PTH123 - pathlib is an import the template can do without
        return [int(pid) for pid in listing.read().split()]
