"""A terminal whose keys come one by one, and that is as it was before when the block is left, in whichever way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

Wait = Callable[[float], str]  # a key, or "" when nobody pressed one within so many seconds


class Terminated(SystemExit):
    """SIGTERM, as an exception: so that the terminal is put right."""


@contextlib.contextmanager
def keys() -> Iterator[Wait]:
    """Without a terminal to read from, or on a system without termios, no key ever comes."""
    with _terminating():
        try:
            import termios
            import tty

            descriptor = sys.stdin.fileno()
            before = termios.tcgetattr(descriptor)
        except (ImportError, OSError, ValueError, termios.error):
            yield _none
            return
        try:
            tty.setcbreak(descriptor)  # Ctrl-C stays a signal
            yield lambda seconds: _key(descriptor, seconds)
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(descriptor: int, seconds: float) -> str:
    import select

    readable, _, _ = select.select([descriptor], [], [], seconds)
    if not readable:
        return ""
    return os.read(descriptor, 32).decode("ascii", "replace")[:1].lower() or "q"  # its end: nobody is there any more


def _none(seconds: float) -> str:
    time.sleep(seconds)
    return ""


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
