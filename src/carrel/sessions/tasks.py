"""The one owner of everything that runs beside a call: started here, awaited here, nothing left when it closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from carrel import tracing

log = logging.getLogger(__name__)


class Tasks:
    """A TaskGroup whose members may fail alone."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for every task; the owner has ended or cancelled them before."""
        # Not the error itself: a TaskGroup would wrap it in an ExceptionGroup.
        await self._group.__aexit__(None, None, None)

    def spawn(
        self, work: Coroutine[Any, Any, None], name: str, call: tracing.Context | None = None
    ) -> asyncio.Task[None]:
        """Run `work` beside the caller, for `call` or for nobody's. What goes wrong in it is logged, never raised."""
        task = self._group.create_task(self._guard(work, name), name=name, context=tracing.apart(call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: work.close())  # one cancelled before its first step has not begun its work
        return task

    async def settle(self, seconds: float) -> None:
        """Wait for what runs, no longer than `seconds`; cancel what is left."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()

    @staticmethod
    async def _guard(work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            # A TaskGroup would cancel all its members: a mistake in one session's task must not end its neighbours.
            log.exception("a task failed", extra={"task": name})
