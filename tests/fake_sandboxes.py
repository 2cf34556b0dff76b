"""A small honest backend: every sandbox is a thread that speaks the agent protocol over a real socket pair.

It runs no Python but a handful of words, one per line (see `_WORDS`), among them some that no honest agent would say. It exists to test
time, order and hostility on the host's side; what real sandboxes do is tested with real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from carrel.backends.base import Death, Meter, NoMeter, Usage
from carrel.backends.network import Network
from carrel.errors import SandboxStartFailed
from carrel.guest.frames import INITIAL_CREDIT, MAX_PAYLOAD, Decoder, Header, chunks, encode
from carrel.models import ImageInfo, Level, PoolSpec, Software


class _Killed(Exception):
    """The channel is closed: this thread is to end."""


class Agent:
    """`mute` names ops that it never answers."""

    def __init__(self, sock: socket.socket, mute: frozenset[str]) -> None:
        self.files: dict[str, bytes] = {}
        self.aborted: list[int] = []
        self.ran: list[str] = []
        self.environments: list[Header] = []
        self.opened: Header = {}  # of the last run
        self._given: dict[int, dict[str, object]] = {}
        self._socket = sock
        self._mute = mute
        self._sending = threading.Lock()
        self._variables: dict[str, str] = {}
        self._interrupted = threading.Event()
        self._generation = 0
        self._bodies: dict[int, tuple[Header, bytearray]] = {}
        self._credit: dict[int, int] = {}
        self._credited = threading.Condition()
        self._is_reading = threading.Event()
        self._is_reading.set()
        self._descriptors: list[int] = []
        threading.Thread(target=self._serve, daemon=True).start()

    # -- the channel

    def _serve(self) -> None:
        decoder = Decoder()
        try:
            while True:
                self._is_reading.wait()
                data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 8)
                self._descriptors += descriptors
                if not data:
                    return
                for header, payload in decoder.feed(data):
                    self._take(header, payload)
        except (OSError, _Killed):
            return
        finally:
            self._generation += 1
            self._interrupted.set()

    def send(self, header: Header, payload: bytes | memoryview = b"") -> None:
        self.send_raw(encode(header, payload))

    def send_raw(self, data: bytes) -> None:
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            raise _Killed from None

    def _take(self, header: Header, payload: bytes) -> None:
        number = header["s"]
        if "op" in header:
            if header["op"] not in self._mute:
                getattr(self, "_op_" + header["op"])(number, header)
        elif "credit" in header:
            with self._credited:
                self._credit[number] += header["credit"]
                self._credited.notify_all()
        elif "abort" in header:
            self.aborted.append(number)
            self._bodies.pop(number, None)
            with self._credited:
                self._credit.pop(number, None)
                self._credited.notify_all()
        elif number in self._bodies:
            self._body(number, header, payload)

    def _body(self, number: int, header: Header, payload: bytes) -> None:
        opened, body = self._bodies[number]
        if "end" not in header:
            if header["data"] == "variables":
                self._given[number] = json.loads(payload)
                return
            body += payload
            if opened["op"] == "upload":
                if len(body) > 40 * MAX_PAYLOAD:
                    del self._bodies[number]
                    self.send({"s": number, "error": {"code": "SessionStorageExceeded", "message": "Full."}})
                else:
                    self.send({"s": number, "credit": len(payload)})
            return
        del self._bodies[number]
        if opened["op"] == "environment":
            self.environments.append(json.loads(body))
            self.send({"s": number, "end": 1})
        elif opened["op"] == "execute":
            self.opened = opened
            self._variables |= {name: str(value) for name, value in self._given.pop(number, {}).items()}
            code = bytes(body).decode()
            if (
                opened.get("kind", "code") == "shell"
            ):  # a command is lines like any code here, and so is a program's first argument
                command = json.loads(code)
                code = command["command"] if "command" in command else command["argv"][0]
            run = (number, code, self._generation)
            threading.Thread(target=self._run, args=run, daemon=True).start()
        else:
            self.files[opened["path"]] = bytes(body)
            self.send({"s": number, "end": 1, "file": self._info(opened["path"])})

    # -- control

    def _op_hello(self, number: int, header: Header) -> None:
        self.send({"s": number, "end": 1, "protocol": 1})

    def _op_attach(self, number: int, header: Header) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        if len(self._descriptors) == 1:
            self.send({"s": number, "end": 1})
        else:
            message = f"{len(self._descriptors)} descriptors came with attach"
            self.send({"s": number, "error": {"code": "SessionAllocationFailed", "message": message}})
        self._descriptors = []

    def _op_reset(self, number: int, header: Header) -> None:
        self._generation += 1
        self._variables = {}
        self.send({"s": number, "end": 1})

    def _op_interrupt(self, number: int, header: Header) -> None:
        self._interrupted.set()
        self.send({"s": number, "end": 1})

    def _op_environment(self, number: int, header: Header) -> None:
        self._bodies[number] = (header, bytearray())

    # -- code

    def _op_execute(self, number: int, header: Header) -> None:
        self._bodies[number] = (header, bytearray())

    def _run(self, number: int, code: str, generation: int) -> None:
        self.ran.append(code)
        self._interrupted.clear()
        outcome = "ok"
        try:
            for line in code.splitlines():
                word, _, rest = line.partition(" ")
                outcome = _WORDS[word](self, number, rest, generation) or outcome
                if outcome != "ok":
                    break
            if generation == self._generation and outcome != "nothing":
                self.send({"s": number, "end": 1, "outcome": outcome})
        except _Killed:
            return

    def _print(self, number: int, text: str, generation: int) -> None:
        self.send({"s": number, "data": "stdout"}, text.encode())

    def _flood(self, number: int, text: str, generation: int) -> None:
        for piece in chunks(b"x" * int(text)):
            self.send({"s": number, "data": "stdout"}, piece)

    def _error(self, number: int, text: str, generation: int) -> str:
        self.send({"s": number, "data": "stderr"}, text.encode())
        return "error"

    def _value(self, number: int, text: str, generation: int) -> None:
        document = json.dumps({"kind": "scalar", "json": json.loads(text), "text": ""}).encode()
        for piece in chunks(document):
            self.send({"s": number, "data": "value"}, piece)

    def _display(self, number: int, text: str, generation: int) -> None:
        pieces = list(chunks(text.encode()))
        for piece in pieces[:-1]:
            self.send({"s": number, "data": "display", "more": 1}, piece)
        self.send({"s": number, "data": "display"}, pieces[-1])

    def _picture(self, number: int, text: str, generation: int) -> None:
        """One display of so many bytes, without its end."""
        for piece in chunks(b"x" * int(text)):
            self.send({"s": number, "data": "display", "more": 1}, piece)

    def _returned(self, number: int, text: str, generation: int) -> None:
        for piece in chunks(text.encode()):
            self.send({"s": number, "data": "variables"}, piece)

    def _exit(self, number: int, text: str, generation: int) -> str:
        self.send({"s": number, "end": 1, "outcome": "error" if int(text) else "ok", "exit": int(text)})
        return "nothing"

    def _document(self, number: int, text: str, generation: int) -> None:
        self.send({"s": number, "data": "value"}, text.encode())

    def _set(self, number: int, text: str, generation: int) -> None:
        self._variables["x"] = text

    def _get(self, number: int, text: str, generation: int) -> None:
        self._print(number, self._variables.get("x", "unset"), generation)

    def _sleep(self, number: int, text: str, generation: int) -> str | None:
        return "interrupted" if self._interrupted.wait(float(text)) else None

    def _hang(self, number: int, text: str, generation: int) -> str:
        while generation == self._generation:
            time.sleep(0.01)
        return "nothing"

    def _die(self, number: int, text: str, generation: int) -> str:
        self._variables = {}
        return "died"

    def _frame(self, number: int, text: str, generation: int) -> str:
        """`frame {"s": 7}`: any header at all, `"N"` standing for the run's own stream."""
        self.send(json.loads(text.replace('"N"', str(number))), b"x" if "data" in text else b"")
        return "nothing"

    def _bytes(self, number: int, text: str, generation: int) -> str:
        self.send_raw(bytes.fromhex(text))
        return "nothing"

    def _deaf(self, number: int, text: str, generation: int) -> None:
        """Stop reading the channel, for good; what is being read now is the last."""
        self._is_reading.clear()

    def _vanish(self, number: int, text: str, generation: int) -> str:
        self._socket.shutdown(socket.SHUT_RDWR)
        return "nothing"

    # -- files

    def _info(self, path: str) -> Header:
        directory, _, name = path.rpartition("/")
        size = len(self.files[path])
        return {
            "name": name,
            "directory": directory,
            "is_directory": False,
            "size": size,
            "modified_at": 1.5,
            "etag": "1-2",
        }

    def _missing(self, number: int, path: str) -> bool:
        if path not in self.files:
            self.send({"s": number, "error": {"code": "FileNotFound", "message": f"There is no file '{path}'."}})
        return path not in self.files

    def _op_stat(self, number: int, header: Header) -> None:
        if not self._missing(number, header["path"]):
            self.send({"s": number, "end": 1, "file": self._info(header["path"])})

    def _op_delete(self, number: int, header: Header) -> None:
        if not self._missing(number, header["path"]):
            del self.files[header["path"]]
            self.send({"s": number, "end": 1})

    def _op_list(self, number: int, header: Header) -> None:
        infos = [self._info(path) for path in sorted(self.files)]
        for at in range(0, len(infos), 100):
            self.send({"s": number, "data": "entries"}, json.dumps(infos[at : at + 100]).encode())
        self.send({"s": number, "end": 1})

    def _op_upload(self, number: int, header: Header) -> None:
        self._bodies[number] = (header, bytearray())

    def _op_download(self, number: int, header: Header) -> None:
        if not self._missing(number, header["path"]):
            self._credit[number] = INITIAL_CREDIT
            threading.Thread(target=self._download, args=(number, header), daemon=True).start()

    def _download(self, number: int, header: Header) -> None:
        start = header["offset"]
        stop = None if header["length"] is None else start + header["length"]
        content = self.files[header["path"]][start:stop]
        info = {"file": self._info(header["path"]), "start": start, "length": len(content)}
        try:
            self.send({"s": number, "data": "info", **info})
            for chunk in chunks(content):
                with self._credited:
                    while self._credit.get(number, MAX_PAYLOAD) < len(chunk):
                        self._credited.wait()
                    if number not in self._credit:
                        return
                    self._credit[number] -= len(chunk)
                self.send({"s": number, "data": "file"}, chunk)
            self.send({"s": number, "end": 1})
        except _Killed:
            return


