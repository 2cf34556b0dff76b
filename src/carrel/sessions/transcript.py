"""What an execution prints and displays, in the order in which it came: read while it grows, by any number of watchers.

It is a row of parts, a new one wherever the kind of output changes. A *place* is a number of bytes from the beginning of the row, so what
somebody has read is one number, which means the same to every watcher at any time, in every gateway. Nobody waits for a watcher: each
comes back for more when it has room.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass

from carrel.guest.texts import whole

DISPLAY = "display"
MAX_CHANGES = 20_000  # of kind; output that alternates oftener comes in order at its end only
PIECE = 64 * 1024  # bytes of text that are read at once


@dataclass(frozen=True, slots=True)
class Piece:
    """`place` is where it ends. Text ends between characters; a display comes whole."""

    kind: str
    place: int
    data: bytes


class Transcript:
    """Keeps at most `limit` characters of each text."""

    def __init__(self, limit: int) -> None:
        self._kinds: list[str] = []
        self._parts: list[bytes | bytearray] = []
        self._stops: list[int] = []  # the place where each part ends
        self._room = {"stdout": limit, "stderr": limit}
        self._held_back: dict[str, bytearray] = {}
        self._is_closed = False
        self.watchers: set[asyncio.Event] = set()

    @property
    def length(self) -> int:
        return self._stops[-1] if self._stops else 0

    @property
    def size(self) -> int:
        return self.length + 150 * len(self._stops)

    def add(self, kind: str, data: bytes) -> None:
        """Text of `kind`. Nothing once it is closed."""
        room = self._room[kind]
        if not room or self._is_closed:
            return
        kept, count = _first(data, room)
        self._room[kind] = room - count
        if self._kinds and self._kinds[-1] == kind:
            self._parts[-1] += kept
            self._stops[-1] += len(kept)
        elif len(self._stops) < MAX_CHANGES:
            self._append(kind, bytearray(kept))
        else:
            self._held_back.setdefault(kind, bytearray()).extend(kept)
        self.wake()

    def display(self, data: bytes) -> None:
        """One whole display. Its agent keeps their number small."""
        if not self._is_closed:
            self._append(DISPLAY, data)
            self.wake()

    def close(self, ending: str = "") -> None:
        """Nothing more comes; `ending` is a last line of our own on stderr, over any limit."""
        if self._is_closed:
            return
        for kind, data in self._held_back.items():
            self._append(kind, data)
        self._held_back.clear()
        if ending:
            before = self.text("stderr")
            self._append("stderr", ("" if not before or before.endswith(b"\n") else "\n").encode() + ending.encode())
        self._is_closed = True
        self.wake()

    def text(self, kind: str) -> bytes:
        """All of one text."""
        if not self._kinds:
            return b""
        return b"".join(part for each, part in zip(self._kinds, self._parts, strict=True) if each == kind)

    def displays(self) -> list[bytes]:
        return [bytes(part) for each, part in zip(self._kinds, self._parts, strict=True) if each == DISPLAY]

    def read(self, place: int) -> Piece | None:
        """What comes after `place`; None where there is nothing yet, or nothing more."""
        at = bisect_right(self._stops, place)
        if at == len(self._stops):
            return None
        kind, part, stop = self._kinds[at], self._parts[at], self._stops[at]
        if kind == DISPLAY:
            return Piece(kind, stop, bytes(part))  # no copy: one has come as bytes
        start = stop - len(part)
        place = max(place, start)
        data = bytes(part[place - start : place - start + PIECE])
        is_last = place + len(data) == stop and (self._is_closed or at < len(self._stops) - 1)
        size = len(data) if is_last else whole(data)
        return Piece(kind, place + size, data[:size]) if size else None

    def wake(self) -> None:
        for watcher in self.watchers:
            watcher.set()

    def _append(self, kind: str, part: bytes | bytearray) -> None:
        if part:
            self._kinds.append(kind)
            self._parts.append(part)
            self._stops.append((self._stops[-1] if self._stops else 0) + len(part))


def _first(data: bytes, count: int) -> tuple[bytes, int]:
    """The first `count` characters of `data`, and how many characters that are."""
    if data.isascii():
        kept = data[:count]
        return kept, len(kept)
    text = data.decode("utf-8", "replace")
    return (data, len(text)) if len(text) <= count else (text[:count].encode(), count)
