"""One hostlink connection: frames over a Unix stream socket, with back-pressure both ways.

A connection carries one call at a time, so the socket itself is the flow control: what is read is held up to a bound, then reading
pauses and the other side's writes wait. An asyncio Protocol rather than streams: a whole small call is one wake-up and one write.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from carrel.guest.frames import Decoder, FrameError, Header, encode, head

_LARGE = 64 * 1024
HELD = 512 * 1024  # bytes read and not yet taken
UNSENT = 512 * 1024  # bytes written and not yet taken by the socket, until `drain` waits

Frame = tuple[Header, bytes]
OutFrame = tuple[Header, bytes | memoryview]


class ConnectionLost(Exception):
    """The other side is gone, or broke the framing."""


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._held = 0
        self._reader: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._is_paused = False
        self._on_lost: Callable[[], None] | None = None
        self.is_lost = False

    # -- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._frames.append(frame)
                self._held += len(frame[1])
        except FrameError:
            self._transport.abort()
            return
        if self._held > HELD:
            self._transport.pause_reading()
        _wake(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        _wake(self._reader)
        _wake(self._drainer)
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        _wake(self._drainer)

    # -- frames ------------------------------------------------------------------------------------------------------

    @property
    def has_frame(self) -> bool:
        return bool(self._frames)

    async def read(self) -> Frame:
        """The next frame. Raises ConnectionLost once all that came before the end is read."""
        while not self._frames:
            if self.is_lost:
                raise ConnectionLost
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frame = self._frames.popleft()
        was_over, self._held = self._held > HELD, self._held - len(frame[1])
        if was_over and self._held <= HELD and not self._transport.is_closing():
            self._transport.resume_reading()
        return frame

    def write(self, *frames: OutFrame) -> None:
        """In one write where it is small, to nobody where the other side is gone. Follow with `drain` where there is more to come."""
        if self._transport.is_closing():
            return
        if len(frames) == 1 and len(frames[0][1]) > _LARGE:
            header, payload = frames[0]
            self._transport.write(head(header, len(payload)))
            self._transport.write(payload)  # as it is: joining it to its head is a copy
        else:
            self._transport.write(b"".join(encode(header, payload) for header, payload in frames))

    async def drain(self) -> None:
        """Until the socket has taken enough of what was written. Raises ConnectionLost."""
        if self._is_paused and not self.is_lost:
            self._drainer = asyncio.get_running_loop().create_future()
            try:
                await self._drainer
            finally:
                self._drainer = None
        if self.is_lost:
            raise ConnectionLost

    @contextlib.contextmanager
    def calling_when_lost(self, tell: Callable[[], None]) -> Iterator[None]:
        """For whoever has nothing to write or to read at present. `tell` is called at once where it is lost already."""
        if self.is_lost:
            tell()
        self._on_lost = tell
        try:
            yield
        finally:
            self._on_lost = None

    @property
    def socket(self) -> TransportSocket:
        sock: TransportSocket = self._transport.get_extra_info("socket")
        return sock

    def close(self) -> None:
        """Safe to call again. What is written is still sent."""
        self._transport.close()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
