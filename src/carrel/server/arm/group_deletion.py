"""Deleting resource groups: pool by pool, then what was given at the group, then the group.

What is under way stands in the store as an operation that has not ended, so that the next gateway goes on with it. A group that is going
takes no new pool: `keep_group` is held by whoever puts one into it, and the last step waits for those.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace

from carrel.arm_errors import GroupBeingDeleted, GroupNotFound
from carrel.errors import CarrelError
from carrel.server.pools import Pools
from carrel.store import Store, StoreError
from carrel.store.records import GroupRecord, OperationRecord, group_id
from carrel.store.transaction import Transaction

_AGAIN_S, _AGAIN_AT_MOST_S = 1.0, 30.0  # between two attempts
_KIND = "delete"

_log = logging.getLogger("carrel.arm")


class Deletions:
    """`run` while the server serves; `begin` from requests."""

    def __init__(self, store: Store, pools: Pools) -> None:
        self._store, self._pools = store, pools
        self._going: dict[str, asyncio.Task[None]] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()  # those in use
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. First what an earlier gateway did not come to the end of."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._resume()
            await asyncio.Event().wait()

    async def begin(self, group: GroupRecord, operation: OperationRecord) -> None:
        """Returns once it is kept that the group is to go. May be repeated."""
        async with self._lock(_key(group.subscription, group.name)):
            await self._store.run(lambda books: books.operations.put(operation))
            self._start(operation)

    def is_going(self, subscription: str, name: str) -> bool:
        return _key(subscription, name) in self._going

    def check(self, subscription: str, name: str) -> None:
        """Raises GroupBeingDeleted."""
        if self.is_going(subscription, name):
            raise GroupBeingDeleted(
                f"The resource group '{name}' is in deprovisioning state and cannot perform this operation."
            )

    @contextlib.asynccontextmanager
    async def keep_group(self, subscription: str, name: str) -> AsyncIterator[GroupRecord]:
        """The group, which is there until the end of the block. Raises GroupNotFound, GroupBeingDeleted."""
        async with self._lock(_key(subscription, name)):
            self.check(subscription, name)
            group = await self._store.run(lambda books: books.groups.get(subscription, name))
            if group is None:
                raise GroupNotFound(f"Resource group '{name}' could not be found.", target="resourceGroup")
            yield group

    async def _resume(self) -> None:
        for each in await self._unfinished():
            self._start(each)

    async def _unfinished(self) -> list[OperationRecord]:
        """Asked for until the store answers: what is not found here is not gone on with before the next start."""
        while True:
            try:
                known = await self._store.run(lambda books: books.operations.list())
            except (CarrelError, StoreError) as error:
                _log.warning("unfinished deletions cannot be read", extra={"why": str(error)})
                await asyncio.sleep(_AGAIN_S)
            else:
                return [each for each in known if each.kind == _KIND and each.target and each.ended_at is None]

    def _start(self, operation: OperationRecord) -> None:
        key = operation.target.lower()
        if self._group is not None and key not in self._going:
            self._going[key] = self._group.create_task(self._delete(key), name=f"delete {key}")

    async def _delete(self, key: str) -> None:
        pause = _AGAIN_S
        while not await self._delete_once(key):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _AGAIN_AT_MOST_S)

    async def _delete_once(self, key: str) -> bool:
        """Whether it is done. The host or the store may be away for a while."""
        try:
            inside = [pool for pool in self._pools.list() if pool.record.id.group_id.lower() == key]
            for pool in inside:
                await self._pools.delete(pool.record.id)
            for pool in inside:
                await self._pools.settled(pool.record.id)
            async with self._lock(key):  # whoever asks for it again from now on finds a group that is there, or none
                if is_done := await self._store.run(lambda books: _finish(books, key, time.time())):
                    await self._pools.rights_gone()
                    del self._going[key]
                return is_done
        except CarrelError as error:
            _log.warning("a resource group's deletion has to wait", extra={"group": key, "why": error.message})
        except Exception:  # the trouble of one group is not the gateway's end
            _log.exception("a resource group cannot be deleted", extra={"group": key})
        return False

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())


def _finish(books: Transaction, key: str, now: float) -> bool:
    """Take the group away unless a pool is in it yet, and end what asked for that."""
    _, _, subscription, _, name = key.split("/")
    if books.pools.list(subscription, name):
        return False
    books.assignments.delete_below(key)
    books.groups.delete(subscription, name)
    for each in books.operations.list():
        if each.kind == _KIND and each.target.lower() == key and each.ended_at is None:
            books.operations.put(replace(each, state="Succeeded", ended_at=now))
    return True


def _key(subscription: str, name: str) -> str:
    return group_id(subscription, name).lower()
