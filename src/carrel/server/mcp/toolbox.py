"""The tools at work: a call by name and arguments, done over hostlink, with a result that is fit to send."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrel.errors import CarrelError, ContentTooLarge, Forbidden, RequestInvalid, SessionLost, SessionNotFound
from carrel.host.hostlink import HostLink
from carrel.models import ContainerType, Execution, ExecutionSpec, PoolSpec, ShellCommand
from carrel.server.audit import describing
from carrel.server.mcp import results, tools
from carrel.server.mcp.arguments import Arguments
from carrel.server.mcp.progress import Progress, Report
from carrel.server.mcp.results import Result
from carrel.wire import names
from carrel.wire.programs import DEFAULT_TIMEOUT_S, MAX_CODE_BYTES

STREAM_LIMIT = 65_536  # characters of stdout, and of stderr: a model reads them all
LISTED = 500  # files in one listing
_LAUNCHES = (tools.LAUNCH_SHELL, tools.LAUNCH_PYTHON, tools.LAUNCH_NODE, "launchShellEnvironment")
_RUNS = (tools.RUN_PYTHON, tools.RUN_JAVASCRIPT, tools.RUN_CODE)
_RUNTIMES = {ContainerType.PYTHON: "python", ContainerType.NODE: "node", ContainerType.SHELL: "shell"}
_BELIEVED_S = 5.0  # for so long nobody asks again what a pool's image is
_MAX_COMMAND = 2 * 1024 * 1024  # bytes of a command with its input

_log = logging.getLogger("carrel.mcp")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called a tool, as far as it matters to it."""

    principal: str = ""  # its object id
    report: Report | None = None  # where progress is told
    seen: Callable[[str, str], None] = lambda _tool, _environment: None  # for the access log
    is_canceling: Callable[[], bool] = lambda: (
        False
    )  # asked when the call is cancelled: does the caller want the code to end?
    bound: str | None = field(default=None, repr=False)  # the one environment that it may use, where it may not use any
    noted: dict[str, object] = field(
        default_factory=dict
    )  # for the audit log: what the tool has done, as far as it has
    done: Callable[[str, str, Mapping[str, object]], None] = lambda _tool, _outcome, _noted: None  # told at its end


class UnknownTool(Exception):
    """No pool has a tool of that name."""


