"""The supervisor's spawners: started at the host's word, since the host has no rights that it could hand on.

The host may ask for one, and no more: what the spawner is told is the supervisor's. Each ends with its host (its socket closes), and with
the supervisor (parent-death signal).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import select
import signal
import socket

from carrel.backends.spawning import Launched, Setup, ended, launch

_MOST = 8  # at a time: one for each level, and one that is just being replaced

log = logging.getLogger(__name__)


class Spawners:
    """Serves the host from its making until `stop`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._running: list[Launched] = []
        self._ours, self._hosts = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._serving = asyncio.ensure_future(self._serve())

    @property
    def host_fd(self) -> int:
        """The host's end, to be inherited by it."""
        return self._hosts.fileno()

    def handed_over(self) -> None:
        """Called once the host has it: its end closes with it from now on."""
        self._hosts.close()

    async def stop(self, deadline_s: float) -> None:
        """Once the host has ended: wait until each has cleaned up after itself, and kill one that has not by the deadline."""
        self._serving.cancel()
        self._hosts.close()
        self._ours.close()
        await asyncio.gather(*(_end(each, deadline_s) for each in self._running))
        self._running = []

    async def _serve(self) -> None:
        while data := await asyncio.get_running_loop().sock_recv(self._ours, 4096):
            request = json.loads(data)
            try:
                launched = await self._start()
            except OSError as error:
                reason = {"id": request["id"], "error": f"a spawner cannot be started: {error.strerror}"}
                self._ours.send(json.dumps(reason).encode())
                continue
            with launched.sock:
                descriptors = [launched.sock.fileno(), launched.pidfd]
                socket.send_fds(self._ours, [json.dumps({"id": request["id"]}).encode()], descriptors)

    async def _start(self) -> Launched:
        for each in [each for each in self._running if _has_ended(each)]:
            os.close(each.pidfd)
            self._running.remove(each)
        if len(self._running) >= _MOST:
            raise OSError(errno.EAGAIN, "too many of them run already")
        launched = await launch(self._setup)
        self._running.append(launched)
        return launched


def _has_ended(launched: Launched) -> bool:
    return bool(select.select([launched.pidfd], [], [], 0)[0])


async def _end(launched: Launched, deadline_s: float) -> None:
    if not await ended(launched.pidfd, deadline_s):
        log.error("a spawner did not end by itself")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
        await ended(launched.pidfd)
    os.close(launched.pidfd)
