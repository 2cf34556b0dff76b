"""The gateway's registry of pools over a real store and a real host with small sandboxes: what is kept, followed and refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from carrel import arm_errors, errors
from carrel.config import Config
from carrel.host.door import bind
from carrel.host.hostlink import HostLink
from carrel.host.service import Service
from carrel.models import Level, PoolSpec
from carrel.pool_secrets import PoolSecrets
from carrel.pool_settings import ConfigError
from carrel.server import watch
from carrel.server.arm.group_deletion import Deletions
from carrel.server.pools import Pool, Pools
from carrel.server.watch import Watch
from carrel.sessions import pool, room
from carrel.sessions.keeper import Keeper
from carrel.store import OperationRecord, PoolId, PoolRecord, Store
from fake_sandboxes import FakeBackend
from kept_pools import record_of, store_in

pytestmark = pytest.mark.anyio


@dataclass
class Gateway:
    """A registry at work, with what is around it."""

    pools: Pools
    config: Config
    store: Store
    link: HostLink
    backend: FakeBackend

    def record(self, name: str = "p", **properties: Any) -> PoolRecord:
        return replace(record_of(self.config, name), properties=properties)

    def kept(self, name: str = "p") -> PoolRecord | None:
        with self.store.transaction() as books:
            return books.pools.get(self.id(name))

    def id(self, name: str = "p") -> PoolId:
        return PoolId(self.config.subscription, self.config.resource_group, name)

    async def becomes(self, state: str, name: str = "p") -> Pool:
        """The pool, once its record says so, here and in the store."""
        async with asyncio.timeout(5):
            while self.pools.find(self.id(name)).record.state != state:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        kept = self.kept(name)
        assert kept is not None
        assert kept.state == state
        return self.pools.find(self.id(name))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.02)


@pytest.fixture(autouse=True)
def starts_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CLOSE_START_S", 0.05)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(tmp_path, tmp_path, pools=(), maximum_pools=3)


@pytest.fixture
async def host(config: Config, backend: FakeBackend) -> AsyncIterator[HostLink]:
    path = config.state / "run" / "hostlink.sock"
    async with Keeper({Level.NAMESPACE: backend}) as keeper:
        with bind(path, None) as sock:
            async with Service(keeper, sock, {os.geteuid()}):
                link = HostLink(path)
                yield link
                await link.close()
                await keeper.close()
    assert not backend.alive


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


@asynccontextmanager
async def serving(
    config: Config, store: Store, link: HostLink, backend: FakeBackend, secrets: dict[str, PoolSecrets] | None = None
) -> AsyncIterator[Gateway]:
    """One gateway's life. Leaving the block is its sudden end: nothing is finished."""
    pools = Pools(config, link, store, secrets)
    pools.load({})
    tasks = [asyncio.ensure_future(task) for task in (pools.run(), Watch(pools, link, store).run())]
    await asyncio.sleep(0)
    yield Gateway(pools, config, store, link, backend)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def gateway(config: Config, store: Store, host: HostLink, backend: FakeBackend) -> AsyncIterator[Gateway]:
    async with serving(config, store, host, backend) as gateway:
        yield gateway


# ---- coming -------------------------------------------------------------------------------------------------------------------


async def test_a_pool_is_kept_served_and_found_in_any_case(gateway: Gateway) -> None:
    """`InProgress` when it is kept, `Succeeded` when its first sandbox is there."""
    gateway.backend.create_s = 0.2

    made = await gateway.pools.put(gateway.record("My-Pool"))

    assert made.record.state == "InProgress"
    kept = gateway.kept("my-pool")
    assert kept is not None
    assert kept.mcp_key
    pool = await gateway.becomes("Succeeded", "MY-POOL")
    assert gateway.backend.alive
    assert (pool.key, pool.record.id.name, pool.level) == ("my-pool", "My-Pool", Level.NAMESPACE)
    assert (await gateway.link.open("my-pool", "alice")).is_new


async def test_pools_of_the_same_name_in_two_groups_are_two(gateway: Gateway) -> None:
    there = replace(gateway.record("p"), id=PoolId(gateway.config.subscription, "Elsewhere", "p"))
    here, other = await gateway.pools.put(gateway.record("p")), await gateway.pools.put(there)

    assert here.key == "p"
    assert other.key.startswith("p--")
    assert gateway.pools.find(replace(there.id, resource_group="ELSEWHERE")) is gateway.pools.by_key(other.key)
    await gateway.becomes("Succeeded")
    await gateway.pools.settled(there.id)
    await gateway.link.open("p", "alice")
    assert (await gateway.link.sessions(other.key, 0))[1] == 0