_WORDS: dict[str, Callable[[Agent, int, str, int], str | None]] = {
    "print": Agent._print,
    "flood": Agent._flood,
    "error": Agent._error,
    "value": Agent._value,
    "document": Agent._document,
    "display": Agent._display,
    "picture": Agent._picture,
    "returned": Agent._returned,
    "exit": Agent._exit,
    "set": Agent._set,
    "get": Agent._get,
    "sleep": Agent._sleep,
    "hang": Agent._hang,
    "die": Agent._die,
    "frame": Agent._frame,
    "bytes": Agent._bytes,
    "deaf": Agent._deaf,
    "vanish": Agent._vanish,
}


class FakeSandbox:
    def __init__(self, backend: FakeBackend, name: str) -> None:
        self.id = name
        self.meter: Meter = NoMeter()
        self.channel, self._inside = socket.socketpair()
        self.agent = Agent(self._inside, backend.mute)
        self.interpreters = 0
        self._backend = backend

    async def interpreter(self) -> list[int] | None:
        self.interpreters += 1
        if self._backend.interpreter_failure is not None and self.interpreters > 1:
            raise SandboxStartFailed(self._backend.interpreter_failure)
        read, write = os.pipe()
        os.close(read)
        return [write]

    async def death(self) -> Death:
        return self._backend.how_they_die

    async def usage(self) -> Usage:
        return Usage()

    async def kill(self) -> None:
        await asyncio.sleep(self._backend.kill_s)
        if self.id in self._backend.alive:
            del self._backend.alive[self.id]
            self._inside.shutdown(socket.SHUT_RDWR)
            self._inside.close()


