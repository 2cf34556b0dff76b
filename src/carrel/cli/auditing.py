"""The supervisor's part of the audit log: it starts the auditor, replaces one that dies, and holds what connects it with the gateways.

Both ends of the connection stay open here. What a gateway has sent is in the socket, so neither its death nor the auditor's loses it: the
next auditor takes it from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from carrel.audit.messages import BUFFER_BYTES
from carrel.backends import ids
from carrel.cli.children import Child, ChildError, ending
from carrel.config import Config

_AGAIN_S = (0.1, 5.0)  # before another auditor: after the first death, and at most

_NAME = "auditor"
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it

log = logging.getLogger(__name__)


class Auditing:
    """Of one run. `children` is the supervisor's list of its processes. Without the setting `audit` nothing of this happens."""

    def __init__(self, config: Config, children: dict[str, Child]) -> None:
        self._config, self._children = config, children
        self._ends: tuple[socket.socket, socket.socket] | None = None
        if config.audit:
            self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for each in self._ends:
                _widen(each)

    @property
    def gateways_fd(self) -> int | None:
        """The end that gateways inherit."""
        return self._ends[0].fileno() if self._ends else None

    @property
    def inherited(self) -> list[int]:
        return [self._ends[0].fileno()] if self._ends else []

    async def start(self) -> None:
        """Raises ChildError."""
        if self._ends is None:
            return
        end = self._ends[1].fileno()
        uid = ids.service(self._config.state, _NAME)
        message = {"config": self._config.to_json(), "uid": uid, "end_fd": end}
        self._children[_NAME] = await Child.start(_NAME, "carrel.auditor", message, [end])

    async def watch(self, on_new: Callable[[], None]) -> None:
        """Until cancelled: replace one that ends. `on_new` is told of each other one."""
        pause = _AGAIN_S[0]
        while self._ends is not None:
            status = await self._children[_NAME].wait()
            log.error("the auditor has ended; starting another", extra={"how": ending(status), "in_s": pause})
            while not await self._has_new(pause):
                pause = min(pause * 2, _AGAIN_S[1])
            pause = min(pause * 2, _AGAIN_S[1])
            on_new()

    async def _has_new(self, pause: float) -> bool:
        await asyncio.sleep(pause)
        try:
            await self.start()
        except (ChildError, OSError) as error:
            log.error("the auditor did not start", extra={"why": str(error)})
            return False
        return True

    async def stop(self, deadline_s: float) -> None:
        if auditor := self._children.get(_NAME):
            await auditor.stop(deadline_s)

    def close(self) -> None:
        for each in self._ends or ():
            each.close()


def _widen(end: socket.socket) -> None:
    """Room for records while an auditor is replaced: beyond the machine's bound where we may."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER_BYTES)