async def test_a_pool_that_cannot_be_served_says_why_and_recovers(gateway: Gateway, hurried: None) -> None:
    gateway.backend.failures = ["the disk is full"]

    await gateway.pools.put(gateway.record())

    failed = await gateway.becomes("Failed")
    assert "the disk is full" in failed.record.error
    recovered = await gateway.becomes("Succeeded")  # the host tries again by itself
    assert recovered.record.error == ""


async def test_a_pool_that_fails_later_shows_it(gateway: Gateway, hurried: None) -> None:
    await gateway.pools.put(gateway.record())
    await gateway.becomes("Succeeded")

    gateway.backend.failures = ["no memory"] * 100
    for sandbox in list(gateway.backend.alive.values()):
        sandbox.channel.shutdown(2)

    assert (await gateway.becomes("Failed")).record.error
    gateway.backend.failures = []


async def test_a_pool_that_is_well_again_before_anybody_looks_again_is_shown_well(
    config: Config, store: Store, host: HostLink, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.15)
    monkeypatch.setattr(pool, "BACKOFF_S", 0.01)
    monkeypatch.setattr(pool, "BACKOFF_MAX_S", 0.01)
    async with serving(config, store, host, backend) as gateway:
        await gateway.pools.put(gateway.record())
        await gateway.becomes("Succeeded")
        await asyncio.sleep(0.4)  # it was seen well

        backend.failures = ["no memory"] * 1000
        for sandbox in list(backend.alive.values()):
            sandbox.channel.shutdown(2)
        await gateway.becomes("Failed")
        backend.failures = []

        await gateway.becomes("Succeeded")


async def test_what_cannot_be_is_refused_before_anything_is_kept(gateway: Gateway) -> None:
    for properties in (
        {"containerType": "CustomContainer"},
        {"scaleConfiguration": {"maxConcurrentSessions": 0}},
        {"carrel": {"memory": "1KiB"}},
        {"carrel": {"packages": {"wheels": "/etc"}}},
        {"carrel": {"secrets": {"shadow": {"file": "/etc/shadow"}}}},
        {"carrel": {"webhook": {"url": "https://example.org", "secret": {"environment": "PATH"}}}},
        {"carrel": {"isolation": "process"}},
        {"carrel": {"isolation": "process", "minimum": "process"}},
        {"carrel": {"minimum": "process"}},
        {"carrel": {"isolation": "restricted", "minimum": "namespace"}},
    ):
        with pytest.raises(ConfigError):
            await gateway.pools.put(gateway.record(**properties))
    assert gateway.kept() is None
    assert gateway.pools.list() == []


async def test_the_number_of_pools_has_an_end(gateway: Gateway) -> None:
    for name in ("one", "two", "six"):
        await gateway.pools.put(gateway.record(name))

    with pytest.raises(errors.QuotaExceeded, match="3 session pools"):
        await gateway.pools.put(gateway.record("ten"))
    await gateway.pools.put(gateway.record("one", scaleConfiguration={"maxConcurrentSessions": 20}))


# ---- changing -----------------------------------------------------------------------------------------------------------------


async def test_changes_at_once_end_with_the_last_one_here_and_at_the_host(gateway: Gateway) -> None:
    for number in range(1, 30):
        scale = {"maxConcurrentSessions": 100 + number, "readySessionInstances": number % 3}
        await gateway.pools.put(gateway.record(scaleConfiguration=scale, carrel={"memory": f"{1024 + number}MiB"}))

    await gateway.becomes("Succeeded")
    status = await gateway.pools.status(gateway.pools.find(gateway.id()))
    assert status is not None
    assert (status.spec.maximum, status.spec.memory_bytes) == (129, 1053 * 1024 * 1024)


async def test_a_change_that_was_made_against_an_earlier_definition_is_refused(gateway: Gateway) -> None:
    await gateway.pools.put(gateway.record(), if_etag="")

    for etag in ("", "other"):
        with pytest.raises(errors.ConditionNotMet):
            await gateway.pools.put(gateway.record(), if_etag=etag)
    await gateway.pools.put(gateway.record(), if_etag="tag-of-p")
    with pytest.raises(errors.ConditionNotMet):
        await gateway.pools.put(gateway.record("other"), if_etag="tag-of-other")


