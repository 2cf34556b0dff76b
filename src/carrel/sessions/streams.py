"""The kinds of streams on an agent's channel: what each may receive, and how much of it.

A stream is fed by the link (`data`, `end`, `fail`) and has one consumer, which waits with `changed`. Whatever an agent sends beyond
what its stream allows raises FrameError, which breaks the link.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carrel.errors import CarrelError
from carrel.guest.frames import INITIAL_CREDIT, FrameError, Header
from carrel.models import FileInfo
from carrel.sessions import checks
from carrel.sessions.transcript import Transcript

MAX_DISPLAYS = 100  # of an execution
MAX_EXIT = 255
LISTING_BYTES = 64 * 1024 * 1024  # 32,768 entries with long names in deep folders
ARCHIVE_BYTES = 5 * 1024**3  # an agent's bound for the files in one, and the heads
OUTCOMES = frozenset({"ok", "error", "died", "interrupted"})
_COUNTS = ("printed", "written", "cpu_us", "code", "signal")
CAUSES = frozenset({"", "memory", "processes", "disk"})


class Stream:
    """A call with a plain answer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.result: Header | None = None
        self.error: CarrelError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.result is not None or self.error is not None

    def data(self, header: Header, payload: bytes) -> None:
        """A frame that is not the last."""
        raise FrameError("data on a stream that takes none")

    def end(self, header: Header) -> None:
        self.result = header
        self._wake()

    def fail(self, error: CarrelError) -> None:
        """The agent reported an error, or the link is broken. Nothing for a stream that is over."""
        if not self.is_over:
            self.error = error
            self._wake()

    def answer(self) -> Header:
        """What the last frame said; raises what it reported instead."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise RuntimeError("the stream is not over")
        return self.result

    async def changed(self) -> None:
        """Until anything happens on this stream."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Caps:
    """Bytes that an execution's streams may have: each text, value and variables each, all displays together."""

    text: int
    value: int
    displays: int


class Run(Stream):
    """An execution. `on_end` is called as soon as it is over, in place of a consumer that would have to wake up first."""

    def __init__(self, number: int, caps: Caps, transcript: Transcript, on_end: Callable[[], None]) -> None:
        super().__init__(number)
        self.value = bytearray()
        self.variables = bytearray()
        self._transcript = transcript
        self._left = {"stdout": caps.text, "stderr": caps.text, "display": caps.displays}
        self._left |= {"value": caps.value, "variables": caps.value}
        self._display = bytearray()  # one that is coming
        self._displays = 0
        self._on_end = on_end
        self.outcome = ""  # until it is over, and where the agent could not run it
        self.cause = ""  # of an error, as the interpreter names it
        self.dropped = 0  # displays over the caps
        self.status: int | None = None  # a command's exit code, as the guest says
        self.printed: int | None = None  # the agent's counts
        self.written: int | None = None
        self.cpu_us: int | None = None
        self.exit_code: int | None = None  # of an interpreter that died and was the agent's own child
        self.signal: int | None = None

    def data(self, header: Header, payload: bytes) -> None:
        kind: Any = header.get("data")
        if not isinstance(kind, str) or kind not in self._left or not payload:
            raise FrameError("an execution sent what is no output")
        self._left[kind] -= len(payload)
        if self._left[kind] < 0:
            raise FrameError(f"more {kind} than its cap")
        match kind:
            case "value":
                self.value += payload
            case "variables":
                self.variables += payload
            case "display":
                self._take_display(payload, is_last="more" not in header)
            case _:
                self._transcript.add(kind, payload)

    def _take_display(self, payload: bytes, *, is_last: bool) -> None:
        self._display += payload
        if not is_last:
            return
        self._displays += 1
        if self._displays > MAX_DISPLAYS:
            raise FrameError("more displays than there may be")
        self._transcript.display(bytes(self._display))
        self._display.clear()

    def end(self, header: Header) -> None:
        outcome, self.cause = checks.word(header, "outcome", OUTCOMES), checks.word(header, "cause", CAUSES)
        self.printed, self.written, self.cpu_us, self.exit_code, self.signal = (
            checks.integer(header, name) if name in header else None for name in _COUNTS
        )
        self.dropped = checks.integer(header, "dropped") if "dropped" in header else 0
        self.status = checks.integer(header, "exit", MAX_EXIT) if "exit" in header else None
        super().end(header)
        self.outcome = outcome
        self._on_end()

    def fail(self, error: CarrelError) -> None:
        if not self.is_over:
            super().fail(error)
            self._on_end()


