"""The interpreter: takes code from the agent over a control socket, runs it in one IPython shell, sends the value back.

It lives in one of two ways. A template calls `preload` once and forks; each child calls `after_fork` and `run`. Where there is no
template, `python -m carrel.guest.interpreter FD` does all of it in a fresh process. stdout and stderr are the agent's pipes on 1 and 2;
they are flushed before a run is reported done.

User code shares this process and may break anything in it. Two things are kept apart from it all the same: SIGINT, which interrupts
user code and is ignored while the loop has the word, and forked children of user code, which must never answer for their parent.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import random
import shutil
import signal
import site
import socket
import struct
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from carrel.guest import causes, frames, values
from carrel.guest.shell import Shell, flush
from carrel.guest.threads import SINGLE_THREADED

FONT_CACHE = "share/matplotlib"  # below the image: built with it, read by `preload`

_WARM_UP = ("1 + 1", "[x for x in ['warm', 'up']]", "raise ValueError('warm up')", "if:", "%time 1", "import asyncio")
_READ = 64 * 1024


class _Interrupts:
    """SIGINT raises KeyboardInterrupt while `armed`, and is dropped at any other time.

    A flag and not signal.signal around each run: changing the handler while a signal is pending makes CPython print a complaint.
    """

    def __init__(self) -> None:
        self.armed = False

    def install(self) -> None:
        """Before each run, since user code may have set a handler of its own or blocked the signal."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

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


class _Streams:
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