async def test_a_change_of_the_record_alone_holds_up_nothing(gateway: Gateway) -> None:
    """A key that is rotated while the pool is still being made: it is made all the same, and has the new key."""
    gateway.backend.create_s = 0.2
    pool = await gateway.pools.put(gateway.record())

    await gateway.pools.amend(pool, lambda record: replace(record, mcp_key="another"))

    assert (await gateway.becomes("Succeeded")).record.mcp_key == "another"


async def test_secrets_come_from_the_record_and_from_the_places_that_the_configuration_names(
    config: Config, store: Store, host: HostLink, backend: FakeBackend
) -> None:
    """The one that the configuration names is only for the pool whose table says so, and nothing shows a value."""
    config = replace(config, pools=(PoolSpec("p", secrets=(("token", "environment:TOKEN"),)),))
    async with serving(config, store, host, backend, {"p": PoolSecrets({"token": "of-file"})}) as gateway:
        properties: dict[str, Any] = {"carrel": {"secrets": {"token": {"environment": "TOKEN"}}}}
        await gateway.pools.put(replace(gateway.record(**properties), secrets={"db": "of-arm"}))
        with pytest.raises(ConfigError):
            await gateway.pools.put(gateway.record("other", **properties))

        pool = gateway.pools.find(gateway.id())
        assert (pool.secrets.get("token"), pool.secrets.get("db")) == ("of-file", "of-arm")
        assert "of-arm" not in repr(pool)
        assert pool.record.mcp_key not in repr(pool)


# ---- going --------------------------------------------------------------------------------------------------------------------


async def test_a_deleted_pool_is_nobodys_at_once_and_gone_soon(gateway: Gateway) -> None:
    await gateway.pools.put(gateway.record())
    await gateway.becomes("Succeeded")
    await gateway.link.open("p", "alice")
    gateway.backend.kill_s = 0.2

    assert await gateway.pools.delete(gateway.id())

    pool = gateway.pools.find(gateway.id())
    with pytest.raises(errors.PoolNotFound):
        pool.check()
    with pytest.raises(arm_errors.BeingDeleted):
        await gateway.pools.put(gateway.record())
    assert await gateway.pools.delete(gateway.id()), "safe to repeat"
    assert await gateway.pools.settled(gateway.id()) is None
    assert gateway.kept() is None
    assert not gateway.backend.alive
    assert not await gateway.pools.delete(gateway.id())
    with pytest.raises(errors.PoolNotFound):
        gateway.pools.find(gateway.id())


async def test_a_pool_deleted_while_it_is_made_goes(gateway: Gateway) -> None:
    gateway.backend.create_s = 20.0
    await gateway.pools.put(gateway.record())
    await asyncio.sleep(0.05)

    await gateway.pools.delete(gateway.id())

    assert await gateway.pools.settled(gateway.id()) is None
    await gateway.pools.put(gateway.record())
    gateway.backend.create_s = 0.0


# ---- over the end of a gateway, and beside another ------------------------------------------------------------------------------


async def test_the_next_gateway_ends_what_the_last_one_began(
    config: Config, store: Store, host: HostLink, backend: FakeBackend
) -> None:
    """One pool was being made, another deleted, a third is well and has a session that must not notice."""
    async with serving(config, store, host, backend) as first:
        for name in ("well", "doomed"):
            await first.pools.put(first.record(name))
            await first.becomes("Succeeded", name)
        session = await host.open("well", "alice")
        backend.create_s = backend.kill_s = 0.3
        await first.pools.put(first.record("made"))
        await first.pools.delete(first.id("doomed"))
        await asyncio.sleep(0.02)
    with store.transaction() as books:
        assert {each.id.name: each.state for each in books.pools.list()} == {
            "well": "Succeeded",
            "made": "InProgress",
            "doomed": "Deleting",
        }

    async with serving(config, store, host, backend) as second:
        await second.becomes("Succeeded", "made")
        assert await second.pools.settled(second.id("doomed")) is None
        assert second.kept("doomed") is None
        assert (await host.session("well", "alice")).guid == session.guid


async def test_what_another_gateway_writes_is_followed(
    config: Config, store: Store, host: HostLink, backend: FakeBackend, hurried: None
) -> None:
    async with (
        serving(config, store, host, backend) as gateway,
        serving(config, store, host, backend) as other,
    ):
        await other.pools.put(other.record())
        await _until_there(gateway, is_there=True)
        await gateway.becomes("Succeeded")
        assert gateway.pools.find(gateway.id()).record.mcp_key == other.pools.find(other.id()).record.mcp_key

        await gateway.pools.delete(gateway.id())
        await _until_there(other, is_there=False)


