"""The books of a pool: random histories of callers, starts, deaths and time, and the promises that hold in every one of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from carrel.errors import PoolFull, SandboxStartFailed
from carrel.models import PoolSpec
from carrel.sessions.actions import Action, Assign, Expire, Fail, Kill, Live, Remind, Start
from carrel.sessions.places import Places
from carrel.sessions.pool import QUIET_S, WAIT_S, Pool

IDENTIFIERS = [f"user-{number}" for number in range(8)]


class History(RuleBasedStateMachine):
    """Plays the room: performs what the pool decides on a world of its own, and compares the two after each step."""

    @initialize(
        ready=st.integers(0, 4), maximum=st.integers(1, 5), starts=st.integers(1, 4), cooldown=st.integers(1, 60)
    )
    def open(self, ready: int, maximum: int, starts: int, cooldown: int) -> None:
        self.now = 1000.0
        self.starts = starts
        self.pool = Pool(PoolSpec("p", ready=ready, maximum=maximum, cooldown=cooldown), starts=starts)
        self.starting: set[int] = set()  # sandboxes that are being made in the world
        self.existing: set[int] = set()  # and those that are
        self.ever: set[int] = set()
        self.sessions: dict[str, Live] = {}
        self.waiting: set[str] = set()
        self.calls: dict[str, int] = {}
        self.told: dict[str, tuple[Live, float]] = {}  # of whose end was told, and their last use then
        self.perform(self.pool.apply(self.pool.spec, self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(slot):
                    assert slot not in self.ever, "a slot is given once"
                    self.ever.add(slot)
                    self.starting.add(slot)
                case Kill(slot):
                    assert slot in self.existing, "only what exists is killed"
                    self.existing.remove(slot)
                case Assign(live):
                    assert live.slot in self.existing
                    assert live.slot not in {other.slot for other in self.sessions.values()}, (
                        "a sandbox has one identifier"
                    )
                    assert live.identifier not in self.sessions, "an identifier has one session"
                    self.sessions[live.identifier] = live
                    self.calls[live.identifier] = 0
                    self.waiting.discard(live.identifier)
                case Remind(live):
                    left = live.last_used_at + self.pool.spec.cooldown - self.now
                    assert self.calls[live.identifier] == 0, "nobody is told of an end while a call keeps it off"
                    assert 0 < left <= min(self.pool.spec.notice, self.pool.spec.cooldown / 2)
                    assert self.told.get(live.identifier) != (live, live.last_used_at), "it is told once"
                    self.told[live.identifier] = (live, live.last_used_at)
                case Expire(live):
                    assert self.calls[live.identifier] == 0, "a session does not expire under a call"
                    assert live.last_used_at + self.pool.spec.cooldown <= self.now
                    del self.sessions[live.identifier]
                    self.existing.remove(live.slot)
                case Fail(identifier, _):
                    self.waiting.remove(identifier)

    @rule(identifier=st.sampled_from(IDENTIFIERS))
    def ask(self, identifier: str) -> None:
        is_known = identifier in self.sessions or identifier in self.waiting
        try:
            actions = self.pool.ask(identifier, self.now)
        except PoolFull as error:
            assert not is_known
            assert len(self.sessions) + len(self.waiting) >= self.pool.spec.maximum
            assert 1 <= int(error.headers["Retry-After"]) <= 60
        except SandboxStartFailed:
            assert not is_known and not self.pool.starting
        else:
            assert not (is_known and actions)
            if not is_known:
                self.waiting.add(identifier)
            self.perform(actions)

    @rule(data=st.data())
    def start_works(self, data: st.DataObject) -> None:
        if self.starting:
            slot = data.draw(st.sampled_from(sorted(self.starting)))
            self.starting.remove(slot)
            self.existing.add(slot)
            self.perform(self.pool.started(slot, self.now))

    @rule(data=st.data())
    def start_fails(self, data: st.DataObject) -> None:
        if self.starting:
            slot = data.draw(st.sampled_from(sorted(self.starting)))
            self.starting.remove(slot)
            self.perform(self.pool.failed(slot, "no luck", self.now))

    @rule(data=st.data())
    def sandbox_dies(self, data: st.DataObject) -> None:
        if self.existing:
            slot = data.draw(st.sampled_from(sorted(self.existing)))
            self.existing.remove(slot)
            for live in [live for live in self.sessions.values() if live.slot == slot]:
                del self.sessions[live.identifier]
            self.perform(self.pool.gone(slot, self.now))

    @rule(data=st.data(), is_start=st.booleans())
    def call(self, data: st.DataObject, is_start: bool) -> None:
        candidates = [name for name in sorted(self.sessions) if is_start or self.calls[name]]
        if candidates:
            name = data.draw(st.sampled_from(candidates))
            self.calls[name] += 1 if is_start else -1
            (self.pool.begin if is_start else self.pool.finish)(self.sessions[name], self.now)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.sessions:
            name = data.draw(st.sampled_from(sorted(self.sessions)))
            del self.sessions[name]
            self.perform(self.pool.end(name, self.now))

    @rule(seconds=st.sampled_from([0.1, 0.5, 5.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.pool.tick(self.now))

    @rule()
    def sleep_until_due(self) -> None:
        """Nothing that is due is ever missed by someone who sleeps exactly as long as the pool says."""
        at = self.pool.next_at(self.now)
        if at < math.inf:
            self.now = max(self.now, at)
            self.perform(self.pool.tick(self.now))
            assert self.pool.next_at(self.now) > self.now or self.pool.next_at(self.now) == math.inf

    @rule(ready=st.integers(0, 3))
    def redefine(self, ready: int) -> None:
        spec = PoolSpec("p", ready=ready, maximum=self.pool.spec.maximum, cooldown=self.pool.spec.cooldown)
        self.perform(self.pool.apply(spec, self.now))

    @invariant()
    def books_are_true(self) -> None:
        pool = self.pool
        assert pool.live == self.sessions
        assert set(pool.waiting) == self.waiting
        assert not set(pool.live) & set(pool.waiting)
        assert self.existing == set(pool.warm) | {live.slot for live in pool.live.values()}, "nothing leaks"
        assert pool.starting <= self.starting, "what is starting is counted"

    @invariant()
    def bounds_hold(self) -> None:
        pool = self.pool
        assert len(pool.live) + len(pool.waiting) <= pool.spec.maximum
        assert len(pool.starting) <= self.starts
        assert not (pool.waiting and pool.warm), "nobody waits beside a ready sandbox"

    @invariant()
    def it_never_stalls(self) -> None:
        """Where somebody waits or a ready one is missing, a start is under way or the clock will bring one."""
        pool = self.pool
        if pool.waiting or len(pool.warm) < min(pool.spec.ready, pool.spec.maximum + pool.spec.ready - len(pool.live)):
            assert pool.starting or pool.next_at(self.now) < math.inf

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.perform(self.pool.close())
            for slot in list(self.starting):
                self.existing.add(slot)
                self.perform(self.pool.started(slot, self.now))
            for name in list(self.sessions):
                self.sessions.pop(name)
                self.perform(self.pool.end(name, self.now))
            assert not self.existing


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def warm_pool(ready: int = 2, maximum: int = 3, cooldown: int = 300) -> Pool:
    pool = Pool(PoolSpec("p", ready=ready, maximum=maximum, cooldown=cooldown))
    settle(pool, pool.apply(pool.spec, 0.0), 0.0)
    return pool


def settle(pool: Pool, actions: list[Action], now: float) -> None:
    """Have every start work at once."""
    while started := [action.slot for action in actions if isinstance(action, Start)]:
        actions = [action for slot in started for action in pool.started(slot, now)]


def test_total_of_sandboxes_is_bounded_without_redefinition() -> None:
    """starting + warm + live never exceed maximum + ready, whatever is asked for."""
    pool = warm_pool(ready=2, maximum=3)
    for number in range(3):
        settle(pool, pool.ask(f"user-{number}", 1.0), 1.0)

        assert len(pool.starting) + len(pool.warm) + len(pool.live) <= 5
    assert len(pool.live) == 3 and len(pool.warm) == 2


def test_an_end_is_told_in_time_and_only_where_it_comes() -> None:
    """Once for each stretch without use; a call takes it back, and the next stretch is told of anew."""
    pool = warm_pool(cooldown=300)
    settle(pool, pool.ask("user", 0.0), 0.0)
    live = pool.live["user"]

    assert pool.next_at(1.0) <= 270.0
    pool.tick(200.0)  # the surplus of ready ones goes
    assert pool.tick(269.0) == []
    assert pool.tick(270.0) == [Remind(live)]
    assert pool.tick(271.0) == []
    pool.begin(live, 280.0)
    assert pool.tick(1000.0) == []
    pool.finish(live, 1000.0)
    assert pool.tick(1269.0) == []
    assert pool.tick(1270.0) == [Remind(live)]
    assert pool.tick(1300.0)[0] == Expire(live)


def test_a_short_cooldown_is_told_of_at_half_and_none_where_nobody_wants_it() -> None:
    pool = warm_pool(cooldown=10)
    settle(pool, pool.ask("user", 0.0), 0.0)
    assert pool.tick(4.9) == []
    assert pool.tick(5.0) == [Remind(pool.live["user"])]

    silent = Pool(PoolSpec("p", ready=0, notice=0, cooldown=10))
    settle(silent, silent.ask("user", 0.0), 0.0)
    assert silent.next_at(0.0) == 10.0
    assert silent.tick(9.9) == []


def test_a_burst_is_answered_with_more_than_it_took() -> None:
    """After four allocations in a moment the pool keeps four more ready than usual, and gives them back when it is quiet."""
    pool = warm_pool(ready=2, maximum=50)
    for number in range(4):
        settle(pool, pool.ask(f"user-{number}", 1.0), 1.0)
    assert len(pool.warm) == 6

    assert pool.tick(1.0 + QUIET_S - 1) == []
    killed = pool.tick(1.0 + QUIET_S)
    assert len(killed) == 4 and len(pool.warm) == 2


def test_a_full_pool_says_when_to_come_back() -> None:
    """Azure's text, and the seconds until the first session may expire."""
    pool = warm_pool(maximum=2, cooldown=40)
    for name, now in (("early", 1.0), ("later", 5.0)):
        settle(pool, pool.ask(name, now), now)

    with pytest.raises(PoolFull) as caught:
        pool.ask("third", 11.0)
    assert caught.value.message == (
        "The request sessions count is '1'. There are already '2' active sessions "
        "and the maximum active sessions count is '2'."
    )
    assert caught.value.headers["Retry-After"] == "30"


