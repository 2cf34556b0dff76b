"""The host's side of an agent's channel: calls as streams over one socket, each answered within its time or the link is broken.

A broken link never mends: every stream fails with SessionLost, the socket is closed, and `on_broken` tells the owner, who kills the
sandbox. Frames of a stream that was given up may still be on their way; they are dropped, up to a bound. Anything else that was not
asked for (a stream number we never used, a frame after a stream's end, a wrong type, too much of anything) breaks the link.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from carrel.errors import CarrelError, SessionEnded, SessionLost
from carrel.guest.frames import FrameError, Header, encode
from carrel.sessions import checks
from carrel.sessions.channel import Channel
from carrel.sessions.streams import LISTING_BYTES, Stream

UNRESPONSIVE = "its agent stopped answering"
DELETED = "it was deleted"
POOL_DELETED = "its session pool was deleted"


def lost(reason: str) -> SessionLost:
    """What callers under way are told of a session that ended for `reason`."""
    kind = SessionEnded if reason in (DELETED, POOL_DELETED) else SessionLost
    return kind(f"The session ended while the call was under way: {reason}.")


S = TypeVar("S", bound=Stream)


class Link:
    """`on_died`: the interpreter ended while no code ran. `on_broken`: the link is no more, with the reason."""

    def __init__(self, sock: socket.socket, on_died: Callable[[], None], on_broken: Callable[[str], None]) -> None:
        self._on_died = on_died
        self._on_broken = on_broken
        self._streams: dict[int, Stream] = {}
        self._late: dict[int, int] = {}  # streams given up -> bytes that may still come
        self._next = 1
        self._may_die = False  # one `died` per interpreter
        self.disk_bytes: int | None = None  # what the files take, as the agent said with its last answer
        self._lost: str | None = None
        self._channel = Channel(sock, self._received, self.close)

    @property
    def is_broken(self) -> bool:
        return self._lost is not None

    def close(self, reason: str) -> None:
        """Break the link for `reason`, which completes the sentence "The session ended while the call was under way: …"."""
        if self._lost is not None:
            return
        self._lost = reason
        self._channel.close()
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.fail(self._error())
        self._on_broken(reason)

    # -- streams -----------------------------------------------------------------------------------------------------

    def forget(self, stream: Stream) -> None:
        """Expect nothing more of `stream`; what still comes is dropped."""
        if self._streams.pop(stream.number, None) is not None:
            self._late[stream.number] = LISTING_BYTES

    def _open(self, stream: S) -> S:
        if self._lost is not None:
            raise self._error()
        self._next += 1
        self._streams[stream.number] = stream
        return stream

    async def _call(self, op: str, seconds: float, descriptors: Sequence[int] = (), **args: Any) -> Header:
        stream = self._open(Stream(self._next))
        self._channel.send(encode({"s": stream.number, "op": op, **args}), descriptors)
        return await self._finish(stream, seconds)

    async def _finish(self, stream: Stream, seconds: float) -> Header:
        """The stream's answer. An agent that takes longer than `seconds` for it has its link broken."""
        try:
            async with asyncio.timeout(seconds):
                while not stream.is_over:
                    await stream.changed()
        except TimeoutError:
            self.close(UNRESPONSIVE)
        finally:
            self._give_up(stream)
        return stream.answer()

    async def _progress(self, stream: Stream, seconds: float) -> None:
        """Until something happens on the stream; nothing for `seconds` breaks the link."""
        try:
            async with asyncio.timeout(seconds):
                await stream.changed()
        except TimeoutError:
            self.close(UNRESPONSIVE)

    def _send(self, stream: Stream, header: Header) -> None:
        self._channel.send(encode({"s": stream.number, **header}))

    def _give_up(self, stream: Stream) -> None:
        """Tell the agent to stop, unless the stream is over."""
        if not stream.is_over and stream.number in self._streams:
            self._send(stream, {"abort": 1})
            self.forget(stream)

    def _error(self) -> CarrelError:
        return lost(str(self._lost))

    # -- what comes --------------------------------------------------------------------------------------------------

    def _received(self, header: Header, payload: bytes) -> None:
        number = checks.integer(header, "s")
        stream = self._streams.get(number)
        if stream is None:
            self._unclaimed(number, header, payload)
        elif "end" in header:
            if "disk" in header:
                self.disk_bytes = checks.integer(header, "disk")
            stream.end(header)  # a last frame that is wrong leaves the stream open, to fail with the link
            self._streams.pop(number, None)
        elif "error" in header:
            stream.fail(checks.error(header["error"]))
            self._streams.pop(number, None)
        else:
            stream.data(header, payload)

    def _unclaimed(self, number: int, header: Header, payload: bytes) -> None:
        if number == 0:
            return self._event(header)
        if number not in self._late:
            raise FrameError("a frame for a stream that is not open")
        self._late[number] -= len(payload) + 64  # frames without payload are not free either
        if self._late[number] < 0:
            raise FrameError("a stream that was given up goes on")
        if "end" in header or "error" in header:
            del self._late[number]
        return None

    def _event(self, header: Header) -> None:
        if header.get("event") != "died" or not self._may_die:
            raise FrameError("an event that cannot be")
        self._may_die = False
        self._on_died()
