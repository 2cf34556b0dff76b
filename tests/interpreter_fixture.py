"""A real interpreter process of a built image, driven over its control socket and its pipes as the agent does it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carrel.backends import images
from carrel.guest import frames

SOURCE = Path(__file__).parent.parent / "src"
IMAGES = Path(os.environ.get("CARREL_IMAGES", "~/.local/share/carrel/images")).expanduser()
DEADLINE_S = 20


@dataclass(frozen=True)
class Ran:
    outcome: str
    value: dict[str, Any]
    stdout: str
    stderr: str


class Died(Exception):
    """The interpreter ended; `status` is as subprocess has it."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        super().__init__(f"ended with {status}: {stderr}")
        self.status, self.stdout, self.stderr = status, stdout, stderr


class Interpreter:
    """One process; `run` sends a cell and gathers all that comes until it is done."""

    def __init__(self, image: images.Image, folder: Path, *, command: list[str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.control, self._decoder, self._count = ours, frames.Decoder(), 0
        self._frames: list[tuple[frames.Header, bytes]] = []
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
        with theirs:
            self.process = subprocess.Popen(
                [image.host_python, *(command or ["-m", "carrel.guest.interpreter"]), str(theirs.fileno())],
                cwd=folder,
                env={**environment, **image.host_environment(SOURCE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._pipes = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours, selectors.EVENT_READ, "control")
        for name, pipe in self._pipes.items():
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, name)
        assert self._frame()[0] == {"ready": 1}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._selector.close()
        # Before its socket is closed, which ends it too, but not what it forked. The group is its own until it is waited for.
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.control.close()
        self.process.wait()
        for pipe in self._pipes.values():
            pipe.close()

    def run(self, code: str, *, interrupt_after: float | None = None) -> Ran:
        self._count += 1
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._send(code.encode("utf-8", "surrogatepass"))
        timer = threading.Timer(interrupt_after or 0, self.process.send_signal, [signal.SIGINT])
        if interrupt_after is not None:
            timer.start()
        value = b""
        try:
            while True:
                header, payload = self._frame()
                assert header["value"] == self._count
                value += payload
                if "done" in header:
                    break
        finally:
            timer.cancel()
        assert header["done"] == self._count
        self._drain()
        return Ran(header["outcome"], json.loads(value), *self._texts())

    def value(self, code: str) -> Any:
        """The JSON value of code that must work and must be silent on stderr."""
        ran = self.run(code)
        assert (ran.outcome, ran.stderr) == ("ok", "")
        return ran.value.get("json", ran.value.get("text"))

    def _send(self, code: bytes) -> None:
        for piece in frames.chunks(code, 64 * 1024):
            self.control.sendall(frames.encode({"run": self._count, "more": 1}, piece))
        self.control.sendall(frames.encode({"run": self._count}))

    def _frame(self) -> tuple[frames.Header, bytes]:
        deadline = time.monotonic() + DEADLINE_S
        while not self._frames:
            ready = self._selector.select(deadline - time.monotonic())
            assert ready, f"no answer within {DEADLINE_S} s; {self._texts()}"
            for key, _events in ready:
                if key.data == "control":
                    self._read_control()
                else:
                    self._read(key.data)
        return self._frames.pop(0)

    def _read_control(self) -> None:
        data = self.control.recv(1 << 20)
        if not data:
            status = self.process.wait(DEADLINE_S)
            self._drain()
            raise Died(status, *self._texts())
        self._frames += self._decoder.feed(data)

    def _read(self, name: str) -> bool:
        data = self._pipes[name].read(1 << 20)
        if data == b"":
            self._selector.unregister(self._pipes[name])
        self._output[name] += data or b""
        return bool(data)

    def _drain(self) -> None:
        for name in self._pipes:
            while self._read_if_open(name):
                pass

    def _read_if_open(self, name: str) -> bool:
        return self._pipes[name] in {key.fileobj for key in self._selector.get_map().values()} and self._read(name)

    def _texts(self) -> tuple[str, str]:
        return self._output["stdout"].decode(), self._output["stderr"].decode()
