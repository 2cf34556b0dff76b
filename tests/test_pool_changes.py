"""Pools that come, change and go while the host serves: sessions, warm sandboxes and callers that wait, in books with small sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from carrel import errors
from carrel.models import MIB, Level, PoolSpec
from carrel.sessions import room
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session
from fake_sandboxes import FakeBackend
from small_pool import run, until

pytestmark = pytest.mark.anyio

POOL = PoolSpec("p", ready=2, maximum=4, memory_bytes=64 * MIB)
READY = POOL.ready + 1  # after somebody has just asked for a session
STRONGER = replace(POOL, isolation=Level.GVISOR)


class Machine:
    """A keeper of two levels, to be asked for by a pool's `isolation`."""

    def __init__(self) -> None:
        self.backends = {level: FakeBackend(level=level) for level in (Level.NAMESPACE, Level.GVISOR)}
        self.keeper = Keeper(self.backends)

    def alive(self, level: Level = Level.NAMESPACE) -> int:
        return len(self.backends[level].alive)


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    monkeypatch.setattr(room, "CLOSE_START_S", 0.05)
    machine = Machine()
    async with machine.keeper:
        yield machine
    assert not machine.alive(Level.NAMESPACE)
    assert not machine.alive(Level.GVISOR)


# ---- going --------------------------------------------------------------------------------------------------------------------


async def test_a_removed_pool_ends_its_sessions_and_leaves_no_sandbox(machine: Machine) -> None:
    """A call under way is told so by an answer that no client repeats by itself; the pool is not there any more."""
    keeper = machine.keeper
    await keeper.apply_pool(POOL)
    session, _ = await keeper.session("p", "alice")
    running = asyncio.ensure_future(run(session, "sleep 30"))
    await until(lambda: machine.backends[Level.NAMESPACE].agent_of(session).ran)

    await keeper.remove_pool("p")

    assert not machine.alive()
    with pytest.raises(errors.SessionEnded):
        await running
    with pytest.raises(errors.PoolNotFound):
        await keeper.session("p", "alice")
    assert keeper.pools() == []


async def test_removing_is_safe_to_repeat_also_at_once(machine: Machine) -> None:
    await machine.keeper.apply_pool(POOL)
    await machine.keeper.settled("p")

    await asyncio.gather(*(machine.keeper.remove_pool("p") for _ in range(5)), machine.keeper.remove_pool("other"))
    await machine.keeper.remove_pool("p")

    assert not machine.alive()


async def test_callers_that_wait_for_a_sandbox_learn_that_the_pool_is_gone(machine: Machine) -> None:
    machine.backends[Level.NAMESPACE].create_s = 20.0
    await machine.keeper.apply_pool(POOL)
    waiting = [asyncio.ensure_future(machine.keeper.session("p", name)) for name in ("alice", "alice", "bob")]
    await asyncio.sleep(0.05)

    await machine.keeper.remove_pool("p")

    for caller in waiting:
        with pytest.raises(errors.PoolNotFound):
            await caller


async def test_a_pool_removed_and_made_again_at_once_is_a_new_one(machine: Machine) -> None:
    """Ten times, with callers at it all the time: nobody gets a session of the old one, and the places are given back."""
    keeper = machine.keeper
    await keeper.apply_pool(POOL)
    old, _ = await keeper.session("p", "alice")
    for _ in range(10):
        removing = asyncio.ensure_future(keeper.remove_pool("p"))
        making = asyncio.ensure_future(keeper.apply_pool(POOL))
        await asyncio.gather(removing, making)
        new, is_new = await keeper.session("p", "alice")
        assert is_new
        assert new is not old
        old = new

    status = keeper.pools()[0]
    assert (len(keeper.pools()), status.live) == (1, 1)
    await until(lambda: machine.alive() >= 1 + POOL.ready)


