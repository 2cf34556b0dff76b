"""Frames over the socket to one agent, descriptors included.

The socket is driven by add_reader and add_writer instead of a transport: a transport hides whether earlier bytes have left, and
descriptors must ride on exactly their own frame. Measured on uvloop, a round trip costs the same either way. Sending tries the socket
at once; what it does not take is queued here, and the credit of streams and the bound on code keep that queue small.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence

from carrel.guest.frames import MAX_PAYLOAD, Decoder, FrameError, Header

# One for all channels: decoding copies what it keeps, and everything happens in one thread.
_BUFFER = memoryview(bytearray(MAX_PAYLOAD))


class Channel:
    """Calls `on_frame` for each frame and, once, `on_lost` with the reason when the other end is gone or breaks the framing."""

    def __init__(
        self, sock: socket.socket, on_frame: Callable[[Header, bytes], None], on_lost: Callable[[str], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._is_open = True
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send after everything sent before. The caller keeps `descriptors` open until the agent has answered."""
        if not self._is_open:
            return
        was_empty = not self._unsent
        self._unsent.append((memoryview(data), descriptors))
        if was_empty:
            self._flush()

    def close(self) -> None:
        """Safe to call again. Reports nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._unsent.clear()
        self._socket.close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                data, descriptors = self._unsent[0]
                sent = socket.send_fds(self._socket, [data], descriptors) if descriptors else self._socket.send(data)
                if sent == len(data):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = (data[sent:], ())  # descriptors go with the first byte
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._socket, self._writable)
        except OSError as error:
            # Not from inside send(): its caller is not ready to see its own stream fail.
            self._loop.call_soon(self._lost, f"its channel cannot be written ({error.strerror})")

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._flush()

    def _readable(self) -> None:
        try:
            count = self._socket.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(f"its channel cannot be read ({error.strerror})")
            return
        if count == 0:
            self._lost("its sandbox ended unexpectedly")
            return
        try:
            for header, payload in self._decoder.feed(_BUFFER[:count]):
                self._on_frame(header, payload)
                if not self._is_open:
                    return
        except FrameError as error:
            self._lost(f"its agent broke the protocol ({error})")

    def _lost(self, reason: str) -> None:
        if self._is_open:
            self.close()
            self._on_lost(reason)
