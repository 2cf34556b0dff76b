"""The store: opened before a process gives up its rights, then one transaction at a time.

`run` does its work in one thread of the store's own, which is made when it is first needed: a thread that was there before `linux.renounce`
would keep the capabilities that the others give up. `transaction` is the same for those who have no event loop. Both take one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sql

from carrel.store import schema, sqlite
from carrel.store.transaction import Transaction
from carrel.store.troubles import StoreError
from carrel.store.vault import Vault

T = TypeVar("T")


class Store:
    """Open one with `open`; `close` it, also twice."""

    def __init__(self, engine: sql.Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "store")

    @classmethod
    def open(cls, url: str, keys: Sequence[bytes]) -> Store:
        """The store at sqlite:///PATH, made or migrated where needed. `keys`: State.store_keys().

        Raises StoreError where it is damaged, newer, another program's or not to be reached, and has changed nothing then.
        """
        vault = Vault(keys)
        scheme, _, rest = url.partition("://")
        if scheme != "sqlite" or not rest.startswith("/"):
            raise StoreError(f"a store's address begins with sqlite:///, not with {scheme}://")
        file = Path(rest.removeprefix("/") if rest.startswith("//") else rest)
        engine = sqlite.engine(file)
        try:
            schema.bring_up(engine, vault, str(file))
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, vault)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commits at the end, rolls back on an exception."""
        with self._lock, self._engine.begin() as connection:
            made = Transaction(connection, self._vault)
            yield made
            made.seal()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """One transaction in the store's own thread. What it has acknowledged outlives a kill -9."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    async def generation(self) -> int:
        """Grows with every committed change, whoever made it."""
        return await self.run(Transaction.generation)

    def close(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    def _work(self, work: Callable[[Transaction], T]) -> T:
        with self.transaction() as transaction:
            return work(transaction)
