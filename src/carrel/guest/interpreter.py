"""The interpreter: takes code from the agent over a control socket, runs it in one IPython shell, sends the value back.

It lives in one of two ways. A template calls `preload` once and forks; each child calls `after_fork` and `run`. Where there is no
template, `python -m carrel.guest.interpreter FD` does all of it in a fresh process. stdout and stderr are the agent's pipes on 1 and 2;
they are flushed before a run is reported done.

User code shares this process and may break anything in it. What upkeep.py can mend is mended before each run. Forked children of user
code must never answer for their parent.
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
import site
import socket
import struct
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from carrel.guest import causes, commands, frames, summary, values, variables
from carrel.guest.requests import Environment, Run, requests
from carrel.guest.shell import Shell, flush
from carrel.guest.threads import SINGLE_THREADED
from carrel.guest.upkeep import Interrupts, Streams, children_can_be_waited_for, unsignalled

FONT_CACHE = "share/matplotlib"  # below the image: built with it, read by `preload`

_WARM_UP = ("1 + 1", "[x for x in ['warm', 'up']]", "raise ValueError('warm up')", "if:", "%time 1", "import asyncio")
_WARM_UP_OF = {
    "pandas": "import pandas as _p\n_p.DataFrame({'a': [1.5], 'b': ['x']})",
    "matplotlib.pyplot": "import matplotlib.pyplot as _p\n_p.plot([0, 1])\n_p.show()",
}
_getpid, _environ = os.getpid, os.environ  # whatever user code makes of `os`


class _Answers:
    """What goes back to the agent: frames that no signal cuts in half, from whichever thread."""

    def __init__(self, control: socket.socket) -> None:
        self._sendall, self._lock, self._pid = control.sendall, threading.RLock(), os.getpid()
        self.number: int | None = None  # of the run under way

    @property
    def is_ours(self) -> bool:
        """False in a child that user code forked: it must not speak for its parent."""
        return _getpid() == self._pid

    def send(self, name: str, document: bytes, **last: Any) -> None:
        """`document` in as many frames as it takes; the header of the last one says the rest."""
        if self.number is None or not self.is_ours:
            return
        *pieces, end = frames.chunks(document)
        with unsignalled(), self._lock:
            for piece in pieces:
                self._sendall(frames.encode({name: self.number, "more": 1}, piece))
            self._sendall(frames.encode({name: self.number, **last}, end))


class Interpreter:
    """A shell with what it needs around it; one per process, made before the fork where there is one."""

    def __init__(self) -> None:
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
        sys.argv = [""]
        if "" not in sys.path:
            sys.path.insert(0, "")  # modules in the working directory can be imported
        self._streams, self._interrupts = Streams(), Interrupts()
        self._streams.install()
        self.shell: Shell = Shell.instance()
        atexit.unregister(self.shell.atexit_operations)  # nothing to store or to clear
        os.register_at_fork(before=flush)  # what is buffered would be written by both

    def serve(self, control: socket.socket) -> None:
        """Answer runs until the agent closes `control` or the code ends the process. Does not return."""
        self._answers, self._folder = _Answers(control), os.getcwd()  # noqa: PTH109 - as the environment has it
        self.shell.tell = partial(self._answers.send, "display")
        self._interrupts.install()
        _add_user_site()
        control.sendall(frames.encode({"ready": 1}))
        self._rehearse()
        with contextlib.suppress(OSError):  # user code closed the socket, or the agent is gone
            for request in requests(control):
                if isinstance(request, Environment):
                    _set_environment(request.variables)
                else:
                    self._answer(request)
        os._exit(0)

    def _rehearse(self) -> None:
        """Run a cell for nothing, while nobody waits: the first one in a fork copies some 2 MB of pages, which takes 2 ms."""
        self.shell.run("None")
        self._value()
        self.shell.execution_count = 1

    def _answer(self, request: Run) -> None:
        self._answers.number, self._found = request.number, b"{}"
        done = self._run_command(request) if request.kind == "shell" else self._run_code(request)
        if request.wanted or request.has_summary:
            self._answers.send("variables", self._found)
        self._answers.send("value", self._value(), done=request.number, **done)
        self._answers.number = None

    def _run_code(self, request: Run) -> frames.Header:
        outcome, failure = self._run(request)
        if not self._answers.is_ours:
            os._exit(_status(self.shell))  # a child that user code forked has come to the end of its cell
        if self.shell.leaving is not None:
            _leave(self.shell.leaving)
        done: frames.Header = {"outcome": outcome}
        if failure is not None and (cause := _cause(failure)):
            done["cause"] = cause
        return done

    def _run(self, request: Run) -> tuple[str, BaseException | None]:
        """Run one cell; all of its output is out when this returns."""
        self._streams.install()
        self._interrupts.install()
        failure: BaseException | None = None
        try:
            self._interrupts.armed = True
            self._put(request.variables)
            self.shell.run(request.body.decode("utf-8", "surrogatepass"))
            self._get(request)
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

    def _put(self, given: Mapping[str, Any]) -> None:
        for problem in variables.put(self.shell.user_ns, given) if given else ():
            print(f"carrel: {problem}", file=sys.stderr)

    def _get(self, request: Run) -> None:
        if request.has_summary:
            self._found = summary.document(self.shell.user_ns, self.shell.user_ns_hidden)
        elif request.wanted:
            self._found, problems = variables.get(self.shell.user_ns, request.wanted)
            for problem in problems:
                print(f"carrel: {problem}", file=sys.stderr)

    def _run_command(self, request: Run) -> frames.Header:
        """A command of the session, in a process of its own; variables are set and told all the same."""
        self._streams.install()
        self._interrupts.install()
        self._put(request.variables)
        flush()
        done: frames.Header
        try:
            with children_can_be_waited_for():
                code, was_interrupted = self._wait_for(commands.parse(request.body))
            done = {"outcome": "ok" if code == 0 else "interrupted" if was_interrupted else "error", "exit": code}
        except commands.Unstartable as error:
            done = commands.refusal(error)
        importlib.invalidate_caches()  # a `pip install` is seen by the next import
        self._get(request)
        flush()
        return done

    def _wait_for(self, command: commands.Command) -> tuple[int, bool]:
        pid = commands.start(command, commands.environment(), self._folder)
        try:
            self._interrupts.armed = True
            code = commands.wait(pid)
            self._interrupts.armed = False
            return code, False
        except BaseException as error:  # a handler of user code's may raise anything
            self._interrupts.disarm()
            return commands.interrupt(pid), isinstance(error, KeyboardInterrupt)

    def _value(self) -> bytes:
        value, self.shell.value, self.shell.image = self.shell.value, values.ABSENT, None
        return values.encode(value)

    def warm_up(self) -> None:
        """Run a few cells so that a fork has nothing left to import or to compile for its first one."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for code in _WARM_UP:
                self.shell.run(code)
            for module, code in _WARM_UP_OF.items():
                if module in sys.modules:
                    self.shell.run(code)
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


def _set_environment(given: Mapping[str, str]) -> None:
    for name, value in given.items():
        with contextlib.suppress(ValueError):  # a name or text that none can have
            _environ[name] = value


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
