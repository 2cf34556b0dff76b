"""The gateway's registry of session pools: what every plane asks, and the one place that has the host follow the store.

The store is the truth. A change is written there first (`put`, `delete`), shown to everybody here, and then carried to the host by the
pool's worker (pool_workers.py). A gateway that is killed in between has left the record as it was meant to become, and the next one's
worker does the rest. `watch.py` keeps records true to what becomes of sandboxes later, and to what other gateways write.

Looking up is for every call of the data plane: a dictionary, no waiting.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from carrel.arm_errors import BeingDeleted
from carrel.config import Config
from carrel.errors import ConditionNotMet, PoolNotFound, QuotaExceeded, SandboxStartFailed
from carrel.host.hostlink import HostLink
from carrel.models import Level, PoolSpec, PoolStatus
from carrel.pool_records import MCP_KEY_BYTES, secrets_of, spec_of, take_away
from carrel.pool_secrets import NO_SECRETS, PoolSecrets
from carrel.pool_settings import ConfigError
from carrel.server.pool_workers import Workers
from carrel.store import Store
from carrel.store.records import PoolId, PoolRecord, PoolState
from carrel.store.transaction import Transaction

log = logging.getLogger("carrel.pools")


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as the store has it, and as the host is told. `level` is the boundary in force; None where it is not served, or not yet.

    `fault` says why the record cannot be served at all as this server is configured; its spec then only has its name.
    """

    record: PoolRecord
    spec: PoolSpec
    level: Level | None = None
    secrets: PoolSecrets = field(default=NO_SECRETS, repr=False)
    fault: str = ""

    @property
    def key(self) -> str:
        """What the host knows it by."""
        return self.spec.name

    @property
    def is_open(self) -> bool:
        """Whether the host may be asked for its sessions."""
        return not self.fault and self.record.state != "Deleting"

    def check(self) -> None:
        """Raises what a caller is told who wants a session of a pool that is not open."""
        if self.record.state == "Deleting":
            raise PoolNotFound("This session pool is being deleted.")
        if self.fault:
            raise SandboxStartFailed(f"This session pool is not served: {self.fault}.")


Changed = Callable[[str, Pool | None], None]


