"""The client for plain code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from carrel.client import calls
from carrel.client.running import Running
from carrel.client.values import Egress, EgressTest, File, Image, Metadata, Session


class Client(Running):
    """A pool to run code in. `identifier` is the session that calls use which name none."""

    def list_files(
        self, directory: str = "", *, is_recursive: bool = False, identifier: str | None = None
    ) -> list[File]:
        return self._send(calls.list_files(identifier or self.identifier, directory, is_recursive))

    def upload(
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
        return self._send(call)

    def stat(self, path: str, *, identifier: str | None = None) -> File:
        return self._send(calls.stat(path, identifier or self.identifier))

    def download(self, path: str, *, identifier: str | None = None) -> bytes:
        return self._send(calls.download(path, identifier or self.identifier))

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

    def session(self, *, identifier: str | None = None) -> Session:
        """The session as it stands; asking neither makes one nor keeps it alive."""
        return self._send(calls.session(identifier or self.identifier))

    def sessions(self) -> list[Session]:
        """All live sessions of the pool."""
        found: list[Session] = []
        while True:
            page, has_more = self._send(calls.sessions(len(found)))
            found += page
            if not (page and has_more):
                return found

    def end(self, *, identifier: str | None = None) -> None:
        """End the session; its variables and files are gone."""
        self._send(calls.end(identifier or self.identifier))

    def metadata(self) -> Metadata:
        return self._send(calls.metadata())

    def image(self) -> Image:
        """Which image the pool's new sessions get. The token needs the role of a pool contributor."""
        return self._send(calls.image())

    def set_image(self, name: str) -> Image:
        """Move the pool to another image, built first where it is missing: for new sessions, until the server is restarted."""
        return self._send(calls.set_image(name))

    def egress(self) -> Egress:
        """What the pool's sessions may reach. Needs a token with the role 'Container Apps SessionPools Contributor', as the next two do."""
        return self._send(calls.egress())

    def set_egress(self, rules: Sequence[str]) -> Egress:
        """Put `rules` in the place of the pool's egress list: at once, for live sessions too, until the server is restarted."""
        return self._send(calls.set_egress(rules))

    def test_egress(self, host: str, port: int = 443) -> EgressTest:
        """What the pool's egress list does with a host, and why; the name is resolved, nothing is connected to."""
        return self._send(calls.test_egress(host, port))
