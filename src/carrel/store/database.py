"""The store: opened before a process gives up its rights, then one transaction at a time.

`run` does its work in one thread of the store's own, which is made when it is first needed: a thread that was there before `linux.renounce`
would keep the capabilities that the others give up. `transaction` is the same for those who have no event loop. Both take one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sql

from carrel import store_address
from carrel.store import schema, sqlite
from carrel.store.transaction import Transaction
from carrel.store.troubles import StoreError, Troubles, can_be_repeated
from carrel.store.vault import Vault

_ATTEMPTS = 5
_PAUSE_S = 0.05

T = TypeVar("T")


class Store:
    """Open one with `open`; `close` it, also twice."""

    def __init__(self, engine: sql.Engine, vault: Vault, name: str) -> None:
        self._engine = engine
        self._vault = vault
        self._troubles = Troubles(name)
        self._first = "SELECT 1"
        if engine.dialect.name == "postgresql":
            from carrel.store import postgres

            self._first = postgres.LOCK
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "store")

    @classmethod
    def open(cls, url: str, keys: Sequence[bytes]) -> Store:
        """The store at sqlite:///PATH or postgresql://…, made or migrated where needed. `keys`: State.store_keys().

        Raises StoreError where it is damaged, newer, another program's or not to be reached, and has changed nothing then.
        """
        vault, name = Vault(keys), store_address.shown(url)
        engine = connect(url)
        try:
            schema.bring_up(engine, vault, name)
            store = cls(engine, vault, name)
            with store.transaction() as transaction:  # all that a transaction imports or opens is there from now on
                transaction.generation()
        except BaseException:
            engine.dispose()
            raise
        return store

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commits at the end, rolls back on an exception. Raises StoreUnavailable where the database fails, which `run` may repair."""
        with self._troubles.told(), self._attempt() as transaction:
            yield transaction

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """One transaction in the store's own thread. What it has acknowledged outlives a kill -9.

        `work` may be called again, from its beginning, after an attempt that came to nothing. Raises StoreUnavailable.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    async def generation(self, *tables: str) -> int:
        """Grows with every committed change, whoever made it; of some tables alone, where they are named."""
        return await self.run(lambda transaction: transaction.generation(*tables))

    @property
    def engine_name(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def close(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    def _work(self, work: Callable[[Transaction], T]) -> T:
        with self._troubles.told():
            for left in reversed(range(_ATTEMPTS)):
                try:
                    with self._attempt() as transaction:
                        return work(transaction)
                except sql.exc.DBAPIError as error:
                    if not left or not can_be_repeated(error):
                        raise
                    time.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - no secret, only not all at once
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[Transaction]:
        with self._lock, self._engine.connect() as connection:
            with contextlib.ExitStack() as unfinished:
                begun = connection.begin()
                unfinished.callback(_rollback, begun)
                connection.exec_driver_sql(self._first)
                made = Transaction(connection, self._vault)
                yield made
                made.seal()
                unfinished.pop_all()
            try:
                begun.commit()
            except sql.exc.DBAPIError as error:
                _rollback(begun)
                if error.connection_invalidated:
                    raise self._troubles.unavailable(error, is_uncertain=True) from error
                raise


def _rollback(transaction: sql.RootTransaction) -> None:
    with contextlib.suppress(sql.exc.SQLAlchemyError):  # of a connection that is lost there is nothing to take back
        transaction.rollback()


def connect(url: str) -> sql.Engine:
    if file := store_address.sqlite_file(url):
        return sqlite.engine(Path(file))
    if store_address.is_postgresql(url):
        from carrel.store import postgres  # psycopg takes a tenth of a second to load

        return postgres.engine(url)
    raise StoreError("this is no address of a store: one begins with sqlite:/// or postgresql://")
