"""IPython's InteractiveShell as a library: no terminal, no history, no file, no thread of its own.

What differs from a terminal's IPython: the last expression's value and what is displayed are kept for the caller instead of printed,
tracebacks go to stderr without colours, commands write straight to descriptors 1 and 2, nobody can be asked for input, and `exit` ends
the process.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import getpass
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, NoReturn

from IPython.core import page  # type: ignore[import-not-found]
from IPython.core.autocall import ExitAutocall  # type: ignore[import-not-found]
from IPython.core.error import StdinNotImplementedError, UsageError  # type: ignore[import-not-found]
from IPython.core.history import HistoryManager  # type: ignore[import-not-found]
from IPython.core.inputtransformer2 import TransformerManager  # type: ignore[import-not-found]
from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found]

from carrel.guest import displays, values

_OURS = __name__.rpartition(".")[0] + "."  # this package, as the names of its modules begin


class Exit(ExitAutocall):  # type: ignore[misc]
    """`exit`, `exit()`, `exit(3)`, and the same with quit: the process ends, with that status."""

    def __call__(self, code: object = None) -> NoReturn:
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
        self._ip.leaving = (0 if code is None else 1) if not isinstance(code, int) else code & 0xFF
        raise SystemExit(code)


class _Transformers(TransformerManager):  # type: ignore[misc]
    """IPython's, but for the part that tokenizes every cell: where no character can begin a magic, that is most of the work of `1+1`
    and touches a megabyte of the pages that a fresh fork shares with its template."""

    _MAY_BE_MAGIC = re.compile(r"[!?%]|^\s*[,;/]", re.MULTILINE)

    def __init__(self) -> None:
        super().__init__()
        self._own = len(self.token_transformers)

    def do_token_transforms(self, lines: list[str]) -> list[str]:
        if len(self.token_transformers) == self._own and not any(map(self._MAY_BE_MAGIC.search, lines)):
            return lines
        transformed: list[str] = super().do_token_transforms(lines)
        return transformed


class Shell(InteractiveShell):  # type: ignore[misc]
    """One per process. `run` is the caller's only door; after it `value`, `failure` and `leaving` tell how the cell went."""

    def __init__(self) -> None:
        self.value = values.ABSENT
        self.image: values.Document | None = None  # the last one displayed
        self._result: object = None  # what `value` was made of
        self.failure: BaseException | None = None
        self.leaving: int | None = None  # the exit status that the code asked for
        self.last_is_call = False
        self.tell: Callable[[bytes], None] | None = None  # takes what is displayed, a MIME bundle's JSON, as it happens
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            displayhook_class=displays.Hook,
            display_pub_class=displays.Publisher,
            exiter=Exit(self),
            colors="nocolor",
            ast_node_interactivity="last_expr",
            cache_size=0,
            input_transformer_manager=_Transformers(),
        )
        self.loop_runner = self._run_on_loop
        self.set_hook("show_in_pager", page.as_hook(_print_page))
        builtins.input = _refuse_input
        getpass.getpass = _refuse_input

    # What a cell does

    def run(self, code: str) -> None:
        """Run a cell. User code's exceptions end in `failure`; a KeyboardInterrupt may come out where IPython itself was interrupted."""
        self.value, self.image, self.failure, self._result = values.ABSENT, None, None, None
        result = self.run_cell(code, store_history=False)
        self.execution_count += 1
        self.failure = self.failure or result.error_before_exec or result.error_in_exec
        if self.failure is not None:
            self.value = values.ABSENT
        else:
            self._prefer_image()
        self._result = None

    def set_value(self, result: object) -> None:
        if values.is_plain(result):
            self.value = values.document(result, self._pretty)
        else:
            self.value = self._formatted(result)
        self._result = result

    def remember(self, result: object) -> None:
        """`_`, `__` and `___`, as long as the user has none of his own and gettext has not taken `_`."""
        hook, names = self.displayhook, self.user_ns
        if "_" in builtins.__dict__ or any(names.get(name) is not getattr(hook, name) for name in ("_", "__", "___")):
            return
        hook.___, hook.__, hook._ = hook.__, hook._, result
        names["_"], names["__"], names["___"] = hook._, hook.__, hook.___

    def forget(self) -> None:
        """No value so far: what `reset` leaves out, and `remember` builds on."""
        for name in ("_", "__", "___"):
            setattr(self.displayhook, name, "")
            self.user_ns[name] = ""
        self.user_ns["__spec__"] = None  # a script's __main__ has one; multiprocessing looks at it

    def _pretty(self, value: object) -> str:
        """IPython's text. Past its own wrapper, which would show an exception and go on."""
        formatter = self.display_formatter.formatters["text/plain"]
        text: str = type(formatter).__call__.__wrapped__(formatter, value)  # type: ignore[attr-defined]
        return text

    def _formatted(self, value: object) -> values.Document:
        """An image where the object has one, else its text. ABSENT where it has displayed itself, or its failure has been shown."""
        data, metadata = self.display_formatter.format(value)
        if self.failure is not None or not data:
            return values.ABSENT
        if set(data) != {"text/plain"} and not displays.will_be_shown(value):
            self.show(data, metadata)
        return displays.image(data) or values.text(data.get("text/plain") or repr(value))

    def _prefer_image(self) -> None:
        """An image that was displayed takes the one slot for a result; what it takes the place of is printed, so that it is not lost."""
        if self.image is None or self.value["kind"] == "image":
            return
        displaced, self.value = self.value, self.image
        if self._result is not None and not displays.is_plot_handle(self._result):
            print(displaced.get("text", displaced.get("json", "")))

    async def run_ast_nodes(self, nodelist: list[ast.AST], *args: Any, **options: Any) -> Any:
        last = nodelist[-1] if nodelist else None
        expression = last.value if isinstance(last, ast.Expr) else None
        self.last_is_call = isinstance(expression, (ast.Call, ast.Await))
        return await super().run_ast_nodes(nodelist, *args, **options)

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """As IPython's, but for SystemExit (no advice to a person at a prompt) and for interrupted awaits. Returns whether it failed."""
        try:
            if async_:
                await eval(code_obj, self.user_global_ns, self.user_ns)  # noqa: S307 - running code is what we are for
            else:
                exec(code_obj, self.user_global_ns, self.user_ns)  # noqa: S102
        except BaseException as error:
            problem = _interruption(error)
            problem.__traceback__ = _without_our_frames(error.__traceback__)
            if self.leaving is not None or (isinstance(problem, SystemExit) and not problem.code):
                return True
            if result is not None:
                result.error_in_exec = problem
            shown = type(problem), problem, problem.__traceback__
            self.showtraceback(shown, tb_offset=0, running_compiled_code=True)
            return True
        return False

    def _run_on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a cell that awaits, on the loop that all such cells share. An interrupt between its steps cancels it: left alone it would
        go on whenever a later cell runs the loop."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(coroutine)
        while True:
            try:
                return self._loop.run_until_complete(task)
            except KeyboardInterrupt:
                if task.done():
                    raise
                task.cancel()

    # What it shows

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **options: Any) -> None:
        problem = (exc_tuple or sys.exc_info())[1]
        self.failure = problem
        if isinstance(problem, SystemExit):
            print(f"SystemExit: {problem.code}", file=sys.stderr)
        else:
            super().showtraceback(exc_tuple, *args, **options)

    def _showtraceback(self, etype: object, evalue: object, stb: list[str]) -> None:
        print(self.InteractiveTB.stb2text(stb), file=sys.stderr)

    def system(self, cmd: str) -> None:
        """`!cmd`: a shell of its own, its output straight to our descriptors (nothing of it passes through this process)."""
        command = self.var_expand(cmd, depth=1)
        flush()
        shell = shutil.which(os.environ.get("SHELL", "/bin/sh")) or "/bin/sh"
        with subprocess.Popen(command, shell=True, executable=shell, process_group=0) as process:  # noqa: S602 - asked for
            try:
                status = process.wait()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        importlib.invalidate_caches()  # a `pip install` is seen by the next import
        self.user_ns["_exit_code"] = status
        if self.system_raise_on_error and status != 0:
            raise subprocess.CalledProcessError(status, cmd)

    system_raw = system_piped = system

    def show(self, data: dict[str, Any], metadata: object) -> None:
        """Tell of something displayed; after what was printed before it."""
        if self.tell is not None and (document := displays.bundle(data, metadata)) is not None:
            flush()
            self.tell(document)

    # What it leaves out

    def init_display_formatter(self) -> None:
        self.display_formatter = displays.Formatter(parent=self)
        self.display_formatter.use_extras()
        self.configurables.append(self.display_formatter)

    def init_ipython_dir(self, ipython_dir: object) -> None:
        """No files."""

    def init_profile_dir(self, profile_dir: object) -> None:
        self.profile_dir = None

    def init_history(self) -> None:
        self.history_manager = HistoryManager(shell=self, parent=self, enabled=False, hist_file=":memory:")

    def enable_gui(self, gui: object = None) -> None:
        """`%matplotlib inline` asks for it; there is no event loop of a window to join."""

    def _tee(self, channel: str) -> contextlib.AbstractContextManager[None]:
        """IPython keeps a copy of all output for `%history`; a flood of it would fill the session's memory."""
        return contextlib.nullcontext()

    @property
    def db(self) -> Any:
        raise UsageError("nothing is stored between sessions here")


def flush() -> None:
    """Bring out what is buffered; streams that user code broke are its own loss."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _interruption(error: BaseException) -> BaseException:
    """A cancellation that came from `_run_on_loop` is the KeyboardInterrupt that caused it."""
    if isinstance(error, asyncio.CancelledError):
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return KeyboardInterrupt()
    return error


def _without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback as if user code had been called by nobody and had called IPython's own functions."""
    frames: list[TracebackType] = []
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            frames.append(trace)
        trace = trace.tb_next
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        frame.tb_next = following
    return frames[0] if frames else None


def _print_page(data: str | dict[str, str], start: int = 0, screen_lines: int = 0, pager_cmd: object = None) -> None:
    print(data["text/plain"] if isinstance(data, dict) else data)


def _refuse_input(prompt: object = "", stream: object = None) -> NoReturn:
    raise StdinNotImplementedError("input is not available here: pass the value in the code, or read it from a file")