def test_a_running_call_keeps_its_session() -> None:
    """Idleness begins when the last call ends."""
    pool = warm_pool(cooldown=10)
    pool.ask("alice", 0.0)
    live = pool.live["alice"]
    pool.begin(live, 1.0)

    assert Expire(live) not in pool.tick(100.0)
    pool.finish(live, 100.0)
    assert Expire(live) not in pool.tick(109.9)
    assert Expire(live) in pool.tick(110.0)


def test_failing_starts_come_later_and_later_and_callers_are_told() -> None:
    """Three failures in a row end the wait of those who wait; the next caller is refused at once; a success mends it."""
    pool = Pool(PoolSpec("p", ready=0, maximum=5), starts=1)
    (start,) = pool.ask("alice", 0.0)
    now, gaps, told = 0.0, [], []
    for _ in range(5):
        assert isinstance(start, Start)
        told += [action for action in pool.failed(start.slot, "no space", now) if isinstance(action, Fail)]
        if not pool.waiting:
            break
        gaps.append(pool.next_at(now) - now)
        now = pool.next_at(now)
        (start,) = pool.tick(now)

    assert gaps == [0.5, 1.0]
    assert [failure.identifier for failure in told] == ["alice"] and "no space" in told[0].reason
    with pytest.raises(SandboxStartFailed, match="no space"):
        pool.ask("bob", now)


