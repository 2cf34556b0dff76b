"""One request of a gateway's, being answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar

from carrel import errors
from carrel.guest.frames import MAX_PAYLOAD, Header, chunks
from carrel.host.connection import Connection, ConnectionLost, Frame, OutFrame

T = TypeVar("T")

AT_ONCE = 512 * 1024  # bytes of an answer that are written without looking whether they are taken
STALL_S = 120.0  # a gateway that neither sends nor reads for this long has forgotten the call


class Call:
    def __init__(self, connection: Connection, header: Header, payload: bytes) -> None:
        self.header = header
        self.connection = connection
        self._first = payload
        self._owes_body = "body" in header

    @property
    def pool(self) -> str:
        return str(self.header["pool"])

    @property
    def identifier(self) -> str:
        return str(self.header["identifier"])

    @property
    def principal(self) -> str:
        """The object id of whoever calls; "" where that was not said."""
        return str(self.header.get("principal", ""))

    async def body(self) -> AsyncIterator[bytes]:
        """What the caller sends, as it comes. Raises ConnectionLost where it ends before its end."""
        if self._first:
            yield self._first
        while self._owes_body:
            yield await self._piece()

    async def skip_body(self) -> None:
        while self._owes_body:
            await self._piece()

    async def _piece(self) -> bytes:
        frame: Frame = await _in_time(self.connection.read())
        self._owes_body = "end" not in frame[0]
        return frame[1]

    async def send(self, header: Header, payload: bytes | memoryview = b"") -> None:
        """A frame that is not the last. Raises ConnectionLost."""
        self.connection.write((header, payload))
        await _in_time(self.connection.drain())

    def end(self, header: Header, payload: bytes = b"") -> None:
        """The last frame, with as much of the payload before it as does not fit in."""
        pieces = list(chunks(payload)) if len(payload) > MAX_PAYLOAD else [memoryview(payload)]
        frames: list[OutFrame] = [({"data": 1}, piece) for piece in pieces[:-1]]
        self.connection.write(*frames, ({"end": 1, **header}, pieces[-1]))

    async def end_with(self, header: Header, parts: Sequence[bytes]) -> None:
        """The last frame after all of `parts`. Much goes out only as it is taken: a reader that stalls is not lent the memory."""
        if sum(map(len, parts)) <= AT_ONCE:
            self.end(header, b"".join(parts))
            return
        for part in parts:
            for piece in chunks(part):
                await self.send({"data": 1}, piece)
        self.end(header)

    async def while_there(self, step: Awaitable[T]) -> T:
        """What `step` brings, which may take for ever; given up when the caller goes. Raises ConnectionLost."""
        gone = asyncio.Event()
        with self.connection.calling_when_lost(gone.set):
            wanted, leaving = asyncio.ensure_future(step), asyncio.ensure_future(gone.wait())
            try:
                await asyncio.wait([wanted, leaving], return_when=asyncio.FIRST_COMPLETED)
                if gone.is_set():
                    raise ConnectionLost
                return await wanted
            finally:
                wanted.cancel()
                leaving.cancel()
                await asyncio.wait([wanted, leaving])

    def fail(self, error: errors.CarrelError) -> None:
        self.connection.write(({"error": errors.to_dict(error)}, b""))


async def _in_time(step: Awaitable[Any]) -> Any:
    async with asyncio.timeout(STALL_S):
        return await step