@dataclass
class FakeBackend:
    """`failures` are the reasons of the next starts that fail; `alive` is what was made and not yet killed."""

    level: Level = Level.NAMESPACE
    start_s: float = 30.0
    restart_s: float = 1.5
    network: Network | None = None
    weaknesses: list[str] = field(default_factory=list)
    create_s: float = 0.0
    kill_s: float = 0.0
    mute: frozenset[str] = frozenset()
    how_they_die: Death = field(default_factory=Death)
    interpreter_failure: str | None = None
    failures: list[str] = field(default_factory=list)
    image_failures: list[str] = field(default_factory=list)
    image_s: float = 0.0  # what building one takes
    image_lines: tuple[str, ...] = ()  # what it says of that
    alive: dict[str, FakeSandbox] = field(default_factory=dict)
    made: int = 0
    prepared: list[str] = field(default_factory=list)
    is_closed: bool = False

    async def start(self) -> None:
        self.is_closed = False

    async def image(self, name: str, progress: Callable[[str], None]) -> ImageInfo:
        for line in self.image_lines:
            progress(line)
        await asyncio.sleep(self.image_s)
        if self.image_failures:
            raise SandboxStartFailed(self.image_failures.pop(0))
        return ImageInfo(name, Software("python"))

    async def prepare(self, pool: PoolSpec) -> None:
        self.prepared.append(pool.image)

    async def create(self, pool: PoolSpec) -> FakeSandbox:
        await asyncio.sleep(self.create_s)
        if self.failures:
            raise SandboxStartFailed(self.failures.pop(0))
        self.made += 1
        sandbox = FakeSandbox(self, f"fake-{self.made}")
        self.alive[sandbox.id] = sandbox
        return sandbox

    async def close(self) -> None:
        for sandbox in list(self.alive.values()):
            await sandbox.kill()
        self.is_closed = True

    def agent_of(self, session: Any) -> Agent:
        return self.alive[session.guest.sandbox.id].agent
