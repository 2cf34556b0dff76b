"""The gateway's connections to the host: one call at a time each, kept for the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from carrel import errors, tracing
from carrel.guest.frames import MAX_PAYLOAD, Header, chunks
from carrel.host.connection import Connection, ConnectionLost, Frame, OutFrame

KEPT = 64  # idle connections
CONNECT_S = 5.0


class Line(Connection):
    """A connection as its client sees it."""

    is_answered = False  # the call's last frame was read
    owes_body = False  # the host waits for the rest of the request

    async def read_answer(self) -> Frame:
        """The next frame of the answer. Raises what the host reports, HostUnavailable where it is gone."""
        try:
            header, payload = await self.read()
        except ConnectionLost:
            raise unavailable() from None
        self.is_answered = "end" in header or "error" in header
        if "error" in header:
            raise errors.from_dict(header["error"])
        return header, payload

    async def send(self, chunk: memoryview) -> None:
        """A piece of the body. Where the host is gone, `read_answer` says so, or what it said before."""
        self.write(({"data": 1}, chunk))
        with contextlib.suppress(ConnectionLost):
            await self.drain()


class Lines:
    """Connections to the host that listens at `path`. Opening one raises HostUnavailable where nobody does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.idle: list[Line] = []

    def close(self) -> None:
        """Let the idle ones go. Calls under way end on their own."""
        while self.idle:
            self.idle.pop().close()

    @contextlib.asynccontextmanager
    async def call(self, request: Header, payload: bytes = b"") -> AsyncIterator[Line]:
        """A connection on which this is asked, and for what call: kept afterwards if the answer was seen to its end, closed if not."""
        with tracing.Outgoing(f"hostlink {request['op']}") as span:
            line = await self._line()
            line.is_answered = line.owes_body = False
            try:
                line.write(*with_body(span.told(request), payload))
                yield line
            finally:
                if line.is_answered and not line.owes_body and not line.is_lost and len(self.idle) < KEPT:
                    self.idle.append(line)
                else:
                    line.close()

    async def _line(self) -> Line:
        line = self.idle.pop() if self.idle else None
        while line is not None and line.is_lost:  # the host was restarted meanwhile
            line = self.idle.pop() if self.idle else None
        return await self._connect() if line is None else line

    async def _connect(self) -> Line:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, line = await asyncio.get_running_loop().create_unix_connection(Line, str(self._path))
        except OSError as error:  # TimeoutError is one
            raise unavailable() from error
        return line


def with_body(request: Header, payload: bytes) -> list[OutFrame]:
    if len(payload) <= MAX_PAYLOAD:
        return [(request, payload)]
    return [({**request, "body": 1}, b""), *(({"data": 1}, chunk) for chunk in chunks(payload)), ({"end": 1}, b"")]


async def content(line: Line) -> AsyncIterator[bytes]:
    while True:
        header, payload = await line.read_answer()
        if "end" in header:
            return
        yield payload


def unavailable() -> errors.HostUnavailable:
    return errors.HostUnavailable("The session host is not available.", headers={"Retry-After": "1"})
