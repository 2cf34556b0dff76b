"""Commands: each a fresh process with a process group of its own, started from a guest that may be large.

posix_spawn is a vfork: it costs the same from a process of 10 MB and one of a gigabyte. In the Python interpreter user code shares this
process, so what is called here is bound to names of our own before any of it runs: patching `os` or `subprocess` breaks nothing here.
Output goes straight to descriptors 1 and 2. A command is over when its own process ends; what it left in the background lives on.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from carrel.guest import causes, frames

SHELLS = ("bash", "sh")
INTERRUPT_S = 0.5  # from SIGINT to SIGKILL: within the host's own grace period, so that the guest and its state stay
NOT_FOUND, NOT_EXECUTABLE, UNKNOWN = 127, 126, 255

_SCRIPT_FD = 253
_MAX_ARGUMENT = 128 * 1024 - 1  # MAX_ARG_STRLEN of the kernel, with its end
_SHELL_PATH = b"/usr/local/bin:/usr/bin:/bin"  # should the guest's own PATH have no shell
_GO_TO = b'cd -- "$0" && exec "$@"'
_TICK_S = 0.005

_access, _isfile, _pipe, _close, _write = os.access, os.path.isfile, os.pipe, os.close, os.write
_spawn, _waitid, _waitpid, _killpg, _getcwd = os.posix_spawn, os.waitid, os.waitpid, os.killpg, os.getcwd
_fcntl, _loads, _sleep, _monotonic, _temporary = (
    fcntl.fcntl,
    json.loads,
    time.sleep,
    time.monotonic,
    tempfile.TemporaryFile,
)
_environ = os.environb
_OPEN, _DUP2 = os.POSIX_SPAWN_OPEN, os.POSIX_SPAWN_DUP2
_DEFAULT = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})

Action = tuple[int, int, int] | tuple[int, int, str, int, int]


class Command(NamedTuple):
    line: bytes | None  # for a shell …
    argv: tuple[bytes, ...]  # … or a program with its arguments
    shell: bytes
    stdin: bytes | None


class Unstartable(Exception):
    """Nothing was started; `code` is what a shell would end with, the text what it would say."""

    def __init__(self, code: int, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.code, self.errno = code, number


def parse(body: bytes) -> Command:
    """The command of a shell run. Raises Unstartable for what is none."""
    try:
        asked = _loads(body)
        line, argv, shell, stdin = (asked.get(name) for name in ("command", "argv", "shell", "stdin"))
        shell = "bash" if shell is None else shell
        if shell not in SHELLS or (line is None) == (not argv):
            raise ValueError("one of command and argv, and a shell that is bash or sh")
        return Command(
            None if line is None else _bytes(line),
            tuple(map(_bytes, argv or ())),
            _bytes(shell),
            None if stdin is None else _bytes(stdin, may_hold_null=True),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise Unstartable(NOT_EXECUTABLE, f"not a command: {error}") from None


def of_code(code: bytes) -> Command:
    """Code of a shell session, run by bash."""
    if b"\0" in code:
        raise Unstartable(NOT_EXECUTABLE, "not a command: it holds a null character")
    return Command(code, (), b"bash", None)


def _bytes(text: str, *, may_hold_null: bool = False) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    if b"\0" in encoded and not may_hold_null:
        raise ValueError("it holds a null character")
    return encoded


def start(
    command: Command,
    environment: Mapping[bytes, bytes],
    folder: str,
    prologue: bytes = b"",
    actions: Sequence[Action] = (),
) -> int:
    """The pid, and process group, of a new process that runs `command` in `folder`. `prologue` is put before a shell's line.

    Raises Unstartable.
    """
    try:
        with _input(command.stdin) as stdin, _arguments(command, environment, prologue) as (program, argv, script):
            program, argv = _from(folder, program, argv, environment)
            return _spawn(
                program,
                argv,
                environment,
                file_actions=[stdin, *script, *actions],
                setpgroup=0,
                setsigmask=[],
                setsigdef=_DEFAULT,
            )
    except OSError as error:
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        name = (command.argv or (command.shell,))[0].decode("utf-8", "replace")
        raise Unstartable(code, f"{name}: {error.strerror}", error.errno or 0) from None


@contextmanager
def _arguments(
    command: Command, environment: Mapping[bytes, bytes], prologue: bytes
) -> Iterator[tuple[bytes, list[bytes], list[Action]]]:
    """The program's path and arguments. A line longer than the kernel takes as an argument is read from a file instead."""
    if command.line is None:
        name = command.argv[0]
        if (program := _which(name, environment.get(b"PATH", _SHELL_PATH))) is None:
            raise Unstartable(NOT_FOUND, f"{name.decode('utf-8', 'replace')}: command not found", errno.ENOENT)
        yield program, [*command.argv], []
        return
    program, line = _shell(command.shell), prologue + command.line
    if len(line) <= _MAX_ARGUMENT:
        yield program, [command.shell, b"-c", line], []
        return
    with _temporary() as file:
        file.write(command.line)
        file.flush()
        file.seek(0)
        sourced = prologue + b". /dev/fd/%d" % _SCRIPT_FD
        yield program, [command.shell, b"-c", sourced], [(_DUP2, file.fileno(), _SCRIPT_FD)]


