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
    exit: int | None = None
    cause: str | None = None
    displays: tuple[dict[str, Any], ...] = ()
    variables: dict[str, Any] | None = None


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

    def run(
        self,
        code: str | dict[str, Any],
        *,
        interrupt_after: float | None = None,
        variables: dict[str, Any] | None = None,
        get: list[str] | None = None,
        summary: bool = False,
    ) -> Ran:
        """Run code, or a command where it is the JSON of one."""
        self._count += 1
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        if variables is not None:
            self._send({"variables": self._count}, json.dumps(variables).encode())
        if isinstance(code, str):
            self._send(
                {"run": self._count},
                code.encode("utf-8", "surrogatepass"),
                kind="code",
                get=get or [],
                **({"summary": 1} if summary else {}),
            )
        else:
            self._send({"run": self._count}, json.dumps(code).encode(), kind="shell", get=get or [])
        timer = threading.Timer(interrupt_after or 0, self.process.send_signal, [signal.SIGINT])
        if interrupt_after is not None:
            timer.start()
        try:
            done, parts = self._gather()
        finally:
            timer.cancel()
        self._drain()
        return Ran(
            done["outcome"],
            json.loads(parts["value"][0]) if parts["value"] else {"kind": "absent"},
            *self._texts(),
            done.get("exit"),
            done.get("cause"),
            tuple(map(json.loads, parts["display"])),
            json.loads(parts["variables"][0]) if parts["variables"] else None,
        )

    def _gather(self) -> tuple[frames.Header, dict[str, list[bytes]]]:
        """The last frame's header, and what came in all of them, put together."""
        parts: dict[str, list[bytes]] = {"value": [], "display": [], "variables": []}
        begun = dict.fromkeys(parts, b"")
        while True:
            header, payload = self._frame()
            assert self._count in {header.get(name) for name in (*parts, "done")}
            for name in parts:
                if name in header:
                    begun[name] += payload
                    if not header.get("more") and (name != "value" or "done" in header):
                        parts[name].append(begun[name])
                        begun[name] = b""
            if "done" in header:
                return header, parts

    def set_environment(self, variables: dict[str, str]) -> None:
        self._send({"env": 1}, json.dumps(variables).encode())

    def value(self, code: str) -> Any:
        """The JSON value of code that must work and must be silent on stderr."""
        ran = self.run(code)
        assert (ran.outcome, ran.stderr) == ("ok", "")
        return ran.value.get("json", ran.value.get("text"))

    def _send(self, header: frames.Header, body: bytes, **last: Any) -> None:
        *pieces, end = list(frames.chunks(body, 64 * 1024)) or [memoryview(b"")]
        for piece in pieces:
            self.control.sendall(frames.encode({**header, "more": 1}, piece))
        self.control.sendall(frames.encode({**header, **last}, end))

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
