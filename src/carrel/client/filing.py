"""The plain client's part about files, and about a session's life."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from carrel.client import calls
from carrel.client.call import Call
from carrel.client.errors import NotSupported
from carrel.client.events import Frames
from carrel.client.retrying import Attempts
from carrel.client.running import Running
from carrel.client.transfers import CHUNK, Part, Source, TransferProgress, sending, telling
from carrel.client.values import File, FileChange, Session, SessionEvent

_EVENTS = "text/event-stream"


class Filing(Running):
    """Files: store, fetch, change, watch. Sessions: open, keep alive, watch."""

    def list_files(
        self, directory: str = "", *, is_recursive: bool = False, identifier: str | None = None
    ) -> list[File]:
        return self._send(calls.list_files(identifier or self.identifier, directory, is_recursive))

    def upload(
        self,
        path: str,
        data: Source,
        *,
        identifier: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        progress: TransferProgress = None,
    ) -> File:
        """Write `data` to `path` below /mnt/data, replacing what is there; directories are made. A `Path` is a file of this machine.

        `progress` is called with the bytes so far and all of them, or True for a bar on a terminal or in a notebook.

        `if_match` is the etag of the file to replace, `if_none_match="*"` replaces none. ApiError 412 where it is another.
        """
        with sending(data, progress, path) as body:
            return self._send(calls.upload(path, body, identifier or self.identifier, if_match, if_none_match))

    def stat(self, path: str, *, identifier: str | None = None) -> File:
        return self._send(calls.stat(path, identifier or self.identifier))

    def download(self, path: str, *, identifier: str | None = None) -> bytes:
        """The whole file, in memory. `save` is for large ones."""
        return self._send(calls.download(path, identifier or self.identifier))

    def save(
        self, path: str, to: str | os.PathLike[str], *, identifier: str | None = None, progress: TransferProgress = None
    ) -> Path:
        """Write a file of the session to the file `to` of this machine, which is there once it is whole. `progress` is as of `upload`."""
        call = calls.download(path, identifier or self.identifier)
        attempts = Attempts(call, self.endpoint, self._retries)
        with telling(progress, path) as tell, Part(to, tell) as part:
            while True:
                try:
                    wait_s = self._fetch(call, attempts, part)
                    if wait_s is None:
                        return part.finish()
                except httpx.TransportError as error:
                    wait_s = attempts.lost(error)
                time.sleep(wait_s)

    def delete_file(self, path: str, *, identifier: str | None = None, if_match: str | None = None) -> None:
        self._send(calls.delete_file(path, identifier or self.identifier, if_match))

    def make_directory(self, path: str, *, identifier: str | None = None) -> File:
        """A directory, with those on the way to it; one that is there already is as good."""
        return self._send(calls.make_directory(path, identifier or self.identifier))

    def rename(
        self,
        path: str,
        to: str,
        *,
        overwrite: bool = False,
        identifier: str | None = None,
        if_match: str | None = None,
    ) -> File:
        """Give a file or directory another path, in one step. What is there already is replaced only with `overwrite`."""
        return self._send(calls.rename(path, to, overwrite, identifier or self.identifier, if_match))

    def archive(self, directory: str = "", *, identifier: str | None = None) -> Iterator[bytes]:
        """A directory as a tar stream, in pieces. Raises httpx.RemoteProtocolError where it was changed so that no right one can be had."""
        yield from self._stream(calls.archive(directory, identifier or self.identifier), "application/x-tar")

    def watch(
        self, directory: str = "", *, is_recursive: bool = False, identifier: str | None = None
    ) -> Iterator[FileChange]:
        """What changes in a directory, until the session ends (ApiError) or you stop."""
        frames = Frames()
        for data in self._stream(calls.watch(directory, is_recursive, identifier or self.identifier), _EVENTS):
            for kind, body in frames.feed(data):
                yield FileChange.parse(kind, body)

    def open(
        self, environment: Mapping[str, str | Mapping[str, str]] | None = None, *, identifier: str | None = None
    ) -> Session:
        """Begin a session, with variables of its environment: texts, or {"secretRef": NAME} for a secret of the pool."""
        return self._send(calls.open_session(environment, identifier or self.identifier))

    def keep_alive(self, *, identifier: str | None = None) -> Session:
        """Count as use of a session that lives. ApiError 404 where there is none: this makes none."""
        return self._send(calls.keep_alive(identifier or self.identifier))

    def session_events(self, *, identifier: str | None = None) -> Iterator[SessionEvent]:
        """What happens to a session that lives, to its end. To be told keeps it not alive."""
        frames = Frames()
        for data in self._stream(calls.session_events(identifier or self.identifier), _EVENTS):
            for kind, body in frames.feed(data):
                yield SessionEvent.parse(kind, body)

    def _fetch(self, call: Call[bytes], attempts: Attempts[bytes], part: Part) -> float | None:
        with self._http.stream(**self._arguments(call)) as response:
            if not response.is_success:
                response.read()
                if (wait_s := attempts.answered(response)) is not None:
                    return wait_s
                call.check(response)
            part.begin(response.headers.get("Content-Length"))
            for data in response.iter_bytes(CHUNK):
                part.write(data)
            return None

    def _stream(self, call: Call[None], kind: str) -> Iterator[bytes]:
        """The bytes of a reply of a kind. Raises NotSupported where a server of Azure's API answers with another."""
        with self._http.stream(**self._arguments(call)) as response:
            if not response.is_success:
                response.read()
                call.check(response)
            if not response.headers.get("Content-Type", "").startswith(kind):
                raise NotSupported(
                    response.status_code, "NotSupported", f"this server has no {kind}, which is beyond Azure's API"
                )
            yield from response.iter_bytes()
