"""The execution under way, as the agent keeps it: what is left of its caps, what has come of it, what it has used."""

from __future__ import annotations

from carrel.guest import causes, frames
from carrel.guest.child import Interpreter

OUTCOMES = ("ok", "error", "interrupted")  # what an interpreter may say of a run; that it has died the kernel says
STREAMS = ("stdout", "stderr")
MAX_DISPLAYS = 100  # of one run; how large they may be together the host says


class Run:
    def __init__(self, stream: int, header: frames.Header) -> None:
        self.stream = stream
        self.left = {name: int(header["stream_cap"]) for name in STREAMS}
        cap = int(header["value_cap"])
        self.left |= {"value": cap, "variables": cap if "get" in header or "summary" in header else 0}
        self.pending = {name: bytearray() for name in self.left}  # since the last frame to the host
        self.is_started = False
        self._display_left = int(header.get("display_cap", 0))
        self._display: bytearray | None = bytearray()  # the one that is coming; None: it is over the cap
        self._displays = 0
        self._dropped = 0
        self._printed = 0
        self._before: tuple[int | None, int | None] = (None, None)
        self._end: frames.Header = {"outcome": "died"}

    def start(self, interpreter: Interpreter) -> None:
        self._before = interpreter.used()
        self.is_started = True

    def take(self, name: str, data: bytes) -> int:
        """Keep of `data` what the cap allows, and count all of it; how much waits to be sent now."""
        if name in STREAMS:
            self._printed += len(data)
        kept = data[: self.left[name]]
        self.left[name] -= len(kept)
        self.pending[name] += kept
        return len(self.pending[name])

    def display(self, piece: bytes, *, is_last: bool) -> bytes:
        """The display that this piece completes; nothing while more of it is to come, or where it is over a cap."""
        if self._display is not None:
            self._display += piece
            if len(self._display) > self._display_left or self._displays >= MAX_DISPLAYS:
                self._display = None
        if not is_last:
            return b""
        display, self._display = self._display, bytearray()
        if not display:
            self._dropped += 1
            return b""
        self._displays += 1
        self._display_left -= len(display)
        return bytes(display)

    def done(self, header: frames.Header, interpreter: Interpreter) -> None:
        """The interpreter's word on how it went, as far as it is one that an interpreter may say; then the kernel's on what that took."""
        outcome, cause, status = header.get("outcome"), header.get("cause"), header.get("exit")
        self._end = {"outcome": outcome if outcome in OUTCOMES else "error"}
        if self._end["outcome"] == "error" and isinstance(cause, str) and cause in causes.ALL:
            self._end["cause"] = cause
        if type(status) is int and 0 <= status <= 255:
            self._end["exit"] = status
        for name, before, now in zip(("cpu_us", "written"), self._before, interpreter.used(), strict=True):
            if before is not None and now is not None:
                self._end[name] = max(0, now - before)

    def died(self, interpreter: Interpreter) -> None:
        """It ended under the run. The kernel's counts have gone with it."""
        if interpreter.status is not None and self._end["outcome"] == "died":
            kind, number = interpreter.status
            self._end[kind] = number

    @property
    def end(self) -> frames.Header:
        """The last frame's fields. A run that was not `done` has died."""
        dropped = {"dropped": self._dropped} if self._dropped else {}
        return {"end": 1, "printed": self._printed, **dropped, **self._end}
