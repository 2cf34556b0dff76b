"""Which program an interpreter is: the one place where runtimes differ in how they begin, whatever the level.

A *forked* runtime is a module of this package: `preload(modules)` makes a process its template, and a child calls `after_fork()` and
`run(control)`, which does not return. Any other runtime is a program of the image's, which a confined child becomes by exec; what it is
told stands in the control protocol (docs/reference/guests.md), on descriptor 3.

`python -m carrel.guest.guests RUNTIME [PROGRAM …] FD` does it in a fresh process, for the level that has no templates.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from carrel.guest import linux

CONTROL = 3
FORKED = {"python": "carrel.guest.interpreter", "shell": "carrel.guest.commander"}


def _module(runtime: str) -> Any:
    """Imported when it is needed: one runtime's guest must cost another's sandbox nothing."""
    return importlib.import_module(FORKED[runtime])


def prepare(runtime: str, preload: list[str]) -> None:
    """Make this process one that interpreters of `runtime` are forked from. Raises ImportError and RuntimeError as `preload` does."""
    if runtime in FORKED:
        _module(runtime).preload(preload)


def become(runtime: str, program: Sequence[str], control: int = CONTROL) -> NoReturn:
    """Be an interpreter. Called in a process that is confined, with its streams on 0, 1 and 2, and never returns."""
    if runtime in FORKED:
        guest = _module(runtime)
        os.set_inheritable(control, False)
        guest.after_fork()
        guest.run(socket.socket(fileno=control))
        os._exit(1)
    _execute(list(program), control)


def _execute(program: list[str], control: int) -> NoReturn:
    """Nothing of ours goes with it but the four descriptors: an exec keeps what is ignored and what is blocked, and Python ignores two."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if control != CONTROL:
        os.dup2(control, CONTROL)
    os.set_inheritable(CONTROL, True)
    linux.close_from(CONTROL + 1)
    try:
        os.execv(program[0], program)  # noqa: S606 - an exec is the point
    except OSError as error:
        os.write(2, f"{program[0]}: {error.strerror}\n".encode())  # the agent passes it on
        os._exit(127)


def main() -> None:
    runtime, *program, control = sys.argv[1:]
    become(runtime, program, int(control))


if __name__ == "__main__":
    from carrel.guest import guests  # the module of that name, not this copy of it: user code becomes __main__

    guests.main()
