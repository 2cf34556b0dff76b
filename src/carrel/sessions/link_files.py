"""The file calls on an agent's channel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from carrel.errors import FileConflict, FilePathInvalid, SessionBusy
from carrel.guest.frames import FrameError, Header, chunks, encode
from carrel.models import Condition, FileChange, FileInfo
from carrel.sessions import checks
from carrel.sessions.link_base import Link
from carrel.sessions.streams import Archive, Download, Flow, Listing, Upload, Watch

FILE_S = 30.0  # how long an agent may do nothing visible
MAX_STREAMS = 256
MAX_PATH = 4096  # PATH_MAX


class FileLink(Link):
    async def stat(self, path: str) -> FileInfo:
        self._admit(path)
        return self._file(await self._call("stat", FILE_S, path=path))

    async def delete(self, path: str, condition: Condition) -> None:
        self._admit(path)
        await self._call("delete", FILE_S, path=path, **_demands(condition))

    async def make_directory(self, path: str) -> tuple[FileInfo, bool]:
        """And whether it was not there before."""
        self._admit(path)
        answer = await self._call("mkdir", FILE_S, path=path)
        return self._file(answer), answer.get("is_new") is True

    async def rename(self, path: str, to: str, overwrite: bool, condition: Condition) -> FileInfo:
        self._admit(path)
        self._admit(to)
        fields = {"path": path, "to": to, "overwrite": overwrite, **_demands(condition)}
        return self._file(await self._call("rename", FILE_S, **fields))

    async def list_files(self, path: str, recursive: bool) -> list[FileInfo]:
        self._admit(path)
        listing = self._open(Listing(self._next))
        self._send(listing, {"op": "list", "path": path, "recursive": recursive})
        await self._finish(listing, FILE_S)
        return listing.entries

    async def upload(self, path: str, content: AsyncIterator[bytes], condition: Condition) -> FileInfo:
        """Store `content`. Whatever it raises aborts the upload, and nothing is left of it in the sandbox."""
        self._admit(path)
        upload = self._open(Upload(self._next))
        try:
            self._send(upload, {"op": "upload", "path": path, **_demands(condition)})
            async for data in content:
                for chunk in chunks(data):
                    await self._send_chunk(upload, chunk)
                if upload.is_over:  # it failed early: the rest is not wanted
                    break
            else:
                self._send(upload, {"end": 1})
            return self._file(await self._finish(upload, FILE_S))
        finally:
            self._give_up(upload)

    @contextlib.asynccontextmanager
    async def download(self, path: str, offset: int, length: int | None) -> AsyncIterator[Download]:
        """Open a file; entered once its size is known. Read with `read`; leaving early stops the agent."""
        self._admit(path)
        download = self._open(Download(self._next))
        try:
            self._send(download, {"op": "download", "path": path, "offset": offset, "length": length})
            await self._begun(download)
            yield download
        finally:
            self._give_up(download)

    @contextlib.asynccontextmanager
    async def archive(self, path: str) -> AsyncIterator[Archive]:
        """A directory as a tar stream, to be read with `read`."""
        self._admit(path)
        archive = self._open(Archive(self._next))
        try:
            self._send(archive, {"op": "archive", "path": path})
            await self._begun(archive)
            yield archive
        finally:
            self._give_up(archive)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, recursive: bool) -> AsyncIterator[Watch]:
        """What changes in a directory, to be read with `changes`; leaving stops the agent's looking."""
        self._admit(path)
        watch = self._open(Watch(self._next))
        try:
            self._send(watch, {"op": "watch", "path": path, "recursive": recursive})
            await self._begun(watch)
            yield watch
        finally:
            self._give_up(watch)

    async def _begun(self, flow: Flow) -> None:
        """Until its first frame is there. Raises what the agent reports instead."""
        while not flow.is_begun and not flow.is_over:
            await self._progress(flow, FILE_S)
        if flow.error is not None:
            raise flow.error

    async def read(self, flow: Flow) -> AsyncIterator[bytes]:
        """The bytes, as fast as they are taken. Raises FileConflict where user code cut the file meanwhile."""
        while True:
            while flow.has_piece:
                yield self._take(flow)
            if flow.is_over:
                break
            await self._progress(flow, FILE_S)
        flow.answer()
        if not flow.is_complete:
            raise FileConflict("The file changed while it was read.")

    async def changes(self, watch: Watch) -> AsyncIterator[list[FileChange]]:
        """As they are seen, until somebody leaves or something fails; silence may be long."""
        while True:
            while watch.has_piece:
                try:
                    yield checks.file_changes(self._take(watch))
                except FrameError as error:
                    self.close(f"its agent broke the protocol ({error})")
            if watch.is_over:
                break
            await watch.changed()
        watch.answer()

    def _take(self, flow: Flow) -> bytes:
        piece, credit = flow.take()
        if credit and not flow.is_over:
            self._send(flow, {"credit": credit})
        return piece

    def _admit(self, path: str) -> None:
        """Bounds on file calls; control calls and code always get through."""
        if len(path) > MAX_PATH:
            raise FilePathInvalid("The path is too long.")
        if len(self._streams) >= MAX_STREAMS:
            raise SessionBusy("The session has too many calls under way.", headers={"Retry-After": "1"})

    async def _send_chunk(self, upload: Upload, chunk: memoryview) -> None:
        while upload.credit < len(chunk) and not upload.is_over:
            await self._progress(upload, FILE_S)
        if upload.is_over:
            return
        upload.credit -= len(chunk)
        self._channel.send(encode({"s": upload.number, "data": 1}, chunk))

    def _file(self, answer: Header) -> FileInfo:
        try:
            return checks.file_info(answer.get("file"))
        except FrameError as error:
            self.close(f"its agent broke the protocol ({error})")
            raise self._error() from None


def _demands(condition: Condition) -> Header:
    """A condition as the agent takes it."""
    demands = {"if_match": condition.if_match, "if_none_match": condition.if_none_match}
    return {name: list(tags) for name, tags in demands.items() if tags is not None}