class Pools:
    """Made, and filled by `load`, while the store is open; `run` while it serves."""

    def __init__(
        self, config: Config, link: HostLink, store: Store, known_secrets: Mapping[str, PoolSecrets] | None = None
    ) -> None:
        """`known_secrets` are of the pools in the configuration, by name: no other pool may name a place of this machine."""
        self._config, self._link, self._store = config, link, store
        self._known_secrets = known_secrets or {}
        self._by_id: dict[tuple[str, str, str], Pool] = {}
        self._by_key: dict[str, Pool] = {}
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._coming: set[str] = set()  # keys of pools that are being put
        self._workers = Workers(self, link)
        self.on_rights_gone: list[Callable[[], Awaitable[None]]] = []  # waited for before a name is free for another
        self.before_removal: list[Callable[[str], Awaitable[None]]] = []  # waited for once the host has nothing of it
        self.on_changed: list[Changed] = []  # told of each pool by its key, with None once it is gone

    def load(self, levels: Mapping[str, Level | None]) -> None:
        """All of the store's, at start: blocks. `levels` is what the host serves pools at, by key."""
        with self._store.transaction() as books:
            for record in books.pools.list():
                self._set(record, levels.get(record.id.key(self._config)))

    async def run(self) -> None:
        """Until cancelled: have the host follow."""
        await self._workers.run()

    # -- looking up --------------------------------------------------------------------------------------------------

    def get(self, id: PoolId) -> Pool | None:
        """In any case."""
        return self._by_id.get((id.subscription.lower(), id.resource_group.lower(), id.name.lower()))

    def find(self, id: PoolId) -> Pool:
        """In any case. Raises PoolNotFound; one that is being deleted is still there."""
        return self.seek(id.subscription, id.resource_group, id.name)

    def seek(self, subscription: str, resource_group: str, name: str) -> Pool:
        """The same by the parts of a path."""
        pool = self._by_id.get((subscription.lower(), resource_group.lower(), name.lower()))
        if pool is None:
            raise PoolNotFound("There is no session pool of this name in this resource group.")
        return pool

    def by_key(self, key: str) -> Pool | None:
        return self._by_key.get(key)

    def list(self) -> list[Pool]:
        return sorted(self._by_id.values(), key=lambda pool: pool.record.id.lower)

    def is_working(self, key: str) -> bool:
        """Whether the host does not follow the record yet."""
        return self._workers.is_working(key)

    async def status(self, pool: Pool) -> PoolStatus | None:
        """What the host says of it; None where it does not know it (yet)."""
        return next((each for each in await self._link.pools() if each.spec.name == pool.key), None)

    # -- changing ----------------------------------------------------------------------------------------------------

    async def put(self, record: PoolRecord, *, if_etag: str | None = None) -> Pool:
        """Define a pool, or define it anew. Returns once that is kept; the record goes on to Succeeded or Failed by itself.

        A key for MCP is kept, or made where there is none. `if_etag`: only where the record that is there has it, "" for none at all.
        Raises ConfigError for a definition that cannot be, QuotaExceeded, BeingDeleted, ConditionNotMet.
        """
        key = spec_of(record, self._config).name
        async with self._change(key):
            found = self._by_key.get(key)
            self._check_put(key, found, if_etag)
            mcp_key = record.mcp_key or (found.record.mcp_key if found else "") or new_key()
            self._coming.add(key)
            try:
                pool = await self._write(found, replace(record, state="InProgress", error="", mcp_key=mcp_key))
            finally:
                self._coming.discard(key)
            self._workers.work(key)
            return pool

    async def amend(self, pool: Pool | str, change: Callable[[PoolRecord], PoolRecord]) -> Pool:
        """A change of what is kept of a pool (or of the one with a key). Raises PoolNotFound where it went meanwhile."""
        key = pool if isinstance(pool, str) else pool.key
        async with self._change(key):
            found = self._by_key.get(key)
            if found is None or found.record.state == "Deleting":
                raise PoolNotFound("This session pool has been deleted meanwhile.")
            amended = await self._write(found, change(found.record))
            self._workers.work(key)
            return amended

    async def delete(self, id: PoolId, *, if_etag: str | None = None) -> bool:
        """Its sessions end. Returns once it is kept that the pool is to go; False where there was none.

        `if_etag`: only where the record has it. Raises ConditionNotMet.
        """
        key = id.key(self._config)
        async with self._change(key):
            found = self._by_key.get(key)
            if found is None:
                return False
            if if_etag is not None and if_etag != found.record.etag:
                raise ConditionNotMet("The session pool was changed since: read it again.")
            if found.record.state != "Deleting":
                await self._write(found, replace(found.record, state="Deleting", error=""))
            self._workers.work(key)
            return True

    async def settled(self, id: PoolId) -> Pool | None:
        """Wait until the host follows the record; the pool then, None for one that is gone."""
        key = id.key(self._config)
        await self._workers.settled(key)
        return self._by_key.get(key)

    def take(self, records: Iterable[PoolRecord]) -> None:
        """What the store holds now, whoever wrote it."""
        records = list(records)
        for record in records:
            found = self._by_key.get(record.id.key(self._config))
            if found is not None and found.record == record:
                continue
            key = self._set(record).key
            if found is None or record.state in ("InProgress", "Deleting") or _is_other(found.record, record):
                self._workers.work(key)  # else another gateway has only said what its host thinks of it
        gone = self._by_key.keys() - {record.id.key(self._config) for record in records}
        for key in gone:
            self._forget(key)
            self._workers.work(key)

    def resume(self) -> None:
        """Go on with what was given up half-way."""
        for key, pool in list(self._by_key.items()):
            if pool.record.state in ("InProgress", "Deleting"):
                self._workers.work(key, again=False)

    # -- what becomes of it: for the workers and the watch -----------------------------------------------------------

    def served_at(self, key: str, level: Level | None) -> None:
        """The boundary that is in force from now on."""
        pool = self._by_key.get(key)
        if pool is not None and pool.level != level:
            self._set(pool.record, level)

    async def conclude(self, pool: Pool, error: str, level: Level | None) -> None:
        """Write down what has become of it, unless somebody has changed it meanwhile."""
        state: PoolState = "Failed" if error else "Succeeded"
        async with self._change(pool.key):
            now = self._by_key.get(pool.key)
            if now is None or now.record != pool.record or (now.record.state, now.record.error) == (state, error):
                return
            record = replace(now.record, state=state, error=error)
            await self._store.run(lambda books: _keep_state(books, record))
            self._set(record, level)
        kind = logging.WARNING if error else logging.INFO
        log.log(kind, "session pool", extra={"pool": pool.key, "state": state} | ({"why": error} if error else {}))

    async def removed(self, pool: Pool) -> None:
        """The host has nothing of it any more."""
        for told in self.before_removal:
            await told(pool.key)
        async with self._change(pool.key):
            other = await self._store.run(lambda books: _take_away(books, pool.record))
            if other is None:
                await self.rights_gone()
                self._forget(pool.key)
                return
            self._set(other)  # the worker goes on with it
        self._workers.work(pool.key)

    async def rights_gone(self) -> None:
        """Have it known that the rights at what was deleted are no more: they would be rights at what is made there next."""
        for told in self.on_rights_gone:
            await told()

    def try_again(self, key: str) -> None:
        """Have the host told of a pool once more: what it had against it seems to be over."""
        self._workers.work(key, again=False)

    def _check_put(self, key: str, found: Pool | None, if_etag: str | None) -> None:
        if found is not None and found.record.state == "Deleting":
            raise BeingDeleted("This session pool is being deleted: try again once it is gone.")
        if if_etag is not None and if_etag != (found.record.etag if found else ""):
            raise ConditionNotMet("The session pool was changed since: read it again.")
        if found is None and len(self._by_key.keys() | self._coming - {key}) >= self._config.maximum_pools:
            most = self._config.maximum_pools
            raise QuotaExceeded(f"This server keeps {most} session pools at most (setting maximum-pools).")

    def _change(self, key: str) -> asyncio.Lock:
        """One change of a pool after the other."""
        return self._changing.setdefault(key, asyncio.Lock())

    async def _write(self, found: Pool | None, record: PoolRecord) -> Pool:
        """Over what was read. Raises ConditionNotMet where another gateway was faster, whose record is the one here then."""
        other = await self._store.run(lambda books: _put_over(books, found.record if found else None, record))
        pool = self._set(other or record)
        if other is not None:
            raise ConditionNotMet("The session pool was changed since: read it again.")
        return pool

    # -- the books ---------------------------------------------------------------------------------------------------

    def _set(self, record: PoolRecord, level: Level | None = None) -> Pool:
        key = record.id.key(self._config)
        found = self._by_key.get(key)
        pool = self._made(record, level or (found.level if found else None))
        self._by_key[key] = self._by_id[_parts(record.id)] = pool
        self._tell(key, pool)
        return pool

    def _made(self, record: PoolRecord, level: Level | None) -> Pool:
        try:
            spec = spec_of(record, self._config)
        except ConfigError as error:
            return Pool(record, PoolSpec(record.id.key(self._config)), fault=str(error))
        return Pool(record, spec, level, secrets_of(record, spec, self._known_secrets.get(spec.name, NO_SECRETS)))

    def _forget(self, key: str) -> None:
        pool = self._by_key.pop(key, None)
        if pool is not None:
            del self._by_id[_parts(pool.record.id)]
            self._tell(key, None)

    def _tell(self, key: str, pool: Pool | None) -> None:
        for told in self.on_changed:
            told(key, pool)