class Interpreter:
    """A shell with what it needs around it; one per process, made before the fork where there is one."""

    def __init__(self) -> None:
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        sys.argv = [""]
        if "" not in sys.path:
            sys.path.insert(0, "")  # modules in the working directory can be imported
        self._streams, self._interrupts = _Streams(), _Interrupts()
        self._streams.install()
        self.shell: Shell = Shell.instance()
        atexit.unregister(self.shell.atexit_operations)  # nothing to store or to clear
        os.register_at_fork(before=flush)  # what is buffered would be written by both

    def serve(self, control: socket.socket) -> None:
        """Answer runs until the agent closes `control` or the code ends the process. Does not return."""
        self._pid = os.getpid()
        self._interrupts.install()
        _add_user_site()
        control.sendall(frames.encode({"ready": 1}))
        self._rehearse()
        with contextlib.suppress(OSError):  # user code closed the socket, or the agent is gone
            for number, code in _runs(control):
                self._answer(control, number, code)
        os._exit(0)

    def _rehearse(self) -> None:
        """Run a cell for nothing, while nobody waits: the first one in a fork copies some 2 MB of pages, which takes 2 ms."""
        self.shell.run("None")
        self._value()
        self.shell.execution_count = 1

    def _answer(self, control: socket.socket, number: int, code: str) -> None:
        outcome, failure = self._run(code)
        if os.getpid() != self._pid:
            os._exit(_status(self.shell))  # a child that user code forked has come to the end of its cell
        if self.shell.leaving is not None:
            _leave(self.shell.leaving)
        done: frames.Header = {"value": number, "done": number, "outcome": outcome}
        if failure is not None and (cause := _cause(failure)):
            done["cause"] = cause
        *pieces, last = frames.chunks(self._value())
        for piece in pieces:
            control.sendall(frames.encode({"value": number}, piece))
        control.sendall(frames.encode(done, last))

    def _run(self, code: str) -> tuple[str, BaseException | None]:
        """Run one cell; all of its output is out when this returns."""
        self._streams.install()
        self._interrupts.install()
        failure: BaseException | None = None
        try:
            self._interrupts.armed = True
            self.shell.run(code)
            self._interrupts.armed = False
            failure = self.shell.failure
        except BaseException as error:
            self._interrupts.disarm()
            failure, self.shell.value = error, values.ABSENT
            self._streams.install()
            traceback.print_exception(error)
        flush()
        self._streams.install()
        flush()  # what went to our own streams before user code put others in their place
        if failure is None:
            return "ok", None
        return "interrupted" if isinstance(failure, KeyboardInterrupt) else "error", failure

    def _value(self) -> bytes:
        value, self.shell.value, self.shell.image = self.shell.value, values.ABSENT, None
        return values.encode(value)

    def warm_up(self) -> None:
        """Run a few cells so that a fork has nothing left to import or to compile for its first one."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for code in _WARM_UP:
                self.shell.run(code)
            if "matplotlib.pyplot" in sys.modules:
                self.shell.run("import matplotlib.pyplot as _p\n_p.plot([0, 1])\n_p.show()")
        self.shell.reset(new_session=False)
        self.shell.forget()
        self.shell.execution_count = 1
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            sys.__dict__.pop(name, None)


_interpreter: Interpreter | None = None


def preload(modules: list[str]) -> None:
    """Make this process a template: import `modules`, have a shell ready, stay single-threaded.

    Raises ImportError for a module that the image promised and does not have, RuntimeError where a library started a thread.
    """
    global _interpreter
    os.environ.update(SINGLE_THREADED)
    _interpreter = Interpreter()
    with _font_cache():
        for module in modules:
            importlib.import_module(module)
        if "matplotlib.pyplot" in sys.modules:
            importlib.import_module("matplotlib_inline.backend_inline")
        _interpreter.warm_up()
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are enough
    if threads != 1:
        raise RuntimeError(
            f"importing {', '.join(modules)} left {threads - 1} threads running; such a process cannot be forked"
        )
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _font_cache() -> Iterator[None]:
    """matplotlib reads its font list from a directory that it can write to or not at all, and the image's is read-only: lend it a copy.

    Where the image is not what Python runs in (level `restricted`), MPLCONFIGDIR says where that directory is.
    """
    baked = Path(os.environ.get("MPLCONFIGDIR") or Path(sys.prefix, FONT_CACHE))
    if not baked.is_dir():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("MPLCONFIGDIR")
        os.environ["MPLCONFIGDIR"] = shutil.copytree(baked, Path(folder, "matplotlib")).as_posix()
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
            if before is not None:
                os.environ["MPLCONFIGDIR"] = before


def after_fork() -> None:
    """Give this process randomness of its own. Called in a template's child, before `run`.

    uuid, secrets and ssl ask the kernel each time. String hashes keep the template's seed: it cannot be changed in a living process.
    """
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        # Not its seed(): that dirties 250 KB more of the pages that are shared with the template.
        numpy_random.set_state(("MT19937", struct.unpack("624I", os.urandom(624 * 4)), 624))
    if processes := sys.modules.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    tempfile.tempdir = None  # looked up anew, in the sandbox's environment


def _add_user_site() -> None:
    """Where pip installs to from inside an image (its own folder is read-only), also while nothing is there yet."""
    if sys.prefix != sys.base_prefix:
        site.USER_BASE = site.USER_SITE = None  # looked up in a template's environment
        folder = site.getusersitepackages()
        with contextlib.suppress(
            OSError
        ):  # a folder that is not there yet is remembered as none, and what comes into it not seen
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - a string is what there is
        if folder not in sys.path:
            sys.path.append(folder)


def run(control: socket.socket) -> None:
    """Serve `control` with the template's shell, or a new one. Does not return."""
    (_interpreter or Interpreter()).serve(control)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    run(control)


def _runs(control: socket.socket) -> Iterator[tuple[int, str]]:
    """The runs that the agent asks for; ends with the socket."""
    decoder, code = frames.Decoder(), bytearray()
    while data := control.recv(_READ):
        for header, payload in decoder.feed(data):
            code += payload
            if not header.get("more"):
                yield header["run"], code.decode("utf-8", "surrogatepass")
                code.clear()


def _status(shell: Shell) -> int:
    """The exit status of a program that ended like the last cell."""
    if shell.leaving is not None or shell.failure is None:
        return shell.leaving or 0
    code = shell.failure.code if isinstance(shell.failure, SystemExit) else 1
    return code & 0xFF if isinstance(code, int) else 1


def _cause(failure: BaseException) -> str:
    """The limit that the failure speaks of. An exception's own attributes and text may be user code, which may do anything."""
    try:
        return causes.of(failure)
    except BaseException:
        return ""


def _leave(status: int) -> None:
    """End as `exit()` asks: what user code registered with atexit runs, threads are not waited for."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    flush()
    os._exit(status)


if __name__ == "__main__":
    from carrel.guest import interpreter  # the module of that name, not this copy of it: user code becomes __main__

    interpreter.main()
