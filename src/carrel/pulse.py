"""How a process of ours tells the supervisor that it serves, and then that it is alive: one pipe.

First one JSON line: that it serves, or why it cannot. After it a byte every BEAT_S out of the event loop, so that a process which hangs,
stopped or stuck in a call, falls silent although it has not ended. The supervisor counts silent intervals by its own clock: one
that was stopped itself finds the beats of that time in the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any, NoReturn

BEAT_S = 2.0
SILENT_BEATS = 15  # half a minute: machines stall, and whoever is killed for a stall loses all sessions


class Pulse:
    """The child's end. Only the first line counts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._has_told = False

    def tell(self, line: dict[str, Any]) -> None:
        if not self._has_told:
            self._has_told = True
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    async def beat(self) -> NoReturn:
        """Until cancelled. What the supervisor has not read, or who is gone, is none of ours: the kernel ends us with it."""
        while True:
            self.beat_once()
            await asyncio.sleep(BEAT_S)

    def beat_once(self) -> None:
        """For a process without an event loop, every BEAT_S."""
        os.set_blocking(self._descriptor, False)
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b".")
