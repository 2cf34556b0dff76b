"""One session: its executions one after the other (runner.py), its file calls straight through."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from carrel.errors import SessionExists
from carrel.models import ANYTHING, Condition, ExecutionSpec, FileChange, FileInfo, PoolSpec
from carrel.sessions.budget import Budget
from carrel.sessions.executions import Record
from carrel.sessions.guest import Guest
from carrel.sessions.link import lost
from carrel.sessions.runner import Runner
from carrel.sessions.seat import Seat
from carrel.sessions.states import SessionState
from carrel.sessions.tasks import Tasks


@dataclass(slots=True)
class Reading:
    """A file being downloaded: `length` bytes from `start`."""

    file: FileInfo
    start: int
    length: int
    chunks: AsyncIterator[bytes]


class Session:
    """Owned by the keeper, which kills the guest when the session ends."""

    def __init__(self, guest: Guest, spec: PoolSpec, seat: Seat, tasks: Tasks, budget: Budget) -> None:
        self.guest = guest
        self.seat = seat
        self._runner = Runner(guest, spec, seat, tasks, budget)

    @property
    def state(self) -> SessionState:
        return self._runner.state

    @property
    def queued(self) -> int:
        """Executions that wait for their turn."""
        return self._runner.queued

    async def set_environment(self, environment: Mapping[str, str], *, is_new: bool) -> None:
        """Variables of the environment, for as long as the session lives: given at its allocation, `is_new`, and never changed.

        Raises SessionExists where it lives already with another one.
        """
        document = json.dumps(dict(sorted(environment.items())), separators=(",", ":")).encode("ascii")
        with self._call():
            if is_new and environment:
                await self._runner.set_environment(document)
            elif self._runner.environment != document:
                raise SessionExists("This session exists already, with another environment.")

    # -- executions --------------------------------------------------------------------------------------------------

    def submit(
        self, spec: ExecutionSpec, variables: bytes = b"", principal: str = "", asked_at: float | None = None
    ) -> Record:
        """Queue something to run, or find the execution that this request repeats. Wait for it with its `done`."""
        return self._runner.submit(spec, variables, principal, asked_at)

    def execution(self, identifier: str) -> Record:
        """Raises ExecutionMissing."""
        return self._runner.execution(identifier)

    def executions(self, skip: int, limit: int) -> tuple[list[Record], int]:
        """Some of those that are known, in the order in which they were asked for, and how many there are."""
        self._runner.check()
        return self._runner.store.page(skip, limit)

    def read(self, record: Record) -> None:
        """Its result has been handed over: it need not be kept any more."""
        if record.is_over:
            self._runner.store.read(record)

    async def cancel(self, identifier: str) -> Record:
        """As `Runner.cancel`: until it is over. Raises ExecutionMissing."""
        with self._call():
            return await self._runner.cancel(identifier)

    async def cancel_all(self) -> int:
        with self._call():
            return await self._runner.cancel_all()

    async def restart(self) -> None:
        """A fresh interpreter, with the session's files and environment."""
        with self._call():
            await self._runner.restart()

    def touch(self) -> None:
        """Count as use."""
        with self._call():
            pass

    # -- files -------------------------------------------------------------------------------------------------------

    async def list_files(self, directory: str, recursive: bool) -> list[FileInfo]:
        with self._call():
            return await self.guest.link.list_files(directory, recursive)

    async def stat(self, path: str) -> FileInfo:
        with self._call():
            return await self.guest.link.stat(path)

    async def delete_file(self, path: str, condition: Condition = ANYTHING) -> None:
        with self._call():
            await self.guest.link.delete(path, condition)

    async def make_directory(self, path: str) -> tuple[FileInfo, bool]:
        with self._call():
            return await self.guest.link.make_directory(path)

    async def rename(self, path: str, to: str, overwrite: bool, condition: Condition) -> FileInfo:
        with self._call():
            return await self.guest.link.rename(path, to, overwrite, condition)

    async def upload(
        self, path: str, content: AsyncIterator[bytes], condition: Condition = ANYTHING, principal: str = ""
    ) -> FileInfo:
        """Whatever `content` raises aborts the upload and leaves nothing of it."""
        with self._call():
            return await self.guest.link.upload(
                path, _counted(content, partial(self.seat.received, principal), self.seat.settle), condition
            )

    def download(
        self, path: str, offset: int = 0, length: int | None = None, principal: str = ""
    ) -> AbstractAsyncContextManager[Reading]:
        return self._download(path, offset, length, principal)

    @contextlib.asynccontextmanager
    async def _download(self, path: str, offset: int, length: int | None, principal: str) -> AsyncIterator[Reading]:
        link = self.guest.link
        with self._call():
            async with link.download(path, offset, length) as stream:
                if stream.info is None:
                    raise RuntimeError("a download is entered with its file")
                sent, settle = partial(self.seat.sent, principal), self.seat.settle
                pieces = _counted(link.read(stream), sent, settle, stream.length)
                yield Reading(stream.info, stream.start, stream.length, pieces)

    @contextlib.asynccontextmanager
    async def archive(self, path: str, principal: str = "") -> AsyncIterator[AsyncIterator[bytes]]:
        """A directory as a tar stream. Entered once it is known to be one."""
        with self._call():
            async with self.guest.link.archive(path) as stream:
                yield _counted(self.guest.link.read(stream), partial(self.seat.sent, principal), self.seat.settle)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, recursive: bool) -> AsyncIterator[AsyncIterator[list[FileChange]]]:
        """What changes in a directory. To look is a use when it begins, and does not keep the session from expiring."""
        self.touch()
        async with self.guest.link.watch(path, recursive) as stream:
            yield self.guest.link.changes(stream)

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> int:
        """Lose what is under way; the bytes of results that go too. Called by the keeper only, which then kills the guest.
        Safe to call again.
        """
        return self._runner.end(lost(reason))

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        self._runner.check()
        self.seat.begin()
        try:
            yield
        finally:
            self.seat.finish()


async def _counted(
    pieces: AsyncIterator[bytes], count: Callable[[int], None], settle: Callable[[], None], length: int | None = None
) -> AsyncIterator[bytes]:
    """`settle` is called when all is counted, where `length` tells that before the last piece goes out."""
    left = length
    async for piece in pieces:
        count(len(piece))
        if left is not None:
            left -= len(piece)
            if left <= 0:
                settle()
        yield piece
    settle()
