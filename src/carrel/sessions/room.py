"""One pool at work: performs what its books (pool.py) decide, and holds the guests and sessions the books speak of."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
import secrets
import time
import uuid
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, NamedTuple

from carrel import tracing
from carrel.backends.base import Backend
from carrel.errors import CarrelError, SandboxStartFailed, SessionNotFound
from carrel.guest.linux import give_back_memory
from carrel.models import MIB, ImageInfo, LogRecords, NoticeKind, PoolSpec, PoolStatus, SessionView
from carrel.sessions.actions import Action, Assign, Expire, Fail, Kill, Live, Remind, Start
from carrel.sessions.budget import Budget
from carrel.sessions.bulletin import Bulletin
from carrel.sessions.executions import Record
from carrel.sessions.guest import Guest
from carrel.sessions.ledger import Account, Ledger
from carrel.sessions.link import DELETED, POOL_DELETED
from carrel.sessions.places import Places
from carrel.sessions.pool import STOPPING, Pool
from carrel.sessions.recipe import Recipe
from carrel.sessions.session import Session
from carrel.sessions.states import SandboxEvent
from carrel.sessions.tally import LOST, Tally
from carrel.sessions.tasks import Tasks

# Between an allocation and the start that replaces it, where nobody waits for that: the new session's first call goes first.
REFILL_PAUSE_S = 0.005
MUCH_BYTES = 4 * MIB  # of results that go with their session: their memory goes back to the machine
FORGOTTEN_S = 1.0  # until nobody holds them any more
CLOSE_START_S = 1.0  # a start that is under way when the pool closes

IDLE = "it was idle for too long"
_END_WORDS = {IDLE: "idle", DELETED: "deleted", POOL_DELETED: "pool deleted", STOPPING: "stopping"}

log = logging.getLogger(__name__)
_LOG_KEY = secrets.token_bytes(16)


def short(identifier: str) -> str:
    """An identifier as logs may show it: the same within one process, and no way back."""
    return hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), key=_LOG_KEY, digest_size=4).hexdigest()


# The books run on the monotonic clock. Taken once, so that the same moment is always shown as the same time.
_BOOKS_TO_WALL = time.time() - time.monotonic()


class Seat:
    """A session's place in the books (session.py says what it is for)."""

    def __init__(self, room: Room, live: Live, account: Account) -> None:
        self._account = account
        self._room = room
        self._live = live
        self._guid = str(uuid.uuid4())
        self._created_at = time.time()
        self.executions = 0
        self.last_status: str | None = None
        self.cpu_ms: float | None = None  # of what was executed

    def begin(self) -> None:
        self._room.pool.begin(self._live, time.monotonic())

    def finish(self) -> None:
        self._room.pool.finish(self._live, time.monotonic())
        self._room.arm()

    def executed(self, record: Record) -> None:
        self._room.tally.executed(record)
        self._account.executed(record, self._room.pool.spec, self._live.identifier, self._guid)
        if record.spec.is_fleeting:
            return
        self.executions += 1
        self.last_status = record.status
        if record.usage is not None and record.usage.cpu_ms is not None:
            self.cpu_ms = (self.cpu_ms or 0.0) + record.usage.cpu_ms

    @property
    def is_logging(self) -> bool:
        return self._room.pool.spec.logs is not LogRecords.OFF

    def submitted(self, count: int) -> None:
        self._room.tally.bytes_in += count

    def received(self, principal: str, count: int) -> None:
        self._room.tally.bytes_in += count
        self._account.received(count, principal)

    def sent(self, principal: str, count: int) -> None:
        self._room.tally.bytes_out += count
        self._account.sent(count, principal)

    def settle(self) -> None:
        self._account.settle()

    def leave(self) -> None:
        self._account.close(time.monotonic())

    def restarted(self) -> None:
        self._room.tally.restarts += 1
        self._room.bulletin.post(NoticeKind.RESTARTED, self.view())

    def view(self, is_new: bool = False) -> SessionView:
        live = self._live
        return SessionView(
            identifier=live.identifier,
            guid=self._guid,
            created_at=self._created_at,
            last_used_at=live.last_used_at + _BOOKS_TO_WALL,
            expires_at=self._room.pool.expires_at(live) + _BOOKS_TO_WALL,
            is_new=is_new,
        )


