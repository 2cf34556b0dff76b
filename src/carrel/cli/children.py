"""A process of ours as the supervisor sees it: `python -m carrel.host` or `carrel.server`.

It reads its whole configuration as one JSON object from stdin and tells on a pipe when it serves, or why it cannot, and then that it is
alive (pulse.py).
It runs in a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then ends it in order. Should the
supervisor be killed, the kernel kills the child (the child asks for that itself, first thing).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from carrel.pulse import BEAT_S, SILENT_BEATS

_PIPE = 65_536
_START_STOP_S = 5.0  # what a process that is only starting gets to clean up

log = logging.getLogger(__name__)


class ChildError(Exception):
    """A process of ours did not come up. The message is fit for a person to act on."""


class Child:
    """A started process. Make one with `start`; `stop` it, also when it has already ended."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, pulse: int) -> None:
        self.name = name
        self.pid = process.pid
        self.ready: dict[str, Any] = {}
        self._process = process
        self._pulse = open(pulse, "rb", buffering=0)  # noqa: SIM115 - `stop` closes it
        os.set_blocking(pulse, False)

    @classmethod
    async def start(
        cls, name: str, module: str, message: Mapping[str, object], descriptors: Sequence[int] = ()
    ) -> Self:
        """Start `module` and wait until it serves. Raises ChildError with what it said, or how it ended."""
        read, write = os.pipe()
        try:
            # -P: a file of the folder where `carrel serve` was called must not pass for one of our modules.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", module),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(write, *descriptors),
                start_new_session=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        child = cls(name, process, read)
        try:
            await child._send({**message, "ready_fd": write})
            child.ready = await child._answer()
        except (
            BaseException
        ):  # cancelled too: a signal may come while images are built, and what was begun is to be cleaned up
            await child.stop(_START_STOP_S)
            raise
        return child

    async def wait(self) -> int:
        """The exit status, negative for a signal, once the process has ended. One that has fallen silent for too long is killed."""
        end = asyncio.ensure_future(self._process.wait())
        silent = 0
        try:
            while not (await asyncio.wait([end], timeout=BEAT_S))[0]:
                silent = 0 if self._pulse.read(_PIPE) else silent + 1
                if silent == SILENT_BEATS:
                    log.error("a process of ours hangs and is killed", extra={"child": self.name})
                    self.kill()
        finally:
            end.cancel()
        self._pulse.close()
        return end.result()

    async def stop(self, deadline_s: float) -> None:
        """Ask it to end, and kill it where it has not by the deadline."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(deadline_s):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        self._pulse.close()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _send(self, message: Mapping[str, object]) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise ChildError(f"the {self.name} has no stdin")
        with contextlib.suppress(ConnectionError):  # it ended at once; how it ended is told by _answer
            stdin.write(json.dumps(message).encode())
            await stdin.drain()
        stdin.close()

    async def _answer(self) -> dict[str, Any]:
        """The line on the readiness pipe. It may be long in coming: a first start builds images."""
        line = await self._line()
        answer: dict[str, Any] = json.loads(line) if line else {}
        if answer.get("ready"):
            return answer
        status = await self._process.wait() if not line else None
        raise ChildError(
            answer.get("error") or f"the {self.name} ended while starting ({ending(status)}); its log says more"
        )

    async def _line(self) -> bytes:
        """Up to the first line's end; empty where the pipe ends before."""
        loop, readable, data = asyncio.get_running_loop(), asyncio.Event(), b""
        loop.add_reader(self._pulse, readable.set)
        try:
            while b"\n" not in data:
                await readable.wait()
                readable.clear()
                if (piece := self._pulse.read(_PIPE)) == b"":
                    return b""
                data += piece or b""  # None: not readable after all
        finally:
            loop.remove_reader(self._pulse)
        return data.partition(b"\n")[0]


def ending(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None or status >= 0:
        return f"status {status}"
    return f"killed by {signal.Signals(-status).name}"
