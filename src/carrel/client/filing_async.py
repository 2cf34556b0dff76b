"""The asyncio client's part about files, and about a session's life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import IO

from carrel.client import calls
from carrel.client.events import Frames
from carrel.client.running_async import AsyncRunning
from carrel.client.values import File, FileChange, Session, SessionEvent


class AsyncFiling(AsyncRunning):
    """Files: store, fetch, change, watch. Sessions: open, keep alive, watch."""

    async def list_files(
        self, directory: str = "", *, is_recursive: bool = False, identifier: str | None = None
    ) -> list[File]:
        return await self._send(calls.list_files(identifier or self.identifier, directory, is_recursive))

    async def upload(
        self,
        path: str,
        data: bytes | IO[bytes],
        *,
        identifier: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> File:
        """Write `data` to `path` below /mnt/data, replacing what is there; directories are made.

        `if_match` is the etag of the file to replace, `if_none_match="*"` replaces none. ApiError 412 where it is another.
        """
        call = calls.upload(path, data, identifier or self.identifier, if_match, if_none_match)
        return await self._send(call)

    async def stat(self, path: str, *, identifier: str | None = None) -> File:
        return await self._send(calls.stat(path, identifier or self.identifier))

    async def download(self, path: str, *, identifier: str | None = None) -> bytes:
        return await self._send(calls.download(path, identifier or self.identifier))

    async def delete_file(self, path: str, *, identifier: str | None = None, if_match: str | None = None) -> None:
        await self._send(calls.delete_file(path, identifier or self.identifier, if_match))

    async def make_directory(self, path: str, *, identifier: str | None = None) -> File:
        """A directory, with those on the way to it; one that is there already is as good."""
        return await self._send(calls.make_directory(path, identifier or self.identifier))

    async def rename(
        self,
        path: str,
        to: str,
        *,
        overwrite: bool = False,
        identifier: str | None = None,
        if_match: str | None = None,
    ) -> File:
        """Give a file or directory another path, in one step. What is there already is replaced only with `overwrite`."""
        return await self._send(calls.rename(path, to, overwrite, identifier or self.identifier, if_match))

    async def archive(self, directory: str = "", *, identifier: str | None = None) -> AsyncIterator[bytes]:
        """A directory as a tar stream, in pieces. Raises httpx.RemoteProtocolError where it was changed so that no right one can be had."""
        async for data in self._stream(calls.archive(directory, identifier or self.identifier)):
            yield data

    async def watch(
        self, directory: str = "", *, is_recursive: bool = False, identifier: str | None = None
    ) -> AsyncIterator[FileChange]:
        """What changes in a directory, until the session ends (ApiError) or you stop."""
        frames = Frames()
        async for data in self._stream(calls.watch(directory, is_recursive, identifier or self.identifier)):
            for kind, body in frames.feed(data):
                yield FileChange.parse(kind, body)

    async def open(
        self, environment: Mapping[str, str | Mapping[str, str]] | None = None, *, identifier: str | None = None
    ) -> Session:
        """Begin a session, with variables of its environment: texts, or {"secretRef": NAME} for a secret of the pool."""
        return await self._send(calls.open_session(environment, identifier or self.identifier))

    async def keep_alive(self, *, identifier: str | None = None) -> Session:
        """Count as use of a session that lives. ApiError 404 where there is none: this makes none."""
        return await self._send(calls.keep_alive(identifier or self.identifier))

    async def session_events(self, *, identifier: str | None = None) -> AsyncIterator[SessionEvent]:
        """What happens to a session that lives, to its end. To be told keeps it not alive."""
        frames = Frames()
        async for data in self._stream(calls.session_events(identifier or self.identifier)):
            for kind, body in frames.feed(data):
                yield SessionEvent.parse(kind, body)

    async def _stream(self, call: calls.Call[None]) -> AsyncIterator[bytes]:
        async with self._http.stream(**call.arguments(self.endpoint)) as response:
            if not response.is_success:
                await response.aread()
                calls.check(response)
            async for data in response.aiter_bytes():
                yield data