class Toolbox:
    """The tools of one pool."""

    def __init__(self, pool: PoolSpec, link: HostLink) -> None:
        self.pool = pool
        self._link = link
        self._runtime = (_RUNTIMES[pool.container_type], 0.0)  # and until when that is believed
        self._cancels: set[asyncio.Task[Execution]] = set()
        self._handlers: dict[str, Callable[[Arguments, str, Caller], Awaitable[Result]]] = {
            tools.RUN_PYTHON: self._run_python,
            tools.RUN_JAVASCRIPT: self._run_javascript,
            tools.RUN_CODE: self._run_code,
            tools.RUN_SHELL: self._run_shell,
            tools.LIST_FILES: self._list,
            tools.UPLOAD: self._upload,
            tools.DOWNLOAD: self._download,
            tools.INTERRUPT: self._interrupt,
            tools.STOP: self._stop,
        }

    async def runtime(self) -> str:
        """The word of the image that new environments are made from: a pool may be moved to another while it serves."""
        word, until = self._runtime
        if time.monotonic() > until:
            with contextlib.suppress(CarrelError):
                image = await self._link.image(self.pool.name)
                word = word if image is None else image.software.runtime  # None: its first one is being built
            self._runtime = (word, time.monotonic() + _BELIEVED_S)
        return word

    async def call(self, name: str, given: Mapping[str, Any] | None, caller: Caller) -> Result:
        """Raises UnknownTool; whatever else goes wrong is a result with `isError`, which the model reads and acts on."""
        if name in _LAUNCHES:
            return _launched(caller.bound or str(uuid.uuid4()))
        if name not in self._handlers:
            raise UnknownTool
        try:
            arguments = Arguments(given)
            environment = arguments.environment()
            if caller.bound not in (None, environment):
                raise Forbidden("The token is good for another environment: launch one to learn its name.")
            caller.seen(name, environment)
            return await self._recorded(name, self._handlers[name](arguments, environment, caller), caller)
        except CarrelError as error:
            return results.of_error(error)
        except Exception:  # the package would send its words to the caller; ours go to the log
            _log.exception("a tool failed", extra={"pool": self.pool.name, "tool": name})
            return results.of_refusal("InternalServerError: something went wrong in the server; its log says more.")

    async def _recorded(self, name: str, work: Awaitable[Result], caller: Caller) -> Result:
        """The audit log has it before its caller is answered."""
        outcome = "Abandoned"
        try:
            result = await work
            outcome = "Succeeded"
        except CarrelError as error:
            outcome = "Failed"
            caller.noted["error"] = error.code
            raise
        finally:
            caller.done(name, outcome, caller.noted)
        return result

    # -- code ------------------------------------------------------------------------------------------------------------

    async def _run_python(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        code = _code(arguments, "pythonCode")
        runtime = await self.runtime()
        if runtime != "shell":
            return await self._evaluate(code, runtime == "python", arguments, environment, caller)
        shell = ShellCommand(argv=("python3", "-"), stdin=code)
        return results.of_command(await self._run(environment, self._spec(arguments, shell=shell), caller))

    async def _run_javascript(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        code = _code(arguments, "javaScriptCode")
        return await self._evaluate(code, await self.runtime() == "node", arguments, environment, caller)

    async def _run_code(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        return await self._evaluate(_code(arguments, "code"), True, arguments, environment, caller)

    async def _evaluate(
        self, code: str, is_understood: bool, arguments: Arguments, environment: str, caller: Caller
    ) -> Result:
        """By the environment's own interpreter. Code of another language would only give errors that mislead."""
        if not is_understood:
            offered = next(tool.name for tool in tools.tools_of(self.pool, await self.runtime()) if tool.name in _RUNS)
            return results.of_refusal(f"The language of this pool is another: use {offered}.")
        return results.of_execution(await self._run(environment, self._spec(arguments, code), caller))

    async def _run_shell(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        spec = self._spec(arguments, shell=_command(arguments))
        return results.of_command(await self._run(environment, spec, caller))

    def _spec(self, arguments: Arguments, code: str = "", shell: ShellCommand | None = None) -> ExecutionSpec:
        """With an id of our own: what is to be canceled may not have begun yet."""
        most = self.pool.maximum_execution
        return ExecutionSpec(
            code,
            timeout=float(arguments.integer("timeoutInSeconds", min(DEFAULT_TIMEOUT_S, most), 1, most)),
            operation_id=str(uuid.uuid4()),
            stream_limit=STREAM_LIMIT,
            shell=shell,
        )

    async def _run(self, environment: str, spec: ExecutionSpec, caller: Caller) -> Execution:
        """To its end, telling how it goes. It goes on where the call is cancelled, unless the caller wants it to end."""
        progress = Progress()
        telling = None if caller.report is None else asyncio.ensure_future(progress.tell(caller.report))
        try:
            async with self._link.on_behalf_of(caller.principal).stream(self.pool.name, environment, spec) as stream:
                caller.noted.update(describing.begun(self.pool, spec, stream.id), isNew=stream.session.is_new)
                async for event in stream:
                    if event.execution is not None:
                        caller.noted.update(describing.execution(self.pool, spec, event.execution))
                        return event.execution
                    progress.note(event.text)
            raise SessionLost("The environment ended while the code ran.")
        except asyncio.CancelledError:
            if caller.is_canceling():
                self._cancel(environment, spec)
            raise
        finally:
            if telling is not None:
                telling.cancel()

    def _cancel(self, environment: str, spec: ExecutionSpec) -> None:
        """Not waited for: whoever would wait is being cancelled itself."""
        task = asyncio.ensure_future(self._link.cancel(self.pool.name, environment, spec.operation_id or ""))
        self._cancels.add(task)
        task.add_done_callback(self._canceled)

    def _canceled(self, task: asyncio.Task[Execution]) -> None:
        self._cancels.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, CarrelError):
            _log.error("an execution could not be canceled", extra={"kind": type(error).__name__})

    # -- files -----------------------------------------------------------------------------------------------------------

    async def _list(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        directory = names.decode_directory(arguments.text("path", "directory"))
        link = self._link.on_behalf_of(caller.principal)
        _, found = await link.list_files(self.pool.name, environment, directory, arguments.flag("recursive"))
        return results.of_files(environment, sorted(found, key=lambda info: (info.directory, info.name)), LISTED)

    async def _upload(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        path = names.decode_file_path(arguments.required_text("path", "fileName", "filename"))
        content = arguments.content()
        link = self._link.on_behalf_of(caller.principal)
        caller.noted["path"] = path
        view, info = await link.upload(self.pool.name, environment, path, _pieces(content))
        caller.noted.update(bytes=info.size, isNew=view.is_new)
        structured = {"environmentId": environment, "path": path, "sizeInBytes": info.size}
        return results.result(structured, [results.text(f"/mnt/data/{path}, {info.size} bytes")])

    async def _download(self, arguments: Arguments, environment: str, caller: Caller) -> Result:
        path = names.decode_file_path(arguments.required_text("path", "fileName", "filename"))
        offset = arguments.integer("offset", 0, 0)
        length = arguments.integer("length", 0, 1) if "length" in arguments else None
        caller.noted["path"] = path
        link = self._link.on_behalf_of(caller.principal)
        async with link.download(self.pool.name, environment, path, offset, length) as download:
            if download.length > results.MAX_INLINE:
                raise ContentTooLarge(
                    f"The file has {download.file.size} bytes; {results.MAX_INLINE} come back at most: give 'offset' and 'length'.",
                    target="length",
                )
            data = b"".join([piece async for piece in download])
            caller.noted.update(bytes=len(data), isNew=download.session.is_new)
        return results.of_download(environment, download.file, offset, data)

    # -- the environment ---------------------------------------------------------------------------------------------------

    async def _interrupt(self, _arguments: Arguments, environment: str, _caller: Caller) -> Result:
        """Where nothing runs, and where there is no environment, nothing has to be interrupted."""
        try:
            canceled = await self._link.cancel_all(self.pool.name, environment)
        except SessionNotFound:
            canceled = 0
        words = f"Interrupted {canceled}." if canceled else "Nothing was running."
        return results.result({"environmentId": environment, "canceled": canceled}, [results.text(words)])

    async def _stop(self, _arguments: Arguments, environment: str, _caller: Caller) -> Result:
        """What is gone already is stopped as well."""
        words = "Stopped."
        try:
            await self._link.end(self.pool.name, environment)
        except SessionNotFound:
            words = "There is no such environment any more."
        return results.result({"environmentId": environment}, [results.text(words)])


def _launched(environment: str) -> Result:
    """A name is all that is made: its sandbox comes with the first call that needs one, out of those that are ready."""
    return results.result({"environmentId": environment}, [results.text(f"environmentId: {environment}")])


def _code(arguments: Arguments, name: str) -> str:
    code = arguments.required_text(name, "code")
    if len(code.encode()) > MAX_CODE_BYTES:
        raise ContentTooLarge(f"'{name}' may have {MAX_CODE_BYTES} bytes at most.", target=name)
    return code


def _command(arguments: Arguments) -> ShellCommand:
    command, argv, stdin = (
        arguments.text("shellCommand", "command"),
        arguments.texts("execCommandAndArgs"),
        arguments.text("stdin"),
    )
    if (command is None) == (argv is None):
        raise RequestInvalid(
            "Exactly one of 'shellCommand' and 'execCommandAndArgs' is required.", target="shellCommand"
        )
    words = (command,) if command is not None else argv or ()
    if any("\0" in word for word in words):
        raise RequestInvalid("A command cannot hold the character NUL.", target="shellCommand")
    if sum(len(text.encode()) for text in (*words, stdin or "")) > _MAX_COMMAND:
        raise ContentTooLarge(f"A command with its input may have {_MAX_COMMAND} bytes at most.", target="shellCommand")
    return ShellCommand(command=command, argv=argv, stdin=stdin)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content
