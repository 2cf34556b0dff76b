"""The tools at work: a call by name and arguments, done over hostlink, with a result that is fit to send."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from carrel.errors import CarrelError, ContentTooLarge, SessionNotFound
from carrel.host.hostlink import HostLink
from carrel.models import Execution, ExecutionSpec, PoolSpec
from carrel.server.mcp import results, tools
from carrel.server.mcp.arguments import Arguments
from carrel.server.mcp.results import Result
from carrel.wire import names
from carrel.wire.programs import DEFAULT_TIMEOUT_S, MAX_CODE_BYTES

STREAM_LIMIT = 65_536  # characters of stdout, and of stderr: a model reads them all
LISTED = 500  # files in one listing
_REPORT_S = 1.0  # between two progress notifications

_log = logging.getLogger("carrel.mcp")

Report = Callable[[float, str], Awaitable[None]]  # how far it is, in seconds, and what it says
Seen = Callable[[str, str], None]  # which tool, and in which environment: for the access log


class UnknownTool(Exception):
    """No tool of this pool has that name."""


class Toolbox:
    """The tools of one pool."""

    def __init__(self, pool: PoolSpec, link: HostLink) -> None:
        self.pool = pool
        self.tools = {tool.name: tool for tool in tools.tools_of(pool)}
        self._link = link
        self._handlers: dict[str, Callable[[Arguments, str, Report | None], Awaitable[Result]]] = {
            tools.RUN_PYTHON: self._run_code,
            tools.LIST_FILES: self._list,
            tools.UPLOAD: self._upload,
            tools.DOWNLOAD: self._download,
            tools.STOP: self._stop,
        }

    async def call(
        self, name: str, given: Mapping[str, Any] | None, report: Report | None = None, seen: Seen | None = None
    ) -> Result:
        """Raises UnknownTool; whatever else goes wrong is a result with `isError`, which the model reads and acts on."""
        if name not in self.tools:
            raise UnknownTool
        if name.startswith("launch"):
            return _launched()
        try:
            arguments = Arguments(given)
            environment = arguments.environment()
            if seen is not None:
                seen(name, environment)
            return await self._handlers[name](arguments, environment, report)
        except CarrelError as error:
            return results.of_error(error)
        except Exception:  # the package would send its words to the caller; ours go to the log
            _log.exception("a tool failed", extra={"pool": self.pool.name, "tool": name})
            return results.of_refusal("InternalServerError: something went wrong in the server; its log says more.")

    # -- code ------------------------------------------------------------------------------------------------------------

    async def _run_code(self, arguments: Arguments, environment: str, report: Report | None) -> Result:
        code = arguments.required_text("pythonCode", "code")
        if len(code.encode()) > MAX_CODE_BYTES:
            raise ContentTooLarge(f"'pythonCode' may have {MAX_CODE_BYTES} bytes at most.", target="pythonCode")
        spec = ExecutionSpec(code, timeout=self._timeout(arguments), stream_limit=STREAM_LIMIT)
        return results.of_execution(await self._run(environment, spec, report))

    async def _run(self, environment: str, spec: ExecutionSpec, report: Report | None) -> Execution:
        telling = asyncio.ensure_future(_tell(report)) if report is not None else None
        try:
            _, execution = await self._link.execute(self.pool.name, environment, spec)
        finally:
            if telling is not None:
                telling.cancel()
        return execution

    def _timeout(self, arguments: Arguments) -> float:
        most = self.pool.maximum_execution
        return float(arguments.integer("timeoutInSeconds", min(DEFAULT_TIMEOUT_S, most), 1, most))

    # -- files -----------------------------------------------------------------------------------------------------------

    async def _list(self, arguments: Arguments, environment: str, _report: Report | None) -> Result:
        directory = names.decode_directory(arguments.text("path", "directory"))
        _, found = await self._link.list_files(self.pool.name, environment, directory, arguments.flag("recursive"))
        return results.of_files(environment, sorted(found, key=lambda info: (info.directory, info.name)), LISTED)

    async def _upload(self, arguments: Arguments, environment: str, _report: Report | None) -> Result:
        path = names.decode_file_path(arguments.required_text("path", "fileName", "filename"))
        content = arguments.content()
        _, info = await self._link.upload(self.pool.name, environment, path, _pieces(content))
        structured = {"environmentId": environment, "path": path, "sizeInBytes": info.size}
        return results.result(structured, [results.text(f"/mnt/data/{path}, {info.size} bytes")])

    async def _download(self, arguments: Arguments, environment: str, _report: Report | None) -> Result:
        path = names.decode_file_path(arguments.required_text("path", "fileName", "filename"))
        offset = arguments.integer("offset", 0, 0)
        length = arguments.integer("length", 0, 1) if "length" in arguments else None
        async with self._link.download(self.pool.name, environment, path, offset, length) as download:
            if download.length > results.MAX_INLINE:
                raise ContentTooLarge(
                    f"The file has {download.file.size} bytes; {results.MAX_INLINE} come back at most: give 'offset' and 'length'.",
                    target="length",
                )
            data = b"".join([piece async for piece in download])
        return results.of_download(environment, download.file, offset, data)

    # -- the environment ---------------------------------------------------------------------------------------------------

    async def _stop(self, _arguments: Arguments, environment: str, _report: Report | None) -> Result:
        """What is gone already is stopped as well."""
        try:
            await self._link.end(self.pool.name, environment)
        except SessionNotFound:
            return results.result(
                {"environmentId": environment}, [results.text("There is no such environment any more.")]
            )
        return results.result({"environmentId": environment}, [results.text("Stopped.")])


def _launched() -> Result:
    """A name is all that is made: its sandbox comes with the first call that needs one, out of those that are ready."""
    environment = str(uuid.uuid4())
    return results.result({"environmentId": environment}, [results.text(f"environmentId: {environment}")])


async def _tell(report: Report) -> None:
    """Say now and then that it is still running, so that no one in between gives up waiting."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(_REPORT_S)
        elapsed = time.monotonic() - began
        await report(elapsed, f"running for {elapsed:.0f} s")


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content