def _shell(name: bytes) -> bytes:
    """Found without the command's own PATH: `export PATH=` must not be the end of every later command."""
    own = _environ.get(b"PATH", b"")
    program = _which(name, own + b":" + _SHELL_PATH)
    if program is None:
        raise Unstartable(NOT_FOUND, f"{name.decode()}: this image has no such shell", errno.ENOENT)
    return program


def _which(name: bytes, path: bytes) -> bytes | None:
    if b"/" in name:
        return name
    for folder in path.split(b":"):
        candidate = (folder or b".") + b"/" + name
        if name and _access(candidate, os.X_OK) and _isfile(candidate):
            return candidate
    return None


def _from(
    folder: str, program: bytes, argv: list[bytes], environment: Mapping[bytes, bytes]
) -> tuple[bytes, list[bytes]]:
    """posix_spawn cannot change the directory. A commander never leaves the folder; Python code may have, and then a shell goes back."""
    with suppress(OSError):
        if _getcwd() == folder:
            return program, argv
    return _shell(b"sh"), [b"sh", b"-c", _GO_TO, os.fsencode(folder), program, *argv[1:]]


@contextmanager
def _input(stdin: bytes | None) -> Iterator[Action]:
    """Standard input: nothing; a pipe that holds all of it already; or a file where that is more than a pipe takes."""
    if not stdin:
        yield (_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        return
    reader, writer = _pipe()
    try:
        fits = len(stdin) <= _fcntl(writer, fcntl.F_GETPIPE_SZ)
        if fits:
            _write(writer, stdin)
        _close(writer)
        if fits:
            yield (_DUP2, reader, 0)
            return
    finally:
        _close(reader)
    with _temporary() as file:
        file.write(stdin)
        file.flush()
        file.seek(0)
        yield (_DUP2, file.fileno(), 0)


def refusal(error: Unstartable) -> frames.Header:
    """What is answered for a command that did not start, once it is said on stderr.

    With the limit that kept it from starting, if one did: it is the fork that says EAGAIN here, as nothing else can.
    """
    say(str(error))
    cause = {errno.ENOMEM: causes.MEMORY, errno.EAGAIN: causes.PROCESSES, errno.ENOSPC: causes.DISK}.get(error.errno)
    return {"outcome": "error", "exit": error.code, **({} if cause is None else {"cause": cause})}


def say(text: str) -> None:
    with suppress(OSError):
        _write(2, f"carrel: {text}\n".encode("utf-8", "replace"))


def environment() -> dict[bytes, bytes]:
    """This process's own."""
    return dict(_environ)


def wait(pid: int) -> int:
    """Until it has ended; its exit code. A KeyboardInterrupt comes out and leaves it running."""
    try:
        return exit_code(_waitpid(pid, 0)[1])
    except ChildProcessError:  # user code waits for every child, or has it thrown away
        return UNKNOWN


def interrupt(pid: int) -> int:
    """End it and what shares its process group: asked first, then killed. Its exit code."""
    signal_group(pid, signal.SIGINT)
    deadline = _monotonic() + INTERRUPT_S
    while _monotonic() < deadline and not has_ended(pid):
        _sleep(_TICK_S)
    signal_group(pid, signal.SIGKILL)
    return wait(pid)


def has_ended(pid: int) -> bool:
    """It stays to be waited for: until then no other process can have its number, nor another group."""
    try:
        return _waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def signal_group(pid: int, number: int) -> None:
    """As long as `pid` has not been waited for, its group is nobody else's."""
    with suppress(ProcessLookupError, PermissionError):
        _killpg(pid, number)


def exit_code(status: int) -> int:
    """As a shell has it: 128 and more for a signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