async def test_readers_of_notices_are_told_the_end_and_then_that_the_pool_is_gone(machine: Machine) -> None:
    await machine.keeper.apply_pool(POOL)
    await machine.keeper.session("p", "alice")
    bulletin = machine.keeper.bulletin("p")
    waiting = asyncio.ensure_future(bulletin.after(bulletin.last, "alice"))
    await asyncio.sleep(0)

    await machine.keeper.remove_pool("p")

    assert [(each.kind, each.reason) for each in await waiting] == [("ended", "its session pool was deleted")]
    with pytest.raises(errors.PoolNotFound):
        await bulletin.after(bulletin.last)


# ---- changing -----------------------------------------------------------------------------------------------------------------


async def test_what_is_only_counted_or_timed_outside_replaces_no_sandbox(machine: Machine) -> None:
    await machine.keeper.apply_pool(POOL)
    await machine.keeper.settled("p")
    await until(lambda: machine.alive() == 2)
    before = set(machine.backends[Level.NAMESPACE].alive)

    await machine.keeper.apply_pool(replace(POOL, maximum=9, cooldown=9, notice=0, maximum_execution=9))

    assert await machine.keeper.settled("p") is None
    assert set(machine.backends[Level.NAMESPACE].alive) == before


async def test_what_is_in_sandboxes_replaces_the_unused_and_spares_the_used(machine: Machine) -> None:
    session, _ = await _first_session(machine)
    await machine.keeper.apply_pool(replace(POOL, memory_bytes=128 * MIB))
    assert await machine.keeper.settled("p") is None

    assert (await run(session, "print still there")).stdout == b"still there"
    await until(lambda: machine.alive() == 1 + READY)
    assert machine.backends[Level.NAMESPACE].made == 1 + 2 * READY


async def test_settled_speaks_of_the_present_definition_only(machine: Machine) -> None:
    """A pool that is well, and is then defined so that it cannot be, is not well; and the other way round."""
    await machine.keeper.apply_pool(POOL)
    assert await machine.keeper.settled("p") is None

    machine.backends[Level.NAMESPACE].image_failures = ["there is no such image"]
    await machine.keeper.apply_pool(replace(POOL, image="broken"))
    assert await machine.keeper.settled("p") == "there is no such image"

    await machine.keeper.apply_pool(POOL)
    assert await machine.keeper.settled("p") is None


async def test_a_pool_that_keeps_none_ready_is_settled_with_its_image(machine: Machine) -> None:
    machine.backends[Level.NAMESPACE].image_failures = ["no disk"]
    await machine.keeper.apply_pool(replace(POOL, ready=0))
    assert await machine.keeper.settled("p") == "no disk"

    await machine.keeper.apply_pool(replace(POOL, ready=0, image="other"))
    assert await machine.keeper.settled("p") is None
    assert machine.alive() == 0


@pytest.mark.parametrize("ready", [0, 2])
async def test_a_pool_that_failed_is_tried_at_once_when_it_is_defined_as_it_was(machine: Machine, ready: int) -> None:
    """What was in its way may be gone, an image built meanwhile: nobody waits for the next attempt, or gets the last one's answer."""
    spec = replace(POOL, ready=ready)
    machine.backends[Level.NAMESPACE].image_failures = ["no such image"]
    await machine.keeper.apply_pool(spec)
    assert await machine.keeper.settled("p") == "no such image"

    await machine.keeper.apply_pool(spec)

    assert await asyncio.wait_for(machine.keeper.settled("p"), 0.3) is None
    assert not machine.keeper.pools()[0].error


async def test_a_smaller_maximum_kills_nobody(machine: Machine) -> None:
    await machine.keeper.apply_pool(POOL)
    sessions = [(await machine.keeper.session("p", f"user-{n}"))[0] for n in range(4)]

    await machine.keeper.apply_pool(replace(POOL, maximum=1, ready=1))

    for session in sessions:
        assert (await run(session, "print here")).stdout == b"here"
    with pytest.raises(errors.PoolFull, match=r"already '4' active sessions and the maximum .* is '1'"):
        await machine.keeper.session("p", "one-more")


# ---- another level --------------------------------------------------------------------------------------------------------------


