"""The store as the supervisor uses it: it puts the configuration's pools there before anything serves, and then only reads.

What it reads is for connection.json, which names the pools that there are and their keys.
"""

from __future__ import annotations

import time
from typing import Self

from carrel import seeds
from carrel.config import Config
from carrel.storage import State
from carrel.store import PoolRecord, Store

LOOK_S = 0.5


class Kept:
    """Open until `close`. `sown` is what there was at the start, `records` what there is."""

    def __init__(self, store: Store, sown: seeds.Sown) -> None:
        self._store = store
        self._generation = -1
        self.sown = sown
        self.records: tuple[PoolRecord, ...] = sown.pools

    @classmethod
    def open(cls, config: Config, state: State) -> Self:
        """Raises StoreError."""
        store = Store.open(config.store_url, state.store_keys())
        try:
            with store.transaction() as books:
                sown = seeds.sow(books, config, state.mcp_key, time.time())
        except BaseException:
            store.close()
            raise
        for record in sown.pools:
            state.forget_mcp_key(record.id.name)
        return cls(store, sown)

    async def look(self) -> bool:
        """Whether other pools are there than before, or their keys are others. Raises StoreError."""
        generation = await self._store.generation("pools")
        if generation == self._generation:
            return False
        before = self.records
        self.records = tuple(await self._store.run(lambda books: books.pools.list()))
        self._generation = generation  # only now: what could not be read is read the next time
        return [(each.id, each.mcp_key) for each in before] != [(each.id, each.mcp_key) for each in self.records]

    def close(self) -> None:
        self._store.close()
