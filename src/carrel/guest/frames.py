"""The one framing that host, gateway, agent and interpreter speak: a bounded JSON header plus an optional raw payload.

On the wire a frame is two big-endian 32-bit lengths (header, payload), the header (a JSON object in UTF-8) and the
payload. Everything a decoder reads may come from hostile code, so both lengths are checked before anything is
buffered. Standard library only: this module also runs inside the sandbox.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

MAX_HEADER = 64 * 1024
MAX_PAYLOAD = 256 * 1024
INITIAL_CREDIT = 1024 * 1024  # bytes a sender may have under way on one stream before the receiver grants more

_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps makes an encoder for each call
_FROM_JSON = json.JSONDecoder().decode  # and bound here: user code may put another in the place of json.loads
_LENGTHS = struct.Struct(">II")

Header = dict[str, Any]


class FrameError(Exception):
    """The peer broke the framing; the connection cannot be used any further."""


def head(header: Header, payload_length: int = 0) -> bytes:
    """A frame up to its payload, which follows as it is. Raises FrameError where header or payload are over their bounds."""
    text = _TO_JSON(header).encode("ascii")
    if len(text) > MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise FrameError(f"frame over its bounds: header {len(text)}, payload {payload_length} bytes")
    return _LENGTHS.pack(len(text), payload_length) + text


def encode(header: Header, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """One frame as bytes. Raises as `head`."""
    return head(header, len(payload)) + bytes(payload) if payload else head(header)


class Decoder:
    """Turns bytes, in whatever pieces they come, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_midframe(self) -> bool:
        """Whether bytes of an unfinished frame are held: an end of stream now would be a cut."""
        return bool(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[Header, bytes]]:
        """Take `data` in and yield the frames that are complete. Raises FrameError on a frame out of bounds or not an object."""
        self._buffer += data
        buffer, at = self._buffer, 0
        try:
            while len(buffer) - at >= _LENGTHS.size:
                header_length, payload_length = _LENGTHS.unpack_from(buffer, at)
                if header_length > MAX_HEADER or payload_length > MAX_PAYLOAD:
                    raise FrameError(f"frame over its bounds: header {header_length}, payload {payload_length} bytes")
                start = at + _LENGTHS.size
                middle, end = start + header_length, start + header_length + payload_length
                if len(buffer) < end:
                    break
                at = end
                with memoryview(buffer) as view:
                    text, payload = bytes(view[start:middle]), bytes(view[middle:end])
                yield _header(text), payload
        finally:
            del buffer[:at]


def _header(text: bytes) -> Header:
    try:
        header = _FROM_JSON(text.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError("frame header is not JSON") from error
    if not isinstance(header, dict):
        raise FrameError("frame header is not an object")
    return header


def chunks(data: bytes | bytearray | memoryview, size: int = MAX_PAYLOAD) -> Iterator[memoryview]:
    """`data` in pieces that fit one frame each; nothing for empty data."""
    view = memoryview(data)
    for at in range(0, len(view), size):
        yield view[at : at + size]
