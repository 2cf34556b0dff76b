"""What user code may break in its own process, and what is put back before each run: the streams and the interrupt.

User code shares the process with the interpreter's loop. SIGINT is kept apart from it all the same: it interrupts user code, and is
ignored while the loop has the word.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Not signal's own of that name, which makes members of an enumeration of sixty numbers: that takes as long as a small cell.
_set_mask = _signal.pthread_sigmask
_ALL = frozenset(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


class Interrupts:
    """SIGINT raises KeyboardInterrupt while `armed`, and is dropped at any other time.

    A flag and not signal.signal around each run: changing the handler while a signal is pending makes CPython print a complaint.
    """

    def __init__(self) -> None:
        self.armed = False

    def install(self) -> None:
        """Before each run, since user code may have set a handler of its own or blocked the signal."""
        signal.signal(signal.SIGINT, self._on_signal)
        _set_mask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def disarm(self) -> None:
        while True:  # a second signal may come while the first one's exception is under way
            try:
                self.armed = False
                return
            except KeyboardInterrupt:
                continue

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.armed:
            raise KeyboardInterrupt


@contextmanager
def unsignalled() -> Iterator[None]:
    """No handler runs, so none can raise in the middle of a frame. What came meanwhile comes at the end."""
    before = _set_mask(signal.SIG_BLOCK, _ALL)
    try:
        yield
    finally:
        _set_mask(signal.SIG_SETMASK, before)


@contextmanager
def children_can_be_waited_for() -> Iterator[None]:
    """Whatever user code does with SIGCHLD: ignoring it, or a handler that waits for every child, would take a command's exit code away."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:  # not set by Python, and so not to be had back
            signal.signal(signal.SIGCHLD, before)


class Streams:
    """The process's own sys.stdout and sys.stderr, put back before each run."""

    def __init__(self) -> None:
        self._stdout, self._stderr = _stream(1), _stream(2)
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115

    def install(self) -> None:
        if not _is_usable(self._stdout):
            self._stdout = _stream(1)
        if not _is_usable(self._stderr):
            self._stderr = _stream(2)
        sys.stdout = sys.__stdout__ = self._stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._stderr  # type: ignore[misc]


def _stream(fd: int) -> io.TextIOWrapper:
    """Text to a descriptor that stays open whatever becomes of the stream. Whole lines go out at once, so that what a child process or
    a C library writes comes in the right order."""
    raw = open(fd, "wb", closefd=False)  # noqa: SIM115 - lives as long as the process
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _is_usable(stream: io.TextIOWrapper) -> bool:
    try:
        return not stream.closed
    except ValueError:  # detached
        return False
