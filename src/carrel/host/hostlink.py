"""hostlink, the client: what a gateway calls to reach the sessions, wherever they are.

One call at a time per connection. A call is a request frame `{"op": …}`; a body, where the op has one, follows as `{"data": 1}` frames
and ends with `{"end": 1}`. The answer is `{"data": 1}` frames and one last frame, `{"end": 1, …}` or `{"error": …}`; the last frame may
carry the last piece of the data, so that a small call is one frame each way. Connections are kept for the next call. One that did not
see its call to the end (cancelled, or an upload that failed half-way) is closed, which tells the host to stop; an execution goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.guest.frames import Header, chunks
from carrel.host import codec
from carrel.host.events import Event, Stream, events
from carrel.host.line import Lines, content, with_body
from carrel.models import (
    ANYTHING,
    Condition,
    EgressPolicy,
    EgressVerdict,
    Execution,
    ExecutionSpec,
    FileInfo,
    ImageInfo,
    PoolStatus,
    SessionView,
)

__all__ = ["Download", "Event", "HostLink", "Stream"]


@dataclass(slots=True)
class Download:
    """A file on its way: iterate for its `length` bytes from `start`."""

    session: SessionView
    file: FileInfo
    start: int
    length: int
    _chunks: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class HostLink:
    """All calls raise carrel.errors.*; HostUnavailable where nobody serves at `path`, or it went away during the call."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    async def close(self) -> None:
        """Let the idle connections go. Calls under way end on their own."""
        self._lines.close()

    # -- pools and sessions ------------------------------------------------------------------------------------------

    async def pools(self) -> list[PoolStatus]:
        answer, _ = await self._call({"op": "pools"})
        return [codec.pool_from(fields) for fields in answer["pools"]]

    async def image(self, pool: str) -> ImageInfo | None:
        """What the pool's sandboxes are made from; None as long as it is being built."""
        _, body = await self._call({"op": "image", "pool": pool})
        return codec.image_from(codec.json_from(body))

    async def set_image(self, pool: str, name: str) -> ImageInfo | None:
        """Move to another image; returns when new sessions get it, which takes as long as building it. Raises RequestInvalid."""
        _, body = await self._call({"op": "set_image", "pool": pool, "name": name})
        return codec.image_from(codec.json_from(body))

    async def egress(self, pool: str) -> EgressPolicy:
        answer, _ = await self._call({"op": "egress", "pool": pool})
        return codec.egress_from(answer["egress"])

    async def set_egress(self, pool: str, allow: Sequence[str]) -> EgressPolicy:
        """Put another list in the place of the pool's. Raises RequestNotSupported for a pool that has none."""
        body = codec.json_to(list(allow))
        answer, _ = await self._call({"op": "set_egress", "pool": pool}, body)
        return codec.egress_from(answer["egress"])

    async def test_egress(self, pool: str, target: str) -> EgressVerdict:
        answer, _ = await self._call({"op": "test_egress", "pool": pool, "target": target})
        return codec.verdict_from(answer["verdict"])

    async def open(self, pool: str, identifier: str, environment: Mapping[str, str] | None = None) -> SessionView:
        """The identifier's session, allocated if it has none; counts as use.

        `environment` holds for as long as the session lives. Raises SessionExists where it lives already with another one (none, too).
        """
        request, body = _request("open", pool, identifier), b""
        if environment is not None:
            request, body = {**request, "environment": 1}, codec.json_to(dict(environment))
        answer, _ = await self._call(request, body)
        return codec.view_from(answer["session"])

    async def session(self, pool: str, identifier: str) -> SessionView:
        """As it is: allocates nothing and does not count as use. Raises SessionNotFound."""
        answer, _ = await self._call(_request("session", pool, identifier))
        return codec.view_from(answer["session"])

    async def sessions(self, pool: str, skip: int, limit: int = 300) -> tuple[list[SessionView], int]:
        """A page, oldest first, and how many there are in all."""
        answer, body = await self._call({"op": "sessions", "pool": pool, "skip": skip, "limit": limit})
        return [codec.view_from(fields) for fields in codec.json_from(body)], answer["total"]

    async def end(self, pool: str, identifier: str) -> None:
        """Raises SessionNotFound."""
        await self._call(_request("end", pool, identifier))

    # -- code --------------------------------------------------------------------------------------------------------

    async def execute(self, pool: str, identifier: str, spec: ExecutionSpec) -> tuple[SessionView, Execution]:
        """Run code. Returns when it is over, or at once where `spec.is_asynchronous`. Goes on where the caller is cancelled."""
        fields, code = codec.spec_to(spec)
        answer, output = await self._call(_request("execute", pool, identifier, spec=fields), code)
        return codec.view_from(answer["session"]), codec.execution_from(identifier, answer["execution"], output)

    async def execution(self, pool: str, identifier: str, execution_id: str) -> Execution:
        """Raises SessionNotFound, ExecutionMissing."""
        answer, output = await self._call(_request("execution", pool, identifier, id=execution_id))
        return codec.execution_from(identifier, answer["execution"], output)

    async def executions(self, pool: str, identifier: str, skip: int, limit: int) -> tuple[list[Execution], int]:
        """Some of those that the session knows, in the order in which they were asked for, without output; and how many there are."""
        answer, body = await self._call(_request("executions", pool, identifier, skip=skip, limit=limit))
        return [codec.execution_from(identifier, fields) for fields in codec.json_from(body)], answer["total"]

    def stream(self, pool: str, identifier: str, spec: ExecutionSpec) -> AbstractAsyncContextManager[Stream]:
        """Run code, and be told what comes of it while it comes. Leaving early leaves the execution running."""
        fields, code = codec.spec_to(spec)
        return self._events(_request("stream", pool, identifier, spec=fields), code)

    def follow(
        self, pool: str, identifier: str, execution_id: str, after: int = 0
    ) -> AbstractAsyncContextManager[Stream]:
        """The events of an execution, also of one that is over; those after the one of that number. Raises ExecutionMissing."""
        return self._events(_request("follow", pool, identifier, id=execution_id, after=after))

    async def cancel(self, pool: str, identifier: str, execution_id: str) -> Execution:
        """End an execution that waits or runs; as it is when it is over, which it may have been before. Raises ExecutionMissing."""
        answer, output = await self._call(_request("cancel", pool, identifier, id=execution_id))
        return codec.execution_from(identifier, answer["execution"], output)

    async def cancel_all(self, pool: str, identifier: str) -> int:
        """End all executions of a session that wait or run; how many that were. Raises SessionNotFound."""
        answer, _ = await self._call(_request("cancel_all", pool, identifier))
        return int(answer["count"])

    async def restart(self, pool: str, identifier: str) -> SessionView:
        """A fresh interpreter: variables are lost, what runs or waits is canceled, files and environment stay. Raises SessionNotFound."""
        answer, _ = await self._call(_request("restart", pool, identifier))
        return codec.view_from(answer["session"])

    @contextlib.asynccontextmanager
    async def _events(self, request: Header, payload: bytes = b"") -> AsyncIterator[Stream]:
        async with self._lines.open() as line:
            line.write(*with_body(request, payload))
            start, _ = await line.read_answer()
            yield Stream(codec.view_from(start["session"]), start["id"], events(line, request["identifier"]))

    # -- files -------------------------------------------------------------------------------------------------------

    async def list_files(
        self, pool: str, identifier: str, directory: str, recursive: bool
    ) -> tuple[SessionView, list[FileInfo]]:
        """What is below `directory`; nothing where that does not exist."""
        request = _request("list", pool, identifier, path=directory, recursive=recursive)
        async with self._lines.open() as line:
            line.write((request, b""))
            files: list[FileInfo] = []
            while True:  # page by page: a full listing is megabytes
                header, payload = await line.read_answer()
                if payload:
                    files += [codec.file_from(fields) for fields in codec.json_from(payload)]
                if "end" in header:
                    return codec.view_from(header["session"]), files

    async def stat(self, pool: str, identifier: str, path: str) -> tuple[SessionView, FileInfo]:
        """Raises FileMissing."""
        answer, _ = await self._call(_request("stat", pool, identifier, path=path))
        return codec.view_from(answer["session"]), codec.file_from(answer["file"])

    async def delete_file(self, pool: str, identifier: str, path: str, condition: Condition = ANYTHING) -> SessionView:
        """Raises DeleteMissing, ConditionNotMet."""
        demands = codec.condition_to(condition)
        answer, _ = await self._call(_request("delete", pool, identifier, path=path, **demands))
        return codec.view_from(answer["session"])

    async def make_directory(self, pool: str, identifier: str, path: str) -> tuple[SessionView, FileInfo, bool]:
        """With those on the way to it; and whether it was not there before. Raises FileConflict."""
        answer, _ = await self._call(_request("mkdir", pool, identifier, path=path))
        return codec.view_from(answer["session"]), codec.file_from(answer["file"]), answer["is_made"]

    async def rename(
        self, pool: str, identifier: str, path: str, to: str, *, overwrite: bool, condition: Condition = ANYTHING
    ) -> tuple[SessionView, FileInfo]:
        """Give a file or directory another path, in one step. Raises FileMissing, FileConflict, ConditionNotMet."""
        fields = {"path": path, "to": to, "overwrite": overwrite, **codec.condition_to(condition)}
        answer, _ = await self._call(_request("rename", pool, identifier, **fields))
        return codec.view_from(answer["session"]), codec.file_from(answer["file"])

    async def upload(
        self,
        pool: str,
        identifier: str,
        path: str,
        content: AsyncIterator[bytes],
        condition: Condition = ANYTHING,
    ) -> tuple[SessionView, FileInfo]:
        """Store a file, whole or not at all. What iterating `content` raises aborts it and comes out here. Raises ConditionNotMet."""
        async with self._lines.open() as line:
            demands = codec.condition_to(condition)
            line.write((_request("upload", pool, identifier, path=path, body=1, **demands), b""))
            line.owes_body = True
            async for data in content:
                for chunk in chunks(data):
                    await line.send(chunk)
                if line.has_frame or line.is_lost:  # it failed early: the rest is not wanted
                    break
            else:
                line.write(({"end": 1}, b""))
                line.owes_body = False
            header, _ = await line.read_answer()
            return codec.view_from(header["session"]), codec.file_from(header["file"])

    def download(
        self, pool: str, identifier: str, path: str, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[Download]:
        """Read a file, or `length` bytes of it from `offset`. Entered once its size is known. Raises FileMissing, RangeInvalid."""
        return self._download(_request("download", pool, identifier, path=path, offset=offset, length=length))

    @contextlib.asynccontextmanager
    async def _download(self, request: Header) -> AsyncIterator[Download]:
        async with self._lines.open() as line:
            line.write((request, b""))
            info, _ = await line.read_answer()
            session, file = codec.view_from(info["session"]), codec.file_from(info["file"])
            yield Download(session, file, info["start"], info["length"], content(line))

    # -- connections -------------------------------------------------------------------------------------------------

    async def _call(self, request: Header, payload: bytes = b"") -> tuple[Header, bytes]:
        """One call whose answer is small, or at least wanted whole."""
        async with self._lines.open() as line:
            line.write(*with_body(request, payload))
            header, data = await line.read_answer()
            if "end" in header:
                return header, data
            pieces = [data]
            while "end" not in header:
                header, data = await line.read_answer()
                pieces.append(data)
            return header, b"".join(pieces)


def _request(op: str, pool: str, identifier: str, **args: Any) -> Header:
    return {"op": op, "pool": pool, "identifier": identifier, **args}
