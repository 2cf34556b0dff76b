"""The agent: the one process of ours in a sandbox, pid 1 of it where there is a pid namespace.

It holds the channel to the host, runs one select loop, and does three things: it hands code to the interpreter and
its output back, capped as it comes (what is over the cap is read and dropped, so a flood costs nothing); it does file
operations, also while code runs; it reaps, interrupts and kills. The channel's protocol is a frame of `frames.py`
each way:

    host    {"s": n, "op": …}  then for a body {"s": n, "data": 1} + bytes …, {"s": n, "end": 1}
            {"s": n, "credit": k}; {"s": n, "abort": 1}
    agent   {"s": n, "data": name} + bytes …, then {"s": n, "end": 1, …} or {"s": n, "error": {…}}; {"s": 0, "event": "died"}

The channel is the host's and trusted; it is written to with blocking sends, bounded by credit. The interpreter's side
is hostile. When the channel ends, so does everything here.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import struct
from collections.abc import Callable
from typing import Any

from carrel.guest import frames
from carrel.guest.child import Interpreter, kill_others, reap
from carrel.guest.codeops import COLLECTED, CodeOperations
from carrel.guest.fileops import FileOperations
from carrel.guest.paths import FileError, translated

_INBOX = 64 * 1024
_MESSAGE = 400  # characters of an error's text: it may name a path, and a path may be 4,096 bytes long


class Agent:
    def __init__(self, channel: socket.socket, *, data: str, is_init: bool, spawn: list[str] | None = None) -> None:
        self._channel, self._is_init, self._spawn = channel, is_init, spawn
        self._decoder = frames.Decoder()
        self._inbox = bytearray(
            _INBOX
        )  # one for ever: a large block for each read would be mapped and unmapped each time
        self._selector = selectors.DefaultSelector()
        self._out: list[bytes | memoryview] = []
        self._descriptors: list[int] = []
        self._interpreter: Interpreter | None = None
        self._attaching: int | None = None  # the stream that waits for the interpreter's ready
        self._last_words = b""  # of an interpreter that is not ready yet
        self._code = CodeOperations(self)
        self._files = FileOperations(data, self)

    # The loop

    def serve(self) -> None:
        """Run until the channel ends, then kill what is left."""
        wakeup, signal_end = socket.socketpair()
        wakeup.setblocking(False)
        signal_end.setblocking(False)
        signal.set_wakeup_fd(signal_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda _: self._on_child(wakeup))
        self._selector.register(self._channel, selectors.EVENT_READ, self._on_channel)
        try:
            while True:
                for key, mask in self._selector.select(self._rest()):
                    key.data(mask)
                self._look()
                self._code.send_due()
                self._files.send_some()
                self.flush()
        except (EOFError, ConnectionError, frames.FrameError):
            return
        finally:
            self._empty()

    def _rest(self) -> float | None:
        """How long the loop sleeps, None for as long as nothing happens."""
        waits = [each for each in (self._patience(), self._code.patience, self._files.patience) if each is not None]
        return min(waits) if waits else None

    # What differs where the agent makes its interpreters itself

    def _patience(self) -> float | None:
        """How long the loop may sleep."""
        return None

    def _look(self) -> None:
        """Called each time that the loop wakes up."""

    def _make_interpreter(self, descriptors: list[int]) -> Interpreter:
        return Interpreter.spawn(self._spawn) if self._spawn else Interpreter.adopt(descriptors)

    def _empty(self) -> None:
        """Kill every other process of the sandbox."""
        kill_others(is_init=self._is_init)

    def send(self, stream: int, payload: bytes | memoryview = b"", **fields: Any) -> None:
        """Every answer says what the files take by now: that costs less than asking for it would."""
        if "end" in fields and (used := self._files.used()) is not None:
            fields["disk"] = used
        self._out.append(frames.head({"s": stream, **fields}, len(payload)))
        if payload:
            self._out.append(payload)

    def flush(self) -> None:
        """All small pieces in one send; large ones as they are, since putting them together is a copy."""
        pieces, self._out = self._out, []
        if any(len(piece) > COLLECTED for piece in pieces):
            for piece in pieces:
                self._channel.sendall(piece)
        elif pieces:
            self._channel.sendall(b"".join(pieces))

    def _on_child(self, wakeup: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wakeup.recv(4096)
        if self._interpreter is not None:
            self._interpreter.note_end()
        reap()

    def _on_channel(self, _mask: int) -> None:
        size, ancillary, _flags, _address = self._channel.recvmsg_into(
            [self._inbox], socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC
        )
        if not size:
            raise EOFError
        for _level, _kind, packed in ancillary:
            self._descriptors += struct.unpack(f"{len(packed) // 4}i", packed)
        for header, payload in self._decoder.feed(memoryview(self._inbox)[:size]):
            self._dispatch(header, payload)

    def _dispatch(self, header: frames.Header, payload: bytes) -> None:
        stream = int(header["s"])
        try:
            if "op" in header:
                self._begin(stream, header)
            elif "data" in header:
                self._on_body(stream, header, payload)
            elif "credit" in header:
                self._files.on_credit(stream, int(header["credit"]))
            elif "abort" in header:
                self._drop(stream)
            elif "end" in header:
                self._on_body_end(stream)
        except FileError as error:
            self.fail(stream, error.code, str(error))
        except (OSError, RecursionError) as error:
            number = error if isinstance(error, OSError) else OSError(0, "nested too deep")
            failure = translated(number, str(header.get("path", "")))
            self.fail(stream, failure.code, str(failure))

    def _begin(self, stream: int, header: frames.Header) -> None:
        operation = self._operations.get(header["op"])
        if operation is None:
            self._files.begin(stream, header)
        else:
            operation(self, stream, header)

    def fail(self, stream: int, code: str, message: str) -> None:
        self._drop(stream)
        self.send(stream, error={"code": code, "message": message[:_MESSAGE]})

    def _drop(self, stream: int) -> None:
        """Forget a stream and what it holds."""
        self._code.drop(stream)
        self._files.drop(stream)

    # The interpreter

    def _hello(self, stream: int, _header: frames.Header) -> None:
        self.send(stream, end=1, protocol=1)

    def _attach(self, stream: int, _header: frames.Header) -> None:
        self._detach()
        descriptors, self._descriptors = self._descriptors, []
        interpreter = self._make_interpreter(descriptors)
        self._interpreter, self._attaching, self._last_words = interpreter, stream, b""
        self._code.attach(interpreter)
        self._selector.register(interpreter.control, selectors.EVENT_READ, self._on_control)
        self._selector.register(interpreter.ended, selectors.EVENT_READ, lambda _: self._on_death(interpreter))
        for name, fd in interpreter.outputs.items():
            self._selector.register(fd, selectors.EVENT_READ, self._output_reader(name))

    def _detach(self) -> None:
        if self._interpreter is not None:
            watched: list[int] = [
                self._interpreter.control.fileno(),
                self._interpreter.ended,
                *self._interpreter.outputs.values(),
            ]
            for fd in watched:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(fd)
            self._code.detach()
            self._interpreter.close()
            self._interpreter = None

    def _reset(self, stream: int, _header: frames.Header) -> None:
        self._code.finish()
        self._detach()
        self._empty()
        self.send(stream, end=1)

    def _interrupt(self, stream: int, _header: frames.Header) -> None:
        self._code.interrupt()
        self.send(stream, end=1)

    def _run(self, stream: int, header: frames.Header) -> None:
        self._code.begin(stream, header)

    def _watch_control(self) -> None:
        if self._interpreter is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._interpreter.wants_to_write else 0)
            with contextlib.suppress(KeyError):  # no longer watched: closed by the code, its death is on the way
                self._selector.modify(self._interpreter.control, events, self._on_control)

    def _on_control(self, mask: int) -> None:
        interpreter = self._interpreter
        if interpreter is None:
            return
        if mask & selectors.EVENT_WRITE:
            interpreter.flush()
            self._watch_control()
        if mask & selectors.EVENT_READ:
            try:
                for header, payload in interpreter.read_control():
                    self._on_interpreter_frame(header, payload)
            except (EOFError, ConnectionError, frames.FrameError):
                # Closed or broken by the code: without it there is no next call, so this interpreter is over.
                self._selector.unregister(interpreter.control)
                interpreter.signal(signal.SIGKILL)

    def _on_interpreter_frame(self, header: frames.Header, payload: bytes) -> None:
        if "ready" in header and self._attaching is not None:
            self.send(self._attaching, end=1)
            self._attaching = None
        else:
            self._code.on_frame(header, payload)

    def _output_reader(self, name: str) -> Callable[[int], None]:
        def read(_mask: int) -> None:
            interpreter = self._interpreter
            if interpreter is None:
                return
            data = interpreter.read_output(name)
            if data:
                self._on_output(name, data)
            elif data == b"":
                self._selector.unregister(interpreter.outputs[name])

        return read

    def _on_output(self, name: str, data: bytes) -> None:
        if self._attaching is not None:
            self._last_words = (self._last_words + data)[-_MESSAGE:]
        self._code.on_output(name, data)

    def _on_death(self, interpreter: Interpreter) -> None:
        if interpreter is not self._interpreter:
            return  # a reset in the same round of the loop has seen to it
        with contextlib.suppress(OSError, EOFError, frames.FrameError):
            for header, payload in interpreter.read_last_words():  # a result may have been
                self._on_interpreter_frame(header, payload)
        if self._attaching is not None:
            said = (self._last_words + b"".join(interpreter.drain("stderr")))[-_MESSAGE // 2 :].decode(
                "utf-8", "replace"
            )
            text = f"The interpreter ended before it was ready. {said}".strip()
            self.fail(self._attaching, "SessionAllocationFailed", text)
            self._attaching = None
        elif not self._code.is_running:
            self.send(0, event="died")
        interpreter.note_end()
        self._code.died(interpreter)
        self._detach()

    # Bodies

    def _on_body(self, stream: int, header: frames.Header, payload: bytes) -> None:
        if self._code.has(stream):
            self._code.on_body(stream, header, payload)
        else:
            self._files.on_body(stream, payload)

    def _on_body_end(self, stream: int) -> None:
        if self._code.has(stream):
            self._code.on_end(stream)
            self._watch_control()
        else:
            self._files.on_end(stream)

    _operations: dict[str, Callable[[Agent, int, frames.Header], None]] = {  # noqa: RUF012 - a table, never written to
        "hello": _hello,
        "attach": _attach,
        "reset": _reset,
        "interrupt": _interrupt,
        "execute": _run,
        "environment": _run,
    }


def serve(channel: socket.socket, *, data: str, is_init: bool, spawn: list[str] | None = None) -> None:
    """Be the agent on `channel`, with files below `data`, until the channel ends."""
    Agent(channel, data=data, is_init=is_init, spawn=spawn).serve()