def new_key() -> str:
    """A key for a pool's MCP endpoint."""
    return secrets.token_hex(MCP_KEY_BYTES)


def _put_over(books: Transaction, found: PoolRecord | None, record: PoolRecord) -> PoolRecord | None:
    """What stands there instead of `found`, and was not touched; None where it was as read."""
    there = books.pools.get(record.id)
    if there is not None and (found is None or there.etag != found.etag or there.state == "Deleting" != found.state):
        return there
    books.pools.put(record)
    return None


def _keep_state(books: Transaction, record: PoolRecord) -> None:
    """Only over the same definition: another gateway may have written a newer one."""
    found = books.pools.get(record.id)
    if found is not None and found.etag == record.etag and found.state != "Deleting":
        books.pools.put(replace(found, state=record.state, error=record.error))


def _take_away(books: Transaction, record: PoolRecord) -> PoolRecord | None:
    """Returns what stands there instead, and was not touched: another gateway has taken this one away, and the name is somebody's again."""
    there = books.pools.get(record.id)
    if there is not None and (there.etag, there.state) != (record.etag, "Deleting"):
        return there
    take_away(books, record.id)
    return None


def _is_other(one: PoolRecord, record: PoolRecord) -> bool:
    """Whether they differ in more than in what became of them."""
    return replace(one, state=record.state, error=record.error) != record


def _parts(id: PoolId) -> tuple[str, str, str]:
    return id.subscription.lower(), id.resource_group.lower(), id.name.lower()
