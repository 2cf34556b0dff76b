"""The keeper of one machine's pools: the one object that host/ talks to.

    async with Keeper(backends) as keeper:  # started ones, by level: the keeper closes them
        await keeper.apply_pool(spec)
        session, is_new = await keeper.session("python", "alice")

Everything that runs beside a call is one of its tasks; leaving the block ends every session, kills every sandbox and waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from carrel.backends.base import Backend
from carrel.backends.network import Network as Egress
from carrel.counts import Books, PoolCounts
from carrel.errors import PoolNotFound, RequestInvalid, RequestNotSupported, SandboxStartFailed, SessionNotFound
from carrel.models import EgressPolicy, EgressVerdict, ImageInfo, Level, Network, PoolSpec, PoolStatus, SessionView
from carrel.observations import Report, Row
from carrel.sessions.budget import LEAST_BYTES, Budget
from carrel.sessions.bulletin import Bulletin
from carrel.sessions.counting import counts_of
from carrel.sessions.ledger import Ledger
from carrel.sessions.link import POOL_DELETED
from carrel.sessions.places import Places
from carrel.sessions.pool import STOPPING, start_failed
from carrel.sessions.room import Moved, Room, short
from carrel.sessions.rows import Rows
from carrel.sessions.session import Session
from carrel.sessions.tally import Tally
from carrel.sessions.tasks import Tasks

CLOSE_S = 5.0  # for kills one by one; then the backends end what is left

log = logging.getLogger(__name__)


class Keeper:
    def __init__(
        self,
        backends: Mapping[Level, Backend],
        maximum: int = sys.maxsize,
        find_level: Callable[[PoolSpec], Awaitable[Level]] | None = None,
        results_bytes: int = LEAST_BYTES,
        ledger: Ledger | None = None,
    ) -> None:
        """`maximum`: sandboxes of all pools together; `results_bytes`: what the results of all sessions may hold.

        `find_level` says which level a pool gets, of backends that are there then; raises SandboxStartFailed where there is none for it.
        Without it pools come with theirs.
        """
        self._backends = backends
        self._find_level = find_level or self._level_as_defined
        self._places = Places(maximum)
        self._budget = Budget(results_bytes)
        self.ledger = ledger or Ledger()
        self._beating: asyncio.Task[None] | None = None
        self._rooms: dict[str, Room] = {}
        self._draining: list[Room] = []  # of pools that were moved to another level, until their last session ends
        self._changing: WeakValueDictionary[str, asyncio.Lock] = (
            WeakValueDictionary()
        )  # one change of a pool after the other
        self._refused: dict[str, PoolStatus] = {}
        self._tallies: dict[str, Tally] = {}  # by pool
        self._rows = Rows()
        self._tasks = Tasks()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._beating = self._tasks.spawn(self.ledger.beat(), "ledger")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        finally:
            await self._tasks.__aexit__(kind, error, trace)

    async def close(self) -> None:
        """End every session and kill every sandbox. Callers under way get SessionLost. Safe to call again."""
        self._is_closed = True
        for room in (*self._rooms.values(), *self._draining):
            room.close()
        if self._beating is not None:
            self._beating.cancel()
        await self._tasks.settle(CLOSE_S)
        await self._close_backends()
        await self._tasks.settle(CLOSE_S)

    # -- pools -------------------------------------------------------------------------------------------------------

    async def apply_pool(self, spec: PoolSpec) -> PoolStatus:
        """Define a pool, or define it anew: its sessions stay, its warm sandboxes are replaced where they would be others now.

        At another level than before, the sessions that live stay at theirs until they end. Raises SandboxStartFailed where the pool
        cannot be served as it is defined: then nobody gets a new session of it, not even one of the earlier definition.
        """
        async with self._change(spec.name):
            there = self._rooms.get(spec.name)
            for each in (*self._drained(spec.name), *([there] if there else [])):
                each.set_logs(spec)  # also for sessions that stay at an earlier level, or of a pool that is refused now
            try:
                spec = dataclasses.replace(spec, isolation=await self._find_level(spec))
                backend = self._backends[spec.isolation]
            except SandboxStartFailed as error:
                self._vacate(spec.name)
                self.refuse_pool(spec, error.message.rstrip("."))
                raise
            if self._is_closed:
                raise SandboxStartFailed(start_failed(STOPPING))
            await self._tell_network(spec, backend)
            self._refused.pop(spec.name, None)
            room = self._rooms.get(spec.name)
            if room is not None and room.backend is backend:
                room.apply(spec)
            else:
                room = self._new_room(spec, backend)
            return room.status()

    async def remove_pool(self, pool: str) -> None:
        """End a pool: its sessions, its sandboxes, its egress list. Nothing where there is none."""
        async with self._change(pool):
            self._refused.pop(pool, None)
            self._tallies.pop(pool, None)
            room = self._rooms.pop(pool, None)
            rooms = [room, *self._drained(pool)] if room is not None else self._drained(pool)
            for each in rooms:
                each.close(POOL_DELETED)
                each.bulletin.close()
            for each in rooms:
                if each.backend.network is not None:
                    await each.backend.network.forget(pool)
                await each.emptied(CLOSE_S)
                self._places.leave(each.pool)
            self._draining = [each for each in self._draining if each not in rooms]

    def refuse_pool(self, spec: PoolSpec, reason: str) -> None:
        """A pool that cannot be served here: it is listed, and calls for its sessions are told why."""
        self._refused[spec.name] = PoolStatus(spec, 0, 0, 0, time.time(), f"This pool is not served: {reason}.")

    async def settled(self, pool: str) -> str | None:
        """Until the first sandbox of the pool as it is defined now is warm (None) or has failed (why). Raises PoolNotFound."""
        while True:
            if (refused := self._refused.get(pool)) is not None:
                return refused.error
            room = self._room(pool)
            await room.is_settled.wait()
            if self._rooms.get(pool) is room:
                return room.pool.error

    def pools(self) -> list[PoolStatus]:
        self._forget_empty()
        return [*(room.status() for room in self._rooms.values()), *self._refused.values()]

    def reports(self, pool: str | None = None) -> dict[str, Report]:
        """What each pool, or one, has come to since the host began; none of a pool that was never served."""
        return {name: tally.report() for name, tally in self._tallies.items() if pool in (None, name)}

    def counts(self) -> dict[str, PoolCounts]:
        """Each pool in numbers."""
        found = {}
        for status in self.pools():
            name = status.spec.name
            room, tally = self._rooms.get(name), self._tallies.get(name) or Tally()
            found[name] = counts_of(status, None if room is None else room.pool, self._sessions(name), tally)
        return found

    def books(self) -> Books:
        """What all pools share, in numbers."""
        places, budget = self._places, self._budget
        maximum = 0 if places.maximum == sys.maxsize else places.maximum
        return Books(places.held, maximum, budget.used_bytes, budget.most_bytes)

    async def table(self, pool: str, skip: int, limit: int) -> tuple[list[Row], int]:
        """One page of the sessions with what each has used, and how many there are. Raises PoolNotFound."""
        sessions = self._sessions(pool)
        return await self._rows.of(sessions[skip : skip + limit]), len(sessions)

    def _change(self, pool: str) -> asyncio.Lock:
        return self._changing.setdefault(pool, asyncio.Lock())

    async def _level_as_defined(self, spec: PoolSpec) -> Level:
        if spec.isolation not in self._backends:
            raise SandboxStartFailed(f"This machine does not offer the isolation level '{spec.isolation}'.")
        return spec.isolation

    async def _tell_network(self, spec: PoolSpec, backend: Backend) -> None:
        """What the pool may reach, also for its sessions that live: as far as a proxy is between them and the world, it is as of now."""
        for each in self._backends.values():
            if each.network is not None:
                await each.network.redefine(spec)
        if backend.network is not None:
            backend.network.on_refused = self._on_refused

    def _new_room(self, spec: PoolSpec, backend: Backend) -> Room:
        """In the place of the one that there is."""
        self._forget_empty()
        bulletin = self._vacate(spec.name)
        tally = self._tallies.setdefault(spec.name, Tally())
        self._rooms[spec.name] = room = Room(
            spec, backend, self._tasks, self._places, self._budget, bulletin, tally, self.ledger
        )
        room.pool.elsewhere = lambda: sum(len(each.pool.live) for each in self._drained(spec.name))
        room.open()
        return room

    def _vacate(self, pool: str) -> Bulletin | None:
        """Have the pool's room give out no more. Its bulletin is for the next one."""
        room = self._rooms.pop(pool, None)
        if room is not None:
            self._draining.append(room)
            room.drain()
            return room.bulletin
        return next((each.bulletin for each in self._drained(pool)), None)

    def _drained(self, pool: str) -> list[Room]:
        return [room for room in self._draining if room.pool.spec.name == pool]

    def _forget_empty(self) -> None:
        for room in [room for room in self._draining if room.is_empty]:
            self._draining.remove(room)
            self._places.leave(room.pool)

    def bulletin(self, pool: str) -> Bulletin:
        """Raises PoolNotFound, also for a pool that is refused: nothing happens there."""
        return self._room(pool).bulletin

    # -- images ------------------------------------------------------------------------------------------------------

    def image(self, pool: str) -> ImageInfo | None:
        """What the pool's sandboxes are made from; None as long as that is being built. Raises PoolNotFound."""
        return None if pool in self._refused else self._room(pool).image

    async def set_image(self, pool: str, name: str) -> ImageInfo:
        """Move a pool to another image, for new sessions and until the host ends. Raises PoolNotFound, RequestInvalid."""
        if (refused := self._refused.get(pool)) is not None:
            raise SandboxStartFailed(refused.error or "")
        try:
            image = await self._room(pool).set_image(name)
        except SandboxStartFailed as error:  # as it was before: the pool itself is as well as it was
            raise RequestInvalid(f"The pool keeps its image: {error.message}", target="image") from error
        log.info("pool moved to another image", extra={"pool": pool, "image": image.reference})
        return image

    # -- egress ------------------------------------------------------------------------------------------------------

    async def egress(self, pool: str) -> EgressPolicy:
        """Raises PoolNotFound."""
        spec, egress = self._egress(pool)
        connections, refusals = await egress.counts(pool) if egress is not None else (0, 0)
        return EgressPolicy(spec.network, spec.allow, connections, refusals)

    async def set_egress(self, pool: str, allow: Sequence[str]) -> EgressPolicy:
        """Another list, for sessions that live as well; kept until the host ends. Raises PoolNotFound, RequestNotSupported."""
        spec, egress = self._egress(pool)
        if egress is None or spec.network is not Network.LISTED:
            # Whether there is a proxy in a sandbox is settled when it is made: a pool cannot get a list, or lose it, while it runs.
            raise RequestNotSupported(
                "This session pool has no egress list: its definition has no carrel.egress.allow."
            )
        await egress.set_rules(pool, allow)
        self._room(pool).set_allow(tuple(allow))
        return await self.egress(pool)

    async def test_egress(self, pool: str, target: str) -> EgressVerdict:
        """What the policy does with `host:port`, resolving it. Raises PoolNotFound, SandboxStartFailed."""
        spec, egress = self._egress(pool)
        if egress is None or spec.network is Network.NONE:
            return EgressVerdict(target, None, "the pool's sessions reach nothing: its egress is disabled")
        return await egress.test(spec, target)

    def _egress(self, pool: str) -> tuple[PoolSpec, Egress | None]:
        if (refused := self._refused.get(pool)) is not None:
            raise SandboxStartFailed(refused.error or "")
        room = self._room(pool)
        return room.pool.spec, room.backend.network

    def _on_refused(self, sandbox: str, target: str, reason: str, untold: int) -> None:
        """`target` is a checked name or address: nothing that code made up in full gets into the log."""
        for room in (*self._rooms.values(), *self._draining):
            for identifier, session in room.sessions.items():
                if session.guest.sandbox.id == sandbox:
                    told = {"pool": room.pool.spec.name, "session": short(identifier), "target": target}
                    log.warning("egress refused", extra={**told, "reason": reason, "not_told_before": untold})
                    return

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def session(self, pool: str, identifier: str, principal: str = "") -> tuple[Session, bool]:
        """The identifier's one session, allocated if it has none (to `principal`, who asks), and whether this call caused that.

        Raises PoolNotFound, PoolFull, SandboxStartFailed.
        """
        while True:
            if self._draining and (room := self._room_of(pool, identifier)) is not None:
                return room.sessions[identifier], False
            if (refused := self._refused.get(pool)) is not None:
                raise SandboxStartFailed(refused.error or "")
            with contextlib.suppress(Moved):
                return await self._room(pool).session(identifier, principal)

    def find(self, pool: str, identifier: str) -> Session:
        """As it is: allocates nothing and does not count as use. Raises PoolNotFound, SessionNotFound."""
        if self._draining and (room := self._room_of(pool, identifier)) is not None:
            return room.sessions[identifier]
        if pool in self._refused:
            raise SessionNotFound(f"Could not find session with name '{identifier}'.")
        return self._room(pool).find(identifier)

    def sessions(self, pool: str, skip: int, limit: int) -> tuple[list[SessionView], int]:
        """One page, in the order of their allocation, and how many there are."""
        sessions = self._sessions(pool)
        return [session.seat.view() for session in sessions[skip : skip + limit]], len(sessions)

    def _sessions(self, pool: str) -> list[Session]:
        """Raises PoolNotFound."""
        rooms = self._drained(pool) if pool in self._refused else [*self._drained(pool), self._room(pool)]
        return [session for room in rooms for session in room.sessions.values()]

    def end(self, pool: str, identifier: str) -> None:
        """End a session; its slot is free at once. Raises PoolNotFound, SessionNotFound."""
        self.find(pool, identifier)
        (self._room_of(pool, identifier) or self._room(pool)).end(identifier)

    def _room_of(self, pool: str, identifier: str) -> Room | None:
        """Where a session lives that was begun at an earlier level of its pool's."""
        return next((room for room in self._drained(pool) if identifier in room.sessions), None)

    def _room(self, pool: str) -> Room:
        room = self._rooms.get(pool)
        if room is None:
            raise PoolNotFound(f"There is no session pool '{pool}'.")
        return room

    async def _close_backends(self) -> None:
        closing = (backend.close() for backend in self._backends.values())
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("a backend did not close", exc_info=result)
