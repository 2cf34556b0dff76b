"""What the parts of the spawner have in common: the shape of an operation, and children that do what takes long.

A part is one module beside `spawner.py` with its operations. It adds itself in one line of `spawner.py::_parts`. An operation gets the
request and the descriptors that came with it (the loop closes those afterwards) and returns an answer and the descriptors to send with it
(closed once sent); an OSError becomes an answer with `error`. The loop does one operation after the other, so one that takes longer than
some 50 ms has to fork: see `Offspring`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

from carrel.guest import linux

Request = dict[str, Any]
Answer = tuple[dict[str, Any], list[int]]
Operation = Callable[[Request, list[int]], Answer]


class Part(Protocol):
    """Some operations of the spawner and what they hold."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """By their names in a request's `op`."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the host learns of it at the start, in the spawner's first message."""
        ...

    def close(self) -> None:
        """Called once, at the end, in the reverse order of the starts: end and remove all that it holds."""
        ...


class Offspring:
    """Children of the spawner beside the cell block: reaped as soon as they end, killed when it ends."""

    def __init__(self) -> None:
        self.poll = select.poll()  # the spawner's loop waits here, for the host and for these
        self._pidfds: dict[int, Callable[[int], None]] = {}

    def fork(
        self, job: Callable[[], None], keep: Iterable[int] = (), on_exit: Callable[[int], None] = lambda _status: None
    ) -> int:
        """Run `job` in a child that has stdio, the descriptors `keep` and no other; returns its pid.

        `on_exit` is called here with its wait status (as os.waitpid's, for os.waitstatus_to_exitcode) once it has ended.
        """
        pid = os.fork()
        if pid == 0:
            _run(job, keep)
        pidfd = os.pidfd_open(pid)
        self._pidfds[pidfd] = on_exit
        self.poll.register(pidfd, select.POLLIN)
        return pid

    def aside(self, job: Callable[[socket.socket], None], keep: Iterable[int] = ()) -> int:
        """Run `job` in a child and return the host's end of a SEQPACKET socket, by which the child answers when it is done.

        For an operation's answer: `return {}, [offspring.aside(job)]`. The host reads it as an `FdSocket`, whose end without an answer
        is an error.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.fork(lambda: job(theirs), (theirs.fileno(), *keep))
            except BaseException:
                ours.close()
                raise
        return ours.detach()

    def reap(self, pidfd: int) -> None:
        """Called by the loop for a descriptor of `poll` that is not its own."""
        self.poll.unregister(pidfd)
        on_exit = self._pidfds.pop(pidfd)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if ended is not None:
            is_exit = ended.si_code == os.CLD_EXITED
            on_exit(ended.si_status << 8 if is_exit else ended.si_status)

    def close(self) -> None:
        for pidfd in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in list(self._pidfds):
            self.reap(pidfd)


def _run(job: Callable[[], None], keep: Iterable[int]) -> NoReturn:
    status = 1
    try:
        linux.die_with_parent()
        linux.keep_only(*keep)
        job()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
