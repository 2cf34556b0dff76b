"""A template: a warm process that makes others by fork, and does nothing else.

Two kinds run in the cell block (docs/concepts/architecture.md). *bare* makes agents, each as pid 1 of a new pid
namespace. *image* has an image's libraries imported and makes interpreters inside sandboxes that an agent has
enclosed. Both take requests from the host over a SEQPACKET socket, a JSON object each with its descriptors, and
answer in order; the end of a child is reported when it comes. A template is single-threaded (asserted before every
fork), its environment holds nothing of the host's, and its descriptors are the socket and what the request brought; a
child closes all of them but its own. One that is told to retire ends when its last child has.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from carrel.guest import agent, guests, linux, sandbox

MAX_MESSAGE = 64 * 1024
MAX_DESCRIPTORS = 32

Request = dict[str, Any]


class Template:
    def __init__(self, host: socket.socket, make: Callable[[Request, list[int]], int]) -> None:
        self._host, self._make = host, make
        self._children: dict[int, Any] = {}  # pidfd → what the host calls the child
        self._is_retired = False
        self._poll = select.poll()
        self._poll.register(host, select.POLLIN)

    def serve(self) -> None:
        """Until the host's end closes, or the last child of a retired one has ended."""
        while not self._is_retired or self._children:
            for fd, _events in self._poll.poll():
                if fd != self._host.fileno():
                    self._reap(fd)
                    continue
                data, descriptors, _flags, _address = socket.recv_fds(
                    self._host, MAX_MESSAGE, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
                if not data:
                    return
                request = json.loads(data)
                if "retire" in request:
                    self._is_retired = True
                else:
                    self._answer(request, descriptors)

    def _answer(self, request: Request, descriptors: list[int]) -> None:
        begin = time.monotonic()
        try:
            assert_single_thread()
            pid = self._make(request, descriptors)
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError: descriptors were lost on the way, for want of room for them
            self._send({"id": request["id"], "error": str(error)})
            return
        finally:
            for fd in descriptors:
                os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = request["child"]
        self._poll.register(pidfd, select.POLLIN)
        self._send({"id": request["id"], "pid": pid, "us": int((time.monotonic() - begin) * 1e6)}, [pidfd])

    def _reap(self, pidfd: int) -> None:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        number = self._children.pop(pidfd)
        if ended is not None:
            by_signal = ended.si_code != os.CLD_EXITED
            self._send({"exited": number, "signal" if by_signal else "code": ended.si_status})

    def _send(self, message: Request, descriptors: list[int] | None = None) -> None:
        socket.send_fds(self._host, [json.dumps(message).encode()], descriptors or [])


def assert_single_thread() -> None:
    """A fork copies one thread only: with a second one, a lock that it held would stay held for ever in the child."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - pathlib is an import the bare template can do without
        raise OSError(0, "the template has more than one thread: set the image's libraries to single-threaded start")


def fork_into(pid_namespace: int | None, child: Callable[[], None]) -> int:
    """Fork a child that is in `pid_namespace`, or pid 1 of a new one for None, and runs `child`; returns its pid as seen from here.

    unshare and setns change where *children* go and leave the caller; going back to the own namespace after each fork is what keeps the
    template's next child out of the last one's. os.fork, not clone3: Python's and glibc's own fork handlers must run.
    """
    own = linux.open_namespace("pid")
    try:
        if pid_namespace is None:
            linux.unshare(linux.CLONE_NEWPID)
        else:
            linux.setns(pid_namespace, linux.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                run_child(child)
        finally:
            linux.setns(own, linux.CLONE_NEWPID)
    finally:
        os.close(own)
    return pid


def run_child(child: Callable[[], None]) -> None:
    """`child`, and never back into the template's loop."""
    status = 1
    try:
        # A process group of its own: kill(0, …) reaches the caller's whole group, pid namespaces or not, and where all sandboxes share a
        # host uid that group would be the template and everything it ever forked.
        os.setsid()
        child()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _decoded(request: Request) -> sandbox.Spec:
    """The request's sandbox; before the fork, since every page that a child writes to is copied for it."""
    spec: sandbox.Spec = request["spec"]
    for name in ("seccomp", "agent_seccomp"):
        spec[name] = base64.b64decode(spec[name])
    return spec


def make_agent(request: Request, descriptors: list[int]) -> int:
    """Descriptors: channel, setup socket, the image's mount namespace, control groups to join …

    By the setup socket go back what `enclose` returns, or an error.
    """
    channel, setup, image_mounts, *cgroups = descriptors
    spec = _decoded(request)

    def child() -> None:
        with socket.socket(fileno=os.dup(setup)) as answer:
            try:
                made = sandbox.enclose(spec, image_mounts, cgroups)
                socket.send_fds(answer, [b"{}"], made)
            except OSError as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                answer.send(json.dumps({"error": f"{last.name}: {last.line}: {error.strerror}"}).encode())
                return
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        sandbox.keep_descriptors([null, null, null, channel])
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # SIGINT stays ignored: the code may send it to pid 1
        sandbox.confine_agent(spec)
        os.chdir(spec["data"])
        agent.serve(socket.socket(fileno=3), data=spec["data"], is_init=True)

    return fork_into(None, child)


def make_sentry(request: Request, descriptors: list[int]) -> int:
    """Descriptors: setup socket (the agent's channel and notes, or an error, go back by it), cgroup.procs …"""
    from carrel.guest import sentry

    setup, *cgroups = descriptors
    return fork_into(None, lambda: sentry.run(request["spec"], setup, cgroups))


def make_pid_one(request: Request, descriptors: list[int]) -> int:
    """What the bare template makes, by the request's `op`."""
    return {"agent": make_agent, "sentry": make_sentry}[request["op"]](request, descriptors)


def make_interpreter(runtime: str, program: Sequence[str], request: Request, descriptors: list[int]) -> int:
    """Descriptors: the sandbox's namespaces in JOINED's order, control, stdout, stderr, control groups to join …"""
    count = len(sandbox.JOINED)
    namespaces = dict(zip(sandbox.JOINED, descriptors[:count], strict=True))
    control, stdout, stderr, *cgroups = descriptors[count:]
    spec = _decoded(request)

    def child() -> None:
        sandbox.join_cgroups(cgroups)
        sandbox.join(namespaces)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        sandbox.keep_descriptors([null, stdout, stderr, control])
        sandbox.reset_signals()
        os.chdir(spec["data"])
        sandbox.confine(spec)
        os.environ.update(spec["environment"])
        linux.set_dumpable(
            True
        )  # cleared with the ids; the code may trace its own children, and the host may read its sizes
        guests.become(runtime, program)

    return fork_into(namespaces["pid"], child)


def take_over(host_fd: int) -> socket.socket:
    """A process that was just started for it becomes a template on socket `host_fd`: nothing else that it inherited stays."""
    linux.die_with_parent()
    linux.keep_only(host_fd)
    # What the spawner or whoever started the server ignores is handed down through exec; code that could not be sent SIGTERM would be odd.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return socket.socket(fileno=host_fd)


def say_ready(host: socket.socket) -> None:
    """The last step: all is imported. The first message says so, with the mount namespace."""
    gc.collect()
    gc.freeze()  # what is there now stays where it is: a collection in a child would copy every page it marks
    socket.send_fds(host, [b'{"ready": true}'], [linux.open_namespace("mnt")])


def main(kind: str, host_fd: int, preload: list[str], runtime: str = "", program: Sequence[str] = ()) -> None:
    """Be the `bare` or the `image` template on socket `host_fd`; `runtime` and `program` are the image's."""
    host = take_over(host_fd)
    if kind == "bare":
        linux.keep_freed_memory(2 * 1024 * 1024)  # agents relay files
    if kind == "image":
        guests.prepare(runtime, preload)
    say_ready(host)
    Template(host, make_pid_one if kind == "bare" else partial(make_interpreter, runtime, program)).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
