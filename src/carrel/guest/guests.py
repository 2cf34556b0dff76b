"""Which program an interpreter is: the one place where runtimes differ in how they begin, whatever the level.

A *forked* runtime is a module of this package, `interpreter` or `commander`: its template has done what can be done before a session is
there, and a child goes on from there. Any other runtime is a program of the image's, which a confined child becomes by exec; what it
is told stands in the control protocol (docs/reference/guests.md), on descriptor 3.

`python -m carrel.guest.guests RUNTIME [PROGRAM …] FD` does it in a fresh process, for the level that has no templates.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from carrel.guest import linux

CONTROL = 3
FORKED = ("python", "shell")


# Guests are imported where they are needed: one runtime's must cost another's sandboxes nothing.


def prepare(runtime: str, preload: list[str]) -> None:
    """Make this process one that interpreters of `runtime` are forked from. Raises ImportError and RuntimeError, as imports do."""
    if runtime == "python":
        from carrel.guest import interpreter

        interpreter.preload(preload)
    elif runtime == "shell":
        from carrel.guest import commander

        commander.preload()


def become(runtime: str, program: Sequence[str], control: int = CONTROL) -> NoReturn:
    """Be an interpreter. Called in a process that is confined, with its streams on 0, 1 and 2, and never returns."""
    if control != CONTROL:
        os.dup2(control, CONTROL)
        os.close(control)
    if runtime not in FORKED:
        _execute(list(program))
    os.set_inheritable(CONTROL, False)
    if runtime == "python":
        from carrel.guest import interpreter

        interpreter.after_fork()
        interpreter.run(socket.socket(fileno=CONTROL))
    else:
        from carrel.guest import commander

        commander.run(socket.socket(fileno=CONTROL))
    os._exit(1)  # neither returns


def _execute(program: list[str]) -> NoReturn:
    """Nothing of ours goes with it but the four descriptors: an exec keeps what is ignored and what is blocked, and Python ignores two."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
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