class Listing(Stream):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.entries: list[FileInfo] = []
        self._size = 0

    def data(self, header: Header, payload: bytes) -> None:
        if header.get("data") != "entries" or not payload:
            raise FrameError("a listing sent what is no entries")
        self._size += len(payload)
        if self._size > LISTING_BYTES:
            raise FrameError("a listing without end")
        self.entries += checks.file_infos(payload)


class Upload(Stream):
    """The host sends, as far as the agent's credit goes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.credit = INITIAL_CREDIT

    def data(self, header: Header, payload: bytes) -> None:
        granted = checks.integer(header, "credit", INITIAL_CREDIT)
        self.credit += granted
        if self.credit > INITIAL_CREDIT:  # believed, it would have us buffer without bound
            raise FrameError("credit for more than was sent")
        self._wake()


class Flow(Stream):
    """The agent sends, as far as our credit goes; `take` gives credit back."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.is_begun = False
        self._pieces: deque[bytes] = deque()
        self._held = 0  # bytes not yet taken, or taken and not yet credited
        self._taken = 0
        self._received = 0

    @property
    def has_piece(self) -> bool:
        return bool(self._pieces)

    @property
    def is_complete(self) -> bool:
        return True

    def data(self, header: Header, payload: bytes) -> None:
        if header.get("data") == "info" and not self.is_begun and not payload:
            self._begin(header)
            self.is_begun = True
        elif header.get("data") == self._kind and self.is_begun and payload:
            self._take_in(payload)
        else:
            raise FrameError("a flow sent what is none of it")
        self._wake()

    _kind = "file"

    def _begin(self, header: Header) -> None:
        """What the first frame says."""

    def _take_in(self, payload: bytes) -> None:
        self._held += len(payload)
        self._received += len(payload)
        if self._held > INITIAL_CREDIT:
            raise FrameError("more than was asked for")
        self._pieces.append(payload)

    def end(self, header: Header) -> None:
        if not self.is_begun:
            raise FrameError("a flow without a beginning")
        super().end(header)

    def take(self) -> tuple[bytes, int]:
        """The next piece, and the credit to send for what was taken (0 while it is not worth a frame)."""
        piece = self._pieces.popleft()
        self._taken += len(piece)
        if self._taken < INITIAL_CREDIT // 4:
            return piece, 0
        credit, self._taken = self._taken, 0
        self._held -= credit
        return piece, credit


class Download(Flow):
    """A file, or a part of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.info: FileInfo | None = None
        self.start = 0
        self.length = 0

    def _begin(self, header: Header) -> None:
        self.info = checks.file_info(header.get("file"))
        self.start, self.length = checks.integer(header, "start"), checks.integer(header, "length")

    def _take_in(self, payload: bytes) -> None:
        super()._take_in(payload)
        if self._received > self.length:
            raise FrameError("more of a file than was asked for")

    @property
    def is_complete(self) -> bool:
        return self._received == self.length


class Archive(Flow):
    """A directory, of unknown length."""

    def _take_in(self, payload: bytes) -> None:
        super()._take_in(payload)
        if self._received > ARCHIVE_BYTES:
            raise FrameError("an archive without end")


class Watch(Flow):
    """Pages of changes, without an end of their own."""

    _kind = "changes"
