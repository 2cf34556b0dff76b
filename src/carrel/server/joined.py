"""A transport that sends a reply in one piece.

uvicorn writes a reply's head and its body one after the other, and uvloop sends each at once: two system calls, two packets, and for a
client with delayed acknowledgements in between a wait of 40 ms. Here a small write waits for the next one, or for the end of the event
loop's turn where none comes (HEAD, 100 Continue, a body that takes its time).
"""

from __future__ import annotations

import asyncio
from typing import Any

_SMALL = 4096
_LINGER_S = 30.0


class JoinedTransport(asyncio.Transport):
    """Stands in front of a real transport for what uvicorn's HTTP protocol calls; anything else is not there."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held + bytes(data))
        elif 0 < len(data) <= _SMALL:
            self._held = bytes(data)
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():  # closes once that is sent: to a caller that does not read, never
            self._loop.call_later(_LINGER_S, self._transport.abort)

    def abort(self) -> None:
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
