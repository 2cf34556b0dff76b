"""The agent of level `restricted`, and the template that it is forked from: what can be had where the kernel grants no namespace.

A template (a process with the image's libraries imported, run by a user of its own who may become a session's user and nobody else) forks
one *warden* for each session. The warden becomes the session's user, makes its folder, and restricts itself by Landlock to what any part of
the session may have; then it is the agent, and forks interpreters from itself: no code has run in it, so each is as fresh as the
first. An interpreter restricts itself further.

That nesting is also what makes an end exact. Who is restricted with signals in scope (Landlock ABI 6) reaches by kill(-1) just those
who are restricted by the same call or, from there, further: the warden all processes of its session and nobody else, the code not even
the warden. With an older kernel a user id of the session's own does the same; where there is neither, the warden is child subreaper
and kills by descent, and the code may signal nobody at all (`backends/confinement.py`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from carrel.guest import agent, guests, landlock, linux, sandbox
from carrel.guest.child import Interpreter, reap
from carrel.guest.template import Template, run_child, say_ready, take_over

_LOOK_S, _IDLE_LOOK_S = 0.5, 2.0
_NULL = "/dev/null"

Spec = dict[str, Any]  # backends/confinement.py, `template()`, says what is in it
Request = dict[str, Any]


class WardenTemplate(Template):
    """Makes wardens. What a warden leaves that was killed itself comes here, and is killed too."""

    def __init__(self, host: socket.socket, spec: Spec) -> None:
        super().__init__(host, self._fork)
        self._spec = spec
        self._wardens: set[int] = set()
        linux.become_subreaper()
        self._wakeup, self._signal_end = socket.socketpair()
        for end in (self._wakeup, self._signal_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._signal_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(self._wakeup, select.POLLIN)

    def _fork(self, request: Request, descriptors: list[int]) -> int:
        """Descriptors: channel, notes (what the host is told beside the channel)."""
        channel, notes = descriptors
        pid = os.fork()
        if pid == 0:
            run_child(lambda: _be_warden({**self._spec, **request}, channel, notes))
        self._wardens.add(pid)
        return pid

    def _reap(self, fd: int) -> None:
        if fd != self._wakeup.fileno():
            super()._reap(fd)
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)
        children = _children(os.getpid())
        self._wardens.intersection_update(children)
        for pid in children:
            if pid not in self._wardens:
                with contextlib.suppress(
                    ProcessLookupError, PermissionError
                ):  # a session's own user: the spawner kills those
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def main(host_fd: int, text: str) -> None:
    """Be a template on socket `host_fd`."""
    spec = json.loads(text)
    for name in ("seccomp", "warden_seccomp"):
        spec[name] = base64.b64decode(spec[name])
    _make_folder(spec["folder"])
    os.chdir(spec["folder"])
    host = take_over(host_fd)
    guests.prepare(spec["runtime"], spec["preload"])
    linux.keep_freed_memory(2 * 1024 * 1024)
    say_ready(host)
    WardenTemplate(host, spec).serve()


def _be_warden(spec: Spec, channel: int, notes: int) -> None:
    with socket.socket(fileno=os.dup(notes)) as answer:
        try:
            abi = _enter(spec)
        except OSError as error:
            answer.send(json.dumps({"error": f"{error.strerror} {error.filename or ''}".strip()}).encode())
            return
        answer.send(json.dumps({"landlock": abi}).encode())
    null = os.open(_NULL, os.O_RDWR | os.O_CLOEXEC)
    sandbox.keep_descriptors([null, null, null, channel, notes])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    Warden(socket.socket(fileno=3), socket.socket(fileno=4), spec).serve()


def _enter(spec: Spec) -> int:
    """Become the session's user and one who reaches only what is the session's; returns the Landlock ABI."""
    signal.set_wakeup_fd(-1)
    if spec["first_uid"] is not None:
        uid = spec["first_uid"] + spec["number"]
        linux.drop_bounding_set()
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        linux.clear_capabilities()
    # No parent-death signal: it would end the warden before it has ended its session, whose daemons nobody else can tell from the server's
    # where all have one user. The end of its channel, which comes with the host's, ends it in order.
    linux.become_subreaper()
    folder = f"{spec['sessions']}/{spec['number']}"
    _make_folder(folder)
    for name in ("data", "home", "tmp"):
        _make_folder(f"{folder}/{name}")
    spec["own"] = folder
    sandbox.set_limits(spec["warden_rlimits"])
    linux.no_new_privileges()
    abi = landlock.restrict([*spec["warden_rules"], [folder, "write"]], tcp=True, scopes=True, abi=spec["abi"])
    linux.load_seccomp(spec["warden_seccomp"])
    linux.set_dumpable(False)
    os.chdir(f"{folder}/data")
    return abi


class Warden(agent.Agent):
    def __init__(self, channel: socket.socket, notes: socket.socket, spec: Spec) -> None:
        super().__init__(channel, data=f"{spec['own']}/data", is_init=False)
        self._notes, self._spec = notes, spec
        self._turn = 0
        self._next_look = 0.0
        self._its_proc: int | None = None
        notes.setblocking(False)

    def _make_interpreter(self, _descriptors: list[int]) -> Interpreter:
        control, control_end = socket.socketpair()
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            run_child(lambda: self._be_interpreter(control_end.fileno(), stdout_end, stderr_end))
        control_end.close()
        os.close(stdout_end)
        os.close(stderr_end)
        self._turn += 1
        if self._its_proc is not None:
            os.close(self._its_proc)
        # Held, since its rule for /proc/self is for this very inode, and the kernel may make another when it has forgotten the folder.
        self._its_proc = os.open(f"/proc/{pid}", os.O_PATH | os.O_CLOEXEC)
        return Interpreter(control, stdout, stderr, os.pidfd_open(pid))

    def _be_interpreter(self, control: int, stdout: int, stderr: int) -> None:
        spec = self._spec
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(_NULL, os.O_RDONLY | os.O_CLOEXEC)
        sandbox.keep_descriptors([null, stdout, stderr, control])
        sandbox.reset_signals()
        linux.die_with_parent()
        os.environ.update(spec["environment"], HOME=f"{spec['own']}/home", TMPDIR=f"{spec['own']}/tmp")  # noqa: S108 - the session's own
        os.environ.pop("MPLCONFIGDIR", None)
        os.chdir(f"{spec['own']}/data")
        sandbox.set_limits(spec["rlimits"])
        rules = [*spec["rules"], [spec["own"], "write"], ["/proc/self", "read"]]
        landlock.restrict(rules, tcp=True, scopes=True, abi=spec["abi"])
        linux.load_seccomp(spec["seccomp"])
        linux.set_dumpable(True)
        guests.become(spec["runtime"], spec["guest"])

    def _empty(self) -> None:
        while True:
            self._kill_all()
            if not reap():
                return
            os.sched_yield()

    def _kill_all(self) -> None:
        """One signal to every other process of the session; one that is being forked meanwhile may be left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._spec["kills_at_once"]:
                os.kill(-1, signal.SIGKILL)
                return
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Limits that no kernel counts here for a session as a whole

    def _patience(self) -> float | None:
        return _LOOK_S if self._code.is_running else _IDLE_LOOK_S

    def _look(self) -> None:
        now = time.monotonic()
        if self._interpreter is None or now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        pids = list(_descendants())
        if len(pids) > self._spec["pids"]:  # where no uid of its own has them counted
            self._kill_all()
        elif sum(_resident(pid) for pid in pids) > self._spec["memory_bytes"]:
            sizes = {pid: _proportional(pid) for pid in pids}
            if sum(sizes.values()) > self._spec["memory_bytes"]:
                with contextlib.suppress(OSError):
                    self._notes.send(json.dumps({"memory": self._turn}).encode())
                with contextlib.suppress(ProcessLookupError):
                    os.kill(max(sizes, key=lambda pid: sizes[pid]), signal.SIGKILL)


def _make_folder(path: str) -> None:
    before = os.umask(0o077)
    os.mkdir(path)  # noqa: PTH102 - pathlib is slow, and a warden does this for every session
    os.umask(before)


def _children(pid: int) -> list[int]:
    """Of any of its threads; none of one that has ended."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - here and below: pathlib is slow
            with open(f"/proc/{pid}/task/{task}/children") as listing:  # noqa: PTH123
                found += [int(child) for child in listing.read().split()]
    return found


def _descendants() -> Iterator[int]:
    todo = _children(os.getpid())
    while todo:
        pid = todo.pop()
        yield pid
        todo += _children(pid)


def _resident(pid: int) -> int:
    """Of no file's: what a template has in common with all that it forked counts in each."""
    return _sum(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:"))


def _proportional(pid: int) -> int:
    """The same, shared out among those who have it; of one that hides it, all that is resident."""
    return _sum(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) or _resident(pid)


def _sum(path: str, names: tuple[str, ...]) -> int:
    """Bytes, of the lines that begin so; 0 where the process is gone, or keeps it to itself."""
    with contextlib.suppress(OSError, ValueError), open(path) as file:  # noqa: PTH123
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(names))
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