async def test_at_another_level_new_sessions_begin_and_old_ones_go_on(machine: Machine) -> None:
    session, _ = await _first_session(machine)

    status = await machine.keeper.apply_pool(STRONGER)

    assert status.isolation is Level.GVISOR
    again, is_new = await machine.keeper.session("p", "alice")
    assert (again, is_new) == (session, False)
    assert machine.keeper.find("p", "alice") is session
    bob, _ = await machine.keeper.session("p", "bob")
    assert bob.guest.sandbox.id in machine.backends[Level.GVISOR].alive
    views, total = machine.keeper.sessions("p", 0, 10)
    assert ([view.identifier for view in views], total) == (["alice", "bob"], 2)
    await until(lambda: machine.alive() == 1)


async def test_sessions_of_both_levels_count_against_the_maximum(machine: Machine) -> None:
    await _first_session(machine)
    await machine.keeper.apply_pool(replace(STRONGER, maximum=2))
    await machine.keeper.session("p", "bob")

    with pytest.raises(errors.PoolFull):
        await machine.keeper.session("p", "carol")

    machine.keeper.end("p", "alice")
    await machine.keeper.session("p", "carol")


async def test_a_session_of_the_earlier_level_that_ends_leaves_nothing(machine: Machine) -> None:
    await _first_session(machine)
    await machine.keeper.apply_pool(STRONGER)

    machine.keeper.end("p", "alice")

    await until(lambda: machine.alive() == 0)
    with pytest.raises(errors.SessionNotFound):
        machine.keeper.find("p", "alice")
    again, is_new = await machine.keeper.session("p", "alice")
    assert is_new
    assert again.guest.sandbox.id in machine.backends[Level.GVISOR].alive


async def test_a_caller_that_waits_gets_a_session_of_the_new_level(machine: Machine) -> None:
    machine.backends[Level.NAMESPACE].create_s = 20.0
    await machine.keeper.apply_pool(POOL)
    waiting = asyncio.ensure_future(machine.keeper.session("p", "alice"))
    await asyncio.sleep(0.05)

    await machine.keeper.apply_pool(STRONGER)

    session, _ = await waiting
    assert session.guest.sandbox.id in machine.backends[Level.GVISOR].alive


async def test_there_and_back_and_removed_ends_them_all(machine: Machine) -> None:
    await _first_session(machine)
    await machine.keeper.apply_pool(STRONGER)
    await machine.keeper.session("p", "bob")
    await machine.keeper.apply_pool(POOL)
    await machine.keeper.session("p", "carol")

    await machine.keeper.remove_pool("p")

    assert (machine.alive(), machine.alive(Level.GVISOR)) == (0, 0)


async def test_a_pool_that_cannot_be_served_any_more_gives_out_no_weaker_session() -> None:
    """Where it is defined anew and refused, not even the earlier definition is: it may be below the minimum that was just set."""

    async def find(spec: PoolSpec) -> Level:
        if spec.minimum is Level.GVISOR:
            raise errors.SandboxStartFailed("isolation level 'gvisor' does not work here.")
        return Level.NAMESPACE

    backend = FakeBackend()
    async with Keeper({Level.NAMESPACE: backend}, find_level=find) as keeper:
        await keeper.apply_pool(POOL)
        session, _ = await keeper.session("p", "alice")
        refused = replace(POOL, minimum=Level.GVISOR)
        with pytest.raises(errors.SandboxStartFailed):
            await keeper.apply_pool(refused)

        with pytest.raises(errors.SandboxStartFailed, match="'gvisor' does not work here"):
            await keeper.session("p", "bob")
        assert "'gvisor' does not work here" in (await keeper.settled("p") or "")
        assert (await keeper.session("p", "alice"))[0] is session

        await keeper.apply_pool(POOL)
        await keeper.session("p", "bob")
    assert not backend.alive


async def _first_session(machine: Machine) -> tuple[Session, bool]:
    await machine.keeper.apply_pool(POOL)
    found = await machine.keeper.session("p", "alice")
    await until(lambda: machine.alive() == 1 + READY)
    return found
