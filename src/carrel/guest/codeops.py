"""The agent's code calls: what is to run, what runs, and its output on the way to the host.

Output is collected before it goes out: code that writes byte by byte must not make as many frames for a host that serves everybody, and
what a short call prints goes with its end. But whoever watches waits no longer than SOON_S for it. Within that time stdout and stderr
lose their order among each other; a display keeps its place after what was written before it.
"""

from __future__ import annotations

import signal
import time

from carrel.guest import frames
from carrel.guest.child import Interpreter
from carrel.guest.fileops import Reply
from carrel.guest.run import STREAMS, Run
from carrel.guest.texts import whole

MAX_CODE = 8 * 1024 * 1024
COLLECTED = 64 * 1024
SOON_S = 0.01
BEGUN_S = 0.05  # an interpreter has begun with what it was sent: before, an interrupt is none for it, and would be lost


class _Request:
    """A call whose body is coming: the code (or command, or environment), and the variables to set before it."""

    def __init__(self, header: frames.Header) -> None:
        self.header, self.code, self.variables = header, bytearray(), bytearray()


class CodeOperations:
    """The code calls of one agent. `attach` and `detach` tell it of the interpreter; the agent watches that one's descriptors."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._interpreter: Interpreter | None = None
        self._requests: dict[int, _Request] = {}
        self._run: Run | None = None
        self._due: float | None = None  # when what is pending has waited long enough
        self._begun_at = 0.0
        self._interrupt_at: float | None = None

    @property
    def is_running(self) -> bool:
        return self._run is not None

    def attach(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    def detach(self) -> None:
        self._interpreter = None

    # Calls

    def begin(self, stream: int, header: frames.Header) -> None:
        """`execute`, or `environment`: the first frame, the body follows."""
        self._requests[stream] = _Request(header)

    def has(self, stream: int) -> bool:
        return stream in self._requests

    def on_body(self, stream: int, header: frames.Header, payload: bytes) -> None:
        request = self._requests[stream]
        part = request.variables if header["data"] == "variables" else request.code
        part += payload
        if len(part) > MAX_CODE:
            self._reply.fail(stream, "ContentTooLarge", f"Code, and variables, may have {MAX_CODE} bytes.")

    def on_end(self, stream: int) -> None:
        """The body is whole."""
        request = self._requests.pop(stream)
        if request.header["op"] == "environment":
            self._pass_in({"env": 1}, {}, request.code)
            self._reply.send(stream, end=1)
        elif self._run is not None:
            self._reply.fail(stream, "TooManyRequests", "Code is running already.")
        else:
            self._start(stream, request)

    def drop(self, stream: int) -> None:
        self._requests.pop(stream, None)

    def interrupt(self) -> None:
        """What runs, if anything does: `send_due` sends the signal."""
        if self._run is not None:
            self._interrupt_at = self._begun_at

    def _start(self, stream: int, request: _Request) -> None:
        self._run = run = Run(stream, request.header)
        if self._interpreter is None:
            self.finish()
            return
        for name in self._interpreter.outputs:
            for _late in self._interpreter.drain(name):
                pass  # printed after the last call's end by what it left running: nobody's output
        run.start(self._interpreter)
        self._begun_at = time.monotonic() + BEGUN_S
        if request.variables:
            self._pass_in({"variables": stream}, {}, request.variables)
        asked: frames.Header = {"kind": request.header.get("kind", "code")}
        asked |= {name: request.header[name] for name in ("get", "summary") if name in request.header}
        self._pass_in({"run": stream}, asked, request.code)

    def _pass_in(self, header: frames.Header, last: frames.Header, data: bytearray) -> None:
        """To the interpreter, in pieces: `last` is what the last one's header has besides."""
        if self._interpreter is None:
            return
        *pieces, end = list(frames.chunks(data)) or [memoryview(b"")]
        for piece in pieces:
            self._interpreter.send({**header, "more": 1}, piece)
        self._interpreter.send({**header, **last}, end)

    # What comes of it

    def on_frame(self, header: frames.Header, payload: bytes) -> None:
        """A frame of the interpreter's: hostile, and believed about the run under way only."""
        run = self._run
        if run is None or self._interpreter is None:
            return
        if header.get("display") == run.stream:
            self._on_display(run, payload, is_last=not header.get("more"))
        elif header.get("variables") == run.stream:
            self._take(run, "variables", payload)
        elif header.get("value") == run.stream:
            self._take(run, "value", payload)
        if header.get("done") == run.stream:
            run.done(header, self._interpreter)
            self.finish()

    def on_output(self, name: str, data: bytes) -> None:
        """Of the interpreter's stdout or stderr. Without a run it is nobody's."""
        run = self._run
        if run is None or not run.is_started:
            return
        self._take(run, name, data)
        if self._due is None and run.pending[name]:
            self._due = time.monotonic() + SOON_S

    def _take(self, run: Run, name: str, data: bytes) -> None:
        """As far as its cap goes."""
        if run.take(name, data) >= COLLECTED:
            self._send(run, name)

    def _on_display(self, run: Run, piece: bytes, *, is_last: bool) -> None:
        if display := run.display(piece, is_last=is_last):
            self._drain()  # what was written before it
            for name in STREAMS:
                self._send(run, name)
            *pieces, last = frames.chunks(display)
            for each in pieces:
                self._reply.send(run.stream, each, data="display", more=1)
            self._reply.send(run.stream, last, data="display")

    @property
    def patience(self) -> float | None:
        """How long the loop may sleep for us."""
        due = [at for at in (self._due, self._interrupt_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def send_due(self) -> None:
        """Called in each round of the loop."""
        if self._interrupt_at is not None and self._interrupt_at <= time.monotonic():
            self._interrupt_at = None
            if self._interpreter is not None:
                self._interpreter.signal(signal.SIGINT)
        if self._due is not None and self._run is not None and self._due <= time.monotonic():
            self._due = None
            for name in STREAMS:
                self._send(self._run, name)

    def _send(self, run: Run, name: str, *, is_last: bool = False) -> None:
        """What is pending, but for the beginning of a character, whose rest is on its way."""
        pending = run.pending[name]
        size = len(pending) if is_last or name not in STREAMS else whole(pending)
        if size:
            for piece in frames.chunks(bytes(pending[:size])):
                self._reply.send(run.stream, piece, data=name)
            del pending[:size]

    def finish(self) -> None:
        """Say what came of the run, if there is one: first what is still in the pipes."""
        run = self._run
        if run is None:
            return
        self._drain()
        for name in run.pending:
            self._send(run, name, is_last=True)
        self._reply.send(run.stream, **run.end)
        self._run = self._due = self._interrupt_at = None

    def _drain(self) -> None:
        if self._interpreter is not None:
            for name in self._interpreter.outputs:
                for data in self._interpreter.drain(name):
                    self.on_output(name, data)

    def died(self, interpreter: Interpreter) -> None:
        """It ended, with or without code running."""
        if self._run is not None:
            self._run.died(interpreter)
            self.finish()
