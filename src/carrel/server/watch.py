"""Keeps the registry of pools true while it serves: to the host, whose sandboxes may fail, and to the store, which others may write.

Looks a few times a second at most, at one number each of the store and of the host.
"""

from __future__ import annotations

import asyncio
import logging

from carrel.errors import CarrelError
from carrel.host.hostlink import HostLink
from carrel.server.pools import Pools
from carrel.store import Store, StoreError

EVERY_S = 1.0

log = logging.getLogger("carrel.pools")


class Watch:
    def __init__(self, pools: Pools, link: HostLink, store: Store) -> None:
        self._pools, self._link, self._store = pools, link, store
        self._generation = -1
        self._agreed: dict[
            str, tuple[str, bool]
        ] = {}  # by key: at which etag our host was how, as the record said then too

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look_at_store()
                await self._look_at_host()
                self._pools.resume()
            except (CarrelError, StoreError) as error:
                log.debug("pools are not looked after", extra={"why": str(error)})
            except Exception:  # a mistake of ours: the gateway serves on
                log.exception("pools could not be looked after")

    async def _look_at_store(self) -> None:
        generation = await self._store.generation("pools")
        if generation != self._generation:
            records = await self._store.run(lambda books: books.pools.list())
            self._pools.take(records)
            self._generation = generation

    async def _look_at_host(self) -> None:
        """Where our host is as the record once said, and it says something else now, another server's host is not like ours: it has been
        told, and two that tell each other without end would be no use to anybody."""
        statuses = {status.spec.name: status for status in await self._link.pools()}
        if any(self._pools.by_key(key) is None for key in statuses):
            await self._look_at_store()  # whoever had the host know it wrote it there before
            for key in statuses:
                if self._pools.by_key(key) is None:  # it went while no gateway of ours was there to see it
                    self._pools.try_again(key)
        self._agreed = {key: here for key, here in self._agreed.items() if self._pools.by_key(key) is not None}
        for pool in self._pools.list():
            status = statuses.get(pool.key)
            if status is None or pool.fault:
                continue
            if self._pools.is_working(pool.key):
                self._agreed.pop(pool.key, None)  # what our own worker writes is no other server's word
                continue
            is_failing = bool(status.error) and not status.warm
            if (status.error and not is_failing) or (not status.error and status.preparing is not None):
                continue  # neither well nor ill
            here = (pool.record.etag, is_failing)
            if pool.record.state == ("Failed" if is_failing else "Succeeded") or self._agreed.get(pool.key) == here:
                self._agreed[pool.key] = here
                continue
            self._agreed.pop(pool.key, None)
            if pool.record.state == "Succeeded":
                await self._pools.conclude(pool, status.error or "", status.isolation)
            elif pool.record.state == "Failed":
                self._pools.try_again(pool.key)
