"""The pools of the configuration, written to the store before anything is served.

A table is written when it is not what was applied last under its name (a digest is kept), so that what was changed over ARM since, or
deleted, stays so until somebody changes the table. A pool whose table is taken out of the file goes too, where nobody has changed it
since: its etag is the digest of its table. The three default pools are such tables, where the file has none.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from carrel.config import DEFAULT_POOLS, Config
from carrel.pool_records import MCP_KEY_BYTES, spec_of, take_away, without_places
from carrel.pool_settings import ConfigError
from carrel.store import GroupRecord, PoolId, PoolRecord, SeedRecord, Stamp, Transaction

_BY = ("carrel serve", "Application")


@dataclass(frozen=True, slots=True)
class Sown:
    """The store's pools after that. `is_as_written`: they are the configuration's, and nobody has changed one."""

    pools: tuple[PoolRecord, ...]
    is_as_written: bool


def sow(books: Transaction, config: Config, given_key: Callable[[str], str | None], now: float) -> Sown:
    """`given_key` is a key for a pool's MCP endpoint that somebody wants it to have, if any."""
    stamp = Stamp(*_BY, now)
    tables = config.tables or DEFAULT_POOLS
    _keep_group(books, config, stamp)
    ids = {PoolId(config.subscription, config.resource_group, name): table for name, table in tables.items()}
    for id, table in ids.items():
        _sow_one(books, config, id, table, stamp)
        _give_key(books, id, given_key(id.name))
    for seed in books.seeds.list():
        if _is_of_pool(seed) and seed.name not in {id.lower for id in ids}:
            _take_out(books, seed)
    pools = tuple(books.pools.list())
    digests = {seed.name: seed.digest for seed in books.seeds.list()}
    return Sown(pools, all(digests.get(pool.id.lower) == pool.etag for pool in pools))


def served(config: Config, pools: tuple[PoolRecord, ...]) -> Config:
    """The configuration with the store's pools in place of the file's, as the host gets it: those that can be served by it."""
    specs = []
    for record in pools:
        try:
            if record.state != "Deleting":
                specs.append(spec_of(record, config))
        except ConfigError:
            continue  # the gateway says why: it shows the pool as failed
    return replace(config, pools=tuple(specs), tables={})


def _give_key(books: Transaction, id: PoolId, key: str | None) -> None:
    found = books.pools.get(id)
    if found is not None and (key or not found.mcp_key):
        books.pools.put(replace(found, mcp_key=key or secrets.token_hex(MCP_KEY_BYTES)))


def _sow_one(books: Transaction, config: Config, id: PoolId, table: Mapping[str, Any], stamp: Stamp) -> None:
    digest = _digest(table)
    seed = books.seeds.get(id.lower)
    if seed is not None and seed.digest == digest:
        return
    found = books.pools.get(id)
    if (
        found is not None and found.state == "Deleting"
    ):  # the server ended before it was gone: what comes now is another
        take_away(books, id)
        found = None
    record = PoolRecord(
        id=id,
        location=config.location,
        tags=found.tags if found else {},
        properties={"mcpServerSettings": {"isMcpServerEnabled": True}, **table},
        created=found.created if found else stamp,
        modified=stamp,
        etag=digest,
        secrets=found.secrets if found else {},
        mcp_key=found.mcp_key if found else "",
    )
    books.pools.put(record)
    books.seeds.put(SeedRecord(id.lower, digest))


def _is_of_pool(seed: SeedRecord) -> bool:
    """Others keep seeds of theirs, under names that are no path."""
    return seed.name.startswith("/subscriptions/")


def _take_out(books: Transaction, seed: SeedRecord) -> None:
    """Its table is not in the file any more."""
    id = PoolId.of(seed.name)
    found = books.pools.get(id)
    if found is not None and found.etag == seed.digest:
        take_away(books, id)
    elif found is not None:
        books.pools.put(without_places(found))
    books.seeds.delete(seed.name)


def _keep_group(books: Transaction, config: Config, stamp: Stamp) -> None:
    """The server's own group, in which the configuration's pools are."""
    if books.groups.get(config.subscription, config.resource_group) is None:
        where = (config.subscription, config.resource_group, config.location)
        books.groups.put(GroupRecord(*where, tags={}, created=stamp, modified=stamp, etag=_digest(stamp.at)))


def _digest(value: object) -> str:
    return hashlib.blake2s(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
