"""What has the host follow the store: for each pool whose record has changed a task, until host and record agree.

A worker applies the definition, waits for the first sandbox, and has written down what came of it; or removes the pool and then its record.
A change meanwhile makes it begin anew. All that it asks of the host is safe to repeat, so the next gateway goes on where one was killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from carrel.errors import CarrelError, HostUnavailable
from carrel.host.hostlink import HostLink
from carrel.models import Level
from carrel.store import StoreError

if TYPE_CHECKING:
    from carrel.server.pools import Pool, Pools

AGAIN_S = (0.2, 5.0)  # between two attempts to reach a host that is away, the first and the last

log = logging.getLogger("carrel.pools")


class Worker:
    """A pool's task, and whether its record was changed since it last looked."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    async def unless_changed(self, step: Awaitable[str | None]) -> str | None:
        """What `step` brings; None where it is given up for another change."""
        wanted, changed = asyncio.ensure_future(step), asyncio.ensure_future(self.changed.wait())
        try:
            await asyncio.wait([wanted, changed], return_when=asyncio.FIRST_COMPLETED)
            return wanted.result() if wanted.done() else None
        finally:
            for each in (wanted, changed):
                each.cancel()


class Workers:
    """Of all pools. What is asked of it before `run` is left to that, which begins with every pool there is."""

    def __init__(self, pools: Pools, link: HostLink) -> None:
        self._pools, self._link = pools, link
        self._workers: dict[str, Worker] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for pool in self._pools.list():
                self.work(pool.key)
            await asyncio.Event().wait()

    def work(self, key: str, *, again: bool = True) -> None:
        """Have the pool's worker look at its record, `again` where it is at work already."""
        if (worker := self._workers.get(key)) is not None:
            if again:
                worker.changed.set()
        elif self._group is not None:
            worker = self._workers[key] = Worker()
            worker.task = self._group.create_task(self._follow(key, worker), name=f"pool {key}")

    def is_working(self, key: str) -> bool:
        return key in self._workers

    async def settled(self, key: str) -> None:
        """Wait until nobody works for the pool any more."""
        while (worker := self._workers.get(key)) is not None:
            await asyncio.wait([worker.task])

    async def _follow(self, key: str, worker: Worker) -> None:
        pause = AGAIN_S[0]
        try:
            while True:
                worker.changed.clear()
                try:
                    await self._follow_once(key, worker)
                except HostUnavailable as error:
                    log.warning("a pool waits for the host", extra={"pool": key, "why": error.message})
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, AGAIN_S[1])
                    continue
                if not worker.changed.is_set():
                    return
        except (CarrelError, StoreError) as error:  # the store is away: the watch has it tried again
            log.error("a pool's state could not be kept", extra={"pool": key, "why": str(error)})
        except Exception:  # a mistake of ours: the gateway serves on
            log.exception("a pool could not be followed", extra={"pool": key})
        finally:
            del self._workers[key]

    async def _follow_once(self, key: str, worker: Worker) -> None:
        pool = self._pools.by_key(key)
        if pool is None:
            await self._link.remove_pool(key)
        elif pool.record.state == "Deleting":
            await self._link.remove_pool(key)
            await self._pools.removed(pool)
        else:
            error, level = (pool.fault, None) if pool.fault else await self._apply(pool, worker)
            if not worker.changed.is_set():
                await self._pools.conclude(pool, error, level)

    async def _apply(self, pool: Pool, worker: Worker) -> tuple[str, Level | None]:
        """What is wrong with it, "" for nothing, and the level that it has."""
        try:
            level = (await self._link.apply_pool(pool.spec)).isolation
            self._pools.served_at(pool.key, level)
            return await worker.unless_changed(self._link.settled(pool.key)) or "", level
        except HostUnavailable:
            raise
        except CarrelError as error:
            return error.message, None