def test_nobody_waits_for_ever() -> None:
    """A start that hangs fails its caller after the wait's bound."""
    pool = Pool(PoolSpec("p", ready=0))
    pool.ask("alice", 0.0)

    assert pool.next_at(0.0) == WAIT_S
    (failure,) = pool.tick(WAIT_S)
    assert isinstance(failure, Fail) and failure.identifier == "alice"


def test_ready_sandboxes_that_die_at_once_are_not_replaced_without_pause() -> None:
    """A sandbox that dies before anybody used it counts as a failed start."""
    pool = Pool(PoolSpec("p", ready=1), starts=1)
    (start,) = pool.apply(pool.spec, 0.0)
    pauses, now = [], 0.0
    for _ in range(4):
        assert isinstance(start, Start)
        pool.started(start.slot, now)
        assert pool.gone(start.slot, now) == []
        pauses.append(pool.next_at(now) - now)
        now = pool.next_at(now)
        (start,) = pool.tick(now)

    assert pauses == [0.5, 1.0, 2.0, 4.0]


# ---- a host that is full


def shared(maximum: int, *ready: int) -> tuple[Places, list[Pool], list[Kill]]:
    """Pools that share `maximum` places, filled as far as they go, and what is killed from then on."""
    places, killed = Places(maximum), list[Kill]()
    pools = [Pool(PoolSpec(f"p{n}", ready=each, maximum=10), free=places.free) for n, each in enumerate(ready)]
    for pool in pools:
        places.share(pool, lambda actions: killed.extend(each for each in actions if isinstance(each, Kill)))
        for action in pool.apply(pool.spec, 0.0):
            assert isinstance(action, Start)
            pool.started(action.slot, 0.0)
    return places, pools, killed


def test_pools_fill_no_more_places_than_there_are() -> None:
    places, (first, second), _ = shared(3, 2, 4)

    assert (len(first.warm), len(second.warm), places.free()) == (2, 1, 0)
    assert second.tick(1.0) == []


def test_a_caller_gets_the_place_of_what_another_pool_keeps_ready() -> None:
    """The pool with most of it gives one up; a pool at its own maximum takes none."""
    places, (first, second), killed = shared(3, 3, 0)
    places.make_way(second)

    assert killed == [Kill(1)]
    assert [type(action) for action in second.ask("alice", 1.0)] == [Start]
    assert places.free() == 0
    assert not any(isinstance(action, Start) for action in first.tick(2.0))


def test_with_no_place_at_all_the_caller_is_refused_at_once() -> None:
    """Also while the pool's own starting sandbox is spoken for; a freed place is given again."""
    places, (pool,), _ = shared(2, 0)
    for identifier in ("alice", "bob"):
        (start,) = pool.ask(identifier, 1.0)
        assert isinstance(start, Start)
        pool.started(start.slot, 1.0)
    places.make_way(pool)
    with pytest.raises(PoolFull, match="maximum-sandboxes"):
        pool.ask("carol", 2.0)

    pool.end("alice", 3.0)
    assert places.free() == 1
    assert [type(action) for action in pool.ask("carol", 4.0)] == [Start]