async def test_a_pool_that_went_while_no_gateway_was_there_leaves_the_host(
    config: Config, store: Store, host: HostLink, backend: FakeBackend, hurried: None
) -> None:
    """Another server on the same store has deleted it."""
    async with serving(config, store, host, backend) as first:
        for name in ("stays", "goes"):
            await first.pools.put(first.record(name))
            await first.becomes("Succeeded", name)
        await host.open("goes", "alice")
    with store.transaction() as books:
        books.pools.delete(first.id("goes"))

    async with serving(config, store, host, backend) as second, asyncio.timeout(5):
        while [status.spec.name for status in await host.pools()] != ["stays"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert second.pools.find(second.id("stays")).record.state == "Succeeded"


async def test_a_name_that_is_somebodys_again_is_not_taken_away_by_an_earlier_deletion(
    config: Config, store: Store, host: HostLink, backend: FakeBackend
) -> None:
    """Two gateways end the sessions of a pool; one is done first, and the pool is made again there before the other one is."""
    async with serving(config, store, host, backend) as gateway:
        await gateway.pools.put(gateway.record())
        await gateway.becomes("Succeeded")
        backend.kill_s = 0.2
        await gateway.pools.delete(gateway.id())
        made_again = replace(gateway.record(), etag="another", state="Succeeded")
        with store.transaction() as books:
            books.pools.put(made_again)

        await gateway.pools.settled(gateway.id())

        kept = gateway.kept()
        assert kept is not None
        assert (kept.etag, kept.state) == ("another", "Succeeded")
        assert gateway.pools.find(gateway.id()).record.etag == "another"
        assert [status.spec.name for status in await host.pools()] == ["p"]


async def test_two_servers_of_which_one_cannot_serve_a_pool_do_not_contradict_each_other_for_ever(
    config: Config, store: Store, host: HostLink, backend: FakeBackend, hurried: None
) -> None:
    stricter = replace(config, minimum=Level.GVISOR)
    async with serving(config, store, host, backend) as able, serving(stricter, store, host, backend) as unable:
        await able.pools.put(able.record(carrel={"isolation": "namespace"}))
        await _until_there(unable, is_there=True)
        await asyncio.sleep(0.3)  # fifteen looks
        before = await store.generation("pools")
        await asyncio.sleep(0.2)

        assert await store.generation("pools") == before
        assert able.pools.find(able.id()).record == unable.pools.find(unable.id()).record


async def test_of_two_gateways_that_write_at_once_one_is_told(
    config: Config, store: Store, host: HostLink, backend: FakeBackend
) -> None:
    """Although it has not read what the other wrote; it has then, and can decide anew."""
    async with (
        serving(config, store, host, backend) as gateway,
        serving(config, store, host, backend) as other,
    ):
        await other.pools.put(replace(other.record(), etag="theirs"), if_etag="")
        with pytest.raises(errors.ConditionNotMet):
            await gateway.pools.put(gateway.record(), if_etag="")

        assert gateway.pools.find(gateway.id()).record.etag == "theirs"
        await gateway.pools.put(gateway.record(), if_etag="theirs")
        kept = gateway.kept()
        assert kept is not None
        assert kept.etag == "tag-of-p"


async def test_a_record_that_this_server_may_not_serve_is_shown_with_the_reason(
    config: Config, store: Store, host: HostLink, backend: FakeBackend
) -> None:
    """It was the configuration's, whose table has been taken away since."""
    with store.transaction() as books:
        books.pools.put(record_of(config, "p", carrel={"isolation": "process"}))
    async with serving(config, store, host, backend) as gateway:
        pool = await gateway.becomes("Failed")
        assert "below the pool's minimum" in pool.record.error
        with pytest.raises(errors.SandboxStartFailed, match="minimum"):
            pool.check()


async def test_an_operation_that_cannot_be_read_ends_no_gateway(gateway: Gateway, tmp_path: Path) -> None:
    """Another program has spoilt it; what was to be gone on with waits until that is mended."""
    operation = OperationRecord("1", gateway.id(), "put", "InProgress", 1.0)
    await gateway.store.run(lambda books: books.operations.put(operation))
    with sqlite3.connect(tmp_path / "store" / "carrel.db") as other:
        other.execute("UPDATE operations SET pool = 'nowhere'")
    deletions = asyncio.ensure_future(Deletions(gateway.store, gateway.pools).run())
    await asyncio.sleep(0.1)

    assert not deletions.done()

    deletions.cancel()
    await asyncio.wait([deletions])


async def _until_there(gateway: Gateway, *, is_there: bool) -> None:
    async with asyncio.timeout(5):
        while bool(gateway.pools.list()) is not is_there:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
