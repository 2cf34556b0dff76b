"""The nursery: where a sandbox has a kernel of its own, a template inside it. It imports the image once and forks
interpreters.

It lives as long as the sandbox, so that a restart needs no cold imports. The code's processes must not reach it: its real and saved uid
stay the sandbox's root (0, with no more than the right to change ids), which no process of the code may signal or trace (kill(2),
ptrace(2)); its effective uid is the code's, so that what libraries write while they are imported belongs to the code. A child goes on
to be the code's user for good. The agent asks over a SEQPACKET socket, one JSON object with the interpreter's descriptors.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from typing import Any

from carrel.guest import guests, linux, sandbox
from carrel.guest.template import MAX_MESSAGE, assert_single_thread, run_child

Spec = dict[str, Any]


def serve(agent: socket.socket, notes: int, spec: Spec) -> None:
    """Until the agent ends. `notes` goes to the host: how interpreters ended, and why there are none."""
    os.setresgid(0, spec["uid"], 0)
    os.setresuid(0, spec["uid"], 0)
    linux.set_dumpable(False)
    try:
        guests.prepare(spec["runtime"], spec["preload"])
        spec["rlimits"]["RLIMIT_AS"] = _mapped_bytes() + spec["address_space"]
    except (ImportError, RuntimeError, OSError) as error:
        note(notes, {"failed": f"{type(error).__name__}: {error}"[:1000]})
        return
    Nursery(agent, notes, spec).serve()


class Nursery:
    def __init__(self, agent: socket.socket, notes: int, spec: Spec) -> None:
        self._agent, self._notes, self._spec = agent, notes, spec
        self._living: dict[int, tuple[int, int]] = {}  # pid → turn, and the pipe whose closing tells the agent
        self._wakeup, signal_end = socket.socketpair()
        self._wakeup.setblocking(False)
        signal_end.setblocking(False)
        self._signal_end = signal_end
        signal.set_wakeup_fd(signal_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._agent, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for fd, _events in poll.poll():
                if fd == self._wakeup.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                    self._reap()
                    continue
                data, descriptors, _flags, _address = socket.recv_fds(
                    self._agent, MAX_MESSAGE, 8, socket.MSG_CMSG_CLOEXEC
                )
                if not data:
                    return
                self._answer(json.loads(data), descriptors)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        *given, end = descriptors
        try:
            assert_single_thread()
            pid = self._fork(given)
        except OSError as error:
            os.close(end)
            self._agent.send(json.dumps({"error": str(error)}).encode())
            return
        finally:
            for fd in given:
                os.close(fd)
        self._living[pid] = (request["turn"], end)
        self._agent.send(json.dumps({"pid": pid}).encode())

    def _fork(self, given: list[int]) -> int:
        """Descriptors: control, stdout, stderr."""
        pid = os.fork()
        if pid == 0:
            run_child(lambda: self._be_interpreter(*given))
        return pid

    def _be_interpreter(self, control: int, stdout: int, stderr: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setresuid(0, 0, 0)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        sandbox.keep_descriptors([null, stdout, stderr, control])
        sandbox.reset_signals()
        os.chdir(self._spec["data"])
        sandbox.confine(self._spec)
        os.environ.update(self._spec["environment"])
        linux.set_dumpable(True)
        guests.become(self._spec["runtime"], self._spec["guest"])

    def _reap(self) -> None:
        """The host's note comes before the agent's: whoever hears of the end from the agent can read how it was."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                if pid in self._living:
                    turn, end = self._living.pop(pid)
                    code = os.waitstatus_to_exitcode(status)
                    note(self._notes, {"turn": turn, **({"code": code} if code >= 0 else {"signal": -code})})
                    os.close(end)


def note(notes: int, what: dict[str, Any]) -> None:
    """A line to the host; dropped where nobody reads."""
    with contextlib.suppress(OSError):
        os.write(notes, json.dumps(what).encode() + b"\n")


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - once, before the forks
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
