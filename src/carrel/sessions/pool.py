"""The bookkeeping of one pool: decides, performs nothing.

Every method is a function of what the pool knows and of `now` (monotonic seconds), changes the books and returns what should happen;
room.py does it. A sandbox is known by its *slot*, a number given when its start is decided and never given again. It is counted from
that moment on:

    starting ── started ──▶ warm ── assigned ──▶ live (exactly one identifier) ── ended, expired, gone ──▶ out of the books

An identifier is in `live`, in `waiting` (for a sandbox that is starting) or unknown. Two rules always hold:
live + waiting ≤ maximum, and starting + warm + live ≤ maximum + ready.

Warm ones are refilled ahead of demand: the target is `ready` plus what was asked for in the last seconds, since a burst of new
identifiers is mostly followed by more of it. What that leaves over is given back once the demand has been quiet for a while.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable

from carrel.errors import PoolFull, SandboxStartFailed
from carrel.models import LogRecords, PoolSpec
from carrel.sessions.actions import Action, Assign, Expire, Fail, Kill, Live, Remind, Start

DEMAND_S = 10.0  # how long one allocation keeps one more sandbox warm
QUIET_S = 30.0  # surplus warm ones go after this long without an allocation
WAIT_S = 30.0  # the longest a first call waits for a sandbox
STARTS = 4  # at once: more do not come faster on few cores, and take the processor from live sessions
GIVE_UP_AFTER = 3  # failed starts in a row until those who wait are told
BACKOFF_S = 0.5  # after the first failed start; doubled with each, up to:
BACKOFF_MAX_S = 30.0
STOPPING = "the service is stopping"
RETRY_AFTER_S = (1, 60)  # bounds of what a full pool promises


class Pool:
    def __init__(self, spec: PoolSpec, *, starts: int = STARTS, free: Callable[[], float] = lambda: math.inf) -> None:
        """`free` says how many more sandboxes the host may hold, of all pools together (places.py)."""
        self.spec = spec
        self._free = free
        self.starting: set[int] = set()
        self.warm: dict[int, float] = {}  # slot -> since when; the oldest is given out first
        self.live: dict[str, Live] = {}
        self.waiting: dict[str, float] = {}  # identifier -> until when; first come, first served
        self.elsewhere: Callable[[], int] = lambda: 0  # live sessions of an earlier definition, in books of their own
        self.error: str | None = None  # why the last start failed, until one succeeds
        self.preparing: str | None = None  # what is being done for the first sandbox, until that is there or has failed
        self._idle: OrderedDict[str, Live] = OrderedDict()  # live without calls, by last use: the first expires first
        self._untold: OrderedDict[str, Live] = OrderedDict()  # those of them whose end nobody was told of
        self._starts = starts
        self._slots = itertools.count(1)
        self._demand: deque[float] = deque(maxlen=1024)
        self._asked_at = -math.inf
        self._failures = 0
        self._failed_at = -math.inf
        self._is_closed = False

    # -- callers -----------------------------------------------------------------------------------------------------

    def ask(self, identifier: str, now: float) -> list[Action]:
        """A session for `identifier`: assigned at once, or waiting. Nothing for one that is live or waits already.

        Raises PoolFull, and SandboxStartFailed where sandboxes keep failing to start.
        """
        if identifier in self.live or identifier in self.waiting:
            return []
        if self._is_closed:
            raise SandboxStartFailed(start_failed(STOPPING))
        if self.active >= self.spec.maximum:
            raise self._full(now)
        if self.needs_place:
            raise self._no_place(now)
        if not self.warm and not self.starting and self._failures >= GIVE_UP_AFTER:
            raise SandboxStartFailed(start_failed(self.error), headers={"Retry-After": str(self._retry_in(now))})
        self._demand.append(now)
        self._asked_at = now
        if not self.warm:
            self.waiting[identifier] = now + WAIT_S
            return self._refill(now)
        slot = next(iter(self.warm))
        del self.warm[slot]
        return [self._assign(identifier, slot, now), *self._refill(now)]

    @property
    def active(self) -> int:
        """What counts against the maximum."""
        return len(self.live) + len(self.waiting) + self.elsewhere()

    @property
    def held(self) -> int:
        """Sandboxes that there are, or will be in a moment."""
        return len(self.starting) + len(self.warm) + len(self.live)

    @property
    def needs_place(self) -> bool:
        """Whether one more caller could be served only with a place that the host does not have."""
        return not self.warm and len(self.waiting) >= len(self.starting) and self._free() < 1

    @property
    def spare(self) -> int:
        """Sandboxes that nobody waits for."""
        return len(self.warm) + max(0, len(self.starting) - len(self.waiting))

    def give_up(self) -> list[Action]:
        """A spare one goes, for a caller of another pool; one that is starting is killed when it reports."""
        if not self.warm:
            self.starting.pop()
            return []
        slot = next(iter(self.warm))
        del self.warm[slot]
        return [Kill(slot)]

    def begin(self, live: Live, now: float) -> None:
        """A call of this session starts. Harmless for one that has ended."""
        live.calls += 1
        live.last_used_at = now
        if self.live.get(live.identifier) is live:
            self._idle.pop(live.identifier, None)
            self._untold.pop(live.identifier, None)

    def finish(self, live: Live, now: float) -> None:
        """A call of this session is over. Harmless for one that has ended."""
        live.calls -= 1
        live.last_used_at = now
        if live.calls == 0 and self.live.get(live.identifier) is live:
            self._idle[live.identifier] = self._untold[live.identifier] = live

    def end(self, identifier: str, now: float) -> list[Action]:
        """The session's slot is free from here on."""
        live = self.live.get(identifier)
        if live is None:
            return []
        self._remove(live)
        return [Kill(live.slot), *self._refill(now)]

    def expires_at(self, live: Live) -> float:
        return live.last_used_at + self.spec.cooldown

    def _told_at(self, live: Live) -> float:
        """When an idle session's coming end is told. A short cooldown leaves half of it."""
        return self.expires_at(live) - min(self.spec.notice, self.spec.cooldown / 2)

    # -- sandboxes ---------------------------------------------------------------------------------------------------

    def started(self, slot: int, now: float) -> list[Action]:
        if slot not in self.starting:  # given up meanwhile: another spec, or closed
            return [Kill(slot)]
        self.starting.remove(slot)
        self.error = self.preparing = None
        if now - self._failed_at > BACKOFF_MAX_S:
            self._failures = 0
        if not self.waiting:
            self.warm[slot] = now
            return self._refill(now)
        identifier = next(iter(self.waiting))
        del self.waiting[identifier]
        return [self._assign(identifier, slot, now), *self._refill(now)]

    def failed(self, slot: int, reason: str, now: float) -> list[Action]:
        """A start that did not work. The next comes later and later."""
        if slot not in self.starting:
            return []
        self.starting.remove(slot)
        self.preparing = None
        self._count_failure(reason, now)
        if self._failures < GIVE_UP_AFTER or self.starting:
            return self._refill(now)
        told = [Fail(identifier, start_failed(reason)) for identifier in self.waiting]
        self.waiting.clear()
        return [*told, *self._refill(now)]

    def gone(self, slot: int, now: float) -> list[Action]:
        """A warm or live sandbox ended by itself."""
        if self.warm.pop(slot, None) is not None and now >= self._retry_at:
            # One that dies before anybody used it would die again: as a failed start, or it would be replaced without end. Once for all
            # that die together: one blow to the machine is one failure, however many were ready.
            self._count_failure("a sandbox that was ready ended by itself", now)
        for live in [live for live in self.live.values() if live.slot == slot]:
            self._remove(live)
        return self._refill(now)

    def tick(self, now: float) -> list[Action]:
        """What is due by the clock alone."""
        actions: list[Action] = []
        while self._idle and self.expires_at(first := next(iter(self._idle.values()))) <= now:
            self._remove(first)
            actions.append(Expire(first))
        while self.spec.notice and self._untold and self._told_at(next(iter(self._untold.values()))) <= now:
            actions.append(Remind(self._untold.popitem(last=False)[1]))
        late = [identifier for identifier, until in self.waiting.items() if until <= now]
        for identifier in late:
            del self.waiting[identifier]
            actions.append(Fail(identifier, self._too_late()))
        return [*actions, *self._trim(now), *self._refill(now)]

    def next_at(self, now: float) -> float:
        """When `tick` has something to do, infinity for never. Cheap: it is asked after every call."""
        at = math.inf
        if self._idle:
            at = self.expires_at(next(iter(self._idle.values())))
        if self._untold and self.spec.notice:
            at = min(at, self._told_at(next(iter(self._untold.values()))))
        if self.waiting:
            at = min(at, next(iter(self.waiting.values())))
        if self._retry_at > now:
            at = min(at, self._retry_at)
        if len(self.warm) > self.spec.ready:
            at = min(at, max(now, self._asked_at + QUIET_S))
        return at

    def apply(self, spec: PoolSpec, now: float) -> list[Action]:
        """Another definition: what is not yet anybody's is made again where it would differ, sessions stay as they are."""
        if self.begins_anew(spec):
            return self.renew(spec, now)
        self.spec = spec
        return self._refill(now)

    def begins_anew(self, spec: PoolSpec) -> bool:
        """Whether it is to be seen once more if there are sandboxes of it: also of one that failed, for what was in the way may be gone."""
        return self.makes_others(spec) or (self.error is not None and not self.warm)

    def makes_others(self, spec: PoolSpec) -> bool:
        """Whether its sandboxes would be other ones."""
        return _in_sandboxes(spec) != _in_sandboxes(self.spec)

    def renew(self, spec: PoolSpec, now: float) -> list[Action]:
        """The same, also where only what the definition stands for has changed (an image that was built anew)."""
        self.spec = spec
        self._failures, self.error, self._failed_at = 0, None, -math.inf
        return [*self._drop_unused(), *self._refill(now)]

    def close(self) -> list[Action]:
        """Nothing is started any more; the live ones are ended by their owner."""
        self._is_closed = True
        told = [Fail(identifier, start_failed(STOPPING)) for identifier in self.waiting]
        self.waiting.clear()
        return [*told, *self._drop_unused()]

    def drain(self) -> list[Action]:
        """Nothing is started any more and nobody waits here; the live ones go on until they end by themselves."""
        self._is_closed = True
        self.waiting.clear()
        return self._drop_unused()

    def _assign(self, identifier: str, slot: int, now: float) -> Assign:
        live = self.live[identifier] = self._idle[identifier] = self._untold[identifier] = Live(identifier, slot, now)
        self._failures = 0  # somebody uses one: sandboxes work
        return Assign(live)

    def _remove(self, live: Live) -> None:
        del self.live[live.identifier]
        self._idle.pop(live.identifier, None)
        self._untold.pop(live.identifier, None)

    def _refill(self, now: float) -> list[Action]:
        if self._is_closed or now < self._retry_at:
            return []
        at_once = 1 if self.error else self._starts  # after a failure one goes ahead and shows whether it works
        unused = len(self.starting) + len(self.warm)
        count = min(
            len(self.waiting) + self._warm_target(now) - unused,
            self.spec.maximum + self.spec.ready - unused - len(self.live),
            at_once - len(self.starting),
            self._free(),
        )
        slots = list(itertools.islice(self._slots, max(0, int(count))))
        self.starting.update(slots)
        return [Start(slot) for slot in slots]

    def _warm_target(self, now: float) -> int:
        if self.spec.ready == 0:
            return 0  # the operator wants none kept
        while self._demand and self._demand[0] <= now - DEMAND_S:
            self._demand.popleft()
        allocatable = self.spec.maximum + self.spec.ready - len(self.live) - len(self.waiting)
        return min(self.spec.ready + len(self._demand), allocatable)

    def _trim(self, now: float) -> list[Action]:
        surplus = len(self.warm) - self.spec.ready
        if surplus <= 0 or now < self._asked_at + QUIET_S:
            return []
        slots = list(itertools.islice(self.warm, surplus))
        for slot in slots:
            del self.warm[slot]
        return [Kill(slot) for slot in slots]

    def _drop_unused(self) -> list[Action]:
        slots = list(self.warm)
        self.warm.clear()
        self.starting.clear()  # each is killed when it reports
        return [Kill(slot) for slot in slots]

    def _count_failure(self, reason: str, now: float) -> None:
        self._failures += 1
        self._failed_at = now
        self.error = reason

    @property
    def _retry_at(self) -> float:
        if not self._failures:
            return -math.inf
        return self._failed_at + min(BACKOFF_S * 2.0 ** min(self._failures - 1, 16), BACKOFF_MAX_S)

    def _retry_in(self, now: float) -> int:
        least, most = RETRY_AFTER_S
        return min(most, max(least, math.ceil(self._retry_at - now)))

    def _too_late(self) -> str:
        if self.preparing is not None and self.error is None:
            return f"The session pool is still being prepared: {self.preparing}. Try again in a moment."
        return start_failed(self.error or f"none was ready within {WAIT_S:.0f} seconds")

    def _full(self, now: float) -> PoolFull:
        active = self.active
        return PoolFull(
            # Azure's words (a recorded reply): clients match on them.
            f"The request sessions count is '1'. There are already '{active}' active sessions "
            f"and the maximum active sessions count is '{self.spec.maximum}'.",
            headers=self._until_one_expires(now),
        )

    def _no_place(self, now: float) -> PoolFull:
        message = "This machine holds as many sandboxes as it may, of all pools together (setting maximum-sandboxes)."
        return PoolFull(message, headers=self._until_one_expires(now))

    def _until_one_expires(self, now: float) -> dict[str, str]:
        least, most = RETRY_AFTER_S
        soonest = self.expires_at(next(iter(self._idle.values()))) - now if self._idle else float(most)
        return {"Retry-After": str(min(most, max(least, math.ceil(soonest))))}


def _in_sandboxes(spec: PoolSpec) -> PoolSpec:
    """As much of a definition as a sandbox is made from: all but what is only counted, timed, checked or asked outside of it."""
    return dataclasses.replace(
        spec,
        ready=0,
        maximum=0,
        cooldown=0,
        notice=0,
        logs=LogRecords.OFF,
        log_retention=0,
        maximum_execution=0,
        maximum_asynchronous=0,
        has_mcp=True,
        has_mcp_key=True,
        webhook="",
        webhook_secret="",
        secrets=(),
        allow=(),
        asked=None,
        minimum=spec.isolation,
    )


def start_failed(reason: str | None) -> str:
    return f"No sandbox could be started for the session: {reason or 'the reason is not known'}."
