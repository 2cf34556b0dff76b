"""Takes out of the store what nobody will ask for again: grants that have expired, operations that ended long ago."""

from __future__ import annotations

import asyncio
import logging
import time

from carrel.errors import StoreUnavailable
from carrel.store import Store

EVERY_S = 600.0

log = logging.getLogger("carrel.server")


class Pruning:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Until cancelled; first at the start, as a server may never live for long."""
        while True:
            try:
                if count := await self._store.run(lambda transaction: transaction.prune(time.time())):
                    log.info("pruned the store", extra={"records": count})
            except StoreUnavailable:
                pass  # the store has told the log; later then
            await asyncio.sleep(EVERY_S)
