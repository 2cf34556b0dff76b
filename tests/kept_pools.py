"""The gateway's registry of pools over a store of its own, without host and server: for tests of what asks it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet

from carrel.config import Config
from carrel.host.hostlink import HostLink
from carrel.server.pools import Pools
from carrel.store import PoolId, PoolRecord, Stamp, Store

STAMP = Stamp("somebody", "User", 1_700_000_000.0)


def record_of(config: Config, name: str, key: str = "", **properties: object) -> PoolRecord:
    """A pool in the server's own group."""
    id = PoolId(config.subscription, config.resource_group, name)
    return PoolRecord(id, config.location, {}, properties, STAMP, STAMP, etag=f"tag-of-{name}", mcp_key=key)


def store_in(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder}/store/carrel.db", [Fernet.generate_key()])


def pools_of(config: Config, link: HostLink, store: Store, records: Iterable[PoolRecord] = ()) -> Pools:
    """It has those records, or one of each pool that the configuration names."""
    pools = Pools(config, link, store)
    pools.take(records or [record_of(config, pool.name) for pool in config.pools])
    return pools