class Moved(Exception):
    """For callers that wait for a sandbox of a room that gives out no more: the pool was defined anew, or is gone."""


class Asker(NamedTuple):
    """Whose call a session is allocated for."""

    principal: str
    call: tracing.Context | None


NOBODY = Asker("", None)


class Room:
    def __init__(
        self,
        spec: PoolSpec,
        backend: Backend,
        tasks: Tasks,
        places: Places,
        budget: Budget,
        bulletin: Bulletin | None = None,
        tally: Tally | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """`bulletin` is that of the room whose place this one takes, for those who read it already; `tally` the pool's,
        `ledger` the host's."""
        self.pool = Pool(spec, free=places.free)
        places.share(self.pool, self._do)
        self._places = places
        self._budget = budget
        self.backend = backend
        self.sessions: dict[str, Session] = {}  # in the order of their allocation
        self.is_settled = asyncio.Event()  # the first sandbox of the present definition is warm, or has failed
        self.bulletin = bulletin or Bulletin()
        self.tally = tally or Tally()
        self._ledger = ledger or Ledger()
        self._created_at = time.time()
        self._tasks = tasks
        self._guests: dict[int, Guest] = {}
        self._starts: set[asyncio.Task[None]] = set()
        self._kills: set[asyncio.Task[None]] = set()
        self._definitions = 0  # counted: a start that was begun for an earlier one settles nothing
        self._callers: dict[str, list[asyncio.Future[Session]]] = {}
        self._askers: dict[str, Asker] = {}  # by identifiers that wait for a sandbox: who asked first
        self._recipe = Recipe(self.pool, backend)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    # -- calls -------------------------------------------------------------------------------------------------------

    async def session(self, identifier: str, principal: str = "") -> tuple[Session, bool]:
        """The identifier's session, allocated if it has none, and whether this call is the one that caused that.

        Raises PoolFull, SandboxStartFailed, Moved.
        """
        session = self.sessions.get(identifier)
        if session is not None:
            return session, False
        is_first = identifier not in self._callers
        if is_first:
            asked_at = time.monotonic()
            self._places.make_way(self.pool)
            actions = self.pool.ask(identifier, asked_at)
            self._askers[identifier] = Asker(principal, tracing.current())
            self._do(actions)
            with tracing.span("allocate"):
                session = self.sessions.get(identifier) or await self._wait(identifier)
            self.tally.allocation.add((time.monotonic() - asked_at) * 1000)
            return session, True
        return await self._wait(identifier), False

    def find(self, identifier: str) -> Session:
        session = self.sessions.get(identifier)
        if session is None:
            raise SessionNotFound(f"Could not find session with name '{identifier}'.")
        return session

    def end(self, identifier: str) -> None:
        """The slot is free at once; the sandbox is killed behind."""
        self.find(identifier)
        live = self.pool.live[identifier]
        actions = self.pool.end(identifier, time.monotonic())
        self._end(live, DELETED)
        self._do(actions)

    def status(self) -> PoolStatus:
        pool = self.pool
        counts = (len(pool.warm), len(pool.starting), len(pool.live))
        boundary = (pool.spec.isolation, tuple(self.backend.weaknesses))
        return PoolStatus(
            pool.spec, *counts, self._created_at, pool.error, *boundary, pool.preparing, self.tally.failed
        )

    @property
    def image(self) -> ImageInfo | None:
        """What its sandboxes are made from, once that is there."""
        return self._recipe.image

    # -- the owner ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to fill the pool."""
        self._do(self.pool.apply(self.pool.spec, time.monotonic()))
        self._prepare_at_least()

    def apply(self, spec: PoolSpec) -> None:
        """Another definition at the same level. Sessions stay, and so do warm sandboxes that would be made the same again.

        A pool that has failed is tried at once, also where it is defined as it was.
        """
        is_anew = self.pool.begins_anew(spec)
        if is_anew:
            self._definitions += 1
            self.is_settled.clear()
        self._do(self.pool.apply(spec, time.monotonic()))
        if is_anew:
            self._prepare_at_least()

    def _prepare_at_least(self) -> None:
        """Where no sandbox is wanted, or there is no place for one now, the image is got ready all the same."""
        if not self.pool.starting:
            self._start_task(self._prepare_only(self._definitions), "prepare")

    async def set_image(self, name: str) -> ImageInfo:
        """Move to another image, or to the newest build of the same: sandboxes of the new one are got ready, sessions keep theirs.

        Raises SandboxStartFailed where it cannot be built or used; then nothing has changed.
        """
        return await self._recipe.move(name, lambda spec: self._do(self.pool.renew(spec, time.monotonic())))

    def set_allow(self, allow: tuple[str, ...]) -> None:
        """Another egress list. Nothing that runs is replaced for it, warm or live: the list is not in the sandboxes."""
        self.pool.spec = dataclasses.replace(self.pool.spec, allow=allow)

    def set_logs(self, spec: PoolSpec) -> None:
        """What session logs keep from now on, as `spec` has it."""
        self.pool.spec = dataclasses.replace(self.pool.spec, logs=spec.logs, log_retention=spec.log_retention)

    def close(self, reason: str = STOPPING) -> None:
        """End everything; the kills are the owner's tasks. Safe to call again."""
        if reason != STOPPING:
            self._move_callers()
        actions = self.pool.close()
        for start in self._starts:  # one in the middle of its work ends more tidily by ending it
            asyncio.get_running_loop().call_later(CLOSE_START_S, start.cancel)
        for live in list(self.pool.live.values()):
            self._end(live, reason)
            actions += self.pool.end(live.identifier, time.monotonic())
        self._do(actions)
        self._disarm()
        self.is_settled.set()

    def drain(self) -> None:
        """Another room takes this one's place: its sessions go on until they end by themselves, all else ends now. Safe to call again."""
        self._move_callers()
        self._do(self.pool.drain())
        for start in self._starts:
            asyncio.get_running_loop().call_later(CLOSE_START_S, start.cancel)
        self.is_settled.set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is left: no session, and no sandbox that is being started or killed."""
        return not (self.pool.live or self._guests or self._starts or self._kills)

    async def emptied(self, seconds: float) -> None:
        """After `close`: until nothing is left, no longer than this."""
        if under_way := self._starts | self._kills:
            await asyncio.wait(under_way, timeout=seconds)
        if self._kills:  # of what was started meanwhile
            await asyncio.wait(set(self._kills), timeout=seconds)

    def _move_callers(self) -> None:
        self._askers.clear()
        for identifier in list(self._callers):
            for caller in self._release(identifier):
                caller.set_exception(Moved())

    # -- performing --------------------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Start(slot):
                    self._start_task(self._start(slot, self._definitions), f"start {slot}")
                case Kill(slot):
                    self._kill(slot, "it is not needed")
                case Assign(live):
                    self._assign(live)
                case Remind(live):
                    self.bulletin.post(NoticeKind.EXPIRING, self.sessions[live.identifier].seat.view())
                case Expire(live):
                    self._end(live, IDLE)
                case Fail(identifier, reason):
                    self._askers.pop(identifier, None)
                    for caller in self._release(identifier):
                        caller.set_exception(SandboxStartFailed(reason, headers={"Retry-After": "5"}))
        self.arm()

    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        start = self._tasks.spawn(work, f"{self.pool.spec.name}: {name}")
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    async def _start(self, slot: int, definition: int) -> None:
        guest, reason, spec, began_at = None, "the start was cut short", self.pool.spec, time.monotonic()
        try:
            if not self.pool.waiting:
                await asyncio.sleep(REFILL_PAUSE_S)
            pinned = await self._recipe.prepare()
            if slot in self.pool.starting:  # still wanted
                guest = await Guest.start(self.backend, pinned)
        except CarrelError as error:
            reason = error.message
        except OSError as error:
            reason = f"{type(error).__name__}: {error.strerror}"
        except Exception as error:  # a mistake of ours: the books must know, and the task's owner logs it
            reason = f"internal error ({type(error).__name__}); the log says more"
            raise
        finally:
            if guest is None:
                if slot in self.pool.starting:
                    log.warning("a sandbox did not start", extra={"pool": spec.name, "reason": reason})
                    self.tally.failed += 1
                self._do(self.pool.failed(slot, reason, time.monotonic()))
            else:
                self.tally.start.add((time.monotonic() - began_at) * 1000)
                self.tally.made[f"{spec.container_type} {spec.isolation}"] += 1
                self._guests[slot] = guest
                guest.on_gone = partial(self._gone_warm, slot)
                self._do(self.pool.started(slot, time.monotonic()))
            self._settle(definition)

    async def _prepare_only(self, definition: int) -> None:
        try:
            await self._recipe.prepare()
        except CarrelError as error:
            self.pool.error = error.message
        finally:
            self._settle(definition)

    def _settle(self, definition: int) -> None:
        if not self.pool.starting:  # a start whose slot was given up meanwhile has no end in the books
            self.pool.preparing = None
        if definition == self._definitions:
            self.is_settled.set()

    def _assign(self, live: Live) -> None:
        guest = self._guests[live.slot]
        guest.step(SandboxEvent.ASSIGNED)
        asker = self._askers.pop(live.identifier, NOBODY)
        seat = Seat(self, live, self._ledger.open(self.pool.spec.name, asker.principal, guest.sandbox.meter))
        session = Session(guest, self.pool.spec, seat, self._tasks, self._budget)
        guest.on_gone = partial(self._gone_live, live)
        self.sessions[live.identifier] = session
        with tracing.within(asker.call):
            log.info("session allocated", extra=self._names(live, guest))
            self.bulletin.post(NoticeKind.ALLOCATED, session.seat.view(is_new=True))
        self.tally.begun()
        for caller in self._release(live.identifier):
            caller.set_result(session)

    def _end(self, live: Live, reason: str) -> None:
        session = self.sessions.pop(live.identifier)
        if session.end(reason) >= MUCH_BYTES:
            loop = asyncio.get_running_loop()
            loop.call_later(FORGOTTEN_S, loop.run_in_executor, None, give_back_memory)
        session.seat.leave()
        log.info("session ended", extra={**self._names(live, session.guest), "reason": reason})
        self.tally.ends[_END_WORDS.get(reason, LOST)] += 1
        self.bulletin.post(NoticeKind.ENDED, session.seat.view(), reason)
        self._kill(live.slot, reason)  # here, so that file calls under way are told the same reason

    def _gone_warm(self, slot: int, reason: str) -> None:
        log.warning("a ready sandbox was lost", extra={"pool": self.pool.spec.name, "reason": reason})
        self._kill(slot, reason)
        self._do(self.pool.gone(slot, time.monotonic()))

    def _gone_live(self, live: Live, reason: str) -> None:
        self._end(live, reason)
        self._do(self.pool.gone(live.slot, time.monotonic()))

    def _kill(self, slot: int, reason: str) -> None:
        guest = self._guests.pop(slot, None)
        if guest is not None:
            guest.on_gone = _ignore
            kill = self._tasks.spawn(guest.kill(reason), f"kill {self.pool.spec.name}/{slot}")
            self._kills.add(kill)
            kill.add_done_callback(self._kills.discard)

    # -- callers that wait -------------------------------------------------------------------------------------------

    async def _wait(self, identifier: str) -> Session:
        caller: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._callers.setdefault(identifier, []).append(caller)
        return await caller

    def _release(self, identifier: str) -> list[asyncio.Future[Session]]:
        return [caller for caller in self._callers.pop(identifier, ()) if not caller.done()]

    # -- clock -------------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Wake up when the books have something due; a wake-up that is too early does no harm, and is not moved."""
        now = time.monotonic()
        at = self.pool.next_at(now)
        if at >= self._timer_at:
            return
        self._disarm()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.001, at - now), self._tick, context=tracing.apart())

    def _tick(self) -> None:
        # Timers have whole milliseconds and may be early: what was due at its time is due now, or nobody would come back for it.
        now = max(time.monotonic(), self._timer_at)
        self._timer, self._timer_at = None, math.inf
        self._do(self.pool.tick(now))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _names(self, live: Live, guest: Guest) -> dict[str, str]:
        return {"pool": self.pool.spec.name, "session": short(live.identifier), "sandbox": guest.sandbox.id}


def _ignore(_told: str) -> None:
    """For guests that are being killed, whose end is known."""
