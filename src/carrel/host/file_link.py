"""hostlink's file calls, the client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from carrel.guest.frames import Header, chunks
from carrel.host import codec
from carrel.host.caller import Caller
from carrel.host.line import Line, content
from carrel.models import ANYTHING, Condition, FileChange, FileInfo, SessionView


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


@dataclass(slots=True)
class Archive:
    """A directory on its way, as tar: iterate for its bytes. Raises FileConflict in between where it cannot be right."""

    session: SessionView
    _chunks: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


@dataclass(slots=True)
class Watch:
    """A directory that is looked at: iterate for what changes, some at a time. Raises SessionLost when the session ends."""

    session: SessionView
    _changes: AsyncIterator[list[FileChange]]

    def __aiter__(self) -> AsyncIterator[list[FileChange]]:
        return self._changes


class FileLink(Caller):
    async def list_files(
        self, pool: str, identifier: str, directory: str, recursive: bool
    ) -> tuple[SessionView, list[FileInfo]]:
        """What is below `directory`; nothing where that does not exist."""
        request = self._request("list", pool, identifier, path=directory, recursive=recursive)
        async with self._lines.call(request) as line:
            files: list[FileInfo] = []
            while True:  # page by page: a full listing is megabytes
                header, payload = await line.read_answer()
                if payload:
                    files += [codec.file_from(fields) for fields in codec.json_from(payload)]
                if "end" in header:
                    return codec.view_from(header["session"]), files

    async def stat(self, pool: str, identifier: str, path: str) -> tuple[SessionView, FileInfo]:
        """Raises FileMissing."""
        answer, _ = await self._call(self._request("stat", pool, identifier, path=path))
        return codec.view_from(answer["session"]), codec.file_from(answer["file"])

    async def delete_file(self, pool: str, identifier: str, path: str, condition: Condition = ANYTHING) -> SessionView:
        """Raises DeleteMissing, ConditionNotMet."""
        demands = codec.condition_to(condition)
        answer, _ = await self._call(self._request("delete", pool, identifier, path=path, **demands))
        return codec.view_from(answer["session"])

    async def make_directory(self, pool: str, identifier: str, path: str) -> tuple[SessionView, FileInfo, bool]:
        """With those on the way to it; and whether it was not there before. Raises FileConflict."""
        answer, _ = await self._call(self._request("mkdir", pool, identifier, path=path))
        return codec.view_from(answer["session"]), codec.file_from(answer["file"]), answer["is_made"]

    async def rename(
        self, pool: str, identifier: str, path: str, to: str, *, overwrite: bool, condition: Condition = ANYTHING
    ) -> tuple[SessionView, FileInfo]:
        """Give a file or directory another path, in one step. Raises FileMissing, FileConflict, ConditionNotMet."""
        fields = {"path": path, "to": to, "overwrite": overwrite, **codec.condition_to(condition)}
        answer, _ = await self._call(self._request("rename", pool, identifier, **fields))
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
        demands = codec.condition_to(condition)
        async with self._lines.call(self._request("upload", pool, identifier, path=path, body=1, **demands)) as line:
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
        return self._download(self._request("download", pool, identifier, path=path, offset=offset, length=length))

    @contextlib.asynccontextmanager
    async def _download(self, request: Header) -> AsyncIterator[Download]:
        async with self._lines.call(request) as line:
            info, _ = await line.read_answer()
            session, file = codec.view_from(info["session"]), codec.file_from(info["file"])
            yield Download(session, file, info["start"], info["length"], content(line))

    @contextlib.asynccontextmanager
    async def archive(self, pool: str, identifier: str, directory: str) -> AsyncIterator[Archive]:
        """Entered once the directory is known to be there. Raises FileMissing, FileConflict, SessionBusy."""
        async with self._lines.call(self._request("archive", pool, identifier, path=directory)) as line:
            start, _ = await line.read_answer()
            yield Archive(codec.view_from(start["session"]), content(line))

    @contextlib.asynccontextmanager
    async def watch(self, pool: str, identifier: str, directory: str, recursive: bool) -> AsyncIterator[Watch]:
        """Entered once the directory is known to be there. Raises FileMissing, FileConflict, SessionBusy."""
        async with self._lines.call(
            self._request("watch", pool, identifier, path=directory, recursive=recursive)
        ) as line:
            start, _ = await line.read_answer()
            yield Watch(codec.view_from(start["session"]), _changes(line))


async def _changes(line: Line) -> AsyncIterator[list[FileChange]]:
    async for page in content(line):
        yield [codec.change_from(fields) for fields in codec.json_from(page)]
