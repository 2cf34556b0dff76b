"""What a caller is told of code while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_REPORT_S = 1.0  # between two notifications
_SHOWN = 200  # characters of output in one

Report = Callable[[float, str], Awaitable[None]]  # for how long it runs, in seconds, and what it says


class Progress:
    """The last line of the output so far, and the time."""

    def __init__(self) -> None:
        self._line = ""

    def note(self, output: str) -> None:
        """Its end is enough: more than that is not shown."""
        for line in reversed(output[-4 * _SHOWN :].splitlines()):
            if line.strip():
                self._line = line.strip()[:_SHOWN]
                return

    async def tell(self, report: Report) -> None:
        """Also while there is no output: whoever hears nothing gives up waiting at some time."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(_REPORT_S)
            elapsed = time.monotonic() - began
            await report(elapsed, self._line or f"running for {elapsed:.0f} s")
